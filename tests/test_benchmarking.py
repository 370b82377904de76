from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from toolkit.benchmarking.footprint import (
    PARTS,
    WORK_CALLS,
    ask_child,
    installed_size,
    start_fresh,
)
from toolkit.benchmarking.latency import (
    Latency,
    thread_counts,
)
from toolkit.benchmarking.report import BenchReport, BenchSettings, run_bench
from toolkit.errors import CorruptArtifactError, MissingError, ModelError, ToolkitError, UsageError
from toolkit.predictor import MANIFEST_FORMAT

TOOLKIT = Path(sys.executable).parent / "toolkit"

TINY = BenchSettings(rounds=2, calls=500, batches=(1, 256), batch_seconds=0.002)


def _write_model(path: Path, dtype: str = "uint8") -> Path:
    """One dense layer of 784 to 10 with softmax, on raw pixels (or on floats)."""
    from onnx import TensorProto, checker, helper, numpy_helper

    generator = np.random.default_rng(1)
    weights = numpy_helper.from_array(generator.normal(0, 1e-3, (784, 10)).astype(np.float32), "weights")
    bias = numpy_helper.from_array(np.zeros(10, np.float32), "bias")
    flat = numpy_helper.from_array(np.array([-1, 784], np.int64), "flat")
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["float", "flat"], ["row"]),
        helper.make_node("Gemm", ["row", "weights", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    given = TensorProto.UINT8 if dtype == "uint8" else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", given, ["batch", 28, 28])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10])],
        [weights, bias, flat],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_model(tmp_path_factory.mktemp("models") / "tiny.onnx")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """An artifact folder with two files; that both hold the same graph does not matter to a clock."""
    import hashlib

    folder = tmp_path_factory.mktemp("artifact")
    digest = hashlib.sha256(tiny_model.read_bytes()).hexdigest()
    files = {}
    for name, kind in (("model.onnx", "float32"), ("model.int8.onnx", "int8")):
        shutil.copy(tiny_model, folder / name)
        files[name] = {"kind": kind, "sha256": digest}
    (folder / "manifest.json").write_text(json.dumps({"format": MANIFEST_FORMAT, "versions": {}, "files": files}))
    return folder


@pytest.fixture(scope="module")
def report(artifact: Path) -> BenchReport:
    return run_bench(artifact, TINY)


def _run(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(TOOLKIT), "bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=cwd)


def test_this_machine_is_known_to_its_report(report: BenchReport) -> None:
    import onnxruntime

    assert (report.host.numpy, report.host.onnxruntime) == (np.__version__, onnxruntime.__version__)
    assert report.host.python == sys.version.split()[0]


def test_a_report_has_all_figures_of_all_files(report: BenchReport) -> None:
    assert [file.kind for file in report.files] == ["int8", "float32"]
    for file in report.files:
        assert [len(r) for r in file.latency.samples_ns] == [500, 500]
        assert file.latency.warmup == 50 * 3 + 500
        assert [t.batch for t in file.throughput] == [1, 256]
        assert all(t.n == sum(map(len, t.samples_ns)) > 0 for t in file.throughput)
        assert [run.threads for run in file.thread_sweep] == list(thread_counts(report.host.usable_cores))
        assert file.thread_sweep[0].latency == file.latency
        start = file.cold_start
        assert (start.n, start.work_calls) == (2, WORK_CALLS)
        assert 0 < start.after_load_bytes <= start.after_work_bytes
        assert [(given.dtype, given.shape) for given in file.inputs] == [("uint8", (28, 28))]


def test_the_json_has_every_sample_and_no_nan(report: BenchReport) -> None:
    value = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert value["format"] == 2
    for written, file in zip(value["files"], report.files, strict=True):
        assert written["latency"]["samples_ns"] == [list(r) for r in file.latency.samples_ns]
        assert all(isinstance(s, int) for r in written["latency"]["samples_ns"] for s in r)
        assert [t["samples_ns"] for t in written["throughput"]] == [
            [list(r) for r in t.samples_ns] for t in file.throughput
        ]
        # The headline's samples are not written twice; those of the other thread counts are written.
        for run in written["thread_sweep"]:
            assert ("samples_ns" in run["latency"]) is (run["threads"] != value["settings"]["threads"])
        assert len(written["cold_start"]["samples"]) == 2


def test_the_json_without_samples_has_the_same_figures(report: BenchReport) -> None:
    text = json.dumps(report.to_json(samples=False), allow_nan=False)
    assert "samples" not in text
    figures = json.loads(text)["files"][0]
    assert figures["latency"]["p50_ns"] == report.files[0].latency.p50_ns
    assert figures["cold_start"]["total_ms"] == report.files[0].cold_start.total_ms


def test_noisy_figures_are_named_the_worst_first(report: BenchReport) -> None:
    def with_spread(latency: Latency, spread: float) -> Latency:
        return replace(latency, spread=spread)

    quiet = [
        replace(
            file,
            latency=with_spread(file.latency, spread),
            throughput=tuple(replace(t, spread=0.0) for t in file.throughput),
            thread_sweep=file.thread_sweep[:1],
        )
        for file, spread in zip(report.files, (0.2, 0.3), strict=True)
    ]
    assert replace(report, files=tuple(quiet)).noisy_figures == (("float32 latency", 0.3), ("int8 latency", 0.2))


def test_float_inputs_are_timed_too(tmp_path: Path) -> None:
    found = run_bench(_write_model(tmp_path / "floats.onnx", "float32"), TINY)
    assert [given.dtype for file in found.files for given in file.inputs] == ["float32"]


def test_more_threads_than_cores_are_refused(tiny_model: Path) -> None:
    with pytest.raises(UsageError, match="4096"):
        run_bench(tiny_model, replace(TINY, threads=4096))


def test_what_is_no_model_is_refused(tmp_path: Path, artifact: Path) -> None:
    with pytest.raises(MissingError):
        run_bench(tmp_path / "nothing", TINY)
    (tmp_path / "text.onnx").write_text("this is no model")
    with pytest.raises(ModelError):
        run_bench(tmp_path / "text.onnx", TINY)
    changed = tmp_path / "changed"
    shutil.copytree(artifact, changed)
    with (changed / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(CorruptArtifactError):
        run_bench(changed, TINY)


def test_a_fresh_process_tells_every_part(tiny_model: Path) -> None:
    start = start_fresh(str(tiny_model), threads=1)
    assert len(start.parts_ns) == len(PARTS)
    assert min(start.parts_ns) > 0
    assert start.total_ns == sum(start.parts_ns)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak of one program alone")
def test_memory_is_that_of_the_child_alone(tiny_model: Path) -> None:
    # On Linux ru_maxrss begins at the parent's peak, so a parent that is large must not show.
    ballast = np.ones(50_000_000)  # 400 MB
    start = start_fresh(str(tiny_model), threads=1)
    assert ballast.nbytes == 400_000_000
    assert start.memory_source == "VmHWM"
    assert start.after_work_bytes < 300_000_000


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import time; time.sleep(600)", "gave no answer in 0.5 s"),
        (f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})", "ended with SIGKILL: it said nothing"),
        ("raise SystemExit('line one\\nthe last words')", "ended with exit code 1: the last words"),
        ("print('no json')", "expected JSON"),
        ("pass", "expected JSON"),
        ("print(3)", "expected JSON"),
    ],
)
def test_a_child_that_hangs_or_crashes_is_one_line(code: str, said: str) -> None:
    timeout = 0.5 if "sleep" in code else 30
    with pytest.raises(ToolkitError) as caught:
        ask_child([sys.executable, "-c", code], timeout)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_child_that_cannot_start_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ToolkitError, match="cannot be started"):
        ask_child([str(tmp_path / "nothing")], 5)


@pytest.mark.parametrize("answer", ["{}", '{"stamps": [1], "after_load": 1}', '{"stamps": null}'])
def test_a_figure_that_is_missing_is_an_error(answer: str, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from toolkit.benchmarking import footprint

    monkeypatch.setattr(footprint, "ask_child", lambda command, timeout: json.loads(answer))  # noqa: ARG005
    with pytest.raises(ToolkitError, match="left out a figure"):
        start_fresh(str(tiny_model), threads=1)


def test_a_crash_of_the_model_in_the_child_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("this is no model")
    with pytest.raises(ToolkitError, match="is no ONNX model"):
        start_fresh(str(tmp_path / "text.onnx"), threads=1)


def test_installed_sizes_include_the_libraries() -> None:
    assert (installed_size("numpy").size_bytes or 0) > 10_000_000
    assert installed_size("no_such_package_anywhere").size_bytes is None


def test_benchmarking_needs_the_core_alone() -> None:
    code = (
        "import sys, toolkit.benchmarking.report, toolkit.benchmarking.footprint, toolkit.benchmarking.host;"
        "heavy = {'typer', 'rich', 'click', 'keras', 'tensorflow', 'onnx', 'PIL', 'matplotlib'} & set(sys.modules);"
        "print(sorted(heavy))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout.strip() == "[]"


def test_command_line_gives_json_alone_and_writes_every_sample(artifact: Path) -> None:
    done = _run(artifact, "--json", "--rounds", "2", "--calls", "500")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert "samples" not in done.stdout
    assert [file["kind"] for file in printed["files"]] == ["int8", "float32"]
    assert "Timing: measuring" in done.stderr
    written = json.loads((artifact / "bench.json").read_text())
    assert len(written["files"][0]["latency"]["samples_ns"][1]) == 500
    assert written["files"][0]["latency"]["p50_ns"] == printed["files"][0]["latency"]["p50_ns"]


def test_command_line_shows_tables_and_writes_beside_a_lone_file(tiny_model: Path) -> None:
    done = _run(tiny_model.name, "--quick", cwd=tiny_model.parent)
    assert done.returncode == 0, done.stderr
    for words in ("Machine:", "Latency", "Throughput", "Cold start", "Size and memory", "Installed"):
        assert words in done.stdout
    assert "vs float32" not in done.stdout  # there is nothing to compare with
    assert json.loads((tiny_model.parent / "tiny.bench.json").read_text())["settings"]["rounds"] == 3
    assert "Traceback" not in done.stderr


def test_command_line_exit_codes(tmp_path: Path, tiny_model: Path) -> None:
    text = tmp_path / "text.onnx"
    text.write_text("this is no model")
    blocked = tmp_path / "file"
    blocked.write_text("")
    cases: list[tuple[int, list[str | Path]]] = [
        (3, [tmp_path / "nothing"]),
        (2, [text]),
        (2, [tmp_path]),  # a folder without a manifest
        (2, [tiny_model, "--rounds", "1"]),
        (2, [tiny_model, "--calls", "3"]),
        (2, [tiny_model, "--threads", "0"]),
        (2, [tiny_model, "--threads", "4096"]),
        (2, [tiny_model, "--output", tmp_path]),
        (2, [tiny_model, "--output", tiny_model]),
        (2, [tiny_model, "--output", tmp_path / "manifest.json"]),
        (2, [tiny_model, "--output", blocked / "bench.json"]),
    ]
    before = tiny_model.read_bytes()
    for code, arguments in cases:
        done = _run(*arguments, cwd=tmp_path)
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert (done.returncode, len(errors), done.stdout) == (code, 1, ""), (arguments, done.stderr)
        assert "Traceback" not in done.stderr
    assert tiny_model.read_bytes() == before
