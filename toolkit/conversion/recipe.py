"""Quantization recipes as data."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.errors import UsageError

__all__ = ["CALIBRATIONS", "METHODS", "QuantizationRecipe"]

METHODS = {"static": "int8", "dynamic": "int8", "int4": "int4", "float16": "float16"}
"""Each method and the kind of file that it makes."""

CALIBRATIONS = ("minmax", "entropy", "percentile")


@dataclass(frozen=True)
class QuantizationRecipe:
    """How a model is quantized.

    Attributes:
        method: "static" (int8; scales of activations fixed by calibration), "dynamic" (int8; computed for each
            input), "int4" (weights of 4 bits in blocks, computed with in 8) or "float16" (weights stored in half
            precision).
        per_channel: one weight scale an output channel instead of one a tensor, in all layers (int8). Convolutions have
            that anyway, and so have dense layers whose channels differ much (`quantize.PER_CHANNEL_GAIN`).
        portable: weight scales with which the sums are the same on every CPU (see `toolkit.conversion.portable`),
            instead of the finest that 8 bits allow (int8).
        reduce_range: weights of 7 bits, the usual cure against saturation; coarser than portable scales (int8).
        calibration: how static ranges are taken from what calibration sees: "minmax" (all of it), "entropy" (the
            threshold that loses the least information) or "percentile".
        percentile: percentage of values inside the range, of (50, 100]; for "percentile".
        calibration_images: how many training images calibration sees (static).
        seed: which ones.
        bias_correction: what rounding the weights does to a layer's output on average is taken back in its bias (see
            `toolkit.conversion.bias`; static).
        keep_float: Keras layers that stay in float.
    """

    method: str = "static"
    per_channel: bool = False
    portable: bool = True
    reduce_range: bool = False
    calibration: str = "minmax"
    percentile: float = 99.99
    calibration_images: int = 2000
    seed: int = 0
    bias_correction: bool = True
    keep_float: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"quantization method is {self.method!r}, expected one of {', '.join(METHODS)}")
        if self.calibration not in CALIBRATIONS:
            raise UsageError(f"calibration method is {self.calibration!r}, expected one of {', '.join(CALIBRATIONS)}")
        if self.calibration_images < 1:
            raise UsageError(f"calibration images are {self.calibration_images}, expected 1 or more")
        if not 50 < self.percentile <= 100:
            raise UsageError(f"percentile is {self.percentile}, expected more than 50 and at most 100")
        if self.portable and self.reduce_range:
            raise UsageError("7-bit weights are portable as they are; give either portable scales or 7 bits, not both")

    @property
    def kind(self) -> str:
        """The kind of file that it makes: "int8", "int4" or "float16"."""
        return METHODS[self.method]

    @property
    def title(self) -> str:
        """What sets it apart, in a few words."""
        if self.kind != "int8":
            words = [self.method]
        else:
            scales = "7 bits" if self.reduce_range else "portable" if self.portable else "plain"
            words = [f"int8 {self.method}", "per channel" if self.per_channel else "per tensor", scales]
            if self.method == "static":
                words.append(self.calibration)
                words += [] if self.bias_correction else ["no bias correction"]
        if self.keep_float:
            words.append(f"but {' and '.join(self.keep_float)} in float")
        return " ".join(words)

    def options(self) -> list[str]:
        """The options of ``toolkit export`` that ask for this recipe."""
        default = QuantizationRecipe()
        given = ["--quantize" if self.method == "static" else f"--quantize={self.method}"]
        given += ["--per-channel"] if self.per_channel else []
        given += ["--reduce-range"] if self.reduce_range else []
        given += ["--no-portable"] if not self.portable and not self.reduce_range and self.kind == "int8" else []
        if self.calibration != default.calibration:
            given.append(f"--calibration-method={self.calibration}")
        if self.percentile != default.percentile:
            given.append(f"--percentile={self.percentile:g}")
        if self.calibration_images != default.calibration_images:
            given.append(f"--calibration-images={self.calibration_images}")
        given += [] if self.bias_correction else ["--no-bias-correction"]
        return given + [f"--keep-float={layer}" for layer in self.keep_float]
