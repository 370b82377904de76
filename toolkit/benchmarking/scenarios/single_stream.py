"""One row after the other, each as soon as the last is answered (the SingleStream scenario of MLPerf)."""

from __future__ import annotations

import resource
import statistics
from dataclasses import dataclass
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from toolkit.benchmarking.latency import Latency, summarize_latency, time_calls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.benchmarking.opened import Opened
    from toolkit.benchmarking.steady import WarmUp

__all__ = ["NAME", "SingleStream", "summarize", "take"]

NAME = "single-stream"


@dataclass(frozen=True)
class SingleStream:
    """Latency of one row.

    Attributes:
        latency: of all rounds; warmup counts every call before and between them.
        warm_up_seconds: median time of a round's warm-up.
        steady_rounds: rounds whose warm-up ended because the times stood still.
    """

    latency: Latency
    warm_up_seconds: float
    steady_rounds: int


def take(opened: Opened, calls: int) -> dict[str, Any]:
    """Time some calls; a tenth more come first and are not timed, so that the caches hold this model."""
    before = max(1, calls // 10)
    switches, start = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw, perf_counter_ns()
    samples = time_calls(opened.call, opened.turn, calls=calls, warmup=before)
    return {
        "samples": samples,
        "warmup": before,
        "ns": perf_counter_ns() - start,
        "switches": resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - switches,
    }


def summarize(rounds: Sequence[Sequence[dict[str, Any]]], warm_ups: Sequence[WarmUp]) -> SingleStream:
    """The figures of all rounds.

    Args:
        rounds: the takes of each.
        warm_ups: what came before each.
    """
    samples = [[s for taken in takes for s in taken["samples"]] for takes in rounds]
    discarded = sum(taken["warmup"] for takes in rounds for taken in takes)
    return SingleStream(
        summarize_latency(samples, discarded + sum(warm.calls for warm in warm_ups)),
        statistics.median(warm.seconds for warm in warm_ups),
        sum(warm.steady for warm in warm_ups),
    )
