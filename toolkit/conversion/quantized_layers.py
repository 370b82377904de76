"""The layers that an int8 file computes in 8 bits, as the runtime's quantizer wrote them down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import numpy_helper

from toolkit.errors import ModelError

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

__all__ = ["BEFORE", "LAST", "FoundLayer", "QuantizedInput", "StoredTensor", "float32_name", "quantized_layers"]

# What the runtime's quantizer appends to the names of the float32 graph.
_WEIGHTS, BEFORE, _AFTER = "_quantized", "_QuantizeLinear_Input", "_DequantizeLinear_Output"
# These only hand values on, in the same steps as they came.
_PASSING = {"Clip", "Flatten", "Identity", "MaxPool", "Relu", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
LAST = {"Softmax", "LogSoftmax", "Sigmoid"}
"""What may stand behind the answers of a model; answers are compared before it."""


@dataclass(frozen=True)
class QuantizedInput:
    """An activation that a layer takes in 8 bits.

    Attributes:
        tensor: its name in the float32 graph.
        dtype: of its quantized form; None if its scale is computed anew for each input (dynamic).
        scale: width of a step; None if dynamic.
        zero_point: the quantized form of 0; None if dynamic.
    """

    tensor: str
    dtype: str | None = None
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that is stored in 8 (a bias: 32) bits: its float32 name, and its values as the int8 file has them."""

    name: str
    rounded: NDArray[np.float32]
    scales: NDArray[np.float32]


@dataclass(frozen=True)
class FoundLayer:
    """What the int8 file says of one layer."""

    node: onnx.NodeProto
    inputs: tuple[QuantizedInput, ...]
    constants: tuple[StoredTensor, ...]


def quantized_layers(model: onnx.ModelProto) -> list[FoundLayer]:
    """Each operator with 8-bit inputs, static (between DequantizeLinear and QuantizeLinear) or dynamic, in order.

    Raises:
        ModelError: one is written in a way that is not understood.
    """
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    producers = {output: node for node in model.graph.node for output in node.output}
    found = []
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            continue
        if node.op_type in ("MatMulInteger", "ConvInteger"):
            found.append(_dynamic_layer(node, stored, producers))
            continue
        sources = [producers[name] for name in node.input if name in producers]
        dequantizers = [source for source in sources if source.op_type == "DequantizeLinear"]
        inputs = tuple(_static_input(each, stored, producers) for each in dequantizers if each.input[0] not in stored)
        constants = tuple(_constant(each, stored) for each in dequantizers if each.input[0] in stored)
        if inputs and (constants or node.op_type not in _PASSING | LAST):
            found.append(FoundLayer(node, inputs, constants))
    return found


def _static_input(
    dequantizer: onnx.NodeProto, stored: dict[str, NDArray[Any]], producers: dict[str, onnx.NodeProto]
) -> QuantizedInput:
    source = producers.get(dequantizer.input[0])
    # Raw pixels are quantized as they come: only the DequantizeLinear knows the float tensor's name.
    name = source.input[0] if source and source.op_type == "QuantizeLinear" else dequantizer.output[0]
    scale, zero = stored[dequantizer.input[1]], stored[dequantizer.input[2]]
    if scale.size != 1:
        raise ModelError(f"{name} has {scale.size} scales; activations with more than one are not understood")
    return QuantizedInput(float32_name(name), zero.dtype.name, float(scale.reshape(())), int(zero.reshape(())))


def _constant(dequantizer: onnx.NodeProto, stored: dict[str, NDArray[Any]]) -> StoredTensor:
    values, scale, zero = (stored[name] for name in dequantizer.input)
    axis = next((a.i for a in dequantizer.attribute if a.name == "axis"), 1)
    return StoredTensor(dequantizer.input[0].removesuffix(_WEIGHTS), *_dequantized(values, scale, zero, axis))


def _dynamic_layer(
    node: onnx.NodeProto, stored: dict[str, NDArray[Any]], producers: dict[str, onnx.NodeProto]
) -> FoundLayer:
    name = node.input[1].removesuffix(_WEIGHTS)
    source = producers.get(node.input[0])
    needed = (node.input[1], f"{name}_scale", *node.input[3:4])
    if source is None or source.op_type != "DynamicQuantizeLinear" or not set(needed) <= stored.keys():
        raise ModelError(f"{node.op_type} of {name} is not as the runtime's dynamic quantizer writes it")
    values, scale = stored[node.input[1]], stored[f"{name}_scale"]
    zero = stored[node.input[3]] if len(node.input) > 3 else np.zeros_like(scale, values.dtype)
    axis = 0 if node.op_type == "ConvInteger" else values.ndim - 1
    constant = StoredTensor(name, *_dequantized(values, scale, zero, axis))
    return FoundLayer(node, (QuantizedInput(source.input[0]),), (constant,))


def _dequantized(
    values: NDArray[Any], scale: NDArray[Any], zero: NDArray[Any], axis: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Stored values as float32, and their scales as a flat array."""
    flat = scale.reshape(-1).astype(np.float32)
    shape = [1] * values.ndim
    if len(flat) > 1:
        shape[axis] = len(flat)
    elif values.ndim == 0:
        shape = []
    wide = values.astype(np.int64) - zero.reshape(-1).astype(np.int64).reshape(
        shape if zero.size > 1 else [1] * values.ndim
    )
    return (wide.astype(np.float32) * flat.reshape(shape)).astype(np.float32), flat


def float32_name(name: str) -> str:
    """What a tensor of the int8 graph is called in the float32 graph."""
    return name.removesuffix(_AFTER).removesuffix(BEFORE)
