"""Thresholds and verdicts: what an exported file must reach before it is published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.verification.parity import Parity

__all__ = ["INT8_GATES", "BatchCheck", "Gate", "Limits", "at_most", "judge"]

INT8_GATES = ("label agreement", "accuracy lost")
"""The gates that quantization itself can fail."""


@dataclass(frozen=True)
class Limits:
    """What is still accepted.

    Attributes:
        float32_max_abs: largest difference of a probability for float32 files. Keras and the runtime sum in another
            order, which moved the reference model's probabilities by 2e-6; labels must all be equal besides.
        int8_min_agreement: least share of images that an int8 file labels as Keras does. Single values mean little
            there, so int8 is judged by its answers.
        int8_max_accuracy_drop: most accuracy that an int8 file may lose, as a share (0.005 is half a point).
    """

    float32_max_abs: float = 1e-5
    int8_min_agreement: float = 0.98
    int8_max_accuracy_drop: float = 0.005

    def __post_init__(self) -> None:
        for name in ("float32_max_abs", "int8_min_agreement", "int8_max_accuracy_drop"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise UsageError(f"{name.replace('_', ' ')} is {value}, expected a share from 0 to 1")


@dataclass(frozen=True)
class BatchCheck:
    """All images run again in batches of another size, against the run in one batch.

    Attributes:
        batch_size: images a run.
        labels_differ: how many images got another label.
        max_abs: largest difference of a probability.
    """

    batch_size: int
    labels_differ: int
    max_abs: float


@dataclass(frozen=True)
class Gate:
    """One verdict: what was measured, what the limit was, and whether it held."""

    name: str
    found: float
    limit: float
    passed: bool


def judge(kind: str, parity: Parity, batches: Sequence[BatchCheck], limits: Limits) -> list[Gate]:
    """All verdicts on one file. Each is written so that a NaN fails it.

    Args:
        kind: "float32" or "int8".
        parity: the comparison with Keras.
        batches: runs in other batch sizes.
        limits: what is accepted.
    """
    gates = [at_most("values that are no numbers", parity.not_finite, 0)]
    if kind == "float32":
        gates.append(at_most("labels that differ from Keras", len(parity.flips), 0))
        gates.append(at_most("largest difference", parity.max_abs, limits.float32_max_abs))
    else:
        gates.append(_at_least(INT8_GATES[0], parity.agreement, limits.int8_min_agreement))
        gates.append(at_most(INT8_GATES[1], parity.accuracy_drop, limits.int8_max_accuracy_drop))
    for check in batches:
        gates.append(at_most(f"labels that differ at batch {check.batch_size}", check.labels_differ, 0))
        gates.append(at_most(f"largest difference at batch {check.batch_size}", check.max_abs, limits.float32_max_abs))
    return gates


def at_most(name: str, found: float, limit: float) -> Gate:
    """The verdict on a figure that must not exceed a limit; a NaN fails it."""
    return Gate(name, float(found), float(limit), passed=bool(found <= limit))


def _at_least(name: str, found: float, limit: float) -> Gate:
    return Gate(name, float(found), float(limit), passed=bool(found >= limit))
