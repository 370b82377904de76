"""Tensors and nodes of an exported file are called after the Keras layers that they come from."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.exporting import export_model
from toolkit.conversion.naming import layer_of, path_of
from toolkit.keras_model import import_keras, open_model
from toolkit.keras_model.source import from_keras

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "layers", "layer", "rest"),
    [
        ("functional_1/dense/MatMul:0", ["dense"], "dense", "MatMul"),
        ("functional_1/dense_1/MatMul:0", ["dense"], "dense", "MatMul"),
        # TensorFlow counts the scopes of a layer: without the last number first, then as it stands.
        ("functional_1/dense_1_2/MatMul:0", ["dense", "dense_1"], "dense_1", "MatMul"),
        ("functional_1/dense_1/MatMul:0", ["dense", "dense_1"], "dense", "MatMul"),
        ("functional_1/dense_1/MatMul:0", ["dense_1"], "dense_1", "MatMul"),
        ("functional_1/dense_1_1/MatMul:0", ["dense", "dense_1"], "dense_1", "MatMul"),
        ("model/conv/BiasAdd__37:0", ["conv"], "conv", "BiasAdd"),
        ("model/conv/Const__37__38", ["conv"], "conv", "Const"),
        ("outer_1/block_1/inner_1/Relu:0", ["block", "block/inner"], "block/inner", "Relu"),
        # A layer of the outer model that has the nested one's name is another.
        ("outer_1/inner_1/Relu:0", ["inner", "block", "block/inner"], "inner", "Relu"),
        ("outer_1/block_1/add_1/add:0", ["block", "block/inner"], "block", "add_1/add"),
        ("conv/conv_1/Conv2D:0", ["conv", "conv/conv"], "conv/conv", "Conv2D"),
        ("const_fold_opt__91", ["conv"], "", "const_fold_opt"),
        ("densely/MatMul", ["dense"], "", "densely/MatMul"),
        ("StatefulPartitionedCall/serve/MatMul:0", [], "", "StatefulPartitionedCall/serve/MatMul"),
    ],
)
def test_the_layer_in_a_converters_name(name: str, layers: list[str], layer: str, rest: str) -> None:
    assert path_of(name, layers) == (layer, rest)
    assert layer_of(name, layers) == layer


def _names(graph: onnx.GraphProto) -> set[str]:
    """All of them, in branches and loops too."""
    found = {value.name for value in (*graph.initializer, *graph.input, *graph.output)}
    for node in graph.node:
        found |= {node.name, *node.input, *node.output}
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                found |= _names(inner)
    return found


def _constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def _convolutions(keras: Any) -> Any:
    x = given = keras.Input((32, 3), name="wave")
    for count in (4, 6):
        x = keras.layers.Conv1D(count, 3)(x)
        x = keras.layers.ReLU(6.0)(keras.layers.BatchNormalization()(x))
    x = keras.layers.Flatten()(x)
    return keras.Model(given, keras.layers.Dense(3)(keras.layers.Dense(5)(x)))


def _separable(keras: Any) -> Any:
    x = given = keras.Input((8, 8, 3), name="picture")
    x = keras.layers.DepthwiseConv2D(3, name="wide")(x)
    x = keras.layers.ReLU(6.0)(keras.layers.BatchNormalization()(x))
    x = keras.layers.Conv2D(4, 1, name="point")(x)
    return keras.Model(given, keras.layers.GlobalAveragePooling2D()(x))


def _nested(keras: Any) -> Any:
    """Two nested models whose layers bear the same names, one with a nested one of its own."""

    def encoder(name: str, size: int) -> Any:
        given = keras.Input((size,))
        inner = keras.Sequential([keras.layers.Input((size,)), keras.layers.Dense(4, name="dense")], name="core")
        return keras.Model(given, keras.layers.Dense(4, name="dense")(inner(given)), name=name)

    x = keras.Input((6,), name="x")
    return keras.Model(x, keras.layers.Dense(2, name="dense")(encoder("right", 4)(encoder("left", 6)(x))))


def _recurrent(keras: Any) -> Any:
    """The converter makes a loop of the first."""
    x = given = keras.Input((7, 3), name="x")
    x = keras.layers.GRU(4, name="first", return_sequences=True)(x)
    return keras.Model(given, keras.layers.Dense(2, name="head")(keras.layers.LSTM(5, name="second")(x)))


def _attention(keras: Any) -> Any:
    x = given = keras.Input((7, 8), name="x")
    x = keras.layers.Add()([x, keras.layers.MultiHeadAttention(2, 4, name="attention")(x, x)])
    return keras.Model(given, keras.layers.Dense(3, name="head")(keras.layers.LayerNormalization(name="norm")(x)))


MODELS = {
    "convolutions": _convolutions,
    "separable": _separable,
    "nested": _nested,
    "recurrent": _recurrent,
    "attention": _attention,
}


def _built(name: str) -> Any:
    """With random weights everywhere, so that each is told from the others by its values."""
    keras = import_keras()
    keras.backend.clear_session()
    model = MODELS[name](keras)
    for number, weight in enumerate(model.weights):
        weight.assign(np.random.default_rng(number).uniform(0.5, 1, weight.shape))
    return model


@pytest.mark.parametrize("name", list(MODELS))
def test_no_name_bears_a_converters_counter(name: str, tmp_path: Path) -> None:
    model = _built(name)
    export_model(model, tmp_path / "m.onnx")
    names = _names(onnx.load(tmp_path / "m.onnx").graph)
    assert not {each for each in names if re.search(r"__\d+|:\d+", each)}
    layers = from_keras(model).layers
    numbered = {each for each in names if re.match(rf"{re.escape(model.name)}_\d+/", each)}
    assert not numbered, f"TensorFlow's scopes are left beside {layers}"


@pytest.mark.parametrize("name", ["convolutions", "separable", "nested"])
def test_the_same_model_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    """Whatever was converted before it in the same process: the converter counts on.

    Of loops and attention it joins equal parts and orders others now this way, now that.
    """
    _built(name).save(tmp_path / "m.keras")
    found = []
    for _ in range(2):
        source = open_model(tmp_path / "m.keras")
        export_model(source.keras, tmp_path / "m.onnx")
        found.append((tmp_path / "m.onnx").read_bytes())
    assert found[0] == found[1]


def test_weights_are_called_by_their_place_in_keras(tmp_path: Path) -> None:
    """Of layers that bear the same name, each tensor holds the values of the layer that it names."""
    model = _built("nested")
    export_model(model, tmp_path / "m.onnx")
    constants = _constants(onnx.load(tmp_path / "m.onnx"))
    left, right = model.get_layer("left"), model.get_layer("right")
    places = {
        "dense": model.get_layer("dense"),
        "left/dense": left.get_layer("dense"),
        "left/core/dense": left.get_layer("core").get_layer("dense"),
        "right/dense": right.get_layer("dense"),
        "right/core/dense": right.get_layer("core").get_layer("dense"),
    }
    assert set(places) <= set(from_keras(model).layers)
    assert {name for name in constants if name.endswith("kernel")} == {f"{place}/kernel" for place in places}
    for place, layer in places.items():
        np.testing.assert_array_equal(constants[f"{place}/kernel"], np.asarray(layer.kernel))
        np.testing.assert_array_equal(constants[f"{place}/bias"], np.asarray(layer.bias))


def test_weights_of_the_same_values_are_told_apart_by_their_scopes(tmp_path: Path) -> None:
    """In another order, since the converter keeps one of those that are equal."""
    keras = import_keras()
    x = keras.Input((4,), name="x")
    model = keras.Model(x, keras.layers.Dense(4, name="two")(keras.layers.Dense(4, activation="tanh", name="one")(x)))
    values = np.arange(16, dtype=np.float32).reshape(4, 4) / 10
    for name, kernel in (("one", values), ("two", values[::-1])):
        model.get_layer(name).kernel.assign(kernel)
    export_model(model, tmp_path / "m.onnx")
    constants = _constants(onnx.load(tmp_path / "m.onnx"))
    np.testing.assert_array_equal(constants["one/kernel"], values)
    np.testing.assert_array_equal(constants["two/kernel"], values[::-1])


def test_other_constants_are_called_after_what_takes_them(tmp_path: Path) -> None:
    export_model(_built("convolutions"), tmp_path / "m.onnx")
    graph = onnx.load(tmp_path / "m.onnx").graph
    (clip, *_) = [node for node in graph.node if node.op_type == "Clip"]
    assert list(clip.input[1:]) == ["re_lu/Relu6/min", "re_lu/Relu6/max"]
    (reshape,) = [node for node in graph.node if node.op_type == "Reshape"]
    assert reshape.input[1] == "flatten/Reshape/shape"


def test_a_depthwise_layer_is_called_by_its_own_name(tmp_path: Path) -> None:
    """The converter names the convolution itself after nothing, where it joined a bias with it."""
    export_model(_built("separable"), tmp_path / "m.onnx")
    weights = [list(n.input[1:]) for n in onnx.load(tmp_path / "m.onnx").graph.node if n.op_type == "Conv"]
    assert weights == [["wide/kernel", "wide/bias"], ["point/kernel", "point/bias"]]


def test_recurrent_layers_are_named(tmp_path: Path) -> None:
    export_model(_built("recurrent"), tmp_path / "m.onnx")
    nodes = {node.op_type: node for node in onnx.load(tmp_path / "m.onnx").graph.node}
    assert list(nodes["LSTM"].input[1:4]) == ["second/W", "second/R", "second/B"]
    assert nodes["Loop"].name.startswith("first/")


def test_inputs_and_outputs_keep_their_names_whatever_the_layers_are_called(tmp_path: Path) -> None:
    keras = import_keras()
    x = keras.Input((4,), name="dense")
    model = keras.Model(x, keras.layers.Dense(3, name="kernel")(keras.layers.Dense(4, name="x")(x)), name="dense")
    export_model(model, tmp_path / "m.onnx")
    graph = onnx.load(tmp_path / "m.onnx").graph
    assert [value.name for value in (*graph.input, *graph.output)] == ["dense", "kernel"]
    assert [n.input[1] for n in graph.node if n.op_type == "MatMul"] == ["x/kernel", "kernel/kernel"]


def test_an_input_without_a_name_is_called_as_its_file_calls_it(tmp_path: Path) -> None:
    """Else an exported model object could not be verified from its own file afterwards."""
    keras = import_keras()
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
    model.save(tmp_path / "m.keras")
    assert [spec.name for spec in from_keras(model).inputs] == [
        spec.name for spec in open_model(tmp_path / "m.keras").inputs
    ]
