"""Multiply-adds of the operators of an ONNX graph, from the shapes of what goes in and comes out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from toolkit.inspection.keras_macs import NOTHING, UNKNOWN, Work, times
from toolkit.inspection.onnx_shapes import attribute

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import onnx

    from toolkit.inspection.facts import Shape

__all__ = ["MULTIPLYING", "node_work", "wants_packed"]

_CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3, "FusedConv": 1, "NhwcConv": 1}
_PRODUCTS = (
    "DynamicQuantizeMatMul", "FusedGemm", "FusedMatMul", "Gemm", "MatMul", "MatMulInteger", "MatMulIntegerToFloat",
    "QGemm", "QLinearMatMul",
)  # fmt: skip
_CONTROL = {"If", "Loop", "Scan", "SequenceMap"}
# With sums of products in them that are not counted here.
_NOT_KNOWN = {"DFT", "Det", "STFT", "Attention", "MultiHeadAttention", "QAttention", "DynamicQuantizeLSTM"}


def node_work(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> Work:
    """What one run of an operator takes, for the shapes given; a name or None among the sizes is a free dimension."""
    if node.op_type in _NOT_KNOWN:
        return UNKNOWN
    if node.op_type in _CONTROL:
        return UNKNOWN if _multiplies_inside(node) else NOTHING
    if node.op_type not in MULTIPLYING:
        return NOTHING if node.domain in ("", "ai.onnx", "ai.onnx.ml", "com.microsoft") else UNKNOWN
    try:
        return _RULES[node.op_type](node, shapes)
    except (IndexError, KeyError, TypeError, ValueError):  # a shape that is not known, or not what the operator takes
        return UNKNOWN


def _convolution(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> Work:
    out = shapes[node.output[0]]
    positions = (out[0], *out[1:-1]) if node.op_type.startswith("Nhwc") else (out[0], *out[2:])
    return times(1, *_numbers(shapes[node.input[_CONVOLUTIONS[node.op_type]]]), *_numbers(positions))


def _transposed(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> Work:
    given = shapes[node.input[0]]
    return times(1, *_numbers(shapes[node.input[1]]), *_numbers((given[0], *given[2:])))


def _product(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> Work:
    left = _numbers(shapes[node.input[0]])
    turned = attribute(node, "transA", 0)
    return times(1, left[-2 if turned else -1], *_numbers(shapes[node.output[0]]))


def _packed(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> Work:
    size = attribute(node, "K", None) * attribute(node, "N", None)
    return times(size, *_numbers(shapes[node.input[0]][:-1]))


def _recurrent(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> Work:
    steps, rows = _numbers(shapes[node.input[0]])[:2]
    if attribute(node, "layout", 0):
        steps, rows = rows, steps
    # Of shape (directions, gates x units, inputs) and (directions, gates x units, units).
    both = [_numbers(shapes[node.input[at]]) for at in (1, 2)]
    if any(None in shape for shape in both):
        return UNKNOWN
    return times(sum(math.prod(size or 0 for size in shape) for shape in both), steps, rows)


def _numbers(shape: Shape) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) else None for size in shape)


def _einsum(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> Work:
    equation = attribute(node, "equation", b"").decode()
    terms = equation.replace(" ", "").split("->")[0].split(",")
    if len(terms) == 1:
        return NOTHING
    if len(terms) != 2 or "..." in equation:
        return UNKNOWN
    sizes: dict[str, int | None] = {}
    for term, name in zip(terms, node.input, strict=True):
        sizes.update(zip(term, _numbers(shapes[name]), strict=True))
    return times(1, *sizes.values())


_RULES: dict[str, Callable[[onnx.NodeProto, Mapping[str, Shape]], Work]] = {
    **dict.fromkeys(_CONVOLUTIONS, _convolution),
    **dict.fromkeys(_PRODUCTS, _product),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    "ConvTranspose": _transposed,
    "Einsum": _einsum,
    "MatMulNBits": _packed,
}
MULTIPLYING = frozenset(_RULES)
"""Operators whose work is multiply-adds."""


def _multiplies_inside(node: onnx.NodeProto) -> bool:
    graphs = [g for a in node.attribute for g in (*([a.g] if a.HasField("g") else []), *a.graphs)]
    inner = [each for graph in graphs for each in graph.node]
    return any(
        each.op_type in MULTIPLYING | _NOT_KNOWN or (each.op_type in _CONTROL and _multiplies_inside(each))
        for each in inner
    )


def wants_packed(node: onnx.NodeProto) -> bool:
    """Whether an operator's weights are several to a byte."""
    return node.op_type == "MatMulNBits"
