"""The finish of a quantization-aware training: the plain network trained on with its weights rounded to 4 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from toolkit.keras_model import import_keras, import_tensorflow
from toolkit.training.augmentation import Augmentation
from toolkit.training.form import CLASSES, IMAGE_SHAPE
from toolkit.training.history import check_finite, read_history
from toolkit.training.inputs import steps_in, training_batches
from toolkit.training.loop import run_epochs, steps_at_once, usual_callbacks
from toolkit.training.losses import accuracy, distillation
from toolkit.training.model import build_plain
from toolkit.training.optimizers import cosine
from toolkit.training.rounding import DenseInBlocks, in_blocks

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.data import FashionMnist
    from toolkit.training.history import OnEpoch
    from toolkit.training.inputs import Inputs
    from toolkit.training.recipes import Recipe

__all__ = ["finish"]

tf = import_tensorflow()


def finish(
    plain: Any, recipe: Recipe, inputs: Inputs, data: FashionMnist, seed: int, history: Path, on_epoch: OnEpoch
) -> Any:
    """Train a finished network on with rounded weights, by Adam with a cosine to zero.

    It learns from the recipe's teachers where there are any, else from what the network itself answered before. It has
    no state beside its arguments: an interrupted finish is run again from its begin, and gives the same.

    Args:
        plain: the folded network; it stays as it is.
        recipe: one with quantization_aware.
        inputs: what the network was trained on.
        data: validation images, for the figures of each epoch.
        seed: of the training; the order and augmentation of the images go on from there.
        history: the CSV file of the epochs so far; those of the finish are added.
        on_epoch: told of each epoch.

    Returns:
        A network of the same form whose kernels are the rounded ones, so that an int4 file holds its very weights.

    Raises:
        DivergedError: the loss is no number any more.
    """
    keras = import_keras()
    model = _rounding(recipe.hidden)
    model.set_weights(plain.get_weights())
    steps = steps_in(inputs, recipe.batch_size, whole=recipe.batch_norm)
    model.compile(
        loss=distillation(recipe.teacher_weight, recipe.temperature),
        optimizer=keras.optimizers.Adam(
            cosine(recipe.quantization_learning_rate, 0, steps * recipe.quantization_epochs)
        ),
        metrics=[keras.metrics.MeanMetricWrapper(accuracy, name="accuracy")],
        steps_per_execution=steps_at_once(model, steps),
        jit_compile=False,
    )
    before = len(read_history(history))
    last = before + recipe.quantization_epochs
    batches = training_batches(
        inputs,
        Augmentation(recipe.flip, recipe.shift, recipe.scale),
        recipe.batch_size,
        range(before, last),
        seed,
        whole=recipe.batch_norm,
        label_smoothing=recipe.label_smoothing,
    )
    if inputs.soft is None:
        batches = batches.map(_with_answers_of(plain, recipe.temperature), num_parallel_calls=1, deterministic=True)
    callbacks = usual_callbacks(history, on_epoch, recipe.quantization_epochs, before=before, network="int4")
    run_epochs(model, batches.prefetch(2), steps, data, callbacks, range(before, last))
    rows = read_history(history)
    check_finite(rows[-1], len(rows) - before, recipe.quantization_learning_rate, "the int4 finish")
    rounded = build_plain(recipe.hidden)
    rounded.set_weights([in_blocks(weight).numpy() if weight.ndim == 2 else weight for weight in model.get_weights()])
    return rounded


def _rounding(hidden: tuple[int, ...]) -> Any:
    """`build_plain` with rounded kernels, and logits at the end."""
    keras = import_keras()
    stack = [keras.layers.Input(IMAGE_SHAPE, name="image"), keras.layers.Flatten(name="flatten")]
    for number, size in enumerate(hidden, start=1):
        stack.append(DenseInBlocks(size, activation="relu", name=f"hidden_{number}"))
    return keras.Sequential([*stack, DenseInBlocks(CLASSES, name="output")], name="mlp_in_int4")


def _with_answers_of(plain: Any, temperature: float) -> Any:
    """Adds to each batch's targets the network's own probabilities at a temperature, as teachers' stand there."""

    def added(images: Any, targets: Any) -> tuple[Any, Any]:
        logits = tf.math.log(tf.maximum(plain(images, training=False), 1e-30))
        return images, tf.concat([targets, tf.nn.softmax(logits / temperature)], axis=1)

    return added
