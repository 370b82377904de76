"""Raw integers at a file's input: what scales them goes into the first quantization, or stays exact in float."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.conftest import toolkit
from tests.exporting import answers_to, export_model
from toolkit.conversion import quantize as quantizing
from toolkit.conversion.contract import Scaling
from toolkit.conversion.edits import raw_form, take_raw_input
from toolkit.conversion.recipe import QuantizationRecipe
from toolkit.datasets import Rows
from toolkit.errors import DataError, UsageError
from toolkit.keras_model import import_keras
from toolkit.keras_model.source import from_keras
from toolkit.pipeline import OwnData, RawInput, gather
from toolkit.predictor import Predictor
from toolkit.progress import silent_note, silent_step

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

ALL = np.arange(256, dtype=np.uint8)


@pytest.mark.parametrize(
    ("scaling", "zero_point"),
    [
        (Scaling("uint8", 1 / 255, 0.0), 0),
        (Scaling("uint8", 1.0, 0.0), 0),
        (Scaling("uint8", 1 / 128, -1.0), 128),
        (Scaling("uint8", float(np.float32(1 / 255)), float(np.float32(-51 / 255))), 51),
        (Scaling("uint8", 2 / 255, -2.0), 255),
        (Scaling("uint8", -1 / 255, 1.0), 255),
        (Scaling("uint8", 1 / 127.5, -1.0), None),  # 127.5
        (Scaling("uint8", 1 / 255, -0.5), None),
        (Scaling("uint8", 1 / 255, 1.0), None),  # -255 is no uint8
        (Scaling("uint8", 1 / 255, -2.0), None),  # nor is 510
        (Scaling("int8", 1 / 128, 0.0), 0),
        (Scaling("int8", 1 / 128, 1.0), -128),
        (Scaling("int8", 1 / 128, -1.0), None),  # 128 is no int8
    ],
)
def test_the_raw_value_that_stands_for_zero(scaling: Scaling, zero_point: int | None) -> None:
    assert scaling.zero_point == zero_point


# Graphs written by hand: an input, what is done to it, and what takes it.


def _graph(
    steps: list[tuple[str, Any]], tail: list[onnx.NodeProto], constants: dict[str, Any], *, dtype: str = "uint8"
) -> onnx.ModelProto:
    """Steps in front of "t" (an operator and its constant or attributes each), and what comes behind it."""
    nodes, last, kept = [], "x", dict(constants)
    for number, (operator, what) in enumerate(steps):
        out = "t" if number == len(steps) - 1 else f"s{number}"
        inputs, attributes = [last], {}
        if isinstance(what, dict):
            attributes = what
        else:
            inputs.append(f"c{number}")
            kept[f"c{number}"] = what
        nodes.append(helper.make_node(operator, inputs, [out], name=out, **attributes))
        last = out
    onnx_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [*nodes, *tail],
        "raw",
        [helper.make_tensor_value_info("x", onnx_type, ["batch", 2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "n"])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in kept.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


def _f32(value: float) -> NDArray[np.float32]:
    return np.array(value, np.float32)


CAST = ("Cast", {"to": TensorProto.FLOAT})
FLAT = ("Reshape", np.array([-1, 6], np.int64))


@pytest.mark.parametrize(
    ("steps", "scale", "offset", "views"),
    [
        ([CAST], 1, 0, []),
        ([CAST, ("Mul", _f32(0.5))], 0.5, 0, []),
        ([CAST, ("Mul", _f32(0.5)), ("Add", _f32(-3)), FLAT], 0.5, -3, ["Reshape"]),
        ([CAST, ("Div", _f32(4)), ("Sub", _f32(3))], 0.25, -3, []),
        # Later factors apply to what was added before them.
        ([CAST, ("Add", _f32(-8)), ("Mul", _f32(0.5)), ("Add", _f32(1))], 0.5, -3, []),
        (
            [("Transpose", {"perm": [0, 2, 1]}), CAST, ("Mul", _f32([[[2]]])), ("Flatten", {"axis": 1})],  # type: ignore[arg-type]  # a constant of one number in any shape
            2,
            0,
            ["Flatten", "Transpose"],
        ),
    ],
)
def test_a_scaled_input_is_seen_through_its_steps(
    steps: list[tuple[str, Any]], scale: float, offset: float, views: list[str]
) -> None:
    model = _graph(steps, [helper.make_node("Relu", ["t"], ["y"])], {})
    raw = raw_form(model, "t")
    assert raw is not None
    assert (raw.input, raw.scaling) == ("x", Scaling("uint8", scale, offset))
    assert [node.op_type for node in raw.views] == views


@pytest.mark.parametrize(
    "steps",
    [
        [CAST, ("Mul", np.array([1, 2, 3], np.float32))],  # a scale a channel
        [CAST, ("Relu", {})],
        [CAST, ("Mul", _f32(0.5)), ("Clip", _f32(0))],
        [("Cast", {"to": TensorProto.INT32}), CAST],
    ],
)
def test_what_is_more_than_scaled_is_no_raw_input(steps: list[tuple[str, Any]]) -> None:
    assert raw_form(_graph(steps, [helper.make_node("Relu", ["t"], ["y"])], {}), "t") is None


def test_a_float_input_is_no_raw_input() -> None:
    tail = [helper.make_node("Relu", ["t"], ["y"])]
    assert raw_form(_graph([("Mul", _f32(0.5))], tail, {}, dtype="float32"), "t") is None
    assert raw_form(_graph([CAST], tail, {}, dtype="int32"), "t") is None


def _int8_layer(steps: list[tuple[str, Any]], scale: float, zero_point: int, seed: int) -> onnx.ModelProto:
    """A dense layer in 8 bits behind some steps, as the quantizer writes it."""
    node, random = helper.make_node, np.random.default_rng(seed)
    tail = [
        node("QuantizeLinear", ["t", "scale", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        node("DequantizeLinear", ["w", "ws", "wz"], ["wd"]),
        node("MatMul", ["d", "wd"], ["y"]),
    ]
    weights = random.integers(-64, 65, (6, 5)).astype(np.int8)
    constants = {"scale": _f32(scale), "zero": np.uint8(zero_point), "w": weights, "ws": _f32(0.01), "wz": np.int8(0)}
    return _graph([*steps, FLAT], tail, constants)


def _run(model: onnx.ModelProto | Path, rows: NDArray[Any]) -> NDArray[np.float32]:
    opened = model if not isinstance(model, onnx.ModelProto) else model.SerializeToString()
    session = ort.InferenceSession(opened, providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {session.get_inputs()[0].name: rows})
    found: NDArray[np.float32] = answer
    return found


@given(
    st.floats(2.0**-20, 2.0**10, width=32),
    st.integers(0, 255),
    st.sampled_from(["multiply", "divide"]),
    st.integers(0, 2**31),
)
def test_dropping_the_scaling_changes_no_bit(scale: float, zero_point: int, way: str, seed: int) -> None:
    """Whatever the scale, for every raw value: its quantized form is the value itself."""
    offset = float(np.float32(-zero_point * np.float64(scale)))
    first = ("Mul", _f32(scale)) if way == "multiply" else ("Div", _f32(1 / scale))
    model = _int8_layer([CAST, first, ("Add", _f32(offset))], scale, zero_point, seed)
    raw = raw_form(model, "t")
    assert raw is not None
    wanted = raw.parameters
    assert wanted is not None
    assert int(wanted["zero_point"]) == zero_point
    # As the quantizer is told: with exactly the scale that follows from the graph.
    model = _int8_layer([CAST, first, ("Add", _f32(offset))], float(wanted["scale"]), zero_point, seed)
    rows = np.random.default_rng(seed).permutation(np.repeat(ALL, 6)).reshape(256, 2, 3)
    before = _run(model, rows)
    assert take_raw_input(model) == 1
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node if "x" in node.input] == ["Reshape"]
    assert not {"Cast", "Mul", "Div", "Add", "QuantizeLinear"} & {node.op_type for node in model.graph.node}
    assert _run(model, rows).tobytes() == before.tobytes()


@pytest.mark.parametrize(("scale", "zero_point"), [(0.5, 4), (0.25, 3), (0.26, 4)])
def test_another_quantization_than_the_inputs_own_stays(scale: float, zero_point: int) -> None:
    """The input's own is a quarter and 4."""
    model = _int8_layer([CAST, ("Mul", _f32(0.25)), ("Add", _f32(-1))], scale, zero_point, 0)
    before = model.SerializeToString()
    assert take_raw_input(model) == 0
    assert model.SerializeToString() == before


def test_who_needs_the_floats_still_gets_them() -> None:
    model = _int8_layer([CAST, ("Mul", _f32(0.25))], 0.25, 0, 0)
    (product,) = [node for node in model.graph.node if node.op_type == "MatMul"]
    product.output[0] = "p"
    model.graph.node.append(helper.make_node("ReduceMax", ["t"], ["top"], axes=[1], keepdims=1))
    model.graph.node.append(helper.make_node("Add", ["p", "top"], ["y"]))
    rows = np.repeat(ALL, 6).reshape(256, 2, 3)
    before = _run(model, rows)
    assert take_raw_input(model) == 1
    assert _run(model, rows).tobytes() == before.tobytes()
    assert sorted(node.op_type for node in model.graph.node if "x" in node.input) == ["Cast", "Reshape"]


# Keras models, exported and quantized.


def _dense(keras: Any) -> Any:
    layers = [keras.layers.Input((4, 6), name="x"), keras.layers.Flatten(), keras.layers.Dense(16, "relu")]
    return keras.Sequential([*layers, keras.layers.Dense(3, name="y")])


def _convolution(keras: Any) -> Any:
    layers = [keras.layers.Input((8, 8, 3), name="x"), keras.layers.Conv2D(6, 3, padding="same", activation="relu")]
    return keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, name="y")])


def _exported(
    build: Any, scaling: Scaling, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, NDArray[Any], Path, Path, Path]:
    """A model, raw rows, its float32 file, its int8 file, and the latter with its scaling left in."""
    keras = import_keras()
    keras.utils.set_random_seed(5)
    model = build(keras)
    limits = np.iinfo(scaling.dtype)
    shape = (400, *model.input_shape[1:])
    rows = np.random.default_rng(1).integers(limits.min, limits.max + 1, shape).astype(scaling.dtype)
    float32, int8, left = (folder / name for name in ("model.onnx", "model.int8.onnx", "left.int8.onnx"))
    export_model(model, float32, scaling)
    quantizing.quantize(float32, int8, QuantizationRecipe(), [{"x": rows}])
    monkeypatch.setattr(quantizing, "take_raw_input", lambda _: 0)
    quantizing.quantize(float32, left, QuantizationRecipe(), [{"x": rows}])
    return model, rows, float32, int8, left


def _at_the_input(path: Path) -> list[str]:
    """Operators from the input on that do more than give it another shape."""
    graph, reached, found = onnx.load(path).graph, {"x"}, []
    views = ("Reshape", "Transpose", "Cast", "Mul", "Add", "Sub", "Div", "QuantizeLinear")
    for node in graph.node:
        if node.input[0] in reached and node.op_type in views:
            reached |= {*node.output}
            found += [node.op_type] if node.op_type not in views[:2] else []
    return found


@pytest.mark.parametrize("build", [_dense, _convolution])
@pytest.mark.parametrize(
    ("scaling", "left", "stays"),
    [
        (Scaling("uint8", 1 / 255, 0.0), [], ["Cast", "Mul", "QuantizeLinear"]),
        (Scaling("uint8", 1.0, 0.0), [], ["Cast", "QuantizeLinear"]),
        (Scaling("uint8", 1 / 128, -1.0), [], ["Cast", "Mul", "Add", "QuantizeLinear"]),
        (Scaling("uint8", 1 / 127.5, -1.0), None, ["Cast", "Mul", "Add", "QuantizeLinear"]),
        (Scaling("int8", 1 / 128, 0.0), None, ["Cast", "Mul", "QuantizeLinear"]),
        (Scaling("int8", 1 / 64, 0.5), None, ["Cast", "Mul", "Add", "QuantizeLinear"]),
    ],
)
def test_raw_files_answer_as_keras_and_scale_at_no_cost_where_that_is_exact(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    build: Any,
    scaling: Scaling,
    left: list[str] | None,
    stays: list[str],
) -> None:
    """1/128 - 1 falls on the zero point 128; 1/127.5 - 1 would need 127.5, and int8 another dtype: these stay float."""
    model, rows, float32, int8, unfolded = _exported(build, scaling, tmp_path, monkeypatch)
    (keras,) = answers_to(model, {"x": rows}, scaling).values()
    exact = _run(float32, rows)
    np.testing.assert_allclose(exact, keras, rtol=0, atol=1e-5 * float(np.abs(keras).max()))
    assert _at_the_input(unfolded) == stays
    assert _at_the_input(int8) == (stays if left is None else left)
    # Not a bit is other than with the scaling in place.
    assert _run(int8, rows).tobytes() == _run(unfolded, rows).tobytes()
    assert 0 < np.abs(_run(int8, rows) - exact).max() < 0.05 * np.abs(exact).max()
    contract = {value.name: value.type.tensor_type.elem_type for value in onnx.load(int8).graph.input}
    assert contract == {"x": helper.np_dtype_to_tensor_dtype(np.dtype(scaling.dtype))}


def test_the_zero_point_is_in_the_first_layers_quantization(tmp_path: Path) -> None:
    model = _dense(import_keras())
    export_model(model, tmp_path / "m.onnx", Scaling("uint8", 1 / 128, -1.0))
    rows = np.random.default_rng(1).integers(100, 140, (300, 4, 6)).astype(np.uint8)  # a part of what can come
    tensors = quantizing.quantize(
        tmp_path / "m.onnx", tmp_path / "int8.onnx", QuantizationRecipe(), [{"x": rows}]
    ).tensors
    (first,) = [entry for entry in tensors.values() if entry["dtype"] == "uint8" and entry["zero_point"] == 128]
    assert first == {"dtype": "uint8", "scale": 1 / 128, "zero_point": 128}


# What a person says, and what the data show.


def _material(model: Any, rows: NDArray[Any], raw: RawInput | None = None) -> Any:
    own = OwnData(test=Rows({"x": rows}, {}, None, "rows.npz"))
    return gather(from_keras(model), own, raw or RawInput(), None, None, silent_note, silent_step)


def _rescaling(keras: Any) -> Any:
    layers = [keras.layers.Input((4, 6), name="x"), keras.layers.Rescaling(1 / 127.5, -1), keras.layers.Flatten()]
    return keras.Sequential([*layers, keras.layers.Dense(3, name="y")])


def test_a_model_that_scales_pixels_itself_takes_them_raw_if_the_rows_are_whole() -> None:
    model = _rescaling(import_keras())
    whole = np.random.default_rng(0).integers(0, 256, (30, 4, 6))
    for dtype in (np.uint8, np.float32):
        material = _material(model, whole.astype(dtype))
        assert [(given.dtype, given.scaling) for given in material.inputs] == [("uint8", Scaling("uint8", 1.0, 0.0))]
        assert material.test.inputs["x"].dtype == np.uint8
        np.testing.assert_array_equal(material.test.inputs["x"], whole)
    for odd in (whole + 0.5, whole - 100.0):
        material = _material(model, odd.astype(np.float32))
        assert [(given.dtype, given.scaling) for given in material.inputs] == [("float32", None)]
    material = _material(model, whole.astype(np.uint8), RawInput("float32"))
    assert [(given.dtype, given.scaling) for given in material.inputs] == [("float32", None)]
    assert material.test.inputs["x"].dtype == np.float32


def test_raw_rows_of_another_model_need_a_scale() -> None:
    model = _dense(import_keras())
    rows = np.random.default_rng(0).integers(0, 256, (30, 4, 6)).astype(np.uint8)
    with pytest.raises(UsageError, match="has uint8 for 'x', which takes float32: give --input-scale"):
        _material(model, rows)
    with pytest.raises(UsageError, match="--input uint8 needs to know what the model"):
        _material(model, rows, RawInput("uint8"))
    with pytest.raises(DataError, match=r"has float32 from 0 to 0\.996078 for 'x', expected raw values of uint8"):
        _material(model, np.linspace(0, 254 / 255, 24, dtype=np.float32).reshape(1, 4, 6), RawInput(None, 1 / 255))
    with pytest.raises(DataError, match="expected raw values of int8"):
        _material(model, rows, RawInput("int8", 1 / 128))
    for dtype in ("uint8", "int8"):
        material = _material(model, (rows // 2).astype(dtype), RawInput(dtype, 1 / 128, -1))
        assert [given.scaling for given in material.inputs] == [Scaling(dtype, 1 / 128, -1)]
        assert material.test.inputs["x"].dtype == dtype
    assert [given.scaling for given in _material(model, rows, RawInput(None, 1 / 255)).inputs] == [
        Scaling("uint8", 1 / 255, 0.0)
    ]


def test_the_command_folds_scale_and_offset(tmp_path: Path) -> None:
    keras = import_keras()
    keras.utils.set_random_seed(5)
    _dense(keras).save(tmp_path / "m.keras")
    rows = np.random.default_rng(1).integers(0, 256, (300, 4, 6)).astype(np.uint8)
    np.savez(tmp_path / "rows.npz", x=rows)
    given = ("--calibration", tmp_path / "rows.npz", "--test", tmp_path / "rows.npz")
    scaled = ("--input-scale", "1/128", "--input-offset", "-1")
    finished = toolkit("export", tmp_path / "m.keras", "--quantize", *given, *scaled, "-o", tmp_path / "out")
    assert finished.code == 0, finished.err
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["conversion"]["scaling"] == {"x": {"dtype": "uint8", "scale": 1 / 128, "offset": -1.0}}
    assert [(entry["dtype"], entry["range"]) for entry in manifest["inputs"]] == [("uint8", [0.0, 255.0])]
    assert _at_the_input(tmp_path / "out" / "model.int8.onnx") == []
    predictor = Predictor(tmp_path / "out")
    assert predictor.input_dtype == np.uint8
    assert np.isfinite(predictor.predict(rows[0]).outputs["output"]).all()
