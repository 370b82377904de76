"""What training minimizes and counts; targets are ten values of the label, or twenty with the teachers' behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from toolkit.keras_model import import_keras
from toolkit.training.form import CLASSES

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["accuracy", "distillation", "label_loss"]


def label_loss(targets: Any, logits: Any) -> Any:
    """Cross-entropy of the label: targets (batch, 10 or 20), logits (batch, 10), gives float32 (batch,)."""
    return import_keras().losses.categorical_crossentropy(targets[:, :CLASSES], logits, from_logits=True)


def accuracy(targets: Any, logits: Any) -> Any:
    """1 where the label's value is the largest, else 0: float32 (batch,)."""
    return import_keras().metrics.categorical_accuracy(targets[:, :CLASSES], logits)


def distillation(weight: float, temperature: float) -> Callable[[Any, Any], Any]:
    """The loss of a student: ``(1 - w) CE(label, logits) + w T^2 CE(teachers, logits / T)``.

    By Hinton, Vinyals and Dean 2015 (arXiv:1503.02531); T^2 keeps the gradients' size. Where targets are ten values, as
    in validation, it is the label's cross-entropy.

    Args:
        weight: w, the teachers' share.
        temperature: T, at which the teachers' probabilities were taken.
    """

    def loss(targets: Any, logits: Any) -> Any:
        of_label = label_loss(targets, logits)
        if targets.shape[-1] == CLASSES:
            return of_label
        cross_entropy = import_keras().losses.categorical_crossentropy
        of_teachers = cross_entropy(targets[:, CLASSES:], logits / temperature, from_logits=True)
        return (1 - weight) * of_label + weight * temperature**2 * of_teachers

    return loss
