"""What the parts share: how much is measured, how figures and ratios are taken, where things are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.benchmarking.rounds import ratio_interval, spread_of_medians

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "FULL",
    "QUICK",
    "REFERENCE",
    "ROOT",
    "Plan",
    "clean_environment",
    "figures",
    "note",
    "ratio",
    "ratio_target",
    "target",
]

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "exported" / "fashion-mnist"


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


def figures(rounds: Sequence[Sequence[int]]) -> dict[str, float]:
    """Percentiles of all samples (ns) of some rounds in us, and how far the rounds' medians lie apart."""
    p50, p90, p99 = np.percentile(np.concatenate([np.asarray(r) for r in rounds]), [50, 90, 99]) / 1000
    return {"p50_us": float(p50), "p90_us": float(p90), "p99_us": float(p99), "spread": spread_of_medians(rounds)}


def ratio(times: Sequence[Any], base: Sequence[Any]) -> dict[str, float]:
    """The median over the rounds of a ratio, and its 95 % interval.

    Args:
        times: of each round a time, or samples whose median is taken.
        base: the same of what it is compared with, in the same rounds.
    """
    ours, theirs = ([float(np.median(entry)) for entry in column] for column in (times, base))
    low, high = ratio_interval(ours, theirs)
    return {"ratio": float(np.median(np.divide(ours, theirs))), "low": low, "high": high}


def target(what: str, got: float, most: float, unit: str = "") -> dict[str, Any]:
    """One figure beside what it may be at most."""
    return {"what": what, "got": got, "most": most, "unit": unit, "met": bool(got <= most)}


def ratio_target(what: str, found: dict[str, float], most: float) -> dict[str, Any]:
    """The same for a `ratio`, which is met if the ratio itself is; its interval stands beside it."""
    return {**target(what, found["ratio"], most), "low": found["low"], "high": found["high"]}


def clean_environment() -> dict[str, str]:
    """This process's environment, but with bytecode cached and no packages of elsewhere, as on a device."""
    drop = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {key: value for key, value in os.environ.items() if key not in drop}


def note(text: str) -> None:
    """Tell what is being done."""
    print(f"... {text}", flush=True)
