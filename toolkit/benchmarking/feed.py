"""What models are timed with: random rows in the range that a file names."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toolkit.predictor import TensorInfo

__all__ = ["InputReport", "alone", "fed_with", "random_rows", "singles"]


@dataclass(frozen=True)
class InputReport:
    """What an input of the models was fed with: seeded random numbers, evenly spread.

    Attributes:
        name, dtype: of the input.
        shape: of one row, free dimensions filled in.
        low, high: the range of the numbers.
        notes: what was chosen because the file does not say it.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    low: float
    high: float
    notes: tuple[str, ...]


def fed_with(tensor: TensorInfo, bounds: tuple[float, float] | None, free: int) -> InputReport:
    """What an input is to be fed with.

    Args:
        tensor: the input.
        bounds: the range that the file names; None: 0 to 255 for uint8, else 0 to 1.
        free: size of free dimensions.
    """
    notes = []
    if bounds is None:
        bounds = (0.0, 255.0 if tensor.dtype == np.uint8 else 1.0)
        notes.append("the file says no range")
    if None in tensor.shape:
        notes.append(f"free dimensions are {free}")
    shape = tuple(free if size is None else size for size in tensor.shape)
    return InputReport(tensor.name, str(tensor.dtype), shape, *bounds, tuple(notes))


def random_rows(fed: InputReport, n: int, seed: int) -> NDArray[Any]:
    """Rows of shape (n, *shape), evenly spread over the range; of integers, both its ends occur.

    Args:
        fed: dtype, shape and range; of truth values the range does not matter.
        n: how many rows.
        seed: of the random numbers.
    """
    generator, dtype, shape = np.random.default_rng(seed), np.dtype(fed.dtype), (n, *fed.shape)
    if dtype.kind == "b":
        return generator.integers(0, 2, shape).astype(bool)
    if dtype.kind == "f":
        # In float64, and clipped: rounding must not step over an end that the predictor guards.
        values = fed.low + generator.random(shape, np.float32).astype(np.float64) * (fed.high - fed.low)
        return np.clip(values, fed.low, fed.high).astype(dtype)
    limits = np.iinfo(dtype)
    low, high = max(math.ceil(fed.low), limits.min), min(math.floor(fed.high), limits.max)
    return generator.integers(low, high, shape, dtype=dtype.type, endpoint=True)


def singles(rows: dict[str, NDArray[Any]]) -> list[Any]:
    """One row each: an array where there is one input, as that is the shortest path."""
    count = len(next(iter(rows.values())))
    return [alone({name: array[i, ...] for name, array in rows.items()}) for i in range(count)]


def alone(rows: dict[str, NDArray[Any]]) -> Any:
    """The array itself where there is one input."""
    return next(iter(rows.values())) if len(rows) == 1 else rows
