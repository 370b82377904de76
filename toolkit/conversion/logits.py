"""A copy of a model that also gives the values in front of its last softmax or sigmoid, to be compared bit for bit.

Both are float arithmetic: exponentials of other CPUs differ in the last bit, so probabilities cannot be compared bit
for bit. What an int8 model computes before them can.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper

from toolkit.conversion.saturation import as_run
from toolkit.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["WithLogits", "check_copy", "logits_of", "operators_as_run", "with_logits"]

_ENDS = ("Softmax", "Sigmoid")
_ROWS_OF_A_RUN = 500
# What is the same on every CPU, bit by bit: sums of integers with constant scales, and moving or comparing values.
# Everything else (sums of floats, exponentials, averages, sums of two scales) may round otherwise.
_SAME_EVERYWHERE = {
    "QGemm", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "MatMulIntegerToFloat",
    "QuantizeLinear", "DequantizeLinear", "Cast", "Identity", "Relu", "Clip", "MaxPool",
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Concat", "Slice", "Gather", "Shape", "Pad", "Expand",
}  # fmt: skip


@dataclass(frozen=True)
class WithLogits:
    """A model whose logits can be read.

    Attributes:
        data: the ONNX file.
        inner: by the model's outputs, the name of the tensor to compare: what goes into the softmax or sigmoid at its
            end, or the output itself.
        computed_scales: some scales are computed from each input, in float arithmetic (dynamic quantization).
        exact: up to these tensors everything is computed in integers, or in another way that is the same everywhere.
    """

    data: bytes
    inner: dict[str, str]
    computed_scales: bool
    exact: bool

    @property
    def output(self) -> str:
        """The tensor to compare of the first output."""
        return next(iter(self.inner.values()))


def with_logits(data: bytes, name: str) -> WithLogits:
    """A model with its logits among its outputs; as it is where they are that already, or there is nothing to add.

    Args:
        data: an ONNX file's bytes.
        name: the file's, for errors.

    Raises:
        ModelError: it is no ONNX model.
    """
    try:
        model = onnx.load_from_string(data)
        outputs = list(model.graph.output)
        producers = {tensor: node for node in model.graph.node for tensor in node.output}
    except Exception as error:  # protobuf's own, of no common base
        raise ModelError(f"{name} is no ONNX model; copy or export it again") from error
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    computed = any(node.op_type == "DynamicQuantizeLinear" for node in nodes)
    inner, ends, given = {}, Counter[str](), {output.name for output in outputs}
    for output in outputs:
        node = producers.get(output.name)
        if node is None or node.op_type not in _ENDS:
            inner[output.name] = output.name
            continue
        ends[node.op_type] += 1
        inner[output.name] = logits = node.input[0]
        if logits not in given:
            value = helper.make_tensor_value_info(logits, output.type.tensor_type.elem_type, None)
            value.type.tensor_type.shape.CopyFrom(output.type.tensor_type.shape)
            model.graph.output.append(value)
            given.add(logits)
    exact = not computed and set(operators_as_run(data, name) - ends) <= _SAME_EVERYWHERE
    whole = data if len(given) == len(outputs) else model.SerializeToString()
    return WithLogits(whole, inner, computed, exact)


def logits_of(data: bytes, name: str, inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """What an int8 file of one input gives on this machine in front of a softmax or sigmoid: float32 (n, outputs).

    Args:
        data: its bytes.
        name: for errors.
        inputs: rows (n, ...) by input name.

    Raises:
        ModelError: it cannot be opened, or takes other rows.
    """
    import onnxruntime

    copy = with_logits(data, name)
    session = onnxruntime.InferenceSession(copy.data, providers=["CPUExecutionProvider"])
    ((only, rows),) = inputs.items()
    if [each.name for each in session.get_inputs()] != [only]:
        raise ModelError(f"{name} does not take the input {only!r} alone; C code is written for one input")
    fixed = session.get_inputs()[0].shape[0]
    size = fixed if isinstance(fixed, int) else _ROWS_OF_A_RUN
    filled = np.concatenate([rows, np.repeat(rows[-1:], -len(rows) % size, axis=0)])
    parts = [session.run([copy.output], {only: filled[at : at + size]})[0] for at in range(0, len(filled), size)]
    return np.concatenate(parts)[: len(rows)].reshape(len(rows), -1)


def check_copy(name: str, own: Mapping[str, NDArray[Any]], copied: Mapping[str, NDArray[Any]]) -> None:
    """The proof that what a copy says of the logits is what the file itself computes: its outputs have the same bits.

    Args:
        name: the file's, for errors.
        own: the file's outputs by name, each (n, ...).
        copied: those of the copy; it may have more of them.

    Raises:
        ModelError: it answers otherwise.
    """
    if any(copied[output].tobytes() != array.tobytes() for output, array in own.items()):
        raise ModelError(
            f"the logits of {name} cannot be read: with them among its outputs it answers otherwise; "
            "this is a limit of this version"
        )


def operators_as_run(data: bytes, name: str) -> Counter[str]:
    """The operators of the graph that the runtime makes of a model.

    Raises:
        ModelError: the runtime cannot open it.
    """
    return Counter(node.op_type for node in as_run(data, name).graph.node)
