"""CPU time of one row: what it costs of the cores, whatever else they did meanwhile."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from time import process_time_ns, thread_time_ns
from typing import TYPE_CHECKING, Any

from toolkit.benchmarking.rounds import spread_of_medians

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.benchmarking.opened import Opened

__all__ = ["NAME", "CpuTime", "summarize", "take"]

NAME = "cpu-time"


@dataclass(frozen=True)
class CpuTime:
    """CPU time of a call, over many calls without a look at the clock between them.

    Attributes:
        process_ns: of all threads of the process; median of the rounds.
        thread_ns: of the calling thread alone.
        spread: of the rounds, (max - min) / median.
        calls: in a round.
        process_rounds_ns: of every round.
    """

    process_ns: float
    thread_ns: float
    spread: float
    calls: int
    process_rounds_ns: tuple[float, ...]


def take(opened: Opened, calls: int) -> dict[str, Any]:
    """CPU time of some calls."""
    call, turn = opened.call, opened.turn
    rows = [turn[i % len(turn)] for i in range(calls)]
    for row in rows[: max(1, calls // 10)]:
        call(row)
    process, thread = process_time_ns(), thread_time_ns()
    for row in rows:
        call(row)
    return {"calls": calls, "thread_ns": thread_time_ns() - thread, "process_ns": process_time_ns() - process}


def summarize(rounds: Sequence[Sequence[dict[str, Any]]]) -> CpuTime:
    """The figures of all rounds."""
    takes = [taken for round_ in rounds for taken in round_]
    found = tuple(taken["process_ns"] / taken["calls"] for taken in takes)
    return CpuTime(
        process_ns=statistics.median(found),
        thread_ns=statistics.median(taken["thread_ns"] / taken["calls"] for taken in takes),
        spread=spread_of_medians([[round(ns)] for ns in found]),
        calls=takes[0]["calls"],
        process_rounds_ns=found,
    )
