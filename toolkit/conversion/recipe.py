"""Quantization recipes as data."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.errors import UsageError

__all__ = ["CALIBRATIONS", "METHODS", "QuantizationRecipe"]

METHODS = ("static", "dynamic")
CALIBRATIONS = ("minmax",)


@dataclass(frozen=True)
class QuantizationRecipe:
    """How a model is quantized.

    Attributes:
        method: "static" (scales of activations fixed by calibration) or "dynamic" (computed for each input).
        per_channel: one weight scale an output channel instead of one a tensor.
        portable: weight scales with which the sums are the same on every CPU (see `toolkit.conversion.portable`),
            instead of the finest that 8 bits allow.
        calibration: how static ranges are taken from what calibration sees: "minmax".
        calibration_images: how many training images calibration sees.
        seed: which ones.
    """

    method: str = "static"
    per_channel: bool = False
    portable: bool = True
    calibration: str = "minmax"
    calibration_images: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"quantization method is {self.method!r}, expected one of {', '.join(METHODS)}")
        if self.calibration not in CALIBRATIONS:
            raise UsageError(f"calibration is {self.calibration!r}, expected one of {', '.join(CALIBRATIONS)}")
        if self.calibration_images < 1:
            raise UsageError(f"calibration images is {self.calibration_images}, expected 1 or more")
