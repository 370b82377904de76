"""Finds the chain of dense layers in an int8 ONNX file, or says which operator does not fit into one."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from toolkit.c_code.chain import Chain, Dense, Requantization, rounded
from toolkit.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["read_chain"]

_VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")
_ARITHMETIC = {"Add": np.add, "Div": np.divide, "Mul": np.multiply, "Sub": np.subtract}
_ENDS = ("Softmax", "Sigmoid")
INPUTS = ("uint8", "int8", "float32")
_MAX_SUM = 2**31 - 1


def read_chain(data: bytes) -> Chain:
    """The chain that an int8 file is.

    Args:
        data: bytes of a static int8 ONNX file, as `toolkit export --quantize` writes it.

    Raises:
        ModelError: the graph is something else; the message names the operator.
    """
    return _Reader(onnx.load_from_string(data), hashlib.sha256(data).hexdigest()).chain()


@dataclass(frozen=True, eq=False)
class _Step:
    """A quantized tensor on the way: its scale and zero point."""

    tensor: str
    scale: np.float32
    zero_point: NDArray[Any]


class _Reader:
    def __init__(self, model: onnx.ModelProto, sha256: str) -> None:
        self.graph, self.sha256 = model.graph, sha256
        self.stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.users: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.users.setdefault(name, []).append(node)
        self.makers = {name: node for node in model.graph.node for name in node.output}
        facts = {entry.key: entry.value for entry in model.metadata_props}
        self.class_names = tuple(json.loads(facts.get("toolkit.class_names") or "[]"))
        contract = json.loads(facts.get("toolkit.contract") or "{}")
        self.tasks = [output.get("task") for output in contract.get("outputs", [])]

    def chain(self) -> Chain:
        graph = self.graph
        if len(graph.input) != 1 or len(graph.output) != 1:
            raise ModelError(
                f"the model has {len(graph.input)} inputs and {len(graph.output)} outputs; C code is written for "
                "models of one input and one output"
            )
        given = graph.input[0].type.tensor_type
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(given.elem_type)).name
        shape = tuple(d.dim_value for d in given.shape.dim)[1:]
        if dtype not in INPUTS or not all(shape):
            raise ModelError(
                f"the model takes {dtype} of shape {shape}; C code takes {', '.join(INPUTS)} of a fixed one"
            )
        tensor = self.viewed(graph.input[0].name)
        layers: list[Dense] = []
        first, table = self.input_step(tensor, dtype)
        step = first
        while True:
            layer, after = self.dense(step)
            layers.append(layer)
            if layer.then is None:
                break
            assert isinstance(after, _Step)
            step = after
        assert isinstance(after, str)
        end = self.end(after)
        task = next(iter(self.tasks), None) or "values"
        return Chain(
            input_dtype=dtype,
            input_shape=shape,
            input_scale=first.scale,
            input_zero_point=_as_uint8(first.zero_point),
            layers=tuple(layers),
            task=task,
            end=end,
            class_names=self.class_names if task == "classification" else (),
            source_sha256=self.sha256,
            input_table=table,
        )

    def only_user(self, tensor: str) -> onnx.NodeProto:
        users = self.users.get(tensor, [])
        if len(users) != 1:
            kinds = ", ".join(user.op_type for user in users) or "nothing"
            raise ModelError(f"{tensor} goes into {kinds}; C code is written for a chain of dense layers alone")
        return users[0]

    def viewed(self, tensor: str) -> str:
        """The tensor behind what only gives it another shape."""
        while tensor in self.users and (node := self.only_user(tensor)).op_type in _VIEWS:
            tensor = node.output[0]
        return tensor

    def input_step(self, tensor: str, dtype: str) -> tuple[_Step, NDArray[np.uint8] | None]:
        """The quantized input, and what each byte of a raw one becomes where the file scales it first."""
        node = self.only_user(tensor)
        if dtype == "float32":
            if node.op_type != "QuantizeLinear":
                raise _does_not_fit(node)
            return self.step(self.viewed(node.output[0])), None
        if node.op_type == "DequantizeLinear":
            return self.step(tensor), None
        values = np.arange(256, dtype=np.uint8).view(dtype).astype(np.float32)
        while node.op_type != "QuantizeLinear":
            if node.op_type in _ARITHMETIC and (constant := self.stored.get(node.input[1])) is not None:
                if constant.size != 1 or constant.dtype != np.float32:
                    raise _does_not_fit(node)
                values = _ARITHMETIC[node.op_type](values, constant.reshape(()))
            elif node.op_type != "Cast" or helper.get_attribute_value(node.attribute[0]) != onnx.TensorProto.FLOAT:
                raise _does_not_fit(node)
            node = self.only_user(self.viewed(node.output[0]))
        step = self.step(self.viewed(node.output[0]))
        return step, rounded(values / step.scale, _as_uint8(step.zero_point))

    def step(self, quantized: str) -> _Step:
        """A quantized tensor whose dequantized form a dense layer takes."""
        node = self.only_user(quantized)
        if node.op_type != "DequantizeLinear":
            raise _does_not_fit(node)
        scale, zero = self.stored[node.input[1]], self.stored[node.input[2]]
        if scale.size != 1 or zero.dtype.name not in ("uint8", "int8"):
            raise ModelError(f"{quantized} has {scale.size} scales of {zero.dtype}; C code takes one of 8 bits")
        return _Step(self.viewed(node.output[0]), np.float32(scale.reshape(())), zero.reshape(-1)[:1])

    def constant(self, tensor: str, layer: str) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """A stored tensor's integers, and its scales."""
        node = self.makers.get(tensor)
        if node is None or node.op_type != "DequantizeLinear" or node.input[0] not in self.stored:
            kind = node.op_type if node is not None else "float weights"
            raise ModelError(
                f"{layer} is no dense layer in 8 bits (its {tensor} comes from {kind}); C code is written for static "
                "int8 with every layer quantized"
            )
        values, scale, zero = (self.stored[name] for name in node.input)
        if np.any(zero):
            raise ModelError(f"{node.input[0]} has a zero point that is not 0; C code is written for symmetric weights")
        return values, scale.reshape(-1).astype(np.float32)

    def dense(self, step: _Step) -> tuple[Dense, _Step | str]:
        node = self.only_user(step.tensor)
        if node.op_type not in ("Gemm", "MatMul") or node.input[0] != step.tensor:
            raise _does_not_fit(node)
        options = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if options.get("transA") or options.get("alpha", 1.0) != 1.0 or options.get("beta", 1.0) != 1.0:
            raise _does_not_fit(node)
        weights, scales = self.constant(node.input[1], node.name or node.output[0])
        if not options.get("transB"):
            weights = weights.T
        outputs, inputs = weights.shape
        zero = _as_uint8(step.zero_point)
        bias = np.zeros(outputs, np.int64)
        if len(node.input) > 2 and node.input[2]:
            bias += self.constant(node.input[2], node.name or node.output[0])[0].reshape(-1)
        bias -= zero * weights.astype(np.int64).sum(axis=1)
        name = node.output[0].split("/")[0]
        worst = np.abs(bias) + 255 * np.abs(weights.astype(np.int64)).sum(axis=1)
        if worst.max() > _MAX_SUM:
            raise ModelError(f"sums of {name} may exceed 32 bits ({inputs:,} inputs); C code sums in int32")
        product = (step.scale * scales).astype(np.float32)
        then, after = self.behind(node.output[0])
        multipliers = product
        if then is not None and not then.two_steps:
            multipliers = (product / then.scale).astype(np.float32)
        layer = Dense(name, weights, bias.astype(np.int32), scales, step.scale, multipliers, then)
        return layer, after

    def behind(self, tensor: str) -> tuple[Requantization | None, _Step | str]:
        """What becomes of a layer's sums: an activation and 8 bits again, or the answer."""
        floor: np.float32 | None = None
        ceiling: np.float32 | None = None
        start, activation = tensor, None
        while True:
            tensor = self.viewed(tensor)
            if tensor in {value.name for value in self.graph.output}:
                break
            node = self.only_user(tensor)
            if node.op_type in _ENDS:
                break
            if node.op_type == "Relu":
                floor = np.float32(0) if floor is None else max(floor, np.float32(0))
            elif node.op_type == "Clip":
                least, most = (
                    np.float32(self.stored[name].reshape(())) if name else None
                    for name in (*node.input[1:3], "", "")[:2]
                )
                floor = least if floor is None else floor if least is None else max(floor, least)
                ceiling = most if ceiling is None else ceiling if most is None else min(ceiling, most)
            elif node.op_type == "QuantizeLinear":
                return self.requantization(node, floor, ceiling)
            else:
                raise _does_not_fit(node)
            tensor, activation = node.output[0], node
        if activation is not None and (floor is not None or ceiling is not None):
            raise _does_not_fit(activation, "behind the last layer ")
        return None, start

    def requantization(
        self, node: onnx.NodeProto, floor: np.float32 | None, ceiling: np.float32 | None
    ) -> tuple[Requantization, _Step]:
        step = self.step(self.viewed(node.output[0]))
        zero = _as_uint8(step.zero_point)
        # The runtime leaves an activation out that the 256 steps already hold to the same range, and then multiplies
        # once; else it computes the layer in float and quantizes that.
        lowest, highest = np.float32(-zero) * step.scale, np.float32(255 - zero) * step.scale
        held = (floor is None or lowest >= floor) and (ceiling is None or highest <= ceiling)
        bounds = (None, None) if held else (floor, ceiling)
        then = Requantization(step.scale, zero, not held, *bounds)
        return then, step

    def end(self, tensor: str) -> str | None:
        tensor = self.viewed(tensor)
        if tensor in {value.name for value in self.graph.output}:
            return None
        node = self.only_user(tensor)
        if node.op_type not in _ENDS or self.viewed(node.output[0]) != self.graph.output[0].name:
            raise _does_not_fit(node)
        return str(node.op_type)


def _as_uint8(zero_point: NDArray[Any]) -> int:
    """A zero point as that of the same value in uint8: what int8 stores, plus 128."""
    return int(zero_point[0]) + (128 if zero_point.dtype == np.int8 else 0)


def _does_not_fit(node: onnx.NodeProto, where: str = "") -> ModelError:
    name = node.name or node.output[0]
    return ModelError(
        f"the operator {node.op_type} ({name}) {where}does not fit: C code is written for chains of dense layers with "
        "ReLU or a clip between them; export without --c"
    )
