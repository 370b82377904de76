"""What the parts share: how much is measured, and what a figure is held against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["FOLDER", "FULL", "LEAST", "LITERT", "LONE", "NATIVE", "NUMPY", "QUICK", "Plan", "ratio_target", "target"]

LEAST, FOLDER, LONE = "least script", "predictor, folder", "predictor, lone file"
NATIVE, LITERT, NUMPY = "predictor, native", "least script, LiteRT", "numpy alone"
"""Kinds of fresh processes."""


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        rounds: interleaved rounds of everything that is timed in calls; one more comes first and is discarded.
        calls: calls of each way in a round.
        steady_calls: calls between two readings of memory.
        traced_calls: the same while every allocation is recorded.
        batches, largest_batch: batches of random sizes from 1 to the largest.
        images: rows that each of 8 threads classifies.
        starts: fresh processes of each kind.
        idle_seconds: how long processes are left alone.
        paced_calls: calls with a pause of 10 ms after each.
        openings: how often a session is opened in a round.
    """

    rounds: int
    calls: int
    steady_calls: int
    traced_calls: int
    batches: int
    largest_batch: int
    images: int
    starts: int
    idle_seconds: float
    paced_calls: int
    openings: int


FULL = Plan(31, 1000, 100_000, 100_000, 10_000, 600, 10_000, 41, 10.0, 200, 3)
QUICK = Plan(5, 300, 20_000, 5_000, 500, 600, 1_000, 5, 1.0, 50, 1)


def target(what: str, got: float, most: float, unit: str = "") -> dict[str, Any]:
    """One figure beside what it may be at most."""
    return {"what": what, "got": got, "most": most, "unit": unit, "met": bool(got <= most)}


def ratio_target(what: str, found: dict[str, float], most: float) -> dict[str, Any]:
    """The same for a `ratio`, which is met if the ratio itself is; its interval stands beside it."""
    return {**target(what, found["ratio"], most), "low": found["low"], "high": found["high"]}
