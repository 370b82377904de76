"""Training recipes as data: a recipe is a row of settings, never a branch in the code."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from toolkit.errors import UsageError

__all__ = ["OPTIMIZERS", "RECIPES", "SCHEDULES", "Recipe"]

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "cosine")

# A slip of the finger must not end in an exhausted machine: two layers of half this many weigh 400 MB.
MAX_NEURONS = 20_000
MAX_EPOCHS, MAX_BATCH = 100_000, 55_000


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a training run does, but the data and the seed.

    Attributes:
        name: what the recipe is called.
        hidden: neurons of each hidden layer, input side first.
        epochs: passes over the training images.
        batch_size: images a step.
        optimizer: "sgd" (plain), "adam" or "adamw".
        learning_rate: at the start.
        schedule: "constant", or "cosine": from there to zero along half a cosine over all steps.
        weight_decay: decoupled decay, for adamw only.
        dropout: share of each hidden layer's outputs that is dropped in training; 0 is none.
        l2: factor of the L2 penalty on the hidden layers' weights; 0 is none.
        early_stopping: epochs without a better validation loss after which training stops and the best epoch's
            weights are taken; 0 is never.
    """

    name: str
    hidden: tuple[int, ...]
    epochs: int
    batch_size: int
    optimizer: str
    learning_rate: float
    schedule: str
    weight_decay: float
    dropout: float
    l2: float
    early_stopping: int

    def __post_init__(self) -> None:
        checks = (
            (
                len(self.hidden) > 0 and min(self.hidden) >= 1,
                "hidden",
                self.hidden,
                "layer sizes of 1 or more",
            ),
            (sum(self.hidden) <= MAX_NEURONS, "hidden", self.hidden, f"{MAX_NEURONS:,} neurons in all at most"),
            (1 <= self.epochs <= MAX_EPOCHS, "epochs", self.epochs, f"1 to {MAX_EPOCHS:,}"),
            (1 <= self.batch_size <= MAX_BATCH, "batch size", self.batch_size, f"1 to {MAX_BATCH:,}"),
            (self.optimizer in OPTIMIZERS, "optimizer", self.optimizer, f"one of {', '.join(OPTIMIZERS)}"),
            (self.schedule in SCHEDULES, "schedule", self.schedule, f"one of {', '.join(SCHEDULES)}"),
            (0 < self.learning_rate < math.inf, "learning rate", self.learning_rate, "more than 0"),
            (0 <= self.weight_decay < math.inf, "weight decay", self.weight_decay, "0 or more"),
            (0 <= self.dropout < 1, "dropout", self.dropout, "at least 0 and less than 1"),
            (0 <= self.l2 < math.inf, "l2", self.l2, "0 or more"),
            (self.early_stopping >= 0, "early stopping", self.early_stopping, "0 or more epochs"),
            (
                self.weight_decay == 0 or self.optimizer == "adamw",
                "weight decay",
                self.weight_decay,
                f"0, since {self.optimizer} has none; choose adamw",
            ),
        )
        for holds, what, found, expected in checks:
            if not holds:
                raise UsageError(f"{what} is {found}, expected {expected}")

    def override(self, **settings: object) -> Recipe:
        """A copy with the given settings; None leaves one as it is. A changed copy is named "custom".

        A weight decay that came with the recipe is dropped with its optimizer.

        Raises:
            UsageError: a setting that makes no sense.
        """
        changed = {k: v for k, v in settings.items() if v is not None}
        if changed.get("optimizer", self.optimizer) != "adamw":
            changed.setdefault("weight_decay", 0.0)
        if all(getattr(self, k) == v for k, v in changed.items()):
            return self
        return dataclasses.replace(self, **{"name": "custom", **changed})  # type: ignore[arg-type]  # checked above


RECIPES = {
    "default": Recipe(
        name="default",
        hidden=(300, 100),
        epochs=40,
        batch_size=256,
        optimizer="adamw",
        learning_rate=2e-3,
        schedule="cosine",
        weight_decay=0.1,
        dropout=0.3,
        l2=0.0,
        early_stopping=0,
    ),
}
