"""The clock that everything is timed with: what it is, how fine, and what reading it costs."""

from __future__ import annotations

import itertools
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Clock", "describe_clock"]

_SOURCE = "sys/devices/system/clocksource/clocksource0/current_clocksource"


@dataclass(frozen=True)
class Clock:
    """Python's ``perf_counter_ns``, which nobody can set.

    Attributes:
        name: what Python takes it from.
        source: what the kernel takes it from (tsc, arch_sys_counter, ...); None: unknown.
        monotonic, adjustable: as Python says; a clock that can be set would step.
        resolution_ns: as the system states it.
        step_ns: the smallest difference between two readings that was seen.
        overhead_ns: median time between two readings: what each sample holds beside the call; it is not subtracted.
    """

    name: str
    source: str | None
    monotonic: bool
    adjustable: bool
    resolution_ns: float
    step_ns: int | None
    overhead_ns: float


def describe_clock(root: Path = Path("/"), clock: Callable[[], int] = time.perf_counter_ns) -> Clock:
    """Look at the clock.

    Args:
        root: where ``sys`` is.
        clock: counts nanoseconds.
    """
    info = time.get_clock_info("perf_counter")
    try:
        source = (root / _SOURCE).read_text(encoding="ascii", errors="replace").strip() or None
    except OSError:
        source = None
    readings = [clock() for _ in range(5000)]
    steps = [b - a for a, b in itertools.pairwise(readings) if b > a]
    pairs = []
    for _ in range(1001):
        start = clock()
        pairs.append(clock() - start)
    return Clock(
        name=info.implementation,
        source=source,
        monotonic=info.monotonic,
        adjustable=info.adjustable,
        resolution_ns=info.resolution * 1e9,
        step_ns=min(steps, default=None),
        overhead_ns=float(statistics.median(pairs)),
    )
