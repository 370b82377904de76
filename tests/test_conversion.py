"""What is exported: contract, names, versions, sizes, and how the runtime fuses it."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from tests.conftest import REFERENCE, toolkit
from tests.exporting import PIXEL_CLASSES, PIXELS, answers_to, export_model
from toolkit.conversion.recipe import QuantizationRecipe
from toolkit.data import CLASS_NAMES
from toolkit.errors import ModelError
from toolkit.keras_model import import_keras, load_keras
from toolkit.predictor import Predictor

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.data import FashionMnist

FLOAT32 = REFERENCE / "model.onnx"


@pytest.fixture(params=["reference", "trained"])
def artifact(request: pytest.FixtureRequest) -> Path:
    """The committed artifact, and one that today's code has just made."""
    if request.param == "reference":
        return REFERENCE
    made: Path = request.getfixturevalue("trained")
    return made


@pytest.fixture(scope="module")
def keras_model() -> Any:
    return load_keras(REFERENCE / "model.keras")


def _export(model: Any, path: Path, input_dtype: str = "uint8") -> Path:
    export_model(model, path, PIXELS if input_dtype == "uint8" else None, PIXEL_CLASSES)
    return path


def _keras_probabilities(model: Any, images: np.ndarray) -> np.ndarray:
    (probabilities,) = answers_to(model, {"image": images}, PIXELS).values()
    return probabilities


def _quantize(source: Path, target: Path, calibration: np.ndarray, **recipe: Any) -> Any:
    from toolkit.conversion.quantize import quantize

    batches = ({"image": calibration[i : i + 100]} for i in range(0, max(len(calibration), 1), 100))
    return quantize(source, target, QuantizationRecipe(**recipe), batches)


@pytest.mark.parametrize("name", ["model.onnx", "model.int8.onnx"])
def test_the_contract_of_the_exported_files(artifact: Path, name: str) -> None:
    model = onnx.load(artifact / name)
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 13}
    assert model.ir_version == 7
    assert {node.domain for node in model.graph.node} == {""}
    (given,), (answer,) = model.graph.input, model.graph.output
    assert (given.name, given.type.tensor_type.elem_type) == ("image", onnx.TensorProto.UINT8)
    assert (answer.name, answer.type.tensor_type.elem_type) == ("probabilities", onnx.TensorProto.FLOAT)
    shapes = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in (given, answer)]
    assert shapes == [["batch", 28, 28], ["batch", 10]]
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(facts["toolkit.class_names"]) == list(CLASS_NAMES)
    assert json.loads(facts["toolkit.contract"])["inputs"] == [{"name": "image", "dtype": "uint8", "range": [0, 255]}]
    manifest = json.loads((artifact / "manifest.json").read_text())
    assert facts["toolkit.source_sha256"] == manifest["files"]["model.keras"]["sha256"]
    assert (manifest["files"][name]["opset"], manifest["files"][name]["ir_version"]) == (13, 7)


def test_int8_is_at_most_026_of_float32(artifact: Path) -> None:
    assert (artifact / "model.int8.onnx").stat().st_size <= 0.26 * (artifact / "model.onnx").stat().st_size


def test_nothing_quantizes_the_input_or_the_output(artifact: Path) -> None:
    graph = onnx.load(artifact / "model.int8.onnx").graph
    quantizers = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    assert [node.input[0] for node in quantizers] == ["hidden_1/Relu", "hidden_2/Relu"]
    (softmax,) = [node for node in graph.node if node.op_type == "Softmax"]
    (last,) = [node for node in graph.node if softmax.input[0] in node.output]
    assert last.op_type == "Gemm"
    assert not {"Cast", "Mul"} & {node.op_type for node in graph.node}


def _optimized(path: Path, tmp_path: Path) -> Counter[str]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)


def test_the_runtime_fuses_int8_to_three_qgemm(artifact: Path, tmp_path: Path) -> None:
    assert _optimized(artifact / "model.int8.onnx", tmp_path) == {"Reshape": 1, "QGemm": 3, "Softmax": 1}


def test_tensors_are_named_after_the_keras_layers(artifact: Path) -> None:
    names = {t.name for t in onnx.load(artifact / "model.onnx").graph.initializer}
    assert {
        f"{layer}/{weight}" for layer in ("hidden_1", "hidden_2", "output") for weight in ("kernel", "bias")
    } <= names
    scales = json.loads((artifact / "manifest.json").read_text())["quantization"]["tensors"]
    assert scales["flatten/Reshape"] == {"dtype": "uint8", "scale": pytest.approx(1 / 255), "zero_point": 0}
    assert {"hidden_1/kernel", "hidden_1/Relu", "hidden_2/kernel", "hidden_2/Relu", "output/kernel"} <= set(scales)


def test_exporting_again_gives_the_same_bytes(keras_model: Any, tmp_path: Path, fashion_mnist: FashionMnist) -> None:
    first, again = _export(keras_model, tmp_path / "a.onnx"), _export(keras_model, tmp_path / "b.onnx")
    assert first.read_bytes() == again.read_bytes()
    images = fashion_mnist.train_images[:300]
    _quantize(first, tmp_path / "a.int8.onnx", images)
    _quantize(again, tmp_path / "b.int8.onnx", images)
    assert (tmp_path / "a.int8.onnx").read_bytes() == (tmp_path / "b.int8.onnx").read_bytes()


@pytest.mark.parametrize("input_dtype", ["uint8", "float32"])
@pytest.mark.parametrize("method", ["static", "dynamic"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_every_form_agrees_with_keras(
    keras_model: Any, fashion_mnist: FashionMnist, tmp_path: Path, input_dtype: str, method: str, per_channel: bool
) -> None:
    images = fashion_mnist.test_images[:1000]
    expected = _keras_probabilities(keras_model, images)
    given = images if input_dtype == "uint8" else images.astype("float32") / np.float32(255)
    train = fashion_mnist.train_images[:500]
    calibration = train if input_dtype == "uint8" else train.astype("float32") / np.float32(255)
    float32 = _export(keras_model, tmp_path / "model.onnx", input_dtype)
    np.testing.assert_allclose(Predictor(float32).predict_batch(given).probabilities, expected, rtol=0, atol=1e-5)
    result = _quantize(float32, tmp_path / "model.int8.onnx", calibration, method=method, per_channel=per_channel)
    assert result.tensors
    assert result.file.path.stat().st_size <= 0.27 * float32.stat().st_size
    labels = Predictor(result.file.path).predict_batch(given).labels
    assert (labels == expected.argmax(axis=1)).mean() >= 0.98


def test_every_pixel_value_survives_without_a_quantizer() -> None:
    """Why Cast, Mul and QuantizeLinear may be dropped: together they give each pixel value back as it was."""
    grey = np.arange(256, dtype=np.uint8)
    scaled = (grey.astype(np.float32) * np.float32(1 / 255)) / np.float32(1 / 255)
    np.testing.assert_array_equal(np.rint(scaled), grey)


def test_raw_pixels_and_scaled_pixels_quantize_to_the_same_answers(
    keras_model: Any, fashion_mnist: FashionMnist, tmp_path: Path
) -> None:
    """The file without a quantizer at its input against the one that has it; calibration sees x/255 computed twice."""
    train, images = fashion_mnist.train_images[:500], fashion_mnist.test_images[:1000]
    answers = []
    for input_dtype in ("uint8", "float32"):
        raw = input_dtype == "uint8"
        seen, asked = (x if raw else x.astype("float32") / np.float32(255) for x in (train, images))
        source = _export(keras_model, tmp_path / f"{input_dtype}.onnx", input_dtype)
        target = tmp_path / f"{input_dtype}.int8.onnx"
        tensors = _quantize(source, target, seen).tensors
        answers.append((Predictor(target).predict_batch(asked).labels, sorted(tensors)))
    assert answers[0][1] == answers[1][1]
    assert (answers[0][0] == answers[1][0]).mean() >= 0.999


def test_layers_without_bias_are_quantized_too(fashion_mnist: FashionMnist, tmp_path: Path) -> None:
    keras = import_keras()
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Input((28, 28), name="image"), keras.layers.Flatten()]
    layers += [keras.layers.Dense(16, activation="relu", use_bias=False), keras.layers.Dense(10, activation="softmax")]
    model = keras.Sequential(layers)
    float32 = _export(model, tmp_path / "model.onnx")
    result = _quantize(float32, tmp_path / "model.int8.onnx", fashion_mnist.train_images[:200])
    assert not {"Cast", "Mul"} & set(result.file.operators)
    images = fashion_mnist.test_images[:500]
    expected = _keras_probabilities(model, images).argmax(axis=1)
    assert (Predictor(result.file.path).predict_batch(images).labels == expected).mean() >= 0.95


@pytest.mark.slow
def test_a_model_of_another_shape_needs_rows_of_its_own(tmp_path: Path) -> None:
    """Nothing is known of its inputs, so no data is made up for its ranges."""
    keras = import_keras()
    model = keras.Sequential([keras.layers.Input((640,), name="x"), keras.layers.Dense(10, activation="softmax")])
    model.save(tmp_path / "other.keras")
    out = tmp_path / "out"
    refused = toolkit("export", tmp_path / "other.keras", "--quantize", "-o", out)
    assert refused.code == 2
    assert "static int8 takes the ranges of activations from data, and none was given: give --calibration FILE" in (
        refused.error_line
    )
    assert not out.exists()
    np.savez(tmp_path / "rows.npz", x=np.random.default_rng(0).random((64, 640), np.float32))
    rows = ("--calibration", tmp_path / "rows.npz", "--test", tmp_path / "rows.npz")
    finished = toolkit("export", tmp_path / "other.keras", "--quantize", *rows, "-o", out)
    assert finished.code == 0, finished.err
    assert Predictor(out).predict_batch({"x": np.zeros((3, 640), np.float32)}).labels is not None


def test_nan_weights_are_refused(keras_model: Any, tmp_path: Path) -> None:
    keras = import_keras()
    broken = keras.models.clone_model(keras_model)
    weights = keras_model.get_weights()
    weights[0] = weights[0].copy()
    weights[0][0, 0] = np.nan
    broken.set_weights(weights)
    with pytest.raises(ModelError, match="hidden_1/kernel holds NaN"):
        _export(broken, tmp_path / "model.onnx")
