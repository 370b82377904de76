"""Which layers of a model multiply 8-bit activations by weights, and whether their sums can saturate on some CPU."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, numpy_helper

from toolkit.conversion.portable import AS_THEY_STAND, LIMIT, pair_load, portable_scale
from toolkit.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx
    from numpy.typing import NDArray

    from toolkit.conversion.portable import Orders

__all__ = ["LayerLoad", "as_matrix", "as_run", "layer_loads", "portable_overrides", "unread_weights"]

# Where each integer operator has its weights (ONNX, and the runtime's own com.microsoft domain).
_WEIGHT_INPUT = {
    "ConvInteger": 1,
    "DynamicQuantizeMatMul": 1,
    "MatMulInteger": 1,
    "MatMulIntegerToFloat": 1,
    "QGemm": 3,
    "QLinearConv": 3,
    "QLinearMatMul": 3,
}
_FLOAT = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class LayerLoad:
    """One layer with 8-bit activations.

    Attributes:
        layer: name of its weights, without the quantizer's suffix.
        operator: "Gemm", "MatMul", "Conv" or an integer form of them.
        weights: their dtype; uint8 weights cannot saturate.
        shape: of the weights.
        load: what the parts of two paired weights come to at most (see `toolkit.conversion.portable`).
        limit: the most that cannot saturate.
    """

    layer: str
    operator: str
    weights: str
    shape: list[int]
    load: int
    limit: int = LIMIT

    @property
    def can_saturate(self) -> bool:
        """On x86 without VNNI some input makes a sum of this layer clip."""
        return self.weights == "int8" and self.load > self.limit


def layer_loads(model: onnx.ModelProto) -> list[LayerLoad]:
    """Every Gemm, MatMul and Conv of a quantized model whose 8-bit weights are stored in the file, in graph order.

    Both forms are read: operators between DequantizeLinear and QuantizeLinear, and integer operators. Where only the
    weights are quantized the runtime computes in float, and the layer is not listed.
    """
    constants = {t.name: t for t in model.graph.initializer}
    dequantized = {n.output[0]: n for n in model.graph.node if n.op_type == "DequantizeLinear"}
    found = []
    for node in model.graph.node:
        name = ""
        if node.op_type in _WEIGHT_INPUT:
            name = node.input[_WEIGHT_INPUT[node.op_type]]
        elif node.op_type in _FLOAT and {node.input[0], node.input[1]} <= dequantized.keys():
            name = dequantized[node.input[1]].input[0]
        if name in constants and constants[name].data_type in (TensorProto.INT8, TensorProto.UINT8):
            weights = numpy_helper.to_array(constants[name])
            load = int(pair_load(as_matrix(node, weights), _orders(node, weights)).max(initial=0))
            layer = name.removesuffix("_quantized")
            found.append(LayerLoad(layer, node.op_type, weights.dtype.name, list(weights.shape), load))
    return found


def as_run(data: bytes, name: str) -> onnx.ModelProto:
    """The graph that the runtime makes of a model: whatever form its int8 layers were written in, fused and folded.

    Args:
        data: an ONNX file's bytes.
        name: the file's, for errors.

    Raises:
        ModelError: the runtime cannot open it.
    """
    import onnx
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as scratch:
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(Path(scratch) / "as_run.onnx")
        # Not further: the last level rearranges weights for this very CPU.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.log_severity_level = 3
        try:
            ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            return onnx.load(options.optimized_model_filepath)
        except Exception as error:  # the runtime's errors share no base of their own
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"{name} cannot be opened by onnxruntime: {reason}; export it again") from error


def unread_weights(model: onnx.ModelProto, layers: list[LayerLoad]) -> list[str]:
    """What `layer_loads` cannot judge: int8 matrices of no layer that it understands, and computed weights.

    Integer operators whose weights are no constants, also those inside a branch or loop, are named by their output.
    """
    known = {layer.layer for layer in layers}
    stored = [
        t.name
        for t in model.graph.initializer
        if t.data_type == TensorProto.INT8 and len(t.dims) > 1 and t.name.removesuffix("_quantized") not in known
    ]
    constants = {t.name for t in model.graph.initializer}
    computed = [
        node.output[0]
        for node, inner in _all_nodes(model.graph)
        if node.op_type in _WEIGHT_INPUT and (inner or node.input[_WEIGHT_INPUT[node.op_type]] not in constants)
    ]
    return [*stored, *computed]


def _all_nodes(graph: onnx.GraphProto, *, inner: bool = False) -> Iterator[tuple[onnx.NodeProto, bool]]:
    """Every node, and whether it is inside a branch or loop."""
    for node in graph.node:
        yield node, inner
        for attribute in node.attribute:
            for below in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _all_nodes(below, inner=True)


def portable_overrides(
    model: onnx.ModelProto, *, per_channel: bool, integer: bool = False
) -> dict[str, list[dict[str, Any]]]:
    """Scales for the runtime's quantizer (its ``TensorQuantOverrides``) with which no layer can saturate.

    Args:
        model: float32, with Gemm, MatMul and Conv as the quantizer will see them.
        per_channel: one scale an output channel, as the quantizer is told.
        integer: convolutions become the integer operator, as dynamic quantization writes them.
    """
    overrides = {}
    for node, name, weights in _float_weights(model):
        matrix = as_matrix(node, weights)
        scales = portable_scale(matrix, _orders(node, weights, integer=integer), per_channel=per_channel)
        entries: list[dict[str, Any]] = [{"scale": s, "zero_point": np.array(0, np.int8)} for s in scales]
        if per_channel:
            output_first = node.op_type == "Conv" or _is_transposed(node)
            for entry in entries:
                entry["axis"] = 0 if output_first else weights.ndim - 1
        overrides[name] = entries
    return overrides


def _float_weights(model: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, str, NDArray[Any]]]:
    constants = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in _FLOAT and node.input[1] in constants:
            yield node, node.input[1], numpy_helper.to_array(constants[node.input[1]])


def _is_transposed(node: onnx.NodeProto) -> bool:
    return node.op_type in ("Gemm", "QGemm") and any(a.name == "transB" and a.i for a in node.attribute)


def _orders(node: onnx.NodeProto, weights: NDArray[Any], *, integer: bool = False) -> Orders:
    """How the runtime may pair a layer's weights, as rows of `as_matrix`."""
    if "Conv" not in node.op_type:
        return AS_THEY_STAND
    groups = next((a.i for a in node.attribute if a.name == "group"), 1)
    # The integer operator of dynamic quantization has no kernel of its own for depthwise layers.
    integer = integer or node.op_type == "ConvInteger"
    if weights.shape[1] == 1 and groups == len(weights) > 1 and not integer:
        return ()
    channels_last = np.arange(weights[0].size).reshape(weights.shape[1], -1).T.reshape(-1)
    return (None, channels_last)


def as_matrix(node: onnx.NodeProto, weights: NDArray[Any]) -> NDArray[Any]:
    """The weights as (summed dimension, outputs)."""
    if weights.ndim == 1:
        return weights[:, None]
    if "Conv" in node.op_type:
        return weights.reshape(len(weights), -1).T
    if _is_transposed(node):
        return weights.T
    # A stack of matrices is multiplied one by one; side by side each keeps its own pairs.
    return weights.reshape(-1, *weights.shape[-2:]).transpose(1, 0, 2).reshape(weights.shape[-2], -1)
