"""A model together with its data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.keras_model import import_keras

Array = NDArray[Any]
Inputs = dict[str, Array]


@dataclass(frozen=True, eq=False)
class Example:
    """A trained Keras model and what belongs to it.

    Attributes:
        model: built, with named inputs and outputs; not needed compiled.
        calibration: by input name; from what it was trained on.
        test: by input name; not seen in training.
        labels: integer classes of the test rows for "classification", else None.
        task: "classification" (one output of classes), "regression", "autoencoder", "multilabel" or "several" (outputs
            of different kinds).
    """

    model: Any
    calibration: Inputs
    test: Inputs
    labels: Array | None
    task: str


Builder = Callable[[], Example]


@dataclass(frozen=True, eq=False)
class Split:
    """Inputs and targets, the first rows for training."""

    train: Inputs
    targets: Any
    test: Inputs
    labels: Array | None


def keras_and_layers(seed: int) -> tuple[Any, Any]:
    """Keras and its layers, with every random number to come fixed and names counted from the beginning."""
    keras = import_keras()
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    return keras, keras.layers


def trained(
    model: Any,
    split: Split,
    task: str,
    loss: Any,
    *,
    epochs: int = 3,
    batch_size: int = 64,
    rate: float = 3e-3,
    calibration: int = 256,
) -> Example:
    """Fit a model, and put it together with its data."""
    keras = import_keras()
    model.compile(keras.optimizers.Adam(rate), loss, jit_compile=False)
    given = split.train if len(split.train) > 1 else next(iter(split.train.values()))
    model.fit(given, split.targets, epochs=epochs, batch_size=batch_size, verbose=0)
    few = {name: array[:calibration] for name, array in split.train.items()}
    return Example(model, few, split.test, split.labels, task)


def split(inputs: Inputs, labels: Array, count: int, targets: Any = None) -> Split:
    """The first count rows for training, the others for testing."""
    return Split(
        {name: array[:count] for name, array in inputs.items()},
        labels[:count] if targets is None else targets,
        {name: array[count:] for name, array in inputs.items()},
        labels[count:],
    )


def waves(count: int, length: int, seed: int) -> tuple[Array, Array]:
    """Noisy waves of four shapes (sine, square, saw tooth, rising chirp) of random pitch and phase.

    Returns:
        float32 of shape (count, length, 1), and int64 labels.
    """
    random = np.random.default_rng(seed)
    time = np.arange(length) / length
    labels = random.integers(0, 4, count)
    pitch, phase = random.uniform(3, 6, (count, 1)), random.uniform(0, 1, (count, 1))
    turn = pitch * time + phase
    shapes: Sequence[Array] = (
        np.sin(2 * np.pi * turn),
        np.sign(np.sin(2 * np.pi * turn)),
        2 * (turn % 1) - 1,
        np.sin(2 * np.pi * (turn + 2 * pitch * time**2)),
    )
    signal = np.choose(labels[:, None], shapes) + random.normal(0, 0.2, (count, length))
    return signal[..., None].astype(np.float32), labels
