"""SavedModels: no layers, but TensorFlow operators, functions written out in place."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.inspection.facts import Layer, SavedModelFacts, Shape, total_macs
from toolkit.inspection.graph import INPUT, Graph, Node
from toolkit.inspection.keras_macs import NOTHING, UNKNOWN, Work, times
from toolkit.inspection.keras_models import stored_by_dtype, tensors_of

if TYPE_CHECKING:
    from toolkit.keras_model import SourceModel

__all__ = ["inspect_saved_model"]

_AROUND = re.compile(r"^(Stateful)?PartitionedCall(_\d+)?/((Stateful)?PartitionedCall(_\d+)?/)*")
_HIDDEN = {"Const", "Identity", "IdentityN", "NoOp", "ReadVariableOp", "DisableCopyOnRead"}
_AS_IT_IS = {"Cast", "ExpandDims", "Identity", "ReadVariableOp", "Reshape", "Squeeze", "Transpose"}
_CONVOLUTIONS = {"Conv2D", "Conv3D", "DepthwiseConv2dNative"}
_TRANSPOSED = {"Conv2DBackpropInput", "Conv3DBackpropInputV2"}
_PRODUCTS = {"BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "MatMul"}
_NOT_KNOWN = {"Einsum", "If", "StatelessIf", "While", "StatelessWhile", "PartitionedCall", "StatefulPartitionedCall"}


def inspect_saved_model(source: SourceModel, file: str, file_bytes: int) -> SavedModelFacts:
    """Everything about an opened SavedModel.

    Args:
        source: of kind "saved_model".
        file: how it is called.
        file_bytes: size of its files together.
    """
    operations = _frozen(source)
    operators = Counter(op.type for op in operations if op.type not in _HIDDEN | {"Placeholder"})
    layers: list[Layer] = []
    nodes: list[Node] = []
    edges: list[tuple[int, int]] = []
    made: dict[str, int] = {}
    sizes: set[str] = set()
    constants = {op.name: op for op in operations if op.type == "Const"}
    for op in operations:
        sources = [made[name] for name in _values(op) if name in made]
        if sources and (op.type == "Shape" or {name for name in _values(op) if name in made} <= sizes):
            sizes.add(op.name)  # how large something is, and what is computed from that: no values of the model
            made[op.name] = sources[0]
            continue
        sources = list(dict.fromkeys(made[name] for name in _values(op) if name in made and name not in sizes))
        if op.type == "Placeholder":
            made[op.name] = len(nodes)
            nodes.append(Node(op.name, "Input", _row(_shape(op.outputs[0])), role=INPUT))
            continue
        if op.type in _HIDDEN or not sources:
            if sources:
                made[op.name] = sources[0]
            elif op.type in _AS_IT_IS and op.inputs and op.inputs[0].op.name in constants:
                constants[op.name] = constants[op.inputs[0].op.name]
            continue
        parameters = sum(_numbers(constants[t.op.name]) for t in op.inputs if t.op.name in constants)
        work = _work(op, source.batch or 1)
        output = _shape(op.outputs[0]) if op.outputs else None
        if source.batch is None and output and output[0] == 1:
            output = (None, *output[1:])  # it was traced for one row
        name = _AROUND.sub("", op.name)
        layers.append(Layer(name, op.type, output, parameters, work.count, work.per_position))
        edges += [(start, len(nodes)) for start in sources]
        made[op.name] = len(nodes)
        nodes.append(Node(name, op.type, _row(output), parameters))
    return SavedModelFacts(
        file=file,
        name=source.name,
        written_by=source.written_by,
        inputs=tensors_of(source.inputs),
        outputs=tensors_of(source.outputs),
        operators=dict(sorted(operators.items())),
        layers=tuple(layer for layer in layers if layer.parameters or layer.multiply_adds != 0),
        # Seeds and counters are variables too, and no parameters.
        parameters=sum(math.prod(w.shape) for w in source.weights.values() if w.dtype.is_floating),
        multiply_adds=total_macs(layers),
        weights=stored_by_dtype(source.weights),
        file_bytes=file_bytes,
        notes=source.notes,
        graph=Graph(Path(file).name, tuple(nodes), tuple(dict.fromkeys(edges))),
    )


def _frozen(source: SourceModel) -> list[Any]:
    """The operations of the whole graph for one row, or for the fixed batch; variables as constants."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    signature = {s.name: tf.TensorSpec(_one_row(s.shape), s.dtype, name=s.name) for s in source.inputs}
    traced = tf.function(source.call).get_concrete_function(signature)
    # Loops stay loops: taken apart they would show how TensorFlow runs them and not what they are.
    return list(convert_variables_to_constants_v2(traced, lower_control_flow=False).graph.get_operations())


def _one_row(shape: Shape) -> Shape:
    return (1, *shape[1:]) if shape and shape[0] is None else shape


def _values(op: Any) -> list[str]:
    """Names of the operations that it takes values from."""
    return [tensor.op.name for tensor in op.inputs]


def _shape(tensor: Any) -> Shape | None:
    return None if tensor.shape.rank is None else tuple(tensor.shape.as_list())


def _row(shape: Shape | None) -> Shape | None:
    return None if shape is None else shape[1:]


def _numbers(constant: Any) -> int:
    """Parameters of a constant: shapes, axes and lone numbers are none."""
    tensor = constant.outputs[0]
    counts = tensor.dtype.is_floating and tensor.shape.rank
    return math.prod(tensor.shape.as_list()) if counts else 0


def _work(op: Any, batch: int) -> Work:
    """Multiply-adds for one row of the batch that the graph was traced for."""
    if op.type in _NOT_KNOWN:
        return UNKNOWN
    if op.type not in _CONVOLUTIONS | _TRANSPOSED | _PRODUCTS:
        return NOTHING
    given, answered = [_shape(tensor) for tensor in op.inputs], _shape(op.outputs[0])
    if answered is None or any(shape is None for shape in given):
        return UNKNOWN
    if op.type in _PRODUCTS:
        turned = op.get_attr("transpose_a" if op.type == "MatMul" else "adj_x")
        left = given[0] or ()
        return _times(batch, left[-2 if turned else -1], *answered)
    along = (answered if op.type in _CONVOLUTIONS else given[2]) or ()
    channels_last = op.type == "DepthwiseConv2dNative" or not op.get_attr("data_format").startswith(b"NC")
    positions = along[:1] + (along[1:-1] if channels_last else along[2:])
    return _times(batch, *(given[1] or (None,)), *positions)


def _times(batch: int, *sizes: int | str | None) -> Work:
    work = times(1, *(size if isinstance(size, int) else None for size in sizes))
    if work.count is None:
        return work
    return UNKNOWN if work.count % batch else Work(work.count // batch)
