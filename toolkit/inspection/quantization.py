"""How each layer of an ONNX file is quantized: scale, zero point and axis of what goes in and comes out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from toolkit.inspection.facts import QuantizedLayer, QuantizedTensor
from toolkit.inspection.onnx_shapes import attribute

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx
    from numpy.typing import NDArray

__all__ = ["INTEGER", "kind_of", "quantized_layers"]

_HANDING_ON = {"DequantizeLinear", "QuantizeLinear", "DynamicQuantizeLinear", "Constant", "Identity"}
# Integer operators: where each has a tensor, its scale and its zero point (ONNX's Operators.md, the runtime's
# ContribOperators.md).
INTEGER = {
    "ConvInteger": (("activation", 0, None, 2), ("weights", 1, None, 3)),
    "MatMulInteger": (("activation", 0, None, 2), ("weights", 1, None, 3)),
    "QLinearConv": (("activation", 0, 1, 2), ("weights", 3, 4, 5), ("output", None, 6, 7)),
    "QLinearMatMul": (("activation", 0, 1, 2), ("weights", 3, 4, 5), ("output", None, 6, 7)),
    "QGemm": (("activation", 0, 1, 2), ("weights", 3, 4, 5), ("output", None, 7, 8)),
    "MatMulIntegerToFloat": (("activation", 0, 2, 4), ("weights", 1, 3, 5)),
    "DynamicQuantizeMatMul": (("weights", 1, 2, 3),),
}


def quantized_layers(model: onnx.ModelProto, constants: Mapping[str, NDArray[Any]]) -> tuple[QuantizedLayer, ...]:
    """Each operator that takes quantized tensors, in the file's order.

    Args:
        model: whole.
        constants: what the file stores, by name.
    """
    producers = {output: node for node in model.graph.node for output in node.output}
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    found = []
    for node in model.graph.node:
        if node.op_type in _HANDING_ON:
            continue
        if node.op_type in INTEGER:
            tensors = _integer(node, constants, producers)
        elif node.op_type == "MatMulNBits":
            tensors = _packed(node, constants)
        else:
            tensors = _between(node, constants, producers, consumers)
        if tensors:
            found.append(QuantizedLayer(node.name or node.output[0], node.op_type, tuple(tensors)))
    return tuple(found)


def kind_of(model: onnx.ModelProto, layers: tuple[QuantizedLayer, ...], stored: Mapping[str, Any]) -> str:
    """What a person calls the file: by its quantized layers, else by the floats that it stores."""
    operators = {node.op_type for node in model.graph.node}
    if "MatMulNBits" in operators:
        bits = sorted({attribute(n, "bits", 4) for n in model.graph.node if n.op_type == "MatMulNBits"})
        return f"int{'/'.join(map(str, bits))} weights"
    widths = {t.dtype.lstrip("u") for layer in layers for t in layer.tensors if t.role in ("weights", "activation")}
    if widths:
        activations = any(t.role == "activation" for layer in layers for t in layer.tensors)
        dynamic = operators & {"DynamicQuantizeLinear", "DynamicQuantizeMatMul"}
        how = "dynamic" if dynamic else "static" if activations else "weights only"
        return f"{'/'.join(sorted(widths))} ({how})"
    floats = {name: entry.numbers for name, entry in stored.items() if "float" in name}
    return max(floats, key=lambda name: floats[name]) if floats else "float32"


def _between(
    node: onnx.NodeProto,
    constants: Mapping[str, NDArray[Any]],
    producers: Mapping[str, onnx.NodeProto],
    consumers: Mapping[str, list[onnx.NodeProto]],
) -> list[QuantizedTensor]:
    """An operator between DequantizeLinear and QuantizeLinear; one without a dequantized input has no tensors."""
    tensors = []
    for place, name in enumerate(node.input):
        source = producers.get(name)
        if source is None or source.op_type != "DequantizeLinear":
            continue
        stored = source.input[0] in constants
        role = ("bias" if place == 2 else "weights") if stored else "activation"
        tensors.append(_tensor(role, source.input[0], source, constants))
    after = consumers.get(node.output[0], []) if tensors else []
    if len(after) == 1 and after[0].op_type == "QuantizeLinear":
        tensors.append(_tensor("output", after[0].output[0], after[0], constants))
    return tensors


def _tensor(role: str, name: str, quantizer: onnx.NodeProto, constants: Mapping[str, NDArray[Any]]) -> QuantizedTensor:
    zero = quantizer.input[2] if len(quantizer.input) > 2 else None
    axis = attribute(quantizer, "axis", 1)
    return _described(role, name, quantizer.input[1], zero, constants, axis)


def _described(
    role: str, name: str, scale: str | None, zero: str | None, constants: Mapping[str, NDArray[Any]], axis: int
) -> QuantizedTensor:
    scales = constants.get(scale) if scale else None
    zeros = constants.get(zero) if zero else None
    typed = constants.get(name, zeros)
    dtype = "uint8" if typed is None else typed.dtype.name  # what the standard says where nothing is said
    several = scales is not None and scales.size > 1
    return QuantizedTensor(
        tensor=name,
        role=role,
        dtype=dtype,
        scale=_range_of(scales),
        scales=None if scales is None else int(scales.size),
        zero_point=_zero_point(zeros, zero, known=scales is not None),
        axis=axis if several else None,
    )


def _range_of(scales: NDArray[Any] | None) -> tuple[float | None, ...] | None:
    if scales is None or not scales.size:
        return None
    ends = (float(scales.min()), float(scales.max()))[: 1 if scales.size == 1 else 2]
    return tuple(end if math.isfinite(end) else None for end in ends)


def _zero_point(zeros: NDArray[Any] | None, name: str | None, *, known: bool) -> int | None:
    if zeros is None:
        return 0 if known and not name else None  # left out means 0
    values = {int(value) for value in zeros.reshape(-1)[:100_000]}
    return values.pop() if len(values) == 1 else None


def _integer(
    node: onnx.NodeProto, constants: Mapping[str, NDArray[Any]], producers: Mapping[str, onnx.NodeProto]
) -> list[QuantizedTensor]:
    tensors = []
    for role, place, scale, zero in INTEGER[node.op_type]:
        name = node.output[0] if place is None else node.input[place]
        scale_name = _input(node, scale)
        if scale is None and role == "weights":
            # The dynamic quantizer of the runtime multiplies by it later, under a name that it makes of the weights'.
            guess = f"{name.removesuffix('_quantized')}_scale"
            scale_name = guess if guess in constants else None
        source = producers.get(name)
        if source is not None and source.op_type == "DynamicQuantizeLinear":
            tensors.append(QuantizedTensor(name, role, "uint8", None, None, None, None))
            continue
        convolution = "Conv" in node.op_type
        rank = constants[name].ndim if name in constants else 2
        axis = 0 if convolution else rank - 1
        tensors.append(_described(role, name, scale_name, _input(node, zero), constants, axis))
    return tensors


def _input(node: onnx.NodeProto, place: int | None) -> str | None:
    return node.input[place] or None if place is not None and place < len(node.input) else None


def _packed(node: onnx.NodeProto, constants: Mapping[str, NDArray[Any]]) -> list[QuantizedTensor]:
    """Weights of a few bits, in blocks along the summed dimension, each with a scale of its own."""
    scales = constants.get(node.input[2])
    zeros = _input(node, 3)
    middle = 1 << (attribute(node, "bits", 4) - 1)
    return [
        QuantizedTensor(
            tensor=node.input[1],
            role="weights",
            dtype=f"uint{attribute(node, 'bits', 4)}",
            scale=_range_of(scales),
            scales=None if scales is None else int(scales.size),
            zero_point=None if zeros else middle,  # the runtime's ContribOperators.md: 2^(bits - 1) where none is given
            axis=None,
        )
    ]
