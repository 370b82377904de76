"""Names of an exported graph: tensors and nodes are called after the Keras layers that they come from."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import defs, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from toolkit.keras_model.source import SourceModel

__all__ = ["layer_of", "name_like_keras", "path_of"]

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_RECURRENT = ("GRU", "LSTM", "RNN")
_CALL = "StatefulPartitionedCall"  # what a SavedModel's functions are called by
_NEAR = 20  # nodes that are looked at for a layer's name


def path_of(name: str, layers: Sequence[str]) -> tuple[str, str]:
    """The Keras layer in a converter's name for a tensor, and the rest of the name.

    TensorFlow numbers the scopes of layers (``functional_1/dense_1_2/MatMul:0`` for the layer ``dense_1``), Keras puts
    the model's own name in front, and the converter adds counters.

    Returns:
        The layer as OUTER/INNER, "" where there is none, and what stands behind it.
    """
    parts = re.sub(r"(__\d+)*(:\d+)?$", "", name).split("/")
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

    A weight's tensor gets the weight's own path, such as ``hidden_1/kernel``; any other constant the name of the first
    that takes it and what it is to that (the converter keeps one of those that are equal, now this, now that);
    everything else the layer's name and the operation's.
    """
    graph = model.graph
    names = _Names(graph, source)
    constants = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in _WEIGHTED and node.input[1] in constants:
            names.call_weights(node, ("", "kernel", "bias"), constants, names.layer(node.input[1], node))
        elif node.op_type in _RECURRENT:
            names.call_weights(node, ("", "W", "R", "B"), constants, names.layer_around(node))
    for tensor in graph.initializer:
        if own := names.own.get(_values(numpy_helper.to_array(tensor))):
            names.call(tensor.name, own)
    graphs = list(_all_graphs(graph))
    nodes = [node for each in graphs for node in each.node]
    for name in (*(value.name for each in graphs for value in each.input), *(out for n in nodes for out in n.output)):
        names.call(name, names.plain(name))
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    for node in nodes:
        for name, role in zip(node.input, _roles(node, opset), strict=False):
            names.call(name, f"{names.given[node.output[0]]}/{role}")
    for each in graphs:
        _rename(each, names.given)
    _order_constants(graph)
    graph.name = source.name


def _order_constants(graph: onnx.GraphProto) -> None:
    """Constants as they are needed; the converter's order is another each time."""
    uses = [name for node in graph.node for name in node.input]
    place = {name: at for at, name in reversed(list(enumerate(uses)))}
    ordered = sorted(graph.initializer, key=lambda tensor: (place.get(tensor.name, len(uses)), tensor.name))
    copies = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in ordered]
    del graph.initializer[:]
    graph.initializer.extend(copies)


def _all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph, and those of its branches and loops."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _all_graphs(inner)


def _roles(node: onnx.NodeProto, opset: int) -> list[str]:
    """What the inputs of an operator are called, such as "axes"."""
    found = [given.name.lower() for given in defs.get_schema(node.op_type, opset).inputs]
    return found + found[-1:] * (len(node.input) - len(found))  # of Concat, say, all are the last


def _rename(graph: onnx.GraphProto, given: Mapping[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = given.get(value.name, value.name)
    for node in graph.node:
        for each in (node.input, node.output):
            each[:] = [given.get(name, name) for name in each]
        node.name = node.output[0]


class _Names:
    """Names that were given out, each once; inputs and outputs keep theirs."""

    def __init__(self, graph: onnx.GraphProto, source: SourceModel) -> None:
        self._layers = source.layers
        self.own = _unique_weights(source.weights)
        self._scopes = _scopes(graph, self.own, source.layers)
        self.given = {value.name: value.name for value in (*graph.input, *graph.output)}
        self._taken = set(self.given)
        self._makers = {name: node for node in graph.node for name in node.output}
        self._users: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._users.setdefault(name, []).append(node)

    def call(self, name: str, wish: str) -> None:
        """Give a tensor a name, unless it has one, or is none."""
        if not name or name in self.given:
            return
        number, found = 1, wish
        while found in self._taken:
            number += 1
            found = f"{wish}_{number}"
        self._taken.add(found)
        self.given[name] = found

    def call_weights(self, node: onnx.NodeProto, what: Sequence[str], constants: set[str], layer: str) -> None:
        """Name a node's constants after its layer; an empty word stands for what is no weight."""
        for name, word in zip(node.input, what, strict=False):
            if word and name in constants:
                self.call(name, f"{layer}/{word}")

    def plain(self, name: str) -> str:
        """A converter's name without its numbers."""
        layer, rest = path_of(name, self._layers)
        rest = "/".join(part for part in rest.split("/") if not part.startswith(_CALL))
        return f"{self._scopes.get(_scope(name), layer)}/{rest}".strip("/") or name

    def layer(self, weight: str, node: onnx.NodeProto) -> str:
        """The Keras layer of a weight."""
        found = self._scopes.get(_scope(weight)) or layer_of(weight, self._layers)
        named = (*node.output, *node.input[2:])  # the converter may call a layer's bias after it, and nothing else
        found = found or next(filter(None, (layer_of(name, self._layers) for name in named)), "")
        if not found:  # a SavedModel has no layers, but scopes that were called after them
            read = _scope(weight) != weight.partition(":")[0]
            found = self.plain(_scope(weight)) if read else self.plain(node.output[0]).rpartition("/")[0]
        return found or node.op_type.lower()

    def layer_around(self, node: onnx.NodeProto) -> str:
        """The Keras layer of a node that bears no name of it: that of what takes its outputs, or gives its inputs."""
        seen: set[int] = set()
        waiting = [node]
        while waiting and len(seen) < _NEAR:
            each = waiting.pop(0)
            if id(each) in seen:
                continue
            seen.add(id(each))
            for name in (*each.output, *each.input):
                if found := layer_of(name, self._layers):
                    return found
            waiting += [user for name in each.output for user in self._users.get(name, [])]
            waiting += [self._makers[name] for name in each.input if name in self._makers]
        return node.op_type.lower()


def _scope(name: str) -> str:
    """The scope that a layer's kernel is read in: ``functional_1/dense_1`` of .../dense_1/Cast/ReadVariableOp:0."""
    return re.split(r"/(?:Cast/)?(?:\w+/)?ReadVariableOp", name, maxsplit=1)[0]


def _scopes(graph: onnx.GraphProto, own: Mapping[tuple[int, str], str], layers: Sequence[str]) -> dict[str, str]:
    """The layer of each scope in which a weight is read, told by the weight's values."""
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
