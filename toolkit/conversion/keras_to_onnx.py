"""A model of a person's own as a float32 ONNX file, with the scaling of raw integers inside the graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx

from toolkit.conversion.fold import fold_affine
from toolkit.conversion.metadata import ExportedFile, OutputContract, finish, write_metadata
from toolkit.conversion.naming import name_like_keras
from toolkit.conversion.routes import OPSETS, convert, quiet_converters, rename_tensors
from toolkit.conversion.tasks import last_operators, tasks_of
from toolkit.conversion.tidy import constant_shapes, drop_unused, put_scaling, set_contract
from toolkit.errors import ModelError, UsageError
from toolkit.predictor import LOGITS, PROBABILITIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from toolkit.conversion.contract import FileInput
    from toolkit.keras_model.source import SourceModel

__all__ = ["GIVES", "OPSETS", "Exported", "Wishes", "check_weights", "export_float32", "quiet_converters"]

GIVES = ("probabilities", "logits", "both")
"""What a classifier's file can be asked to give."""


@dataclass(frozen=True)
class Wishes:
    """What a person says of the outputs of the file to be written.

    Attributes:
        gives: "probabilities" for the model's own answer, "logits" for what goes into the softmax at its end, or both.
        tasks: by output name, see `tasks_of`.
        class_names: of the classes of the first output that has classes; None where they are not known.
        class_outputs: see `tasks_of`.
        usual_names: call the answer of a classifier that ends in a softmax "probabilities", whatever its model does.
    """

    gives: str = "probabilities"
    tasks: Mapping[str, str] | None = None
    class_names: Sequence[str] | None = None
    class_outputs: Sequence[str] = ()
    usual_names: bool = False


@dataclass(frozen=True)
class Exported:
    """A float32 file, and how it came to be.

    Attributes:
        file: as it stands on disk.
        outputs: its outputs in order.
        class_names: of the first output with classes; their numbers where nobody named them; None without classes.
        of_source: the model's own output behind each output of the file.
        route: "tf2onnx" or "Keras export".
        refused: what the first route said where the second was taken.
        folded: scales and shifts a channel that were folded into weights (batch normalization).
    """

    file: ExportedFile
    outputs: list[OutputContract]
    class_names: list[str] | None
    of_source: dict[str, str]
    route: str
    refused: str | None
    folded: int


def export_float32(
    source: SourceModel, path: Path, inputs: Sequence[FileInput], wishes: Wishes, *, source_sha256: str
) -> Exported:
    """Write a model as ONNX.

    Args:
        source: any Keras model or SavedModel.
        path: the file to write.
        inputs: what the file takes, of `file_inputs`.
        wishes: what it gives.
        source_sha256: of the source file, kept in the metadata.

    Raises:
        UsageError: logits are asked of a model that does not end in a softmax, or a task that an output cannot have.
        ModelError: a weight is no number, or an operation cannot be converted.
    """
    check_weights(source)
    converted = convert(source)
    model = converted.model
    set_contract(model, source)
    constant_shapes(model)
    name_like_keras(model, source)
    folded = fold_affine(model)
    put_scaling(model, inputs)
    drop_unused(model)
    tasks = tasks_of(model, source, wished=wishes.tasks, class_outputs=wishes.class_outputs)
    renamed = {spec.name: spec.name for spec in source.outputs}
    if len(renamed) == 1 and (wishes.usual_names or wishes.gives != PROBABILITIES):
        renamed = {
            name: PROBABILITIES if operator == "Softmax" and tasks[name] == "classification" else name
            for name, operator in last_operators(model).items()
        }
        rename_tensors(model, renamed)
    of_source = {renamed[spec.name]: spec.name for spec in source.outputs}
    outputs = _outputs(model, {renamed[name]: task for name, task in tasks.items()})
    if wishes.gives != PROBABILITIES:
        outputs = _give_logits(model, outputs, both=wishes.gives == "both")
        (own,) = of_source.values()
        of_source = {output.name: own for output in outputs}
    class_names = _class_names(model, outputs, wishes.class_names)
    write_metadata(
        model, inputs=inputs, outputs=outputs, class_names=class_names, source_sha256=source_sha256, quantization=None
    )
    file = finish(model, path, "float32")
    return Exported(file, outputs, class_names, of_source, converted.route, converted.refused, folded)


def check_weights(source: SourceModel) -> None:
    """Every weight is a number.

    Raises:
        ModelError: one is not.
    """
    for path, weight in source.weights.items():
        values = np.asarray(weight)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ModelError(f"weight {path} holds NaN or infinity; train the model again")


def _outputs(model: onnx.ModelProto, tasks: Mapping[str, str]) -> list[OutputContract]:
    last = last_operators(model)
    found = []
    for value in model.graph.output:
        bounded = tasks[value.name] != "values" and last[value.name] in ("Softmax", "Sigmoid")
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name
        found.append(OutputContract(value.name, dtype, tasks[value.name], [0.0, 1.0] if bounded else None))
    return found


def _class_names(
    model: onnx.ModelProto, outputs: Sequence[OutputContract], given: Sequence[str] | None
) -> list[str] | None:
    """The names of the first output with classes, held against its size."""
    first = next((output for output in outputs if output.task in ("classification", "binary")), None)
    if first is None:
        if given:
            raise UsageError(
                f"{len(given)} class names were given, but no output of the model has classes (its outputs are "
                f"{', '.join(f'{output.name}: {output.task}' for output in outputs)}); leave out --classes"
            )
        return None
    value = next(value for value in model.graph.output if value.name == first.name)
    count = 2 if first.task == "binary" else value.type.tensor_type.shape.dim[1].dim_value
    if given is None:
        return [str(number) for number in range(count)] if first.task == "classification" else None
    if len(given) != count:
        raise UsageError(
            f"{len(given)} class names were given, but the model tells {count} classes apart; give {count}"
        )
    return list(given)


def _give_logits(model: onnx.ModelProto, outputs: list[OutputContract], *, both: bool) -> list[OutputContract]:
    """Make what goes into the softmax at the end an output, beside the probabilities or instead of them."""
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    if len(outputs) != 1 or outputs[0].task != "classification":
        what = ", ".join(f"{output.name}: {output.task}" for output in outputs)
        raise UsageError(f"the model gives {what}, so it has no logits beside its answer; leave out --output")
    softmax = makers[outputs[0].name]
    if softmax.op_type != "Softmax":
        raise UsageError(
            f"the model ends in {softmax.op_type}, not in a Softmax, so it has no logits beside its answer; leave out "
            "--output"
        )
    last = makers.get(softmax.input[0])
    if last is None:
        raise UsageError("the model is a Softmax alone, so its logits are its input; leave out --output")
    rename_tensors(model, {softmax.input[0]: LOGITS})
    last.name = LOGITS
    logits = onnx.ValueInfoProto()
    logits.CopyFrom(graph.output[0])
    logits.name = LOGITS
    graph.output.append(logits)
    added = OutputContract(LOGITS, outputs[0].dtype, "classification", None)
    if both:
        return [*outputs, added]
    graph.node.remove(softmax)
    graph.output.pop(0)
    return [added]
