"""`make device` works from end to end, and what no noise can change is as it should be.

LiteRT's side needs an environment of its own, so it runs only in `make device`; what it last found is in
benchmarks/DEVICE.md.
"""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.device.__main__ import native_targets
from benchmarks.device.common import LEAST, LITERT, NATIVE, NUMPY
from benchmarks.device.page import device_page, summary
from benchmarks.device.workers import Spec, Worker
from benchmarks.readme_blocks.shared import table
from tests.conftest import REFERENCE, ROOT
from toolkit.errors import ToolkitError

if TYPE_CHECKING:
    from pathlib import Path

PUBLISHED: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / "device.json").read_text(encoding="utf-8"))
PARTS = ["one_image", "cold_start", "memory", "idle", "settings", "sizes"]


@pytest.fixture(scope="module", params=["published", pytest.param("measured now", marks=pytest.mark.slow)])
def report(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == "published":
        return PUBLISHED
    target = tmp_path_factory.mktemp("device") / "device.json"
    command = [sys.executable, "-m", "benchmarks.device", "--quick", "--no-litert", "--output", str(target)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
    printed = done.stdout.splitlines()
    for entry in (entry for part in PARTS for entry in found[part].get("targets", [])):
        word = "met" if entry["met"] else "MISSED"
        assert any(line.startswith(word) and f" {entry['what']}: " in line for line in printed)
    return found


def _targets(report: dict[str, Any], part: str) -> dict[str, Any]:
    return {entry["what"]: entry for entry in report[part]["targets"]}


def test_every_part_is_there(report: dict[str, Any]) -> None:
    assert report["quick"] is (report is not PUBLISHED)
    assert [part for part in report if part in PARTS] == PARTS
    assert ("litert" in report) is (report is PUBLISHED)
    assert report["host"]["onnxruntime"]


def test_threads_get_the_labels_of_one(report: dict[str, Any]) -> None:
    calls = 80_000 if report is PUBLISHED else 8_000
    assert report["one_image"]["threads_at_once"] == {"threads": 8, "calls": calls, "labels_differ": 0}


def test_every_ratio_lies_in_its_interval(report: dict[str, Any]) -> None:
    ratios = report["one_image"]["ratios"]
    assert {name.split(" / ")[0] for name in ratios} == {"classify", "predict"}
    assert all(found["low"] <= found["ratio"] <= found["high"] for found in ratios.values())


def test_calls_leave_nothing_behind(report: dict[str, Any]) -> None:
    assert all(entry["met"] for entry in _targets(report, "memory").values()), report["memory"]
    for found in report["memory"]["ways"].values():  # a leak of one byte a call would show
        assert found["traced_bytes"] < report["memory"]["traced_calls"]
        assert found["blocks"] < report["memory"]["calls"] / 1000


def test_batches_of_any_size_leave_little_behind(report: dict[str, Any]) -> None:
    grown = report["memory"]["batches"]["processes"]
    assert grown["ours (defaults)"]["growth_bytes"] < 10_000_000


def test_a_process_that_waits_takes_no_time_and_never_wakes(report: dict[str, Any]) -> None:
    ours = report["idle"]["processes"]["ours (defaults)"]
    assert ours["idle_cpu_us"] == 0
    assert ours["wake_ups"] == 0


def test_spinning_shows_between_calls(report: dict[str, Any]) -> None:
    processes = report["idle"]["processes"]
    spinning = processes["threads 2, spinning"]["paced_cpu_us_a_call"]
    assert processes["threads 2"]["paced_cpu_us_a_call"] < spinning / 2
    assert processes["ours (defaults)"]["threads"] == processes["threads 2"]["threads"] - 1


def test_the_predictor_takes_little_memory_of_its_own(report: dict[str, Any]) -> None:
    peaks = [entry for what, entry in _targets(report, "cold_start").items() if what.startswith("peak memory")]
    assert len(peaks) == 2 + (report is PUBLISHED)  # LiteRT is in that
    assert all(entry["met"] for entry in peaks), peaks


def test_the_native_backend_takes_less_than_the_runtime(report: dict[str, Any]) -> None:
    part = report["cold_start"]
    if NATIVE not in part["processes"]:
        assert shutil.which("cc") is None
        return
    peak = part["peak_bytes"]
    assert peak[NUMPY] < peak[NATIVE] < peak[LEAST] - 10_000_000
    beside = [NUMPY] if report is not PUBLISHED else [NUMPY, LITERT]
    assert part["compared"].keys() == {f"{NATIVE} / {name}" for name in beside}
    assert "onnxruntime" not in part["parts_ms"][NATIVE]
    assert part["parts_ms"][NATIVE]["session"] > 0
    page = device_page(report | {"litert": PUBLISHED["litert"]}, "machine", table)
    assert f"*{NUMPY}* imports it and makes one array" in page


def test_more_than_litert_takes_is_missed() -> None:
    ratio = {"ratio": 0.9, "low": 0.8, "high": 1.1}
    assert [entry["met"] for entry in native_targets(ratio, {NATIVE: 28, LITERT: 40})] == [True, True]
    assert [entry["met"] for entry in native_targets(ratio, {NATIVE: 41, LITERT: 40})] == [True, False]
    assert [entry["met"] for entry in native_targets(ratio | {"ratio": 1.01}, {NATIVE: 28, LITERT: 40})] == [
        False,
        True,
    ]


def test_the_page_sets_the_native_backend_beside_litert() -> None:
    changed = copy.deepcopy(PUBLISHED)
    part = changed["cold_start"]
    for name, peak in ((NATIVE, 28e6), (NUMPY, 27e6)):
        part["processes"][name] = part["processes"][LITERT]
        part["peak_bytes"][name] = peak
    part["peak_bytes"][LITERT] = 40e6
    ratio = {"ratio": 0.9, "low": 0.8, "high": 1.1}
    part["compared"] = {f"{NATIVE} / {LITERT}": {"first_answer": ratio}}
    part["targets"] += native_targets(ratio, part["peak_bytes"])
    page = device_page(changed, "machine", table)
    assert f"| {NATIVE}, first answer / {LITERT} | 0.90 (0.80 to 1.10) | 1 | met |" in page
    assert f"| peak memory, {NATIVE} / {LITERT} | 0.7 | 1 | met |" in page
    assert "27.0 MB of the 28.0 MB" in page
    assert "with 28.0 MB at its peak against 40.0 MB; numpy alone takes 27.0 MB." in summary(changed)


def test_a_bundle_is_small_beside_its_model(report: dict[str, Any]) -> None:
    assert all(entry["met"] for entry in _targets(report, "sizes").values()), report["sizes"]
    for found in report["sizes"]["files"].values():
        assert 0 < found["beside_the_model"] < found["bytes"]


def test_every_setting_was_measured(report: dict[str, Any]) -> None:
    measured = report["settings"]
    assert {"ours (defaults)", "threads 2", "arena", "memory_pattern off", "optimization none"} <= set(measured)
    # Without its optimizations the runtime computes in float32, node by node.
    assert measured["optimization none"]["latency_ratio"]["ratio"] > 1.5


def test_a_missed_target_and_a_quick_run_are_seen_on_the_page() -> None:
    page = device_page(PUBLISHED, "machine", table)
    assert "A quick run" not in page
    changed = copy.deepcopy(PUBLISHED)
    changed["quick"] = True
    entry = changed["sizes"]["targets"][0]
    entry.update(got=entry["most"] * 2, met=False)
    other = device_page(changed, "machine", table)
    assert "A quick run" in other
    assert other.count("**missed**") == page.count("**missed**") + 1


def test_a_worker_that_fails_says_why(tmp_path: Path) -> None:
    import numpy as np

    np.save(tmp_path / "images.npy", np.zeros((2, 28, 28), np.uint8))
    spec = Spec(sys.executable, "predictor", REFERENCE / "none.onnx", tmp_path / "images.npy", ROOT / "toolkit")
    with pytest.raises(ToolkitError, match=r"predictor worker .* ended: .*none\.onnx does not exist"):
        Worker(spec)


def test_a_part_that_is_not_there_is_refused() -> None:
    command = [sys.executable, "-m", "benchmarks.device", "--only", "everything"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no such part: everything" in done.stderr
