from __future__ import annotations

import json
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import numpy as np
import pytest

from tests.bench_models import SCHEMA, write_artifact, write_tiny_model
from toolkit.benchmarking.footprint import (
    PARTS,
    WORK_CALLS,
    ask_child,
    installed_size,
    start_fresh,
)
from toolkit.benchmarking.latency import thread_counts
from toolkit.benchmarking.measure import run_bench
from toolkit.benchmarking.pages import as_csv, as_markdown, as_text
from toolkit.benchmarking.plan import SCENARIOS, BenchSettings
from toolkit.benchmarking.report import BenchReport, Results
from toolkit.benchmarking.samples import unpack
from toolkit.benchmarking.settings_file import settings_text
from toolkit.errors import CorruptArtifactError, MissingError, ModelError, ToolkitError, UsageError
from toolkit.predictor import RuntimeSettings

if TYPE_CHECKING:
    from collections.abc import Callable

TOOLKIT = Path(sys.executable).parent / "toolkit"

TINY = BenchSettings(
    scenarios=SCENARIOS,
    rounds=2,
    calls=500,
    batches=(1, 256),
    batch_seconds=0.002,
    rate=2000.0,
    rate_seconds=0.5,
    throughput_seconds=0.01,
    sustained_seconds=1.0,
    energy_seconds=0.02,
)


FEW = BenchSettings(scenarios=("single-stream",), rounds=2, calls=500)


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.onnx")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    return write_artifact(tmp_path_factory.mktemp("artifact"), tiny_model)


@pytest.fixture(scope="module")
def report(artifact: Path) -> BenchReport:
    return run_bench(artifact, TINY)


def test_this_machine_is_known_to_its_report(report: BenchReport) -> None:
    import onnxruntime

    assert (report.host.numpy, report.host.onnxruntime) == (np.__version__, onnxruntime.__version__)
    assert report.host.python == sys.version.split()[0]
    assert report.clock.monotonic
    assert report.conditions.seconds > 0
    assert len(report.noise.probe_ns) == 2
    assert report.noise.control is not None
    assert report.noise.control.low <= 1.5


def test_a_report_has_all_figures_of_all_files(report: BenchReport) -> None:
    assert [file.kind for file in report.files] == ["int8", "float32"]
    for file in report.files:
        found = file.scenarios
        single, rate, batches, cores = found.single_stream, found.fixed_rate, found.batches, found.throughput
        assert single is not None
        assert [len(r) for r in single.latency.samples_ns] == [500, 500]
        assert single.latency.warmup >= 2 * 4 * 12  # each turn's own, and those of the process before
        assert rate is not None
        assert (rate.rate, rate.rows, rate.latency.n) == (2000, 2000, 2000)
        assert batches is not None
        assert [t.batch for t in batches.sizes] == [1, 256]
        assert all(t.n == sum(map(len, t.samples_ns)) > 0 for t in batches.sizes)
        assert cores is not None
        assert cores.cores == report.host.usable_cores
        assert cores.best.rows_per_second == max(way.rows_per_second for way in cores.ways)
        assert found.sustained is not None
        assert len(found.sustained.windows) == 2
        assert found.cold_start is not None
        assert found.cold_start.n == 2
        assert found.memory is not None
        assert 0 < found.memory.import_bytes <= found.memory.load_bytes <= found.memory.work_bytes
        assert found.memory.work_calls == WORK_CALLS
        assert found.cpu_time is not None
        assert 0 < found.cpu_time.thread_ns <= found.cpu_time.process_ns * 1.5
        assert found.energy is not None
        assert found.energy.readable is (found.energy.reason is None)
        assert found.size is not None
        assert found.size.file_bytes == file.size_bytes
        assert found.sweep is not None
        assert {1, *thread_counts(report.host.usable_cores)} == {p.settings.threads for p in found.sweep.points}
        assert [(given.dtype, given.shape) for given in file.inputs] == [("uint8", (28, 28))]
        assert file.processes == 3  # the first look, and one a round
    assert [(entry.file, entry.base) for entry in report.ratios] == [("model.int8.onnx", "model.onnx")]


def test_the_json_is_what_its_schema_says_and_has_every_sample(report: BenchReport) -> None:
    value = json.loads(json.dumps(report.to_json(), allow_nan=False))
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(value, SCHEMA)
    assert value["format"] == 3
    for written, file in zip(value["files"], report.files, strict=True):
        single, batches = file.scenarios.single_stream, file.scenarios.batches
        assert single is not None
        assert batches is not None
        found = written["scenarios"]
        assert unpack(found["single-stream"]["latency"]["samples_ns"]) == single.latency.samples_ns
        assert [unpack(t["samples_ns"]) for t in found["batches"]["sizes"]] == [t.samples_ns for t in batches.sizes]
        assert len(found["cold-start"]["samples"]) == 2
        for window in found["sustained"]["windows"]:
            (times,), (counts,) = unpack(window["times_ns"]), unpack(window["times_n"])
            assert sum(counts) == window["n"]
            assert times[-1] == window["max_ns"]


@pytest.mark.parametrize(
    "break_it",
    [
        lambda value: value.pop("noise"),
        lambda value: value.update(surprise=1),
        lambda value: value["files"][0]["scenarios"]["single-stream"]["latency"].update(p50_ns="fast"),
        lambda value: value["files"][0]["scenarios"].pop("energy"),
        lambda value: value["files"][0]["scenarios"]["batches"]["sizes"][0]["samples_ns"].update(dtype="<f4"),
    ],
)
def test_the_schema_refuses_what_it_does_not_know(report: BenchReport, break_it: Callable[[Any], object]) -> None:
    value = json.loads(json.dumps(report.to_json()))
    break_it(value)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value, SCHEMA)


def test_the_json_without_samples_has_the_same_figures(report: BenchReport) -> None:
    value = json.loads(json.dumps(report.to_json(samples=False), allow_nan=False))
    jsonschema.validate(value, SCHEMA)
    text = json.dumps(value)
    assert not any(word in text for word in ("samples_ns", "times_ns", "parts_ns"))
    figures, first = value["files"][0]["scenarios"], report.files[0].scenarios
    assert first.single_stream is not None
    assert first.cold_start is not None
    assert figures["single-stream"]["latency"]["p50_ns"] == first.single_stream.latency.p50_ns
    assert figures["cold-start"]["total_ms"] == first.cold_start.total_ms


def test_tables_and_pages_show_every_scenario(report: BenchReport) -> None:
    value = report.to_json()
    text, markdown, rows = as_text(value, ascii_only=True), as_markdown(value), as_csv(value).splitlines()
    assert text.isascii()
    for words in (
        "Single stream", "Fixed rate", "Batches", "Throughput", "Sustained", "Settings of int8", "Cold start",
        "What it costs", "CPU time of one row", "peak memory, imported", "installed beside it",
    ):  # fmt: skip
        assert words in text
        assert words in markdown
    assert markdown.count("|") > 100
    assert rows[0] == "file,kind,scenario,figure,value"
    scenarios = {row.split(",")[2] for row in rows[1:]}
    assert scenarios == set(SCENARIOS)
    latency = report.files[0].scenarios.single_stream
    assert latency is not None
    assert f"model.int8.onnx,int8,single-stream,latency.p50_ns,{latency.latency.p50_ns}" in rows


def test_the_settings_that_are_saved_are_those_of_the_file_that_a_predictor_opens(report: BenchReport) -> None:
    value = json.loads(settings_text(report))
    assert (value["format"], value["file"], value["sha256"]) == (1, "model.int8.onnx", report.files[0].sha256)
    names = RuntimeSettings._fields
    sweep = report.files[0].scenarios.sweep
    assert sweep is not None
    assert RuntimeSettings(**{name: value[name] for name in names}) == sweep.best
    assert value["host"]["cpu_model"] == report.host.cpu_model
    assert set(value["gain"]) == {"row", "batch"}
    without = replace(report, files=(replace(report.files[0], scenarios=Results()),))
    with pytest.raises(ToolkitError, match="were not measured"):
        settings_text(without)


def test_float_inputs_are_timed_too(tmp_path: Path) -> None:
    found = run_bench(write_tiny_model(tmp_path / "floats.onnx", "float32"), FEW)
    assert [given.dtype for file in found.files for given in file.inputs] == ["float32"]


def test_more_threads_than_cores_are_refused(tiny_model: Path) -> None:
    with pytest.raises(UsageError, match="4096"):
        run_bench(tiny_model, replace(FEW, threads=4096))


def test_what_is_no_model_is_refused(tmp_path: Path, artifact: Path) -> None:
    with pytest.raises(MissingError):
        run_bench(tmp_path / "nothing", FEW)
    (tmp_path / "text.onnx").write_text("this is no model")
    with pytest.raises(ModelError):
        run_bench(tmp_path / "text.onnx", FEW)
    changed = tmp_path / "changed"
    shutil.copytree(artifact, changed)
    with (changed / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(CorruptArtifactError):
        run_bench(changed, FEW)


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
    assert list(start.peaks_bytes) == sorted(start.peaks_bytes)
    assert start.peaks_bytes[-1] < 300_000_000


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


@pytest.mark.parametrize("answer", ["{}", '{"stamps": [1], "peaks": [1]}', '{"stamps": null}'])
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


def test_a_plot_is_drawn_of_every_file(report: BenchReport) -> None:
    from toolkit.cli.bench_plot import draw_latency

    assert draw_latency(report.to_json(), "png").startswith(b"\x89PNG")
    text = draw_latency(report.to_json(), "svg")
    assert text == draw_latency(report.to_json(), "svg")
