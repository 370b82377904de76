"""``toolkit bench compare``: models measured side by side, and reports by their rounds."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.bench_models import write_tiny_model
from tests.conftest import toolkit
from toolkit.benchmarking.compare import CPU, P50, compare_models, pair_up, share_of
from toolkit.benchmarking.compare_reports import compare_reports, read_report
from toolkit.benchmarking.measure import run_bench
from toolkit.benchmarking.options import bench_settings, compare_settings
from toolkit.benchmarking.samples import pack
from toolkit.errors import InputError, MissingError, UsageError
from toolkit.predictor import ModelFile

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.onnx")


@pytest.fixture(scope="module")
def report(model: Path) -> dict[str, Any]:
    settings = bench_settings(scenarios=["single-stream", "cpu-time"], rounds=2, calls=500)
    return run_bench(model, settings).to_json()


def _made_up(report: dict[str, Any], factor: float = 1.0, machine: float = 1.0, seed: int = 0) -> dict[str, Any]:
    """The report as it would be of a file of other speed, on this machine in another mood; 20 rounds."""
    generator = np.random.default_rng(seed)
    changed: dict[str, Any] = json.loads(json.dumps(report))
    scenarios = changed["files"][0]["scenarios"]
    levels = [10_000 * factor * machine * (1 + generator.normal(0, 0.005)) for _ in range(20)]
    rounds = [generator.normal(level, 50, 100).astype(int).tolist() for level in levels]
    scenarios["single-stream"]["latency"]["samples_ns"] = pack(rounds)
    scenarios["cpu-time"]["process_rounds_ns"] = levels
    changed["noise"] |= {"probe_ns": [7000 * machine] * 20, "noisy": False}
    return changed


def _written(folder: Path, **reports: dict[str, Any]) -> list[Path]:
    paths = []
    for name, value in reports.items():
        paths.append(folder / f"{name}.json")
        paths[-1].write_text(json.dumps(value))
    return paths


def test_models_are_measured_in_the_same_rounds(model: Path) -> None:
    found = compare_models(model, model, compare_settings(rounds=2, calls=500))
    assert found.paired
    assert [line.what for line in found.lines] == [P50, "one row, p99", "batch of 256, p50", CPU]
    assert [line.gates for line in found.lines] == [True, False, True, False]
    for line in found.lines:
        assert line.ratio.low <= line.ratio.ratio <= line.ratio.high
        assert line.ratio.rounds == 2
    assert found.noise is not None
    assert found.regressions == ()  # two rounds allow no verdict
    value = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert value["lines"][0]["ratio"]["verdict"] == "too few rounds"
    assert value["regressions"] == []


def test_files_of_a_kind_belong_together() -> None:
    int8, float32 = ModelFile("a", "int8", None), ModelFile("b", "float32", None)
    assert pair_up([int8, float32], [int8, float32]) == [(int8, int8), (float32, float32)]
    assert pair_up([int8, float32], [float32]) == [(float32, float32)]
    assert pair_up([float32], [int8]) == [(float32, int8)]


def test_a_slower_file_is_seen_between_reports(report: dict[str, Any], tmp_path: Path) -> None:
    old, new, same = _written(
        tmp_path, old=_made_up(report), new=_made_up(report, 1.08, seed=1), same=_made_up(report, seed=2)
    )
    found = compare_reports(old, new)
    assert not found.paired
    assert {line.what: line.ratio.verdict for line in found.lines} == {P50: "slower", CPU: "slower"}
    assert [line.what for line in found.regressions] == [P50]
    assert compare_reports(old, new, max_regression=0.10).regressions == ()
    assert compare_reports(new, old).lines[0].ratio.verdict == "faster"
    unchanged = compare_reports(old, same)
    assert [line.ratio.verdict for line in unchanged.lines] == ["no difference"] * 2
    assert unchanged.notes == ()


def test_a_slower_machine_is_not_taken_for_a_slower_file(report: dict[str, Any], tmp_path: Path) -> None:
    old, new = _written(tmp_path, old=_made_up(report), new=_made_up(report, machine=1.3, seed=1))
    found = compare_reports(old, new)
    assert found.lines[0].ratio.verdict == "no difference"
    assert found.regressions == ()
    assert any("the machine itself took 1.30 times as long" in note for note in found.notes)


def test_reports_of_other_machines_are_refused_unless_forced(report: dict[str, Any], tmp_path: Path) -> None:
    other = _made_up(report)
    other["host"] |= {"cpu_model": "Another CPU", "onnxruntime": "0.1"}
    old, new = _written(tmp_path, old=_made_up(report), new=other)
    with pytest.raises(UsageError, match=r"different machines .cpu_model .* and Another CPU"):
        compare_reports(old, new)
    found = compare_reports(old, new, force=True)
    assert any(note.startswith("different machines: cpu_model") for note in found.notes)
    assert any("onnxruntime" in note for note in found.notes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no json", "is no bench.json"),
        ("[]", "of format 3 .found None"),
        ('{"format": 2}', "found 2"),
        ('{"format": 3, "settings": {"scenarios": []}}', "lacks what a bench.json has"),
    ],
)
def test_what_is_no_report_is_said(report: dict[str, Any], tmp_path: Path, text: str, words: str) -> None:
    (old,) = _written(tmp_path, old=report)
    (tmp_path / "new.json").write_text(text)
    with pytest.raises(InputError, match=words):
        compare_reports(old, tmp_path / "new.json")
    with pytest.raises(MissingError):
        read_report(tmp_path / "nothing.json")


def test_reports_with_nothing_in_common_are_refused(report: dict[str, Any], tmp_path: Path) -> None:
    without = json.loads(json.dumps(report))
    for name in without["files"][0]["scenarios"]:
        without["files"][0]["scenarios"][name] = None
    old, new = _written(tmp_path, old=report, new=without)
    with pytest.raises(UsageError, match="no scenario in common"):
        compare_reports(old, new)


def test_shares_are_read_as_people_write_them() -> None:
    assert [share_of(text) for text in ("5%", "0.05", "2.5 %", "0")] == pytest.approx([0.05, 0.05, 0.025, 0])
    for text in ("five", "-1%", "nan", ""):
        with pytest.raises(UsageError, match="is no share"):
            share_of(text)


def test_the_command_ends_with_1_on_a_regression(report: dict[str, Any], tmp_path: Path) -> None:
    old, new = _written(tmp_path, old=_made_up(report), new=_made_up(report, 1.08, seed=1))
    worse = toolkit("bench", "compare", old, new)
    assert worse.code == 1
    assert "one row, p50 takes 1.08" in worse.error_line
    assert "slower, TOO MUCH" in worse.out
    fine = toolkit("bench", "compare", old, new, "--max-regression", "10%", "--json")
    assert fine.code == 0, fine.err
    value = json.loads(fine.out)
    assert (value["max_regression"], value["regressions"]) == (0.1, [])
    assert value["lines"][0]["ratio"]["verdict"] == "slower"


def test_the_command_measures_two_models(model: Path, tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        shutil.copy(model, tmp_path / name / "tiny.onnx")
    done = toolkit("bench", "compare", "old/tiny.onnx", "new/tiny.onnx", "--rounds", 2, "--calls", 500, cwd=tmp_path)
    assert done.code == 0, done.err
    for words in ("one row, p50", "batch of 256, p50", "too few rounds", "The same file opened twice"):
        assert words in done.out
    assert [path.name for path in tmp_path.rglob("*.json")] == []


def test_the_command_says_what_makes_no_sense(model: Path, report: dict[str, Any], tmp_path: Path) -> None:
    old, new = _written(tmp_path, old=report, new=report)
    for code, words, arguments in (
        (2, "give two of a kind", [old, model]),
        (2, "--rounds, --quick would do nothing", [old, new, "--rounds", 9, "--quick"]),
        (2, "--force would do nothing", [model, model, "--force"]),
        (2, "is no share", [old, new, "--max-regression", "much"]),
        (3, "does not exist", [model, tmp_path / "nothing.onnx"]),
        (2, "Missing argument", [old]),
    ):
        done = toolkit("bench", "compare", *arguments)
        assert (done.code, done.out) == (code, ""), done.err
        assert words in done.error_line
    assert "see: toolkit bench compare --help" in done.error_line
    assert "Usage: toolkit bench compare" in toolkit("bench", "compare", "--help").out
