"""Keras' fit as every network here of the MLP's form goes through it: what is written down and told of each epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.keras_model import import_keras
from toolkit.training.history import Epoch, OnEpoch
from toolkit.training.inputs import validation_batches

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.data import FashionMnist

__all__ = ["run_epochs", "steps_at_once", "usual_callbacks"]

LARGE = 1_000_000  # parameters


def steps_at_once(model: Any, steps: int) -> int:
    """How many steps one call into TensorFlow takes: all of an epoch, or one of a large network.

    The figures are the same, and small batches take half the time. A large network takes long enough without, and
    Ctrl-C is heard between calls only.
    """
    return steps if model.count_params() <= LARGE else 1


def usual_callbacks(history: Path, on_epoch: OnEpoch, epochs: int, *, before: int = 0, network: str = "") -> list[Any]:
    """Keras' callbacks that write each epoch down and tell of it, in the order in which they must come.

    Args:
        history: the CSV file, which rows are added to.
        on_epoch: told of each epoch.
        epochs: how many there are.
        before: epochs of the file that are not of these.
        network: see `Epoch`.
    """
    keras = import_keras()

    def rate(epoch: int, logs: dict[str, float]) -> None:  # noqa: ARG001 - the form of a callback
        logs["learning_rate"] = float(np.asarray(first.model.optimizer.learning_rate))

    def report(epoch: int, logs: dict[str, float]) -> None:
        on_epoch(Epoch.of(epoch - before, epochs, logs, network))

    first = keras.callbacks.LambdaCallback(on_epoch_end=rate)
    return [
        first,
        keras.callbacks.CSVLogger(history, append=True),
        keras.callbacks.TerminateOnNaN(),
        keras.callbacks.LambdaCallback(on_epoch_end=report),
    ]


def run_epochs(model: Any, batches: Any, steps: int, data: FashionMnist, callbacks: list[Any], epochs: range) -> None:
    """Fit a compiled model, validated after each epoch, and leave its history whole however that ends.

    Args:
        model: compiled.
        batches: of all these epochs, see `training_batches`.
        steps: batches in an epoch.
        data: validation images.
        callbacks: see `usual_callbacks`.
        epochs: their numbers from 0; a checkpoint among the callbacks may move the first.
    """
    keras = import_keras()
    try:
        model.fit(
            batches,
            shuffle=False,  # they come in an order of their own
            initial_epoch=epochs.start,
            epochs=epochs.stop,
            steps_per_epoch=steps,
            validation_data=validation_batches(data),
            verbose=0,
            callbacks=callbacks,
        )
    finally:
        for callback in callbacks:
            if isinstance(callback, keras.callbacks.CSVLogger):
                callback.on_train_end()  # an interrupted fit leaves the file open
