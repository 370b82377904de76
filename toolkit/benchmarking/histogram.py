"""A distribution in a few bins, and as a line of small bars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

__all__ = ["Histogram", "bars", "histogram_of"]

BINS = 20

_UNICODE, _ASCII = " ▁▂▃▄▅▆▇█", " .:-=+*#@"  # both from nothing to full


@dataclass(frozen=True)
class Histogram:
    """How often which time occurred.

    Attributes:
        edges_ns: rising, in ns; one more than counts. The bins are equally wide on a logarithmic scale from the minimum
            to p99.9; the last one, wider, reaches to the maximum.
        counts: samples in each bin, its lower edge included, its upper one not (of the last one, it is).
    """

    edges_ns: tuple[float, ...]
    counts: tuple[int, ...]


def histogram_of(samples: ArrayLike) -> Histogram:
    """The histogram of some times in ns, one at least."""
    times = np.maximum(np.asarray(samples, np.float64), 1.0)  # the logarithm of 0 is nowhere
    low, high, top = float(times.min()), float(np.percentile(times, 99.9)), float(times.max())
    if high <= low:
        high = low * 1.001
    edges = np.geomspace(low, high, BINS + 1)
    edges[0], edges[-1] = low, high  # not what rounding made of them
    counts, _ = np.histogram(times, edges)
    over = int((times > high).sum())
    if over:
        return Histogram((*map(float, edges), top), (*map(int, counts), over))
    return Histogram(tuple(map(float, edges)), tuple(map(int, counts)))


def bars(counts: Sequence[int], *, ascii_only: bool = False) -> str:
    """One character a bin, as high as its count beside the largest; what occurred at all is never blank."""
    levels = _ASCII if ascii_only else _UNICODE
    most = max(counts, default=0)
    steps = len(levels) - 1
    return "".join(levels[0 if not n else max(1, round(n / most * steps))] for n in counts)
