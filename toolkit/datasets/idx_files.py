"""idx files, plain or gzip'd, with the labels that stand beside images by the MNIST family's custom."""

from __future__ import annotations

import gzip
import re
import zlib
from typing import TYPE_CHECKING, Any

from toolkit import idx
from toolkit.datasets.naming import only_input, only_output
from toolkit.datasets.rows import LIMIT, Found
from toolkit.errors import DataError, InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from toolkit.keras_model.source import TensorSpec

__all__ = ["is_idx", "read_idx"]

_IMAGES = re.compile(r"^(?P<name>.+)-images(?P<dot>[-.])idx\d-ubyte(?P<gz>\.gz)?$")


def is_idx(path: Path, start: bytes) -> bool:
    """Whether a file is idx, by its first bytes; those of a gzip'd file are looked at unfolded."""
    if not start.startswith(idx.GZIP_MAGIC):
        return idx.is_idx(start)
    try:
        with gzip.open(path) as file:
            return idx.is_idx(file.read(4))
    except (OSError, EOFError, zlib.error):
        return False


def read_idx(path: Path, shown: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Found:
    """The rows in an idx file, and for X-images-idx3-ubyte the labels in X-labels-idx1-ubyte if that stands beside it.

    The labels are taken where the model has one output of shape [batch, k].

    Raises:
        DataError: damaged, cut short or too large, or the model has several inputs.
        UsageError: a file may not be read.
    """
    spec = only_input(inputs, shown, "an idx file")
    images = _read(path, shown)
    output, labels = only_output(outputs), _labels_beside(path)
    if labels is None:
        return Found({spec.name: images}, source=path.name)
    if output is None:
        note = f"{labels.name} was left alone: this model has no output of classes for it"
        return Found({spec.name: images}, source=path.name, notes=(note,))
    known = _read(labels, str(path.with_name(labels.name)))
    return Found({spec.name: images}, {output.name: known}, None, f"{path.name} with {labels.name}")


def _labels_beside(path: Path) -> Path | None:
    named = _IMAGES.match(path.name)
    if not named:
        return None
    plain = f"{named['name']}-labels{named['dot']}idx1-ubyte"
    zipped = named["gz"] is not None
    for name in (f"{plain}.gz", plain) if zipped else (plain, f"{plain}.gz"):
        if path.with_name(name).is_file():
            return path.with_name(name)
    return None


def _read(path: Path, shown: str) -> NDArray[Any]:
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == idx.GZIP_MAGIC
        with path.open("rb") as file:
            return idx.unpack(gzip.GzipFile(fileobj=file) if zipped else file, shown, at_most=LIMIT)
    except InputError as error:
        raise DataError(str(error)) from error
    except OSError as error:
        raise UsageError(f"cannot read {shown}: {error.strerror}; check its permissions") from error
