"""How a file's answers on another CPU compare with those of this machine: numbers, and the gates on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.verification.gates import Gate, Limits, at_most
from toolkit.verification.parity import DECISIONS, decisions, scale_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = [
    "COMPUTED_SCALES_MAX_ABS",
    "CpuAnswers",
    "CpuCheck",
    "Emulated",
    "compare_cpu",
    "judge_cpu",
    "largest",
    "largest_difference",
    "other_bits",
]

# A dynamically quantized file computes its scales in float arithmetic, whose last bit is another on ARM than on x86.
# Where an activation then falls on a rounding edge it becomes one step of 255 more or less: of the reference model's
# 101,000 logits 45,102 differ, by up to 0.019, and its probabilities by up to 2.9e-4. That is no fault; a saturated sum
# is, which moved them by 0.044 (plain scales on Haswell; benchmarks/results/portability.json has all rows).
# The same goes for a file of which a layer sums in float; float16 moved them by 5.9e-3 on a Cortex-A76, which computes
# in half precision where x86 computes in float32.
COMPUTED_SCALES_MAX_ABS = 0.01


@dataclass(frozen=True)
class CpuAnswers:
    """What one file says of the same rows on one CPU: all of them in batches, the first of them one by one too.

    Attributes:
        labels: int64 (n,), by the predictor; None where the model is no classifier of one output.
        outputs: by output name, each (n, ...), by the predictor: what the device gets.
        inner: by any name, each (m, ...), by the bare runtime: the same before a softmax or sigmoid, where the file has
            one at its end; m may be less than n.
        alone_labels, alone_outputs, alone_inner: the same for the first rows, each in a run of its own.
    """

    labels: NDArray[np.integer] | None
    outputs: Mapping[str, NDArray[Any]]
    inner: Mapping[str, NDArray[Any]]
    alone_labels: NDArray[np.integer] | None
    alone_outputs: Mapping[str, NDArray[Any]]
    alone_inner: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Emulated:
    """Where a comparison's answers come from: the CPU, what played it, and the versions that ran on it."""

    cpu: str
    architecture: str
    emulator: str
    python: str
    numpy: str
    onnxruntime: str


@dataclass(frozen=True)
class CpuCheck:
    """One file on one other CPU, beside this machine.

    Attributes:
        where: the CPU and the software on it.
        images: rows compared in batches.
        alone: of these, compared one by one as well.
        labels_differ: rows that are decided otherwise, in batches or one by one; None if no output is of decisions.
        logits_differ: values before the softmax (or sigmoid) at the end, of all outputs, with other bits than here.
        logits: how many were compared.
        logits_max_abs: largest difference of one.
        probabilities_max_abs: largest difference of a value that the device gets, relative to what
            `toolkit.verification.parity.scale_of` says: of probabilities, as it is.
        accuracy: share of the rows that are labelled right there; None without labels.
        exact: whether the file promises the same bits everywhere: int8 in all layers, whose scales are constants.
    """

    where: Emulated
    images: int
    alone: int
    labels_differ: int | None
    logits_differ: int
    logits: int
    logits_max_abs: float
    probabilities_max_abs: float
    accuracy: float | None
    exact: bool


def compare_cpu(
    where: Emulated,
    here: CpuAnswers,
    there: CpuAnswers,
    true_labels: NDArray[np.integer] | None = None,
    *,
    exact: bool,
    tasks: Mapping[str, str] | None = None,
) -> CpuCheck:
    """Compare one file's answers on two CPUs. Values that are no numbers on either side count as a difference of 1.

    Args:
        where: the other CPU.
        here: this machine's answers.
        there: the other's.
        true_labels: classes of shape (n,), if they are known and the model is a classifier.
        exact: whether the file promises the same bits everywhere.
        tasks: of the outputs, by name; those that are not named are classes.

    Raises:
        ValueError: the names or shapes differ, or there are no rows.
    """
    pairs = [pair for name in CpuAnswers.__dataclass_fields__ for pair in _pairs(here, there, name)]
    sizes = {len(array) for array in here.outputs.values()}
    sizes |= {len(known) for known in (here.labels, true_labels) if known is not None}
    if any(a.shape != b.shape for a, b in pairs) or len(sizes) != 1 or 0 in sizes:
        raise ValueError(f"cannot compare answers of shapes {[(a.shape, b.shape) for a, b in pairs]}")
    count, alone = sizes.pop(), len(next(iter(here.alone_outputs.values())))
    kinds = {name: (tasks or {}).get(name, DECISIONS[0]) for name in here.outputs}
    inner = [*_pairs(here, there, "inner"), *_pairs(here, there, "alone_inner")]
    differences = [
        largest(getattr(here, part)[name], getattr(there, part)[name], scale_of(kinds[name], _numbers(array)))
        for part in ("outputs", "alone_outputs")
        for name, array in here.outputs.items()
    ]
    right = None if there.labels is None or true_labels is None else float(np.mean(there.labels == true_labels))
    return CpuCheck(
        where=where,
        images=count,
        alone=alone,
        labels_differ=_labels_differ(here, there, kinds, count),
        logits_differ=sum(other_bits(a, b) for a, b in inner),
        logits=sum(a.size for a, _ in inner),
        logits_max_abs=max((largest(a, b) for a, b in inner), default=0.0),
        probabilities_max_abs=max(differences),
        accuracy=right,
        exact=exact,
    )


def _pairs(here: CpuAnswers, there: CpuAnswers, name: str) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    one, other = getattr(here, name), getattr(there, name)
    if (one is None) != (other is None):
        raise ValueError(f"cannot compare answers of which only one has {name}")
    if one is None:
        return []
    if isinstance(one, np.ndarray):
        return [(one, other)]
    if one.keys() != other.keys():
        raise ValueError(f"cannot compare answers named {sorted(one)} and {sorted(other)}")
    return [(array, other[key]) for key, array in one.items()]


def _labels_differ(here: CpuAnswers, there: CpuAnswers, kinds: Mapping[str, str], count: int) -> int | None:
    """By the predictor's labels if there are any; else by what each output decides."""
    if here.labels is not None:
        found = [*_pairs(here, there, "labels"), *_pairs(here, there, "alone_labels")]
    else:
        found = [
            (decisions(kinds[name], getattr(here, part)[name]), decisions(kinds[name], getattr(there, part)[name]))
            for part in ("outputs", "alone_outputs")
            for name in here.outputs
            if kinds[name] in DECISIONS
        ]
    if not found:
        return None
    differ = np.zeros(count, bool)
    for one, other in found:
        differ[: len(one)] |= (one != other).reshape(len(one), -1).any(axis=1)
    return int(differ.sum())


def other_bits(a: NDArray[Any], b: NDArray[Any]) -> int:
    """How many values of two arrays of one shape and dtype have other bits.

    Raises:
        ValueError: the dtypes differ.
    """
    if a.dtype != b.dtype:
        raise ValueError(f"cannot compare the bits of {a.dtype} and {b.dtype}")
    size = a.dtype.itemsize
    ours, theirs = (np.ascontiguousarray(x).view(np.uint8).reshape(-1, size) for x in (a, b))
    return int((ours != theirs).any(axis=1).sum())


def _numbers(array: NDArray[Any]) -> NDArray[Any]:
    return np.where(np.isfinite(array), array, 0)


def largest(a: NDArray[Any], b: NDArray[Any], scale: NDArray[np.float64] | float = 1.0) -> float:
    """The largest difference of two arrays of one shape, as a share of the scale; 1 where either is no number."""
    if not a.size:
        return 0.0
    finite = np.isfinite(a) & np.isfinite(b)
    difference = np.abs(_numbers(a).astype(np.float64) - _numbers(b)) / scale
    return float(np.where(finite, difference, 1.0).max())


def judge_cpu(kind: str, check: CpuCheck, limits: Limits) -> list[Gate]:
    """The verdicts on one file on one CPU. Each is written so that a NaN fails it.

    Every decision must be the same. An int8 file with constant scales must give the very same values before its
    softmax, bit by bit, and only that may round otherwise. A float32 file sums in another order there.

    Args:
        kind: of the file.
        check: the comparison.
        limits: what is accepted.
    """
    cpu = check.where.cpu
    gates = []
    if check.labels_differ is not None:
        gates.append(at_most(f"labels that differ on {cpu}", check.labels_differ, 0))
    if check.exact:
        gates.append(at_most(f"logits that differ on {cpu}", check.logits_differ, 0))
    limit = largest_difference(kind, limits, exact=check.exact, decides=check.labels_differ is not None)
    gates.append(at_most(f"largest difference on {cpu}", check.probabilities_max_abs, limit))
    return gates


def largest_difference(kind: str, limits: Limits, *, exact: bool, decides: bool) -> float:
    """How far a value that the device gets may be off on another CPU, relative to what `scale_of` says of its output.

    Args:
        kind: of the file.
        limits: what is accepted.
        exact: whether the file promises the same bits everywhere, up to the softmax.
        decides: whether any output is of decisions.
    """
    if not exact and kind != "float32":
        return COMPUTED_SCALES_MAX_ABS
    return limits.float32_max_abs if decides else limits.float32_values
