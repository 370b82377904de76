"""Teachers: convolutional networks that a student learns from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from toolkit.errors import MissingError, ModelError
from toolkit.keras_model import import_keras, open_model
from toolkit.training.augmentation import Augmentation
from toolkit.training.form import CLASSES, IMAGE_SHAPE
from toolkit.training.fused_norm import FusedNormalization
from toolkit.training.history import Epoch, OnEpoch, check_finite
from toolkit.training.inputs import Inputs, steps_in, training_batches, validation_batches
from toolkit.training.losses import accuracy, label_loss
from toolkit.training.optimizers import cosine
from toolkit.training.precision import policy_of

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.data import FashionMnist
    from toolkit.training.recipes import TeacherRecipe

__all__ = ["build_teacher", "fused", "open_teacher", "train_teacher"]

WARMUP = 0.2  # share of all steps


def build_teacher(recipe: TeacherRecipe, normalization: Any = None) -> Any:
    """A convolutional network that takes float32 pixels divided by 255, (batch, 28, 28), and gives ten logits.

    Args:
        recipe: its width and precision.
        normalization: the layer to normalize with, instead of Keras' BatchNormalization.
    """
    keras = import_keras()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy_of(recipe.precision))
    try:
        return _network(recipe, normalization or keras.layers.BatchNormalization)
    finally:
        keras.config.set_dtype_policy(before)


def _network(recipe: TeacherRecipe, normalization: Any) -> Any:
    keras = import_keras()
    layers = keras.layers

    def convolution(values: Any, channels: int, *, pooled: bool = False) -> Any:
        values = layers.Conv2D(channels, 3, padding="same", use_bias=False)(values)
        if pooled:  # before the rest, which then has a quarter to do
            values = layers.MaxPooling2D()(values)
        return layers.ReLU()(normalization(momentum=0.9)(values))

    def residual(values: Any, channels: int) -> Any:
        return layers.Add()([values, convolution(convolution(values, channels), channels)])

    image = layers.Input(IMAGE_SHAPE, name="image")
    values = layers.Reshape((14, 2, 14, 2))(image)
    values = layers.Reshape((14, 14, 4))(layers.Permute((1, 3, 2, 4))(values))
    values = convolution(values, recipe.width)
    values = convolution(values, 2 * recipe.width, pooled=True)
    values = residual(values, 2 * recipe.width)
    values = convolution(values, 4 * recipe.width, pooled=True)
    values = residual(values, 4 * recipe.width)
    values = layers.GlobalMaxPooling2D()(values)
    # Logits in float32, whatever the rest is computed in.
    return keras.Model(image, layers.Dense(CLASSES, dtype="float32", name="output")(values), name="teacher")


def train_teacher(recipe: TeacherRecipe, data: FashionMnist, seed: int, network: str, on_epoch: OnEpoch) -> Any:
    """Train one teacher; the same recipe, data and seed give the same weights on the same machine.

    Args:
        recipe: how.
        data: training and validation images.
        seed: of its weights, order and augmentation.
        network: what it is called, in progress and errors.
        on_epoch: told of each epoch's figures.

    Raises:
        DivergedError: the loss is no number any more.
    """
    keras = import_keras()
    keras.utils.set_random_seed(seed)
    model = build_teacher(recipe, FusedNormalization)
    inputs = Inputs(data.train_images, data.train_labels)
    steps = steps_in(inputs, recipe.batch_size, whole=True)
    rate = cosine(recipe.learning_rate, int(WARMUP * steps * recipe.epochs), steps * recipe.epochs)
    optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=recipe.weight_decay or None)
    if recipe.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    model.compile(
        loss=label_loss,
        optimizer=optimizer,
        metrics=[keras.metrics.MeanMetricWrapper(accuracy, name="accuracy")],
        jit_compile=False,
    )
    latest: dict[str, float] = {}

    def report(epoch: int, logs: dict[str, float]) -> None:
        latest.update(logs, epoch=epoch + 1)
        on_epoch(Epoch.of(epoch, recipe.epochs, logs, network))

    batches = training_batches(
        inputs,
        Augmentation(flip=True, shift=recipe.shift, erase=recipe.erase),
        recipe.batch_size,
        range(recipe.epochs),
        seed,
        whole=True,
        label_smoothing=recipe.label_smoothing,
    )
    model.fit(
        batches,
        shuffle=False,  # they come in an order of their own
        epochs=recipe.epochs,
        steps_per_epoch=steps,
        validation_data=validation_batches(data),
        verbose=0,
        callbacks=[keras.callbacks.TerminateOnNaN(), keras.callbacks.LambdaCallback(on_epoch_end=report)],
    )
    check_finite(latest, int(latest["epoch"]), recipe.learning_rate, network)
    # In Keras' own layers, and without the optimizer, whose state nobody needs any more.
    trained = build_teacher(recipe)
    trained.set_weights(model.get_weights())
    return trained


def fused(network: Any) -> Any:
    """The same network with fused normalizations, which answers in half the time; itself where it cannot be rebuilt."""
    keras = import_keras()
    usual = keras.layers.BatchNormalization

    def rebuilt(layer: Any) -> Any:
        kind = type(layer)
        if kind is usual and layer.scale and layer.center and not layer.renorm:
            rank = len(layer.input.shape)
            kind = FusedNormalization if rank in (2, 4) and layer.axis in (-1, rank - 1) else kind
        return kind.from_config(layer.get_config())

    try:
        found = keras.models.clone_model(network, clone_function=rebuilt)
    except (ValueError, TypeError, NotImplementedError):  # a class of the user's, or a layer that has no config
        return network
    found.set_weights(network.get_weights())
    return found


def open_teacher(path: Path) -> Any:
    """A teacher from a file, which gives ten probabilities or logits for 28x28 pixels divided by 255.

    Raises:
        MissingError: there is no such file.
        ModelError: it is no model, or of another form.
    """
    if not path.exists():
        raise MissingError(f"the teacher {path} does not exist; give a .keras file, or leave teacher_files out")
    model = open_model(path).keras
    shape = tuple(model.input_shape[1:]) if isinstance(model.input_shape, tuple) else None
    if shape not in (IMAGE_SHAPE, (*IMAGE_SHAPE, 1)) or tuple(model.output_shape[1:]) != (CLASSES,):
        raise ModelError(
            f"the teacher {path} takes {model.input_shape} and gives {model.output_shape}, expected (None, 28, 28) and "
            f"(None, {CLASSES}); give a model of Fashion-MNIST's form"
        )
    return model
