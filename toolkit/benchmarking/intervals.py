"""How sure a ratio of two measurements is: bootstrap intervals over rounds, and what may be said of them.

A ratio is new / old of times, so above 1 is slower. It is the 30 % trimmed mean over the rounds, in logarithms: nearly
as sharp as a mean where noise is well-behaved, and three of ten rounds may be disturbed at either end. The interval is
the percentile bootstrap's, which suits trimmed means (R. Wilcox, Introduction to Robust Estimation and Hypothesis
Testing, 4.4), with the wider percentiles that few rounds need (T. Hesterberg, What Teachers Should Know About the
Bootstrap, 2014, 5.3). It covers 99 %, so that a false alarm is rare: one comparison in a hundred.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["CONFIDENCE", "FASTER", "NO_DIFFERENCE", "Ratio", "SLOWER", "TOO_FEW", "paired_ratio", "unpaired_ratio"]

CONFIDENCE = 0.99

_TRIM, _RESAMPLES, _FEW = 0.3, 4000, 8
_SURE = 0.95  # what is less sure is no verdict
FASTER, SLOWER, NO_DIFFERENCE, TOO_FEW = "faster", "slower", "no difference", "too few rounds"


@dataclass(frozen=True)
class Ratio:
    """A ratio of times, new / old, with its interval.

    Attributes:
        ratio: above 1 is slower.
        low, high: ends of the interval.
        confidence: share of such intervals that hold the true ratio; less than `CONFIDENCE` where there are too few
            rounds for more, 0 with one.
        rounds: from which it was taken; of two runs, the smaller number.
    """

    ratio: float
    low: float
    high: float
    confidence: float
    rounds: int

    @property
    def verdict(self) -> str:
        """What the interval allows to say: "faster", "slower", "no difference", or "too few rounds"."""
        if self.confidence < _SURE:
            return TOO_FEW
        return SLOWER if self.low > 1 else FASTER if self.high < 1 else NO_DIFFERENCE

    def to_json(self) -> dict[str, Any]:
        """Plain values, the verdict among them."""
        return {
            "ratio": self.ratio,
            "low": self.low,
            "high": self.high,
            "confidence": self.confidence,
            "rounds": self.rounds,
            "verdict": self.verdict,
        }


def paired_ratio(new: Sequence[float], old: Sequence[float], *, seed: int = 0) -> Ratio:
    """The ratio of two things that were measured in the same rounds, so that each round gives one ratio.

    Args:
        new: one time a round.
        old: the same of the other, in the same order and unit; what one has more is left out.
        seed: of the resampling.

    Raises:
        ValueError: no round, or a time that is not above 0.
    """
    count = min(len(new), len(old))
    logs = _logs(new[:count]) - _logs(old[:count])
    middle = float(_trimmed(logs))
    if count < _FEW:
        # All ratios are within their own range, which holds the true median with this probability (the sign test's).
        low, high = float(logs.min()), float(logs.max())
        return Ratio(math.exp(middle), math.exp(low), math.exp(high), 1 - 2.0 ** (1 - count), count)
    drawn = np.random.default_rng(seed).integers(0, count, (_RESAMPLES, count))
    low, high = _percentiles(_trimmed(logs[drawn]), count)
    return Ratio(math.exp(middle), math.exp(min(low, middle)), math.exp(max(high, middle)), CONFIDENCE, count)


def unpaired_ratio(new: Sequence[float], old: Sequence[float], *, drift: float = 1.0, seed: int = 0) -> Ratio:
    """The ratio of two things that were measured in runs of their own.

    Args:
        new: one time a round.
        old: the same of the other.
        drift: how much slower the machine itself was in the new run. Models feel that up to about twice, so the
            interval is widened to hold the ratio without it, with it, and with it twice.
        seed: of the resampling.

    Raises:
        ValueError: no round, or a time that is not above 0.
    """
    first, second = _logs(new), _logs(old)
    count = min(len(first), len(second))
    middle = float(_trimmed(first) - _trimmed(second))
    generator = np.random.default_rng(seed)
    if count < _FEW:
        low, high = float(first.min() - second.max()), float(first.max() - second.min())
        confidence = 1 - 2.0 ** (1 - count)
    else:
        means = [_trimmed(a[generator.integers(0, len(a), (_RESAMPLES, len(a)))]) for a in (first, second)]
        low, high = _percentiles(means[0] - means[1], count)
        confidence = CONFIDENCE
    moved = [-times * math.log(drift) for times in (0, 2)]
    low, high = min(low, middle) + min(moved), max(high, middle) + max(moved)
    return Ratio(math.exp(middle), math.exp(low), math.exp(high), confidence, count)


def _logs(times: Sequence[float]) -> NDArray[np.float64]:
    values = np.asarray(times, np.float64)
    if not len(values) or not (values > 0).all():
        raise ValueError(f"no ratio of {len(values)} rounds; expected one or more, each above 0 ns")
    return np.log(values)


def _trimmed(values: NDArray[np.float64]) -> Any:
    """The mean of the last axis without its lowest and highest `_TRIM`."""
    cut = int(_TRIM * values.shape[-1])
    return np.sort(values, axis=-1)[..., cut : values.shape[-1] - cut].mean(axis=-1)


def _percentiles(means: NDArray[np.float64], count: int) -> tuple[float, float]:
    normal = NormalDist()
    tail = normal.cdf(math.sqrt(count / (count - 1)) * _student((1 - CONFIDENCE) / 2, count - 1))
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _student(p: float, freedom: int) -> float:
    """Student's quantile, from the normal one (Abramowitz and Stegun, 26.7.5)."""
    z = NormalDist().inv_cdf(p)
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
