"""As many rows a second as all cores give: by processes, by threads on one session, by the runtime's own threads.

Each way that the machine has cores for is measured, and the best one is named.
"""

from __future__ import annotations

import statistics
import threading
from dataclasses import dataclass
from time import monotonic_ns, sleep
from typing import TYPE_CHECKING, Any

from toolkit.benchmarking.rounds import NOISE_BOUND, spread_of_medians

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from toolkit.benchmarking.opened import Opened

__all__ = ["NAME", "Throughput", "WAYS", "Way", "summarize", "take"]

NAME = "throughput"

WAYS = ("processes", "threads", "runtime-threads")
"""One single-threaded session for each process; Python threads that share one; one caller whose runs use all cores."""


@dataclass(frozen=True)
class Way:
    """One way to use all cores.

    Attributes:
        way: of `WAYS`.
        batch: rows a call.
        rows_per_second: median of the rounds.
        spread: of the rounds, (max - min) / median.
        noisy: whether that exceeds `NOISE_BOUND`.
        rounds: rows a second in each.
    """

    way: str
    batch: int
    rows_per_second: float
    spread: float
    noisy: bool
    rounds: tuple[float, ...]


@dataclass(frozen=True)
class Throughput:
    """All ways, and the best of them.

    Attributes:
        cores: how many were used.
        best: the fastest way.
        ways: every way that was measured.
        refused: ways that were not, and why.
    """

    cores: int
    best: Way
    ways: tuple[Way, ...]
    refused: tuple[str, ...]


def take(opened: Opened, threads: int, batch: int, start_at: int, seconds: float) -> dict[str, Any]:
    """Answer rows in some threads at once from one moment on, until the time is over.

    Args:
        opened: the model.
        threads: how many.
        batch: rows a call; 1: single calls.
        start_at: by the system-wide monotonic clock, in ns, so that other processes begin at the same moment.
        seconds: how long; a call that has begun is finished, and there is one at least.

    Returns:
        Rows a second; and ns of the slowest call before the start, by which buffers are made.
    """
    call, rows = (opened.call, opened.turn) if batch == 1 else (opened.predictor.predict_batch, [opened.batch(batch)])
    end = start_at + int(seconds * 1e9)
    done, ended, before = [0] * threads, [start_at] * threads, [0] * threads

    def go(number: int) -> None:
        begun = monotonic_ns()
        call(rows[0])
        before[number] = monotonic_ns() - begun
        sleep(max(0.0, (start_at - monotonic_ns()) / 1e9))
        done[number], ended[number] = _until(call, rows, end)

    running = [threading.Thread(target=go, args=(number,)) for number in range(1, threads)]
    for thread in running:
        thread.start()
    go(0)
    for thread in running:
        thread.join()
    return {"rows_per_second": sum(done) * batch * 1e9 / (max(ended) - start_at), "first_ns": max(before)}


def _until(call: Callable[[Any], object], rows: Sequence[Any], end: int) -> tuple[int, int]:
    count, turn = 0, len(rows)
    while True:
        call(rows[count % turn])
        count += 1
        now = monotonic_ns()
        if now >= end:
            return count, now


def summarize(
    found: Mapping[tuple[str, int], Sequence[float]], cores: int, refused: Sequence[str]
) -> Throughput | None:
    """The figures of all rounds; None where none was whole.

    Args:
        found: rows a second in each round, by way and batch size.
        cores: that were used.
        refused: see `Throughput`.
    """
    ways = []
    for (way, batch), rates in found.items():
        if rates:
            spread = spread_of_medians([[round(1000 * rate)] for rate in rates])
            ways.append(Way(way, batch, statistics.median(rates), spread, spread > NOISE_BOUND, tuple(rates)))
    if not ways:
        return None
    best = max(ways, key=lambda way: way.rows_per_second)
    return Throughput(cores, best, tuple(ways), tuple(refused))
