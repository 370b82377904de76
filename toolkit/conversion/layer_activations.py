"""The layers of an int8 file beside those of the float32 file it was made from: what runs, layer by layer.

Two graphs answer two questions.

The int8 file itself, with its inner tensors as outputs, says how far each layer's output is off, all that was rounded
before it included. `modify_model_output_intermediate_tensors` of onnxruntime.quantization.qdq_loss_debug opens it up.

The *probe* says which layer is to blame. It is the float32 graph, with the weights and the inputs of each int8 layer
there twice, as they are and rounded as in the int8 file, and two switches a layer that choose between them. With one
layer switched on, whatever reaches the model's output is that layer's doing.

Why not the other functions of qdq_loss_debug (looked at in onnxruntime 1.31): ``collect_activations`` keeps every
tensor of every image in memory (33 kB an image for the reference MLP). ``create_activation_matching`` pairs a tensor
before and after its QuantizeLinear: it names tensors, not layers; has nothing for the logits, which stay float, for raw
pixels, which have no QuantizeLinear, and for dynamic files; and cannot tell a layer's own error from what it inherits.
``create_weight_matching`` has nothing for dynamic files either, and takes the last axis where ONNX's default is axis 1.
Tests hold our figures against its, where it has some.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.qdq_loss_debug import modify_model_output_intermediate_tensors

from toolkit.conversion.keras_to_onnx import quiet_converters
from toolkit.conversion.saturation import as_matrix, layer_loads
from toolkit.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["LayerProbe", "QuantizedInput", "QuantizedLayer"]

# What the runtime's quantizer and its debugging functions append to the names of the float32 graph.
_WEIGHTS, _BEFORE, _AFTER, _OPENED = (
    "_quantized",
    "_QuantizeLinear_Input",
    "_DequantizeLinear_Output",
    "_ReshapedSavedOutput",
)
# These only hand values on, in the same steps as they came.
_PASSING = {"Clip", "Flatten", "Identity", "MaxPool", "Relu", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
_LAST = {"Softmax", "LogSoftmax", "Sigmoid"}


@dataclass(frozen=True)
class QuantizedInput:
    """An activation that a layer takes in 8 bits.

    Attributes:
        tensor: its name in the float32 graph.
        dtype: of its quantized form; None if its scale is computed anew for each input (dynamic).
        scale: width of a step; None if dynamic.
        zero_point: the quantized form of 0; None if dynamic.
    """

    tensor: str
    dtype: str | None = None
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class QuantizedLayer:
    """One operator of the int8 file that takes 8-bit inputs.

    Attributes:
        layer: name of the Keras layer.
        operator: as in the int8 file.
        inputs: activations that it takes in 8 bits.
        weights: as in the float32 file, float32 of shape (summed dimension, outputs); None if it has none.
        rounded: the same as the int8 file has them.
        scales: of the weights, shape (1,) or (outputs,); None if it has none.
        load: what two paired weights come to (see `toolkit.conversion.saturation`); None if that does not apply.
        load_limit: the most that cannot saturate.
        output: the tensor to compare, which both files have; None if there is none.
    """

    layer: str
    operator: str
    inputs: tuple[QuantizedInput, ...]
    weights: NDArray[np.float32] | None
    rounded: NDArray[np.float32] | None
    scales: NDArray[np.float32] | None
    load: int | None
    load_limit: int | None
    output: str | None


@dataclass(frozen=True)
class _Constant:
    """A tensor that is stored in 8 (a bias: 32) bits: its float32 name, and its values as the int8 file has them."""

    name: str
    rounded: NDArray[np.float32]
    scales: NDArray[np.float32]


@dataclass(frozen=True)
class _Found:
    """What the int8 file says of one layer."""

    node: onnx.NodeProto
    inputs: tuple[QuantizedInput, ...]
    constants: tuple[_Constant, ...]


class LayerProbe:
    """A float32 file and the int8 file made from it, to be run layer by layer. Nothing is kept from run to run.

    Sums are exact here, whatever the CPU: what saturates on one without VNNI is not in these figures.

    Args:
        float32: bytes of the float32 file.
        int8: bytes of the int8 file.
        keras_layers: names of the Keras model's layers.

    Raises:
        ModelError: the two do not belong together, or the int8 file has a form that is not understood.
    """

    def __init__(self, float32: bytes, int8: bytes, keras_layers: Sequence[str]) -> None:
        original, quantized = onnx.load_from_string(float32), onnx.load_from_string(int8)
        found = _layers_of(quantized)
        if not found:
            raise ModelError("the int8 file has no layer whose 8-bit inputs are understood")
        self.dynamic = any(each.dtype is None for entry in found for each in entry.inputs)
        """Scales depend on the input: to see what a device sees, give one image at a time."""
        constants = {t.name: numpy_helper.to_array(t) for t in original.graph.initializer}
        shared = _tensors(original) & _tensors(quantized)
        loads = {load.layer: load for load in layer_loads(quantized)}
        probe = _Builder(original)
        self.layers: list[QuantizedLayer] = []
        for index, entry in enumerate(found):
            node = probe.switch(index, entry)
            weights = next((c for c in entry.constants if c.rounded.ndim > 1), None)
            load = loads.get(weights.name) if weights else None
            self.layers.append(
                QuantizedLayer(
                    layer=_keras_layer(weights.name if weights else node.output[0], keras_layers),
                    operator=entry.node.op_type,
                    inputs=entry.inputs,
                    weights=as_matrix(node, constants[weights.name]) if weights else None,
                    rounded=as_matrix(node, weights.rounded) if weights else None,
                    scales=weights.scales if weights else None,
                    load=load.load if load else None,
                    load_limit=load.limit if load and load.weights == "int8" else None,
                    output=next((n for n in (_plain(entry.node.output[0]), node.output[0]) if n in shared), None),
                )
            )
        shape = original.graph.output[0].type.tensor_type.shape.dim
        self.classifies = len(original.graph.output) == 1 and len(shape) == 2
        """It has one answer an image, a figure a class."""
        self._answers = [_before_softmax(original, value.name) for value in original.graph.output]
        if not set(self._answers) <= shared:
            raise ModelError(f"the int8 file does not have the float32 file's output {', '.join(self._answers)}")
        self._probe, self._int8 = _open(probe.model), _open(quantized)

    def answers(
        self, feeds: Mapping[str, NDArray[Any]], *, inputs: Collection[int] = (), weights: Collection[int] = ()
    ) -> list[NDArray[np.float32]]:
        """What the float32 model answers with the inputs or the weights of some layers rounded as in the int8 file.

        Args:
            feeds: each of the files' inputs by name, in its own dtype.
            inputs: layers, by index, that take their inputs rounded.
            weights: layers, by index, that take their weights and bias rounded.

        Returns:
            One flat array an output of the model, before its softmax.
        """
        return self._run_probe(feeds, self._answers, inputs, weights)

    def float32_tensors(
        self, feeds: Mapping[str, NDArray[Any]]
    ) -> tuple[list[list[NDArray[np.float32]]], list[NDArray[np.float32] | None]]:
        """Inputs and output of each layer in the float32 model, flat; None for an output that only one file has."""
        names = [*(each.tensor for layer in self.layers for each in layer.inputs), *self._outputs()]
        arrays = dict(zip(names, self._run_probe(feeds, names, (), ()), strict=True))
        inputs = [[arrays[each.tensor] for each in layer.inputs] for layer in self.layers]
        return inputs, [arrays[layer.output] if layer.output else None for layer in self.layers]

    def int8_tensors(
        self, feeds: Mapping[str, NDArray[Any]]
    ) -> tuple[list[NDArray[np.float32] | None], list[NDArray[np.float32]]]:
        """Output of each layer in the int8 file, and its answers before softmax, all flat."""
        names = [*self._outputs(), *self._answers]
        found = self._int8.run([name + _OPENED for name in names], dict(feeds))
        arrays = dict(zip(names, found, strict=True))
        outputs = [arrays[layer.output] if layer.output else None for layer in self.layers]
        return outputs, [arrays[name] for name in self._answers]

    def _outputs(self) -> list[str]:
        return [layer.output for layer in self.layers if layer.output]

    def _run_probe(
        self, feeds: Mapping[str, NDArray[Any]], names: list[str], inputs: Collection[int], weights: Collection[int]
    ) -> list[NDArray[np.float32]]:
        switches = {}
        for index in range(len(self.layers)):
            switches[f"switch/{index}/inputs"] = np.array(index in inputs)
            switches[f"switch/{index}/weights"] = np.array(index in weights)
        found: list[NDArray[np.float32]] = self._probe.run([name + _OPENED for name in names], {**feeds, **switches})
        return found


class _Builder:
    """Puts switches into a copy of the float32 graph."""

    def __init__(self, original: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(original)
        del self.model.graph.value_info[:]
        self._original = original
        self._constants = {t.name: list(t.dims) for t in original.graph.initializer}
        self._tensors = _tensors(original)
        # By position, as the copy's nodes are edited.
        copies: list[onnx.NodeProto] = list(self.model.graph.node)
        self._nodes: list[tuple[onnx.NodeProto, onnx.NodeProto]] = list(zip(original.graph.node, copies, strict=True))

    def switch(self, index: int, found: _Found) -> onnx.NodeProto:
        """Put in the switches of one layer; the float32 graph's own node is returned."""
        taken = {each.tensor for each in found.inputs}
        for constant in found.constants:
            if self._constants.get(constant.name) != list(constant.rounded.shape):
                raise ModelError(f"the float32 file has no tensor {constant.name} of the int8 file's shape")
        weights = {c.name for c in found.constants if c.rounded.ndim > 1}
        output = _plain(found.node.output[0])
        nodes = [
            (node, copy)
            for node, copy in self._nodes
            if taken <= {*node.input} and (weights & {*node.input} if weights else output in node.output)
        ]
        if len(nodes) != 1:
            raise ModelError(f"the float32 file has no one operator that takes {', '.join(sorted(taken | weights))}")
        node, copy = nodes[0]
        graph = self.model.graph
        for part in ("inputs", "weights"):
            graph.input.append(helper.make_tensor_value_info(f"switch/{index}/{part}", TensorProto.BOOL, []))
        added = []
        for number, each in enumerate(found.inputs):
            prefix = f"switch/{index}/{number}"
            if each.dtype is None:
                parts = [f"{prefix}/{part}" for part in ("quantized", "scale", "zero")]
                added.append(helper.make_node("DynamicQuantizeLinear", [each.tensor], parts))
            else:
                parts = [f"{prefix}/quantized", f"{prefix}/scale", f"{prefix}/zero"]
                graph.initializer.append(numpy_helper.from_array(np.array(each.scale, np.float32), parts[1]))
                graph.initializer.append(numpy_helper.from_array(np.array(each.zero_point, each.dtype), parts[2]))
                added.append(helper.make_node("QuantizeLinear", [each.tensor, *parts[1:]], parts[:1]))
            added.append(helper.make_node("DequantizeLinear", parts, [f"{prefix}/rounded"]))
            added.append(
                helper.make_node("Where", [f"switch/{index}/inputs", f"{prefix}/rounded", each.tensor], [prefix])
            )
            copy.input[:] = [prefix if name == each.tensor else name for name in copy.input]
        self._insert_before(copy, added)
        for constant in found.constants:
            name = f"switch/{index}/{constant.name}"
            graph.initializer.append(numpy_helper.from_array(constant.rounded, f"{name}/rounded"))
            graph.node.insert(
                0, helper.make_node("Where", [f"switch/{index}/weights", f"{name}/rounded", constant.name], [name])
            )
            # A bias is added by an operator of its own in the float32 graph.
            users = [copy] if constant.name in weights else [each for _, each in self._nodes]
            for user in users:
                user.input[:] = [name if given == constant.name else given for given in user.input]
        return node

    def _insert_before(self, node: onnx.NodeProto, added: list[onnx.NodeProto]) -> None:
        nodes = self.model.graph.node
        at = next(i for i, each in enumerate(nodes) if each.output == node.output)
        for offset, each in enumerate(added):
            nodes.insert(at + offset, each)


def _layers_of(model: onnx.ModelProto) -> list[_Found]:
    """Each operator with 8-bit inputs, static (between DequantizeLinear and QuantizeLinear) or dynamic, in order."""
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    producers = {output: node for node in model.graph.node for output in node.output}
    found = []
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            continue
        if node.op_type in ("MatMulInteger", "ConvInteger"):
            found.append(_dynamic_layer(node, stored, producers))
            continue
        sources = [producers[name] for name in node.input if name in producers]
        dequantizers = [source for source in sources if source.op_type == "DequantizeLinear"]
        inputs = tuple(_static_input(each, stored, producers) for each in dequantizers if each.input[0] not in stored)
        constants = tuple(_constant(each, stored) for each in dequantizers if each.input[0] in stored)
        if inputs and (constants or node.op_type not in _PASSING):
            found.append(_Found(node, inputs, constants))
    return found


def _static_input(
    dequantizer: onnx.NodeProto, stored: dict[str, NDArray[Any]], producers: dict[str, onnx.NodeProto]
) -> QuantizedInput:
    source = producers.get(dequantizer.input[0])
    # Raw pixels are quantized as they come: only the DequantizeLinear knows the float tensor's name.
    name = source.input[0] if source and source.op_type == "QuantizeLinear" else dequantizer.output[0]
    scale, zero = stored[dequantizer.input[1]], stored[dequantizer.input[2]]
    if scale.size != 1:
        raise ModelError(f"{name} has {scale.size} scales; activations with more than one are not understood")
    return QuantizedInput(_plain(name), zero.dtype.name, float(scale.reshape(())), int(zero.reshape(())))


def _constant(dequantizer: onnx.NodeProto, stored: dict[str, NDArray[Any]]) -> _Constant:
    values, scale, zero = (stored[name] for name in dequantizer.input)
    axis = next((a.i for a in dequantizer.attribute if a.name == "axis"), 1)
    return _Constant(dequantizer.input[0].removesuffix(_WEIGHTS), *_dequantized(values, scale, zero, axis))


def _dynamic_layer(
    node: onnx.NodeProto, stored: dict[str, NDArray[Any]], producers: dict[str, onnx.NodeProto]
) -> _Found:
    name = node.input[1].removesuffix(_WEIGHTS)
    source = producers.get(node.input[0])
    needed = (node.input[1], f"{name}_scale", *node.input[3:4])
    if source is None or source.op_type != "DynamicQuantizeLinear" or not set(needed) <= stored.keys():
        raise ModelError(f"{node.op_type} of {name} is not as the runtime's dynamic quantizer writes it")
    values, scale = stored[node.input[1]], stored[f"{name}_scale"]
    zero = stored[node.input[3]] if len(node.input) > 3 else np.zeros_like(scale, values.dtype)
    axis = 0 if node.op_type == "ConvInteger" else values.ndim - 1
    constant = _Constant(name, *_dequantized(values, scale, zero, axis))
    return _Found(node, (QuantizedInput(source.input[0]),), (constant,))


def _dequantized(
    values: NDArray[Any], scale: NDArray[Any], zero: NDArray[Any], axis: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Stored values as float32, and their scales as a flat array."""
    flat = scale.reshape(-1).astype(np.float32)
    shape = [1] * values.ndim
    if len(flat) > 1:
        shape[axis] = len(flat)
    elif values.ndim == 0:
        shape = []
    wide = values.astype(np.int64) - zero.reshape(-1).astype(np.int64).reshape(
        shape if zero.size > 1 else [1] * values.ndim
    )
    return (wide.astype(np.float32) * flat.reshape(shape)).astype(np.float32), flat


def _plain(name: str) -> str:
    return name.removesuffix(_AFTER).removesuffix(_BEFORE)


def _tensors(model: onnx.ModelProto) -> set[str]:
    return {name for node in model.graph.node for name in node.output}


def _before_softmax(model: onnx.ModelProto, output: str) -> str:
    """A softmax hides an error where it is sure of itself, so answers are compared before it."""
    node = next(n for n in model.graph.node if output in n.output)
    return node.input[0] if node.op_type in _LAST else output


def _keras_layer(tensor: str, names: Sequence[str]) -> str:
    """The Keras layer that a tensor such as ``hidden_1/kernel`` belongs to."""
    own = [name for name in names if tensor.startswith(f"{name}/")]
    return max(own, key=len, default=tensor.split("/", maxsplit=1)[0])


def _open(model: onnx.ModelProto) -> Any:
    """A session whose inner tensors can be asked for, each flat, by name + `_OPENED`."""
    options = ort.SessionOptions()
    # Fused operators have no inner tensors.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as scratch, quiet_converters():
        closed, opened = Path(scratch) / "closed.onnx", Path(scratch) / "opened.onnx"
        onnx.save(model, closed)
        try:
            modify_model_output_intermediate_tensors(closed, opened)
            return ort.InferenceSession(opened, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's errors share no base of their own
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"the runtime does not open the graph layer by layer: {reason}") from error
