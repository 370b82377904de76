"""The edit that lets a static int8 file take raw pixels at no cost."""

from __future__ import annotations

import onnx

__all__ = ["take_raw_pixels"]


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
