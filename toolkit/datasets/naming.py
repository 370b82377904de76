"""Which array of a file is which input and which output of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from toolkit.datasets.class_names import checked_names
from toolkit.datasets.rows import Found, listed
from toolkit.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from toolkit.keras_model.source import TensorSpec

__all__ = ["PARTS", "assign", "only_input", "only_output"]

PARTS = ("train", "test")
CLASS_NAMES = "class_names"
_INPUT = ("x", "x_test", "x_train", "images", "inputs", "data", "arr_0")
_TARGET = ("y", "y_test", "y_train", "labels", "targets", "arr_1")


def assign(
    arrays: Mapping[str, NDArray[Any]],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    source: str,
    part: str | None = None,
) -> Found:
    """Match arrays by name to a model.

    An array with the name of an input is that input's; one with the name of an output, or y_OUTPUT, holds its targets
    (y_OUTPUT only, where an input has the same name as the output). A model of one input or one output also finds them
    by the usual names (x, x_test, images, ...; y, y_test, labels, ...), and the only array that is left is the input.

    Args:
        arrays: by the names that they were saved with.
        inputs: of the model.
        outputs: of the model.
        source: what to call the file.
        part: "train" or "test": which of x_train and x_test to take, where a file has both (as Keras' mnist.npz).

    Raises:
        DataError: an input is missing, an array fits nothing, or several fit one thing.
        UsageError: another part.
    """
    if part not in (None, *PARTS):
        raise UsageError(f"got part={part!r}, expected 'train', 'test' or None")
    left = dict(arrays)
    names = left.pop(CLASS_NAMES, None) if CLASS_NAMES not in [spec.name for spec in inputs] else None
    found = {spec.name: left.pop(spec.name) for spec in inputs if spec.name in left}
    targets: dict[str, NDArray[Any]] = {}
    for spec in outputs:
        ways = [name for name in (spec.name, f"y_{spec.name}") if name in left]
        if len(ways) > 1:
            raise DataError(f"{source} has {listed(ways)}, both of them targets of '{spec.name}'; keep one of them")
        if ways:
            targets[spec.name] = left.pop(ways[0])
    notes = _leave_other_part(left, part, source)
    if len(outputs) == 1 and not targets and (name := _usual(left, _TARGET, source)):
        targets[outputs[0].name] = left.pop(name)
    if len(inputs) == 1 and not found:
        name = _usual(left, _INPUT, source) or (next(iter(left)) if len(left) == 1 else None)
        if name is not None:
            found[inputs[0].name] = left.pop(name)
    _check_all_used(arrays, left, found, targets, inputs, outputs, source)
    return Found(
        {spec.name: found[spec.name] for spec in inputs},
        targets,
        None if names is None else checked_names(names, f"{source}: '{CLASS_NAMES}'"),
        source,
        tuple(notes),
    )


def only_input(inputs: Sequence[TensorSpec], source: str, kind: str) -> TensorSpec:
    """The input of a model that has one.

    Raises:
        DataError: it has several.
    """
    if len(inputs) != 1:
        raise DataError(
            f"{source} is {kind}, which serves a model of one input; this one takes {listed(inputs)}: give an .npz "
            "with an array for each"
        )
    return inputs[0]


def only_output(outputs: Sequence[TensorSpec]) -> TensorSpec | None:
    """The output whose targets labels must be: of a model with one output, [batch, k]; None of any other."""
    return outputs[0] if len(outputs) == 1 and len(outputs[0].shape) == 2 else None


def _leave_other_part(left: dict[str, NDArray[Any]], part: str | None, source: str) -> list[str]:
    """Take the arrays of the part that is not wanted out, where the wanted one is there too."""
    if part is None:
        return []
    other = PARTS[1 - PARTS.index(part)]
    if f"x_{part}" not in left:
        return [f"{source} has no x_{part}: its x_{other} was taken"] if f"x_{other}" in left else []
    gone = [name for name in (f"x_{other}", f"y_{other}") if left.pop(name, None) is not None]
    return [f"{listed(gone)} left out: the {part} part was taken"] if gone else []


def _usual(left: Mapping[str, NDArray[Any]], usual: Sequence[str], source: str) -> str | None:
    there = [name for name in usual if name in left]
    if len(there) > 1:
        raise DataError(f"{source} has {listed(there)}, which all could be meant; save only the one to take")
    return there[0] if there else None


def _check_all_used(
    arrays: Mapping[str, NDArray[Any]],
    left: Mapping[str, NDArray[Any]],
    found: Mapping[str, NDArray[Any]],
    targets: Mapping[str, NDArray[Any]],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    source: str,
) -> None:
    missing = [spec.name for spec in inputs if spec.name not in found]
    wanted = f"this model takes {listed(inputs)}" + (f" and gives {listed(outputs)}" if outputs else "")
    if missing:
        held = listed(list(arrays))
        usual = " (or 'x')" if len(inputs) == 1 else ""
        raise DataError(
            f"{source} has {held}, but no array for the input {listed(missing)}: {wanted}; name the arrays after the "
            f"inputs{usual}, and targets after the outputs, or y_OUTPUT"
        )
    if left:
        understood = [*found, *(f"targets of '{name}'" for name in targets)]
        raise DataError(
            f"{source} has {listed(list(left))}, which fits nothing: {wanted}, and was given "
            f"{', '.join(understood)}; rename it or leave it out"
        )
