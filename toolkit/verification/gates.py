"""Thresholds and verdicts: what an exported file must reach before it is published."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.errors import UsageError
from toolkit.verification.parity import DecisionParity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.verification.metrics import MetricChange
    from toolkit.verification.parity import Parity

__all__ = ["INT8_GATES", "BatchCheck", "Gate", "Limits", "at_most", "judge", "small_set_notes"]

INT8_GATES = ("label agreement", "accuracy lost", "relative error")
"""The gates that quantization itself can fail, besides those on metrics."""
_METRIC = "change of "


@dataclass(frozen=True)
class Limits:
    """What is still accepted.

    Attributes:
        float32_max_abs: largest difference of a probability (or logit, as a share of the largest one) for float32
            files. Keras and the runtime sum in another order, which moves them by some of the 24 bits of a float; over
            the models that the tests train by 1e-7 to 7e-6 (a MobileNet of 27 convolutions). Labels must all be equal
            besides, where Keras prefers one by more than twice this.
        float32_values: the same for outputs of values, as a share of the largest one (see
            `toolkit.verification.parity.scale_of`). No softmax evens them out: for MLPerf Tiny's autoencoder of ten
            layers Keras itself is off by 1.5e-5 from what float64 gives, and the exported file by 5e-6.
        int8_min_agreement: least share of decisions that a quantized file makes as Keras does. Single values mean
            little there, so it is judged by its answers.
        int8_max_accuracy_drop: most accuracy that a quantized file may lose, as a share (0.005 is half a point).
        int8_max_relative_error: largest relative error (see `toolkit.verification.parity.ValueParity`) of a quantized
            file's values.
        max_metric_change: how far a metric that the user named may move from Keras', relative to Keras' figure.
    """

    float32_max_abs: float = 1e-5
    float32_values: float = 1e-4
    int8_min_agreement: float = 0.98
    int8_max_accuracy_drop: float = 0.005
    int8_max_relative_error: float = 0.1
    max_metric_change: float = 0.05

    def __post_init__(self) -> None:
        for name in ("float32_max_abs", "float32_values", "int8_min_agreement", "int8_max_accuracy_drop"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise UsageError(f"{name.replace('_', ' ')} is {value}, expected a share from 0 to 1")
        for name in ("int8_max_relative_error", "max_metric_change"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise UsageError(f"{name.replace('_', ' ')} is {value}, expected 0 or more")


@dataclass(frozen=True)
class BatchCheck:
    """All rows run again in batches of another size, against the first run.

    Attributes:
        batch_size: rows a run.
        labels_differ: how many decisions came out otherwise; None for an output of values.
        max_abs: largest difference of a value, relative to `toolkit.verification.parity.scale_of`.
    """

    batch_size: int
    labels_differ: int | None
    max_abs: float


@dataclass(frozen=True)
class Gate:
    """One verdict: what was measured, what the limit was, and whether it held.

    The name begins with "OUTPUT: " where a file has several outputs.
    """

    name: str
    found: float
    limit: float
    passed: bool

    @property
    def of_quantization(self) -> bool:
        """It is one that quantization itself can fail."""
        measured = self.name.rpartition(": ")[2]
        return measured in INT8_GATES or measured.startswith(_METRIC)


def judge(
    kind: str,
    parity: Parity,
    batches: Sequence[BatchCheck],
    limits: Limits,
    metrics: Sequence[MetricChange] = (),
    prefix: str = "",
) -> list[Gate]:
    """All verdicts on one output of one file. Each is written so that a NaN fails it.

    Accuracy is judged where targets are known, and left out elsewhere.

    Args:
        kind: "float32", or how it is quantized.
        parity: the comparison with Keras.
        batches: runs in other batch sizes.
        limits: what is accepted.
        metrics: what the user asked for.
        prefix: in front of each gate's name.
    """
    gates = [at_most(f"{prefix}values that are no numbers", parity.not_finite, 0)]
    same = limits.float32_max_abs if isinstance(parity, DecisionParity) else limits.float32_values
    if kind == "float32":
        if isinstance(parity, DecisionParity):
            # Where Keras is as good as undecided, the last bits decide: those are for the gate on differences.
            tie = 2 * limits.float32_max_abs * _scale(parity)
            sure = sum(not flip.keras_margin <= tie for flip in parity.flips)
            gates.append(at_most(f"{prefix}labels that differ from Keras", sure, 0))
        gates.append(at_most(f"{prefix}largest difference", parity.scaled_max_abs, same))
    elif isinstance(parity, DecisionParity):
        gates.append(_at_least(f"{prefix}{INT8_GATES[0]}", parity.agreement, limits.int8_min_agreement))
        if parity.accuracy_drop is not None:
            gates.append(at_most(f"{prefix}{INT8_GATES[1]}", parity.accuracy_drop, limits.int8_max_accuracy_drop))
    else:
        gates.append(at_most(f"{prefix}{INT8_GATES[2]}", parity.worst_relative_error, limits.int8_max_relative_error))
    gates += [at_most(f"{prefix}{_METRIC}{each.name}", each.judged, limits.max_metric_change) for each in metrics]
    for check in batches:
        size = f"at batch {check.batch_size}"
        if check.labels_differ is not None:
            gates.append(at_most(f"{prefix}labels that differ {size}", check.labels_differ, 0))
        gates.append(at_most(f"{prefix}largest difference {size}", check.max_abs, same))
    return gates


def _scale(parity: Parity) -> float:
    return parity.max_abs / parity.scaled_max_abs if parity.scaled_max_abs else 1.0


def small_set_notes(kind: str, parity: Parity, limits: Limits) -> list[str]:
    """What a test set is too small to tell: one decision more or less is more than the limit."""
    if kind == "float32" or not isinstance(parity, DecisionParity):
        return []
    notes, one = [], 1 / parity.decisions
    if one > 1 - limits.int8_min_agreement and limits.int8_min_agreement < 1:
        notes.append(
            f"agreement is judged on {parity.decisions:,}: one that differs is {one:.2%}, the limit is "
            f"{1 - limits.int8_min_agreement:.2%}"
        )
    if parity.accuracy is not None and one > limits.int8_max_accuracy_drop > 0:
        notes.append(
            f"accuracy is judged on {parity.decisions:,}: one right answer more or less is {100 * one:.2f} points, the "
            f"limit is {100 * limits.int8_max_accuracy_drop:.2f}"
        )
    return notes


def at_most(name: str, found: float, limit: float) -> Gate:
    """The verdict on a figure that must not exceed a limit; a NaN fails it."""
    return Gate(name, float(found), float(limit), passed=bool(found <= limit))


def _at_least(name: str, found: float, limit: float) -> Gate:
    return Gate(name, float(found), float(limit), passed=bool(found >= limit))
