"""Exported files through the device's own predictor, over the whole test set, and what came of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.predictor import Predictor
from toolkit.verification.cpus import CpuCheck, judge_cpu
from toolkit.verification.gates import INT8_GATES, BatchCheck, Gate, Limits, judge
from toolkit.verification.parity import Parity, compare

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from toolkit.progress import Step
    from toolkit.verification.layers import LayerReport

__all__ = ["FileReport", "VerificationReport", "verify"]

FORMAT = 1
BATCH_SIZES = (1, 7)


@dataclass(frozen=True)
class FileReport:
    """One exported file: its kind and hash, the comparison with Keras, the batch sizes, other CPUs, the verdicts.

    ``layers`` is error by layer, where it was looked for: in int8 files that lose too much, or on request.
    """

    name: str
    kind: str
    sha256: str
    parity: Parity
    batches: list[BatchCheck]
    gates: list[Gate]
    layers: LayerReport | None = None
    cpus: list[CpuCheck] = field(default_factory=list)

    def on_cpus(self, checks: list[CpuCheck], limits: Limits) -> FileReport:
        """The same with what came of it on other CPUs, and the verdicts on that."""
        gates = [gate for check in checks for gate in judge_cpu(self.kind, check, limits)]
        return dataclasses.replace(self, cpus=checks, gates=[*self.gates, *gates])

    @property
    def passed(self) -> bool:
        """Every gate held."""
        return all(gate.passed for gate in self.gates)

    @property
    def loses_too_much(self) -> bool:
        """It is quantized, and that cost more than the limits allow."""
        return self.kind == "int8" and any(gate.name in INT8_GATES and not gate.passed for gate in self.gates)


@dataclass(frozen=True)
class VerificationReport:
    """The whole verification of an artifact; ``parity.json`` is this."""

    data: str
    limits: Limits
    keras_sha256: str
    keras_accuracy: float
    keras_confusion: list[list[int]]
    class_names: list[str]
    versions: dict[str, str]
    files: list[FileReport]

    @property
    def passed(self) -> bool:
        """Every gate of every file held, and there was at least one."""
        return bool(self.files) and all(file.passed for file in self.files)

    def failures(self) -> list[str]:
        """One line a gate that did not hold."""
        return [
            f"{file.name}: {gate.name} is {gate.found:.6g}, limit {gate.limit:.6g}"
            for file in self.files
            for gate in file.gates
            if not gate.passed
        ]

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values, verdicts included."""
        value = {"format": FORMAT, "passed": self.passed, **dataclasses.asdict(self)}
        for file, entry in zip(self.files, value["files"], strict=True):
            entry["passed"] = file.passed
            entry["parity"]["accuracy_drop"] = file.parity.accuracy_drop
        return value


def verify(
    path: Path,
    kind: str,
    sha256: str,
    keras: NDArray[np.float32],
    images: NDArray[np.uint8],
    labels: NDArray[np.integer],
    limits: Limits,
    step: Step,
) -> FileReport:
    """Run all images through the predictor and hold the answers against Keras'.

    Args:
        path: the exported file; the predictor opens it as a device would.
        kind: "float32" or "int8".
        sha256: of the file, for the report.
        keras: Keras' probabilities, float32 of shape (n, classes).
        images: uint8 of shape (n, 28, 28).
        labels: true labels, shape (n,).
        limits: what is accepted.
        step: told how many images are done, of three times n.
    """
    predictor = Predictor(path)
    given: NDArray[Any] = images
    if predictor.input_dtype != np.uint8:
        given = images.astype(np.float32) / np.float32(255)
    total = len(images) * (1 + len(BATCH_SIZES))
    whole = predictor.predict_batch(given).probabilities
    done = len(images)
    step(done, total, path.name)
    batches = []
    for size in BATCH_SIZES:
        parts = [
            predictor.predict(given[i]).probabilities[None]
            if size == 1
            else predictor.predict_batch(given[i : i + size]).probabilities
            for i in range(0, len(given), size)
        ]
        again = np.concatenate(parts)
        differ = int((again.argmax(axis=1) != whole.argmax(axis=1)).sum())
        largest = np.nan_to_num(np.abs(again - whole), nan=1.0).max()
        batches.append(BatchCheck(size, differ, float(largest)))
        done += len(images)
        step(done, total, path.name)
    parity = compare(keras, whole, labels)
    return FileReport(path.name, kind, sha256, parity, batches, judge(kind, parity, batches, limits))
