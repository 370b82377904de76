"""Arrays brought to the shapes and dtypes of a model, where that changes no value; refused with a reason where not."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.datasets.rows import Rows, shape_text
from toolkit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from toolkit.datasets.rows import Found
    from toolkit.keras_model.source import TensorSpec

__all__ = ["check_shape", "fit"]

_STEP = 64_000_000  # bytes looked at in one go


def fit(found: Found, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Rows:
    """Bring what a file holds to what a model takes; see `Rows` for what that is.

    Raises:
        DataError: other shapes, dtypes that would lose something, NaN or infinity, no rows, or counts that differ.
    """
    source = found.source
    fitted = {spec.name: _input(found.inputs[spec.name], spec, source) for spec in inputs}
    targets = {
        spec.name: _target(found.targets[spec.name], spec, source) for spec in outputs if spec.name in found.targets
    }
    counts = {f"input '{name}'": len(array) for name, array in fitted.items()}
    counts |= {f"the targets of '{name}'": len(array) for name, array in targets.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{count} rows of {name}" for name, count in counts.items())
        raise DataError(f"{source} has {told}; expected the same number of each: save the arrays together again")
    _check_class_names(found, outputs)
    return Rows(fitted, targets, found.class_names, source, found.notes)


def _input(array: NDArray[Any], spec: TensorSpec, source: str) -> NDArray[Any]:
    what = f"{source}: input '{spec.name}'"
    _check_kind(array, what)
    shaped = _shaped(array, spec, what)
    _check_finite(shaped, what)
    return np.ascontiguousarray(_cast(shaped, spec.dtype, what))


def check_shape(array: NDArray[Any], spec: TensorSpec, source: str) -> None:
    """Refuse an array that `fit` would refuse for its kind or shape; its values are not looked at.

    Raises:
        DataError: no numbers, no rows, or rows of another shape.
    """
    what = f"{source}: input '{spec.name}'"
    _check_kind(array, what)
    _shaped(array, spec, what)


def _check_kind(array: NDArray[Any], what: str) -> None:
    if array.dtype.kind not in "biuf":
        raise DataError(f"{what} got dtype {array.dtype}, expected numbers; save it as a plain numeric array")
    if array.ndim and len(array) == 0:
        raise DataError(f"{what} got no rows (shape {array.shape}); give one row at least")
    if array.size == 0 and array.ndim:
        raise DataError(f"{what} got rows without values (shape {array.shape}); save the data again")


def _shaped(array: NDArray[Any], spec: TensorSpec, what: str) -> NDArray[Any]:
    """The array with the model's rank; an axis of size one may come or go at the end, for the channel."""
    row = spec.shape[1:]
    if _agrees(array.shape[1:], row) and array.ndim:
        return array
    if row and row[-1] in (1, None) and array.ndim and _agrees((*array.shape[1:], 1), row):
        return array[..., np.newaxis]
    if array.ndim >= 2 and array.shape[-1] == 1 and _agrees(array.shape[1:-1], row):
        return array[..., 0]
    wanted = f"expected {shape_text((None, *row))}"
    if _agrees(array.shape, row) or (row and row[-1] == 1 and _agrees((*array.shape, 1), row)):
        raise DataError(
            f"{what} got one row of shape {array.shape}, {wanted}; add the batch axis: array[numpy.newaxis]"
        )
    size = math.prod(array.shape[1:])
    same = None not in row and size == math.prod(size for size in row if size is not None)
    advice = (
        f"array.reshape({', '.join(map(str, (-1, *row)))})" if same else "resize or cut the rows to the model's size"
    )
    raise DataError(f"{what} got shape {array.shape}, {wanted}; {advice}")


def _agrees(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(shape) == len(wanted) and all(want in (None, size) for size, want in zip(shape, wanted, strict=True))


def _cast(array: NDArray[Any], wanted: str, what: str) -> NDArray[Any]:
    """The array in the model's dtype, or uint8 for one of floats."""
    kind = array.dtype.kind
    native = array.dtype.newbyteorder("=")
    try:
        target = np.dtype(wanted)
    except TypeError:
        target = np.dtype(object)
    if target.kind not in "biuf":
        raise DataError(f"{what} takes {wanted}, which no data file can give; expected an input of numbers or bools")
    if native == target or (native == np.uint8 and target.kind == "f"):
        return array.astype(native, copy=False)
    expected = f"got {array.dtype}, expected {wanted}"
    if "b" in (kind, target.kind):
        raise DataError(f"{what} {expected}; convert with array.astype('{wanted}') if that is what is meant")
    if kind == "f" and target.kind != "f":
        raise DataError(f"{what} {expected}; round or check the values, then array.astype('{wanted}')")
    if target.kind == "f":
        return _to_float(array, target, what)
    low, high = int(array.min()), int(array.max())
    limits = np.iinfo(target)
    if low < limits.min or high > limits.max:
        raise DataError(f"{what} {expected} ({limits.min} to {limits.max}), but the values run from {low} to {high}")
    return array.astype(target, copy=False)


def _to_float(array: NDArray[Any], target: np.dtype[Any], what: str) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        cast = array.astype(target)
    for rows in _parts(array):
        part, original = cast[rows], array[rows]
        if array.dtype.kind == "f":
            lost = ~np.isfinite(part)
        else:  # back in integers, but only where that is possible: 2**64 itself is not
            safe = np.abs(part.astype(np.float64)) < 2.0**63
            lost = ~safe | (np.where(safe, part, 0).astype(np.int64) != original.astype(np.int64))
        if lost.any():
            raise DataError(
                f"{what} got {array.dtype} with the value {original[lost][0]}, which {target} cannot hold; scale the "
                "values first"
            )
    return cast


def _parts(array: NDArray[Any]) -> Iterator[slice]:
    """Slices of rows, some at a time, so that looking at them takes little memory."""
    step = max(1, _STEP // max(1, array[:1].nbytes))
    return (slice(start, start + step) for start in range(0, len(array), step))


def _check_finite(array: NDArray[Any], what: str) -> None:
    if array.dtype.kind != "f":
        return
    bad, first = 0, -1
    for rows in _parts(array):
        part = array[rows]
        spoilt = ~np.isfinite(part).reshape(len(part), -1).all(axis=1)
        if spoilt.any():
            first = rows.start + int(np.argmax(spoilt)) if first < 0 else first
            bad += int(spoilt.sum())
    if bad:
        raise DataError(
            f"{what} has NaN or infinity in {bad} of {len(array)} rows (first in row {first}); leave these rows out, "
            "or mend where the data comes from"
        )


def _target(array: NDArray[Any], spec: TensorSpec, source: str) -> NDArray[Any]:
    what = f"{source}: the targets of '{spec.name}'"
    _check_kind(array, what)
    row = spec.shape[1:]
    if array.ndim == 0:
        raise DataError(f"{what} got a single number, expected one for each row; save them as an array")
    _check_finite(array, what)
    if array.dtype.kind == "b":
        array = array.astype(np.int64)
    if len(row) == 1 and row[0] == 1:
        return _of_one(array, what)
    if len(row) == 1 and array.shape[1:] in ((), (1,)):
        return _classes(array.reshape(-1), row[0], what)
    if not _agrees(array.shape[1:], row):
        array = _shaped(array, spec, what)
    whole = _zero_or_one(array)
    if len(row) == 1 and whole:
        if (array.sum(axis=1) == 1).all():
            return np.asarray(np.argmax(array, axis=1), np.int64)
        return array.astype(np.int64)
    if spec.dtype.startswith(("int", "uint")) and array.dtype.kind in "iu":
        return np.ascontiguousarray(array, np.int64)
    return np.ascontiguousarray(_to_float(array, np.dtype(np.float32), what))


def _of_one(array: NDArray[Any], what: str) -> NDArray[Any]:
    """Targets of an output [batch, 1]: 0/1 or values; which of both is meant, the output's task says."""
    if array.shape[1:] not in ((), (1,)):
        raise DataError(f"{what} got shape {array.shape}, expected (n,) or (n, 1); give one number for each row")
    column = array.reshape(-1, 1)
    if _zero_or_one(column):
        return column.astype(np.int64)
    return np.ascontiguousarray(_to_float(column, np.dtype(np.float32), what))


def _classes(labels: NDArray[Any], classes: int | None, what: str) -> NDArray[np.int64]:
    given = labels.dtype
    if given.kind == "f" and (labels != np.rint(labels)).any():
        value = labels[labels != np.rint(labels)][0]
        raise DataError(
            f"{what} got {given} of shape {labels.shape} with the value {value}, expected a whole number for the class "
            "of each row; save the classes as integers"
        )
    low, high = labels.min(), labels.max()
    if low < 0 or (classes is not None and high >= classes):
        raise DataError(
            f"{what} got the class {int(low if low < 0 else high)}, expected "
            f"{'0 or more' if classes is None else f'0 to {classes - 1}'}; number the classes from 0 on, as in training"
        )
    return labels.astype(np.int64)


def _zero_or_one(array: NDArray[Any]) -> bool:
    return all(bool(((array[rows] == 0) | (array[rows] == 1)).all()) for rows in (slice(1), *_parts(array)))


def _check_class_names(found: Found, outputs: Sequence[TensorSpec]) -> None:
    if found.class_names is None or len(outputs) != 1 or len(outputs[0].shape) != 2:
        return
    classes = outputs[0].shape[1]
    wanted = 2 if classes == 1 else classes
    if wanted is not None and len(found.class_names) != wanted:
        raise DataError(
            f"{found.source} has {len(found.class_names)} class names, expected {wanted} for the output "
            f"'{outputs[0].name}' of shape {shape_text(outputs[0].shape)}; save one name for each class"
        )
