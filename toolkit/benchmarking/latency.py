"""How long one row takes, and how many rows a second: every call's time kept, in integer nanoseconds."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.benchmarking.histogram import Histogram, histogram_of
from toolkit.benchmarking.rounds import NOISE_BOUND, spread_of_medians

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

__all__ = [
    "Latency",
    "MIN_SAMPLES",
    "Throughput",
    "clock_overhead_ns",
    "summarize_latency",
    "summarize_throughput",
    "thread_counts",
    "time_batches",
    "time_calls",
]

MIN_SAMPLES = 1000
"""A p99.9 of fewer samples would only be their maximum under another name."""

MOST_RUNS = 100
"""Runs of one batch size that a round needs at most; more would only fill the report."""


@dataclass(frozen=True)
class Latency:
    """Times of calls with one row (an image or whatever the model takes), in nanoseconds.

    Attributes:
        n: samples.
        warmup: calls made before them and discarded.
        mean_ns, std_ns, min_ns, max_ns: std is the population's.
        p50_ns, p90_ns, p95_ns, p99_ns, p999_ns: percentiles, with linear interpolation; p999 is p99.9. None where there
            are fewer than 1000 samples (p99: 100), of which it would only be the maximum under another name.
        histogram: of all samples.
        spread: (max - min) / median of the rounds' medians.
        samples_ns: every sample, one tuple a round, in the order they were taken.
    """

    n: int
    warmup: int
    mean_ns: float
    std_ns: float
    min_ns: int
    max_ns: int
    p50_ns: float
    p90_ns: float
    p95_ns: float
    p99_ns: float | None
    p999_ns: float | None
    histogram: Histogram
    spread: float
    samples_ns: tuple[tuple[int, ...], ...]

    @property
    def noisy(self) -> bool:
        """Whether the rounds disagree by more than `NOISE_BOUND`."""
        return self.spread > NOISE_BOUND


@dataclass(frozen=True)
class Throughput:
    """Rows a second at one batch size.

    Attributes:
        batch: rows a run.
        images_per_second: rows; batch / the median time of a run.
        n: runs.
        warmup: runs made before them and discarded.
        spread: as in `Latency`.
        samples_ns: the time of every run, one tuple a round.
    """

    batch: int
    images_per_second: float
    n: int
    warmup: int
    spread: float
    samples_ns: tuple[tuple[int, ...], ...]

    @property
    def noisy(self) -> bool:
        """Whether the rounds disagree by more than `NOISE_BOUND`."""
        return self.spread > NOISE_BOUND


def time_calls(
    call: Callable[[Any], object],
    rows: Sequence[Any] | NDArray[Any],
    *,
    calls: int,
    warmup: int,
    clock: Callable[[], int] = perf_counter_ns,
) -> tuple[int, ...]:
    """The time of each of some calls, one row each, in ns.

    Args:
        call: what is timed.
        rows: what it is given; taken in turn, over and over.
        calls: how many are timed.
        warmup: how many come first and are discarded.
        clock: counts nanoseconds.
    """
    turn = [rows[i % len(rows)] for i in range(max(calls, warmup))]
    for row in turn[:warmup]:
        call(row)
    samples = [0] * calls
    for i in range(calls):
        row = turn[i]
        start = clock()
        call(row)
        samples[i] = clock() - start
    return tuple(samples)


def time_batches(
    run: Callable[[Any], object],
    rows: Any,
    *,
    seconds: float,
    most: int = MOST_RUNS,
    clock: Callable[[], int] = perf_counter_ns,
) -> tuple[int, ...]:
    """The time of each run over the same batch, in ns: one discarded, then as many as fit, at least one.

    Args:
        run: what is timed.
        rows: the batch: an array, or arrays by input name.
        seconds: no run begins after this time.
        most: runs after which it is enough.
        clock: counts nanoseconds.
    """
    run(rows)
    samples = []
    end = clock() + int(seconds * 1e9)
    while True:
        start = clock()
        run(rows)
        now = clock()
        samples.append(now - start)
        if now >= end or len(samples) >= most:
            return tuple(samples)


def clock_overhead_ns(clock: Callable[[], int] = perf_counter_ns) -> float:
    """What the clock itself adds to every sample: the median of timing nothing; stated, not subtracted."""
    samples = []
    for _ in range(1001):
        start = clock()
        samples.append(clock() - start)
    return float(statistics.median(samples))


def summarize_latency(rounds: Sequence[Sequence[int]], warmup: int) -> Latency:
    """The figures of all rounds together.

    Args:
        rounds: samples in ns, one sequence a round.
        warmup: calls that were discarded.

    Raises:
        ToolkitError: the clock is too coarse.
    """
    samples = np.concatenate([np.asarray(r, np.int64) for r in rounds])
    p50, p90, p95, p99, p999 = (float(p) for p in np.percentile(samples, [50, 90, 95, 99, 99.9]))
    return Latency(
        n=len(samples),
        warmup=warmup,
        mean_ns=float(samples.mean()),
        std_ns=float(samples.std()),
        min_ns=int(samples.min()),
        max_ns=int(samples.max()),
        p50_ns=p50,
        p90_ns=p90,
        p95_ns=p95,
        p99_ns=p99 if len(samples) >= MIN_SAMPLES // 10 else None,
        p999_ns=p999 if len(samples) >= MIN_SAMPLES else None,
        histogram=histogram_of(samples),
        spread=spread_of_medians(rounds),
        samples_ns=tuple(tuple(r) for r in rounds),
    )


def summarize_throughput(rounds: Sequence[Sequence[int]], batch: int, warmup: int) -> Throughput:
    """Rows a second from the runs' times in ns, one sequence a round."""
    spread = spread_of_medians(rounds)  # first: it refuses a median of zero
    samples = [s for r in rounds for s in r]
    return Throughput(
        batch=batch,
        images_per_second=batch * 1e9 / statistics.median(samples),
        n=len(samples),
        warmup=warmup,
        spread=spread,
        samples_ns=tuple(tuple(r) for r in rounds),
    )


def thread_counts(cores: int | None) -> tuple[int, ...]:
    """The thread counts to try: 1 to 4, then doubling, then all cores; only 1 where they are unknown."""
    last = cores or 1
    counts = {1, 2, 3, 4, last} | {2**k for k in range(3, last.bit_length())}
    return tuple(sorted(c for c in counts if c <= last))
