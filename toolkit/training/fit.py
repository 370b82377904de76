"""The fit: from images to model.keras and history.csv."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolkit.errors import DivergedError
from toolkit.keras_model import import_keras
from toolkit.training.model import build_mlp

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.data import FashionMnist
    from toolkit.training.recipes import Recipe

__all__ = ["Epoch", "OnEpoch", "TrainingResult", "train"]


@dataclass(frozen=True)
class Epoch:
    """The figures of one epoch; training figures are Keras' running averages over it."""

    number: int
    epochs: int
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float


OnEpoch = Callable[[Epoch], None]


@dataclass(frozen=True)
class TrainingResult:
    """What a training run came to; figures are those of the weights that were saved.

    Attributes:
        model: the trained Keras model.
        epochs_run: fewer than the recipe's if training stopped early.
        seconds: wall time of the fit.
        train_accuracy: Keras' running average over the epoch whose weights were kept.
        validation_accuracy: on the 5,000 validation images, 0 to 1.
        validation_loss: sparse categorical cross-entropy there.
    """

    model: Any
    epochs_run: int
    seconds: float
    train_accuracy: float
    validation_accuracy: float
    validation_loss: float


def train(recipe: Recipe, data: FashionMnist, seed: int, folder: Path, on_epoch: OnEpoch) -> TrainingResult:
    """Train the recipe's MLP, validated after each epoch, and leave model.keras and history.csv in a folder.

    The same recipe, data and seed give the same weights on the same machine.

    Args:
        recipe: all settings.
        data: training and validation images, uint8; they are divided by 255 here.
        seed: of Python, numpy and TensorFlow.
        folder: an existing folder.
        on_epoch: told of each epoch's figures.

    Raises:
        DivergedError: the loss is no number any more.
    """
    keras = import_keras()
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    model = build_mlp(recipe, math.ceil(len(data.train_images) / recipe.batch_size))
    callbacks = [
        keras.callbacks.CSVLogger(folder / "history.csv"),
        keras.callbacks.TerminateOnNaN(),
        _reporter(keras, recipe, on_epoch),
    ]
    stopper = None
    if recipe.early_stopping:
        stopper = keras.callbacks.EarlyStopping(
            monitor="val_loss", patience=recipe.early_stopping, restore_best_weights=True
        )
        callbacks.append(stopper)
    start = time.perf_counter()
    history = model.fit(
        data.train_images.astype("float32") / 255,
        data.train_labels,
        batch_size=recipe.batch_size,
        epochs=recipe.epochs,
        validation_data=(data.validation_images.astype("float32") / 255, data.validation_labels),
        verbose=0,
        callbacks=callbacks,
    ).history
    seconds = time.perf_counter() - start
    if not all(math.isfinite(value) for value in (*history["loss"], *history.get("val_loss", [math.nan]))):
        raise DivergedError(
            f"training diverged: the loss is no number after epoch {len(history['loss'])}; "
            f"lower the learning rate (it was {recipe.learning_rate})"
        )
    kept = stopper.best_epoch if stopper else len(history["loss"]) - 1
    # Saved without the optimizer: its state is twice the weights and serves no one who deploys.
    trained = keras.Sequential.from_config(model.get_config())
    trained.set_weights(model.get_weights())
    trained.save(folder / "model.keras")
    return TrainingResult(
        model=trained,
        epochs_run=len(history["loss"]),
        seconds=seconds,
        train_accuracy=history["accuracy"][kept],
        validation_accuracy=history["val_accuracy"][kept],
        validation_loss=history["val_loss"][kept],
    )


def _reporter(keras: Any, recipe: Recipe, on_epoch: OnEpoch) -> Any:
    def report(epoch: int, logs: dict[str, float]) -> None:
        on_epoch(
            Epoch(
                epoch + 1,
                recipe.epochs,
                logs["loss"],
                logs["accuracy"],
                logs["val_loss"],
                logs["val_accuracy"],
            )
        )

    return keras.callbacks.LambdaCallback(on_epoch_end=report)
