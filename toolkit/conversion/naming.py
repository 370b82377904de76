"""Names of an exported graph: tensors and nodes are called after the Keras layers that they come from."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from onnx import numpy_helper

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx

    from toolkit.keras_model.source import SourceModel

__all__ = ["layer_of", "name_like_keras", "path_of"]

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def path_of(name: str, layers: Sequence[str]) -> tuple[str, str]:
    """The Keras layer in a converter's name for a tensor, and the rest of the name.

    TensorFlow numbers the scopes of layers (``functional_1/dense_1_2/MatMul:0`` for the layer ``dense_1``), Keras puts
    the model's own name in front, and the converter adds counters.

    Returns:
        The layer as OUTER/INNER, "" where there is none, and what stands behind it.
    """
    parts = re.sub(r"(__\d+)?(:\d+)?$", "", name).split("/")
    known = set(layers)
    beginnings = {layer[:at] for layer in layers for at in range(len(layer) + 1) if layer[at : at + 1] in ("", "/")}
    for start in range(len(parts)):
        # Nested layers are known by their whole path; a scope may be numbered at each level.
        paths, layer, rest = [""], "", start
        for end in range(start, len(parts)):
            paths = [f"{path}/{bare}".lstrip("/") for path in paths for bare in _unnumbered(parts[end])]
            paths = [path for path in paths if path in beginnings]
            if found := [path for path in paths if path in known]:
                layer, rest = found[0], end + 1
        if layer:
            return layer, "/".join(parts[rest:])
    return "", "/".join(parts)


def _unnumbered(part: str) -> list[str]:
    """What a scope may stand for, most likely first: without its last number, as it is, without more of them."""
    found = [part]
    while match := re.fullmatch(r"(.+)_\d+", found[-1]):
        found.append(match[1])
    return [*found[1:2], found[0], *found[2:]]


def layer_of(name: str, layers: Sequence[str]) -> str:
    """The Keras layer in a converter's name for a tensor or node; "" where there is none."""
    return path_of(name, layers)[0]


def name_like_keras(model: onnx.ModelProto, source: SourceModel) -> None:
    """Name tensors and nodes after the Keras layers and weights that they come from, without counters.

    A weight's tensor gets the weight's own path, such as ``hidden_1/kernel``; everything else the layer's name and the
    operation's.
    """
    graph = model.graph
    kept = {value.name for value in (*graph.input, *graph.output)}
    taken = set(kept)
    renamed: dict[str, str] = {}
    layers = source.layers
    scopes = _scopes(graph, source.weights, layers)

    def rename(name: str, wish: str) -> None:
        number, found = 1, wish
        while found in taken:
            number += 1
            found = f"{wish}_{number}"
        taken.add(found)
        renamed[name] = found

    def plain(name: str) -> str:
        layer, rest = path_of(name, layers)
        layer = scopes.get(_scope(name), layer)
        return f"{layer}/{rest}".strip("/") or name

    constants = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type not in _WEIGHTED or node.input[1] not in constants or node.input[1] in renamed:
            continue
        layer = plain(node.input[1]).rpartition("/")[0]
        layer = scopes.get(_scope(node.input[1])) or layer_of(node.input[1], layers) or layer_of(node.output[0], layers)
        layer = layer or plain(node.output[0]).rpartition("/")[0] or node.op_type.lower()
        rename(node.input[1], f"{layer}/kernel")
        if len(node.input) > 2 and node.input[2] in constants and node.input[2] not in renamed:
            rename(node.input[2], f"{layer}/bias")
    own = _unique_weights(source.weights)
    for tensor in graph.initializer:
        if tensor.name not in renamed:
            rename(tensor.name, own.get(_values(numpy_helper.to_array(tensor))) or plain(tensor.name))
    for node in graph.node:
        for output in node.output:
            if output and output not in kept:
                rename(output, plain(output))
    for tensor in graph.initializer:
        tensor.name = renamed[tensor.name]
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
        node.name = node.output[0]
        _rename_inner(node, renamed)
    graph.name = source.name


def _rename_inner(node: onnx.NodeProto, renamed: Mapping[str, str]) -> None:
    """Branches and loops use tensors of the graph around them."""
    for attribute in node.attribute:
        for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            own = {value.name for value in (*inner.input, *inner.initializer)}
            own |= {name for each in inner.node for name in each.output}
            for each in inner.node:
                each.input[:] = [name if name in own else renamed.get(name, name) for name in each.input]
                _rename_inner(each, {old: new for old, new in renamed.items() if old not in own})
            for value in inner.output:
                value.name = value.name if value.name in own else renamed.get(value.name, value.name)


def _scope(name: str) -> str:
    """The scope that a layer's kernel is read in: ``functional_1/dense_1`` of .../dense_1/Cast/ReadVariableOp:0."""
    return re.split(r"/(?:Cast/)?(?:\w+/)?ReadVariableOp", name, maxsplit=1)[0]


def _scopes(graph: onnx.GraphProto, weights: Mapping[str, object], layers: Sequence[str]) -> dict[str, str]:
    """The layer of each scope in which a weight is read, told by the weight's values."""
    own = _unique_weights(weights)
    known = set(layers)
    found = {}
    for tensor in graph.initializer:
        path = own.get(_values(numpy_helper.to_array(tensor)))
        if path is not None and "ReadVariableOp" in tensor.name and path.rpartition("/")[0] in known:
            found[_scope(tensor.name)] = path.rpartition("/")[0]
    return found


def _unique_weights(weights: Mapping[str, object]) -> dict[tuple[int, str], str]:
    """Weights by their values, where no other weight has the same."""
    keys = {path: _values(np.asarray(weight)) for path, weight in weights.items()}
    counts = Counter(keys.values())
    return {key: path for path, key in keys.items() if counts[key] == 1}


def _values(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> tuple[int, str]:
    """What identifies an array whatever the order of its axes: a kernel is stored in another order in ONNX."""
    ordered = np.sort(np.ascontiguousarray(array), axis=None)
    return ordered.size, hashlib.sha256(ordered.tobytes()).hexdigest()
