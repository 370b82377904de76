"""How two sets of probabilities compare, over a whole test set: numbers only, no verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Flip", "Parity", "compare", "confusion_matrix", "margins"]


@dataclass(frozen=True)
class Flip:
    """An image that the exported file labels otherwise than Keras.

    Attributes:
        index: of the image in the test set.
        true_label: what it is.
        keras_label: Keras' answer.
        label: the exported file's answer.
        keras_margin: Keras' highest probability minus its second highest: how sure it was.
        margin: the same for the exported file.
    """

    index: int
    true_label: int
    keras_label: int
    label: int
    keras_margin: float
    margin: float


@dataclass(frozen=True)
class Parity:
    """An exported file beside Keras, over n images.

    Attributes:
        n: images compared.
        not_finite: how many of the file's probabilities are NaN or infinite.
        keras_accuracy: share of images that Keras labels right.
        accuracy: the same for the exported file.
        agreement: share of images that both label alike.
        max_abs: largest absolute difference of a probability.
        mean_abs: mean absolute difference over all probabilities.
        flips: every image that the two label otherwise, in order.
        confusion: the exported file's answers: rows are true classes, columns are its labels.
    """

    n: int
    not_finite: int
    keras_accuracy: float
    accuracy: float
    agreement: float
    max_abs: float
    mean_abs: float
    flips: list[Flip]
    confusion: list[list[int]]

    @property
    def accuracy_drop(self) -> float:
        """Accuracy lost against Keras; negative where the exported file is better."""
        # From counts: the difference of two rounded shares can be a hair above a limit that it meets exactly.
        return (round(self.keras_accuracy * self.n) - round(self.accuracy * self.n)) / self.n


def compare(keras: NDArray[np.float32], exported: NDArray[np.float32], labels: NDArray[np.integer]) -> Parity:
    """Compare two sets of probabilities, both float32 of shape (n, classes), with true labels of shape (n,).

    Values that are no numbers count as a difference of 1 each, so that no statistic can hide them.

    Raises:
        ValueError: the shapes differ, or there are no images.
    """
    if keras.shape != exported.shape or keras.ndim != 2 or len(keras) != len(labels) or len(keras) == 0:
        raise ValueError(
            f"cannot compare probabilities of shapes {keras.shape} and {exported.shape} with {len(labels)} labels"
        )
    finite = np.isfinite(exported)
    difference = np.where(finite, np.abs(keras.astype(np.float64) - exported), 1.0)
    ours, theirs = exported.argmax(axis=1), keras.argmax(axis=1)
    keras_margins, own_margins = margins(keras), margins(np.where(finite, exported, 0))
    flips = [
        Flip(
            int(i),
            int(labels[i]),
            int(theirs[i]),
            int(ours[i]),
            float(keras_margins[i]),
            float(own_margins[i]),
        )
        for i in np.flatnonzero(ours != theirs)
    ]
    return Parity(
        n=len(labels),
        not_finite=int((~finite).sum()),
        keras_accuracy=float((theirs == labels).mean()),
        accuracy=float((ours == labels).mean()),
        agreement=float((ours == theirs).mean()),
        max_abs=float(difference.max()),
        mean_abs=float(difference.mean()),
        flips=flips,
        confusion=confusion_matrix(labels, ours, keras.shape[1]),
    )


def margins(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Highest minus second highest probability of each row."""
    top = np.partition(probabilities, -2, axis=1)
    return top[:, -1] - top[:, -2]


def confusion_matrix(labels: NDArray[np.integer], found: NDArray[np.integer], classes: int) -> list[list[int]]:
    """Counts with true classes as rows and found ones as columns."""
    flat = np.bincount(labels.astype(np.int64) * classes + found, minlength=classes * classes)
    return [[int(count) for count in row] for row in flat.reshape(classes, classes)]
