"""Shapes of the tensors of an ONNX graph, for one row: as ONNX infers them, and through shapes that are computed.

Converters write a Flatten as Shape, Slice, Concat and Reshape; inference alone gives up there. With the batch fixed to
1 these small computations are constants, so they are carried out and inferred past.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from toolkit.inspection.facts import Shape

__all__ = ["attribute", "infer_shapes"]

_SMALL = 1024
_ROUNDS = 20
_FOLDED = {
    "Add", "Cast", "Concat", "Div", "Equal", "Expand", "Gather", "Identity", "Max", "Min", "Mul", "Range", "ReduceProd",
    "Reshape", "Slice", "Squeeze", "Sub", "Unsqueeze", "Where", "ConstantOfShape", "Mod",
}  # fmt: skip


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """An attribute's value."""
    import onnx

    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def infer_shapes(model: onnx.ModelProto, *, one_row: bool) -> dict[str, Shape]:
    """The shape of each tensor that can be told; a name or None for a dimension that cannot.

    Args:
        model: whole.
        one_row: take the first dimension of every input, which is a free batch, as 1.
    """
    import onnx

    bare = _without_weights(onnx, model)
    if one_row:
        stored = {t.name for t in model.graph.initializer}
        for given in bare.graph.input:
            if given.name not in stored:
                given.type.tensor_type.shape.dim[0].Clear()
                given.type.tensor_type.shape.dim[0].dim_value = 1
        # What the file notes of the others is for any batch; they are inferred anew.
        for answer in bare.graph.output:
            answer.type.tensor_type.ClearField("shape")
    else:
        bare.graph.value_info.extend(model.graph.value_info)
    for _ in range(_ROUNDS):
        try:
            bare = onnx.shape_inference.infer_shapes(bare, data_prop=True)
        except Exception:  # noqa: BLE001 - its errors share no base; what it could not tell is not known
            break
        shapes = _shapes_of(bare)
        if not (_note_packed(onnx, bare, shapes) or (one_row and _fold(onnx, bare, shapes))):
            break
    return _shapes_of(bare) | {t.name: tuple(t.dims) for t in model.graph.initializer}


def _without_weights(onnx: Any, model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with large constants as inputs of their shape: inference needs no more, and would copy them all."""
    bare = onnx.ModelProto(ir_version=max(model.ir_version, 4))
    bare.opset_import.extend(model.opset_import)
    bare.functions.extend(model.functions)
    graph = bare.graph
    graph.name = "shapes"
    graph.node.extend(model.graph.node)
    graph.output.extend(model.graph.output)
    stored = {t.name for t in model.graph.initializer}
    graph.input.extend(value for value in model.graph.input if value.name not in stored)
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _SMALL:
            graph.initializer.append(tensor)
        else:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return bare  # type: ignore[no-any-return]  # handed in untyped, so that it is imported in one place


def _note_packed(onnx: Any, model: onnx.ModelProto, shapes: dict[str, Shape]) -> bool:
    """Note what MatMulNBits gives, which inference does not know; whether there was something new."""
    types = {v.name: v.type.tensor_type.elem_type for v in (*model.graph.value_info, *model.graph.input)}
    new = False
    for node in model.graph.node:
        given = shapes.get(node.input[0]) if node.input else None
        if node.op_type == "MatMulNBits" and given is not None and node.output[0] not in shapes:
            shape = [*given[:-1], attribute(node, "N", None)]
            kind = types.get(node.input[0], onnx.TensorProto.FLOAT)
            model.graph.value_info.append(onnx.helper.make_tensor_value_info(node.output[0], kind, shape))
            shapes[node.output[0]] = tuple(shape)
            new = True
    return new


def _fold(onnx: Any, model: onnx.ModelProto, shapes: dict[str, Shape]) -> bool:
    """Carry out what computes shapes from constants; whether there was something to."""
    graph = model.graph
    known = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    for node in graph.node:
        tensor = attribute(node, "value", None) if node.op_type == "Constant" else None
        if tensor is not None and math.prod(tensor.dims) <= _SMALL:
            known[node.output[0]] = onnx.numpy_helper.to_array(tensor)
    kept, folded = [], False
    for node in graph.node:
        value = _value(onnx, model, node, known, shapes)
        if value is None:
            kept.append(node)
            continue
        folded = True
        known[node.output[0]] = value
        graph.initializer.append(onnx.numpy_helper.from_array(value, node.output[0]))
    if folded:
        kept_copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
        del graph.node[:]
        graph.node.extend(kept_copies)
    return folded


def _value(
    onnx: Any, model: onnx.ModelProto, node: onnx.NodeProto, known: dict[str, NDArray[Any]], shapes: dict[str, Shape]
) -> NDArray[Any] | None:
    """What a node gives, if that is small and depends on nothing that is not known."""
    if node.op_type == "Shape":
        shape = shapes.get(node.input[0])
        if shape is None or not all(isinstance(size, int) for size in shape):
            return None
        return np.array(shape[attribute(node, "start", 0) : attribute(node, "end", None)], np.int64)
    if node.op_type not in _FOLDED or node.domain not in ("", "ai.onnx") or len(node.output) != 1:
        return None
    given = {name: known[name] for name in node.input if name in known}
    # A shape is whole numbers; weights are left as they are.
    if not given or set(node.input) - {""} != given.keys() or any(a.dtype.kind not in "ib" for a in given.values()):
        return None
    return _carried_out(onnx, model, node, given)


def _carried_out(
    onnx: Any, model: onnx.ModelProto, node: onnx.NodeProto, given: dict[str, NDArray[Any]]
) -> NDArray[Any] | None:
    """One operator over arrays, by ONNX's own reference; None if that fails, or what it gives is large."""
    from onnx.reference import ReferenceEvaluator

    helper = onnx.helper
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), list(array.shape))
        for name, array in given.items()
    ]
    try:
        graph = helper.make_graph([node], "one", inputs, [helper.make_empty_tensor_value_info(node.output[0])])
        one = helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)
        answers: Any = ReferenceEvaluator(one).run(None, given)
        value = np.asarray(answers[0])
    except Exception:  # noqa: BLE001 - whatever it raises, then the value is not known
        return None
    return value if value.size <= _SMALL else None


def _shapes_of(model: onnx.ModelProto) -> dict[str, Shape]:
    """The shape of each tensor that the file tells."""
    found: dict[str, Shape] = {t.name: tuple(t.dims) for t in model.graph.initializer}
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        kind = value.type.tensor_type
        if value.type.HasField("tensor_type") and kind.HasField("shape"):
            found[value.name] = tuple(
                d.dim_value if d.HasField("dim_value") else (d.dim_param or None) for d in kind.shape.dim
            )
    for node in model.graph.node:
        if node.op_type == "Constant" and (tensor := attribute(node, "value", None)) is not None:
            found.setdefault(node.output[0], tuple(tensor.dims))
    return found
