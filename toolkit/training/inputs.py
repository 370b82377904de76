"""The input pipeline: which image comes when, and how it is augmented, as a pure function of seed, epoch and step.

Nothing in it has a state: an interrupted training that goes on at epoch n sees what it would have seen. Images stay
uint8 in memory; a batch becomes float32 when it is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.keras_model import import_tensorflow
from toolkit.training.augmentation import augment, draw
from toolkit.training.form import CLASSES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toolkit.data import FashionMnist
    from toolkit.training.augmentation import Augmentation

__all__ = ["Inputs", "scaled", "steps_in", "training_batches", "validation_batches", "validation_rows"]

tf = import_tensorflow()

VALIDATION_BATCH = 2500


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a network is trained on.

    Attributes:
        images: uint8 (n, 28, 28).
        labels: uint8 (n,), 0 to 9.
        soft: the teachers' probabilities, float32 (views, n, 10), in the order of `Augmentation.view`; or None.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    soft: NDArray[np.float32] | None = None


def steps_in(inputs: Inputs, batch_size: int, *, whole: bool) -> int:
    """Batches in an epoch; only whole ones, or the last smaller one too.

    A training set below one batch makes one step all the same.
    """
    count = len(inputs.images)
    return max(1, count // batch_size) if whole else -(-count // batch_size)


def training_batches(
    inputs: Inputs,
    augmentation: Augmentation,
    batch_size: int,
    epochs: range,
    seed: int,
    *,
    whole: bool,
    label_smoothing: float = 0.0,
) -> Any:
    """All batches of the given epochs, in one stream (tf.data).

    Args:
        inputs: images, labels and soft targets.
        augmentation: what is done to each image.
        batch_size: images a step.
        epochs: the numbers of the epochs that are still to run.
        seed: of the order and of the augmentation.
        whole: leave an epoch's last, smaller batch out.
        label_smoothing: share of each label that is spread over all classes.

    Returns:
        A dataset of (float32 images (batch, 28, 28) divided by 255, float32 targets (batch, 10); with soft targets
        (batch, 20), the label's ten values first).
    """
    images, labels = tf.constant(inputs.images), tf.one_hot(inputs.labels, CLASSES)
    labels = labels * (1 - label_smoothing) + label_smoothing / CLASSES
    soft = None if inputs.soft is None else tf.constant(inputs.soft)
    count = len(inputs.images)
    steps = steps_in(inputs, batch_size, whole=whole)
    ordering, drawing = (int(part) for part in np.random.SeedSequence(seed).generate_state(2))

    def epoch_of(epoch: Any) -> Any:
        order = tf.random.experimental.stateless_shuffle(tf.range(count), seed=tf.stack([ordering, epoch]))
        batches = tf.data.Dataset.from_tensor_slices(order).batch(
            batch_size, drop_remainder=count >= batch_size and whole
        )
        return tf.data.Dataset.zip((batches, tf.data.Dataset.range(epoch * steps, (epoch + 1) * steps)))

    def batch_of(chosen: Any, step: Any) -> tuple[Any, Any]:
        drawn = draw(augmentation, tf.shape(chosen)[0], tf.stack([drawing, step]))
        pixels = augment(tf.gather(images, chosen), augmentation, drawn)
        targets = tf.gather(labels, chosen)
        if soft is not None:
            of_teacher = tf.gather_nd(soft, tf.stack([augmentation.view(drawn), chosen], axis=1))
            targets = tf.concat([targets, of_teacher], axis=1)
        return tf.cast(pixels, tf.float32) / 255, targets

    source = tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(epoch_of)
    # There is nothing to tune, and the thread that tunes sleeps for up to a minute before it lets a training end.
    options = tf.data.Options()
    options.autotune.enabled = False
    return source.map(batch_of, num_parallel_calls=1, deterministic=True).prefetch(2).with_options(options)


def scaled(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pixels as the networks take them, float32 divided by 255."""
    return images.astype(np.float32) / np.float32(255)


def validation_rows(data: FashionMnist) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The validation images as the networks take them, and their labels' ten values each."""
    return scaled(data.validation_images), np.eye(CLASSES, dtype=np.float32)[data.validation_labels]


def validation_batches(data: FashionMnist) -> Any:
    """The rows of `validation_rows` in batches (tf.data), made once: made anew they take twice the network's time."""
    return tf.data.Dataset.from_tensor_slices(validation_rows(data)).batch(VALIDATION_BATCH).cache()
