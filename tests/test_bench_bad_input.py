"""Models that crash or hang, interruptions, a full disk, one core: bounded, told, and what was measured is kept."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from tests.bench_models import SCHEMA, write_artifact, write_tiny_model
from tests.conftest import ROOT, TOOLKIT, toolkit
from toolkit.benchmarking.compare import compare_models
from toolkit.benchmarking.measure import run_bench
from toolkit.benchmarking.options import bench_settings
from toolkit.benchmarking.workers import Worker, WorkerFailedError
from toolkit.errors import ModelError, ToolkitError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FEW = bench_settings(scenarios=["single-stream", "batches"], rounds=2, calls=500, timeout=1.0)
SUBJECTS = "tests.bench_subjects"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.onnx")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    return write_artifact(tmp_path_factory.mktemp("artifact"), model)


def _endless(path: Path) -> Path:
    """A real model that never ends: a Loop of 2**62 turns."""
    from onnx import TensorProto, helper, save

    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["x_in", "one"], ["x_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x_in", TensorProto.FLOAT, ["batch", 4]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x_out", TensorProto.FLOAT, ["batch", 4]),
        ],
        [helper.make_tensor("one", TensorProto.FLOAT, [], [1.0])],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["turns", "go", "x"], ["y"], body=body)],
        "endless",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [
            helper.make_tensor("turns", TensorProto.INT64, [], [2**62]),
            helper.make_tensor("go", TensorProto.BOOL, [], [True]),
        ],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_a_model_that_never_ends_is_ended(tmp_path: Path) -> None:
    begun = time.monotonic()
    done = toolkit("bench", _endless(tmp_path / "endless.onnx"), "--timeout", 1)
    assert done.code == 1
    assert "endless.onnx gave no answer to open in 1 s and was ended" in done.error_line
    assert time.monotonic() - begun < 60
    assert [path.name for path in tmp_path.iterdir()] == ["endless.onnx"]


@pytest.mark.parametrize(
    ("factory", "said"),
    [("CrashesLater", "crashed in batches with SIGSEGV"), ("HangsLater", "gave no answer to batches in")],
)
def test_one_file_fails_and_the_other_goes_on(artifact: Path, factory: str, said: str) -> None:
    report = run_bench(artifact, FEW, factory=f"{SUBJECTS}:{factory}")
    int8, float32 = report.files
    assert int8.failed is None
    assert int8.scenarios.batches is not None
    assert int8.scenarios.single_stream is not None
    assert int8.scenarios.single_stream.latency.n == 1000
    assert float32.failed is not None
    assert said in float32.failed
    assert "\n" not in float32.failed
    assert float32.scenarios.batches is None
    value = report.to_json()
    jsonschema.validate(value, SCHEMA)
    from toolkit.benchmarking.pages import as_csv, as_markdown, as_text

    assert f"FAILED: {float32.failed}" in as_text(value)
    assert "FAILED" in as_markdown(value)
    assert "model.int8.onnx" in as_csv(value)


def test_a_file_that_crashes_at_once_ends_the_benchmark_in_one_line(artifact: Path) -> None:
    with pytest.raises(ToolkitError) as caught:
        run_bench(artifact, FEW, factory=f"{SUBJECTS}:crashes")
    assert "model.int8.onnx crashed in open with SIGABRT: the last words" in str(caught.value)
    with pytest.raises(ToolkitError, match="crashed in batches with SIGSEGV"):
        compare_models(
            artifact / "model.onnx", artifact / "model.onnx", FEW, factories=(f"{SUBJECTS}:CrashesLater",) * 2
        )


def _worker(code: str, monkeypatch: pytest.MonkeyPatch) -> Worker:
    monkeypatch.setattr("toolkit.benchmarking.workers._CODE", code)
    return Worker("m.onnx")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys; sys.stdin.readline(); sys.exit('line one\\nthe last words')", "exit code 1: the last words"),
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL: it said nothing"),
        ("import time; time.sleep(600)", "gave no answer to open in 0.3 s"),
    ],
)
def test_what_a_process_dies_of_is_said(code: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.benchmarking.workers._GRACE", 0.3)
    worker = _worker(code, monkeypatch)
    try:
        with pytest.raises(WorkerFailedError) as caught:
            worker.ask("open", 0.3 if "sleep" in code else 30.0)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
    finally:
        worker.close()


def test_errors_keep_their_class(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("this is no model")
    worker = Worker("text.onnx")
    try:
        with pytest.raises(ModelError, match="is no ONNX model"):
            worker.ask("open", 60.0, path=str(tmp_path / "text.onnx"), settings={}, free=1, seed=0)
    finally:
        worker.close()


def test_a_worker_ends_itself_if_nobody_does(tmp_path: Path) -> None:
    """Its parent may be gone: neither a hanging model nor a closed pipe leaves a process behind."""
    code = "from toolkit.benchmarking.worker import main; main()"
    command = [sys.executable, "-c", code]
    request = {"do": "open", "limit": 1.0, "settings": {}, "free": 1, "seed": 0}
    for path, expected in ((str(_endless(tmp_path / "endless.onnx")), -signal.SIGALRM), (None, 0)):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        given = b"" if path is None else json.dumps({**request, "path": path}).encode() + b"\n"
        process.communicate(given, timeout=60)
        assert process.returncode == expected


def _interrupted(arguments: list[str], after: str, cwd: Path) -> tuple[int, str]:
    """Ctrl-C in a terminal: the whole group of processes is told, once this was said."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    silent = subprocess.DEVNULL
    with subprocess.Popen(
        arguments, stdout=silent, stderr=subprocess.PIPE, text=True, cwd=cwd, start_new_session=True, env=environment
    ) as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if after in line:
                os.killpg(process.pid, signal.SIGINT)
                break
        said += process.stderr.read()
        return process.wait(60), said


LONG = ["--rounds", "1000", "--scenario", "single-stream", "--calls", "100"]
SOME = ["--rounds", "3", "--scenario", "single-stream", "--scenario", "sweep", "--calls", "500"]


def test_an_interrupted_run_keeps_what_was_measured(model: Path, tmp_path: Path) -> None:
    shutil.copy(model, tmp_path / "m.onnx")
    # The sweep comes after the rounds: when it begins, these are whole.
    code, said = _interrupted([str(TOOLKIT), "bench", "m.onnx", *SOME], "settings", tmp_path)
    assert code == 130, said
    assert "m.bench.json has what was measured until then" in said
    assert said.count("error: ") == 1
    assert "Traceback" not in said
    value = json.loads((tmp_path / "m.bench.json").read_text())
    jsonschema.validate(value, SCHEMA)
    assert value["interrupted"] is True
    assert value["files"][0]["scenarios"]["single-stream"]["latency"]["n"] == 1500
    assert value["files"][0]["scenarios"]["sweep"] is None


def test_interrupted_before_anything_was_measured(model: Path, tmp_path: Path) -> None:
    shutil.copy(model, tmp_path / "m.onnx")
    program = [sys.executable, "-m", "toolkit.benchmarking", "m.onnx", "--output", "out.json", *LONG]
    code, said = _interrupted(program, "a first look", tmp_path)
    assert (code, said.count("error: ")) == (130, 1), said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx"]


def _run(arguments: list[str], prepare: Callable[[], None], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=cwd,
        preexec_fn=prepare,
    )


QUICK = ["--scenario", "single-stream", "--rounds", "2", "--calls", "500"]


def test_a_full_disk_loses_no_figure(model: Path, tmp_path: Path) -> None:
    """A file size limit stands in for the full disk: tables are shown, and the earlier report is whole."""
    shutil.copy(model, tmp_path / "m.onnx")
    (tmp_path / "m.bench.json").write_text("earlier")
    done = _run(
        [str(TOOLKIT), "bench", "m.onnx", *QUICK],
        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
        tmp_path,
    )
    assert done.returncode == 3, done.stderr
    assert "Single stream" in done.stdout
    assert "what was there before is untouched" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "m.bench.json").read_text() == "earlier"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity to set")
def test_one_core_alone(model: Path, tmp_path: Path) -> None:
    shutil.copy(model, tmp_path / "m.onnx")
    core = min(os.sched_getaffinity(0))
    scenarios = ["--scenario", "throughput", "--scenario", "sweep"]
    done = _run(
        [str(TOOLKIT), "bench", "m.onnx", *QUICK, *scenarios, "--json"],
        lambda: os.sched_setaffinity(0, {core}),
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    value: dict[str, Any] = json.loads(done.stdout)
    assert value["host"]["affinity"] == [core]
    found = value["files"][0]["scenarios"]
    assert found["throughput"]["cores"] == 1
    assert {way["way"] for way in found["throughput"]["ways"]} == {"processes"}
    assert {point["settings"]["threads"] for point in found["sweep"]["points"]} == {1}
