"""Which nodes of an exported graph belong to which Keras layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx

__all__ = ["float_nodes", "weighted_layers"]

_WEIGHTED = ("Gemm", "MatMul")  # a Conv stays in float in all forms but the dynamic one


def weighted_layers(model: onnx.ModelProto) -> dict[str, list[str]]:
    """Keras layers with weights that every form can quantize, in graph order, and the names of their nodes.

    A weight's tensor is named by its path in Keras, such as ``hidden_1/kernel``; the layer is what stands before the
    last slash.
    """
    constants = {t.name for t in model.graph.initializer}
    found: dict[str, list[str]] = {}
    for node in model.graph.node:
        if node.op_type in _WEIGHTED and node.input[1] in constants:
            layer = node.input[1].rpartition("/")[0] or node.input[1]
            found.setdefault(layer, []).append(node.name)
    return found


def float_nodes(model: onnx.ModelProto, layers: Iterable[str]) -> list[str]:
    """Names of the nodes that stay in float if these layers do.

    An activation whose every use is in float is not quantized either: rounding it would cost and gain nothing.

    Raises:
        UsageError: there is no such layer, or nothing would be left to quantize.
    """
    known = weighted_layers(model)
    wanted = list(layers)
    for layer in wanted:
        if layer not in known:
            raise UsageError(f"no layer {layer!r} to keep in float; the model has {', '.join(known)}")
    if wanted and set(wanted) >= set(known):
        raise UsageError("every layer would stay in float, so there is nothing to quantize; export without --quantize")
    names = {name for layer in wanted for name in known[layer]}
    if not names:
        return []
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for tensor in node.input:
            users.setdefault(tensor, []).append(node)
    for node in reversed(model.graph.node):
        outputs = [user for tensor in node.output for user in users.get(tensor, [])]
        if node.op_type not in _WEIGHTED and outputs and all(user.name in names for user in outputs):
            names.add(node.name)
    return [node.name for node in model.graph.node if node.name in names]
