"""What a quantization recipe may ask for, and what calibration makes of odd data."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.alike import LAYERS, alike_onnx
from tests.conftest import REFERENCE, Finished, toolkit
from tests.exporting import export_model
from toolkit.conversion.calibration import FEW_IMAGES, suspicions
from toolkit.conversion.portable import LIMIT
from toolkit.conversion.quantize import quantize
from toolkit.conversion.recipe import QuantizationRecipe
from toolkit.conversion.saturation import as_run, layer_loads
from toolkit.errors import InputError, ModelError, UsageError
from toolkit.keras_model import import_keras, load_keras
from toolkit.predictor import Predictor
from toolkit.training.rounding import in_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from toolkit.data import FashionMnist


def _quantize(target: Path, batches: Iterable[dict[str, Any]], **recipe: Any) -> Any:
    return quantize(REFERENCE / "model.onnx", target, QuantizationRecipe(**recipe), batches)


def _batches(data: FashionMnist) -> list[dict[str, Any]]:
    return [{"image": data.train_images[i : i + 100]} for i in range(0, 300, 100)]


def _in_four_bits(kernel: NDArray[np.float32], scales: Any) -> Any:  # noqa: ARG001 - blocks have their own
    return np.asarray(in_blocks(kernel))


def _in_seven_bits(kernel: NDArray[np.float32], scales: Any) -> Any:
    steps = np.abs(kernel).max(axis=0 if np.ndim(scales) else None) / 63
    return np.rint(kernel / steps) * steps


def _labels_with(change: Callable[..., Any], result: Any, images: NDArray[np.uint8], kept: str = "") -> Any:
    """Labels of the float32 network whose weights are rounded, all but those of a layer that is kept.

    How many of its labels a network keeps with coarse weights is its own affair, and another training's network keeps
    other ones. What the file may add to that is little: it computes with these very weights.
    """
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(REFERENCE / "model.onnx").graph.initializer}
    values = images.reshape(len(images), -1).astype(np.float32) / 255
    for layer in LAYERS:
        kernel = stored[f"{layer}/kernel"]
        if layer != kept:
            kernel = change(kernel, result.tensors[f"{layer}/kernel"].get("scale"))
        values = values @ kernel + stored[f"{layer}/bias"]
        values = values if layer == LAYERS[-1] else np.maximum(values, 0)
    return values.argmax(axis=1)


@pytest.mark.parametrize(
    ("recipe", "bytes_at_most", "agreement"),
    [
        ({"calibration": "entropy"}, 0.26, 0.99),
        ({"calibration": "percentile", "percentile": 99.9}, 0.26, 0.99),
        ({"portable": False, "reduce_range": True}, 0.26, 0.99),
        ({"method": "float16"}, 0.51, 0.999),
    ],
)
def test_every_method_agrees_with_float32(
    fashion_mnist: FashionMnist, tmp_path: Path, recipe: dict[str, Any], bytes_at_most: float, agreement: float
) -> None:
    result = _quantize(tmp_path / "model.onnx", _batches(fashion_mnist), **recipe)
    images = fashion_mnist.test_images[:2000]
    expected = Predictor(REFERENCE / "model.onnx").predict_batch(images).labels
    assert (Predictor(result.file.path).predict_batch(images).labels == expected).mean() >= agreement
    _check_size_and_layers(result, bytes_at_most)
    if recipe.get("reduce_range"):
        assert all(layer.load <= LIMIT for layer in layer_loads(onnx.load(result.file.path)))


@pytest.mark.parametrize(
    ("recipe", "change", "bytes_at_most", "agreement"),
    [
        ({"portable": False, "reduce_range": True, "method": "dynamic"}, _in_seven_bits, 0.26, 0.99),
        ({"method": "int4"}, _in_four_bits, 0.17, 0.995),
    ],
)
def test_coarse_weights_cost_what_their_rounding_does(
    fashion_mnist: FashionMnist,
    tmp_path: Path,
    recipe: dict[str, Any],
    change: Callable[..., Any],
    bytes_at_most: float,
    agreement: float,
) -> None:
    result = _quantize(tmp_path / "model.onnx", _batches(fashion_mnist), **recipe)
    images = fashion_mnist.test_images[:2000]
    labels = Predictor(result.file.path).predict_batch(images).labels
    assert (labels == _labels_with(change, result, images)).mean() >= agreement
    # Whatever was trained, most labels stay: a bound for the rounding above as well.
    assert (labels == Predictor(REFERENCE / "model.onnx").predict_batch(images).labels).mean() >= 0.95
    _check_size_and_layers(result, bytes_at_most)
    if recipe.get("reduce_range"):
        assert all(layer.load <= LIMIT for layer in layer_loads(onnx.load(result.file.path)))


def _check_size_and_layers(result: Any, bytes_at_most: float) -> None:
    assert result.file.path.stat().st_size <= bytes_at_most * (REFERENCE / "model.onnx").stat().st_size
    assert {f"{layer}/kernel" for layer in LAYERS} <= set(result.tensors)


def test_int4_needs_the_runtimes_own_operator_and_says_so(fashion_mnist: FashionMnist, tmp_path: Path) -> None:
    file = _quantize(tmp_path / "model.onnx", _batches(fashion_mnist), method="int4").file
    assert file.operators["MatMulNBits"] == 3
    assert file.onnxruntime == "1.17"
    assert {o.domain for o in onnx.load(file.path).opset_import} == {"", "com.microsoft"}


@pytest.mark.parametrize("method", ["static", "dynamic", "int4", "float16"])
@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_can_be_kept_in_float(fashion_mnist: FashionMnist, tmp_path: Path, method: str, layer: str) -> None:
    target = tmp_path / "model.onnx"
    result = _quantize(target, _batches(fashion_mnist), method=method, keep_float=(layer,))
    stored = {t.name: t.data_type for t in onnx.load(target).graph.initializer}
    assert stored[f"{layer}/kernel"] == onnx.TensorProto.FLOAT
    others = {f"{other}/kernel" for other in LAYERS if other != layer}
    assert not {name for name in others if stored.get(name) == onnx.TensorProto.FLOAT}
    images = fashion_mnist.test_images[:1000]
    if method == "int4":
        expected, agreement = _labels_with(_in_four_bits, result, images, layer), 0.995
    else:
        expected, agreement = Predictor(REFERENCE / "model.onnx").predict_batch(images).labels, 0.98
    assert (Predictor(target).predict_batch(images).labels == expected).mean() >= agreement


def test_what_feeds_a_float_layer_alone_is_not_rounded(fashion_mnist: FashionMnist, tmp_path: Path) -> None:
    _quantize(tmp_path / "model.onnx", _batches(fashion_mnist), keep_float=("hidden_2",))
    rounded = [n.input[0] for n in onnx.load(tmp_path / "model.onnx").graph.node if n.op_type == "QuantizeLinear"]
    assert rounded == ["hidden_2/Relu"]  # what goes into the last layer; hidden_1/Relu goes into a float one


@pytest.mark.parametrize("layer", LAYERS)
def test_the_others_keep_their_int8_kernels(fashion_mnist: FashionMnist, tmp_path: Path, layer: str) -> None:
    """The runtime would dequantize a layer's weights in each run where a Relu stands between it and a float layer."""
    target = tmp_path / "model.onnx"
    _quantize(target, _batches(fashion_mnist), keep_float=(layer,))
    operators = Counter(node.op_type for node in as_run(target.read_bytes(), "model.onnx").graph.node)
    assert operators["QGemm"] == 2
    assert operators["Gemm"] + operators["FusedGemm"] == 1
    assert operators["DequantizeLinear"] == 0


@pytest.mark.parametrize("kept", ["second", "third"])
def test_a_cut_on_both_sides_is_parted_from_a_float_layer(tmp_path: Path, kept: str) -> None:
    """A ReLU6 between int8 and float becomes Max and Min, and the file still opens and answers."""
    keras = import_keras()
    keras.utils.set_random_seed(1)
    layers, names = [keras.layers.Input((6,), name="x")], ("first", "second", "third")
    for name in names:
        layers += [keras.layers.Dense(8, name=name), keras.layers.ReLU(6.0, name=f"{name}_cut")]
    model, float32 = keras.Sequential(layers[:-1]), tmp_path / "model.onnx"
    export_model(model, float32)
    rows = 4 * np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32)
    recipe = QuantizationRecipe(keep_float=(kept,))
    result = quantize(float32, tmp_path / "int8.onnx", recipe, [{"x": rows}], layers=names)
    assert (result.file.operators["Max"], result.file.operators["Min"]) == (1, 1)
    assert result.kept_float == [kept]
    exact, rounded = (Predictor(path).predict_batch(rows).outputs["output"] for path in (float32, result.file.path))
    assert 0 < np.abs(rounded - exact).max() < 0.05 * np.abs(exact).max()


def test_a_scale_for_each_channel_if_that_is_asked(fashion_mnist: FashionMnist, tmp_path: Path) -> None:
    source = alike_onnx(tmp_path / "alike.onnx")
    for method in ("static", "dynamic"):
        shapes = {}
        for per_channel in (False, True):
            recipe = QuantizationRecipe(method=method, per_channel=per_channel)
            tensors = quantize(source, tmp_path / "m.onnx", recipe, _batches(fashion_mnist)).tensors
            shapes[per_channel] = [np.shape(tensors[f"{layer}/kernel"]["scale"]) for layer in LAYERS]
        assert shapes == {False: [(), (), ()], True: [(300,), (100,), (10,)]}


@pytest.mark.parametrize("portable", [True, False])
def test_a_layer_whose_channels_differ_much_has_a_scale_for_each(
    fashion_mnist: FashionMnist, tmp_path: Path, portable: bool
) -> None:
    """The runtime's dynamic quantizer knows that for all dense layers or for none."""
    model = onnx.load(alike_onnx(tmp_path / "alike.onnx"))
    (kernel,) = [tensor for tensor in model.graph.initializer if tensor.name == "hidden_2/kernel"]
    array = numpy_helper.to_array(kernel).copy()
    array[:, 0] *= 50
    kernel.CopyFrom(numpy_helper.from_array(array, kernel.name))
    onnx.save(model, tmp_path / "model.onnx")
    shapes = {}
    for method in ("static", "dynamic"):
        recipe = QuantizationRecipe(method=method, portable=portable)
        found = quantize(tmp_path / "model.onnx", tmp_path / "m.onnx", recipe, _batches(fashion_mnist)).tensors
        shapes[method] = [np.shape(found[f"{layer}/kernel"]["scale"]) for layer in LAYERS]
    assert shapes == {"static": [(), (100,), ()], "dynamic": [(300,), (100,), (10,)]}


def test_a_lower_percentile_cuts_the_range(fashion_mnist: FashionMnist, tmp_path: Path) -> None:
    scales = [
        _quantize(
            tmp_path / "m.onnx", _batches(fashion_mnist), calibration="percentile", percentile=percentile
        ).tensors["hidden_1/Relu"]["scale"]
        for percentile in (100.0, 99.0, 90.0)
    ]
    assert scales[0] > 1.2 * scales[1] > 1.2 * 1.2 * scales[2]


def test_a_file_that_could_saturate_is_not_written_as_portable(
    fashion_mnist: FashionMnist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the scales had not reached the quantizer."""
    from toolkit.conversion import quantize as module

    monkeypatch.setattr(module, "portable_overrides", lambda *_, **__: {})
    with pytest.raises(ModelError, match="can saturate on some CPUs in spite of portable scales"):
        _quantize(tmp_path / "model.onnx", _batches(fashion_mnist))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("layers", "says"),
    [(("hidden_9",), "the model has hidden_1, hidden_2, output"), (LAYERS, "nothing to quantize")],
)
def test_impossible_layers_to_keep_are_refused(
    fashion_mnist: FashionMnist, tmp_path: Path, layers: tuple[str, ...], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        _quantize(tmp_path / "model.onnx", _batches(fashion_mnist), keep_float=layers)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("batches", "says"),
    [
        (
            [{"image": np.zeros((5, 27, 28), np.uint8)}],
            r"uint8 of shape \(5, 27, 28\), expected uint8 of shape \(n, 28",
        ),
        ([{"image": np.zeros((0, 28, 28), np.uint8)}], "n of 1 or more"),
        ([{"image": np.zeros((5, 28, 28), np.float32)}], "is float32 of shape"),
        ([{"picture": np.zeros((5, 28, 28), np.uint8)}], "lacks the input 'image', it has picture"),
        ([], "given no images"),
    ],
)
def test_calibration_data_of_the_wrong_form_is_refused(
    tmp_path: Path, batches: list[dict[str, Any]], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        _quantize(tmp_path / "model.onnx", batches)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "recipe",
    [
        {"method": "magic"},
        {"calibration": "guess"},
        {"calibration_images": 0},
        {"percentile": 0.0},
        {"percentile": float("nan")},
        {"reduce_range": True},
    ],
)
def test_recipes_that_make_no_sense_are_refused(recipe: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"expected|not both"):
        QuantizationRecipe(**recipe)


def test_recipes_tell_the_options_that_ask_for_them() -> None:
    assert QuantizationRecipe().options() == ["--quantize"]
    recipe = QuantizationRecipe(per_channel=True, portable=False, calibration="entropy", keep_float=("a", "b"))
    expected = ["--quantize", "--per-channel", "--no-portable", "--calibration-method=entropy"]
    assert recipe.options() == [*expected, "--keep-float=a", "--keep-float=b"]
    assert QuantizationRecipe(method="int4").options() == ["--quantize=int4"]


MEMORY = """
import sys
from pathlib import Path
from toolkit.conversion.quantize import quantize
from toolkit.conversion.recipe import QuantizationRecipe
from toolkit.data import load
count, method, source, target = int(sys.argv[1]), *sys.argv[2:]
images = load().train_images
batches = ({"image": images[i : i + 100]} for i in range(0, count, 100))
recipe = QuantizationRecipe(calibration=method, calibration_images=count)
quantize(Path(source), Path(target), recipe, batches)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
def test_memory_of_calibration_does_not_grow_with_the_images(tmp_path: Path, method: str) -> None:
    """All activations of 20,000 images would be 128 MB more."""
    peaks = {}
    for count in (500, 20_000):
        arguments = [str(count), method, str(REFERENCE / "model.onnx"), str(tmp_path / f"{count}.onnx")]
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, *arguments], capture_output=True, text=True, check=True, timeout=120
        )
        peaks[count] = int(done.stdout) / 1000
    assert peaks[20_000] < peaks[500] + 60


def test_doubtful_calibration_data_is_told(fashion_mnist: FashionMnist) -> None:
    images, labels = fashion_mnist.train_images[:FEW_IMAGES], fashion_mnist.train_labels[:FEW_IMAGES]
    assert suspicions(images, labels) == []
    (few,) = suspicions(images[:5], labels[:5])
    assert f"sees 5 images, expected {FEW_IMAGES} or more" in few
    assert "clipped" in few
    (same,) = suspicions(np.repeat(images[:1], FEW_IMAGES, axis=0), labels)
    assert "are the same one" in same
    grey = np.broadcast_to(np.arange(FEW_IMAGES, dtype=np.uint8)[:, None, None], images.shape)
    (flat,) = suspicions(grey, labels)
    assert "of one single value" in flat
    (single,) = suspicions(images, np.zeros(FEW_IMAGES, np.uint8))
    assert "of one class" in single


def test_the_command_warns_and_the_manifest_remembers(trained: Path, tmp_path: Path) -> None:
    finished = toolkit("export", trained, "--quantize", "--calibration-images", 3, "-o", tmp_path / "few")
    assert finished.code == 0, finished.err
    assert "warning: calibration sees 3 images" in finished.err
    quantization = json.loads((tmp_path / "few" / "manifest.json").read_text())["quantization"]
    assert any("3 images" in warning for warning in quantization["warnings"])
    assert json.loads((trained / "manifest.json").read_text())["quantization"]["warnings"] == []


def _keras_file(path: Path, change: Any) -> Path:
    """The reference model with its weights changed."""
    model = load_keras(REFERENCE / "model.keras")
    weights = dict(zip([w.path for w in model.weights], model.get_weights(), strict=True))
    change(weights)
    model.set_weights(list(weights.values()))
    model.save(path)
    return path


def _export(source: Path, *arguments: object) -> Finished:
    return toolkit("export", source, "--quantize", "-o", source.parent / "out", *arguments)


@pytest.mark.slow
def test_a_layer_that_never_answers_is_told(tmp_path: Path) -> None:
    def kill(weights: dict[str, Any]) -> None:
        weights["hidden_2/bias"][:] = -1e4

    finished = _export(_keras_file(tmp_path / "dead.keras", kill))
    assert finished.code == 0, finished.err  # all labels are one, in Keras as well
    assert "warning: hidden_2/Relu never changed in calibration" in finished.err


@pytest.mark.parametrize(
    ("layers", "method"),
    [
        (("hidden_2",), "static"),
        (LAYERS, "static"),
        pytest.param(LAYERS, "dynamic", marks=pytest.mark.slow),
        pytest.param(LAYERS, "int4", marks=pytest.mark.slow),
    ],
)
def test_weights_that_are_all_zero_are_exported(tmp_path: Path, layers: tuple[str, ...], method: str) -> None:
    def clear(weights: dict[str, Any]) -> None:
        for layer in layers:
            weights[f"{layer}/kernel"][:] = 0

    finished = _export(_keras_file(tmp_path / "zero.keras", clear), f"--quantize={method}")
    assert finished.code == 0, finished.err


def test_a_model_with_nothing_to_quantize_is_told(tmp_path: Path) -> None:
    keras = import_keras()
    layers = [keras.layers.Input((28, 28)), keras.layers.Cropping1D((9, 9))]
    layers += [keras.layers.GlobalAveragePooling1D(data_format="channels_first"), keras.layers.Softmax()]
    keras.Sequential(layers).save(tmp_path / "bare.keras")
    finished = _export(tmp_path / "bare.keras")
    assert finished.code == 2
    assert "nothing in model.onnx could be quantized; export it without --quantize" in finished.error_line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--keep-float", "hidden_1"], "without --quantize, --keep-float would do nothing"),
        (["--quantize", "dynamic", "--calibration-method", "entropy"], "--calibration-method would do nothing"),
        (["--quantize", "int4", "--per-channel"], "with --quantize=int4, --per-channel would do nothing"),
        (["--quantize", "float16", "--no-portable"], "--no-portable would do nothing"),
        (["--quantize", "--percentile", "99"], "--percentile does nothing without --calibration-method percentile"),
        (["--quantize", "--reduce-range", "--no-portable"], "--no-portable does nothing with --reduce-range"),
        (["--quantize=int7"], "expected one of static, dynamic, int4, float16, none"),
        (["--quantize", "--calibration-method", "guess"], "expected one of minmax, entropy, percentile"),
        (["--quantize", "--keep-float", "hidden_9"], "no layer 'hidden_9' to keep in float"),
        (["--output", "logits", "--output", "both"], "--output is given as logits and both"),
        (["-o", "a", "-o", "b"], "--output is given as a and b"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, arguments: list[str], says: str) -> None:
    finished = toolkit("export", REFERENCE / "model.keras", *arguments, cwd=tmp_path)
    assert finished.code == 2
    assert says in finished.error_line
    assert not list(tmp_path.rglob("manifest.json"))


def _first_layer(tmp_path: Path, data: FashionMnist, first: str) -> Path:
    """A small model that learned from the data, by what happens to its input first."""
    keras = import_keras()
    keras.utils.set_random_seed(1)
    layers: dict[str, list[Any]] = {
        "rescaling": [keras.layers.Rescaling(2.0, -1.0), keras.layers.Flatten()],
        "rescaled pixels": [keras.layers.Rescaling(1 / 127.5, -1.0), keras.layers.Flatten()],
        "batch normalization": [keras.layers.Flatten(), keras.layers.BatchNormalization(momentum=0.5)],
        "convolution": [
            keras.layers.Reshape((28, 28, 1)),
            keras.layers.Conv2D(4, 3, 2, name="kernels"),
            keras.layers.Flatten(),
        ],
        "pixels": [keras.layers.Flatten()],
    }
    dense = [keras.layers.Dense(32, "relu", name="dense"), keras.layers.Dense(10, activation="softmax", name="answer")]
    model = keras.Sequential([keras.layers.Input((28, 28)), *layers[first], *dense])
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    train = data.train_images[:2000].astype("float32")
    train = train if first == "rescaled pixels" else train / 255
    model.fit(train, data.train_labels[:2000], epochs=2, batch_size=64, verbose=0)
    model.save(tmp_path / "first.keras")
    return tmp_path / "first.keras"


@pytest.mark.parametrize(
    "first",
    [
        "rescaling",
        "convolution",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("rescaled pixels", "batch normalization", "pixels")),
    ],
)
def test_only_pixels_get_the_scale_of_pixels(tmp_path: Path, fashion_mnist: FashionMnist, first: str) -> None:
    """What a first layer takes that is not pixel/255 gets the range that calibration saw."""
    finished = _export(_first_layer(tmp_path, fashion_mnist, first), "--max-accuracy-drop", 0.01)
    assert finished.code == 0, finished.err
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    tensors = manifest["quantization"]["tensors"]
    scales = [one["scale"] for one in tensors.values() if one["dtype"] == "uint8"]
    assert (pytest.approx(1 / 255) in scales) == (first in ("pixels", "convolution"))
    assert [entry["dtype"] for entry in manifest["inputs"]] == ["uint8"]
    assert manifest["parity"]["model.onnx"][0]["keras_accuracy"] > 0.65  # it was asked about what it learned
    if first == "convolution":
        assert np.shape(tensors["kernels/kernel"]["scale"]) == (4,)  # with no --per-channel
        assert np.shape(tensors["dense/kernel"]["scale"]) == ()


@pytest.mark.parametrize("first", ["rescaling", pytest.param("rescaled pixels", marks=pytest.mark.slow)])
def test_float_inputs_are_verified_on_what_the_model_learned(
    tmp_path: Path, fashion_mnist: FashionMnist, first: str
) -> None:
    """Whether a Rescaling layer wants pixels or pixels divided by 255, export and verify agree on it."""
    finished = _export(_first_layer(tmp_path, fashion_mnist, first), "--input", "float32", "--max-accuracy-drop", 0.01)
    assert finished.code == 0, finished.err
    (given,) = json.loads((tmp_path / "out" / "manifest.json").read_text())["inputs"]
    assert (given["dtype"], given["range"]) == ("float32", None)
    accuracy = json.loads((tmp_path / "out" / "parity.json").read_text())["reference"][0]["accuracy"]
    assert accuracy > 0.65
    again = toolkit("verify", tmp_path / "out", "--json", "--max-accuracy-drop", 0.01)
    assert again.code == 0, again.err
    assert json.loads(again.out)["reference"][0]["accuracy"] == accuracy
