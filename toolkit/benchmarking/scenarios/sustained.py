"""One row after the other for minutes: whether the machine holds its speed, or gets hot and slows down."""

from __future__ import annotations

import itertools
import math
import statistics
from dataclasses import dataclass
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.benchmarking.conditions import read_heat
from toolkit.benchmarking.intervals import Ratio, unpaired_ratio
from toolkit.benchmarking.samples import pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.benchmarking.opened import Opened

__all__ = ["NAME", "Sustained", "Window", "summarize", "take"]

NAME = "sustained"

_WINDOWS, _LEAST_SECONDS = 60, 0.5


@dataclass(frozen=True)
class Window:
    """A part of the run.

    Attributes:
        start_s: since the run began.
        n: samples.
        p50_ns, p99_ns, max_ns: of them.
        frequency_mhz: of the slowest usable core at the end, temperature_c of the hottest zone, throttled how often the
            cores were slowed down so far; None: not readable here.
        times_ns, times_n: packed (see `toolkit.benchmarking.samples`): every time that occurred, rising, and how often.
    """

    start_s: float
    n: int
    p50_ns: float
    p99_ns: float
    max_ns: int
    frequency_mhz: float | None
    temperature_c: float | None
    throttled: int | None
    times_ns: dict[str, Any]
    times_n: dict[str, Any]


@dataclass(frozen=True)
class Sustained:
    """The run as a whole.

    Attributes:
        seconds: that it took.
        windows: its parts, in order.
        slope_per_minute: relative change of the windows' medians in a minute (Theil and Sen's slope).
        drift: medians of the last quarter over those of the first.
        worst: the highest median of a window over the lowest.
        throttled: how often cores were slowed down because of heat or power during the run; None: not readable here.
    """

    seconds: float
    windows: tuple[Window, ...]
    slope_per_minute: float
    drift: Ratio
    worst: float
    throttled: int | None

    @property
    def holds(self) -> bool:
        """Whether nothing shows that it became slower."""
        return self.drift.low <= 1 and not self.throttled


def take(opened: Opened, seconds: float) -> dict[str, Any]:
    """Call for some seconds; what is measured is put in order between the windows."""
    length = max(_LEAST_SECONDS, seconds / _WINDOWS)
    call, turn = opened.call, opened.turn
    for row in turn:
        call(row)
    windows: list[dict[str, Any]] = []
    begun = perf_counter_ns()
    first = read_heat()[2]
    while (now := perf_counter_ns()) - begun < seconds * 1e9 or not windows:
        samples, opened_at = [], now
        end = opened_at + int(length * 1e9)
        for row in itertools.cycle(turn):
            start = perf_counter_ns()
            call(row)
            now = perf_counter_ns()
            samples.append(now - start)
            if now >= end:
                break
        windows.append(_window(samples, (opened_at - begun) / 1e9))
    return {"windows": windows, "seconds": (now - begun) / 1e9, "throttled": first}


def _window(samples: list[int], start_s: float) -> dict[str, Any]:
    times, counts = np.unique(np.asarray(samples, np.int64), return_counts=True)
    frequencies, temperature, throttled = read_heat()
    p50, p99 = np.percentile(samples, [50, 99])
    return {
        "start_s": start_s,
        "n": len(samples),
        "p50_ns": float(p50),
        "p99_ns": float(p99),
        "max_ns": int(times[-1]),
        "frequency_mhz": min(frequencies) / 1000 if frequencies else None,
        "temperature_c": temperature,
        "throttled": throttled,
        "times_ns": pack([times.tolist()]),
        "times_n": pack([counts.tolist()]),
    }


def summarize(taken: dict[str, Any]) -> Sustained:
    """The figures of the run."""
    windows = tuple(Window(**window) for window in taken["windows"])
    medians = [window.p50_ns for window in windows]
    quarter = max(1, len(windows) // 4)
    last = windows[-1].throttled
    return Sustained(
        seconds=taken["seconds"],
        windows=windows,
        slope_per_minute=_slope([(window.start_s / 60, math.log(window.p50_ns)) for window in windows]),
        drift=unpaired_ratio(medians[-quarter:], medians[:quarter]),
        worst=max(medians) / min(medians),
        throttled=None if last is None or taken["throttled"] is None else last - taken["throttled"],
    )


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """The median of the slopes between all pairs of points: a few disturbed windows do not move it."""
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.combinations(points, 2) if b[0] > a[0]]
    return math.expm1(statistics.median(slopes)) if slopes else 0.0
