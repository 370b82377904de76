"""Error by layer: the figures by hand and against the runtime's own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, qdq_loss_debug, quantize_static

from tests import breaking
from tests.conftest import REFERENCE
from toolkit.conversion.layer_activations import LayerProbe
from toolkit.conversion.quantize import quantize
from toolkit.conversion.recipe import QuantizationRecipe
from toolkit.errors import ModelError
from toolkit.progress import silent_step
from toolkit.verification.layers import LayerReport, diagnose
from toolkit.verification.noise import BEST_DB, InputRange, NoiseRatio

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from toolkit.data import FashionMnist

LAYERS = ["flatten", "hidden_1", "dropout_1", "hidden_2", "dropout_2", "output"]


# The figures, by hand.


def test_noise_ratio_by_hand() -> None:
    ratio = NoiseRatio()
    ratio.add(np.array([3.0]), np.array([3.0]))
    ratio.add(np.array([4.0, 0.0]), np.array([4.4, 0.3]))
    assert ratio.db == pytest.approx(20.0)  # 25 against 0.16 + 0.09


def test_noise_ratio_is_that_of_the_runtime() -> None:
    rng = np.random.default_rng(0)
    exact = rng.normal(size=(50, 7)).astype(np.float32)
    rounded = exact + rng.normal(size=exact.shape).astype(np.float32) / 100
    ratio = NoiseRatio()
    for i in range(0, 50, 9):
        ratio.add(exact[i : i + 9], rounded[i : i + 9])
    assert ratio.db == pytest.approx(qdq_loss_debug.compute_signal_to_quantization_noice_ratio(exact, rounded), 1e-4)


@pytest.mark.parametrize(
    ("exact", "quantized", "db"), [(2.0, 2.0, BEST_DB), (0.0, 0.0, BEST_DB), (0.0, 1.0, -BEST_DB), (1.0, 2.0, 0.0)]
)
def test_no_ratio_is_infinite(exact: float, quantized: float, db: float) -> None:
    ratio = NoiseRatio()
    ratio.add(np.array([exact]), np.array([quantized]))
    assert ratio.db == db


def test_a_value_that_is_no_number_gives_no_ratio() -> None:
    ratio = NoiseRatio()
    ratio.add(np.array([1.0]), np.array([math.nan]))
    assert math.isnan(ratio.db)


def test_range_used_and_clipped_by_hand() -> None:
    span = InputRange(0.5, 100, "uint8")
    assert (span.low, span.high) == (-50, 77.5)
    # Units: one that stretches the range beyond its end, two that use a part, one that never changes.
    span.add(np.array([[100.0, 0.0, 1.0, 7.0], [77.7, 12.75, 1.2, 7.0]]))
    span.add(np.array([[-50.0, 6.0, 1.2, 7.0]]))
    assert span.used == pytest.approx(12.75 / 127.5)  # of 127.5, 12.75 and 0.2 the one in the middle
    assert span.clipped == 1 / 12  # 77.7 is within half a step of 77.5
    assert span.clipping == pytest.approx(22.5**2)
    assert span.rounding == pytest.approx(0.2**2 + 0.25**2 + 2 * 0.2**2)
    assert span.reach == (-50, 100)


def test_a_constant_input_uses_nothing() -> None:
    span = InputRange(1.0, 0, "int8")
    span.add(np.ones((5, 3)))
    assert (span.used, span.clipped, span.low, span.high) == (0, 0, -128, 127)


# The reference model.


def _int8(target: Path, data: FashionMnist, source: Path = REFERENCE / "model.onnx", **recipe: Any) -> bytes:
    calibration = [{"image": data.train_images[:1000]}]
    chosen = QuantizationRecipe(**recipe)
    quantize(source, target, chosen, calibration, layers=LAYERS)
    return target.read_bytes()


def _probe(int8: bytes, source: Path = REFERENCE / "model.onnx") -> LayerProbe:
    return LayerProbe(source.read_bytes(), int8, LAYERS)


def _report(probe: LayerProbe, images: NDArray[Any]) -> LayerReport:
    return diagnose(probe, {"image": images}, silent_step)


@pytest.mark.parametrize("method", ["static", "dynamic"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_plain_scales_err_less_than_portable_ones_in_every_layer(
    fashion_mnist: FashionMnist, tmp_path: Path, method: str, per_channel: bool
) -> None:
    images = fashion_mnist.test_images[:100]
    found = {}
    for portable in (True, False):
        int8 = _int8(tmp_path / "m.onnx", fashion_mnist, method=method, per_channel=per_channel, portable=portable)
        report = _report(_probe(int8), images)
        assert report.unknown is None
        found[portable] = {layer.layer: layer for layer in report.layers}
        assert set(found[portable]) == {"hidden_1", "hidden_2", "output"}
        assert [layer.own_sqnr_db for layer in report.layers] == sorted(layer.own_sqnr_db for layer in report.layers)
        assert report.output_sqnr_db is not None
        assert 30 < report.output_sqnr_db < min(layer.own_sqnr_db for layer in report.layers)
        for layer in report.layers:
            # Static scales are fixed, so what fits is known; dynamic ones are taken from each image.
            assert (layer.range_used is None) == (layer.clipped is None) == (method == "dynamic")
    for name, plain in found[False].items():
        portable_layer = found[True][name]
        assert plain.own_weights_db is not None
        assert portable_layer.own_weights_db is not None
        assert plain.own_weights_db > portable_layer.own_weights_db
        assert plain.saturation_load is not None
        assert portable_layer.saturation_load is not None
        assert portable_layer.saturation_load <= 128 < plain.saturation_load
    if method == "static":  # raw pixels are their own quantized form
        assert found[True]["hidden_1"].own_input_db == BEST_DB


def test_figures_are_those_of_the_runtime_where_it_has_some(fashion_mnist: FashionMnist, tmp_path: Path) -> None:
    int8 = _int8(tmp_path / "m.onnx", fashion_mnist)
    pairs = qdq_loss_debug.create_weight_matching(str(REFERENCE / "model.onnx"), str(tmp_path / "m.onnx"))
    expected = qdq_loss_debug.compute_weight_error(pairs)
    for layer in _report(_probe(int8), fashion_mnist.test_images[:50]).layers:
        assert layer.weight_sqnr_db == pytest.approx(expected[f"{layer.layer}/kernel"], 1e-4)


@pytest.mark.parametrize("per_channel", [False, True])
def test_all_layers_switched_on_are_the_int8_file(
    fashion_mnist: FashionMnist, tmp_path: Path, per_channel: bool
) -> None:
    probe = _probe(_int8(tmp_path / "m.onnx", fashion_mnist, per_channel=per_channel))
    feeds = {"image": fashion_mnist.test_images[:200]}
    (exact,), (found,) = probe.answers(feeds), probe.int8_tensors(feeds)[1]
    (switched,) = probe.answers(feeds, inputs=range(3), weights=range(3))
    np.testing.assert_allclose(switched, found, rtol=0, atol=1e-4)
    assert np.abs(exact - found).max() > 0.01


def test_memory_does_not_grow_with_the_images(fashion_mnist: FashionMnist, tmp_path: Path) -> None:
    probe = _probe(_int8(tmp_path / "m.onnx", fashion_mnist))
    largest: list[int] = []
    inner = probe.answers

    def watched(feeds: dict[str, Any], **switches: Any) -> list[NDArray[np.float32]]:
        largest.append(len(feeds["image"]))
        return inner(feeds, **switches)

    probe.answers = watched  # type: ignore[method-assign,assignment]  # the test looks on
    _report(probe, fashion_mnist.test_images[:2000])
    assert max(largest) <= 250


def test_keras_names_with_a_common_beginning_are_told_apart() -> None:
    from toolkit.conversion.layer_activations import _keras_layer

    names = ["dense", "dense_1", "block", "block/inner"]
    assert _keras_layer("dense_1/kernel", names) == "dense_1"
    assert _keras_layer("block/inner/kernel", names) == "block/inner"
    assert _keras_layer("unknown/kernel", names) == "unknown"


# Any graph: convolutions, a residual, two inputs.


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is untyped
    def __init__(self, batches: list[dict[str, NDArray[Any]]]) -> None:
        self._left = iter(batches)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._left, None)


def _residual(poison: str) -> onnx.ModelProto:
    rng = np.random.default_rng(1)
    shapes = {"stem": (8, 3, 3, 3), "left": (8, 8, 3, 3), "right": (8, 8, 1, 1)}
    weights = {f"{name}/kernel": rng.normal(size=shape).astype(np.float32) / 5 for name, shape in shapes.items()}
    weights["head/kernel"] = rng.normal(size=(10, 5)).astype(np.float32)
    if poison:
        weights[f"{poison}/kernel"].reshape(-1)[0] = 60
    node = helper.make_node
    nodes = [
        node("Conv", ["picture", "stem/kernel"], ["stem/convolution"], pads=[1, 1, 1, 1]),
        node("Relu", ["stem/convolution"], ["stem/Relu"]),
        node("Conv", ["stem/Relu", "left/kernel"], ["left/convolution"], pads=[1, 1, 1, 1]),
        node("Conv", ["stem/Relu", "right/kernel"], ["right/convolution"]),
        node("Add", ["left/convolution", "right/convolution"], ["sum/add"]),
        node("Relu", ["sum/add"], ["sum/Relu"]),
        node("GlobalAveragePool", ["sum/Relu"], ["pool/mean"]),
        node("Flatten", ["pool/mean"], ["pool/flat"]),
        node("Concat", ["pool/flat", "facts"], ["both/concat"], axis=1),
        node("MatMul", ["both/concat", "head/kernel"], ["head/MatMul"]),
        node("Softmax", ["head/MatMul"], ["answer"]),
    ]
    graph = helper.make_graph(
        nodes,
        "residual",
        [
            helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["batch", 3, 8, 8]),
            helper.make_tensor_value_info("facts", TensorProto.FLOAT, ["batch", 2]),
        ],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["batch", 5])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("poison", ["", "stem", "left", "right"])
def test_convolutions_residuals_and_several_inputs(tmp_path: Path, poison: str, per_channel: bool) -> None:
    model = _residual(poison)
    onnx.save(model, tmp_path / "float.onnx")
    rng = np.random.default_rng(2)
    feeds = {"picture": rng.random((300, 3, 8, 8), np.float32), "facts": rng.random((300, 2), np.float32)}
    feeds["picture"][:, 0] = 0  # so a huge weight there changes nothing that the stem answers
    quantize_static(
        tmp_path / "float.onnx",
        tmp_path / "int8.onnx",
        _Reader([feeds]),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=per_channel,
    )
    names = ["stem", "left", "right", "sum", "pool", "both", "head"]
    probe = LayerProbe((tmp_path / "float.onnx").read_bytes(), (tmp_path / "int8.onnx").read_bytes(), names)
    report = diagnose(probe, feeds, silent_step)
    found = [layer.layer for layer in report.layers]
    assert {"stem", "left", "right", "sum", "head"} <= set(found)
    if poison and not per_channel:
        assert found[0] == poison
        assert report.layers[0].cause == "weights"
        assert report.advice == f"--per-channel, or --keep-float {poison}"


def _two_answers(poison: str) -> onnx.ModelProto:
    """A trunk, a head of values in the ten thousands, and one of classes."""
    rng = np.random.default_rng(6)
    weights = {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in (("trunk", (6, 8)), ("height", (8, 3)), ("kind", (8, 4)))
    }
    weights["height"] *= 10_000
    weights["trunk"][:, 0] = -1  # a unit that never fires, so that nobody hears of a huge weight behind it
    if poison:
        weights[poison][0, 1] *= 300
    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "trunk/kernel"], ["trunk/MatMul"]),
        node("Relu", ["trunk/MatMul"], ["trunk/Relu"]),
        node("MatMul", ["trunk/Relu", "height/kernel"], ["height"]),
        node("MatMul", ["trunk/Relu", "kind/kernel"], ["kind/MatMul"]),
        node("Softmax", ["kind/MatMul"], ["kind"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "two",
        [value("x", TensorProto.FLOAT, ["batch", 6])],
        [value("height", TensorProto.FLOAT, ["batch", 3]), value("kind", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(array, f"{name}/kernel") for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


@pytest.mark.parametrize("poison", ["trunk", "height", "kind"])
def test_several_answers_each_count(tmp_path: Path, poison: str) -> None:
    onnx.save(_two_answers(poison), tmp_path / "float.onnx")
    feeds = {"x": np.random.default_rng(7).random((300, 6), np.float32)}
    if poison == "trunk":
        feeds["x"][:, 0] = 0  # the same in front of it
    quantize_static(
        tmp_path / "float.onnx", tmp_path / "int8.onnx", _Reader([feeds]), activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )  # fmt: skip
    probe = LayerProbe((tmp_path / "float.onnx").read_bytes(), (tmp_path / "int8.onnx").read_bytes(), [])
    report = diagnose(probe, feeds, silent_step, tasks=["values", "classification"])
    assert {layer.layer for layer in report.layers} == {"trunk", "height", "kind"}
    assert report.layers[0].layer == poison
    by_name = {layer.layer: layer for layer in report.layers}
    assert by_name["height"].own_labels_changed == 0
    # Of values alone no label is spoken.
    values = diagnose(probe, feeds, silent_step, tasks=["values", "values"])
    assert {layer.own_labels_changed for layer in values.layers} == {None}
    # Only what failed counts.
    alone = diagnose(probe, feeds, silent_step, tasks=["values", None])
    assert {layer.layer: layer.own_sqnr_db for layer in alone.layers}["kind"] == BEST_DB
    assert alone.layers[0].layer == (poison if poison != "kind" else alone.layers[0].layer) != "kind"
    # The large values' signal does not drown the classes' noise.
    assert by_name["kind"].own_sqnr_db < 60


def test_a_fixed_batch_is_filled_and_the_rest_left_out(tmp_path: Path) -> None:
    model = _residual("")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 8
    onnx.save(model, tmp_path / "float.onnx")
    rng = np.random.default_rng(2)
    feeds = {"picture": rng.random((30, 3, 8, 8), np.float32), "facts": rng.random((30, 2), np.float32)}
    quantize_static(
        tmp_path / "float.onnx", tmp_path / "int8.onnx", _Reader([{name: a[:8] for name, a in feeds.items()}]),
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    probe = LayerProbe((tmp_path / "float.onnx").read_bytes(), (tmp_path / "int8.onnx").read_bytes(), [])
    report = diagnose(probe, feeds, silent_step, tasks=["classification"], batch=8)
    assert report.images == 24
    with pytest.raises(ValueError, match="takes 8 rows at a time"):
        diagnose(probe, {name: a[:7] for name, a in feeds.items()}, silent_step, batch=8)


def test_no_error_leaves_the_diagnosis(
    fashion_mnist: FashionMnist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolkit import artifact, diagnosis

    def fails(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("toolkit.conversion.layer_activations.LayerProbe", fails)
    folder = breaking.copy_of(REFERENCE, tmp_path)
    rows = {"image": fashion_mnist.test_images}
    report = diagnosis.error_by_layer(folder, LAYERS, artifact.load_manifest(folder), rows, silent_step)
    assert (report.unknown, report.layers) == ("MemoryError", [])


def test_values_that_are_no_numbers_are_refused(fashion_mnist: FashionMnist, tmp_path: Path) -> None:
    folder = breaking.copy_of(REFERENCE, tmp_path)
    breaking.edit(folder, "model.onnx", breaking.put_nan)
    probe = _probe((folder / "model.int8.onnx").read_bytes(), folder / "model.onnx")
    with pytest.raises(ValueError, match="no numbers"):
        _report(probe, fashion_mnist.test_images[:10])


def test_files_that_do_not_belong_together_are_refused(fashion_mnist: FashionMnist, tmp_path: Path) -> None:
    int8 = _int8(tmp_path / "m.onnx", fashion_mnist)
    onnx.save(_residual(""), tmp_path / "other.onnx")
    with pytest.raises(ModelError, match="has no tensor"):
        LayerProbe((tmp_path / "other.onnx").read_bytes(), int8, LAYERS)
    with pytest.raises(ModelError, match="no layer whose 8-bit inputs are understood"):
        LayerProbe(int8, (tmp_path / "other.onnx").read_bytes(), LAYERS)
