"""A copy of a model that also gives the values in front of the softmax or sigmoid at its end, to compare bit by bit.

These are float arithmetic: exponentials of other CPUs differ in the last bit, so probabilities cannot be compared
bit for bit. What an int8 model computes before it can.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper

from toolkit.conversion.saturation import as_run
from toolkit.errors import ModelError

__all__ = ["WithLogits", "operators_as_run", "with_logits"]

_LAST = {"LogSoftmax", "Sigmoid", "Softmax"}
_FLOAT_SUMS = {"Conv", "FusedConv", "FusedGemm", "FusedMatMul", "Gemm", "MatMul", "MatMulNBits"}


@dataclass(frozen=True)
class WithLogits:
    """A model whose logits can be read.

    Attributes:
        data: the ONNX file.
        inner: by the file's own output, the output to compare bit for bit: what goes into its softmax or sigmoid, or
            the output itself.
        computed_scales: some scales are computed from each input, in float arithmetic (dynamic quantization).
        float_sums: some layer sums in float (a layer kept in float, int4), in another order on other CPUs.
    """

    data: bytes
    inner: dict[str, str]
    computed_scales: bool
    float_sums: bool


def with_logits(data: bytes, name: str) -> WithLogits:
    """A model with what goes into each softmax or sigmoid at its end among its outputs.

    A model that gives all of that already, or has no such operator at its end, is returned as it is.

    Args:
        data: an ONNX file's bytes.
        name: the file's, for errors.

    Raises:
        ModelError: it is no ONNX model.
    """
    try:
        model = onnx.load_from_string(data)
        outputs = {output.name: output for output in model.graph.output}
        if not outputs:
            raise ValueError
    except Exception as error:  # protobuf's own, of no common base
        raise ModelError(f"{name} is no ONNX model; copy or export it again") from error
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    computed = any(node.op_type == "DynamicQuantizeLinear" for node in nodes)
    floats = any(operator in _FLOAT_SUMS for operator in operators_as_run(data, name))
    last = {node.output[0]: node for node in model.graph.node if node.op_type in _LAST and node.output[0] in outputs}
    inner = {each: last[each].input[0] if each in last else each for each in outputs}
    added = False
    for output, tensor in inner.items():
        if tensor not in {value.name for value in model.graph.output}:
            value = helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None)
            value.type.tensor_type.shape.CopyFrom(outputs[output].type.tensor_type.shape)
            model.graph.output.append(value)
            added = True
    return WithLogits(model.SerializeToString() if added else data, inner, computed, floats)


def operators_as_run(data: bytes, name: str) -> Counter[str]:
    """The operators of the graph that the runtime makes of a model.

    Raises:
        ModelError: the runtime cannot open it.
    """
    return Counter(node.op_type for node in as_run(data, name).graph.node)
