"""ONNX files: what they need, hold, compute, and how they are quantized."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from toolkit.errors import MissingError, ModelError
from toolkit.inspection.facts import Floor, Layer, OnnxFacts, Saturation, Shape, Stored, Tensor, total_macs
from toolkit.inspection.onnx_graph import drawn
from toolkit.inspection.onnx_macs import node_work, wants_packed
from toolkit.inspection.onnx_shapes import attribute, infer_shapes
from toolkit.inspection.quantization import INTEGER, kind_of, quantized_layers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import onnx
    from numpy.typing import NDArray

    from toolkit.predictor import ModelFile

__all__ = ["inspect_onnx"]

_CONTRACT, _NAMES = "toolkit.contract", "toolkit.class_names"
_LONGEST = 10_000
_MADE_UP = r"|unk__\d+|None|\?|dynamic_axes_\w+"


def inspect_onnx(file: ModelFile) -> OnnxFacts:
    """Everything about one ONNX file.

    Args:
        file: as `toolkit.predictor.model_files` gives it; its hash is checked where there is one.

    Raises:
        MissingError: onnx is not installed.
        ModelError: it is no ONNX model, keeps weights outside, or breaks the rules of the format.
        CorruptArtifactError: it is not the file that the manifest describes.
    """
    data = file.read()
    try:
        import onnx
    except ImportError as error:
        raise MissingError(
            f"this needs onnx ({error}); install the extra 'train': pip install '.[train]' in the project"
        ) from error
    from toolkit.conversion.compatibility import SOURCE, has_static_layers, lowest_runtime

    model = _parsed(onnx, data, file.path)
    saturation = _saturation(onnx, model, data, file.path)
    constants = _constants(model)
    batch, row = _batch(model)
    shapes = infer_shapes(model, one_row=isinstance(batch, str))
    layers = _layers(model, shapes, constants, batch)
    nodes = list(_every_node(model.graph))
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    foreign = {node.op_type for node in nodes if node.domain not in ("", "ai.onnx", "ai.onnx.ml")}
    release, because = lowest_runtime(opsets, model.ir_version, foreign, static_layers=has_static_layers(model))
    stored = _stored(onnx, model)
    quantized = quantized_layers(model, constants)
    metadata = {entry.key: entry.value[:_LONGEST] for entry in model.metadata_props}
    names, contract, unreadable = _own_words(metadata)
    notes = [f"its metadata '{key}' is unreadable" for key in unreadable]
    if saturation.refused:
        notes.append(saturation.refused)
    return OnnxFacts(
        file=file.path,
        kind=kind_of(model, quantized, stored),
        opsets=opsets,
        ir_version=model.ir_version,
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        metadata={key: value for key, value in sorted(metadata.items()) if key not in (_CONTRACT, _NAMES)},
        class_names=names,
        inputs=_tensors(onnx, _real_inputs(model), contract.get("inputs", {})),
        outputs=_tensors(onnx, model.graph.output, contract.get("outputs", {})),
        operators=dict(sorted(Counter(_title(node) for node in nodes).items())),
        layers=layers,
        parameters=sum(layer.parameters for layer in layers),
        multiply_adds=total_macs(layers),
        row=row,
        weights=stored,
        file_bytes=len(data),
        onnxruntime=Floor(release, because, SOURCE),
        quantized=quantized,
        saturation=saturation,
        notes=tuple(notes),
        graph=drawn(Path(file.path).name, model, shapes, layers, quantized, constants, names, batch=batch is not None),
    )


def _parsed(onnx: Any, data: bytes, name: str) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{name} is no ONNX model ({reason}); copy or export it again") from error
    if not model.graph.node and not model.graph.output:
        raise ModelError(f"{name} is an ONNX file without operators and outputs; export it again")
    return model  # type: ignore[no-any-return]  # handed in untyped, so that it is imported in one place


def _saturation(onnx: Any, model: onnx.ModelProto, data: bytes, name: str) -> Saturation:
    """As the installed runtime makes the graph; what that refuses and the format's own checker too is no model."""
    import dataclasses

    from toolkit.conversion.saturation import as_run, layer_loads, unread_weights

    try:
        graph = as_run(data, name)
    except ModelError as error:
        try:
            onnx.checker.check_model(model)
        except Exception:  # noqa: BLE001 - its errors share no base
            raise error from None
        return Saturation(None, (), (), str(error).rsplit(";", 1)[0])
    loads = layer_loads(graph)
    unread = unread_weights(graph, loads)
    can = any(load.can_saturate for load in loads) or (None if unread else False)
    rows = tuple(dataclasses.asdict(load) | {"can_saturate": load.can_saturate} for load in loads)
    return Saturation(can, rows, tuple(unread))


def _real_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    stored = {t.name for t in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in stored]


def _tensors(onnx: Any, values: Any, contract: Mapping[str, Mapping[str, Any]]) -> tuple[Tensor, ...]:
    found = []
    for value in values:
        kind = value.type.tensor_type
        shape: Shape = tuple(d.dim_value if d.HasField("dim_value") else (d.dim_param or None) for d in kind.shape.dim)
        says = contract.get(value.name, {})
        span, task = says.get("range"), says.get("task")
        bounds = (float(span[0]), float(span[1])) if _is_range(span) else None
        found.append(Tensor(value.name, shape, _dtype(onnx, kind.elem_type), bounds, str(task) if task else None))
    return tuple(found)


def _is_range(span: Any) -> TypeGuard[list[float]]:
    return isinstance(span, list) and len(span) == 2 and all(isinstance(end, int | float) for end in span)


def _dtype(onnx: Any, code: int) -> str:
    """As numpy calls it; a type that numpy lacks as ONNX calls it."""
    try:
        name = str(onnx.TensorProto.DataType.Name(code)).lower()
    except ValueError:
        return f"type {code}"
    return {"float": "float32", "double": "float64"}.get(name, name)


def _own_words(metadata: Mapping[str, str]) -> tuple[tuple[str, ...] | None, dict[str, Any], list[str]]:
    """Class names, the contract by tensor, and the keys of what could not be read."""
    unreadable = []
    names, contract = None, {}
    try:
        listed = json.loads(metadata.get(_NAMES, "null"))
        names = None if listed is None else tuple(map(str, listed))
    except (ValueError, TypeError, RecursionError):
        unreadable.append(_NAMES)
    try:
        given = json.loads(metadata.get(_CONTRACT, "{}"))
        contract = {side: {e["name"]: e for e in given.get(side, [])} for side in ("inputs", "outputs")}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        unreadable.append(_CONTRACT)
    return names, contract, unreadable


def _batch(model: onnx.ModelProto) -> tuple[int | str | None, str]:
    """The batch dimension: the first of every input, if it is the same free or fixed one; and what a row then is."""
    firsts = []
    for value in _real_inputs(model):
        dims = value.type.tensor_type.shape.dim
        if not len(dims):
            return None, "the whole input"
        firsts.append(dims[0].dim_value if dims[0].HasField("dim_value") else dims[0].dim_param)
    # Converters name each input's batch for itself where the model does not say that they are one.
    named = {first for first in firsts if not (isinstance(first, str) and re.fullmatch(_MADE_UP, first))}
    if len(named) > 1 or not firsts:
        return None, "the whole input"
    first = named.pop() if named else firsts[0]
    if isinstance(first, str):
        return first, "one row"
    if first not in firsts or len(set(firsts)) > 1:
        return None, "the whole input"
    return first, "one row" if first == 1 else f"one row of the fixed batch of {first}"


def _layers(
    model: onnx.ModelProto, shapes: Mapping[str, Shape], constants: Mapping[str, NDArray[Any]], batch: int | str | None
) -> tuple[Layer, ...]:
    rows = batch if isinstance(batch, int) else 1
    shown = infer_shapes(model, one_row=False)
    names = {size for value in _real_inputs(model) for size in shown.get(value.name, ()) if isinstance(size, str)}
    used: set[str] = set()
    layers = []
    steps = _quantization_operands(model)
    folded = {n.output[0]: n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in constants}
    for node in model.graph.node:
        if node.op_type == "Constant" or (node.op_type == "DequantizeLinear" and node.input[0] in constants):
            continue
        parameters = 0
        for name in node.input:
            stored = folded[name].input[0] if name in folded else name
            if stored in constants and stored not in used and stored not in steps:
                used.add(stored)
                parameters += _parameters(node, constants[stored], quantized=name in folded)
        work = node_work(node, shapes)
        count = None if work.count is None or work.count % rows else work.count // rows
        output = node.output[0] if node.output else ""
        shape = _for_any_batch(shown.get(output), shapes.get(output), batch, names)
        layers.append(Layer(node.name or output, _title(node), shape, parameters, count, work.per_position))
    return tuple(layers)


def _for_any_batch(shape: Shape | None, row: Shape | None, batch: int | str | None, names: set[Any]) -> Shape | None:
    """A shape with the batch as the file calls it; other names than those of inputs were made up by inference."""
    if shape is not None:
        shape = tuple(size if isinstance(size, int) or size in names else None for size in shape)
    # What only one row tells (a Reshape to -1 rows): the 1 in front is the batch.
    unsure = shape is None or (len(shape) > 0 and shape[0] is None)
    if unsure and isinstance(batch, str) and row and row[0] == 1 and (shape is None or len(shape) == len(row)):
        return (batch or None, *row[1:])
    return shape


def _quantization_operands(model: onnx.ModelProto) -> set[str]:
    """Names of scales and zero points, which are no parameters."""
    found: set[str] = set()
    places = {
        "QuantizeLinear": (1, 2), "DequantizeLinear": (1, 2), "QLinearConv": (1, 2, 4, 5, 6, 7),
        "QLinearMatMul": (1, 2, 4, 5, 6, 7), "QGemm": (1, 2, 4, 5, 7, 8), "MatMulInteger": (2, 3),
        "ConvInteger": (2, 3), "MatMulNBits": (2, 3), "DynamicQuantizeMatMul": (2, 3),
        "MatMulIntegerToFloat": (2, 3, 4, 5), "QLinearAdd": (1, 2, 4, 5, 6, 7), "QLinearMul": (1, 2, 4, 5, 6, 7),
        "QLinearGlobalAveragePool": (1, 2, 3, 4), "QLinearSigmoid": (1, 2, 3, 4), "QLinearLeakyRelu": (1, 2, 3, 4),
        "QLinearSoftmax": (1, 2, 3, 4), "QLinearConcat": (0, 1),
    }  # fmt: skip
    for node in _every_node(model.graph):
        found.update(node.input[at] for at in places.get(node.op_type, ()) if at < len(node.input))
    # The dynamic quantizer of the runtime keeps the scale of integer weights under a name that it makes of theirs.
    for node in _every_node(model.graph):
        if node.op_type in ("MatMulInteger", "ConvInteger") and len(node.input) > 1:
            found.add(f"{node.input[1].removesuffix('_quantized')}_scale")
    return found


def _parameters(node: onnx.NodeProto, array: NDArray[Any], *, quantized: bool) -> int:
    if wants_packed(node):
        return int(attribute(node, "K", 0)) * int(attribute(node, "N", 0))
    # Whole numbers are shapes, axes and indices; a lone number is a setting, such as a factor of preprocessing.
    integer = array.dtype.kind in "iub" and array.dtype.itemsize > 1
    counts = array.ndim > 0 and (quantized or node.op_type in INTEGER or not integer) and array.dtype != np.bool_
    return int(array.size) if counts else 0


def _constants(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    from onnx import numpy_helper

    found = {}
    for tensor in model.graph.initializer:
        found[tensor.name] = numpy_helper.to_array(tensor)
    for node in model.graph.node:
        if node.op_type == "Constant" and (tensor := attribute(node, "value", None)) is not None:
            found[node.output[0]] = numpy_helper.to_array(tensor)
    return found


def _stored(onnx: Any, model: onnx.ModelProto) -> dict[str, Stored]:
    found: dict[str, Stored] = {}
    for graph in _every_graph(model.graph):
        tensors = [*graph.initializer]
        for node in graph.node:
            tensors += [a.t for a in node.attribute if a.HasField("t")]
        for tensor in tensors:
            dtype, numbers = _dtype(onnx, tensor.data_type), math.prod(tensor.dims)
            earlier = found.get(dtype, Stored(0, 0))
            found[dtype] = Stored(earlier.numbers + numbers, earlier.bytes + _bytes(onnx, tensor, numbers))
    return dict(sorted(found.items()))


def _bytes(onnx: Any, tensor: onnx.TensorProto, numbers: int) -> int:
    if tensor.raw_data:
        return len(tensor.raw_data)
    if tensor.data_type == onnx.TensorProto.STRING:
        return sum(map(len, tensor.string_data))
    return numbers * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def _title(node: onnx.NodeProto) -> str:
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def _every_graph(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for each in node.attribute:
            for below in (*([each.g] if each.HasField("g") else []), *each.graphs):
                yield from _every_graph(below)


def _every_node(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for each in _every_graph(graph):
        yield from each.node
