"""Figures about the measuring itself: what it adds to a call, how often it is wrong, and what it can tell apart.

    python benchmarks/harness.py             (`make harness`, half an hour; writes benchmarks/results/harness.json)
    python benchmarks/harness.py --repeats 3 --output /tmp/harness.json

1. An empty predictor: the median of what single stream measures of a call that does nothing.
2. The same file against itself, by ``toolkit bench compare`` (interleaved), and as two runs of ``toolkit bench`` whose
   reports are compared: how many of the intervals hold 1.
3. A predictor that waits 5 % of its own time after each call against one that does not: how often it is found slower.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.benchmarking.compare import P50, Comparison, compare_models
from toolkit.benchmarking.compare_reports import compare_reports
from toolkit.benchmarking.host import describe_host
from toolkit.benchmarking.intervals import SLOWER
from toolkit.benchmarking.measure import run_bench
from toolkit.benchmarking.options import bench_settings

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "exported" / "fashion-mnist" / "model.int8.onnx"
SUBJECTS = "benchmarks.harness_subjects"
LEAST, MOST_NS = 0.95, 300.0  # 19 of 20; 0.3 us


def main() -> int:
    """Measure, write the result; the exit code is 1 if a figure is not what it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "harness.json")
    options = parser.parse_args()
    started = datetime.now(UTC).isoformat(timespec="seconds")
    host = describe_host()
    result = {"format": 1, "created": started, "host": asdict(host), "repeats": options.repeats, "empty": empty()}
    for name, repeat in (("same", _same), ("two_runs", _two_runs), ("slowed", _slowed)):
        result[name] = [_told(name, number, repeat) for number in range(options.repeats)]
    result["targets"] = targets(result)
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for target in result["targets"]:
        print(
            f"{'met   ' if target['met'] else 'MISSED'} {target['what']}: {target['got']} (target {target['target']})"
        )
    return 0 if all(target["met"] for target in result["targets"]) else 1


def empty() -> dict[str, float]:
    """What single stream measures of a call that does nothing, in ns."""
    settings = replace(bench_settings(scenarios=["single-stream"]), control=False)
    report = run_bench(MODEL, settings, factory=f"{SUBJECTS}:Empty")
    single = report.files[0].scenarios.single_stream
    assert single is not None
    latency = single.latency
    return {"p50_ns": latency.p50_ns, "mean_ns": latency.mean_ns, "clock_overhead_ns": report.clock.overhead_ns}


def targets(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Each figure beside what it should be."""
    repeats, empty_ns = result["repeats"], result["empty"]["p50_ns"]
    found = [{"what": "empty predictor, ns a call", "got": empty_ns, "target": f"<= {MOST_NS:g}"}]
    found[0]["met"] = empty_ns <= MOST_NS
    for name, what, count in (
        ("same", "the same file, interleaved: intervals that hold 1", _holding(result["same"])),
        ("two_runs", "the same file, two runs: intervals that hold 1", _holding(result["two_runs"])),
        ("slowed", "5 % slower: found slower", sum(entry["verdict"] == SLOWER for entry in result["slowed"])),
    ):
        assert len(result[name]) == repeats
        wanted = f">= {LEAST:.0%} of {repeats}"
        found.append({"what": what, "got": count, "target": wanted, "met": count >= LEAST * repeats})
    return found


def _holding(entries: list[dict[str, Any]]) -> int:
    return sum(entry["low"] <= 1 <= entry["high"] for entry in entries)


def _told(name: str, number: int, repeat: Callable[[], Comparison]) -> dict[str, Any]:
    found = repeat()
    ratio = next(line.ratio for line in found.lines if line.what == P50)
    print(f"{name} {number + 1}: {ratio.ratio:.4f} ({ratio.low:.4f} to {ratio.high:.4f}) {ratio.verdict}", flush=True)
    noise = None if found.noise is None else [str(reason) for reason in found.noise.reasons]
    return {**ratio.to_json(), "noise": noise, "notes": list(found.notes)}


def _same() -> Comparison:
    return compare_models(MODEL, MODEL)


def _slowed() -> Comparison:
    return compare_models(MODEL, MODEL, factories=(f"{SUBJECTS}:Paced", f"{SUBJECTS}:Slowed"))


def _two_runs() -> Comparison:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / "old.json", Path(folder) / "new.json"]
        for path in paths:
            report = run_bench(MODEL, bench_settings(scenarios=["single-stream"]))
            path.write_text(json.dumps(report.to_json()), encoding="utf-8")
        return compare_reports(*paths)


if __name__ == "__main__":
    sys.exit(main())
