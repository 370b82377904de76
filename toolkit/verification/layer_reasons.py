"""Why an int8 layer errs, in words: its weights or its input, from what is known of the layer itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from toolkit.verification.noise import InputRange, NoiseRatio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Layer", "LayerInput", "input_reason", "per_channel_helps", "weights_reason"]


class LayerInput(Protocol):
    """An activation that a layer takes in 8 bits; see `toolkit.conversion.quantized_layers.QuantizedInput`."""

    @property
    def tensor(self) -> str:
        """Its name."""

    @property
    def dtype(self) -> str | None:
        """Of its quantized form; None if dynamic."""

    @property
    def scale(self) -> float | None:
        """Width of a step; None if dynamic."""

    @property
    def zero_point(self) -> int | None:
        """The quantized form of 0; None if dynamic."""


class Layer(Protocol):
    """A quantized layer; see `toolkit.conversion.layer_activations.QuantizedLayer`."""

    @property
    def layer(self) -> str:
        """Name of the Keras layer."""

    @property
    def operator(self) -> str:
        """As in the int8 file."""

    @property
    def inputs(self) -> Sequence[LayerInput]:
        """Activations that it takes in 8 bits."""

    @property
    def weights(self) -> NDArray[np.float32] | None:
        """Of the float32 file, (summed dimension, outputs)."""

    @property
    def rounded(self) -> NDArray[np.float32] | None:
        """The same as the int8 file has them."""

    @property
    def scales(self) -> NDArray[np.float32] | None:
        """Of the weights, (1,) or (outputs,)."""

    @property
    def load(self) -> int | None:
        """What two paired weights come to."""

    @property
    def load_limit(self) -> int | None:
        """The most that cannot saturate."""


def weights_reason(layer: Layer, zeroed: float) -> tuple[str, str]:
    """Cause and reason where a layer's own weights are to blame, of which a share became 0."""
    if layer.weights is None or layer.rounded is None or layer.scales is None:
        raise ValueError(f"{layer.layer} has no weights to find a reason in")
    off = float((np.abs(layer.weights - layer.rounded) / layer.scales).max())
    if off > 0.75:  # rounding is half a step; with portable scales a hair more at the ends
        return "mismatch", f"its weights are not those of the float32 file, they are off by up to {off:.0f} steps"
    sizes = np.abs(layer.weights[layer.weights != 0])
    spread = f"from {_number(np.median(sizes))} (median) to {_number(sizes.max())}"
    scale = "one scale" if len(layer.scales) == 1 else "a scale each output"
    return "weights", f"its weights have {scale} for values {spread}, {zeroed:.0%} of them become 0"


def input_reason(layer: Layer, ranges: Sequence[InputRange | None]) -> tuple[str, str]:
    """Cause and reason where the rounding of its inputs is; None for an input whose scale is dynamic."""
    found = [(each, span) for each, span in zip(layer.inputs, ranges, strict=True) if span is not None]
    if not found:
        return "range", f"its input {layer.inputs[0].tensor} is too uneven for one 8-bit scale an image"
    worst, span = max(found, key=lambda pair: pair[1].clipping + pair[1].rounding)
    if span.clipping > span.rounding:
        return "clipping", (
            f"{span.clipped:.1%} of its input {worst.tensor} is clipped to the range {_number(span.low)} to "
            f"{_number(span.high)}, but values reach from {_number(span.reach[0])} to {_number(span.reach[1])}"
        )
    return "range", (
        f"the middle unit of its input {worst.tensor} uses {span.used:.1%} of the quantized range "
        f"{_number(span.low)} to {_number(span.high)}"
    )


def _number(value: float) -> str:
    return f"{value:,.2g}" if abs(value) < 100 else f"{value:,.0f}"


def per_channel_helps(layer: Layer) -> bool:
    """One weight scale an output would give the middle output at least 6 dB (one bit) more."""
    if layer.weights is None or layer.rounded is None or layer.scales is None or len(layer.scales) > 1:
        return False
    scales = np.abs(layer.weights).max(axis=0) / np.float32(127)
    scales = np.where(scales > 0, scales, np.float32(1))
    finer = np.rint(layer.weights / scales) * scales
    return _middle_db(layer.weights, finer) >= _middle_db(layer.weights, layer.rounded) + 6


def _middle_db(weights: NDArray[np.float32], rounded: NDArray[np.float32]) -> float:
    """The median over outputs: that of all weights together is the largest output's, whatever becomes of the others."""
    ratios = []
    for exact, quantized in zip(weights.T, rounded.T, strict=True):
        ratio = NoiseRatio()
        ratio.add(exact, quantized)
        ratios.append(ratio.db)
    return float(np.median(ratios))
