"""Factors and summands a channel that go into the weights beside them: the same answers from fewer operators."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.exporting import answers_to, export_model
from toolkit.conversion.fold import fold_affine
from toolkit.conversion.naming import name_like_keras
from toolkit.conversion.quantize import quantize
from toolkit.conversion.recipe import QuantizationRecipe
from toolkit.conversion.routes import convert
from toolkit.conversion.tidy import constant_shapes, set_contract
from toolkit.keras_model import import_keras
from toolkit.keras_model.source import from_keras

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

ROWS = 50


def _run(model: onnx.ModelProto, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the graph says as it is written, with nothing fused by the runtime."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"x": rows})
    found: NDArray[np.float32] = answer
    return found


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _operators(model: onnx.ModelProto) -> dict[str, int]:
    return dict(Counter(node.op_type for node in model.graph.node))


def _folded(
    before: onnx.ModelProto, rows: NDArray[np.float32], *, divides: bool = False
) -> tuple[onnx.ModelProto, int]:
    """The folded graph, which is valid and gives what the other gives but for rounding, and how much was folded.

    Where something is divided by what a layer gives, rounding of the small is multiplied by the square of the large.
    """
    after = _copy(before)
    count = fold_affine(after)
    onnx.checker.check_model(after, full_check=True)
    want, found = _run(before, rows), _run(after, rows)
    assert found.shape == want.shape
    largest = max(1.0, float(np.abs(want).max()))
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-5 * largest**2 if divides else 2e-6 * largest)
    return after, count


# Keras' own layers, as the converter leaves them.


def _keras(shape: tuple[int, ...], *layers: Any) -> Any:
    """A model whose every weight is random, batch normalization's too: negative factors and factors of 0 among them."""
    keras = import_keras()
    model = keras.Sequential([keras.layers.Input(shape, name="x"), *layers])
    for number, weight in enumerate(model.weights):
        random = np.random.default_rng(number)
        values = random.uniform(0.5, 2, weight.shape) if "variance" in weight.path else random.normal(size=weight.shape)
        if "gamma" in weight.path:
            values[0] = 0
        weight.assign(values)
    return model


def _unfolded(model: Any) -> onnx.ModelProto:
    source = from_keras(model)
    converted = convert(source).model
    set_contract(converted, source)
    constant_shapes(converted)
    name_like_keras(converted, source)
    return converted


def _rows(model: Any) -> NDArray[np.float32]:
    return np.random.default_rng(99).normal(size=(ROWS, *model.input_shape[1:])).astype(np.float32)


def _patterns() -> dict[str, tuple[tuple[int, ...], Callable[[Any], list[Any]], dict[str, int]]]:
    """By name: the input's shape, the layers, and the operators that are left."""
    one_d = {"Unsqueeze": 1, "Transpose": 2, "Squeeze": 1}
    return {
        "dense": ((6,), lambda k: [k.Dense(5, use_bias=False), k.BatchNormalization()], {"MatMul": 1, "Add": 1}),
        "dense with bias": ((6,), lambda k: [k.Dense(5), k.BatchNormalization()], {"MatMul": 1, "Add": 1}),
        "without shift": ((6,), lambda k: [k.Dense(5), k.BatchNormalization(center=False)], {"MatMul": 1, "Add": 1}),
        "behind a squeeze": ((12, 3), lambda k: [k.Conv1D(5, 3), k.BatchNormalization()], {**one_d, "Conv": 1}),
        "the same without bias": (
            (12, 3),
            lambda k: [k.Conv1D(5, 3, padding="same", use_bias=False), k.BatchNormalization()],
            {**one_d, "Conv": 1},
        ),
        "separable": ((12, 3), lambda k: [k.SeparableConv1D(5, 3), k.BatchNormalization()], {**one_d, "Conv": 2}),
        "pictures": ((8, 8, 3), lambda k: [k.Conv2D(5, 3), k.BatchNormalization()], {"Transpose": 2, "Conv": 1}),
        "depthwise": (
            (8, 8, 3),
            lambda k: [k.DepthwiseConv2D(3, depth_multiplier=2), k.BatchNormalization()],
            {"Transpose": 2, "Conv": 1},
        ),
        "behind an activation": (
            (6,),
            lambda k: [k.Dense(5, activation="relu"), k.BatchNormalization(), k.Dense(4)],
            {"MatMul": 2, "Add": 2, "Relu": 1},
        ),
        "behind an activation, no bias after": (
            (6,),
            lambda k: [k.Dense(5, activation="relu"), k.BatchNormalization(), k.Dense(4, use_bias=False), k.ReLU()],
            {"MatMul": 2, "Add": 2, "Relu": 2},
        ),
        "on both sides": (
            (6,),
            lambda k: [k.Dense(5), k.BatchNormalization(), k.ReLU(), k.BatchNormalization(), k.Dense(3)],
            {"MatMul": 2, "Add": 2, "Relu": 1},
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(_patterns()))
def test_batch_normalization_goes_into_the_weights(name: str) -> None:
    shape, layers, left = _patterns()[name]
    model = _keras(shape, *layers(import_keras().layers))
    before, rows = _unfolded(model), _rows(model)
    assert sum(_operators(before).values()) > sum(left.values())
    after, count = _folded(before, rows)
    assert _operators(after) == left
    assert count == sum(_operators(before).values()) - sum(left.values()) + name.count("no bias after")
    (keras,) = answers_to(model, {"x": rows}).values()
    np.testing.assert_allclose(_run(after, rows), keras, rtol=0, atol=1e-5 * float(np.abs(keras).max()))


def test_a_bias_that_a_fold_makes_is_the_layers_own() -> None:
    layers = import_keras().layers
    model = _keras((12, 3), layers.Conv1D(5, 3, name="wave"), layers.BatchNormalization(name="norm"))
    after, _ = _folded(_unfolded(model), _rows(model))
    (conv,) = [node for node in after.graph.node if node.op_type == "Conv"]
    assert list(conv.input[1:]) == ["wave/kernel", "wave/bias"]
    assert not [tensor.name for tensor in after.graph.initializer if tensor.name.startswith("norm")]


@pytest.mark.parametrize("first", ["batch normalization", "normalization", "both"])
def test_scaling_at_the_models_input_stays(first: str) -> None:
    """Numbers in units of their own are brought to a common one in front of the 8 bits that are to hold them."""
    layers = import_keras().layers
    table = np.random.default_rng(0).normal([20, 1013, 0.01], [5, 12, 0.002], (500, 3)).astype(np.float32)
    scale = layers.Normalization()
    scale.adapt(table)
    chosen = {"batch normalization": [layers.BatchNormalization()], "normalization": [scale]}
    chosen["both"] = [scale, layers.BatchNormalization()]
    model = _keras((3,), *chosen[first], layers.Dense(4))
    if first != "batch normalization":
        model.layers[0].adapt(table)  # what was made random above
    before = _unfolded(model)
    after, count = _folded(before, table[:ROWS])
    assert count == 0
    assert _operators(after) == _operators(before)


def test_shared_weights_keep_a_copy_of_their_own() -> None:
    """One dense layer asked twice, and normalized once."""
    keras = import_keras()
    x = keras.Input((6,), name="x")
    shared, norm = keras.layers.Dense(6, name="shared"), keras.layers.BatchNormalization(name="norm")
    model = keras.Model(x, norm(shared(keras.ops.tanh(shared(x)))))
    for number, weight in enumerate(model.weights):
        weight.assign(np.random.default_rng(number).uniform(0.5, 2, weight.shape))
    before = _unfolded(model)
    after, count = _folded(before, _rows(model))
    assert count == 2
    kernels = [node.input[1] for node in after.graph.node if node.op_type == "MatMul"]
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in after.graph.initializer}
    assert len(set(kernels)) == 2
    assert "shared/kernel" in kernels
    np.testing.assert_array_equal(arrays["shared/kernel"], np.asarray(model.get_layer("shared").kernel))
    (other,) = set(kernels) - {"shared/kernel"}
    assert not np.allclose(arrays[other], arrays["shared/kernel"])


def test_what_was_folded_runs_in_8_bits(tmp_path: Path) -> None:
    layers = import_keras().layers
    dense = [layers.Dense(16, use_bias=False), layers.BatchNormalization(), layers.ReLU(), layers.BatchNormalization()]
    model = _keras((6,), *dense, layers.Dense(4))
    exported = export_model(model, tmp_path / "m.onnx")
    assert exported.folded == 3  # the summand became the bias that the layer had not
    result = quantize(tmp_path / "m.onnx", tmp_path / "int8.onnx", QuantizationRecipe(), [{"x": _rows(model)}])
    assert not {"Mul", "Add", "MatMul", "Sub"} & result.file.operators.keys()
    assert result.file.operators["Gemm"] == 2
    assert result.kept_float == []


# Any graph.


def _graph(nodes: list[onnx.NodeProto], constants: dict[str, NDArray[Any]], shape: list[Any]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "folding",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [f"y_{axis}" for axis in range(len(shape))])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


AFFINE = st.tuples(
    st.sampled_from(["Mul", "Add", "Sub", "Div"]),
    st.booleans(),  # the constant comes first
    st.sampled_from(["scalar", "one", "channel"]),
)
WEIGHTS = {"MatMul": (7, 5), "Conv": (5, 3, 3, 2), "depthwise": (6, 1, 3, 2)}


def _affine_constant(form: str, channels: int, layer: str, random: np.random.Generator) -> NDArray[np.float64]:
    """Away from 0, since Div takes it too."""
    shape: tuple[int, ...] = {"scalar": (), "one": (1,), "channel": (channels,)}[form]
    if form == "channel" and layer != "MatMul":
        shape = (1, channels, 1, 1)
    return np.asarray(random.uniform(0.5, 2, shape) * random.choice([-1, 1], shape))


@given(st.sampled_from(list(WEIGHTS)), st.booleans(), st.lists(AFFINE, min_size=1, max_size=4), st.integers(0, 2**31))
def test_any_chain_behind_a_layer_gives_the_same(
    layer: str, biased: bool, chain: list[tuple[str, bool, str]], seed: int
) -> None:
    random = np.random.default_rng(seed)
    weight = random.normal(size=WEIGHTS[layer])
    channels = weight.shape[1] if layer == "MatMul" else len(weight)
    constants: dict[str, NDArray[Any]] = {"w/kernel": weight, "w/bias": random.normal(size=channels)}
    if layer == "MatMul":
        nodes = [helper.make_node("MatMul", ["x", "w/kernel"], ["t0"])]
        nodes += [helper.make_node("Add", ["t0", "w/bias"], ["t1"])] if biased else []
    else:
        given_bias = ["w/bias"] if biased else []
        groups = 3 if layer == "depthwise" else 1
        nodes = [helper.make_node("Conv", ["x", "w/kernel", *given_bias], ["t0"], pads=[1, 1, 1, 1], group=groups)]
    for number, (operator, first, form) in enumerate(chain):
        constants[f"c{number}"] = _affine_constant(form, channels, layer, random)
        inputs = [nodes[-1].output[0], f"c{number}"]
        nodes.append(helper.make_node(operator, inputs[::-1] if first else inputs, [f"s{number}"]))
    nodes[-1].output[0] = "y"
    shape = [4, 7] if layer == "MatMul" else [4, 3, 6, 5]
    before = _graph(nodes, {k: v for k, v in constants.items() if any(k in n.input for n in nodes)}, shape)
    divides = any(operator == "Div" and first for operator, first, _ in chain)
    after, _ = _folded(before, random.normal(size=shape).astype(np.float32), divides=divides)
    operators = [operator for operator, _, _ in chain]
    if divides:
        return  # one divided by what the layer gives is no factor
    left = _operators(after)
    if layer == "MatMul" and not biased:
        # The first summand becomes the layer's bias, as it stands; the quantizer reads it as an Add alone.
        if "Sub" not in operators:
            assert left == ({"MatMul": 1, "Add": 1} if "Add" in operators else {"MatMul": 1})
    else:
        assert left == ({"MatMul": 1, "Add": 1} if layer == "MatMul" else {"Conv": 1})


def test_a_tensor_that_others_need_is_left() -> None:
    """Another layer, an output, or a branch takes what comes before the factor."""
    random = np.random.default_rng(0)
    constants = {"w/kernel": random.normal(size=(6, 5)), "f": random.normal(size=5)}
    node = helper.make_node
    product = node("MatMul", ["x", "w/kernel"], ["t"])
    twice = _graph([product, node("Mul", ["t", "f"], ["s"]), node("Add", ["s", "t"], ["y"])], constants, [ROWS, 6])
    branch = helper.make_graph(
        [node("Neg", ["t"], ["inner"])],
        "then",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, ["a", "b"])],
    )
    within = _graph(
        [
            product,
            node("Mul", ["t", "f"], ["s"]),
            node("ReduceMax", ["x"], ["top"], keepdims=0),
            node("Cast", ["top"], ["yes"], to=TensorProto.BOOL),
            node("If", ["yes"], ["z"], then_branch=branch, else_branch=branch),
            node("Add", ["s", "z"], ["y"]),
        ],
        constants,
        [ROWS, 6],
    )
    rows = random.normal(size=(ROWS, 6)).astype(np.float32)
    for model in (twice, within):
        after, count = _folded(model, rows)
        assert count == 0
        assert _operators(after) == _operators(model)


def test_weights_that_a_branch_takes_stay_for_it() -> None:
    random = np.random.default_rng(1)
    constants = {"w/kernel": random.normal(size=(5, 5)), "f": random.uniform(2, 3, 5)}
    node = helper.make_node
    branch = helper.make_graph(
        [node("MatMul", ["x", "w/kernel"], ["inner"])],
        "then",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, ["a", "b"])],
    )
    model = _graph(
        [
            node("MatMul", ["x", "w/kernel"], ["t"]),
            node("Mul", ["t", "f"], ["s"]),
            node("ReduceMax", ["x"], ["top"], keepdims=0),
            node("Cast", ["top"], ["yes"], to=TensorProto.BOOL),
            node("If", ["yes"], ["z"], then_branch=branch, else_branch=branch),
            node("Add", ["s", "z"], ["y"]),
        ],
        constants,
        [ROWS, 5],
    )
    _, count = _folded(model, random.normal(size=(ROWS, 5)).astype(np.float32))
    assert count == 1


@pytest.mark.parametrize("added", [(1, 5), (3, 5), (5,)])
def test_a_summand_a_row_is_no_bias(added: tuple[int, ...]) -> None:
    """Of rows of their own (a position's embedding, say), none is folded into; of all rows, all is."""
    random = np.random.default_rng(2)
    constants = {"w/kernel": random.normal(size=(6, 5)), "b": random.normal(size=added), "f": random.normal(size=5)}
    node = helper.make_node
    nodes = [node("MatMul", ["x", "w/kernel"], ["t"]), node("Add", ["t", "b"], ["s"]), node("Mul", ["s", "f"], ["y"])]
    _, count = _folded(_graph(nodes, constants, [2, 3, 6]), random.normal(size=(2, 3, 6)).astype(np.float32))
    assert count == (1 if added == (5,) else 0)


def test_times_one_and_plus_zero_vanish() -> None:
    node = helper.make_node
    nodes = [
        node("Mul", ["x", "one"], ["a"]),
        node("Sub", ["a", "none"], ["b"]),
        node("Relu", ["b"], ["c"]),
        node("Div", ["one", "c"], ["y"]),
    ]
    model = _graph(nodes, {"one": np.ones(()), "none": np.zeros(1)}, [2, 3])
    after, count = _folded(model, np.abs(np.random.default_rng(3).normal(size=(2, 3))).astype(np.float32) + 1)
    assert (count, _operators(after)) == (2, {"Relu": 1, "Div": 1})
