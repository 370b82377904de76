"""Edits of a quantized graph that change no answer and let the runtime use its int8 kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from toolkit.conversion.contract import Scaling
from toolkit.conversion.tidy import drop_unused

__all__ = ["Raw", "part_activations", "raw_form", "take_raw_input"]

_VIEWS = ("Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


@dataclass(frozen=True)
class Raw:
    """A float tensor that is the model's raw integer input, scaled.

    Attributes:
        input: the model's input.
        scaling: from it to the tensor's values.
        views: what gives it another shape on the way, from the tensor back to the input.
    """

    input: str
    scaling: Scaling
    views: tuple[onnx.NodeProto, ...]

    @property
    def parameters(self) -> dict[str, Any] | None:
        """Scale and zero point with which the raw values are the tensor's quantized form; None if there are none."""
        zero = self.scaling.zero_point
        if zero is None or self.scaling.dtype != "uint8" or self.scaling.scale <= 0:
            return None
        return {"scale": np.array(self.scaling.scale, np.float32), "zero_point": np.array(zero, np.uint8)}


def raw_form(model: onnx.ModelProto, tensor: str) -> Raw | None:
    """A tensor of a float graph as a scaled raw input, if nothing else was done to that."""
    graph = model.graph
    constants = {t.name: t for t in graph.initializer}
    makers = {node.output[0]: node for node in graph.node}
    inputs = {value.name: value.type.tensor_type.elem_type for value in graph.input}
    scale, offset, views, cast = 1.0, 0.0, [], False
    while tensor not in inputs:
        node = makers.get(tensor)
        if node is None:
            return None
        constant = constants.get(node.input[1]) if len(node.input) > 1 else None
        if node.op_type in _VIEWS and (constant is not None or len(node.input) == 1):
            views.append(node)
        elif node.op_type == "Cast" and not cast:
            cast = True
        elif node.op_type in ("Add", "Div", "Mul", "Sub") and constant is not None and not cast:
            array = numpy_helper.to_array(constant)
            if array.size != 1 or array.dtype != np.float32:
                return None
            value = float(array.reshape(()))
            # What comes later in the graph is met first: y = (x * a + b) * scale + offset.
            if node.op_type in ("Mul", "Div"):
                scale *= value if node.op_type == "Mul" else 1 / value
            else:
                offset += scale * (value if node.op_type == "Add" else -value)
        else:
            return None
        tensor = node.input[0]
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(inputs[tensor])).name
    return Raw(tensor, Scaling(dtype, scale, offset), tuple(views)) if cast and dtype in ("int8", "uint8") else None


def take_raw_input(model: onnx.ModelProto) -> int:
    """Where a raw integer input is scaled and then quantized to what it was, drop both.

    Round((x * s + o) / s + z) is x for each of the 256 values if z = -o / s. What gives the tensor another shape works
    on the integers then.

    Returns:
        How many QuantizeLinear operators fell away.
    """
    graph = model.graph
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    dropped = 0
    for node in [node for node in graph.node if node.op_type == "QuantizeLinear"]:
        raw = raw_form(model, node.input[0])
        wanted = raw.parameters if raw else None
        if raw is None or wanted is None or node.input[1] not in constants or node.input[2] not in constants:
            continue
        scale, zero = constants[node.input[1]], constants[node.input[2]]
        if scale.size != 1 or zero.dtype != np.uint8 or not _same(scale, zero, wanted):
            continue
        tensor, at = raw.input, list(graph.node).index(node)
        graph.node.remove(node)
        for number, view in enumerate(reversed(raw.views), 1):
            own = onnx.NodeProto()
            own.CopyFrom(view)
            last = number == len(raw.views)
            own.input[0], own.output[0] = tensor, node.output[0] if last else f"{view.output[0]}/raw"
            own.name = f"{view.name}/raw"
            tensor = own.output[0]
            graph.node.insert(at, own)
            at += 1
        if not raw.views:
            for user in graph.node:
                user.input[:] = [raw.input if name == node.output[0] else name for name in user.input]
        dropped += 1
    drop_unused(model)
    return dropped


def _same(scale: np.ndarray[Any, Any], zero: np.ndarray[Any, Any], wanted: dict[str, Any]) -> bool:
    return bool(np.float32(scale.item()) == wanted["scale"] and zero.item() == wanted["zero_point"])


def part_activations(model: onnx.ModelProto) -> int:
    """Write a Relu or Clip between a quantized layer and a float one as Max and Min.

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
    constants = {t.name for t in graph.initializer}
    parted = [
        n
        for n in graph.node
        if n.op_type in ("Clip", "Relu") and n.input[0] in layers and n.output[0] not in rounded
    ]  # fmt: skip
    for node in parted:
        if node.op_type == "Relu":
            zero = "activation/zero"
            if zero not in constants:
                graph.initializer.append(numpy_helper.from_array(np.array(0, np.float32), zero))
                constants.add(zero)
            node.op_type = "Max"
            node.input.append(zero)
            continue
        low, high = ([*node.input[1:], "", ""])[:2]
        node.op_type = "Max" if low else "Min"
        node.input[:] = [node.input[0], low or high]
        if low and high:
            given, inner = node.output[0], f"{node.output[0]}/above"
            node.name = node.output[0] = inner
            at = list(graph.node).index(node) + 1
            graph.node.insert(at, helper.make_node("Min", [inner, high], [given], name=given))
    return len(parted)
