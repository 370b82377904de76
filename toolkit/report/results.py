"""What the files say to the test rows, beside what is right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toolkit.errors import InputError, ModelError
from toolkit.predictor import Predictor, RuntimeSettings, model_files
from toolkit.report.measures import Calibration, ClassFigures, calibrate, figures_by_class
from toolkit.report.parts import Missing, not_exported
from toolkit.verification.parity import confusion_matrix, decisions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from toolkit.artifact import Manifest
    from toolkit.predictor import PredictionBatch
    from toolkit.progress import Step
    from toolkit.report.rows import KnownRows

__all__ = ["Answers", "Mistake", "ResultFacts", "ask", "judge_answers"]

MISTAKES = 24
"""Shown, of those that the model is surest of."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What one file says to the test rows.

    Attributes:
        file, kind: which file.
        class_names: one a class; numbers, or no and yes, where nobody named them.
        labels: int64 (n,).
        probabilities: float32 (n, classes); of a binary output those of no and yes.
    """

    file: str
    kind: str
    class_names: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    @property
    def confidences(self) -> NDArray[np.float32]:
        """Probability of each row's label, (n,)."""
        return np.asarray(np.take_along_axis(self.probabilities, self.labels[:, None], axis=1)[:, 0], np.float32)


@dataclass(frozen=True)
class Mistake:
    """A row that is of one class and said to be of another, with the probability given to that."""

    row: int
    true: int
    found: int
    confidence: float


@dataclass(frozen=True)
class ResultFacts:
    """What one file makes of the test rows, beside what is right.

    Attributes:
        file, kind: the one that a predictor opens by default.
        rows: how many.
        accuracy: share of them that it says right.
        class_names: one a class.
        confusion: rows are true classes, columns what the file says.
        classes: one entry a class.
        mistakes: those that it is surest of, surest first.
        mistakes_in_all: how many there are.
        calibration: one entry a file, this one first.
    """

    file: str
    kind: str
    rows: int
    accuracy: float
    class_names: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    classes: tuple[ClassFigures, ...]
    mistakes: tuple[Mistake, ...]
    mistakes_in_all: int
    calibration: tuple[Calibration, ...]


def ask(folder: Path, manifest: Manifest, rows: KnownRows | Missing, step: Step) -> list[Answers]:
    """The answers of every exported file that is a classifier, as a device would get them, the default file first.

    Args:
        folder: the artifact.
        manifest: of the artifact.
        rows: what to ask; none are asked where they are missing.
        step: told of each file.

    Raises:
        ModelError, CorruptArtifactError: a file cannot be opened, or does not take the rows.
    """
    if isinstance(rows, Missing) or not any(name.endswith(".onnx") for name in manifest.files):
        return []
    found = []
    files = model_files(folder)
    for at, file in enumerate(files):
        # The defaults, whatever a benchmark left: a report is to be the same on every machine.
        predictor = Predictor(folder, kind=file.kind, settings=RuntimeSettings())
        if predictor.classes is None:
            continue
        step(at, len(files), f"asking {file.kind}")
        try:
            said = predictor.predict_batch(dict(rows.inputs))
        except InputError as error:
            raise ModelError(f"{file.path} does not take the test rows ({error}); give others with --test") from error
        found.append(_answers(predictor, said, rows))
    return found


def _answers(predictor: Predictor, said: PredictionBatch, rows: KnownRows) -> Answers:
    """Labels and probabilities, also where nobody named the classes and the predictor gives its outputs alone."""
    name = predictor.output_names[0]
    values, binary = said.outputs[name], predictor.task_of[name] == "binary"
    if said.labels is not None:
        labels, shares = said.labels, said.probabilities
    elif binary:
        labels, yes = decisions("binary", values)[:, 0], values.reshape(-1, 1)
        shares = np.concatenate([1 - yes, yes], axis=1)
    else:
        labels, shares = decisions("classification", values)[:, 0], values
        if shares.min() < 0 or not np.allclose(shares.sum(axis=1), 1, atol=1e-3):  # logits
            powers = np.exp(shares - shares.max(axis=1, keepdims=True))
            shares = powers / powers.sum(axis=1, keepdims=True)
    unnamed = ("no", "yes") if binary else tuple(f"class {label}" for label in range(shares.shape[1]))
    names = predictor.class_names or rows.class_names or unnamed
    file = predictor.file.path.rpartition("/")[2]
    return Answers(file, predictor.file.kind, tuple(names), np.asarray(labels, np.int64), shares.astype(np.float32))


def judge_answers(
    manifest: Manifest, place: str, rows: KnownRows | Missing, answers: Sequence[Answers]
) -> ResultFacts | Missing:
    """The answers beside what is right.

    Args:
        manifest: of the artifact.
        place: how commands call it.
        rows: that were asked.
        answers: to these.
    """
    if not any(name.endswith(".onnx") for name in manifest.files):
        return not_exported(place)
    if isinstance(rows, Missing):
        return rows
    if not answers:
        return Missing("The files give no classes, so there are no labels to count.")
    if rows.labels is None:
        return Missing(
            f"{rows.source} holds no right answers, so no answer can be counted as right or wrong.",
            f"toolkit report {place} --test FILE",
        )
    said = answers[0]
    names = said.class_names
    right = said.labels == rows.labels
    wrong = np.flatnonzero(~right)
    sure = said.confidences
    surest = wrong[np.argsort(-sure[wrong], kind="stable")][:MISTAKES]
    confusion = confusion_matrix(rows.labels, said.labels, len(names))
    return ResultFacts(
        file=said.file,
        kind=said.kind,
        rows=rows.count,
        accuracy=float(right.mean()),
        class_names=names,
        confusion=tuple(map(tuple, confusion)),
        classes=figures_by_class(names, confusion),
        mistakes=tuple(
            Mistake(int(row), int(rows.labels[row]), int(said.labels[row]), float(sure[row])) for row in surest
        ),
        mistakes_in_all=len(wrong),
        calibration=tuple(calibrate(each.file, each.confidences, each.labels == rows.labels) for each in answers),
    )
