"""Multiply-adds: counted from Keras layers, from ONNX operators, and by TensorFlow's own profiler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from toolkit.inspection.keras_models import inspect_keras
from toolkit.inspection.onnx_files import inspect_onnx
from toolkit.inspection.saved_models import inspect_saved_model
from toolkit.keras_model import SourceModel, import_keras, open_model
from toolkit.predictor import ModelFile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from toolkit.inspection import OnnxFacts

_COUNTED = {"MatMul", "BatchMatMulV2", "Conv2D", "DepthwiseConv2dNative", "Conv3D"}


def _dense(keras: Any) -> Any:
    return _sequence(keras, (28, 28), lambda of: [of.Flatten(), of.Dense(300, "relu"), of.Dense(10, "softmax")])


def _picture(keras: Any) -> Any:
    return _sequence(
        keras,
        (20, 18, 3),
        lambda of: [
            of.Conv2D(8, 3, strides=2, padding="same", use_bias=False),
            of.BatchNormalization(),
            of.ReLU(),
            of.DepthwiseConv2D((3, 5), depth_multiplier=2),
            of.SeparableConv2D(12, 3),
            of.Conv2D(6, 1, activation="relu"),
            of.MaxPooling2D(),
            of.Flatten(),
            of.Dense(4),
        ],
    )


def _signal(keras: Any) -> Any:
    return _sequence(
        keras,
        (50, 2),
        lambda of: [
            of.Conv1D(8, 7, padding="causal"),
            of.Conv1D(6, 3, strides=2),
            of.Dense(5),
            of.GlobalAveragePooling1D(),
            of.Dense(3),
        ],
    )


def _two_calls(keras: Any) -> Any:
    """A nested model of free size, and a dense layer used twice."""
    layers = keras.layers
    inside = keras.Sequential([keras.Input((None, None, 2)), layers.Conv2D(4, 3), layers.GlobalMaxPooling2D()])
    shared = layers.Dense(7)
    one, two = keras.Input((12, 10, 2), name="one"), keras.Input((12, 10, 2), name="two")
    both = layers.concatenate([shared(inside(one)), shared(inside(two))])
    return keras.Model([one, two], layers.Dense(2)(both))


def _sequence(keras: Any, shape: tuple[int | None, ...], layers: Callable[[Any], Sequence[Any]]) -> Any:
    return keras.Sequential([keras.Input(shape), *layers(keras.layers)])


@pytest.mark.parametrize("build", [_dense, _picture, _signal, _two_calls])
def test_four_counts_agree(build: Callable[[Any], Any], tmp_path: Path) -> None:
    source = open_model(build(import_keras()))
    counted = inspect_keras(source, "m.keras", 0)
    assert counted.multiply_adds
    assert counted.multiply_adds == _profiled(source)
    file = _to_onnx(source, tmp_path / "m.onnx")
    assert file.multiply_adds == counted.multiply_adds
    assert file.row == "one row"
    source.keras.export(tmp_path / "saved", verbose=False)
    saved = inspect_saved_model(open_model(tmp_path / "saved"), "saved", 0)
    assert (saved.multiply_adds, saved.parameters) == (counted.multiply_adds, counted.parameters)


def _profiled(source: SourceModel) -> float:
    """Half of the float operations of products that TensorFlow's profiler counts, for one row."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    signature = {s.name: tf.TensorSpec((1, *s.shape[1:]), s.dtype, name=s.name) for s in source.inputs}
    frozen = convert_variables_to_constants_v2(tf.function(source.call).get_concrete_function(signature))
    builder = tf.compat.v1.profiler.ProfileOptionBuilder
    chosen = builder(builder.float_operation()).with_empty_output().build()
    profile = tf.compat.v1.profiler.profile(frozen.graph, options=chosen)
    kinds = {operation.name: operation.type for operation in frozen.graph.get_operations()}

    def under(node: Any) -> float:
        own = node.float_ops if kinds.get(node.name) in _COUNTED else 0
        return own + sum(map(under, node.children))

    return under(profile) / 2


def _to_onnx(source: SourceModel, path: Path) -> OnnxFacts:
    import tensorflow as tf
    import tf2onnx

    signature = [tf.TensorSpec(s.shape, s.dtype, name=s.name) for s in source.inputs]
    names = [s.name for s in source.inputs]
    function = tf.function(lambda *given: source.call(dict(zip(names, given, strict=True))), input_signature=signature)
    model, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=13)
    path.write_bytes(model.SerializeToString())
    return inspect_onnx(ModelFile(str(path), "float32", None))


def _layers(build: Callable[[Any], Sequence[Any]], shape: tuple[int | None, ...]) -> dict[str, Any]:
    keras = import_keras()
    facts = inspect_keras(open_model(_sequence(keras, shape, build)), "m.keras", 0)
    return {layer.type: layer for layer in facts.layers}


@pytest.mark.parametrize(
    ("kind", "shape", "build", "expected"),
    [
        # Each step: input to four gates, and state to four gates.
        ("LSTM", (9, 3), lambda of: [of.LSTM(5)], 9 * (3 * 20 + 5 * 20)),
        ("GRU", (9, 3), lambda of: [of.GRU(5, return_sequences=True)], 9 * (3 * 15 + 5 * 15)),
        ("SimpleRNN", (9, 3), lambda of: [of.SimpleRNN(5)], 9 * (3 * 5 + 5 * 5)),
        ("Bidirectional", (9, 3), lambda of: [of.Bidirectional(of.LSTM(5))], 2 * 9 * (3 * 20 + 5 * 20)),
        ("TimeDistributed", (9, 4, 3), lambda of: [of.TimeDistributed(of.Dense(5))], 9 * 4 * 3 * 5),
        ("Embedding", (9,), lambda of: [of.Embedding(100, 8)], 0),
        ("Conv3D", (6, 6, 6, 2), lambda of: [of.Conv3D(4, 3)], 4**3 * 3**3 * 2 * 4),
        # Each input pixel is multiplied by the whole kernel.
        ("Conv2DTranspose", (5, 4, 3), lambda of: [of.Conv2DTranspose(2, 3, strides=2)], 5 * 4 * 3 * 3 * 3 * 2),
        ("Conv1DTranspose", (5, 3), lambda of: [of.Conv1DTranspose(2, 4)], 5 * 4 * 3 * 2),
        ("Conv2D", (5, 4, 6), lambda of: [of.Conv2D(8, 1, groups=2)], 5 * 4 * 3 * 8),
        ("EinsumDense", (7, 6), lambda of: [of.EinsumDense("abc,cd->abd", (None, 5))], 7 * 6 * 5),
        ("ConvLSTM1D", (3, 8, 2), lambda of: [of.ConvLSTM1D(4, 3)], 3 * 6 * (3 * 2 * 16 + 3 * 4 * 16)),
    ],
)
def test_layers_by_hand(kind: str, shape: Any, build: Any, expected: int) -> None:
    assert _layers(build, shape)[kind].multiply_adds == expected


def test_attention_by_hand() -> None:
    keras = import_keras()
    layers = keras.layers
    query, value = keras.Input((5, 8)), keras.Input((7, 6))
    many = layers.MultiHeadAttention(num_heads=2, key_dim=3, value_dim=4)(query, value)
    single = layers.Attention()([keras.ops.matmul(query, keras.ops.transpose(query, (0, 2, 1))), many[:, :, :5]])
    facts = inspect_keras(open_model(keras.Model([query, value], single)), "m", 0)
    found = {layer.type: layer.multiply_adds for layer in facts.layers}
    projections = 5 * 8 * 6 + 7 * 6 * 6 + 7 * 6 * 8 + 5 * 8 * 8
    assert found["MultiHeadAttention"] == projections + 2 * 5 * 7 * (3 + 4)
    assert found["Matmul"] == 5 * 8 * 5
    assert found["Attention"] == 5 * 5 * (5 + 5)


def test_a_free_dimension_gives_a_position_and_no_total() -> None:
    found = _layers(lambda of: [of.Conv1D(6, 3), of.GRU(4), of.Dense(2)], (None, 5))
    assert (found["Conv1D"].multiply_adds, found["Conv1D"].per_position) == (None, 3 * 5 * 6)
    assert (found["GRU"].multiply_adds, found["GRU"].per_position) == (None, 6 * 12 + 4 * 12)
    assert found["Dense"].multiply_adds == 8
    keras = import_keras()
    facts = inspect_keras(open_model(_sequence(keras, (None, 5), lambda of: [of.Conv1D(6, 3)])), "m", 0)
    assert facts.multiply_adds is None


def test_a_layer_of_somebodys_own_is_not_known() -> None:
    keras = import_keras()

    class Own(keras.layers.Dense):  # type: ignore[misc,name-defined]  # keras is untyped
        def call(self, inputs: Any) -> Any:
            return super().call(super().call(inputs))

    facts = inspect_keras(open_model(_sequence(keras, (4,), lambda of: [Own(4), of.Dense(2)])), "m", 0)
    assert [layer.multiply_adds for layer in facts.layers] == [None, 8]
    assert facts.multiply_adds is None


def _one(node: onnx.NodeProto, inputs: dict[str, list[Any]], weights: dict[str, Any], path: Path) -> OnnxFacts:
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7), path)
    return inspect_onnx(ModelFile(str(path), "float32", None))


@pytest.mark.parametrize(
    ("operator", "given", "weights", "attributes", "expected"),
    [
        ("Gemm", ["n", 6], (4, 6), {"transB": 1}, 24),
        ("MatMul", ["n", 5, 6], (6, 4), {}, 5 * 6 * 4),
        ("MatMul", [3, 6], (6, 4), {}, 24),  # a fixed batch: for one of its rows
        ("Conv", ["n", 4, 9, 9], (8, 2, 3, 3), {"group": 2, "strides": [2, 2]}, 16 * 8 * 2 * 9),
        ("ConvTranspose", ["n", 4, 5, 5], (4, 3, 2, 2), {"strides": [2, 2]}, 25 * 4 * 3 * 4),
        ("Einsum", ["n", 5, 6], (6, 2, 3), {"equation": "abc,cde->abde"}, 5 * 6 * 2 * 3),
        ("MatMul", ["n", "t", 6], (6, 4), {}, None),
    ],
)
def test_operators_by_hand(
    operator: str, given: list[Any], weights: tuple[int, ...], attributes: Any, expected: int | None, tmp_path: Path
) -> None:
    node = helper.make_node(operator, ["x", "w"], ["y"], **attributes)
    facts = _one(node, {"x": given}, {"w": np.ones(weights)}, tmp_path / "m.onnx")
    assert facts.multiply_adds == expected
    assert facts.parameters == np.prod(weights)
    if expected is None:
        assert facts.layers[0].per_position == 24


def test_inputs_without_a_common_batch_are_taken_as_they_are(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "z"], ["y"])
    facts = _one(node, {"x": [2, 6], "z": [6, 4]}, {}, tmp_path / "m.onnx")
    assert (facts.multiply_adds, facts.row) == (2 * 6 * 4, "the whole input")
