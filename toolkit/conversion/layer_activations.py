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
from toolkit.conversion.quantized_layers import (
    BEFORE,
    LAST,
    FoundLayer,
    QuantizedInput,
    float32_name,
    quantized_layers,
)
from toolkit.conversion.saturation import as_matrix, layer_loads
from toolkit.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["LayerProbe", "QuantizedLayer"]

_OPENED = "_ReshapedSavedOutput"  # what the runtime's debugging function appends to a tensor's name
_CUT = {"Clip", "Relu"}


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
        output: the tensor to compare, by its name in the float32 graph; None if the int8 graph has no counterpart.
        counterpart: its name in the int8 graph.
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
    counterpart: str | None


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
        found = quantized_layers(quantized)
        if not found:
            raise ModelError("the int8 file has no layer whose 8-bit inputs are understood")
        self.dynamic = any(each.dtype is None for entry in found for each in entry.inputs)
        """Scales depend on the input: to see what a device sees, give one image at a time."""
        constants = {t.name: numpy_helper.to_array(t) for t in original.graph.initializer}
        pairs = _Pairs(original, quantized)
        loads = {load.layer: load for load in layer_loads(quantized)}
        probe = _Builder(original)
        self.layers: list[QuantizedLayer] = []
        for index, entry in enumerate(found):
            node = probe.switch(index, entry)
            weights = next((c for c in entry.constants if c.rounded.ndim > 1), None)
            load = loads.get(weights.name) if weights else None
            self.layers.append(
                QuantizedLayer(
                    # A weight's tensor is named by its path in Keras, and `--keep-float` takes what stands before it.
                    layer=weights.name.rpartition("/")[0] or weights.name
                    if weights
                    else _keras_layer(node.output[0], keras_layers),
                    operator=entry.node.op_type,
                    inputs=entry.inputs,
                    weights=as_matrix(node, constants[weights.name]) if weights else None,
                    rounded=as_matrix(node, weights.rounded) if weights else None,
                    scales=weights.scales if weights else None,
                    load=load.load if load else None,
                    load_limit=load.limit if load and load.weights == "int8" else None,
                    **pairs.of(entry.node, node),
                )
            )
        # Logits and the probabilities made of them are one answer.
        self._answers = list(dict.fromkeys(_before_softmax(original, value.name) for value in original.graph.output))
        shapes = [value.type.tensor_type.shape.dim for value in original.graph.output]
        self.classifies = len(self._answers) == 1 and all(len(shape) == 2 for shape in shapes)
        """It has one answer an image, a figure a class."""
        self._int8_answers = [pairs.of_answer(name) for name in self._answers]
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
        names = [each.tensor for layer in self.layers for each in layer.inputs]
        names += [layer.output for layer in self.layers if layer.output]
        arrays = dict(zip(names, self._run_probe(feeds, names, (), ()), strict=True))
        inputs = [[arrays[each.tensor] for each in layer.inputs] for layer in self.layers]
        return inputs, [arrays[layer.output] if layer.output else None for layer in self.layers]

    def int8_tensors(
        self, feeds: Mapping[str, NDArray[Any]]
    ) -> tuple[list[NDArray[np.float32] | None], list[NDArray[np.float32]]]:
        """Output of each layer in the int8 file, and its answers before softmax, all flat."""
        names = [*(layer.counterpart for layer in self.layers if layer.counterpart), *self._int8_answers]
        found = self._int8.run([name + _OPENED for name in names], dict(feeds))
        arrays = dict(zip(names, found, strict=True))
        outputs = [arrays[layer.counterpart] if layer.counterpart else None for layer in self.layers]
        return outputs, [arrays[name] for name in self._int8_answers]

    def _run_probe(
        self, feeds: Mapping[str, NDArray[Any]], names: list[str], inputs: Collection[int], weights: Collection[int]
    ) -> list[NDArray[np.float32]]:
        switches = {}
        for index in range(len(self.layers)):
            switches[f"switch/{index}/inputs"] = np.array(index in inputs)
            switches[f"switch/{index}/weights"] = np.array(index in weights)
        found: list[NDArray[np.float32]] = self._probe.run([name + _OPENED for name in names], {**feeds, **switches})
        return found


class _Pairs:
    """Which tensor of the int8 graph is which of the float32 graph."""

    def __init__(self, original: onnx.ModelProto, quantized: onnx.ModelProto) -> None:
        self._float = {name: node.op_type for node in original.graph.node for name in node.output}
        self._int8 = {name: node.op_type for node in quantized.graph.node for name in node.output}
        self._quantizers = {n.input[0]: n.output[0] for n in quantized.graph.node if n.op_type == "QuantizeLinear"}
        self._dequantizers = {n.input[0]: n.output[0] for n in quantized.graph.node if n.op_type == "DequantizeLinear"}

    def of(self, quantized: onnx.NodeProto, node: onnx.NodeProto) -> dict[str, str | None]:
        """What one layer gives, in both graphs."""
        given = quantized.output[0]
        # Of a dynamic layer the float32 graph's own name is at the end of its chain of operators.
        output = next((name for name in (float32_name(given), node.output[0]) if name in self._float), None)
        counterpart = given if output == float32_name(given) else output
        if output is not None and self._float[output] in _CUT and quantized.op_type not in _CUT:
            # The quantizer drops a Relu whose work the range of its QuantizeLinear does.
            counterpart = self._dequantizers.get(self._quantizers.get(given, ""))
        if output is None or counterpart not in self._int8:
            return {"output": None, "counterpart": None}
        return {"output": output, "counterpart": counterpart}

    def of_answer(self, name: str) -> str:
        """The answer before it is quantized, where it is."""
        found = next((each for each in (name + BEFORE, name) if each in self._int8), None)
        if found is None:
            raise ModelError(f"the int8 file does not have the float32 file's output {name}")
        return found


class _Builder:
    """Puts switches into a copy of the float32 graph."""

    def __init__(self, original: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(original)
        del self.model.graph.value_info[:]
        self._original = original
        self._constants = {t.name: list(t.dims) for t in original.graph.initializer}
        # By position, as the copy's nodes are edited.
        copies: list[onnx.NodeProto] = list(self.model.graph.node)
        self._nodes: list[tuple[onnx.NodeProto, onnx.NodeProto]] = list(zip(original.graph.node, copies, strict=True))

    def switch(self, index: int, found: FoundLayer) -> onnx.NodeProto:
        """Put in the switches of one layer; the float32 graph's own node is returned."""
        taken = {each.tensor for each in found.inputs}
        for constant in found.constants:
            if self._constants.get(constant.name) != list(constant.rounded.shape):
                raise ModelError(f"the float32 file has no tensor {constant.name} of the int8 file's shape")
        weights = {c.name for c in found.constants if c.rounded.ndim > 1}
        # By what it takes: what it gives may be called after a bias or a Relu that the quantizer took in.
        nodes = [
            (node, copy)
            for node, copy in self._nodes
            if taken <= {*node.input} and (weights & {*node.input} if weights else node.op_type == found.node.op_type)
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


def _before_softmax(model: onnx.ModelProto, output: str) -> str:
    """A softmax hides an error where it is sure of itself, so answers are compared before it."""
    node = next(n for n in model.graph.node if output in n.output)
    return node.input[0] if node.op_type in LAST else output


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
