"""Settings of the runtime tried one by one: threads, spinning, graph optimization, rows of a run; and the best of them.

What looks best among several is partly luck, so the winner is measured once more against the settings of the benchmark,
in rounds of their own, and only what that shows is called a gain.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolkit.benchmarking.intervals import FASTER, Ratio, paired_ratio
from toolkit.benchmarking.latency import thread_counts
from toolkit.benchmarking.plan import LEAST_CALLS
from toolkit.benchmarking.rounds import NOISE_BOUND, spread_of_medians
from toolkit.predictor import RuntimeSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from toolkit.benchmarking.subject import Subject

__all__ = ["NAME", "Point", "Sweep", "Sweeper", "candidates"]

NAME = "sweep"

_BATCH_ROWS = (16, 64, 256, 1024)
_CALLS, _ROW_SECONDS, _SECONDS = 300, 0.3, 0.02
_ROW, _BATCH = "row", "batch"


@dataclass(frozen=True)
class Point:
    """One choice of settings.

    Attributes:
        setting: which one differs from the benchmark's settings: "threads", "spinning", "optimization" or "batch_rows";
            "base" are those themselves.
        settings: all of them.
        p50_ns: of one row, median of the rounds' medians; None of batch_rows, which do not matter to it.
        rows_per_second: in batches of `Sweep.batch` rows.
        spread: of the rounds' medians of what the setting is chosen by, (max - min) / median.
        noisy: whether that exceeds `NOISE_BOUND`.
        ratio: time to that of the base, in what the setting is chosen by: one row, or for batch_rows one batch; None
            of the base.
    """

    setting: str
    settings: RuntimeSettings
    p50_ns: float | None
    rows_per_second: float
    spread: float
    noisy: bool
    ratio: Ratio | None


@dataclass(frozen=True)
class Sweep:
    """All points, and the best settings.

    Attributes:
        batch: rows of a batch.
        points: the base first.
        best: the base with whatever was faster for certain in one of the settings.
        row_gain, batch_gain: time of one row, and of a batch, with the best settings to that with the base, measured
            anew. None: the best is the base, so there is nothing to gain.
    """

    batch: int
    points: tuple[Point, ...]
    best: RuntimeSettings
    row_gain: Ratio | None
    batch_gain: Ratio | None


def candidates(base: RuntimeSettings, cores: int | None, batch: int) -> list[tuple[str, RuntimeSettings]]:
    """Name of the setting that differs, and the settings; the base first.

    Args:
        base: what the benchmark is for.
        cores: that may be used.
        batch: rows of a batch; larger runs would be the same.
    """
    found = [("base", base)]
    for threads in thread_counts(cores):
        if threads != base.threads:
            found.append(("threads", base._replace(threads=threads, spinning=False)))
        if threads > 1:
            found.append(("spinning", base._replace(threads=threads, spinning=True)))
    found += [
        ("optimization", base._replace(optimization=level))
        for level in ("all", "extended", "basic", "none")
        if level != base.optimization
    ]
    return found + [("batch_rows", base._replace(batch_rows=rows)) for rows in _BATCH_ROWS if rows <= batch]


class Sweeper:
    """The sweep of one file, a round at a time.

    Args:
        subject: the file.
        cores: that may be used.
        batch: rows of a batch.
        seconds: that one row takes, about.
    """

    def __init__(self, subject: Subject, cores: int | None, batch: int, seconds: float) -> None:
        self.subject, self.batch, self.seconds = subject, batch, seconds
        self.base = RuntimeSettings(threads=subject.settings.threads)
        self.tried = candidates(self.base, cores, batch)
        self.times: dict[RuntimeSettings, dict[str, list[float]]] = {}
        self.again: dict[RuntimeSettings, dict[str, list[float]]] = {}

    def first(self, number: int) -> None:
        """One round of all candidates, in a process of its own."""
        self._round([settings for _, settings in self.tried], number, self.times)

    def confirm(self, number: int) -> None:
        """One round of the best and the base, if they differ."""
        best = self.best()
        if best != self.base:
            self._round([self.base, best], number, self.again)

    def _round(
        self, tried: Sequence[RuntimeSettings], number: int, into: dict[RuntimeSettings, dict[str, list[float]]]
    ) -> None:
        def work(ask: Callable[..., Any]) -> dict[RuntimeSettings, dict[str, float]]:
            found = {}
            for settings in tried if number % 2 else reversed(tried):
                ask("open", 1.0, **self.subject.opening(**settings._asdict()))
                ask("warm-up", 1.0)
                calls = max(LEAST_CALLS, min(_CALLS, int(_ROW_SECONDS / self.seconds)))
                row = ask("single-stream", calls * self.seconds, calls=calls)["samples"]
                runs = ask("batches", 1.0, size=self.batch, seconds=_SECONDS)["samples"]
                found[settings] = {_ROW: statistics.median(row), _BATCH: statistics.median(runs)}
            return found

        whole = self.subject.with_worker(work)
        for settings, times in (whole or {}).items():
            for what, time in times.items():
                into.setdefault(settings, {}).setdefault(what, []).append(time)

    def best(self) -> RuntimeSettings:
        """The base with what was faster for certain, setting by setting."""
        best = self.base
        for names, what in ((("threads", "spinning"), _ROW), (("optimization",), _ROW), (("batch_rows",), _BATCH)):
            found = [
                (ratio.ratio, index)
                for index, (name, settings) in enumerate(self.tried)
                if name in names and (ratio := self._ratio(settings, what)) is not None and ratio.verdict == FASTER
            ]
            if found:
                chosen = self.tried[min(found)[1]][1]
                best = best._replace(**{name: getattr(chosen, name) for name in names})
        return best

    def _ratio(self, settings: RuntimeSettings, what: str) -> Ratio | None:
        if settings not in self.times or settings == self.base:
            return None
        return paired_ratio(self.times[settings][what], self.times[self.base][what])

    def report(self) -> Sweep | None:
        """What was found; None where no round was whole."""
        if self.base not in self.times:
            return None
        points = []
        for name, settings in self.tried:
            what = _BATCH if name == "batch_rows" else _ROW
            times = self.times[settings]
            spread = spread_of_medians([[round(time)] for time in times[what]])
            points.append(
                Point(
                    setting=name,
                    settings=settings,
                    p50_ns=None if name == "batch_rows" else statistics.median(times[_ROW]),
                    rows_per_second=self.batch * 1e9 / statistics.median(times[_BATCH]),
                    spread=spread,
                    noisy=spread > NOISE_BOUND,
                    ratio=self._ratio(settings, what),
                )
            )
        best = self.best()
        gains = {}
        if best in self.again and best != self.base:
            gains = {what: paired_ratio(self.again[best][what], self.again[self.base][what]) for what in (_ROW, _BATCH)}
        return Sweep(self.batch, tuple(points), best, gains.get(_ROW), gains.get(_BATCH))
