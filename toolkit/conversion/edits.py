"""Edits of a quantized graph that change no answer and let the runtime use its int8 kernels."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

__all__ = ["is_pixels", "part_activations", "take_raw_pixels"]

_ZERO = "activation/zero"


def is_pixels(model: onnx.ModelProto, tensor: str) -> bool:
    """Whether a tensor of a float graph is the image divided by 255 and nothing else was done to it.

    Uint8 images come through Cast and times 1/255, float ones are divided already; both may be reshaped.
    """
    graph = model.graph
    constants = {t.name: t for t in graph.initializer}
    makers = {node.output[0]: node for node in graph.node}
    scaled = graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    while tensor != graph.input[0].name:
        node = makers.get(tensor)
        if node is None or node.op_type not in ("Cast", "Flatten", "Mul", "Reshape"):
            return False
        if node.op_type == "Mul":
            factor = numpy_helper.to_array(constants[node.input[1]]) if node.input[1] in constants else None
            if scaled or factor is None or factor.size != 1 or factor.item() != np.float32(1 / 255):
                return False
            scaled = True
        tensor = node.input[0]
    return bool(scaled)


def take_raw_pixels(model: onnx.ModelProto) -> bool:
    """Where the input runs Cast, times 1/255, Reshape, QuantizeLinear(1/255, 0), only the Reshape does anything.

    Round(x / 255 * 255) is x for each of the 256 pixel values, so the other three are dropped. A graph that begins
    otherwise (its first layer stays in float) is left as it is.

    Returns:
        Whether the graph was edited.
    """
    graph = model.graph
    if graph.input[0].type.tensor_type.elem_type != onnx.TensorProto.UINT8:
        return False
    chain, tensor = [], graph.input[0].name
    for wanted in ("Cast", "Mul", "Reshape", "QuantizeLinear"):
        users = [node for node in graph.node if tensor in node.input]
        if len(users) != 1 or users[0].op_type != wanted:
            return False
        chain.append(users[0])
        tensor = users[0].output[0]
    cast, scaling, reshape, quantizer = chain
    reshape.input[0] = graph.input[0].name
    reshape.output[0] = quantizer.output[0]
    for node in (cast, scaling, quantizer):
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for tensor_proto in list(graph.initializer):
        if tensor_proto.name not in used:
            graph.initializer.remove(tensor_proto)
    return True


def part_activations(model: onnx.ModelProto) -> int:
    """Write a Relu between a quantized layer and a float one as Max(x, 0).

    The runtime looks behind a Relu for a QuantizeLinear and, where there is none, gives up on the layer before it: the
    weights are then dequantized anew in each run (onnxruntime 1.31: 52 us instead of 10 for a layer of 784 x 300). It
    does not look behind a Max.

    Returns:
        How many were written anew.
    """
    graph = model.graph
    dequantized = {n.output[0] for n in graph.node if n.op_type == "DequantizeLinear"}
    layers = {
        n.output[0]
        for n in graph.node
        if n.op_type in ("Conv", "Gemm", "MatMul") and {n.input[0], n.input[1]} <= dequantized
    }
    rounded = {n.input[0] for n in graph.node if n.op_type == "QuantizeLinear"}
    parted = [n for n in graph.node if n.op_type == "Relu" and n.input[0] in layers and n.output[0] not in rounded]
    for node in parted:
        node.op_type = "Max"
        node.input.append(_ZERO)
    if parted:
        graph.initializer.append(numpy_helper.from_array(np.array(0, np.float32), _ZERO))
    return len(parted)
