"""The MLP that the toolkit trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from toolkit.keras_model import import_keras

if TYPE_CHECKING:
    from toolkit.training.recipes import Recipe

__all__ = ["build_mlp"]

IMAGE_SHAPE = (28, 28)
CLASSES = 10


def build_mlp(recipe: Recipe, steps_per_epoch: int) -> Any:
    """A compiled Keras Sequential: Flatten, ReLU layers as the recipe says, softmax.

    It takes float32 pixels divided by 255, of shape (batch, 28, 28), and gives float32 (batch, 10).

    Args:
        recipe: structure, regularization and optimizer.
        steps_per_epoch: the learning-rate schedule needs to know where the end is.
    """
    keras = import_keras()
    layers = keras.layers
    penalty = keras.regularizers.L2(recipe.l2) if recipe.l2 else None
    stack = [layers.Input(IMAGE_SHAPE, name="image"), layers.Flatten(name="flatten")]
    for number, size in enumerate(recipe.hidden, start=1):
        stack.append(layers.Dense(size, activation="relu", kernel_regularizer=penalty, name=f"hidden_{number}"))
        if recipe.dropout:
            stack.append(layers.Dropout(recipe.dropout, name=f"dropout_{number}"))
    stack.append(layers.Dense(CLASSES, activation="softmax", name="output"))
    model = keras.Sequential(stack, name="mlp")
    rate: Any = recipe.learning_rate
    if recipe.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(recipe.learning_rate, steps_per_epoch * recipe.epochs)
    optimizers = {
        "sgd": keras.optimizers.SGD,
        "adam": keras.optimizers.Adam,
        "adamw": keras.optimizers.AdamW,
    }
    extra = {"weight_decay": recipe.weight_decay} if recipe.optimizer == "adamw" else {}
    model.compile(
        loss="sparse_categorical_crossentropy",
        optimizer=optimizers[recipe.optimizer](rate, **extra),
        metrics=["accuracy"],
        # Many steps for each call into TensorFlow halve the time of an epoch; the figures are the same.
        steps_per_execution=min(20, steps_per_epoch),
    )
    return model
