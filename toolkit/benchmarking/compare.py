"""Two models, or two earlier benchmarks, side by side: the ratio of their times, and whether it became slower.

Models are measured now, in interleaved rounds, each opened anew in every round; each round gives a ratio. Of two
reports only the rounds of each are known, so the ratio is less sure; and what the machine itself did between them is
taken from the probe that every benchmark times (see `toolkit.benchmarking.intervals`).
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolkit.benchmarking.intervals import SLOWER, Ratio, paired_ratio
from toolkit.benchmarking.measure import measure, medians_of
from toolkit.benchmarking.opened import PREDICTOR
from toolkit.benchmarking.plan import BenchSettings
from toolkit.benchmarking.subject import Subject
from toolkit.errors import ToolkitError, UsageError
from toolkit.predictor import model_files
from toolkit.progress import silent_step

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from toolkit.benchmarking.noise import Noise
    from toolkit.predictor import ModelFile
    from toolkit.progress import Step

__all__ = [
    "COMPARING",
    "CPU",
    "Comparison",
    "Line",
    "MAX_REGRESSION",
    "P50",
    "batch_line",
    "compare_models",
    "pair_up",
    "share_of",
]

MAX_REGRESSION = 0.05

COMPARING = BenchSettings(scenarios=("single-stream", "batches", "cpu-time"), rounds=30, batches=(256,))
"""What is measured to compare: 30 rounds tell a difference of 5 % on a machine that is not too noisy."""

P50, P99, CPU = "one row, p50", "one row, p99", "one row, CPU time"


@dataclass(frozen=True)
class Line:
    """One figure of two files.

    Attributes:
        file: which; two names if they are not the same.
        what: the figure.
        old_ns, new_ns: medians of the rounds.
        ratio: new to old.
        gates: whether a regression of it counts.
    """

    file: str
    what: str
    old_ns: float
    new_ns: float
    ratio: Ratio
    gates: bool

    def regressed(self, most: float) -> bool:
        """Whether it is slower for certain, and by more than a share."""
        return self.gates and self.ratio.verdict == SLOWER and self.ratio.ratio > 1 + most


@dataclass(frozen=True)
class Comparison:
    """The outcome.

    Attributes:
        old, new: what was compared, as the user named it.
        paired: measured now in the same rounds; False: two earlier reports.
        lines: the figures.
        notes: what sets the two apart beside their times, or limits the comparison.
        max_regression: most that a figure may have become slower, as a share.
        noise: of the measurement; None: see the reports.
        interrupted: Ctrl-C ended it early.
    """

    old: str
    new: str
    paired: bool
    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    max_regression: float
    noise: Noise | None = None
    interrupted: bool = False

    @property
    def regressions(self) -> tuple[Line, ...]:
        """Figures that became slower by more than is allowed."""
        return tuple(line for line in self.lines if line.regressed(self.max_regression))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        from toolkit.benchmarking.report import plain

        return {
            "format": 1,
            **plain(self, samples=False),
            "regressions": [f"{line.file}: {line.what}" for line in self.regressions],
        }


def pair_up(old: Sequence[Any], new: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Files that belong together: of the same kind; or if there are none, the first of each.

    Args:
        old: things with a ``kind``, the one that a predictor opens by default first; not empty.
        new: the same.
    """
    kinds = {entry.kind: entry for entry in old}
    pairs = [(kinds[entry.kind], entry) for entry in new if entry.kind in kinds]
    return pairs or [(old[0], new[0])]


def compare_models(
    old: str | os.PathLike[str],
    new: str | os.PathLike[str],
    settings: BenchSettings = COMPARING,
    *,
    max_regression: float = MAX_REGRESSION,
    factories: tuple[str, str] = (PREDICTOR, PREDICTOR),
    step: Step = silent_step,
) -> Comparison:
    """Measure two models, artifacts or bundles side by side.

    Args:
        old: see `run_bench`.
        new: the same.
        settings: how much.
        max_regression: see `Comparison`.
        factories: what opens the old and the new ones, see `toolkit.benchmarking.opened.Opened`.
        step: told of the progress.

    Raises:
        MissingError, ModelError, CorruptArtifactError, UsageError: see `run_bench`.
        ToolkitError: a file crashed or hung.
        KeyboardInterrupt: before two rounds were over.
    """
    pairs = [
        (Subject(a, settings, factories[0], f"old {_base(a)}"), Subject(b, settings, factories[1], f"new {_base(b)}"))
        for a, b in pair_up(model_files(old), model_files(new))
    ]
    report = measure([subject for pair in pairs for subject in pair], f"{old} or {new}", settings, step)
    failed = [subject.failed for pair in pairs for subject in pair if subject.failed]
    if failed:
        raise ToolkitError("; ".join(failed))
    lines: list[Line] = []
    for a, b in pairs:
        title = _base(b.file) if _base(a.file) == _base(b.file) else f"{_base(a.file)} -> {_base(b.file)}"
        for what, ours, theirs, gates in (
            (P50, medians_of(b), medians_of(a), True),
            (P99, _tails(b), _tails(a), False),
            *((batch_line(size), _batches(b)[size], _batches(a)[size], True) for size in _batches(a)),
            (CPU, _cpu(b), _cpu(a), False),
        ):
            if min(len(ours), len(theirs)) >= 2:
                ratio = paired_ratio(ours, theirs)
                lines.append(Line(title, what, statistics.median(theirs), statistics.median(ours), ratio, gates))
    if not lines:
        raise KeyboardInterrupt
    notes = tuple(f"{what} differ in size: {a:,} and {b:,} bytes" for what, a, b in _sizes(pairs) if a != b)
    return Comparison(str(old), str(new), True, tuple(lines), notes, max_regression, report.noise, report.interrupted)


def share_of(text: str) -> float:
    """A share as people write it: 5%, 0.05.

    Raises:
        UsageError: it is none, or none that a time could grow by.
    """
    try:
        value = float(text.rstrip("% ")) / (100 if text.rstrip().endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 10:
        raise UsageError(f"{text!r} is no share, expected such as 5% or 0.05")
    return value


def batch_line(size: int) -> str:
    """The name of a figure."""
    return f"batch of {size:,}, p50"


def _base(file: ModelFile) -> str:
    from pathlib import Path

    return Path(file.path).name


def _tails(subject: Subject) -> list[float]:
    """p99 of each round."""
    import numpy as np

    return [
        float(np.percentile([sample for taken in takes for sample in taken["samples"]], 99))
        for takes in subject.rounds.get("single-stream", [])
    ]


def _batches(subject: Subject) -> dict[int, list[float]]:
    """Median time of a batch in each round, by size."""
    found: dict[int, list[float]] = {}
    for takes in subject.rounds.get("batches", []):
        for taken in takes:
            found.setdefault(taken["size"], []).append(statistics.median(taken["samples"]))
    return found


def _cpu(subject: Subject) -> list[float]:
    return [taken["process_ns"] / taken["calls"] for takes in subject.rounds.get("cpu-time", []) for taken in takes]


def _sizes(pairs: Sequence[tuple[Subject, Subject]]) -> list[tuple[str, int, int]]:
    return [(f"{a.name} and {b.name}", a.look["bytes"], b.look["bytes"]) for a, b in pairs]
