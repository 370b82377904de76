"""Every layer of a Keras model and every tensor of an ONNX graph over the same rows, for `verification.divergence`."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort

from toolkit.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from toolkit.keras_model import SourceModel

__all__ = ["GraphTensors", "LayerCall", "all_layers", "all_tensors"]


@dataclass(frozen=True, eq=False)
class LayerCall:
    """One call of a layer.

    Attributes:
        name: OUTER/INNER in nested models.
        kind: its class.
        linear: it has weights or constants, and no activation behind them.
        value: its output.
        sources: the calls, by index, whose outputs it took.
    """

    name: str
    kind: str
    linear: bool
    value: NDArray[Any]
    sources: tuple[int, ...]


def all_layers(source: SourceModel, rows: Mapping[str, NDArray[Any]]) -> list[LayerCall]:
    """What each layer of a Keras model gives, in the order in which they run; a shared layer is there for each call.

    The model is run as it is, and its layers are looked over the shoulder, so it may be functional, sequential, nested
    or of a class of one's own.

    Args:
        source: the model.
        rows: by input name, in Keras' own dtypes; as many as the batch size, if that is fixed.

    Raises:
        ModelError: it is no Keras model (a SavedModel has no layers), or fails.
    """
    if source.keras is None:
        raise ModelError("a SavedModel has no layers to look into")
    import tensorflow as tf

    calls: list[LayerCall] = []
    made: dict[int, int] = {}
    alive: list[Any] = []  # or the next tensor may get an earlier one's id

    def watch(layer: Any, name: str, given: Any, answer: Any) -> None:
        tensors = [each for each in tf.nest.flatten(answer) if tf.is_tensor(each)]
        sources = tuple(dict.fromkeys(made[id(each)] for each in tf.nest.flatten(given) if id(each) in made))
        alive.append((given, answer))
        if len(tensors) == 1 and id(tensors[0]) not in made:  # Dropout hands on what it was given
            calls.append(LayerCall(name, type(layer).__name__, _is_linear(layer), np.asarray(tensors[0]), sources))
            made[id(tensors[0])] = len(calls) - 1

    with _watched(source.keras, "", watch):
        try:
            source.call({name: tf.constant(array) for name, array in rows.items()})
        except Exception as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ModelError(f"the model '{source.name}' does not run layer by layer: {reason}") from error
    return calls


def _is_linear(layer: Any) -> bool:
    if type(layer).__name__ in ("BatchNormalization", "Normalization", "Rescaling"):
        return True
    return getattr(getattr(layer, "activation", None), "__name__", "") == "linear"


@contextmanager
def _watched(model: Any, outer: str, watch: Any) -> Iterator[None]:
    """Have every layer and operation tell what it is called with and what it gives."""
    plain = list(_operations(model, outer))
    for layer, name in plain:
        call = layer.call

        def told(*args: Any, _layer: Any = layer, _name: str = name, _call: Any = call, **kwargs: Any) -> Any:
            answer = _call(*args, **kwargs)
            watch(_layer, _name, (args, kwargs), answer)
            return answer

        object.__setattr__(layer, "call", told)
    try:
        yield
    finally:
        for layer, _ in plain:
            object.__delattr__(layer, "call")


def _operations(model: Any, outer: str) -> Iterator[tuple[Any, str]]:
    """Everything that computes, models taken apart, each once."""
    seen: set[int] = set()
    for layer in getattr(model, "operations", model.layers):
        if type(layer).__name__ == "InputLayer" or id(layer) in seen:
            continue
        seen.add(id(layer))
        if hasattr(layer, "layers"):
            yield from _operations(layer, f"{outer}{layer.name}/")
        else:
            yield layer, f"{outer}{layer.name}"


@dataclass(frozen=True, eq=False)
class GraphTensors:
    """What an ONNX graph computed.

    Attributes:
        values: every tensor of numbers by its name, in the graph's order.
        names: the names that each of them goes by: its own, and those of the constants that it was made with.
        outputs: which of them are the graph's outputs.
    """

    values: dict[str, NDArray[Any]]
    names: dict[str, tuple[str, ...]]
    outputs: tuple[str, ...]


def all_tensors(data: bytes, rows: Mapping[str, NDArray[Any]]) -> GraphTensors:
    """Every tensor that an ONNX graph computes from some rows.

    Raises:
        ModelError: the runtime does not run it so.
    """
    try:
        model = onnx.load_from_string(data)
        outputs = [value.name for value in model.graph.output]
        inner = [name for node in model.graph.node for name in node.output if name and name not in outputs]
        del model.graph.output[:]
        # Without a type the runtime infers it.
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in (*inner, *outputs))
        options = ort.SessionOptions()
        # Fused operators have no inner tensors.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        found = session.run(None, dict(rows))
    except Exception as error:  # the runtime's errors share no base of their own, nor do those of a damaged file
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"the runtime does not open the graph layer by layer: {reason}") from error
    values = {
        name: array
        for name, array in zip((*inner, *outputs), found, strict=True)
        if isinstance(array, np.ndarray) and array.dtype.kind in "fiub"
    }
    constants = {tensor.name for tensor in model.graph.initializer}
    names = {
        output: (output, *(name for name in node.input if name in constants))
        for node in model.graph.node
        for output in node.output
        if output in values
    }
    return GraphTensors(values, names, tuple(outputs))
