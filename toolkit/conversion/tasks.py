"""What an output of a model is: classes, yes or no, or plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.datasets.rows import shape_text
from toolkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx

    from toolkit.keras_model.source import SourceModel, TensorSpec

__all__ = ["TASKS", "check_wishes", "last_operators", "tasks_of"]

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
        wished: see `check_wishes`.
        class_outputs: outputs of which it is known that they have a class a row, since labels or class names were
            given; these too are classification without a softmax.

    Raises:
        UsageError: see `check_wishes`.
    """
    wished = wished or {}
    check_wishes(source, wished)
    last = last_operators(model)
    found = {}
    for spec in source.outputs:
        wish = wished.get(spec.name, wished.get(""))
        several, single = _several(spec), _single(spec)
        if wish is not None:
            found[spec.name] = wish
        elif several and (last[spec.name] == "Softmax" or spec.name in class_outputs):
            found[spec.name] = "classification"
        elif last[spec.name] == "Sigmoid" and (single or several) and not _reconstructs(source, spec.shape):
            found[spec.name] = "binary" if single else "multilabel"
        else:
            found[spec.name] = "values"
    return found


def check_wishes(source: SourceModel, wished: Mapping[str, str]) -> None:
    """Hold what a person says of the outputs against the model, which takes no conversion.

    Args:
        source: the model.
        wished: tasks by output name; "" for all outputs that are not named.

    Raises:
        UsageError: no such task, a task for an output that is not there, or one that its shape does not allow.
    """
    names = [spec.name for spec in source.outputs]
    for name, wish in wished.items():
        if wish not in TASKS:
            raise UsageError(f"--task is {wish!r}, expected one of {', '.join(TASKS)}, with OUTPUT= in front for one")
        if name and name not in names:
            raise UsageError(f"--task names the output {name!r}, but the model has {', '.join(names)}; name one")
    for spec in source.outputs:
        possible = _possible(spec)
        wish = wished.get(spec.name, wished.get("", "values"))
        if wish not in possible:
            raise UsageError(
                f"the output {spec.name!r} of shape {shape_text(spec.shape)} and dtype {spec.dtype} cannot be judged "
                f"as {wish}; give --task {spec.name}={' or '.join(possible)}"
            )


def _possible(spec: TensorSpec) -> list[str]:
    decisions = ["classification", "multilabel"] if _several(spec) else ["binary"] if _single(spec) else []
    return [*decisions, "values"]


def _several(spec: TensorSpec) -> bool:
    return _is_rows(spec) and spec.shape[1] is not None and spec.shape[1] >= 2


def _single(spec: TensorSpec) -> bool:
    return _is_rows(spec) and spec.shape[1] == 1


def _is_rows(spec: TensorSpec) -> bool:
    return len(spec.shape) == 2 and spec.dtype == "float32"


def _reconstructs(source: SourceModel, shape: tuple[int | None, ...]) -> bool:
    """An output of the form of the only input: an autoencoder's."""
    return len(source.inputs) == 1 and source.inputs[0].shape[1:] == shape[1:] and shape[1] != 1
