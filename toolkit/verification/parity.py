"""How one output of an exported file compares with Keras', over a whole test set: numbers only, no verdict.

What is compared depends on the output's task:

- "classification", float (n, classes): the label is the greatest value's, of probabilities or of logits;
- "binary", float (n, 1), and "multilabel", float (n, k): each value is a yes from 0.5 on;
- "values", any shape: the values themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.verification.noise import NoiseRatio

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "COLUMNS",
    "DECISIONS",
    "VALUES",
    "DecisionParity",
    "Flip",
    "Parity",
    "ValueParity",
    "compare",
    "compare_decisions",
    "compare_values",
    "confusion_matrix",
    "decisions",
    "margins",
    "scale_of",
]

DECISIONS = ("classification", "binary", "multilabel")
"""Tasks whose answers are decisions."""
VALUES = "values"

COLUMNS = 16
"""Values of shape (n, k) with k up to this are k figures of their own (a temperature and a pressure), and one must not
hide behind another that is a thousand times as large; more of them are one thing (pixels, an embedding)."""


@dataclass(frozen=True)
class Flip:
    """A decision that the exported file makes otherwise than Keras.

    Attributes:
        index: of the row in the test set.
        position: which of the row's labels, for "multilabel"; else None.
        true_label: what it is; None if that is not known.
        keras_label: Keras' answer.
        label: the exported file's answer.
        keras_margin: Keras' highest value minus its second highest: how sure it was. For "binary" and "multilabel" the
            two are the probabilities of yes and of no.
        margin: the same for the exported file.
    """

    index: int
    position: int | None
    true_label: int | None
    keras_label: int
    label: int
    keras_margin: float
    margin: float


@dataclass(frozen=True)
class _Differences:
    """What is counted whatever the task.

    Attributes:
        n: rows compared.
        not_finite: how many of the file's values are NaN or infinite.
        max_abs: largest absolute difference of a value.
        mean_abs: mean absolute difference over all values.
        scaled_max_abs: largest difference as a share of what `scale_of` gives.
        worst_row: the row that it is in.
    """

    n: int
    not_finite: int
    max_abs: float
    mean_abs: float
    scaled_max_abs: float
    worst_row: int


@dataclass(frozen=True)
class DecisionParity(_Differences):
    """An output of classes, or of yes and no, beside Keras'. None where it takes targets and there are none.

    Attributes:
        decisions: how many were compared: one a row, for "multilabel" one a label of each row.
        keras_accuracy: share of decisions that Keras makes right.
        accuracy: the same for the exported file.
        agreement: share of decisions that both make alike.
        flips: every decision that the two make otherwise, in order.
        confusion: the exported file's answers: rows are true classes, columns are its labels; None for "multilabel".
    """

    decisions: int
    keras_accuracy: float | None
    accuracy: float | None
    agreement: float
    flips: list[Flip]
    confusion: list[list[int]] | None

    @property
    def accuracy_drop(self) -> float | None:
        """Accuracy lost against Keras; negative where the exported file is better."""
        if self.keras_accuracy is None or self.accuracy is None:
            return None
        # From counts: the difference of two rounded shares can be a hair above a limit that it meets exactly.
        right = (round(share * self.decisions) for share in (self.keras_accuracy, self.accuracy))
        return (next(right) - next(right)) / self.decisions


@dataclass(frozen=True)
class ValueParity(_Differences):
    """An output of values beside Keras'.

    Relative error is the root relative squared error of numeric prediction (Witten, Frank & Hall, Data Mining, 3rd ed.,
    section 5.8): the root of sum (x - y)^2 / sum (x - mean x)^2, x Keras' values, y the file's, and each position's
    mean taken over the rows. It is the share of what the answers tell (how they differ from row to row) that is error:
    0 is equal, 1 is as far off as one constant answer. The plain mean of |x - y| / |x| would blow up on every value
    near 0, and noise against all of x^2 would make an output of 1000 +- 1 look fine when the 1 is lost.

    Attributes:
        largest: largest |value| of Keras.
        relative_error: as above, over all values. Where Keras' values do not change over the rows, they themselves
            stand for their deviation; where they are all 0, it is 0 if the file's are too, else 1.
        column_errors: the same for each of 2 to `COLUMNS` columns of an output (n, k); None for other outputs.
        sqnr_db: signal to noise ratio in dB, 10 log10(sum x^2 / sum (x - y)^2).
    """

    largest: float
    relative_error: float
    column_errors: list[float] | None
    sqnr_db: float

    @property
    def worst_relative_error(self) -> float:
        """The one that is judged: the worst column's, where columns are looked at one by one."""
        return max(self.column_errors) if self.column_errors else self.relative_error


Parity = DecisionParity | ValueParity


def compare(
    task: str, keras: NDArray[Any], exported: NDArray[Any], targets: NDArray[Any] | None = None
) -> DecisionParity | ValueParity:
    """Compare an exported file's output with Keras', by its task; see `compare_decisions` and `compare_values`."""
    return compare_values(keras, exported) if task == VALUES else compare_decisions(task, keras, exported, targets)


def compare_decisions(
    task: str, keras: NDArray[Any], exported: NDArray[Any], targets: NDArray[Any] | None = None
) -> DecisionParity:
    """Compare an output of decisions with Keras'.

    Values that are no numbers count as a difference as large as the values, so that no statistic can hide them.

    Args:
        task: "classification", "binary" or "multilabel".
        keras: Keras' answers; numbers all of them, of shape (n, classes), or (n, k) of yes and no.
        exported: the file's, of the same shape.
        targets: integer classes of shape (n,) for "classification", else 0 or 1 of shape (n,) or (n, k); None if they
            are not known.

    Raises:
        ValueError: the shapes differ or do not suit the task, or there are no rows.
    """
    fits = _fit(keras, exported) and task in DECISIONS
    if task == "classification":
        fits = fits and keras.ndim == 2 and (targets is None or targets.shape == keras.shape[:1])
    else:
        fits = fits and keras.ndim <= 2 and (targets is None or targets.size == keras.size)
    if not fits:
        known = "no targets" if targets is None else f"targets of shape {targets.shape}"
        raise ValueError(f"cannot compare answers of shapes {keras.shape} and {exported.shape} ({task}) with {known}")
    finite, _, common = _differences(task, keras, exported)
    figures = _decision_figures(task, keras, np.where(finite, exported, 0), exported, targets)
    return DecisionParity(**common, **figures)


def compare_values(keras: NDArray[Any], exported: NDArray[Any]) -> ValueParity:
    """Compare an output of values with Keras'; both (n, ...), Keras' all numbers. NaN counts as for decisions.

    Raises:
        ValueError: the shapes differ, or there are no rows.
    """
    if not _fit(keras, exported):
        raise ValueError(f"cannot compare values of shapes {keras.shape} and {exported.shape}")
    _, difference, common = _differences(VALUES, keras, exported)
    return ValueParity(**common, **_value_figures(keras.astype(np.float64), difference))


def _fit(keras: NDArray[Any], exported: NDArray[Any]) -> bool:
    return keras.shape == exported.shape and keras.size > 0


def _differences(
    task: str, keras: NDArray[Any], exported: NDArray[Any]
) -> tuple[NDArray[np.bool_], NDArray[np.float64], dict[str, Any]]:
    finite = np.isfinite(exported)
    scale = scale_of(task, keras)
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.where(finite, np.abs(keras.astype(np.float64) - exported), scale)
        scaled = difference / scale
    return (
        finite,
        difference,
        {
            "n": len(keras),
            "not_finite": int((~finite).sum()),
            "max_abs": float(difference.max()),
            "mean_abs": float(difference.mean()),
            "scaled_max_abs": float(scaled.max()),
            "worst_row": int(scaled.reshape(len(scaled), -1).max(axis=1).argmax()),
        },
    )


def scale_of(task: str, keras: NDArray[Any]) -> NDArray[np.float64]:
    """What differences of an output are taken relative to: an array that divides it.

    Probabilities and logits: 1, or the largest |logit| if that is more. Values have units, and may be of any size: the
    largest |value|, for each column of its own where there are 2 to `COLUMNS`; 1 where all are 0.
    """
    sizes = np.abs(keras.astype(np.float64))
    if task != VALUES:
        return np.array(max(1.0, sizes.max(initial=0)))
    largest = sizes.max(axis=0) if _by_column(keras) else np.array(sizes.max())
    return np.where(largest > 0, largest, 1.0)


def _by_column(keras: NDArray[Any]) -> bool:
    return keras.ndim == 2 and 2 <= keras.shape[1] <= COLUMNS


def _value_figures(exact: NDArray[np.float64], difference: NDArray[np.float64]) -> dict[str, Any]:
    ratio = NoiseRatio()
    ratio.add(exact, exact + difference)
    by_column = _by_column(exact)
    return {
        "largest": float(np.abs(exact).max()),
        "relative_error": _relative_error(exact, difference),
        "column_errors": [
            _relative_error(exact[:, [column]], difference[:, [column]]) for column in range(exact.shape[1])
        ]
        if by_column
        else None,
        "sqnr_db": ratio.db,
    }


def _relative_error(exact: NDArray[np.float64], difference: NDArray[np.float64]) -> float:
    size = float(np.sqrt(np.square(exact).mean()))
    error = float(np.sqrt(np.square(difference).mean()))
    spread = float(np.sqrt(np.square(exact - exact.mean(axis=0)).mean()))
    if spread <= 1e-6 * size:  # what float32 itself rounds: the answers are one constant
        spread = size
    return error / spread if spread else float(error > 0)


def decisions(task: str, answers: NDArray[Any]) -> NDArray[np.int64]:
    """What an output decides: int64 of shape (n, 1), or (n, k) for "multilabel"."""
    found: NDArray[Any]
    found = answers.argmax(axis=1)[:, None] if task == "classification" else answers.reshape(len(answers), -1) >= 0.5
    return found.astype(np.int64)


def margins(task: str, answers: NDArray[Any]) -> NDArray[Any]:
    """How sure each decision is (see `Flip`), of the shape that `decisions` has."""
    if task != "classification":
        sure: NDArray[Any] = np.abs(2 * answers.reshape(len(answers), -1) - 1)
        return sure
    top = np.partition(answers, -2, axis=1)
    return np.asarray(top[:, -1] - top[:, -2])[:, None]


def _decision_figures(
    task: str, keras: NDArray[Any], numbers: NDArray[Any], exported: NDArray[Any], targets: NDArray[Any] | None
) -> dict[str, Any]:
    theirs, ours = decisions(task, keras), decisions(task, exported)
    right = None if targets is None else targets.astype(np.int64).reshape(theirs.shape)
    keras_margins, own_margins = margins(task, keras), margins(task, numbers)
    flips = [
        Flip(
            int(i),
            int(j) if task == "multilabel" else None,
            None if right is None else int(right[i, j]),
            int(theirs[i, j]),
            int(ours[i, j]),
            float(keras_margins[i, j]),
            float(own_margins[i, j]),
        )
        for i, j in np.argwhere(ours != theirs)
    ]
    classes = keras.shape[1] if task == "classification" else 2
    return {
        "decisions": theirs.size,
        "keras_accuracy": None if right is None else float((theirs == right).mean()),
        "accuracy": None if right is None else float((ours == right).mean()),
        "agreement": float((ours == theirs).mean()),
        "flips": flips,
        "confusion": None if right is None or task == "multilabel" else confusion_matrix(right, ours, classes),
    }


def confusion_matrix(labels: NDArray[np.integer], found: NDArray[np.integer], classes: int) -> list[list[int]]:
    """Counts with true classes as rows and found ones as columns."""
    flat = np.bincount(labels.reshape(-1).astype(np.int64) * classes + found.reshape(-1), minlength=classes * classes)
    return [[int(count) for count in row] for row in flat.reshape(classes, classes)]
