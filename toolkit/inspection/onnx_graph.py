"""An ONNX graph as boxes and lines. Constants, and the steps that only quantize, are not drawn."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from toolkit.inspection.graph import DENSE, FUNCTION, INPUT, OTHER, PASSING, Graph, Node

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx
    from numpy.typing import NDArray

    from toolkit.inspection.facts import Layer, QuantizedLayer, Shape

__all__ = ["drawn"]

_HIDDEN = {"Constant", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Identity"}
_PRODUCTS = {"Gemm", "MatMul", "MatMulInteger", "MatMulNBits", "QGemm", "QLinearMatMul", "DynamicQuantizeMatMul"}
_FUNCTIONS = {"Elu", "HardSigmoid", "HardSwish", "LeakyRelu", "LogSoftmax", "Max", "Mish", "PRelu", "Relu", "Selu"}
_FUNCTIONS |= {"Sigmoid", "Softmax", "Softplus", "Softsign", "Tanh", "ThresholdedRelu", "Clip", "Gelu", "Swish"}
_PASSING = {"Add", "BatchNormalization", "Cast", "Div", "Dropout", "Flatten", "Mul", "Reshape", "Squeeze", "Sub"}
_PASSING |= {"Unsqueeze"}


def drawn(
    title: str,
    model: onnx.ModelProto,
    shapes: Mapping[str, Shape],
    layers: Sequence[Layer],
    quantized: Sequence[QuantizedLayer],
    constants: Mapping[str, NDArray[Any]],
    class_names: tuple[str, ...] | None,
    *,
    batch: bool,
) -> Graph:
    """The boxes of the outer graph.

    Args:
        title: of the picture.
        model: whole.
        shapes: of its tensors, for one row.
        layers: one an operator that is no constant, in the file's order.
        quantized: those of its layers that are.
        constants: what the file stores, by name.
        class_names: of the answers.
        batch: the first dimension is one of rows.
    """
    stored = {t.name for t in model.graph.initializer}
    nodes: list[Node] = []
    edges: list[tuple[int, int]] = []
    made: dict[str, int] = {}
    sizes: set[str] = set()
    eight = {layer.name: _widths(layer) for layer in quantized}
    for value in model.graph.input:
        if value.name not in stored:
            made[value.name] = len(nodes)
            nodes.append(Node(value.name, "Input", _row(shapes.get(value.name), batch=batch), role=INPUT))
    own = {layer.name: layer for layer in layers}
    for node in model.graph.node:
        sources = list(dict.fromkeys(made[name] for name in node.input if name in made))
        name = node.name or (node.output[0] if node.output else "")
        if sources and (node.op_type == "Shape" or {n for n in node.input if n in made} <= sizes):
            sizes.update(node.output)  # how large something is, and what is computed from that: no values of the model
            made.update(dict.fromkeys(node.output, sources[0]))
            continue
        sources = list(dict.fromkeys(made[n] for n in node.input if n in made and n not in sizes))
        if node.op_type in _HIDDEN:
            if sources:
                made.update(dict.fromkeys(node.output, sources[0]))
            continue
        if not sources and not node.op_type.startswith("Random"):
            # Only constants go in: a constant too.
            continue
        layer = own.get(name)
        shape = shapes.get(node.output[0]) if node.output else None
        role, activation = _role(node, shape, sources)
        if node.op_type == "Max" and all(not constants[name].any() for name in node.input if name in constants):
            activation = "relu"  # as this toolkit writes one between a quantized and a float layer
        shown = _stem(node) if role == DENSE else name
        parameters = layer.parameters if layer else 0
        row = _row(shape, batch=batch)
        box = Node(shown, node.op_type, row, parameters, role, activation, remark=eight.get(name, ""))
        edges += [(source, len(nodes)) for source in sources]
        made.update(dict.fromkeys((output for output in node.output if output), len(nodes)))
        nodes.append(box)
    return Graph(title, tuple(nodes), tuple(dict.fromkeys(edges)), class_names)


def _row(shape: Shape | None, *, batch: bool) -> Shape | None:
    return shape[1:] if batch and shape is not None else shape


def _widths(layer: QuantizedLayer) -> str:
    found = {t.dtype.lstrip("u") for t in layer.tensors if t.role in ("weights", "activation")}
    return "/".join(sorted(found))


def _role(node: onnx.NodeProto, shape: Shape | None, sources: Sequence[int]) -> tuple[str, str]:
    alone = len(sources) == 1
    if node.op_type in _PRODUCTS and alone and shape is not None and len(shape) == 2:
        return DENSE, ""
    if node.op_type in _FUNCTIONS and alone:
        return FUNCTION, node.op_type.lower()
    return (PASSING if node.op_type in _PASSING and alone else OTHER), ""


def _stem(node: onnx.NodeProto) -> str:
    """The layer's name, from that of its weights: "hidden_1" of "hidden_1/kernel_quantized"."""
    names = [re.sub(r"(_quantized|_DequantizeLinear_Output)$", "", n) for n in node.input if n]
    weights = [n for n in names if re.search(r"[/._](kernel|weights?|W)(?![A-Za-z])", n)]
    if not weights:
        return node.name or node.output[0]
    return re.sub(r"[/._](kernel|weights?|W)(?![A-Za-z]).*$", "", weights[0]) or weights[0]
