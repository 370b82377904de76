"""Warm-up until the times stand still, by a rule that is stated, and bounded."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["AGREE", "WarmUp", "WINDOWS", "warm_up"]

WINDOWS = 3
"""Consecutive windows whose medians must agree."""

AGREE = 0.05
"""They agree if the highest is at most this share above the lowest."""

_WINDOW_CALLS, _WINDOW_NS, _MOST_NS = 50, 2_000_000, 1_000_000_000
"""A window is of 50 calls, fewer of a slow model; after a second no other begins."""


@dataclass(frozen=True)
class WarmUp:
    """What came before the first sample that counts.

    Attributes:
        calls: that were made, the first of all included.
        seconds: that they took.
        steady: whether the last `WINDOWS` medians agree within `AGREE`; False: the time for it was over.
    """

    calls: int
    seconds: float
    steady: bool


def warm_up(call: Callable[[Any], object], rows: Sequence[Any], clock: Callable[[], int] = perf_counter_ns) -> WarmUp:
    """Call until the medians of `WINDOWS` consecutive windows agree within `AGREE`, or a second is over.

    Args:
        call: what is to be measured.
        rows: what it is given, in turn.
        clock: counts nanoseconds.
    """
    begun = now = clock()
    calls, medians = 0, []
    while True:
        window: list[int] = []
        opened = now
        while len(window) < _WINDOW_CALLS and now - opened < _WINDOW_NS:
            row = rows[calls % len(rows)]
            start = clock()
            call(row)
            now = clock()
            window.append(now - start)
            calls += 1
        medians.append(statistics.median(window))
        last = medians[-WINDOWS:]
        steady = len(last) == WINDOWS and max(last) <= min(last) * (1 + AGREE)
        if steady or now - begun >= _MOST_NS:
            return WarmUp(calls, (now - begun) / 1e9, steady)
