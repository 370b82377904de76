"""What rounding weights does to a layer's output on average, taken back in its bias.

A quantized weight is off by up to half a step, and what it multiplies is not zero on average (behind a ReLU it is never
negative), so a layer's outputs are off by E[x] (W - Wq) on average, the same for each row: a part of the error that no
later layer averages out. The mean over the calibration rows is added to the int32 bias, which costs nothing at run time
and keeps the file's answers the same on every CPU. (Nagel et al., "Data-Free Quantization Through Weight Equalization
and Bias Correction", 2019, section 4.2, in its empirical form.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["InputMeans", "correct_biases"]

_LAYERS = ("Conv", "Gemm")


class InputMeans:
    """The mean over calibration rows of what each layer of a float32 graph takes.

    A layer is linear in its input, so the mean of what it would give for each row is what it gives for their mean.

    Args:
        prepared: the float32 graph that the quantizer is given.
    """

    def __init__(self, prepared: onnx.ModelProto) -> None:
        probe = onnx.ModelProto()
        probe.CopyFrom(prepared)
        del probe.graph.output[:], probe.graph.value_info[:]
        self.tensors = list(dict.fromkeys(node.input[0] for node in _layers(prepared)))
        outputs = [f"{name}/mean" for name in self.tensors]
        for name, output in zip(self.tensors, outputs, strict=True):
            probe.graph.node.append(helper.make_node("ReduceMean", [name], [output], axes=[0], keepdims=1))
            probe.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, None))
        self._session = _session(probe) if outputs else None
        self._outputs, self._sums, self._rows = outputs, [np.zeros(1)] * len(outputs), 0

    def add(self, batch: dict[str, NDArray[Any]]) -> None:
        """Take in a batch, as the float32 graph takes it."""
        if self._session is None:
            return
        rows = len(next(iter(batch.values())))
        found = self._session.run(self._outputs, batch)
        self._sums = [total + mean.astype(np.float64) * rows for total, mean in zip(self._sums, found, strict=True)]
        self._rows += rows

    def of(self, tensor: str) -> NDArray[np.float32]:
        """The mean of a layer's input, with a first axis of 1."""
        return (self._sums[self.tensors.index(tensor)] / max(self._rows, 1)).astype(np.float32)


def correct_biases(model: onnx.ModelProto, prepared: onnx.ModelProto, means: InputMeans) -> int:
    """Add to each int32 bias of a static int8 graph what its layer's rounded weights take away on average.

    Args:
        model: as the runtime's quantizer wrote it; its biases are changed.
        prepared: the float32 graph that it was given.
        means: of the calibration rows.

    Returns:
        How many biases were changed.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    missing = dict(_missing(model, prepared, constants))
    for node in _layers(prepared):
        if node.input[1] not in missing:
            continue
        bias, scale = (constants[f"{node.input[2]}{part}"] for part in ("_quantized", "_quantized_scale"))
        given = _answer(node, means.of(node.input[0]), missing[node.input[1]], prepared)
        lost = given.mean(axis=tuple(axis for axis in range(given.ndim) if axis != 1), dtype=np.float64)
        steps = np.rint(lost / numpy_helper.to_array(scale).astype(np.float64)).astype(np.int64)
        limits = np.iinfo(np.int32)
        corrected = np.clip(numpy_helper.to_array(bias).astype(np.int64) + steps, limits.min, limits.max)
        bias.CopyFrom(numpy_helper.from_array(corrected.astype(np.int32), bias.name))
    return len(missing)


def _answer(
    node: onnx.NodeProto, given: NDArray[np.float32], weights: NDArray[np.float32], prepared: onnx.ModelProto
) -> NDArray[np.float32]:
    """What a layer gives for one input with other weights and no bias."""
    own = onnx.NodeProto()
    own.CopyFrom(node)
    own.input[:], own.output[:] = ["given", "weights"], ["answer"]
    graph = helper.make_graph(
        [own],
        "one layer",
        [helper.make_tensor_value_info("given", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weights, "weights")],
    )
    alone = helper.make_model(graph, opset_imports=prepared.opset_import, ir_version=prepared.ir_version)
    answer: NDArray[np.float32] = _session(alone).run(["answer"], {"given": given})[0]
    return answer


def _session(model: onnx.ModelProto) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _layers(prepared: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Layers with a weight and a bias of their own."""
    uses: dict[str, int] = {}
    for node in prepared.graph.node:
        for name in node.input:
            uses[name] = uses.get(name, 0) + 1
    for node in prepared.graph.node:
        if node.op_type in _LAYERS and len(node.input) == 3 and uses[node.input[1]] == uses[node.input[2]] == 1:
            yield node


def _missing(
    model: onnx.ModelProto, prepared: onnx.ModelProto, constants: dict[str, TensorProto]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """By weight, what rounding took from it."""
    axes = {
        node.input[0]: next((a.i for a in node.attribute if a.name == "axis"), 0)
        for node in model.graph.node
        if node.op_type == "DequantizeLinear"
    }
    floats = {tensor.name: tensor for tensor in prepared.graph.initializer}
    for node in _layers(prepared):
        name = node.input[1]
        parts = [f"{name}_quantized", f"{name}_scale", f"{node.input[2]}_quantized", f"{node.input[2]}_quantized_scale"]
        if name not in floats or not constants.keys() >= set(parts):
            continue
        whole, stored, scale = (
            numpy_helper.to_array(t) for t in (floats[name], constants[parts[0]], constants[parts[1]])
        )
        shape = [1] * whole.ndim
        if scale.size > 1:
            shape[axes[parts[0]]] = -1
        yield name, (whole - stored.astype(np.float32) * scale.reshape(shape)).astype(np.float32)
