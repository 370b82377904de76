"""The course of a training: history.csv, and the epoch from which on the model overfits."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolkit.artifact import HISTORY
from toolkit.errors import CorruptArtifactError
from toolkit.report.parts import Missing, train_again

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from toolkit.artifact import Manifest

__all__ = ["RISE", "TrainingFacts", "find_training"]

RISE = 0.01
"""How far the last validation loss must lie above the least one, as a share of it, for the model to overfit: on 5,000
images the loss moves by less than that from epoch to epoch once training has settled."""

_NEEDED = ("epoch", "loss", "val_loss")

Course = tuple[float | None, ...]


@dataclass(frozen=True)
class TrainingFacts:
    """The course of a training, one entry an epoch. None stands for what is no number.

    Attributes:
        epochs: numbers, from 1.
        accuracy, loss: on the training images, as Keras' running average over the epoch; accuracy is empty where it
            was not written down.
        val_accuracy, val_loss: on the validation images, after the epoch; likewise.
        learning_rate: of each epoch; empty where it is not known.
        recorded: the learning rate was written down epoch by epoch; else it is the recipe's constant one.
        best_epoch: the one of the least validation loss (the first of several), before a finish in 4 bits.
        rise: by how much the last validation loss before a finish lies above the least one, as a share of that.
        overfits_from: `best_epoch`, if the rise is `RISE` or more; else None.
        finish: how many of the last epochs trained with weights rounded to 4 bits, whose losses are of another network.
    """

    epochs: tuple[int, ...]
    accuracy: Course
    loss: Course
    val_accuracy: Course
    val_loss: Course
    learning_rate: Course
    recorded: bool
    best_epoch: int
    rise: float
    overfits_from: int | None
    finish: int = 0


def find_training(folder: Path, manifest: Manifest, place: str) -> TrainingFacts | Missing:
    """The course of an artifact's training.

    Args:
        folder: the artifact, its files checked.
        manifest: of the artifact.
        place: how commands call it.

    Raises:
        CorruptArtifactError: history.csv is not what `toolkit train` writes.
    """
    if HISTORY not in manifest.files:
        if manifest.training is None:
            return Missing(f"There is no {HISTORY}, which only models have that this toolkit trained.")
        return Missing(f"There is no {HISTORY}, which training writes.", train_again(manifest, place))
    columns = _read(folder / HISTORY)
    finish = manifest.training.quantization_epochs if manifest.training is not None else 0
    in_float = columns["val_loss"][: max(len(columns["val_loss"]) - finish, 0)]
    losses = [(value, at) for at, value in enumerate(in_float) if value is not None]
    if not losses:
        return Missing(f"{HISTORY} holds no validation loss that is a number.", train_again(manifest, place))
    least, best = min(losses)
    rise = losses[-1][0] / least - 1 if least > 0 else 0.0
    count = len(columns["epoch"])
    rates, recorded = columns.get("learning_rate", ()), "learning_rate" in columns
    if not recorded and manifest.training is not None:
        rates = _constant(manifest.training.recipe, count)
    return TrainingFacts(
        epochs=tuple(range(1, count + 1)),
        accuracy=columns.get("accuracy", ()),
        loss=columns["loss"],
        val_accuracy=columns.get("val_accuracy", ()),
        val_loss=columns["val_loss"],
        learning_rate=rates,
        recorded=recorded,
        best_epoch=best + 1,
        rise=rise,
        overfits_from=best + 1 if rise >= RISE else None,
        finish=finish,
    )


def _read(path: Path) -> dict[str, Course]:
    """The columns by name."""
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
        names, rows = lines[0], [line for line in lines[1:] if line]
        columns = {name: _numbers([row[at] for row in rows]) for at, name in enumerate(names)}
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise CorruptArtifactError(f"{path} is no table of numbers ({error}); train or copy the model again") from error
    if missing := [name for name in _NEEDED if not columns.get(name)]:
        raise CorruptArtifactError(
            f"{path} has the columns {', '.join(names) or 'none'}, expected {', '.join(missing)} with a row for each "
            "epoch too; train or copy the model again"
        )
    return columns


def _numbers(cells: Sequence[str]) -> Course:
    values = (float(cell) if cell else math.nan for cell in cells)
    return tuple(value if math.isfinite(value) else None for value in values)


def _constant(recipe: Mapping[str, Any], count: int) -> Course:
    """The recipe's learning rate for each epoch, where it does not change."""
    rate = recipe.get("learning_rate")
    if recipe.get("schedule") != "constant" or not isinstance(rate, int | float):
        return ()
    return (float(rate),) * count
