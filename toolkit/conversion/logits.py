"""A copy of a model that also gives the values in front of its last softmax, to be compared bit for bit.

A softmax is float arithmetic: exponentials of other CPUs differ in the last bit, so probabilities cannot be compared
bit for bit. What an int8 model computes before it can.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper

from toolkit.conversion.saturation import as_run
from toolkit.errors import ModelError
from toolkit.predictor import LOGITS

__all__ = ["WithLogits", "operators_as_run", "with_logits"]

_FLOAT_SUMS = {"Conv", "FusedConv", "FusedGemm", "FusedMatMul", "Gemm", "MatMul", "MatMulNBits"}


@dataclass(frozen=True)
class WithLogits:
    """A model whose logits can be read.

    Attributes:
        data: the ONNX file.
        output: the name of the output to compare.
        computed_scales: some scales are computed from each input, in float arithmetic (dynamic quantization).
        float_sums: some layer sums in float (a layer kept in float, int4), in another order on other CPUs.
    """

    data: bytes
    output: str
    computed_scales: bool
    float_sums: bool


def with_logits(data: bytes, name: str) -> WithLogits:
    """A model with its logits among its outputs.

    A model that already has an output named "logits", or no softmax at its end, is returned as it is.

    Args:
        data: an ONNX file's bytes.
        name: the file's, for errors.

    Raises:
        ModelError: it is no ONNX model.
    """
    try:
        model = onnx.load_from_string(data)
        first = model.graph.output[0].name
    except Exception as error:  # protobuf's own, of no common base
        raise ModelError(f"{name} is no ONNX model; copy or export it again") from error
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    computed = any(node.op_type == "DynamicQuantizeLinear" for node in nodes)
    floats = any(operator in _FLOAT_SUMS for operator in operators_as_run(data, name))
    outputs = [output.name for output in model.graph.output]
    if LOGITS in outputs:
        return WithLogits(data, LOGITS, computed, floats)
    softmax = next((n for n in model.graph.node if n.op_type == "Softmax" and n.output[0] in outputs), None)
    if softmax is None:
        return WithLogits(data, first, computed, floats)
    logits = softmax.input[0]
    if logits not in outputs:
        shape = next(o for o in model.graph.output if o.name == softmax.output[0]).type.tensor_type.shape
        value = helper.make_tensor_value_info(logits, TensorProto.FLOAT, None)
        value.type.tensor_type.shape.CopyFrom(shape)
        model.graph.output.append(value)
    return WithLogits(model.SerializeToString(), logits, computed, floats)


def operators_as_run(data: bytes, name: str) -> Counter[str]:
    """The operators of the graph that the runtime makes of a model.

    Raises:
        ModelError: the runtime cannot open it.
    """
    return Counter(node.op_type for node in as_run(data, name).graph.node)
