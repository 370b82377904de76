"""No pair of int8 weights with a portable scale can saturate, and the scale gives nothing away."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper, numpy_helper

from tests.conftest import REFERENCE, toolkit
from toolkit.conversion.portable import AS_THEY_STAND, LIMIT, pair_load, portable_scale
from toolkit.conversion.quantize import quantize
from toolkit.conversion.recipe import QuantizationRecipe
from toolkit.conversion.saturation import as_run, layer_loads, portable_overrides
from toolkit.errors import ModelError, ToolkitError
from toolkit.predictor import Predictor

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from toolkit.conversion.portable import Orders
    from toolkit.data import FashionMnist

WEIGHTS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 5)),
    elements=st.floats(-1e3, 1e3, width=32) | st.sampled_from([0.0, 1.0, -1.0, 0.5]),
)


def _quantized(weights: NDArray[np.float32], scale: NDArray[np.float32]) -> NDArray[np.int8]:
    """As the runtime's quantizer does it: float32 division, round half to even, clip."""
    quantized: NDArray[np.int8] = np.clip(np.rint(weights / scale), -128, 127).astype(np.int8)
    return quantized


def _saturating(activations: NDArray[np.uint8], weights: NDArray[np.int8]) -> NDArray[np.int64]:
    """The sums of x86 without VNNI: products of neighbours (from an even row on) are added in 16 bits."""
    products = activations.astype(np.int64)[:, :, None] * weights.astype(np.int64)[None]
    if products.shape[1] % 2:
        products = np.concatenate([products, np.zeros_like(products[:, :1])], axis=1)
    pairs = products[:, 0::2] + products[:, 1::2]
    sums: NDArray[np.int64] = np.clip(pairs, -32768, 32767).sum(axis=1)
    return sums


def _orders(rows: int, seed: int) -> Orders:
    """As they stand, and in another order."""
    return (None, np.random.default_rng(seed).permutation(rows))


@given(WEIGHTS, st.booleans(), st.booleans(), st.integers(0, 2**32 - 1))
def test_no_pair_saturates_whatever_the_weights_and_the_input(
    weights: NDArray[np.float32], two_orders: bool, per_channel: bool, seed: int
) -> None:
    orders = _orders(len(weights), seed) if two_orders else AS_THEY_STAND
    scale = portable_scale(weights, orders, per_channel=per_channel)
    assert scale.shape == ((weights.shape[1],) if per_channel else (1,))
    assert (scale > 0).all()
    quantized = _quantized(weights, scale)
    assert pair_load(quantized, orders).max() <= LIMIT
    assert np.abs(weights / scale).max() <= 127.5
    rng = np.random.default_rng(seed)
    activations = rng.choice(np.array([0, 1, 128, 254, 255], np.uint8), size=(20, len(weights)))
    exact = activations.astype(np.int64) @ quantized.astype(np.int64)
    for order in orders:
        taken = np.arange(len(weights)) if order is None else order
        np.testing.assert_array_equal(_saturating(activations[:, taken], quantized[taken]), exact)


@given(WEIGHTS, st.booleans(), st.booleans())
def test_the_scale_is_within_one_percent_of_the_least_that_any_rule_could_give(
    weights: NDArray[np.float32], two_orders: bool, per_channel: bool
) -> None:
    if np.abs(weights).max(axis=0).min() < 1e-3:
        return
    orders = _orders(len(weights), 0) if two_orders else AS_THEY_STAND
    scale = portable_scale(weights, orders, per_channel=per_channel)
    load = pair_load(weights, orders) / (LIMIT + 1)
    needed = np.maximum(np.abs(weights.astype(np.float64)).max(axis=0) / 127, load)
    least = needed if per_channel else needed.max(keepdims=True)
    assert (scale >= least).all()
    assert (scale <= 1.01 * least).all()


def test_a_smaller_scale_does_saturate() -> None:
    weights = np.array([[1.0], [1.0]], np.float32)
    scale = portable_scale(weights, per_channel=False)
    smaller = _quantized(weights, scale * np.float32(LIMIT / (LIMIT + 3)))
    assert pair_load(smaller).max() > LIMIT
    activations = np.full((1, 2), 255, np.uint8)
    assert _saturating(activations, smaller) != activations.astype(np.int64) @ smaller.astype(np.int64)


def test_weights_that_are_all_zero_get_a_scale() -> None:
    np.testing.assert_array_equal(portable_scale(np.zeros((4, 2), np.float32), per_channel=True), [1, 1])


def _export(fashion_mnist: FashionMnist, target: Path, **recipe: Any) -> onnx.ModelProto:
    quantize(
        REFERENCE / "model.onnx",
        target,
        QuantizationRecipe(**recipe),
        [{"image": fashion_mnist.train_images[:300]}],
    )
    return onnx.load(target)


@pytest.mark.parametrize("method", ["static", "dynamic"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_portable_files_cannot_saturate_and_plain_ones_can(
    fashion_mnist: FashionMnist, tmp_path: Path, method: str, per_channel: bool
) -> None:
    loads = {}
    for portable in (True, False):
        model = _export(
            fashion_mnist, tmp_path / f"{portable}.onnx", method=method, per_channel=per_channel, portable=portable
        )
        loads[portable] = layer_loads(model)
        assert [layer.layer for layer in loads[portable]] == ["hidden_1/kernel", "hidden_2/kernel", "output/kernel"]
    assert not any(layer.can_saturate for layer in loads[True])
    assert all(LIMIT - 2 <= layer.load <= LIMIT for layer in loads[True])
    assert all(layer.can_saturate for layer in loads[False])


def test_the_reference_file_cannot_saturate() -> None:
    finished = toolkit("inspect", REFERENCE, "--json")
    assert finished.code == 0, finished.err
    int8, float32, keras = json.loads(finished.out)["files"]
    assert (int8["saturation"]["can_saturate"], len(int8["saturation"]["layers"])) == (False, 3)
    assert (float32["saturation"]["can_saturate"], float32["saturation"]["layers"]) == (False, [])
    assert "saturation" not in keras


def test_inspect_names_the_layers_of_any_file(fashion_mnist: FashionMnist, tmp_path: Path) -> None:
    _export(fashion_mnist, tmp_path / "plain.onnx", portable=False)
    finished = toolkit("inspect", tmp_path / "plain.onnx")
    assert finished.code == 0, finished.err
    for name in ("hidden_1/kernel", "hidden_2/kernel", "output/kernel", "can saturate", "by "):
        assert name in finished.out
    assert toolkit("inspect", tmp_path / "nothing.onnx").code == 3


def _conv(weights: NDArray[Any], operator: str) -> onnx.ModelProto:
    """A model of one layer; only its form matters here."""
    inputs = {
        "ConvInteger": ["x", "w"],
        "MatMulInteger": ["x", "w"],
        "QLinearConv": ["x", "s", "z", "w", "s", "zw", "s", "z"],
        "QLinearMatMul": ["x", "s", "z", "w", "s", "zw", "s", "z"],
    }[operator]
    tensors = {"w": weights, "s": np.float32(1), "z": np.uint8(0), "zw": weights.dtype.type(0)}
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, ["y"])],
        "one layer",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, None)],
        [helper.make_tensor_value_info("y", TensorProto.INT32, None)],
        [numpy_helper.from_array(np.asarray(tensors[name]), name) for name in tensors if name in inputs],
    )
    return helper.make_model(graph)


def test_files_of_others_are_read_in_their_integer_forms() -> None:
    matrix = np.array([[100, 1], [2, 3], [100, -100]], np.int8)
    for operator in ("MatMulInteger", "QLinearMatMul"):
        (layer,) = layer_loads(_conv(matrix, operator))
        assert (layer.load, layer.can_saturate) == (102, False)  # the two hundreds are no neighbours
        (layer,) = layer_loads(_conv(matrix.view(np.uint8), operator))
        assert not layer.can_saturate
    kernel = np.array([100, 1, 100, 2, 5, 5, 5, 5], np.int8).reshape(2, 2, 2, 1)
    for operator in ("ConvInteger", "QLinearConv"):
        (layer,) = layer_loads(_conv(kernel, operator))
        assert (layer.load, layer.can_saturate) == (200, True)  # two channels at one position of the kernel
    depthwise = np.full((2, 1, 2, 1), 100, np.int8)
    loads = {}
    for operator in ("ConvInteger", "QLinearConv"):
        model = _conv(depthwise, operator)
        model.graph.node[0].attribute.append(helper.make_attribute("group", 2))
        (loads[operator],) = layer_loads(model)
    assert (loads["QLinearConv"].load, loads["QLinearConv"].can_saturate) == (100, False)
    assert loads["ConvInteger"].can_saturate


@pytest.mark.parametrize("form", ["plain", "quantized in the graph", "constant node", "transposed", "reshaped input"])
def test_inspect_sees_through_every_form_of_a_layer(tmp_path: Path, form: str) -> None:
    weights = np.random.default_rng(0).integers(-127, 128, (64, 16)).astype(np.int8)
    tensors = {"s": np.float32(0.01), "zu": np.uint8(0), "zi": np.int8(0), "shape": np.array([-1, 64], np.int64)}
    stored = weights.T.copy() if form == "transposed" else weights
    node = helper.make_node
    nodes = [node("QuantizeLinear", ["x", "s", "zu"], ["xq"]), node("DequantizeLinear", ["xq", "s", "zu"], ["xd"])]
    match form:
        case "quantized in the graph":
            tensors["float"] = stored.astype(np.float32) * np.float32(0.01)
            nodes.append(node("QuantizeLinear", ["float", "s", "zi"], ["w"]))
        case "constant node":
            nodes.append(node("Constant", [], ["w"], value=numpy_helper.from_array(stored, "w")))
        case _:
            tensors["w"] = stored
    nodes.append(node("DequantizeLinear", ["w", "s", "zi"], ["wd"]))
    if form == "transposed":
        nodes.append(node("Transpose", ["wd"], ["wt"], perm=[1, 0]))
    if form == "reshaped input":
        nodes.append(node("Reshape", ["xd", "shape"], ["xr"]))
    nodes.append(
        node("MatMul", ["xr" if form == "reshaped input" else "xd", "wt" if form == "transposed" else "wd"], ["y"])
    )
    graph = helper.make_graph(
        nodes,
        "form",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 16])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7), tmp_path / "m.onnx")
    finished = toolkit("inspect", tmp_path / "m.onnx", "--json")
    assert finished.code == 0, finished.err
    (file,) = json.loads(finished.out)["files"]
    found = file["saturation"]
    assert found["can_saturate"] is True
    assert [layer["load"] for layer in found["layers"]] == [int(pair_load(weights).max())]
    assert found["unread"] == []


def test_inspect_refuses_what_is_no_model_in_one_line(tmp_path: Path) -> None:
    data = bytearray((REFERENCE / "model.int8.onnx").read_bytes())
    for at in range(20, 200, 9):
        broken = bytearray(data)
        broken[at] ^= 0x55
        (tmp_path / "m.onnx").write_bytes(broken)
        with contextlib.suppress(ToolkitError):  # anything else is a traceback to somebody
            Predictor(tmp_path / "m.onnx")
        with contextlib.suppress(ModelError):
            as_run(bytes(broken), "m.onnx")


def test_transposed_weights_are_paired_along_the_summed_dimension() -> None:
    matrix = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    for transposed in (0, 1):
        stored = matrix.T.copy() if transposed else matrix
        node = helper.make_node("Gemm", ["x", "w"], ["y"], transB=transposed)
        graph = helper.make_graph([node], "gemm", [], [], [numpy_helper.from_array(stored, "w")])
        entries = portable_overrides(helper.make_model(graph), per_channel=True)["w"]
        assert [entry["axis"] for entry in entries] == [0 if transposed else 1] * 4
        expected = portable_scale(matrix, per_channel=True)
        np.testing.assert_array_equal([entry["scale"] for entry in entries], expected)


def test_inspect_does_not_vouch_for_weights_that_it_cannot_see(tmp_path: Path) -> None:
    """Weights on the left, whose other side is computed: the runtime would pair the computed one."""
    left = np.random.default_rng(0).integers(0, 255, (4, 16)).astype(np.uint8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["w", "x"], ["y"])],
        "left",
        [helper.make_tensor_value_info("x", TensorProto.INT8, [16, "n"])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [4, "n"])],
        [numpy_helper.from_array(left, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7), tmp_path / "m.onnx")
    finished = toolkit("inspect", tmp_path / "m.onnx", "--json")
    assert finished.code == 0, finished.err
    (file,) = json.loads(finished.out)["files"]
    assert (file["saturation"]["can_saturate"], file["saturation"]["unread"]) == (None, ["y"])
    assert "nothing can saturate" not in toolkit("inspect", tmp_path / "m.onnx").out
