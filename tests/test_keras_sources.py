"""Models of every Keras and in every container are opened, and answer as they did where they came from."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.keras_files import (
    edit_weights,
    keras2_functional,
    keras2_h5,
    keras2_input,
    keras2_layer,
    write_zip,
)
from toolkit.errors import ModelError
from toolkit.keras_model import SourceModel, import_keras, load_keras, open_model

AD01 = os.environ.get("TOOLKIT_AD01_H5", "")
RANDOM = np.random.default_rng(0)


def _floats(*shape: int) -> np.ndarray:
    return RANDOM.normal(0, 0.5, shape).astype(np.float32)


def _batch_norm(name: str, channels: int) -> dict[str, Any]:
    return {
        f"{name}/gamma": 1 + _floats(channels),
        f"{name}/beta": _floats(channels),
        f"{name}/moving_mean": _floats(channels),
        f"{name}/moving_variance": 1 + _floats(channels) ** 2,
    }


def _answer(source: SourceModel, **inputs: np.ndarray) -> np.ndarray:
    (answer,) = source.answers(inputs).values()
    return answer


def _normalized(x: np.ndarray, weights: dict[str, np.ndarray], epsilon: float) -> np.ndarray:
    gamma, beta, mean, variance = weights.values()
    result: np.ndarray = gamma * (x - mean) / np.sqrt(variance + epsilon) + beta
    return result


def test_keras_2_h5_with_depthwise_convolution_and_batch_norm(tmp_path: Path) -> None:
    """With `groups`, an axis in a list, a slash in a name, and Policy objects, as MobileNets of TensorFlow 2 have."""
    kernel, dense = _floats(3, 3, 2, 1), _floats(2, 3)
    norm = _batch_norm("Conv/BatchNorm", 2)
    policy = {"class_name": "Policy", "config": {"name": "float32"}}
    regular = {"class_name": "L2", "config": {"l2": 0.001}}
    layers = [
        keras2_input("input_1", (None, 4, 4, 2)),
        keras2_layer(
            "DepthwiseConv2D",
            "depthwise",
            ["input_1"],
            dtype=policy,
            kernel_size=[3, 3],
            strides=[1, 1],
            padding="valid",
            data_format="channels_last",
            dilation_rate=[1, 1],
            groups=1,
            activation="linear",
            use_bias=False,
            depth_multiplier=1,
            depthwise_initializer={"class_name": "GlorotUniform", "config": {"seed": None, "dtype": "float32"}},
            depthwise_regularizer=regular,
        ),
        keras2_layer("BatchNormalizationV1", "Conv/BatchNorm", ["depthwise"], axis=[3], momentum=0.9, epsilon=0.01),
        keras2_layer("ReLU", "relu", ["Conv/BatchNorm"], max_value=6.0, negative_slope=0.0, threshold=0.0),
        keras2_layer("GlobalAveragePooling2D", "pool", ["relu"], data_format="channels_last"),
        keras2_layer("Dense", "dense", ["pool"], units=3, activation="softmax_v2", use_bias=False),
    ]
    weights = {"depthwise": {"depthwise/depthwise_kernel": kernel}, "Conv/BatchNorm": norm}
    path = keras2_h5(
        tmp_path / "old.h5",
        keras2_functional(layers, ["input_1"], ["dense"]),
        {**weights, "dense": {"dense/kernel": dense}},
    )
    source = open_model(path)
    x = _floats(5, 4, 4, 2)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
    convolved = np.einsum("nijckl,klc->nijc", windows, kernel[..., 0])
    logits = np.clip(_normalized(convolved, norm, 0.01), 0, 6).mean(axis=(1, 2)) @ dense
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(_answer(source, input_1=x), expected, atol=1e-6)
    assert source.written_by == "Keras 2.4.0"
    assert [spec.shape for spec in source.inputs] == [(None, 4, 4, 2)]


@pytest.mark.parametrize("version", ["2.2.4-tf", None])
def test_old_recurrent_layers_keep_their_hard_sigmoid(tmp_path: Path, version: str | None) -> None:
    """Keras 3 opens such files too, once `time_major` is gone, and gives other answers without a word."""
    keras = import_keras()
    lstm, gru = [_floats(3, 16), _floats(4, 16), _floats(16)], [_floats(4, 6), _floats(2, 6), _floats(6)]
    common = {"activation": "tanh", "recurrent_activation": "hard_sigmoid", "implementation": 1, "time_major": False}
    first = {"name": "lstm", "units": 4, "return_sequences": True, "batch_input_shape": [None, 5, 3], **common}
    sequence = [
        {"class_name": "LSTM", "config": first},
        {"class_name": "GRU", "config": {"name": "gru", "units": 2, **common}},  # before there was reset_after
    ]
    names = ("kernel", "recurrent_kernel", "bias")
    weights = {
        "lstm": {f"lstm/{name}": value for name, value in zip(names, lstm, strict=True)},
        "gru": {f"gru/{name}": value for name, value in zip(names, gru, strict=True)},
    }
    config: dict[str, Any] = {"class_name": "Sequential", "config": {"name": "seq", "layers": sequence}}
    if version is None:  # the oldest form: a bare list
        config["config"] = sequence
    source = open_model(keras2_h5(tmp_path / "old.h5", config, weights, version))
    x = _floats(6, 5, 3)

    def gate(value: Any) -> Any:
        return keras.ops.clip(0.2 * value + 0.5, 0, 1)

    def model(hard: Any) -> Any:
        built = keras.Sequential(
            [
                keras.Input((5, 3)),
                keras.layers.LSTM(4, return_sequences=True, recurrent_activation=hard),
                keras.layers.GRU(2, reset_after=False, recurrent_activation=hard),
            ]
        )
        built.set_weights([*lstm, *gru])
        return np.asarray(built(x))

    answer = _answer(source, **{source.inputs[0].name: x})
    np.testing.assert_allclose(answer, model(gate), atol=1e-6)
    assert np.abs(answer - model("hard_sigmoid")).max() > 1e-3


def test_keras_2_h5_with_nested_models_and_tensorflow_functions(tmp_path: Path) -> None:
    """A nested model called twice, counted from one; x * relu6(x + 3) / 6 as MobileNetV3 has it; constants first."""
    kernel = _floats(4, 4)
    inner = keras2_functional(
        [
            keras2_input("inner_in", (None, 4)),
            keras2_layer("Dense", "inner_dense", ["inner_in"], units=4, activation="linear", use_bias=False),
        ],
        ["inner_in"],
        ["inner_dense"],
    )
    call = {
        "class_name": "Functional",
        "name": "inner",
        "config": {**inner["config"], "name": "inner"},
        "inbound_nodes": [[["x", 0, 0, {}]], [["inner", 1, 0, {}]]],
    }

    def function(name: str, function: str, node: list[Any]) -> dict[str, Any]:
        config = {"name": name, "trainable": True, "dtype": "float32", "function": function}
        return {"class_name": "TFOpLambda", "name": name, "config": config, "inbound_nodes": [node]}

    layers = [
        keras2_input("x", (None, 4)),
        call,
        function("tf.__operators__.add", "__operators__.add", ["inner", 2, 0, {"y": 3.0, "name": None}]),
        function("tf.nn.relu6", "nn.relu6", ["tf.__operators__.add", 0, 0, {"name": None}]),
        function("tf.math.multiply", "math.multiply", ["inner", 2, 0, {"y": ["tf.nn.relu6", 0, 0], "name": None}]),
        function(
            "tf.math.multiply_1",
            "math.multiply",
            ["_CONSTANT_VALUE", -1, 1 / 6, {"y": ["tf.math.multiply", 0, 0], "name": None}],
        ),
        {
            "class_name": "SlicingOpLambda",
            "name": "slice",
            "config": {"name": "slice", "function": "__operators__.getitem"},
            "inbound_nodes": [["tf.math.multiply_1", 0, 0, {"slice_spec": [{"start": None}, {"start": 1}]}]],
        },
        keras2_layer("Concatenate", "concat", ["slice", "tf.math.multiply_1"], axis=-1),
        keras2_layer("Dense", "out", ["concat"], units=2, activation="linear", use_bias=False),
    ]
    out = _floats(7, 2)
    weights = {"inner": {"inner_dense/kernel": kernel}, "out": {"out/kernel": out}}
    path = keras2_h5(tmp_path / "nested.h5", keras2_functional(layers, ["x"], ["out"]), weights, "2.15.0")
    x = _floats(6, 4)
    y = x @ kernel @ kernel
    z = y * np.clip(y + 3, 0, 6) / 6
    np.testing.assert_allclose(_answer(open_model(path), x=x), np.concatenate([z[:, 1:], z], axis=1) @ out, atol=1e-5)


def test_weights_of_h5_files_go_by_name_whatever_their_order(tmp_path: Path) -> None:
    left, right = _floats(3, 3), _floats(3, 3)
    plain = {"units": 3, "activation": "linear", "use_bias": False}
    layers = [
        keras2_input("x", (None, 3)),
        keras2_layer("Dense", "left", ["x"], **plain),
        keras2_layer("Dense", "right", ["x"], **plain),
        keras2_layer("Subtract", "difference", ["left", "right"]),
    ]
    weights = {"right": {"right/kernel": right}, "left": {"left/kernel": left}}
    path = keras2_h5(tmp_path / "two.h5", keras2_functional(layers, ["x"], ["difference"]), weights)
    x = _floats(4, 3)
    np.testing.assert_allclose(_answer(open_model(path), x=x), x @ left - x @ right, atol=1e-6)


def _model_with_operations() -> Any:
    """Operations on tensors and a nested model with batch-norm: what Keras 3 itself cannot read from its own .h5."""
    keras = import_keras()
    layers = keras.layers
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4), layers.BatchNormalization()], name="inner")
    x = keras.Input((4,), name="x")
    y = inner(x) + 2.0 * x
    y = keras.ops.concatenate([y[:, 1:], keras.ops.relu(x)], axis=-1)
    model = keras.Model(x, layers.Dense(2, name="out")(y))
    model.set_weights(
        [_floats(*w.shape) if "variance" not in w.path else np.abs(_floats(*w.shape)) for w in model.weights]
    )
    model.compile("adam", "mse")
    return model


@pytest.mark.parametrize("name", ["model.keras", "model.h5", "model", "model.h5.backup"])
def test_keras_3_containers(tmp_path: Path, name: str) -> None:
    """Told apart by content: a file may be called as it likes."""
    model = _model_with_operations()
    written = tmp_path / ("model.h5" if "h5" in name else "model.keras")
    model.save(written)
    path = written.rename(tmp_path / name)
    x = _floats(3, 4)
    source = open_model(path)
    np.testing.assert_array_equal(_answer(source, x=x), model.predict(x, verbose=0))
    assert source.kind == "keras"
    assert sum(path.startswith("inner/dense") for path in source.weights) == 2
    assert len(source.weights) == len(model.weights) == 8
    assert {"inner", "out"} < set(source.layers)


def test_a_keras_2_archive_with_the_group_names_of_2_13(tmp_path: Path) -> None:
    keras = import_keras()
    model = keras.Sequential([keras.Input((4,), name="given"), keras.layers.Dense(3, activation="relu", name="d")])
    path = tmp_path / "old.keras"
    model.save(path)
    edit_weights(path, lambda file: file.move("layers", "_layer_checkpoint_dependencies"))
    given = {"batch_input_shape": [None, 4], "dtype": "float32", "sparse": False, "ragged": False, "name": "given"}
    dense = {"name": "d", "trainable": True, "dtype": "float32", "units": 3, "activation": "relu", "use_bias": True}
    layers = [
        {"module": "keras.layers", "class_name": "InputLayer", "config": given, "registered_name": None},
        {"module": "keras.layers", "class_name": "Dense", "config": dense, "registered_name": None},
    ]
    config = {"module": "keras", "class_name": "Sequential", "config": {"name": "sequential", "layers": layers}}
    with zipfile.ZipFile(path) as archive:
        weights = archive.read("model.weights.h5")
    parts = {"metadata.json": {"keras_version": "2.13.1"}, "config.json": config}
    write_zip(path, {**{k: json.dumps(v).encode() for k, v in parts.items()}, "model.weights.h5": weights})
    x = _floats(3, 4)
    np.testing.assert_array_equal(_answer(open_model(path), given=x), model.predict(x, verbose=0))


def test_a_saved_model_of_keras_3_and_one_by_signature(tmp_path: Path) -> None:
    import tensorflow as tf

    model = _model_with_operations()
    model.export(tmp_path / "exported", verbose=False)
    x = _floats(3, 4)
    source = open_model(tmp_path / "exported")
    assert (source.kind, source.keras, source.inputs[0].name) == ("saved_model", None, "x")
    np.testing.assert_allclose(_answer(source, x=x), model.predict(x, verbose=0), atol=1e-6)
    assert any("kernel" in path for path in source.weights)

    module = tf.Module()
    module.scale = tf.Variable([1.0, 2.0])

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="a"), tf.TensorSpec([2], name="b")])  # type: ignore[untyped-decorator]  # tensorflow is untyped
    def forward(a: Any, b: Any) -> Any:
        return {"sum": a * module.scale + b, "first": a[:, 0]}

    module.forward = forward
    tf.saved_model.save(module, str(tmp_path / "own"), signatures={"ask": forward})
    source = open_model(tmp_path / "own")
    assert [spec.name for spec in source.inputs] == ["a", "b"]
    assert [(spec.name, spec.shape) for spec in source.outputs] == [("first", (None,)), ("sum", (None, 2))]


def test_several_inputs_and_outputs_in_dicts_and_a_model_object() -> None:
    keras = import_keras()
    a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b", dtype="int32")
    both = keras.layers.Concatenate()([a, keras.ops.cast(b, "float32")])
    dense = keras.layers.Dense(1, name="score")
    model = keras.Model({"b": b, "a": a}, {"twice": dense(both * 2), "score": dense(both)})
    source = open_model(model)
    given = {"a": _floats(3, 2), "b": np.arange(6, dtype=np.int32).reshape(3, 2)}
    answers = source.answers(given, batch_size=2)
    expected = model.predict(given, verbose=0)
    assert {(spec.name, spec.dtype) for spec in source.inputs} == {("a", "float32"), ("b", "int32")}
    assert len(answers) == 2
    for found, wanted in zip(answers.values(), keras.tree.flatten(expected), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_fixed_batch_is_filled_up() -> None:
    keras = import_keras()
    given = keras.Input(batch_shape=(4, 3), name="x")
    model = keras.Model(given, keras.layers.Dense(2)(given))
    source = open_model(model)
    x = _floats(6, 3)
    assert source.batch == 4
    answer = _answer(source, x=x)
    np.testing.assert_allclose(answer[:4], np.asarray(model(x[:4])), atol=1e-6)
    np.testing.assert_allclose(answer[4:], np.asarray(model(x[2:]))[2:], atol=1e-6)


def test_what_is_no_model_object_is_refused() -> None:
    with pytest.raises(ModelError, match="expected a Keras 3 model"):
        open_model(object())


def test_a_saved_model_has_no_keras_model(tmp_path: Path) -> None:
    _model_with_operations().export(tmp_path / "exported", verbose=False)
    with pytest.raises(ModelError, match=r"is a SavedModel, expected a Keras model; give its \.keras"):
        load_keras(tmp_path / "exported")


@pytest.mark.skipif(not AD01, reason="TOOLKIT_AD01_H5 does not name MLPerf Tiny's ad01.h5")
def test_the_anomaly_detector_of_mlperf_tiny() -> None:
    source = open_model(Path(AD01))
    assert source.written_by == "Keras 2.4.0"
    assert [spec.shape for spec in (*source.inputs, *source.outputs)] == [(None, 640), (None, 640)]
    answer = _answer(source, **{source.inputs[0].name: _floats(3, 640)})
    assert np.isfinite(answer).all()
