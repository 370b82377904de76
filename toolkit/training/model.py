"""The MLP that the toolkit trains: as it is trained, and as it is saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.keras_model import import_keras
from toolkit.training.form import CLASSES, IMAGE_SHAPE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toolkit.training.recipes import Recipe

__all__ = ["build_mlp", "build_plain", "fold"]


def build_plain(hidden: tuple[int, ...]) -> Any:
    """The network that is saved, a Keras Sequential: Flatten, Dense layers with ReLU, Dense with softmax.

    It takes float32 pixels divided by 255, of shape (batch, 28, 28), and gives float32 (batch, 10).

    Args:
        hidden: neurons of each hidden layer, input side first.
    """
    keras = import_keras()
    layers = keras.layers
    stack = [layers.Input(IMAGE_SHAPE, name="image"), layers.Flatten(name="flatten")]
    for number, size in enumerate(hidden, start=1):
        stack.append(layers.Dense(size, activation="relu", name=f"hidden_{number}"))
    stack.append(layers.Dense(CLASSES, activation="softmax", name="output"))
    return keras.Sequential(stack, name="mlp")


def build_mlp(recipe: Recipe, mean: float, deviation: float, policy: str = "float32") -> Any:
    """The network that is trained: the saved one with what the recipe puts between its layers, and logits at the end.

    Args:
        recipe: structure and regularization.
        mean: of the training images' pixels divided by 255; for a recipe that standardizes.
        deviation: likewise, the standard deviation.
        policy: Keras' dtype policy of the hidden layers' products; all else is float32.
    """
    from toolkit.training.fused_norm import FusedNormalization  # a class of Keras', which is imported with it

    keras = import_keras()
    layers = keras.layers
    penalty = keras.regularizers.L2(recipe.l2) if recipe.l2 else None
    stack = [layers.Input(IMAGE_SHAPE, name="image"), layers.Flatten(name="flatten")]
    if recipe.standardize:
        stack.append(layers.Normalization(axis=None, mean=mean, variance=deviation**2, name="standardize"))
    for number, size in enumerate(recipe.hidden, start=1):
        # The normalization that follows has a shift of its own.
        stack.append(
            layers.Dense(
                size,
                use_bias=not recipe.batch_norm,
                kernel_regularizer=penalty,
                dtype=policy,
                name=f"hidden_{number}",
            )
        )
        if recipe.batch_norm:
            stack.append(FusedNormalization(momentum=0.9, name=f"norm_{number}"))
        stack.append(layers.ReLU(name=f"relu_{number}"))
        if recipe.dropout:
            stack.append(layers.Dropout(recipe.dropout, name=f"dropout_{number}"))
    stack.append(layers.Dense(CLASSES, name="output"))
    return keras.Sequential(stack, name="mlp_in_training")


def fold(trained: Any, recipe: Recipe) -> Any:
    """The plain network that computes what the trained one does, its normalizations folded into the Dense weights.

    A normalization after a Dense layer gives ``(x W + b - mean) g + beta`` with ``g = gamma / sqrt(variance +
    epsilon)``, which is a Dense layer with weights ``W g``; one of the pixels, ``(x - m) / s``, goes into the first
    layer's weights ``W / s`` and its bias. Computed in float64, rounded once.
    """
    layers = {layer.name: layer for layer in trained.layers}
    plain = build_plain(recipe.hidden)
    weights: list[NDArray[np.float32]] = []
    for number in range(1, len(recipe.hidden) + 1):
        dense = [np.asarray(value, np.float64) for value in layers[f"hidden_{number}"].get_weights()]
        kernel = dense[0]
        bias = dense[1] if len(dense) > 1 else np.zeros(kernel.shape[1])
        if recipe.standardize and number == 1:
            standardize = layers["standardize"]
            mean, variance = (
                float(np.asarray(value).reshape(())) for value in (standardize.mean, standardize.variance)
            )
            kernel = kernel / np.sqrt(variance)
            bias = bias - mean * kernel.sum(axis=0)
        if recipe.batch_norm:
            norm = layers[f"norm_{number}"]
            gamma, beta, moving_mean, moving_variance = (np.asarray(v, np.float64) for v in norm.get_weights())
            factor = gamma / np.sqrt(moving_variance + norm.epsilon)
            kernel, bias = kernel * factor, (bias - moving_mean) * factor + beta
        weights += [kernel.astype(np.float32), bias.astype(np.float32)]
    plain.set_weights([*weights, *layers["output"].get_weights()])
    return plain
