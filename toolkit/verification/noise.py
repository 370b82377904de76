"""What rounding to 8 bits does to values, as numbers: noise against signal, range used, share clipped.

Values come in parts, and only sums, counts and one pair of numbers a unit are kept: memory does not grow with them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BEST_DB", "InputRange", "NoiseRatio"]

BEST_DB = 20 * math.log10(2**24)
"""What float32 itself rounds, 144.5 dB: a smaller error counts as that, so that no ratio is infinite."""


class NoiseRatio:
    """Signal to quantization noise ratio (SQNR) of values that come in parts.

    In dB: 10 log10(sum x^2 / sum (x - y)^2), x exact and y quantized, over all values; the definition of
    ``onnxruntime.quantization.qdq_loss_debug``.
    """

    def __init__(self) -> None:
        self.signal = self.noise = 0.0

    def add(self, exact: NDArray[Any], quantized: NDArray[Any]) -> None:
        """Take in two arrays of one shape."""
        wide = exact.astype(np.float64)
        self.signal += float(np.square(wide).sum())
        self.noise += float(np.square(wide - quantized).sum())

    @property
    def db(self) -> float:
        """The ratio in dB, from -`BEST_DB` to `BEST_DB`; NaN if a value was none."""
        if math.isnan(self.signal) or math.isnan(self.noise):
            return math.nan
        if self.noise <= self.signal * 2.0**-48:
            return BEST_DB
        return max(-BEST_DB, 10 * math.log10(self.signal / self.noise)) if self.signal else -BEST_DB


class InputRange:
    """How an activation, in parts, fills the range that its 8 bits were given.

    Args:
        scale: width of a step.
        zero_point: the quantized form of 0.
        dtype: of the quantized form.
    """

    def __init__(self, scale: float, zero_point: int, dtype: str) -> None:
        info = np.iinfo(dtype)
        self._scale = scale
        self.low, self.high = ((int(end) - zero_point) * scale for end in (info.min, info.max))
        """The least and the greatest value that fit."""
        self.clipping = self.rounding = 0.0
        """Sum of squared errors of the values that did not fit, and of those that did."""
        self._count = self._clipped = 0
        self._least, self._greatest = np.array(math.inf), np.array(-math.inf)

    def add(self, values: NDArray[Any]) -> None:
        """Take in float values of shape (images, units): a unit is a neuron, or one place of a map."""
        wide = values.astype(np.float64)
        # Half a step beyond the last one still rounds to it.
        fits = (wide >= self.low - self._scale / 2) & (wide <= self.high + self._scale / 2)
        steps = np.rint((np.clip(wide, self.low, self.high) - self.low) / self._scale)
        errors = np.square(wide - (steps * self._scale + self.low))
        self.clipping += float(errors[~fits].sum())
        self.rounding += float(errors[fits].sum())
        self._clipped += int((~fits).sum())
        self._count += wide.size
        self._least = np.minimum(self._least, wide.min(axis=0))
        self._greatest = np.maximum(self._greatest, wide.max(axis=0))

    @property
    def reach(self) -> tuple[float, float]:
        """The least and the greatest value that came."""
        return float(self._least.min()), float(self._greatest.max())

    @property
    def clipped(self) -> float:
        """Share of values outside the range by more than half a step."""
        return self._clipped / self._count

    @property
    def used(self) -> float:
        """Share of the range between the least and the greatest value of the middle unit; 0 if no unit ever changes.

        The middle one of those that change, because all units together fill a range that one of them stretched.
        """
        spans = np.clip(self._greatest, self.low, self.high) - np.clip(self._least, self.low, self.high)
        changing = spans[self._greatest > self._least]
        return float(np.median(changing) / (self.high - self.low)) if changing.size else 0.0
