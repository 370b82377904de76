"""Which products x86 without VNNI adds in 16 bits, found out by running them on an emulated Haswell.

`toolkit.conversion.portable` rests on this; if a release of the runtime pairs otherwise, a test here goes red.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.emulated import machines_or_skip, nothing
from toolkit.conversion.portable import LIMIT
from toolkit.conversion.saturation import as_run, layer_loads, portable_overrides
from toolkit.emulation.run import Task, run_all, this_machine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

PIXELS = TensorProto.UINT8


def _on_haswell(models: dict[str, tuple[bytes, NDArray[np.uint8]]]) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """What each model answers here and on a Haswell."""
    tasks = [Task(name, model, {"x": x}, "runtime", len(x)) for name, (model, x) in models.items()]
    with machines_or_skip("haswell") as machines:
        here, there = run_all([this_machine(), *machines], tasks, nothing, "")
    return {name: (here.tasks[name]["y"], there.tasks[name]["y"]) for name in models}


def _quantized(
    operator: str, weights: NDArray[np.int8], scales: NDArray[np.float32], image: list[int], group: int = 1
) -> bytes:
    """A layer of int8 weights and uint8 input in QDQ form; Conv with an output in 8 bits, as the runtime wants it."""
    axis = 0 if operator == "Conv" else weights.ndim - 1
    tensors: dict[str, Any] = {"sx": np.float32(1), "zx": np.uint8(0), "w": weights, "sw": scales}
    tensors["zw"] = np.zeros(scales.shape, np.int8)
    node = helper.make_node
    nodes = [
        node("DequantizeLinear", ["x", "sx", "zx"], ["xd"]),
        node("DequantizeLinear", ["w", "sw", "zw"], ["wd"], axis=axis),
    ]
    if operator == "MatMul":
        nodes.append(node("MatMul", ["xd", "wd"], ["y"]))
    else:
        # 3e-3 of the largest sum: a clipped pair moves the output by many steps.
        largest = 255.0 * float(np.abs(weights.astype(np.int64)).reshape(len(weights), -1).sum(axis=1).max())
        tensors |= {"sy": np.float32(2 * largest * float(scales.max()) / 255), "zy": np.uint8(128)}
        nodes.append(node("Conv", ["xd", "wd"], ["yf"], group=group))
        nodes.append(node("QuantizeLinear", ["yf", "sy", "zy"], ["yq"]))
        nodes.append(node("DequantizeLinear", ["yq", "sy", "zy"], ["y"]))
    graph = helper.make_graph(
        nodes,
        operator,
        [helper.make_tensor_value_info("x", PIXELS, ["n", *image])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    data: bytes = model.SerializeToString()
    operators = {n.op_type for n in as_run(data, operator).graph.node}
    assert operators & {"MatMulIntegerToFloat", "QLinearConv"}, operators  # else nothing of this says anything
    return data


def _pairs(k: int) -> tuple[NDArray[np.int8], list[tuple[int, int]]]:
    """An output for every two of k weights, in which only these two are not zero, as (k, outputs)."""
    pairs = list(itertools.combinations(range(k), 2))
    weights = np.zeros((k, len(pairs)), np.int8)
    for output, pair in enumerate(pairs):
        weights[pair, output] = 127
    return weights, pairs


def _has_vnni() -> bool:
    from toolkit.benchmarking.host import describe_host

    return bool({"avx512_vnni", "avx_vnni"} & set(describe_host().cpu_features or ()))


needs_vnni = pytest.mark.skipif(not _has_vnni(), reason="this machine's own sums may saturate: nothing to compare with")


@needs_vnni
def test_neighbours_from_an_even_row_on_are_paired_in_a_matmul() -> None:
    models, expected = {}, {}
    for k, rows, per_channel in ((16, 1, False), (16, 4, True), (17, 4, False)):
        weights, pairs = _pairs(k)
        scales = np.ones(len(pairs) if per_channel else (), np.float32)
        name = f"{k} {rows}"
        models[name] = (_quantized("MatMul", weights, scales, [k]), np.full((rows, k), 255, np.uint8))
        expected[name] = ([(i, i + 1) for i in range(0, k - 1, 2)], pairs)
    for name, (here, there) in _on_haswell(models).items():
        neighbours, pairs = expected[name]
        assert [pairs[output] for output in np.flatnonzero((here != there).any(axis=0))] == neighbours


def _channels_last(channels: int, kernel: Sequence[int]) -> list[int]:
    """Indices of (channel, row, column), as weights are stored, in the order that the sum takes them."""
    return np.arange(channels * int(np.prod(kernel))).reshape(channels, -1).T.reshape(-1).tolist()


@pytest.mark.slow
@needs_vnni
def test_neighbours_with_channels_last_are_paired_in_a_conv_and_none_in_a_depthwise_one() -> None:
    models, expected = {}, {}
    for channels, *kernel in ((4, 2, 2), (1, 3, 3), (8, 1, 1), (3, 3, 1)):
        weights, pairs = _pairs(channels * int(np.prod(kernel)))
        name = f"{channels} {kernel}"
        image = [channels, kernel[0] + 2, kernel[1] + 2]
        stored = weights.T.reshape(len(pairs), channels, *kernel)
        models[name] = (_quantized("Conv", stored, np.ones((), np.float32), image), np.full((1, *image), 255, np.uint8))
        order = _channels_last(channels, kernel)
        expected[name] = ({tuple(sorted(order[i : i + 2])) for i in range(0, len(order) - 1, 2)}, pairs)
    weights, pairs = _pairs(9)
    stored = weights.T.reshape(len(pairs), 1, 3, 3)
    image = [len(pairs), 5, 5]
    depthwise = _quantized("Conv", stored, np.ones((), np.float32), image, group=len(pairs))
    models["depthwise"] = (depthwise, np.full((1, *image), 255, np.uint8))
    expected["depthwise"] = (set(), pairs)
    for name, (here, there) in _on_haswell(models).items():
        neighbours, pairs = expected[name]
        assert {pairs[output] for output in np.flatnonzero((here != there).any(axis=(0, 2, 3)))} == neighbours, name


@needs_vnni
@pytest.mark.parametrize("per_channel", [pytest.param(False, marks=pytest.mark.slow), True])
def test_convolutions_with_portable_scales_give_the_same_bits(per_channel: bool) -> None:
    """Random layers and inputs with many extremes; with the finest scales the same layers do saturate."""
    rng = np.random.default_rng(0)
    models = {}
    for name, shape, group in (("3x3", (16, 8, 3, 3), 1), ("1x1", (16, 32, 1, 1), 1), ("depthwise", (8, 1, 3, 3), 8)):
        real = rng.laplace(size=shape).astype(np.float32)
        channels = shape[1] * group
        float_node = helper.make_node("Conv", ["x", "w"], ["y"], group=group)
        graph = helper.make_graph([float_node], name, [], [], [numpy_helper.from_array(real, "w")])
        entries = portable_overrides(helper.make_model(graph), per_channel=per_channel)["w"]
        scales = {
            "portable": np.array([entry["scale"] for entry in entries], np.float32),
            "plain": np.abs(real).reshape(len(real), -1).max(axis=1).astype(np.float32) / np.float32(127),
        }
        if not per_channel:
            scales = {"portable": scales["portable"][0], "plain": scales["plain"].max()}
        x = rng.choice(np.array([0, 255, 255, 255, 128], np.uint8), size=(4, channels, 8, 8))
        for form, scale in scales.items():
            shaped = scale.reshape(-1, 1, 1, 1) if per_channel else scale
            stored = np.clip(np.rint(real / shaped), -127, 127).astype(np.int8)
            data = _quantized("Conv", stored, scale, [channels, 8, 8], group)
            models[f"{name} {form}"] = (data, x)
            (layer,) = layer_loads(onnx.load_from_string(data))
            assert (layer.load <= LIMIT) == (form == "portable" or name == "depthwise")
    differ = {name: int((here != there).sum()) for name, (here, there) in _on_haswell(models).items()}
    assert {
        name: count for name, count in differ.items() if "portable" in name or "depthwise" in name
    } == dict.fromkeys(["3x3 portable", "1x1 portable", "depthwise portable", "depthwise plain"], 0)
    assert differ["3x3 plain"] > 0
    assert differ["1x1 plain"] > 0
