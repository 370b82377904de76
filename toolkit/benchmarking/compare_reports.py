"""Two bench.json files side by side; see `toolkit.benchmarking.compare`."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolkit.benchmarking.compare import CPU, MAX_REGRESSION, P50, Comparison, Line, batch_line, pair_up
from toolkit.benchmarking.intervals import unpaired_ratio
from toolkit.benchmarking.report import FORMAT
from toolkit.benchmarking.samples import unpack
from toolkit.errors import InputError, MissingError, ToolkitError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["compare_reports", "read_report"]

START = "cold start"

_MACHINE = ("cpu_model", "board", "architecture", "logical_cores", "cpu_features", "affinity")
_SOFTWARE = ("python", "numpy", "onnxruntime", "toolkit", "kernel", "operating_system", "libc", "governor")
_SETTINGS = ("threads", "seed", "free_size")


@dataclass(frozen=True)
class _File:
    kind: str
    name: str
    sha256: str | None
    inputs: list[Any]
    medians: dict[str, list[float]]  # by figure, one a round


def read_report(path: Path) -> dict[str, Any]:
    """A bench.json as plain values.

    Raises:
        MissingError: it is not there.
        InputError: it is none, or of another format.
    """
    try:
        report = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise MissingError(f"{path} does not exist; give a bench.json, or a model to measure") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is no bench.json ({error}); measure again with: toolkit bench") from error
    found = report.get("format") if isinstance(report, dict) else None
    if found != FORMAT or "scenarios" not in str(report.get("settings")):
        raise InputError(
            f"{path} is no bench.json of format {FORMAT} (found {found}); measure again with: toolkit bench"
        )
    return dict(report)


def compare_reports(old: Path, new: Path, *, max_regression: float = MAX_REGRESSION, force: bool = False) -> Comparison:
    """Compare what two benchmarks found.

    Args:
        old: a bench.json.
        new: another one.
        max_regression: see `Comparison`.
        force: although they are of different machines.

    Raises:
        MissingError, InputError: a file is not there, or is no report.
        UsageError: they are of different machines, or have nothing in common.
    """
    reports = [read_report(path) for path in (old, new)]
    try:
        return _compare(old, new, reports[0], reports[1], max_regression, force)
    except ToolkitError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(
            f"{old} or {new} lacks what a bench.json has ({error!r}); measure again with: toolkit bench"
        ) from error


def _compare(
    old: Path, new: Path, before: dict[str, Any], after: dict[str, Any], max_regression: float, force: bool
) -> Comparison:
    other = _differences(before["host"], after["host"], _MACHINE)
    if other and not force:
        raise UsageError(
            f"{old} and {new} are of different machines ({'; '.join(other)}), so they say little of the models; "
            "measure both on one machine: toolkit bench compare OLD_MODEL NEW_MODEL, or give --force"
        )
    notes = [f"different machines: {text}" for text in other]
    notes += _differences(before["host"], after["host"], _SOFTWARE)
    notes += _differences(before["settings"], after["settings"], _SETTINGS)
    for path, report in ((old, before), (new, after)):
        notes += [f"{path} was interrupted"] if report["interrupted"] else []
        notes += [f"{path} was measured on a noisy machine"] if report["noise"]["noisy"] else []
    probes = [report["noise"]["probe_ns"] for report in (before, after)]
    drift = 1.0
    if all(probes):
        drift = statistics.median(probes[1]) / statistics.median(probes[0])
    else:
        notes.append("one of them has no probe, so what the machine itself did between them is not known")
    if abs(drift - 1) > 0.02:
        notes.append(f"the machine itself took {drift:.2f} times as long in {new}, so all intervals are wider")
    lines = []
    for first, second in pair_up(_files(before), _files(after)):
        title = second.name if first.name == second.name else f"{first.name} -> {second.name}"
        if [_shape(given) for given in first.inputs] != [_shape(given) for given in second.inputs]:
            notes.append(f"{title}: inputs differ")
        for what in second.medians:
            if what in first.medians:
                ours, theirs = second.medians[what], first.medians[what]
                ratio = unpaired_ratio(ours, theirs, drift=drift)
                gates = what not in (CPU, START)
                lines.append(Line(title, what, statistics.median(theirs), statistics.median(ours), ratio, gates))
    if not lines:
        raise UsageError(f"{old} and {new} have no scenario in common; measure both with: toolkit bench")
    return Comparison(str(old), str(new), False, tuple(lines), tuple(notes), max_regression)


def _differences(before: dict[str, Any], after: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    return [f"{name} {before[name]} and {after[name]}" for name in names if before[name] != after[name]]


def _shape(given: dict[str, Any]) -> tuple[Any, ...]:
    return given["name"], given["dtype"], tuple(given["shape"])


def _files(report: dict[str, Any]) -> list[_File]:
    return [
        _File(entry["kind"], entry["name"], entry["sha256"], entry["inputs"], _medians(entry["scenarios"]))
        for entry in report["files"]
        if entry["failed"] is None
    ]


def _medians(scenarios: dict[str, Any]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    if single := scenarios["single-stream"]:
        found[P50] = _by_round(single["latency"]["samples_ns"])
    for size in (scenarios["batches"] or {"sizes": []})["sizes"]:
        found[batch_line(size["batch"])] = _by_round(size["samples_ns"])
    if cpu := scenarios["cpu-time"]:
        found[CPU] = [float(ns) for ns in cpu["process_rounds_ns"]]
    if start := scenarios["cold-start"]:
        found[START] = [float(sum(sample["parts_ns"])) for sample in start["samples"]]
    return found


def _by_round(packed: dict[str, Any]) -> list[float]:
    return [float(statistics.median(samples)) for samples in unpack(packed) if samples]
