"""Figures of a classifier's answers beside what is right: numbers only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["BINS", "Calibration", "CalibrationBin", "ClassFigures", "calibrate", "figures_by_class"]

BINS = 15
"""Of the calibration curve, equally wide (Guo et al. 2017, On Calibration of Modern Neural Networks)."""


@dataclass(frozen=True)
class ClassFigures:
    """How one class fares. A share of nothing is None.

    Attributes:
        name: of the class.
        rows: that are of it.
        precision: share of the rows said to be of it that are.
        recall: share of its rows that are said to be of it.
        f1: harmonic mean of the two.
    """

    name: str
    rows: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class CalibrationBin:
    """Rows whose confidence is above `low` and at most `high`: how many, their mean confidence, the share right."""

    low: float
    high: float
    rows: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """How well a file's confidence tells how often it is right.

    Attributes:
        file: that gave the answers.
        bins: of equal width, over 0 to 1.
        ece: expected calibration error: the mean of |confidence - accuracy| of the bins, weighted by their rows.
    """

    file: str
    bins: tuple[CalibrationBin, ...]
    ece: float


def figures_by_class(names: Sequence[str], confusion: Sequence[Sequence[int]]) -> tuple[ClassFigures, ...]:
    """Precision, recall and F1.

    Args:
        names: one a class.
        confusion: counts; rows are true classes, columns what was said.
    """
    counts = np.asarray(confusion, np.int64)
    found = []
    for at, name in enumerate(names):
        right, said, there = int(counts[at, at]), int(counts[:, at].sum()), int(counts[at].sum())
        # 2 TP / (2 TP + FP + FN), which is the harmonic mean wherever that is defined.
        f1 = 2 * right / (said + there) if said + there else None
        found.append(ClassFigures(name, there, right / said if said else None, right / there if there else None, f1))
    return tuple(found)


def calibrate(file: str, confidences: NDArray[np.floating], right: NDArray[np.bool_]) -> Calibration:
    """The calibration curve.

    Args:
        file: that gave the answers.
        confidences: probability of each row's answer, 0 to 1, shape (n,).
        right: whether it is so, shape (n,).
    """
    sure = confidences.astype(np.float64)
    places = np.clip(np.ceil(sure * BINS).astype(np.int64) - 1, 0, BINS - 1)
    bins, gap = [], 0.0
    for at in range(BINS):
        inside = places == at
        rows = int(inside.sum())
        mean, accuracy = (float(sure[inside].mean()), float(right[inside].mean())) if rows else (None, None)
        bins.append(CalibrationBin(at / BINS, (at + 1) / BINS, rows, mean, accuracy))
        if mean is not None and accuracy is not None:
            gap += rows * abs(mean - accuracy)
    return Calibration(file, tuple(bins), gap / len(sure))
