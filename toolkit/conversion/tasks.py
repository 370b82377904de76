"""What an output of a model is: classes, yes or no, or plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx

    from toolkit.keras_model.source import SourceModel

__all__ = ["TASKS", "last_operators", "tasks_of"]

TASKS = ("classification", "binary", "multilabel", "values")
"""One class of several; one yes or no; several of them; everything else, such as regression or a reconstruction."""

_HANDING_ON = ("Identity", "Reshape", "Squeeze", "Cast", "Flatten")


def last_operators(model: onnx.ModelProto) -> dict[str, str]:
    """The operator that computes each output, by the output's name; what only hands values on is looked through."""
    makers = {name: node for node in model.graph.node for name in node.output}
    found = {}
    for value in model.graph.output:
        name, operator = value.name, ""
        while (node := makers.get(name)) is not None:
            operator = node.op_type
            if operator not in _HANDING_ON:
                break
            name = node.input[0]
        found[value.name] = operator
    return found


def tasks_of(
    model: onnx.ModelProto,
    source: SourceModel,
    *,
    wished: Mapping[str, str] | None = None,
    class_outputs: Sequence[str] = (),
) -> dict[str, str]:
    """The task of each output.

    Args:
        model: the exported graph.
        source: what it was made from.
        wished: by output name, what a person says; "" for all outputs that are not named.
        class_outputs: outputs of which it is known that they have a class a row, since labels or class names were
            given; these too are classification without a softmax.

    Raises:
        UsageError: a wish for an output that is not there, or that its shape does not allow.
    """
    wished = wished or {}
    last = last_operators(model)
    names = [spec.name for spec in source.outputs]
    for name in wished:
        if name and name not in names:
            raise UsageError(f"--task names the output {name!r}, but the model has {', '.join(names)}")
    found = {}
    for spec in source.outputs:
        wish = wished.get(spec.name, wished.get(""))
        rows = len(spec.shape) == 2 and spec.dtype == "float32"
        several = rows and spec.shape[1] is not None and spec.shape[1] >= 2
        single = rows and spec.shape[1] == 1
        possible = {"classification": several, "binary": single, "multilabel": several, "values": True}
        if wish is not None:
            if wish not in TASKS:
                raise UsageError(f"--task is {wish!r}, expected one of {', '.join(TASKS)}")
            if not possible[wish]:
                raise UsageError(f"the output {spec.name!r} of shape {spec.shape} cannot be judged as {wish}")
            found[spec.name] = wish
        elif several and (last[spec.name] == "Softmax" or spec.name in class_outputs):
            found[spec.name] = "classification"
        elif last[spec.name] == "Sigmoid" and (single or several) and not _reconstructs(source, spec.shape):
            found[spec.name] = "binary" if single else "multilabel"
        else:
            found[spec.name] = "values"
    return found


def _reconstructs(source: SourceModel, shape: tuple[int | None, ...]) -> bool:
    """An output of the form of the only input: an autoencoder's."""
    return len(source.inputs) == 1 and source.inputs[0].shape[1:] == shape[1:] and shape[1] != 1
