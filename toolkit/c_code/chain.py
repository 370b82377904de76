"""What an int8 model computes, as integers: a chain of dense layers, and numpy that runs it with the same bits.

This is all that the C code knows of a model. Every float operation in it is one IEEE 754 single-precision operation,
rounded once, in a fixed order; that is why C, numpy and onnxruntime give the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Chain", "Dense", "Requantization", "rounded", "run"]


@dataclass(frozen=True, eq=False)
class Requantization:
    """From a layer's int32 sums to the uint8 that the next one takes.

    ``rint(sum * multiplier) + zero_point``, held between `least` and `most`; where `floor` or `ceiling` is given, the
    runtime computes in two steps: ``value = sum * multiplier`` (then in the layer's own units) held between them, and
    ``rint(value / scale) + zero_point``.

    Attributes:
        scale: of the result: one step, in the layer's own units, float32.
        zero_point: the result's form of 0.
        two_steps: whether the sum is first made a float in the layer's units.
        floor: there, the activation's least value; None for none.
        ceiling: there, its greatest.
    """

    scale: np.float32
    zero_point: int
    two_steps: bool = False
    floor: np.float32 | None = None
    ceiling: np.float32 | None = None


@dataclass(frozen=True, eq=False)
class Dense:
    """A dense layer in integers.

    Attributes:
        name: in the Keras model.
        weights: int8 (outputs, inputs).
        bias: int32 (outputs,), with what the input's zero point adds already taken off, for inputs as uint8.
        weight_scales: float32, (1,) or one an output.
        input_scale: one step of its input.
        multipliers: float32, (1,) or one an output: what a sum is multiplied by.
        then: how the sums become the next layer's input; None for the last, whose floats are the answer.
    """

    name: str
    weights: NDArray[np.int8]
    bias: NDArray[np.int32]
    weight_scales: NDArray[np.float32]
    input_scale: np.float32
    multipliers: NDArray[np.float32]
    then: Requantization | None

    @property
    def inputs(self) -> int:
        """How many values it takes."""
        return int(self.weights.shape[1])

    @property
    def outputs(self) -> int:
        """How many it gives."""
        return int(self.weights.shape[0])


@dataclass(frozen=True, eq=False)
class Chain:
    """An int8 model that is nothing but dense layers.

    Attributes:
        input_dtype: "uint8", "int8" or "float32".
        input_shape: of one row.
        input_scale: one step of the quantized input.
        input_zero_point: the quantized (uint8) form of 0.
        input_table: uint8 (256,): what each byte of an integer input becomes, where the file scales it first; None
            where it is taken as it is.
        layers: in order; the last one's floats are the answer.
        task: "classification", "binary", "multilabel" or "values".
        end: what the ONNX file has behind the answer: "Softmax", "Sigmoid" or None.
        class_names: of a classifier.
        source_sha256: of the ONNX file.
    """

    input_dtype: str
    input_shape: tuple[int, ...]
    input_scale: np.float32
    input_zero_point: int
    layers: tuple[Dense, ...]
    task: str
    end: str | None
    class_names: tuple[str, ...]
    source_sha256: str
    input_table: NDArray[np.uint8] | None = None

    @property
    def inputs(self) -> int:
        """Values in one row."""
        return self.layers[0].inputs

    @property
    def outputs(self) -> int:
        """Values in one answer."""
        return self.layers[-1].outputs


def run(chain: Chain, rows: NDArray[Any]) -> NDArray[np.float32]:
    """What the C code computes, in numpy: float32 (n, outputs) for (n, ...) of the chain's input type."""
    values = _quantized_input(chain, rows.reshape(len(rows), -1))
    for layer in chain.layers:
        # Sums stay below 2**53, so float64 is exact, and numpy has a fast product of it.
        sums = values.astype(np.float64) @ layer.weights.T.astype(np.float64) + layer.bias
        scaled = sums.astype(np.int32).astype(np.float32) * layer.multipliers
        if layer.then is None:
            return scaled
        values = _requantized(scaled, layer.then)
    raise AssertionError("a chain ends in a layer that gives floats")


def _quantized_input(chain: Chain, rows: NDArray[Any]) -> NDArray[np.uint8]:
    if chain.input_table is not None:
        return chain.input_table[rows.view(np.uint8)]
    if chain.input_dtype == "uint8":
        return rows
    if chain.input_dtype == "int8":
        return rows.view(np.uint8) ^ np.uint8(0x80)
    return rounded((rows / chain.input_scale).astype(np.float32), chain.input_zero_point)


def _requantized(scaled: NDArray[np.float32], then: Requantization) -> NDArray[np.uint8]:
    if then.two_steps:
        if then.floor is not None:
            scaled = np.maximum(scaled, then.floor)
        if then.ceiling is not None:
            scaled = np.minimum(scaled, then.ceiling)
        scaled = scaled / then.scale
    return rounded(scaled, then.zero_point)


def rounded(values: NDArray[np.float32], zero_point: int) -> NDArray[np.uint8]:
    """Values in steps to uint8: to the nearest, ties to even, held to what there is."""
    held = np.clip(values, np.float32(-zero_point), np.float32(255 - zero_point))
    return (np.rint(held).astype(np.int32) + zero_point).astype(np.uint8)
