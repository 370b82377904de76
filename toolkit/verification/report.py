"""What verification found, output by output, and what parity.json holds.

parity.json, format 2: ``data``, ``limits``, ``keras_sha256``, ``class_names`` (or null), ``versions``, ``passed``;
``reference``: one entry an output of the Keras model (`KerasOutput`); ``files``: one entry a file (`FileReport`), with
``outputs``: one entry an output (`OutputReport`), its ``parity`` a `DecisionParity` or, for task "values", a
`ValueParity`. A figure that is not known, or no number, is null.

Format 1 had one output, of classes: its ``parity`` and ``batches`` stood in the file's entry, and ``keras_accuracy``
and ``keras_confusion`` in place of ``reference``.

``c``: what the C code gave on targets (`toolkit.verification.c_targets.CReport`); null where it was not run.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from toolkit.verification.cpus import CpuCheck, judge_cpu
from toolkit.verification.metrics import MetricChange, applicable, targets_of, value_of
from toolkit.verification.parity import DecisionParity, Parity, compare

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from toolkit.verification.c_targets import CReport
    from toolkit.verification.divergence import Divergence
    from toolkit.verification.gates import BatchCheck, Gate, Limits
    from toolkit.verification.layers import LayerReport
    from toolkit.verification.metrics import Metric

__all__ = ["FileReport", "KerasOutput", "OutputReport", "VerificationReport", "describe_keras"]

FORMAT = 2


@dataclass(frozen=True)
class OutputReport:
    """One output of an exported file: its task, the comparison with Keras, other batch sizes, the user's metrics.

    ``of`` is the output of Keras that it is held against: its own name, but for logits of which Keras gives only the
    probabilities. ``notes`` says what the test set is too small to tell.
    """

    name: str
    of: str
    task: str
    parity: Parity
    batches: list[BatchCheck]
    metrics: list[MetricChange] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FileReport:
    """One exported file: its kind and hash, its outputs, other CPUs, the verdicts.

    ``layers`` is error by layer, where it was looked for: in int8 files that lose too much, or on request.
    ``divergence`` is the first layer that differs from Keras, where it was looked for: in float32 files that fail.
    """

    name: str
    kind: str
    sha256: str
    outputs: list[OutputReport]
    gates: list[Gate]
    layers: LayerReport | None = None
    divergence: Divergence | None = None
    cpus: list[CpuCheck] = field(default_factory=list)

    def on_cpus(self, checks: list[CpuCheck], limits: Limits) -> FileReport:
        """The same with what came of it on other CPUs, and the verdicts on that."""
        gates = [gate for check in checks for gate in judge_cpu(self.kind, check, limits)]
        return dataclasses.replace(self, cpus=checks, gates=[*self.gates, *gates])

    @property
    def rows(self) -> int:
        """How many rows were compared."""
        return self.outputs[0].parity.n

    @property
    def passed(self) -> bool:
        """Every gate held."""
        return all(gate.passed for gate in self.gates)

    def passes(self, output: OutputReport) -> bool:
        """Every gate held that is about this output, or about no other one."""
        others = [each.name for each in self.outputs if each.name != output.name]
        return all(gate.passed for gate in self.gates if not any(gate.name.startswith(f"{name}: ") for name in others))

    @property
    def failing(self) -> list[str]:
        """Outputs of which a gate that quantization can fail did not hold; all outputs, if there are none such."""
        outputs = [output.name for output in self.outputs]
        gates = [gate for gate in self.gates if gate.of_quantization and not gate.passed]
        found = [name for name in outputs if any(gate.name.startswith(f"{name}: ") for gate in gates)]
        return found or outputs

    @property
    def loses_too_much(self) -> bool:
        """It is int8, and that cost more than the limits allow."""
        return self.kind == "int8" and any(gate.of_quantization and not gate.passed for gate in self.gates)

    @property
    def leaves_keras(self) -> bool:
        """It is float32 and does not answer as Keras does, so a layer must be to blame."""
        own = ("values that are no numbers", "labels that differ from Keras", "largest difference")
        return self.kind == "float32" and any(
            gate.name.rpartition(": ")[2] in own and not gate.passed for gate in self.gates
        )


@dataclass(frozen=True)
class KerasOutput:
    """What Keras itself makes of one output. None where that takes targets and there are none.

    Attributes:
        name: of the output.
        task: of the output.
        accuracy: share of decisions that it makes right; None for values.
        confusion: rows are true classes, columns are Keras' labels; only for "classification" and "binary".
        metrics: those that the user named, by name.
    """

    name: str
    task: str
    accuracy: float | None
    confusion: list[list[int]] | None
    metrics: dict[str, float]


@dataclass(frozen=True)
class VerificationReport:
    """The whole verification of an artifact; ``parity.json`` is this."""

    data: str
    limits: Limits
    keras_sha256: str
    reference: list[KerasOutput]
    class_names: list[str] | None
    versions: dict[str, str]
    files: list[FileReport]
    c: CReport | None = None

    @property
    def keras_accuracy(self) -> float | None:
        """Keras' accuracy for the first output that has one."""
        return next((output.accuracy for output in self.reference if output.accuracy is not None), None)

    @property
    def passed(self) -> bool:
        """Every gate of every file held, and there was at least one."""
        return bool(self.files) and all(file.passed for file in self.files) and (self.c is None or self.c.passed)

    def failures(self) -> list[str]:
        """One line a gate that did not hold."""
        found = [
            f"{file.name}: {gate.name} is {gate.found:.6g}, limit {gate.limit:.6g}"
            for file in self.files
            for gate in file.gates
            if not gate.passed
        ]
        return found + (self.c.failures() if self.c else [])

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values, verdicts included."""
        value = {"format": FORMAT, "passed": self.passed, **dataclasses.asdict(self)}
        for file, entry in zip(self.files, value["files"], strict=True):
            entry["passed"] = file.passed
            for output, found in zip(file.outputs, entry["outputs"], strict=True):
                if isinstance(output.parity, DecisionParity):
                    found["parity"]["accuracy_drop"] = output.parity.accuracy_drop
        if self.c is not None:
            value["c"]["passed"] = self.c.passed
        plain: dict[str, Any] = _finite(value)
        return plain


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity; a gate that one failed says so by itself."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def describe_keras(
    reference: Mapping[str, NDArray[Any]],
    inputs: Mapping[str, NDArray[Any]],
    targets: Mapping[str, NDArray[Any]],
    tasks: Mapping[str, str],
    metrics: Sequence[Metric] = (),
) -> list[KerasOutput]:
    """What Keras itself makes of the test set, output by output; the arguments are those of `verify`.

    Raises:
        UsageError: a metric applies to no output, fails, or needs targets that are not known.
    """
    known = targets_of(targets, tasks, reference, inputs)
    wanted = applicable(metrics, known, tasks)
    found = []
    for name, answers in reference.items():
        parity = compare(tasks[name], answers, answers, targets.get(name) if tasks[name] != "values" else None)
        found.append(
            KerasOutput(
                name,
                tasks[name],
                parity.accuracy if isinstance(parity, DecisionParity) else None,
                parity.confusion if isinstance(parity, DecisionParity) else None,
                {each.name: value_of(each, known[name], answers, inputs) for each in wanted[name]},
            )
        )
    return found
