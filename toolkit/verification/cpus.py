"""How a file's answers on another CPU compare with those of this machine: numbers, and the gates on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toolkit.verification.gates import Gate, Limits, at_most

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["COMPUTED_SCALES_MAX_ABS", "CpuAnswers", "CpuCheck", "Emulated", "compare_cpu", "judge_cpu"]

# A dynamically quantized file computes its scales in float arithmetic, whose last bit is another on ARM than on x86.
# Where an activation then falls on a rounding edge it becomes one step of 255 more or less: of the reference model's
# 101,000 logits 45,102 differ, by up to 0.019, and its probabilities by up to 2.9e-4. That is no fault; a saturated sum
# is, which moved them by 0.044 (plain scales on Haswell; benchmarks/results/portability.json has all rows).
# The same goes for a file of which a layer sums in float; float16 moved them by 5.9e-3 on a Cortex-A76, which computes
# in half precision where x86 computes in float32.
COMPUTED_SCALES_MAX_ABS = 0.01


@dataclass(frozen=True)
class CpuAnswers:
    """What one file says of the same images on one CPU: all of them in batches, the first of them one by one too.

    Attributes:
        labels, probabilities: int64 (n,) and float32 (n, classes), by the predictor.
        logits: float32 (n, classes), by the bare runtime; the output itself where there is no softmax.
        alone_labels, alone_probabilities, alone_logits: the same for the first images, each in a run of its own.
    """

    labels: NDArray[np.integer]
    probabilities: NDArray[np.float32]
    logits: NDArray[np.float32]
    alone_labels: NDArray[np.integer]
    alone_probabilities: NDArray[np.float32]
    alone_logits: NDArray[np.float32]


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
        images: compared in batches.
        alone: of these, compared one by one as well.
        labels_differ: images that get another label, in batches or one by one.
        logits_differ: logits with other bits than here.
        logits: how many were compared.
        logits_max_abs: largest difference of a logit.
        probabilities_max_abs: largest difference of a probability.
        accuracy: share of the images that are labelled right there.
        exact: whether the file promises the same bits everywhere: int8 in all layers, whose scales are constants.
    """

    where: Emulated
    images: int
    alone: int
    labels_differ: int
    logits_differ: int
    logits: int
    logits_max_abs: float
    probabilities_max_abs: float
    accuracy: float
    exact: bool


def compare_cpu(
    where: Emulated, here: CpuAnswers, there: CpuAnswers, true_labels: NDArray[np.integer], *, exact: bool
) -> CpuCheck:
    """Compare one file's answers on two CPUs. Values that are no numbers on either side count as a difference of 1.

    Raises:
        ValueError: the shapes differ, or there are no images.
    """
    pairs = [(getattr(here, name), getattr(there, name)) for name in CpuAnswers.__dataclass_fields__]
    if any(a.shape != b.shape for a, b in pairs) or len(here.labels) != len(true_labels) or len(true_labels) == 0:
        raise ValueError(f"cannot compare answers of shapes {[(a.shape, b.shape) for a, b in pairs]}")
    alone = len(here.alone_labels)
    differ = here.labels != there.labels
    differ[:alone] |= here.alone_labels != there.alone_labels
    logits = [(here.logits, there.logits), (here.alone_logits, there.alone_logits)]
    probabilities = [
        (here.probabilities, there.probabilities),
        (here.alone_probabilities, there.alone_probabilities),
    ]
    return CpuCheck(
        where=where,
        images=len(true_labels),
        alone=alone,
        labels_differ=int(differ.sum()),
        logits_differ=sum(_other_bits(a, b) for a, b in logits),
        logits=sum(a.size for a, _ in logits),
        logits_max_abs=max(_largest(a, b) for a, b in logits),
        probabilities_max_abs=max(_largest(a, b) for a, b in probabilities),
        accuracy=float((there.labels == true_labels).mean()),
        exact=exact,
    )


def _other_bits(a: NDArray[np.float32], b: NDArray[np.float32]) -> int:
    if a.dtype != b.dtype:
        raise ValueError(f"cannot compare the bits of {a.dtype} and {b.dtype}")
    size = a.dtype.itemsize
    ours, theirs = (np.ascontiguousarray(x).view(np.uint8).reshape(-1, size) for x in (a, b))
    return int((ours != theirs).any(axis=1).sum())


def _largest(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    if not a.size:
        return 0.0
    finite = np.isfinite(a) & np.isfinite(b)
    difference = np.abs(np.where(finite, a, 0).astype(np.float64) - np.where(finite, b, 0))
    return float(np.where(finite, difference, 1.0).max())


def judge_cpu(kind: str, check: CpuCheck, limits: Limits) -> list[Gate]:
    """The verdicts on one file on one CPU. Each is written so that a NaN fails it.

    Every label must be the same. An int8 file with constant scales must give the very same logits, bit by bit, and
    only its softmax may round otherwise. A float32 file sums in another order there.

    Args:
        kind: of the file.
        check: the comparison.
        limits: what is accepted.
    """
    cpu = check.where.cpu
    gates = [at_most(f"labels that differ on {cpu}", check.labels_differ, 0)]
    if check.exact:
        gates.append(at_most(f"logits that differ on {cpu}", check.logits_differ, 0))
    largest = limits.float32_max_abs if check.exact or kind == "float32" else COMPUTED_SCALES_MAX_ABS
    gates.append(at_most(f"largest difference on {cpu}", check.probabilities_max_abs, largest))
    return gates
