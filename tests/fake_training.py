"""Training that is only told: accuracies follow from the recipe at once, so that a sweep itself can be looked at.

    python -m tests.fake_training STORAGE TRIALS SECONDS

is one process of a sweep whose epochs take so many seconds each.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.data import FashionMnist
from toolkit.errors import DivergedError
from toolkit.sweeping.spaces import parse_spaces
from toolkit.sweeping.sweep import Listener, SweepSettings, sweep
from toolkit.training.history import Epoch
from toolkit.training.recipes import Recipe

if TYPE_CHECKING:
    from toolkit.sweeping.report import SweepReport
    from toolkit.training.history import OnEpoch

PLAIN = Recipe(name="plain", hidden=(16,), epochs=8, batch_size=256, optimizer="sgd", learning_rate=0.01)
SPACES = ("learning_rate=log:1e-6..1", "dropout=0..0.5", "hidden=16|8,8")


def accuracy_of(recipe: Recipe) -> float:
    return 0.9 - 0.04 * (math.log10(recipe.learning_rate) + 2) ** 2 - 0.1 * recipe.dropout


def fake_train(recipe: Recipe, _data: Any, _seed: int, _folder: Path, on_epoch: OnEpoch, **_: Any) -> Any:
    """As `toolkit.training.fit.train`, by its results; rates from 10 on diverge in the second epoch."""
    from toolkit.training.fit import TrainingResult

    wild = recipe.learning_rate >= 10
    accuracy = 0.1 if wild else accuracy_of(recipe)
    for number in range(1, recipe.epochs + 1):
        time.sleep(SECONDS)
        so_far = accuracy * (1 - 0.5**number)
        loss = math.nan if wild and number == 2 else 1 - so_far
        on_epoch(Epoch(number, recipe.epochs, loss, so_far, loss, so_far))
        if not math.isfinite(loss):
            raise DivergedError(f"training diverged: lower the learning rate (it was {recipe.learning_rate})")
    return TrainingResult(
        model=None,
        epochs_run=recipe.epochs,
        seconds=0.0,
        teacher_seconds=0.0,
        train_accuracy=accuracy,
        validation_accuracy=accuracy,
        validation_loss=1 - accuracy,
        best_validation_accuracy=accuracy,
        teacher_accuracy=None,
    )


SECONDS = 0.0


def no_images() -> FashionMnist:
    """A data set for training that looks at none."""
    images, labels = np.zeros((10, 28, 28), np.uint8), np.zeros(10, np.uint8)
    return FashionMnist(images, labels, images, labels, images, labels, "no images", None)


def settings(folder: Path, *spaces: str, **more: Any) -> SweepSettings:
    return SweepSettings(
        **{
            "recipe": PLAIN,
            "spaces": parse_spaces(spaces or SPACES),
            "storage": str(folder / "study.journal"),
            "folder": folder,
            "trials": 12,
            **more,
        }
    )


def listener(lines: list[str] | None = None) -> Listener:
    notes = [] if lines is None else lines
    return Listener(lambda *_: None, lambda *_: None, notes.append)


def run(chosen: SweepSettings, lines: list[str] | None = None) -> SweepReport:
    """A sweep; the caller has put `fake_train` in the place of train."""
    return sweep(chosen, no_images(), listener(lines))


def main() -> None:
    """One process of a sweep, which tells of its trials on stdout."""
    import toolkit.training.fit

    global SECONDS
    storage, trials, SECONDS = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    toolkit.training.fit.train = fake_train  # type: ignore[assignment]  # by its results it is one
    chosen = dataclasses.replace(settings(Path(storage).parent), storage=storage, trials=trials)

    def say(number: int, what: object) -> None:
        text = f"epoch {what.number}" if isinstance(what, Epoch) else "ended"
        print(f"trial {number} {text}", flush=True)  # noqa: T201 - for the test that reads it

    sweep(chosen, no_images(), Listener(say, say, lambda text: print(text, flush=True)))  # noqa: T201 - the same


if __name__ == "__main__":
    main()
