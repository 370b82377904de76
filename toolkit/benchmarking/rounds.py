"""Interleaved rounds: every figure is taken once in each, so that all meet the same drift of the machine."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from toolkit.errors import ToolkitError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from toolkit.progress import Step

__all__ = ["Measurement", "NOISE_BOUND", "ratio_interval", "run_rounds", "spread_of_medians"]

NOISE_BOUND = 0.10
"""A spread above this is noisy: pyperf's bound for an unstable result, 10 %, applied to the rounds' medians."""

T = TypeVar("T")


class Measurement(Generic[T]):
    """Something to measure once a round.

    Attributes:
        results: one value a round, in order.
        discarded: the values of the warm-up round.
    """

    def __init__(self, measure: Callable[[], T]) -> None:
        self.results: list[T] = []
        self.discarded: list[T] = []
        self.measure = measure


def run_rounds(measurements: Sequence[Measurement[Any]], rounds: int, step: Step) -> None:
    """Take every measurement once a round, after one whole round that is discarded as warm-up.

    Every other round runs backwards, so that none always follows the same one.

    Args:
        measurements: their ``results`` are filled.
        rounds: rounds to keep.
        step: told of the progress.
    """
    total, done = len(measurements) * (rounds + 1), 0
    for index in range(rounds + 1):
        for measurement in measurements if index % 2 else reversed(measurements):
            step(done, total, "measuring" if index else "warm-up")
            (measurement.results if index else measurement.discarded).append(measurement.measure())
            done += 1
    step(done, total, "measuring")


def spread_of_medians(rounds: Sequence[Sequence[int]]) -> float:
    """How far the rounds' medians lie apart: (max - min) / their median; 0 is perfectly quiet.

    Raises:
        ToolkitError: the clock is too coarse to tell the samples from nothing.
    """
    medians = [statistics.median(samples) for samples in rounds]
    middle = statistics.median(medians)
    if middle <= 0:
        raise ToolkitError(
            "the clock of this machine is too coarse: half of the calls took 0 ns, expected more; "
            "measure on a machine with a finer clock"
        )
    return float((max(medians) - min(medians)) / middle)


def ratio_interval(
    times: Sequence[float], base: Sequence[float], *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """How sure the ratio of two measurements is that were taken in the same rounds.

    Each round gives one ratio, so what disturbed the machine during a round is in both of its times. The interval is
    the percentile bootstrap's of the median ratio (Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13).

    Args:
        times: one time a round, two rounds or more.
        base: the same of what it is compared with, in the same order and unit.
        confidence: share of such intervals that hold the true ratio.
        resamples: how often the rounds are drawn again.
        seed: of the drawing.

    Returns:
        Lower and upper end of the ratio times / base.

    Raises:
        ValueError: other numbers of rounds, or a time of 0.
    """
    ratios = np.asarray(times, np.float64) / np.asarray(base, np.float64)
    if len(times) != len(base) or len(times) < 2 or not np.isfinite(ratios).all():
        raise ValueError(f"no ratio of {len(times)} and {len(base)} rounds; expected as many, 2 or more, none of 0 ns")
    drawn = np.random.default_rng(seed).integers(0, len(ratios), (resamples, len(ratios)))
    medians = np.median(ratios[drawn], axis=1)
    low, high = np.percentile(medians, [50 * (1 - confidence), 50 * (1 + confidence)])
    return float(low), float(high)
