"""Keras' optimizer and learning-rate schedule of a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from toolkit.keras_model import import_keras

if TYPE_CHECKING:
    from toolkit.training.recipes import Recipe

__all__ = ["cosine", "optimizer_of"]


def optimizer_of(recipe: Recipe, steps_per_epoch: int) -> Any:
    """The optimizer, with the schedule over all steps of the recipe."""
    keras = import_keras()
    steps = steps_per_epoch * recipe.epochs
    rate: Any = recipe.learning_rate
    if recipe.schedule == "cosine":
        rate = cosine(recipe.learning_rate, recipe.warmup_epochs * steps_per_epoch, steps)
    elif recipe.schedule == "linear":
        rate = keras.optimizers.schedules.PolynomialDecay(recipe.learning_rate, steps, end_learning_rate=0.0)
    average: dict[str, Any] = {}
    if recipe.weight_average:
        average = {"use_ema": True, "ema_momentum": recipe.weight_average}
    if recipe.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0, **average)
    if recipe.optimizer == "adam":
        return keras.optimizers.Adam(rate, **average)
    if recipe.optimizer == "adamw":
        return keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay, **average)
    return keras.optimizers.Muon(
        rate,
        weight_decay=recipe.weight_decay,
        adam_weight_decay=None,
        adam_lr_ratio=recipe.adam_learning_rate / recipe.learning_rate,
        momentum=0.95,
        nesterov=True,
        ns_steps=recipe.newton_schulz_steps,
        rms_rate=None,
        **average,
    )


def cosine(highest: float, warmup_steps: int, steps: int) -> Any:
    """From zero to the highest rate in a line, then to zero along half a cosine; without warm-up from the highest."""
    schedule = import_keras().optimizers.schedules.CosineDecay
    if not warmup_steps:
        return schedule(highest, steps)
    return schedule(0.0, steps - warmup_steps, warmup_target=highest, warmup_steps=warmup_steps)
