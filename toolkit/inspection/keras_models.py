"""Keras models: layers in the order in which they run, with the shapes of this very model, nested ones included."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.inspection.facts import KerasFacts, Layer, Stored, Tensor, total_macs
from toolkit.inspection.graph import DENSE, FUNCTION, INPUT, OTHER, PASSING, Graph, Node
from toolkit.inspection.keras_macs import NOTHING, UNKNOWN, Work, layer_work

if TYPE_CHECKING:
    from collections.abc import Mapping

    from toolkit.keras_model import SourceModel

__all__ = ["inspect_keras", "stored_by_dtype", "tensors_of"]

_FUNCTIONS = {"Activation", "ELU", "LeakyReLU", "PReLU", "ReLU", "Softmax"}
_PASSING = {"ActivityRegularization", "AlphaDropout", "BatchNormalization", "Dropout", "Flatten", "GaussianDropout"}
_PASSING |= {"GaussianNoise", "Identity", "Normalization", "Rescaling", "Reshape"}


class _Walk:
    """One run through a model with shapes instead of numbers."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, str, list[Any], list[Any]]] = []  # layer, name, shapes in, shapes out
        self.nodes: list[Node] = []
        self.edges: list[tuple[int, int]] = []
        self._made: dict[int, int] = {}
        self._alive: list[Any] = []  # ids are only good as long as their tensors live

    def start(self, name: str, tensor: Any) -> Any:
        """An input of the whole model."""
        return self._fresh(tensor, self._node(Node(name, "Input", tuple(tensor.shape)[1:], role=INPUT)))

    def through(self, model: Any, inputs: Any, frame: tuple[str, ...]) -> Any:
        """A functional or sequential model over tensors."""
        function = getattr(model, "_functional", None) or model
        if not hasattr(function, "_run_through_graph"):
            raise NotImplementedError(f"{type(model).__name__} has no graph")
        run = function._run_through_graph  # noqa: SLF001 - the one walk that gives each call its arguments
        return run(inputs, operation_fn=lambda layer: _Call(self, layer, frame))

    def call(self, layer: Any, frame: tuple[str, ...], args: Any, kwargs: Any) -> Any:
        import keras

        if isinstance(layer, keras.Model) and (getattr(layer, "_functional", None) or isinstance(layer, _functional())):
            return self.through(layer, args[0], (*frame, layer.name))
        given = [t for t in keras.tree.flatten((args, kwargs)) if isinstance(t, keras.KerasTensor)]
        answer = layer.compute_output_spec(*args, **kwargs)
        shapes_in = [tuple(t.shape) for t in given]
        flat = [t for t in keras.tree.flatten(answer) if isinstance(t, keras.KerasTensor)]
        shapes_out = [tuple(t.shape) for t in flat]
        self.calls.append((layer, "/".join((*frame, layer.name)), shapes_in, shapes_out))
        index = self._node(_node(layer, frame, shapes_out))
        self.edges += [(self._made[id(t)], index) for t in given if id(t) in self._made]
        # A layer may hand back the very tensor that it was given; a copy tells the two apart.
        return keras.tree.map_structure(
            lambda t: self._fresh(t, index) if isinstance(t, keras.KerasTensor) else t, answer
        )

    def _node(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    def _fresh(self, tensor: Any, index: int) -> Any:
        import keras

        copy = keras.KerasTensor(tensor.shape, dtype=tensor.dtype)
        self._alive.append(copy)
        self._made[id(copy)] = index
        return copy


class _Call:
    def __init__(self, walk: _Walk, layer: Any, frame: tuple[str, ...]) -> None:
        self._walk, self._layer, self._frame = walk, layer, frame

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._walk.call(self._layer, self._frame, args, kwargs)


def _functional() -> Any:
    import keras

    return keras.src.models.functional.Functional


def inspect_keras(source: SourceModel, file: str, file_bytes: int) -> KerasFacts:
    """Everything about an opened Keras model.

    Args:
        source: of kind "keras".
        file: how it is called.
        file_bytes: size of the file.
    """
    notes = list(source.notes)
    walk = _Walk()
    model = source.keras
    try:
        import keras

        tensors = keras.tree.flatten(getattr(model, "inputs", None) or [])
        started = [walk.start(spec.name, t) for spec, t in zip(source.inputs, tensors, strict=True)]
        walk.through(model, started, ())
    except Exception as error:  # noqa: BLE001 - whatever a layer raises: a class of one's own, or a layer that only runs on numbers
        reason = " ".join(str(error).split())[:160]
        notes.append(f"the order, shapes and multiply-adds of its layers are not known ({reason})")
        layers = _layers_only(model)
        graph = _plain_graph(Path(file).name, source, layers)
    else:
        layers = _layers(walk)
        graph = Graph(Path(file).name, tuple(walk.nodes), tuple(dict.fromkeys(walk.edges)))
    weights = {id(weight): weight for weight in model.weights}.values()
    trainable = {id(weight) for weight in model.trainable_weights}
    return KerasFacts(
        file=file,
        name=source.name,
        written_by=source.written_by,
        inputs=tensors_of(source.inputs),
        outputs=tensors_of(source.outputs),
        layers=layers,
        parameters=sum(_size(weight) for weight in weights),
        trainable=sum(_size(weight) for weight in weights if id(weight) in trainable),
        multiply_adds=total_macs(layers),
        weights=stored_by_dtype({str(i): weight for i, weight in enumerate(weights)}),
        file_bytes=file_bytes,
        notes=tuple(notes),
        graph=graph,
    )


def tensors_of(specs: Any) -> tuple[Tensor, ...]:
    """Specifications of `toolkit.keras_model` as facts."""
    return tuple(Tensor(spec.name, tuple(spec.shape), spec.dtype) for spec in specs)


def stored_by_dtype(weights: Mapping[str, Any]) -> dict[str, Stored]:
    """How many numbers, and bytes, of each dtype."""
    found: dict[str, Stored] = {}
    for weight in weights.values():
        dtype = weight.dtype if isinstance(weight.dtype, str) else weight.dtype.name
        so_far = found.get(dtype, Stored(0, 0))
        numbers = _size(weight)
        width = 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize if dtype != "string" else 0
        found[dtype] = Stored(so_far.numbers + numbers, so_far.bytes + numbers * width)
    return dict(sorted(found.items()))


def _layers(walk: _Walk) -> tuple[Layer, ...]:
    """One row a layer, however often it is called."""
    rows: dict[int, Layer] = {}
    counted: set[int] = set()
    for layer, name, given, answered in walk.calls:
        work = layer_work(layer, given, answered)
        earlier = rows.get(id(layer))
        if earlier is None:
            shape = answered[0] if answered else None
            rows[id(layer)] = Layer(
                name, type(layer).__name__, shape, _own(layer, counted), work.count, work.per_position
            )
            continue
        both = _add(Work(earlier.multiply_adds, earlier.per_position), work)
        rows[id(layer)] = Layer(
            earlier.name, earlier.type, earlier.output, earlier.parameters, both.count, both.per_position,
            earlier.calls + 1,
        )  # fmt: skip
    return tuple(rows.values())


def _add(one: Work, two: Work) -> Work:
    if one.count is not None and two.count is not None:
        return Work(one.count + two.count)
    if one.per_position is not None and two.per_position is not None:
        return Work(None, one.per_position + two.per_position)
    return UNKNOWN


def _layers_only(model: Any) -> tuple[Layer, ...]:
    counted: set[int] = set()
    return tuple(
        Layer(layer.name, type(layer).__name__, None, _own(layer, counted), 0 if _does_nothing(layer) else None)
        for layer in model.layers
    )


def _does_nothing(layer: Any) -> bool:
    return layer_work(layer, [], []) == NOTHING and not hasattr(layer, "layers")


def _own(layer: Any, counted: set[int]) -> int:
    """Parameters of a layer that no layer before it holds."""
    new = {id(weight): weight for weight in getattr(layer, "weights", ()) if id(weight) not in counted}
    counted.update(new)
    return sum(_size(weight) for weight in new.values())


def _size(weight: Any) -> int:
    return math.prod(weight.shape)


def _node(layer: Any, frame: tuple[str, ...], answered: list[Any]) -> Node:
    kind, role, activation = type(layer).__name__, OTHER, _activation(layer)
    ours = type(layer).__module__.startswith("keras.")
    if ours and kind == "Dense" and len(answered[0]) == 2:
        role = DENSE
    elif ours and kind in _FUNCTIONS:
        role, activation = FUNCTION, activation or kind.lower()
    elif ours and kind in _PASSING:
        role = PASSING
    parameters = sum(_size(weight) for weight in {id(w): w for w in getattr(layer, "weights", ())}.values())
    shape = answered[0][1:] if answered else None
    return Node(layer.name, kind, shape, parameters, role, activation, frame)


def _activation(layer: Any) -> str:
    function = getattr(layer, "activation", None)
    if function is None or isinstance(function, str):
        return function or ""
    name = str(getattr(function, "__name__", type(function).__name__))
    return "" if name == "linear" else name


def _plain_graph(title: str, source: SourceModel, layers: tuple[Layer, ...]) -> Graph:
    """Boxes without lines but for one box in all: nothing is drawn that is not known."""
    inputs = [Node(spec.name, "Input", spec.shape[1:], role=INPUT) for spec in source.inputs]
    whole = Node(
        source.name, type(source.keras).__name__, source.outputs[0].shape[1:], sum(x.parameters for x in layers)
    )
    return Graph(title, (*inputs, whole), tuple((i, len(inputs)) for i in range(len(inputs))))
