"""Rows that come at a fixed rate, as from a camera: how long after its time each is answered.

Latency counts from the moment at which a row should have begun, not from the one at which it did: a slow answer makes
the next rows wait, and they are slow too (the correction for coordinated omission: G. Tene, "How NOT to measure
latency"; wrk2 measures so). A row that had not begun when the time was over counts with what it had waited until then,
which is less than it would have taken.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from time import perf_counter_ns, sleep
from typing import TYPE_CHECKING, Any

from toolkit.benchmarking.latency import Latency, summarize_latency

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from toolkit.benchmarking.opened import Opened

__all__ = ["NAME", "FixedRate", "run_at_rate", "summarize", "take"]

NAME = "fixed-rate"

_SPIN_NS = 300_000  # of a wait, the last part is spent looking at the clock: a sleeping process wakes up late


@dataclass(frozen=True)
class FixedRate:
    """Latency under a given load.

    Attributes:
        rate: rows a second.
        load: share of the time that the model was computing.
        latency: from the moment at which each row was due to its answer.
        service_p50_ns, service_p99_ns: the same from the moment at which each really began.
        rows: that were due.
        late: rows answered only when the next one was due already, or not at all.
        unanswered: rows among them that had not begun when the time was over.
        kept_up: whether none of the rounds ended with unanswered rows.
    """

    rate: float
    load: float
    latency: Latency
    service_p50_ns: float
    service_p99_ns: float
    rows: int
    late: int
    unanswered: int
    kept_up: bool


def run_at_rate(
    call: Callable[[Any], object],
    rows: Sequence[Any],
    *,
    rate: float,
    count: int,
    clock: Callable[[], int] = perf_counter_ns,
    wait: Callable[[float], None] = sleep,
) -> tuple[list[int], list[int]]:
    """Give rows at fixed times until the last one was due and a tenth of the time more is over.

    Args:
        call: what answers them.
        rows: taken in turn.
        rate: rows a second.
        count: how many.
        clock: counts nanoseconds.
        wait: waits for some seconds.

    Returns:
        Latencies from when each was due, in ns (count of them); and those from when each began, of those that did.
    """
    period = 1e9 / rate
    latencies, services = [], []
    first = clock() + int(period)
    end = first + int(period * count * 1.1)
    for number in range(count):
        due = first + int(period * number)
        now = clock()
        while now < due:
            if due - now > 2 * _SPIN_NS:
                wait((due - now - _SPIN_NS) / 1e9)
            now = clock()
        if now >= end:
            latencies += [now - first - int(period * n) for n in range(number, count)]
            break
        row = rows[number % len(rows)]
        begun = clock()
        call(row)
        done = clock()
        latencies.append(done - due)
        services.append(done - begun)
    return latencies, services


def take(opened: Opened, rate: float, count: int) -> dict[str, Any]:
    """Give rows at a fixed rate; some come first as fast as they can, and do not count."""
    before = max(1, count // 10)
    for number in range(before):
        opened.call(opened.turn[number % len(opened.turn)])
    latencies, services = run_at_rate(opened.call, opened.turn, rate=rate, count=count)
    return {"rate": rate, "samples": latencies, "services": services, "warmup": before}


def summarize(rounds: Sequence[Sequence[dict[str, Any]]]) -> FixedRate:
    """The figures of all rounds."""
    takes = [taken for round_ in rounds for taken in round_]
    rate = takes[0]["rate"]
    latencies = [s for taken in takes for s in taken["samples"]]
    services = sorted(s for taken in takes for s in taken["services"])
    late = sum(latency > 1e9 / rate for latency in latencies)
    cut = statistics.quantiles(services, n=100, method="inclusive") if len(services) > 1 else [float(services[0])] * 99
    return FixedRate(
        rate=rate,
        load=sum(services) * rate / 1e9 / len(latencies),
        latency=summarize_latency([taken["samples"] for taken in takes], sum(taken["warmup"] for taken in takes)),
        service_p50_ns=cut[49],
        service_p99_ns=cut[98],
        rows=len(latencies),
        late=late,
        unanswered=len(latencies) - len(services),
        kept_up=len(latencies) == len(services),
    )
