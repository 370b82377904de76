"""Scales and shifts of a float graph folded into the weights beside them, before anything is quantized.

A batch normalization is one factor and one summand a channel. tf2onnx folds it into a two-dimensional convolution in
front of it; behind a dense layer or a one-dimensional convolution, and in front of a dense layer, it stays a Mul and an
Add, which would keep their layer from running in 8 bits. Products are taken in float64 and rounded once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper, numpy_helper

from toolkit.conversion.tidy import drop_unused, taken_by

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

__all__ = ["fold_affine"]

_AFFINE = ("Mul", "Add", "Sub", "Div")
_VIEWS = ("Squeeze", "Unsqueeze")
_WEIGHTED = ("Conv", "ConvTranspose", "Gather", "Gemm", "MatMul")
_RECURRENT = ("GRU", "LSTM", "Loop", "RNN", "Scan")


def fold_affine(model: onnx.ModelProto) -> int:
    """Fold every factor and summand a channel that stands beside a weighted layer into it.

    Returns:
        How many operators were folded away.
    """
    folded = 0
    while _Folding(model).one():
        folded += 1
    drop_unused(model)
    return folded


class _Folding:
    """One look over the graph; a fold changes it, so that another look is needed."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model, self.graph = model, model.graph
        self.constants = {t.name: t for t in self.graph.initializer}
        for node in self.graph.node:
            if (
                node.op_type in ("Add", "Mul")
                and node.input[0] in self.constants
                and node.input[1] not in self.constants
            ):
                node.input[:] = node.input[::-1]  # the constant comes second, so that a bias is known as one
        self.makers = {name: node for node in self.graph.node for name in node.output}
        self.users: dict[str, list[onnx.NodeProto]] = {}
        for node in self.graph.node:
            for name in taken_by(node):
                self.users.setdefault(name, []).append(node)
        self.outputs = {value.name for value in self.graph.output}

    def one(self) -> bool:
        """Fold one operator, if there is one."""
        return any(
            node.op_type in _AFFINE and (self._drop_neutral(node) or self._into_before(node) or self._into_after(node))
            for node in self.graph.node
        )

    def _array(self, name: str) -> NDArray[Any] | None:
        return numpy_helper.to_array(self.constants[name]) if name in self.constants else None

    def _sides(self, node: onnx.NodeProto) -> tuple[str, NDArray[np.float64], bool] | None:
        """What an affine operator works on, its constant, and whether the constant comes first."""
        first, second = (self._array(name) for name in node.input)
        if (first is None) == (second is None):
            return None
        constant = first if first is not None else second
        if constant is None or constant.dtype != np.float32:
            return None
        return node.input[0 if first is None else 1], constant.astype(np.float64), first is not None

    def _alone(self, name: str) -> bool:
        users = self.users.get(name, [])
        # A branch or loop may take it too.
        return name not in self.outputs and len(users) == 1 and name in users[0].input

    def _drop_neutral(self, node: onnx.NodeProto) -> bool:
        """Times 1 or plus 0."""
        sides = self._sides(node)
        if sides is None or sides[1].size != 1 or (sides[2] and node.op_type in ("Sub", "Div")):
            return False
        if sides[1].item() != (1 if node.op_type in ("Mul", "Div") else 0) or node.output[0] in self.outputs:
            return False
        if not all(node.output[0] in user.input for user in self.users.get(node.output[0], [])):
            return False
        self._bypass(node, sides[0])
        return True

    def _bypass(self, node: onnx.NodeProto, tensor: str) -> None:
        for user in self.users.get(node.output[0], []):
            user.input[:] = [tensor if name == node.output[0] else name for name in user.input]
        self.graph.node.remove(node)

    def _into_before(self, node: onnx.NodeProto) -> bool:
        """Fold into the layer whose output this operator takes."""
        sides = self._sides(node)
        found = self._layer_before(sides[0]) if sides else None
        if sides is None or found is None or (sides[2] and node.op_type == "Div"):
            return False
        layer, bias, squeezed = found
        weight = self._array(layer.input[1])
        if weight is None or weight.dtype != np.float32:
            return False
        if layer.op_type == "MatMul":
            if weight.ndim != 2 or squeezed or (bias is None and node.op_type in ("Add", "Sub")):
                return False  # what is added to a MatMul is its own bias
            place, count = 1, weight.shape[1]
        else:
            place, count = weight.ndim - squeezed - 1, len(weight)
        vector = _by_channel(sides[1], place, count)
        if vector is None:
            return False
        factor, summand = _affine(node.op_type, vector, reversed_=sides[2])
        constant = node.input[0 if sides[2] else 1]
        if len(self.users[constant]) == 1:  # its name is free then, for the layer's own bias
            self.graph.initializer.remove(self.constants.pop(constant))
        self._scale(layer, bias, weight, factor, summand)
        last = self.makers[sides[0]]
        self.graph.node.remove(node)
        last.output[0] = node.output[0]
        return True

    def _layer_before(self, tensor: str) -> tuple[onnx.NodeProto, onnx.NodeProto | None, int] | None:
        """Back over what only drops or adds axes, and over the bias of a MatMul, to the Conv or MatMul.

        Returns:
            The layer, its bias (an Add), and how many axes were dropped; None where none feeds it alone.
        """
        squeezed = 0
        while (maker := self.makers.get(tensor)) is not None and self._alone(tensor):
            axes = self._axes(maker) if maker.op_type in _VIEWS else None
            if axes is not None and min(axes) >= 2:
                squeezed += len(axes) if maker.op_type == "Squeeze" else -len(axes)
                tensor = maker.input[0]
            elif maker.op_type == "Add" and maker.input[1] in self.constants and not squeezed:
                layer = self.makers.get(maker.input[0])
                own = layer is not None and layer.op_type == "MatMul" and self._alone(maker.input[0])
                own = own and len(self.constants[maker.input[1]].dims) <= 1
                return (layer, maker, 0) if own and layer is not None else None
            else:
                return (maker, None, squeezed) if maker.op_type in ("Conv", "MatMul") else None
        return None

    def _scale(
        self,
        layer: onnx.NodeProto,
        bias: onnx.NodeProto | None,
        weight: NDArray[np.float32],
        factor: NDArray[np.float64],
        summand: NDArray[np.float64],
    ) -> None:
        axes = (-1, *[1] * (weight.ndim - 1)) if layer.op_type == "Conv" else (1, -1)
        if not np.all(factor == 1):
            self._store(layer, 1, weight.astype(np.float64) * factor.reshape(axes))
        if layer.op_type == "Conv":
            before = self._array(layer.input[2]) if len(layer.input) > 2 else None
            shift = (0 if before is None else before.astype(np.float64)) * factor + summand
            if before is None:
                del layer.input[2:]
                layer.input.append("")
            self._store(layer, 2, shift, f"{layer.input[1].rpartition('/')[0]}/bias")
        elif bias is not None:
            before = self._array(bias.input[1])
            assert before is not None
            self._store(bias, 1, np.broadcast_to(before.astype(np.float64) * factor + summand, factor.shape))

    def _store(self, node: onnx.NodeProto, at: int, values: NDArray[Any], wish: str = "") -> None:
        """Give a node another constant; one that other nodes take too stays as it is for them."""
        name = node.input[at]
        array = values.astype(np.float32)
        if name in self.constants and len(self.users[name]) == 1:
            self.constants[name].CopyFrom(numpy_helper.from_array(array, name))
            return
        number, fresh = 1, wish or name
        while fresh in self.constants or fresh in self.makers:
            number += 1
            fresh = f"{wish or name}_{number}"
        self.graph.initializer.append(numpy_helper.from_array(array, fresh))
        node.input[at] = fresh

    def _into_after(self, node: onnx.NodeProto) -> bool:
        """Fold into the dense layer that takes what this operator gives: x * f + s before W is W * f and s @ W after.

        Not at the model's input: numbers in units of their own are scaled so that 8 bits can hold them all.
        """
        sides = self._sides(node)
        if sides is None or not self._alone(node.output[0]) or self._from_input(sides[0]):
            return False
        if node.op_type in ("Add", "Sub") and self.makers[sides[0]].op_type == "MatMul":
            return False  # that layer's own bias
        layer = self.users[node.output[0]][0]
        weight = self._array(layer.input[1]) if layer.op_type == "MatMul" else None
        if weight is None or weight.ndim != 2 or weight.dtype != np.float32 or layer.input[0] != node.output[0]:
            return False
        vector = _by_channel(sides[1], 1, len(weight))
        if vector is None or (sides[2] and node.op_type == "Div"):
            return False
        users = self.users.get(layer.output[0], [])
        bias = users[0] if self._alone(layer.output[0]) and users[0].op_type == "Add" else None
        before = self._array(bias.input[1]) if bias is not None else None
        factor, summand = _affine(node.op_type, vector, reversed_=sides[2])
        if np.any(summand != 0) and (before is None or before.ndim != 1):
            if layer.output[0] in self.outputs:
                return False
            bias, before = self._new_bias(layer, weight.shape[1]), np.zeros(weight.shape[1], np.float32)
        wide = weight.astype(np.float64)
        self._store(layer, 1, wide * factor[:, None])
        if bias is not None and before is not None and np.any(summand != 0):
            self._store(bias, 1, before.astype(np.float64) + summand @ wide)
        layer.input[0] = sides[0]
        self.graph.node.remove(node)
        return True

    def _new_bias(self, layer: onnx.NodeProto, count: int) -> onnx.NodeProto:
        name = f"{layer.input[1].rpartition('/')[0]}/bias"
        given, inner = layer.output[0], f"{layer.output[0]}/product"
        self.graph.initializer.append(numpy_helper.from_array(np.zeros(count, np.float32), name))
        self.constants[name] = self.graph.initializer[-1]
        layer.name = layer.output[0] = inner
        bias = helper.make_node("Add", [inner, name], [given], name=given)
        at = next(i for i, each in enumerate(self.graph.node) if each.output[0] == inner)
        self.graph.node.insert(at + 1, bias)
        inserted: onnx.NodeProto = self.graph.node[at + 1]
        self.users[name] = [inserted]
        return inserted

    def _from_input(self, tensor: str) -> bool:
        """Only operators without weights stand between a tensor and the model's inputs, as in a Normalization layer."""
        waiting, seen = [tensor], set()
        while waiting:
            name = waiting.pop()
            maker = self.makers.get(name)
            if maker is None or name in seen:
                continue
            seen.add(name)
            weights = any(given in self.constants and len(self.constants[given].dims) > 1 for given in maker.input)
            if (weights and maker.op_type in _WEIGHTED) or maker.op_type in _RECURRENT:
                return False
            waiting += maker.input
        return True

    def _axes(self, node: onnx.NodeProto) -> list[int] | None:
        found = self._array(node.input[1]) if len(node.input) > 1 else None
        return None if found is None else [int(axis) for axis in found.reshape(-1)]


def _by_channel(constant: NDArray[np.float64], place: int, count: int) -> NDArray[np.float64] | None:
    """A constant as one value a channel, the channel being this many axes from the end; None if it is none."""
    sizes = [size for axis, size in enumerate(constant.shape) if axis != constant.ndim - place]
    if any(size != 1 for size in sizes):
        return None
    own = constant.shape[constant.ndim - place] if 0 <= constant.ndim - place < constant.ndim else 1
    return np.broadcast_to(constant.reshape(-1), (count,)) if own in (1, count) else None


def _affine(
    operator: str, vector: NDArray[np.float64], *, reversed_: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The factor and the summand of an operator with one constant side."""
    one, none = np.ones_like(vector), np.zeros_like(vector)
    match operator:
        case "Mul":
            return vector, none
        case "Div":
            return 1 / vector, none
        case "Add":
            return one, vector
        case _:
            return (-one, vector) if reversed_ else (one, -vector)
