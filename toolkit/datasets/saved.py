"""TensorFlow datasets saved on disk by ``tf.data.Dataset.save``.

Such a folder holds numbers only: the structure of an element in dataset_spec.pb (a protocol buffer), and the elements
as tensors in TFRecord files. Nothing of it is a pickle or a graph, and the function that puts the files' elements in
order is an argument of ``tf.data.Dataset.load``, never read from the folder. The structure is parsed here rather than
by TensorFlow, and only plain tensors of numbers in tuples, lists and dicts are taken: TensorFlow would also make
objects of any registered Python type that a file names. Distributed snapshots, which bring a structure of their own,
are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.datasets.naming import assign
from toolkit.datasets.rows import LIMIT, Found, listed, shape_text
from toolkit.errors import DataError, UsageError
from toolkit.idx import GZIP_MAGIC
from toolkit.keras_model.runtime import import_keras

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from toolkit.keras_model.source import TensorSpec
    from toolkit.progress import Step

__all__ = ["is_saved_dataset", "read_saved"]

_SPEC, _METADATA = "dataset_spec.pb", "snapshot.metadata"
_SPEC_LIMIT = 1_000_000  # bytes; real ones have some hundreds
_DEPTH = 5
_BATCH = 1024  # rows that were saved one by one, read at a time


def is_saved_dataset(folder: Path) -> bool:
    """Whether a folder is what ``tf.data.Dataset.save`` wrote."""
    return (folder / _SPEC).is_file() or (folder / _METADATA).is_file()


def read_saved(
    folder: Path, shown: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], step: Step
) -> Found:
    """The rows in a saved dataset with elements x, (x, y) or a dict, batched or not.

    x and y are each a tensor, a dict by name, or a tuple in the model's order. Whether an element is a row or a batch
    of rows, its rank beside the model's inputs says.

    Raises:
        MissingError: TensorFlow is not installed.
        DataError: another structure, damaged, cut short, or larger than `LIMIT`.
        UsageError: it may not be read.
    """
    import_keras()
    structure = _read_structure(folder, shown)
    found = _matched(structure, inputs, outputs, folder.name or shown)
    batched = _is_batched(found.inputs, inputs, shown)
    leaves: list[Any] = [*found.inputs.values(), *found.targets.values()]
    arrays = dict(zip(leaves, _read_elements(folder, shown, structure, leaves, step, batched=batched), strict=True))
    return replace(
        found,
        inputs={name: arrays[leaf] for name, leaf in found.inputs.items()},
        targets={name: arrays[leaf] for name, leaf in found.targets.items()},
    )


@dataclass(frozen=True)
class _Leaf:
    """A tensor of an element: how to get to it, and what it is."""

    path: tuple[int | str, ...]
    shape: tuple[int | None, ...]
    dtype: str


def _read_structure(folder: Path, shown: str) -> Any:
    """The element's structure: a `_Leaf`, or tuples and dicts of such."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import struct_pb2

    try:
        data = (folder / _SPEC).read_bytes() if (folder / _SPEC).stat().st_size <= _SPEC_LIMIT else b""
    except FileNotFoundError as error:
        raise DataError(f"{shown} has no {_SPEC}, as tf.data.Dataset.save writes it; save the dataset again") from error
    except OSError as error:
        raise UsageError(f"cannot read {shown}: {error.strerror}; check its permissions") from error
    if (folder / "chunks").exists() or (folder / "streams").exists():
        raise DataError(
            f"{shown} is a distributed snapshot; load it in TensorFlow and save it with dataset.save(folder)"
        )
    value = struct_pb2.StructuredValue()
    try:
        value.ParseFromString(data)
    except (DecodeError, RecursionError) as error:
        raise DataError(f"{shown}: its {_SPEC} is damaged; save or copy the dataset again") from error
    return _parsed(value, (), shown)


def _parsed(value: Any, path: tuple[int | str, ...], shown: str) -> Any:
    import tensorflow as tf

    kind = value.WhichOneof("kind")
    if kind == "tensor_spec_value" and not value.tensor_spec_value.shape.unknown_rank:
        spec = value.tensor_spec_value
        sizes = tuple(None if axis.size < 0 else axis.size for axis in spec.shape.dim)
        try:
            dtype = tf.dtypes.as_dtype(spec.dtype)
        except TypeError:
            dtype = tf.variant
        if dtype.is_floating or dtype.is_integer or dtype.is_bool:
            return _Leaf(path, sizes, dtype.name)
        raise DataError(f"{shown} has elements with {dtype.name}, expected numbers; save x and y as plain tensors")
    if len(path) < _DEPTH:
        if kind in ("tuple_value", "list_value"):
            values = getattr(value, kind).values
            return tuple(_parsed(one, (*path, index), shown) for index, one in enumerate(values))
        if kind == "dict_value":
            fields = value.dict_value.fields
            return {name: _parsed(fields[name], (*path, name), shown) for name in sorted(fields)}
    type_name = value.type_spec_value.type_spec_class_name if kind == "type_spec_value" else ""
    raise DataError(
        f"{shown} has elements with {type_name or kind or 'nothing in them'}, expected plain tensors of numbers in "
        "tuples and dicts; save it as (x, y)"
    )


def _matched(structure: Any, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], source: str) -> Found:
    """Which tensor of an element is which input and which output: a `Found` of leaves instead of arrays."""
    if isinstance(structure, dict):
        _check_flat(structure.values(), source)
        return assign(structure, inputs, outputs, source)
    parts = structure if isinstance(structure, tuple) else (structure,)
    if len(parts) == 3:
        raise DataError(
            f"{source} has elements of three parts, and sample weights serve no purpose here; save it as (x, y)"
        )
    if len(parts) not in (1, 2):
        raise DataError(f"{source} has elements of {len(parts)} parts, expected x or (x, y); save it so")
    given = _by_name(parts[0], inputs, "x", "input", source)
    if isinstance(parts[0], dict):
        given = dict(assign(parts[0], inputs, (), source).inputs)
    targets = _by_name(parts[1], outputs, "y", "output", source) if len(parts) == 2 else {}
    missing = [spec.name for spec in inputs if spec.name not in given]
    unknown = [name for name in targets if name not in [spec.name for spec in outputs]]
    if missing or unknown:
        wrong = f"nothing for {listed(missing)}" if missing else f"targets for {listed(unknown)}"
        raise DataError(
            f"{source} has {wrong}, but this model takes {listed(inputs)} and gives {listed(outputs)}; name them so"
        )
    return Found(given, targets, None, source)


def _by_name(part: Any, specs: Sequence[TensorSpec], role: str, what: str, source: str) -> dict[str, Any]:
    """The tensors of x, or of y, by the model's names; those of a tuple in the model's order."""
    if isinstance(part, dict):
        _check_flat(part.values(), source)
        return dict(part)
    tensors = part if isinstance(part, tuple) else (part,)
    _check_flat(tensors, source)
    if len(tensors) != len(specs):
        raise DataError(
            f"{source} has {len(tensors)} tensors in {role}, expected {len(specs)}, one for each {what} "
            f"({listed(specs)}); save them as a dict by name"
        )
    return {spec.name: tensor for spec, tensor in zip(specs, tensors, strict=True)}


def _check_flat(parts: Iterable[Any], source: str) -> None:
    if not all(isinstance(part, _Leaf) for part in parts):
        raise DataError(f"{source} has elements nested too deeply, expected x, (x, y) or a dict of tensors; save it so")


def _is_batched(leaves: Mapping[str, Any], inputs: Sequence[TensorSpec], shown: str) -> bool:
    """Whether elements are batches of rows.

    Raises:
        DataError: they are neither batches nor rows of these inputs.
    """
    for batched, exact in ((True, True), (False, True), (True, False), (False, False)):
        if all(_may_be(leaves[spec.name].shape, spec, batched=batched, exact=exact) for spec in inputs):
            return batched
    told = ", ".join(f"'{spec.name}': {shape_text(spec.shape)}" for spec in inputs)
    got = ", ".join(str(leaves[spec.name].shape) for spec in inputs)
    raise DataError(f"{shown} has elements of shape {got}, expected rows, or batches of rows, of {told}; reshape them")


def _may_be(shape: tuple[int | None, ...], spec: TensorSpec, *, batched: bool, exact: bool) -> bool:
    if batched and not shape:
        return False
    row = shape[1:] if batched else shape
    wanted = spec.shape[1:]
    ways = [row] if exact else [(*row, 1), *([row[:-1]] if row and row[-1] == 1 else [])]
    return any(
        len(way) == len(wanted)
        and all(None in sizes or sizes[0] == sizes[1] for sizes in zip(way, wanted, strict=True))
        for way in ways
    )


def _read_elements(
    folder: Path, shown: str, structure: Any, leaves: Sequence[_Leaf], step: Step, *, batched: bool
) -> list[NDArray[Any]]:
    """The values of some tensors over all elements, in the order in which they were saved."""
    import tensorflow as tf

    parts: list[list[NDArray[Any]]] = [[] for _ in leaves]
    count = size = 0
    try:
        dataset = tf.data.Dataset.load(
            str(folder), _specs(structure), _compression(folder), lambda files: files.flat_map(lambda file: file)
        )
        wanted = int(dataset.cardinality())
        for element in (dataset if batched else dataset.batch(_BATCH)).as_numpy_iterator():
            values = [np.asarray(_at(element, leaf.path)) for leaf in leaves]
            count += 1 if batched else len(values[0])
            size += sum(value.nbytes for value in values)
            if size > LIMIT:
                raise DataError(
                    f"{shown} has more than {LIMIT / 1e9:.0f} GB of values; give fewer rows: dataset.take(n)"
                )
            for part, value in zip(parts, values, strict=True):
                part.append(value)
            step(min(count, max(wanted, 1)), max(wanted, 1), f"reading {shown}")
        if count != wanted >= 0:
            raise DataError(f"{shown} has {count} elements, expected {wanted}; it is cut short: save or copy it again")
        if not count:
            raise DataError(f"{shown} has no elements; give one row at least")
        return [np.concatenate(part) for part in parts]
    except (tf.errors.OpError, ValueError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        reason = " ".join(str(getattr(error, "message", "") or error).split())
        reason = re.sub(r"^\{\{.*?\}\} | \[Op:\w+\].*$", "", reason)[:200]
        raise DataError(
            f"{shown} cannot be read as a saved dataset: {reason}; save it again, uncompressed or with GZIP, its rows "
            "all of one shape"
        ) from error
    except OSError as error:
        raise UsageError(f"cannot read {shown}: {error.strerror}; check its permissions") from error


def _specs(structure: Any) -> Any:
    import tensorflow as tf

    if isinstance(structure, _Leaf):
        return tf.TensorSpec(structure.shape, structure.dtype)
    if isinstance(structure, dict):
        return {name: _specs(part) for name, part in structure.items()}
    return tuple(_specs(part) for part in structure)


def _at(element: Any, path: Sequence[int | str]) -> Any:
    for key in path:
        element = element[key]
    return element


def _compression(folder: Path) -> str | None:
    """How the files were packed, by their first bytes: the dataset itself does not say."""
    files = list(folder.glob("*/*/*.snapshot"))
    if not files:
        return None
    newest = max(files, key=lambda file: file.stat().st_mtime)  # a folder saved to twice holds both
    with newest.open("rb") as opened:
        return "GZIP" if opened.read(2) == GZIP_MAGIC else None
