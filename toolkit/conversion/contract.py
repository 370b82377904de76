"""What an exported file takes: the Keras model's own inputs, or raw integers whose scaling is in the graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from toolkit.keras_model.source import SourceModel, TensorSpec

__all__ = ["RAW_DTYPES", "FileInput", "Scaling", "file_inputs"]

RAW_DTYPES = ("uint8", "int8")
"""Integers that a file can take for a float input of the Keras model."""


@dataclass(frozen=True)
class Scaling:
    """How a raw integer becomes what the Keras model takes: value * scale + offset, in float32.

    Attributes:
        dtype: of the raw values, one of `RAW_DTYPES`.
        scale: finite and not 0.
        offset: finite.
    """

    dtype: str
    scale: float
    offset: float

    @property
    def zero_point(self) -> int | None:
        """The raw value that stands for 0 where that is a whole number of the dtype, else None.

        With it, the raw values are the quantized form of the input, and quantizing them costs nothing.
        """
        exact = -self.offset / self.scale
        nearest = round(exact)
        limits = np.iinfo(self.dtype)
        # float32 knows 1/255 to 6e-8 of itself, so 255 of them may be off by that much of one.
        return nearest if abs(exact - nearest) < 1e-4 and limits.min <= nearest <= limits.max else None


@dataclass(frozen=True)
class FileInput:
    """One input of an exported file.

    Attributes:
        name: as the Keras model calls it.
        shape: with the batch; None for a free dimension.
        dtype: what the file takes.
        keras_dtype: what the Keras model takes.
        scaling: from the one to the other, or None where they are the same.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    keras_dtype: str
    scaling: Scaling | None = None

    def to_keras(self, rows: NDArray[Any]) -> NDArray[Any]:
        """What the Keras model gets for rows that the file takes."""
        if self.scaling is None:
            return rows
        scaled = rows.astype(np.float32) * np.float32(self.scaling.scale) + np.float32(self.scaling.offset)
        return scaled.astype(self.keras_dtype)

    @property
    def range(self) -> list[float] | None:
        """The values that the file takes, where they are bounded by more than the dtype: those of raw integers."""
        if self.scaling is None:
            return None
        limits = np.iinfo(self.scaling.dtype)
        return [float(limits.min), float(limits.max)]


def file_inputs(source: SourceModel, scaling: Scaling | None) -> list[FileInput]:
    """The inputs of a model's exported file; a scaling is that of its float inputs.

    Raises:
        ModelError: an input that no device could be given, or a scaling where there is nothing to scale.
    """
    floats = [spec for spec in source.inputs if spec.dtype == "float32"]
    if scaling is not None and len(floats) != 1:
        names = ", ".join(spec.name for spec in floats) or "none"
        raise ModelError(
            f"the model '{source.name}' has {len(floats)} float32 inputs ({names}), expected one that the input scale "
            "is for; leave out --input-scale"
        )
    for spec in source.inputs:
        if spec.dtype not in _NUMERIC:
            raise ModelError(
                f"input '{spec.name}' of the model '{source.name}' is of dtype {spec.dtype}, expected numbers; do what "
                "turns them into numbers before the model"
            )
        if not spec.shape:
            raise ModelError(f"input '{spec.name}' of the model '{source.name}' has no batch dimension; add one")
    return [_file_input(spec, scaling if spec in floats else None) for spec in source.inputs]


def _file_input(spec: TensorSpec, scaling: Scaling | None) -> FileInput:
    return FileInput(spec.name, spec.shape, scaling.dtype if scaling else spec.dtype, spec.dtype, scaling)


_NUMERIC: Sequence[str] = (
    "float32", "float16", "float64", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
)  # fmt: skip
