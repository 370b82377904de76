"""Keras' optimizer and learning-rate schedule of a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from toolkit.keras_model import import_keras, import_tensorflow
from toolkit.training.precision import policy_of

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
    return _muon(policy_of(recipe.precision) != "float32")(
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


def _muon(half: bool) -> Any:
    """Keras' Muon, which orthogonalizes in bfloat16 if that is asked, as Jordan et al. do."""
    plain: Any = import_keras().optimizers.Muon
    if not half:
        return plain
    tf = import_tensorflow()

    class Muon(plain):  # type: ignore[misc]  # Keras has no types
        def zeropower_via_newtonschulz5(self, x: Any, steps: int) -> Any:
            """The same iterations as Keras', from a matrix (m, n) that is scaled in float32."""
            tall = x.shape[0] > x.shape[1]
            x = tf.cast(x / (tf.norm(x) + 1e-7), tf.bfloat16)
            x = tf.transpose(x) if tall else x
            a, b, c = (tf.constant(value, tf.bfloat16) for value in (self.muon_a, self.muon_b, self.muon_c))
            for _ in range(steps):
                gram = tf.matmul(x, x, transpose_b=True)
                x = a * x + tf.matmul(b * gram + c * tf.matmul(gram, gram), x)
            return tf.cast(tf.transpose(x) if tall else x, tf.float32)

    return Muon
