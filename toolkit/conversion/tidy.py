"""What a converter leaves behind, put in order: names of free dimensions, order of outputs, constant shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from toolkit.conversion.contract import FileInput
    from toolkit.keras_model.source import SourceModel, TensorSpec

__all__ = ["constant_shapes", "drop_unused", "put_scaling", "set_contract", "taken_by"]


def set_contract(model: onnx.ModelProto, source: SourceModel) -> None:
    """Inputs and outputs in the source's order with the source's shapes: "batch" where it is free."""
    graph = model.graph
    for values, specs in ((graph.input, source.inputs), (graph.output, source.outputs)):
        found = {value.name: value for value in values}
        ordered = [found[spec.name] for spec in specs if spec.name in found]  # an input may be of no use
        copies = []
        for value, spec in zip(ordered, specs, strict=False):
            copy = onnx.ValueInfoProto()
            copy.CopyFrom(value)
            copies.append(copy)
            _set_shape(copy, spec)
        del values[:]
        values.extend(copies)


def _set_shape(value: onnx.ValueInfoProto, spec: TensorSpec) -> None:
    shape = value.type.tensor_type.shape
    known = [dimension.dim_value for dimension in shape.dim]
    del shape.dim[:]
    for axis, size in enumerate(spec.shape):
        dimension = shape.dim.add()
        if size is None and axis < len(known) and known[axis] and axis > 0:
            size = known[axis]  # noqa: PLW2901 - the converter may know more than Keras does
        if size is not None:
            dimension.dim_value = size
        else:
            dimension.dim_param = "batch" if axis == 0 else f"{spec.name}_{axis}"


def constant_shapes(model: onnx.ModelProto) -> None:
    """Give each Reshape whose target follows from the sizes of the inputs a constant target, where one size is free.

    Flatten comes as a chain of Shape, Gather, Cast, Slice and Concat, which costs the runtime as much as a layer. What
    stays the same is told by running the chain on inputs of two sizes: nothing in it can depend on more than these.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    computed = [
        node
        for node in model.graph.node
        if node.op_type == "Reshape" and node.input[1] not in constants and _follows_from_sizes(node.input[1], makers)
    ]
    if not computed:
        return
    names = list(dict.fromkeys(node.input[1] for node in computed))
    one, other = (_run_on_zeros(model, names, free) for free in (2, 3))
    for node in computed:
        first, second = one[node.input[1]], other[node.input[1]]
        same = first == second
        if same.sum() >= len(same) - 1 and not (first == -1).any():
            name = f"{node.output[0]}/target"
            target = np.where(same, first, -1).astype(np.int64)
            model.graph.initializer.append(numpy_helper.from_array(target, name))
            node.input[1] = name
    drop_unused(model)


def _follows_from_sizes(tensor: str, makers: dict[str, onnx.NodeProto]) -> bool:
    """Whether every way from the model's inputs to a tensor leads through Shape, which looks at sizes alone."""
    waiting = [tensor]
    while waiting:
        maker = makers.get(waiting.pop())
        if maker is None or maker.op_type == "Shape":
            continue
        if any(attribute.HasField("g") or attribute.graphs for attribute in maker.attribute):
            return False
        inner = [name for name in maker.input if name in makers]
        if not inner and maker.input:
            return False
        waiting += inner
    return True


def _run_on_zeros(model: onnx.ModelProto, names: Sequence[str], free: int) -> dict[str, NDArray[np.int64]]:
    """Some inner integer tensors of a model, for inputs of zeros that are this large where their size is free."""
    import onnxruntime as ort

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = {value.name for value in copy.graph.output}
    copy.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.INT64, None) for name in names if name not in known
    )
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        sizes = [dimension.dim_value or free for dimension in kind.shape.dim]
        feeds[value.name] = np.zeros(sizes, helper.tensor_dtype_to_np_dtype(kind.elem_type))
    return dict(zip(names, session.run(list(names), feeds), strict=True))


def drop_unused(model: onnx.ModelProto) -> None:
    """Remove nodes and constants that nothing takes."""
    graph = model.graph
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed & {*node.output}:
            kept.append(node)
            needed |= taken_by(node)
    if len(kept) < len(graph.node):
        nodes = list(reversed(kept))
        del graph.node[:]
        graph.node.extend(nodes)
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    if len(constants) < len(graph.initializer):
        del graph.initializer[:]
        graph.initializer.extend(constants)


def taken_by(node: onnx.NodeProto) -> set[str]:
    """Tensors that a node takes, those of its branches and loops included."""
    names = {*node.input}
    for attribute in node.attribute:
        for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            names |= {value.name for value in inner.output}
            for each in inner.node:
                names |= taken_by(each)
    return names


def put_scaling(model: onnx.ModelProto, inputs: Sequence[FileInput]) -> None:
    """Let the graph take raw integers: Cast, times scale, plus offset in front of what was its input."""
    graph = model.graph
    values = {value.name: value for value in graph.input}
    for given in inputs:
        scaling = given.scaling
        if scaling is None or given.name not in values:
            continue
        value = values[given.name]
        value.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(scaling.dtype))
        names = [given.name, f"{given.name}/cast"]
        added = [helper.make_node("Cast", names, [names[1]], to=TensorProto.FLOAT)]
        del added[0].input[1:]
        for operator, what, constant in (("Mul", "scale", scaling.scale), ("Add", "offset", scaling.offset)):
            if constant == (1 if operator == "Mul" else 0):
                continue
            name, out = f"{given.name}/{what}", f"{given.name}/{'scaled' if operator == 'Mul' else 'shifted'}"
            graph.initializer.append(numpy_helper.from_array(np.array(constant, np.float32), name))
            added.append(helper.make_node(operator, [added[-1].output[0], name], [out]))
        for node in graph.node:
            node.input[:] = [added[-1].output[0] if name == given.name else name for name in node.input]
        for node in added:
            node.name = node.output[0]
        for at, node in enumerate(added):
            graph.node.insert(at, node)
