"""What exported files are held against: the source model's own answers to the test rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.errors import ModelError, UsageError
from toolkit.pipeline.material import keras_rows
from toolkit.pipeline.targets import targets_for
from toolkit.predictor import LOGITS, PROBABILITIES
from toolkit.verification.parity import DECISIONS
from toolkit.verification.report import describe_keras

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from toolkit.artifact import Manifest
    from toolkit.conversion.contract import FileInput
    from toolkit.datasets import Rows
    from toolkit.keras_model import SourceModel
    from toolkit.verification.gates import Limits
    from toolkit.verification.metrics import Metric
    from toolkit.verification.report import KerasOutput

__all__ = ["Reference", "exported_inputs"]


class Reference:
    """What exported files are held against: the model's own answers to the test rows, under the files' names.

    Args:
        source: the model.
        manifest: of the artifact; says how the files call what the model gives, and what they take.
        rows: test rows as the files take them.
        random: the rows are random, so that no decision on them means anything: all outputs are judged as values.
    """

    def __init__(self, source: SourceModel, manifest: Manifest, rows: Rows, *, random: bool = False) -> None:
        self.source, self.rows = source, rows
        self._names: dict[str, str] = {}
        for output in manifest.outputs:
            own = output.of or output.name
            # Logits that are read off in front of a softmax are held against the probabilities behind it.
            name = PROBABILITIES if output.of and output.name == LOGITS else output.name
            self._names.setdefault(own, name)
        self.tasks = {self._names[o.of or o.name]: "values" if random else str(o.task) for o in manifest.outputs}
        self.targets = {} if random else self.targets_by_file(rows.targets)
        self._inputs = exported_inputs(source, manifest)
        self._answers: dict[str, NDArray[Any]] | None = None

    def by_file(self, found: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Arrays by the model's output names, by the files' names."""
        return {self._names[name]: array for name, array in found.items() if name in self._names}

    def targets_by_file(self, found: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """What is known to be right, by the files' names, in the form of each output's task.

        Raises:
            DataError: it is of another kind.
        """
        return {
            self._names[spec.name]: targets_for(
                self.tasks[self._names[spec.name]], found[spec.name], spec, self.rows.source
            )
            for spec in self.source.outputs
            if spec.name in found
        }

    def described(self, metrics: Sequence[Metric]) -> list[KerasOutput]:
        """What Keras itself makes of the rows.

        Raises:
            ModelError: see `answers`.
            UsageError: a metric that cannot be had.
        """
        return describe_keras(self.answers, self.rows.inputs, self.targets, self.tasks, metrics)

    def check_limits(self, limits: Limits, kinds: Collection[str], metrics: Sequence[Metric]) -> None:
        """Refuse limits that would do nothing.

        Args:
            limits: what is accepted; those that are not the default count as given.
            kinds: of the files that are verified.
            metrics: further figures to judge by.

        Raises:
            UsageError: a limit on what is not judged.
        """
        tasks = {name: task for name, task in self.tasks.items() if task in DECISIONS}
        int8 = set(kinds) - {"float32"}
        why = {
            "int8_min_agreement": None if int8 and tasks else "no int8 output of classes is judged",
            "int8_max_accuracy_drop": None
            if int8 and tasks.keys() & self.targets.keys()
            else "no int8 output of classes is judged whose right answers are known",
            "int8_max_relative_error": None
            if int8 and len(tasks) < len(self.tasks)
            else "no int8 output of values is judged",
            "max_metric_change": None if metrics else "no --metric is given",
        }
        for name, reason in why.items():
            if reason is not None and getattr(limits, name) != getattr(type(limits)(), name):
                option = "--" + name.removeprefix("int8_").replace("_", "-")
                raise UsageError(f"{option} does nothing here, since {reason}; drop it")

    @property
    def keras_rows(self) -> dict[str, NDArray[Any]]:
        """The rows as the model takes them."""
        return keras_rows(self.rows.inputs, self._inputs)

    @property
    def answers(self) -> dict[str, NDArray[Any]]:
        """The model's answers, asked for once.

        Raises:
            ModelError: it fails on the rows, or answers with what is no number.
        """
        if self._answers is None:
            found = self.by_file(self.source.answers(self.keras_rows))
            if not all(np.isfinite(array).all() for array in found.values() if array.dtype.kind == "f"):
                raise ModelError(f"{self.source.name} answers NaN or infinity on the test rows; train the model again")
            self._answers = found
        return self._answers


def exported_inputs(source: SourceModel, manifest: Manifest) -> list[FileInput]:
    """What an artifact's files take, as its manifest says."""
    from toolkit.conversion.contract import Scaling, file_inputs

    scalings = manifest.conversion.scaling.values() if manifest.conversion else ()
    return file_inputs(source, next((Scaling(**each) for each in scalings), None))
