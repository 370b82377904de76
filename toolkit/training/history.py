"""What is told of each epoch while it runs, and read from history.csv afterwards."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.errors import DivergedError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Epoch", "OnEpoch", "check_finite", "read_history"]


@dataclass(frozen=True)
class Epoch:
    """The figures of one epoch; training figures are Keras' running averages over it.

    Attributes:
        number: from 1.
        epochs: how many there are at most.
        loss, accuracy: on training data, augmented as the recipe says; the loss is what is minimized.
        validation_loss, validation_accuracy: on the validation images as they are; the loss is the label's.
        network: what is trained, such as "teacher 1 of 2"; "" for the model itself.
    """

    number: int
    epochs: int
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float
    network: str = ""

    @classmethod
    def of(cls, index: int, epochs: int, logs: Mapping[str, float], network: str = "") -> Epoch:
        """From what Keras tells a callback: the epoch's number from 0, and its figures."""
        figures = (logs["loss"], logs["accuracy"], logs["val_loss"], logs["val_accuracy"])
        return cls(index + 1, epochs, *figures, network=network)


OnEpoch = Callable[[Epoch], None]


def read_history(path: Path) -> list[dict[str, float]]:
    """The rows of a history.csv, one an epoch."""
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def check_finite(row: dict[str, float], epoch: int, learning_rate: float, network: str = "training") -> None:
    """Raises DivergedError if an epoch's losses are no numbers."""
    if not all(math.isfinite(row[name]) for name in ("loss", "val_loss")):
        raise DivergedError(
            f"{network} diverged: the loss is no number after epoch {epoch}; lower the learning rate (it was "
            f"{learning_rate})"
        )
