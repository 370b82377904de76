"""What a model is to the rest of the toolkit, whoever wrote it: named inputs, named outputs, and a function between."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["SourceModel", "TensorSpec", "from_keras", "reason_of"]


@dataclass(frozen=True)
class TensorSpec:
    """A tensor of a model.

    Attributes:
        name: unique among the inputs, or among the outputs.
        shape: with the batch; None for a free dimension.
        dtype: as numpy calls it, such as "float32"; "string" for text.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class SourceModel:
    """A model to convert.

    Attributes:
        kind: "keras" or "saved_model".
        name: the model's own name.
        inputs: in the model's order.
        outputs: in the model's order.
        call: from a dict of TensorFlow tensors by input name to a dict of tensors by output name, as at inference; made
            to be called inside a ``tf.function``.
        keras: the Keras model, not compiled; None for a SavedModel.
        weights: the variables by LAYER/NAME, nested models in front.
        layers: names of the layers from input to output, those of nested models as OUTER/INNER; none for a SavedModel.
        written_by: "Keras 2.4.0" and the like, as far as the file says.
        notes: what a person should know about how it was opened.
    """

    kind: str
    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    call: Callable[[Mapping[str, Any]], dict[str, Any]] = field(repr=False)
    keras: Any = field(repr=False, default=None)
    weights: Mapping[str, Any] = field(repr=False, default_factory=dict)
    layers: tuple[str, ...] = ()
    written_by: str = ""
    notes: tuple[str, ...] = ()

    @cached_property
    def graph(self) -> Any:
        """`call` as one ``tf.function`` of a fixed signature: traced once, whatever is given to it."""
        import tensorflow as tf

        names = [spec.name for spec in self.inputs]
        signature = [tf.TensorSpec(spec.shape, spec.dtype, name=f"input_{at}") for at, spec in enumerate(self.inputs)]

        @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]  # tensorflow is untyped
        def run(*given: Any) -> dict[str, Any]:
            return self.call(dict(zip(names, given, strict=True)))

        return run

    @property
    def batch(self) -> int | None:
        """The fixed batch size that the inputs ask for, or None."""
        return next((spec.shape[0] for spec in self.inputs if spec.shape and spec.shape[0] is not None), None)

    def answers(self, inputs: Mapping[str, NDArray[Any]], batch_size: int = 1000) -> dict[str, NDArray[Any]]:
        """What the model itself says: the reference that exported files are held against.

        Args:
            inputs: by name, each with the same number of rows, in the model's own dtypes.
            batch_size: rows a step; a model of fixed batch size gets that, its last batch filled up with the last row.

        Returns:
            By output name, one row for each given.

        Raises:
            ModelError: the model itself fails on them.
        """
        import tensorflow as tf

        count = len(next(iter(inputs.values())))
        step = self.batch or batch_size
        parts: dict[str, list[NDArray[Any]]] = {spec.name: [] for spec in self.outputs}
        run = self.graph
        for start in range(0, count, step):
            rows = np.minimum(np.arange(start, start + step if self.batch else min(start + step, count)), count - 1)
            try:
                given = run(*(tf.constant(inputs[spec.name][rows], spec.dtype) for spec in self.inputs))
            except (ValueError, TypeError, tf.errors.OpError) as error:
                raise ModelError(
                    f"the model '{self.name}' itself fails on these rows: {reason_of(error)}; give rows such as it was "
                    "trained on"
                ) from error
            for name, tensor in given.items():
                parts[name].append(np.asarray(tensor)[: count - start])
        return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def reason_of(error: Exception) -> str:
    """What TensorFlow says, without the stack of calls that it puts in front and the node's name behind."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).partition("Arguments received by")[0]  # Keras writes in colours
    lines = [line.strip() for line in text.splitlines()]
    calls = [at for at, line in enumerate(lines) if line.startswith('File "')]
    # What fails while a function is traced has the line of source behind each call.
    after = calls[-1] + 1 + str(error).startswith("in user code:") if calls else 0
    told = [line for line in lines[after:] if line and not line.startswith("[[")] or lines
    return " ".join(" ".join(told).split())[:200] or type(error).__name__


def from_keras(model: Any, written_by: str = "", shown: object = "the model") -> SourceModel:
    """A Keras model object as a source.

    Args:
        model: built; functional, sequential, or one's own class that was called or built with a shape.
        written_by: as far as it is known.
        shown: how errors call it.

    Raises:
        ModelError: it is no Keras model, its inputs are not known, or it has a dimension of size zero.
    """
    import keras

    if not isinstance(model, keras.Model):
        raise ModelError(
            f"{shown} is of type {type(model).__module__}.{type(model).__name__}, expected a Keras 3 model, or the "
            "path of a file"
        )
    structure = _input_of(model, shown)
    tensors = keras.tree.flatten(structure)
    inputs = _specs([_input_name(tensor) for tensor in tensors], tensors)
    names = [spec.name for spec in inputs]

    def call(given: Mapping[str, Any]) -> dict[str, Any]:
        packed = keras.tree.pack_sequence_as(structure, [given[name] for name in names])
        with _constants_in_place(scaling), _stateless(stateful):
            answer = model(packed, training=False)
        return dict(zip(output_names, keras.tree.flatten(answer), strict=True))

    scaling = [layer for layer in _all_layers(model) if isinstance(layer, keras.layers.Normalization)]
    stateful = [layer for layer in _all_layers(model) if isinstance(layer, keras.layers.RNN) and layer.stateful]

    answered = keras.tree.flatten(
        model.outputs if getattr(model, "outputs", None) else model.compute_output_spec(structure)
    )
    wished = getattr(model, "output_names", None) or ["output"] * len(answered)
    outputs = _specs(wished, answered)
    output_names = [spec.name for spec in outputs]
    for spec in (*inputs, *outputs):
        if 0 in spec.shape:
            raise ModelError(
                f"{shown}: '{spec.name}' has the shape {spec.shape}, expected no dimension of size zero; build the "
                "model with its real sizes"
            )
    notes = [
        f"layer '{layer.name}' keeps its state between calls in Keras; it starts anew in each here"
        for layer in stateful
    ]
    return SourceModel(
        kind="keras",
        name=model.name,
        inputs=inputs,
        outputs=outputs,
        call=call,
        keras=model,
        weights=_weights_by_path(model),
        layers=tuple(_layer_names(model)),
        written_by=written_by or f"Keras {keras.__version__}",
        notes=tuple(notes),
    )


@contextmanager
def _constants_in_place(scaling: Sequence[Any]) -> Iterator[None]:
    """Let Normalization layers compute with plain arrays: their tensors would be inputs of a graph, not part of it."""
    before = [(layer, layer.mean, layer.variance) for layer in scaling]
    try:
        for layer, mean, variance in before:
            if mean is not None:
                layer.mean, layer.variance = np.asarray(mean), np.asarray(variance)
        yield
    finally:
        for layer, mean, variance in before:
            layer.mean, layer.variance = mean, variance


@contextmanager
def _stateless(layers: Sequence[Any]) -> Iterator[None]:
    """Let recurrent layers start anew in each call, as a graph without variables must."""
    try:
        for layer in layers:
            layer.stateful = False
        yield
    finally:
        for layer in layers:
            layer.stateful = True


def _all_layers(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _all_layers(layer)


def _input_of(model: Any, shown: object) -> Any:
    """What to call the model with: a tensor, or a list or dict of them.

    A model of one's own class only knows the shapes that it was built with.
    """
    import keras

    if getattr(model, "inputs", None):
        structure = getattr(model, "input", None)  # a Sequential model has inputs, and no input
        return structure if structure is not None else model.inputs[0]
    shapes = (model.get_build_config() or {}).get("input_shape") if model.built else None
    if not isinstance(shapes, list | tuple) or not all(size is None or isinstance(size, int) for size in shapes):
        raise ModelError(
            f"{shown}: the class {type(model).__name__} does not say what inputs it takes; call it on keras.Input "
            "tensors, and save keras.Model(inputs, outputs)"
        )
    return keras.KerasTensor((None, *shapes[1:]), dtype=model.input_dtype, name="input")


def _input_name(tensor: Any) -> str:
    """The name of the layer behind an input, as a file keeps it: the tensor of one without a name has a counter's."""
    history = getattr(tensor, "_keras_history", None)
    return str(tensor.name if history is None else history.operation.name)


def _specs(names: list[str], tensors: list[Any]) -> tuple[TensorSpec, ...]:
    taken: list[str] = []
    for name in names:
        number, unique = 1, name
        while unique in taken:
            number += 1
            unique = f"{name}_{number}"
        taken.append(unique)
    return tuple(
        TensorSpec(name, tuple(tensor.shape), str(tensor.dtype)) for name, tensor in zip(taken, tensors, strict=True)
    )


def _weights_by_path(model: Any) -> dict[str, Any]:
    """By the layer's place in the model: Keras' own paths are the same for layers of one name in two nested models."""
    found: dict[str, Any] = {}
    seen: set[int] = set()

    def add(wished: str, weight: Any) -> None:
        if id(weight) in seen:
            return
        seen.add(id(weight))
        number, unique = 1, wished
        while unique in found:
            number += 1
            unique = f"{wished}_{number}"
        found[unique] = weight

    def walk(inner: Any, outer: str) -> None:
        for layer in inner.layers:
            if hasattr(layer, "layers"):
                walk(layer, f"{outer}{layer.name}/")
            for weight in getattr(layer, "weights", ()):
                add(f"{outer}{layer.name}/{weight.path.rpartition(f'{layer.name}/')[2]}", weight)

    walk(model, "")
    for weight in model.weights:
        add(weight.path, weight)
    return found


def _layer_names(model: Any, outer: str = "") -> list[str]:
    names: list[str] = []
    for layer in model.layers:
        names.append(outer + layer.name)
        if hasattr(layer, "layers"):
            names += _layer_names(layer, f"{outer}{layer.name}/")
    return names
