"""Which nodes of an exported graph belong to which Keras layer, and which of them run in 8 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import onnx

__all__ = ["check_kept", "float_nodes", "float_weights", "quantized_nodes", "weighted_layers"]

_WEIGHTED = ("Conv", "Gemm", "MatMul")
# These only hand on what they are given, or choose or average among it: between two layers in 8 bits they are too.
_CARRYING = (
    "Add", "AveragePool", "Clip", "Concat", "Flatten", "GlobalAveragePool", "MaxPool", "Pad", "Relu", "Reshape",
    "Slice", "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip
_CUTS = ("Clip", "Relu")


def weighted_layers(model: onnx.ModelProto) -> dict[str, list[str]]:
    """Keras layers with weights that can be quantized, in graph order, and the names of their nodes.

    A weight's tensor is named by its path in Keras, such as ``hidden_1/kernel``; the layer is what stands before the
    last slash.
    """
    found: dict[str, list[str]] = {}
    for node in _weighted(model):
        layer = node.input[1].rpartition("/")[0] or node.input[1]
        found.setdefault(layer, []).append(node.name)
    return found


def _weighted(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    constants = {t.name for t in model.graph.initializer}
    return [node for node in model.graph.node if node.op_type in _WEIGHTED and node.input[1] in constants]


def check_kept(model: onnx.ModelProto, layers: Iterable[str]) -> list[str]:
    """Names of the nodes of some layers that are to stay in float.

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
    return [name for layer in wanted for name in known[layer]]


def quantized_nodes(model: onnx.ModelProto, keep_float: Iterable[str] = ()) -> list[str]:
    """Names of the nodes that static quantization computes in 8 bits, in graph order.

    Layers with constant weights do, and what stands between two of them and only hands values on. So nothing is rounded
    that no 8-bit layer takes: the model's answers stay float, and preprocessing at its inputs is exact.

    Args:
        model: float32, prepared for the quantizer.
        keep_float: Keras layers that stay in float.

    Raises:
        UsageError: see `check_kept`.
    """
    kept = set(check_kept(model, keep_float))
    constants = {t.name for t in model.graph.initializer}
    layers = [node for node in _weighted(model) if node.name not in kept]
    fed = {name for node in layers for name in node.output}
    carrying = []
    for node in model.graph.node:
        given = [name for name in node.input if name and name not in constants]
        # A summand that is a constant belongs to a bias, not to a residual.
        whole = len(given) == len(node.input) or node.op_type not in ("Add", "Concat")
        if node.op_type in _CARRYING and given and whole and fed.issuperset(given):
            carrying.append(node)
            fed |= {*node.output}
    wanted = {node.input[0] for node in layers}
    chosen = {node.name for node in layers}
    # The runtime's convolution gives 8 bits, so what cuts its output off belongs to it.
    convolved = {node.output[0] for node in layers if node.op_type == "Conv"}
    for node in reversed(carrying):
        if wanted & {*node.output} or (node.op_type in _CUTS and node.input[0] in convolved):
            chosen.add(node.name)
            wanted |= {*node.input}
    return [node.name for node in model.graph.node if node.name in chosen]


def float_nodes(model: onnx.ModelProto, layers: Iterable[str]) -> list[str]:
    """Names of the nodes that stay in float if these layers do, for quantizers that are told what to leave out.

    An activation whose every use is in float is not quantized either: rounding it would cost and gain nothing.

    Raises:
        UsageError: see `check_kept`.
    """
    names = set(check_kept(model, layers))
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


def float_weights(quantized: onnx.ModelProto, layers: Sequence[str]) -> list[str]:
    """Keras layers of which a quantized file has weights in float, in graph order.

    Args:
        quantized: the file's graph.
        layers: the model's layers; for a model without any, the tensors' own names are given.
    """
    from toolkit.conversion.naming import layer_of

    matrices = {t.name for t in quantized.graph.initializer if t.data_type == t.FLOAT and len(t.dims) > 1}
    found: dict[str, None] = {}
    for node in quantized.graph.node:
        for name in node.input:
            if name in matrices and node.op_type not in ("Add", "Div", "MatMulNBits", "Mul", "Sub"):
                layer = layer_of(name, layers) or layer_of(node.output[0], layers)
                if layer or not layers:  # what no layer owns is a constant of the converter's, such as a first state
                    found[layer or name] = None
    return list(found)
