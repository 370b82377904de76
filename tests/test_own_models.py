"""A person's own models through the command: every kind of file, input, output and data."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from tests.conftest import toolkit
from tests.keras_files import keras2_functional, keras2_h5, keras2_input, keras2_layer
from tests.own import CUSTOM, command, fails, layers, manifest, mostly, rows, settled, tabular
from toolkit.predictor import Predictor

if TYPE_CHECKING:
    from pathlib import Path

KIND = ("kind", 3, "softmax")


def _operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models and rows, where the commands are started."""
    keras, kinds = layers()
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_layers.py").write_text(CUSTOM)
    model = tabular(KIND)
    model.save(folder / "kind.keras")
    model.export(folder / "kind_saved", verbose=False)
    x = rows(200, 8)
    np.savez(folder / "kind.npz", x=x, y=mostly(model.predict(x, verbose=0).argmax(axis=1), 3))
    np.savez(folder / "plain.npz", x=x)
    (folder / "three.txt").write_text("ant\nbee\ncat\n")
    model = tabular(("value", 1, None))
    model.save(folder / "value.keras")
    np.savez(folder / "value.npz", x=x, y=model.predict(x, verbose=0) + rows(200, 1, seed=1))

    picture = keras.Input((6, 6, 1), name="picture")
    for name, first in (("scaling", [kinds.Rescaling(1 / 255, name="scale")]), ("pixels", [])):
        inner = picture
        for layer in [*first, kinds.Conv2D(4, 3, activation="relu", name="conv"), kinds.Flatten(name="flat")]:
            inner = layer(inner)
        model = keras.Model(picture, kinds.Dense(3, activation="softmax", name="kind")(inner))
        settled(model).save(folder / f"{name}.keras")
    pixels = np.random.default_rng(1).integers(0, 256, (150, 6, 6, 1), np.uint8)
    np.savez(folder / "pixels.npz", x=pixels)
    np.savez(folder / "signed.npz", x=(pixels.astype(np.int16) - 128).astype(np.int8))
    return folder


def _export(here: Path, model: str, name: str, *options: object) -> tuple[Path, str]:
    """A published artifact, and what was said on stderr."""
    done = command("export", model, "-o", name, *options, cwd=here)
    assert done.code == 0, done.err
    return here / name, done.err


def _old_h5(folder: Path) -> Path:
    """Keras 2's form, with the `groups` of a depthwise convolution that Keras 3 rejects."""
    depthwise = keras2_layer(
        "DepthwiseConv2D", "depthwise", ["input_1"], kernel_size=[3, 3], strides=[1, 1], padding="valid",
        data_format="channels_last", dilation_rate=[1, 1], groups=1, activation="relu", use_bias=False,
        depth_multiplier=1,
    )  # fmt: skip
    entries = [
        keras2_input("input_1", (None, 4, 4, 2)),
        depthwise,
        keras2_layer("Flatten", "flatten", ["depthwise"], data_format="channels_last"),
        keras2_layer("Dense", "dense", ["flatten"], units=3, activation="softmax", use_bias=True),
    ]
    weights = {
        "depthwise": {"depthwise/depthwise_kernel": rows(3, 3, 2, 1)},
        "dense": {"dense/kernel": rows(8, 3), "dense/bias": rows(3)},
    }
    return keras2_h5(folder / "old.h5", keras2_functional(entries, ["input_1"], ["dense"]), weights)


@pytest.mark.parametrize("kind", ["kind.keras", "old.h5", "kind_saved"])
def test_every_kind_of_file_through_every_command(here: Path, kind: str) -> None:
    data = "kind.npz"
    if kind == "old.h5":
        _old_h5(here)
        np.savez(here / "old.npz", x=rows(200, 4, 4, 2))
        data = "old.npz"
    folder, _ = _export(here, kind, f"out_{kind}", "--quantize", "--calibration", data, "--test", data)
    record = manifest(folder)["conversion"]
    assert (record["route"], record["refused"]) == ("tf2onnx", None)
    assert record["source"].startswith({"old.h5": "Keras 2.4.0", "kind_saved": "TensorFlow"}.get(kind, "Keras 3"))
    done = command("verify", folder.name, "--test", data, "--layers", "--json", cwd=here)
    assert done.code == 0, done.err
    assert [file["kind"] for file in json.loads(done.out)["files"]] == ["float32", "int8"]
    assert "StatefulPartitionedCall" not in done.out
    for target in (kind, folder.name):
        assert json.loads(command("inspect", target, "--json", cwd=here).out)
    done = command("predict", "-m", folder.name, f"{folder.name}/samples/rows.npz", "--json", cwd=here)
    assert done.code == 0, done.err
    labels = [json.loads(line)["label"] for line in done.out.splitlines()]
    batch = np.load(here / data)["x"][:10]
    assert labels == list(Predictor(folder).predict_batch(batch).labels)


def test_the_installed_command_itself(here: Path) -> None:
    done = toolkit("export", "kind.keras", "-o", "real", "--quantize", "--calibration", "kind.npz", cwd=here)
    assert done.code == 0, done.err
    assert "the files are verified on the calibration rows (kind.npz)" in done.err
    done = toolkit("bench", "real", "--quick", "--json", cwd=here)
    assert done.code == 0, done.err
    assert [file["kind"] for file in json.loads(done.out)["files"]] == ["int8", "float32"]


def test_custom_layers_and_lambdas_only_if_they_are_named(here: Path) -> None:
    keras, kinds = layers()
    scope: dict[str, Any] = {}
    exec(CUSTOM, scope)  # noqa: S102 - the same text that the command imports
    given = keras.Input((8,), name="sensor")
    keras.Model(given, kinds.Dense(2, name="out")(scope["Twice"](name="twice")(given))).save(here / "twice.keras")
    line = fails(2, "export", "twice.keras", "-o", "twice", "--test", "plain.npz", cwd=here)
    assert "layer 'twice': the class 'Twice'" in line
    assert "--custom MODULE:Twice" in line
    options = ("--custom", "own_layers:Twice", "--test", "plain.npz")
    folder, _ = _export(here, "twice.keras", "twice", *options)
    assert fails(2, "verify", folder.name, "--test", "plain.npz", cwd=here).count("--custom") == 1
    assert command("verify", folder.name, *options, cwd=here).code == 0

    keras.Model(given, kinds.Lambda(lambda x: x * 2, name="code")(given)).save(here / "lambda.keras")
    line = fails(2, "export", "lambda.keras", "-o", "lambda", "--test", "plain.npz", cwd=here)
    assert "'code': a Lambda layer" in line
    assert "--unsafe" in line
    _export(here, "lambda.keras", "lambda", "--test", "plain.npz", "--unsafe")


def test_two_inputs_and_two_outputs_are_judged_by_output(here: Path) -> None:
    keras, kinds = layers()
    a, b = keras.Input((8,), name="a"), keras.Input((4,), name="b")
    hidden = kinds.Dense(16, activation="relu", name="hidden")(kinds.Concatenate(name="both")([a, b]))
    ends = [kinds.Dense(3, activation="softmax", name="kind")(hidden), kinds.Dense(1, name="level")(hidden)]
    model = settled(keras.Model([a, b], ends))
    model.save(here / "two.keras")
    given = {"a": rows(200, 8), "b": rows(200, 4, seed=1)}
    kind, level = model.predict(list(given.values()), verbose=0)
    labels = mostly(kind.argmax(axis=1), 3)
    np.savez(here / "two.npz", a=given["a"], b=given["b"], kind=labels, level=level + 1)
    data = ("--quantize", "--calibration", "two.npz", "--test", "two.npz")
    folder, _ = _export(here, "two.keras", "two", *data, "--metric", "level=mae", "--max-accuracy-drop", 0.02)
    found = manifest(folder)
    assert [(output["name"], output["task"]) for output in found["outputs"]] == [
        ("kind", "classification"),
        ("level", "values"),
    ]
    for records in found["parity"].values():
        first, second = records
        assert first["agreement"] >= 0.98
        assert first["keras_accuracy"] == 0.9
        assert second["relative_error"] < 0.1
        assert second["agreement"] is None
    report = json.loads((folder / "parity.json").read_text())
    assert report["reference"][1]["metrics"]["mae"] == pytest.approx(1, abs=1e-4)
    one = Predictor(folder).predict({name: array[0] for name, array in given.items()})
    assert one.outputs.keys() == {"kind", "level"}


def test_fixed_batch_free_length_and_an_answer_of_one_own_class(here: Path) -> None:
    keras, kinds = layers()
    given = keras.Input((8,), batch_size=4, name="sensor")
    settled(keras.Model(given, kinds.Dense(3, activation="softmax", name="kind")(given))).save(here / "fixed.keras")
    folder, _ = _export(here, "fixed.keras", "fixed", "--quantize", "--calibration", "kind.npz", "--test", "plain.npz")
    assert manifest(folder)["inputs"][0]["shape"] == [4, 8]
    assert len(Predictor(folder).predict_batch(rows(7, 8))) == 7

    signal = keras.Input((None, 2), name="signal")
    conv = kinds.Conv1D(6, 3, activation="relu", name="conv")(signal)
    model = keras.Model(signal, kinds.Dense(3, activation="softmax", name="kind")(kinds.GlobalMaxPooling1D()(conv)))
    settled(model).save(here / "free.keras")
    np.savez(here / "free.npz", x=rows(150, 20, 2))
    folder, said = _export(here, "free.keras", "free", "--quantize", "--calibration", "free.npz")
    assert manifest(folder)["inputs"][0]["shape"] == ["batch", "signal_1", 2]
    assert Predictor(folder).predict(rows(31, 2)).label in range(3)
    assert manifest(folder)["data"]["test"] == "free.npz (the calibration rows), 150 rows"
    assert "warning: no test rows were given" in said


def test_what_stays_in_float_is_named(here: Path) -> None:
    keras, kinds = layers()
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    inner = kinds.LSTM(6, name="lstm", return_sequences=True)(kinds.Embedding(20, 6, name="embed")(tokens))
    out = kinds.Dense(3, activation="softmax", name="kind")(kinds.GRU(6, name="gru")(inner))
    settled(keras.Model(tokens, out)).save(here / "tokens.keras")
    np.savez(here / "tokens.npz", x=np.random.default_rng(0).integers(0, 20, (120, 6)))
    folder, said = _export(
        here, "tokens.keras", "tokens", "--quantize", "--calibration", "tokens.npz", "--test", "tokens.npz"
    )
    assert "in float: embed, lstm, gru, " in said
    assert manifest(folder)["quantization"]["kept_float"] == ["embed", "lstm", "gru"]
    assert manifest(folder)["inputs"][0]["dtype"] == "int32"
    keras.Model(tokens, inner).save(here / "nothing.keras")
    line = fails(2, "export", "nothing.keras", "-o", "nothing", "--quantize", "dynamic", cwd=here)
    assert "nothing in model.onnx could be quantized (embed, lstm run in float alone)" in line
    assert "without --quantize" in line


def test_a_recurrent_layer_that_keeps_its_state_starts_anew(here: Path) -> None:
    keras, kinds = layers()
    given = keras.Input((6, 2), batch_size=2, name="signal")
    model = keras.Model(given, kinds.Dense(2, name="out")(kinds.LSTM(3, stateful=True, name="lstm")(given)))
    settled(model).save(here / "stateful.keras")
    folder, said = _export(here, "stateful.keras", "stateful")
    assert "'lstm' keeps its state between calls" in said
    assert manifest(folder)["conversion"]["notes"]


@pytest.mark.parametrize("convolutions_only", [False, True])
def test_dynamic_int8_of_convolutions(here: Path, *, convolutions_only: bool) -> None:
    keras, kinds = layers()
    given = keras.Input((6, 6, 3), name="picture")
    inner = kinds.DepthwiseConv2D(3, name="depthwise")(kinds.Conv2D(8, 1, activation="relu", name="conv")(given))
    if not convolutions_only:
        inner = kinds.Dense(3, name="out")(kinds.Flatten(name="flat")(inner))
    settled(keras.Model(given, inner)).save(here / "convolutions.keras")
    np.savez(here / "convolutions.npz", x=rows(50, 6, 6, 3))
    folder, _ = _export(
        here, "convolutions.keras", "convolutions", "--quantize", "dynamic", "--test", "convolutions.npz"
    )
    assert "ConvInteger" in _operators(folder / "model.int8.onnx")
    tensors = manifest(folder)["quantization"]["tensors"]
    assert any("depthwise/" in name for name in tensors), tensors


def test_regression_by_a_metric(here: Path) -> None:
    both = ("--quantize", "--calibration", "value.npz", "--test", "value.npz")
    folder, _ = _export(here, "value.keras", "value", *both, "--metric", "mae", "--metric", "own_layers:squared")
    report = json.loads((folder / "parity.json").read_text())
    assert report["reference"][0]["metrics"].keys() == {"mae", "own_layers:squared"}
    (output,) = report["files"][1]["outputs"]
    assert [change["name"] for change in output["metrics"]] == ["mae", "own_layers:squared"]
    names = [gate["name"] for gate in report["files"][1]["gates"]]
    assert {"relative error", "change of mae", "change of own_layers:squared"} <= {*names}


def test_targets_of_a_regression_may_all_be_0_or_1(here: Path) -> None:
    np.savez(here / "zero_one.npz", x=rows(40, 8), y=np.arange(40) % 2)
    folder, _ = _export(here, "value.keras", "zero_one", "--test", "zero_one.npz", "--metric", "mae")
    report = json.loads((folder / "parity.json").read_text())
    expected = np.abs(Predictor(folder).predict_batch(rows(40, 8)).outputs["value"][:, 0] - np.arange(40) % 2).mean()
    assert report["reference"][0]["metrics"]["mae"] == pytest.approx(expected, rel=1e-5)


def test_an_autoencoder_is_judged_against_its_input(here: Path) -> None:
    tabular(("again", 8, None)).save(here / "auto.keras")
    data = ("--calibration", "plain.npz", "--test", "plain.npz")
    folder, _ = _export(here, "auto.keras", "auto", "--quantize", *data, "--metric", "mae")
    report = json.loads((folder / "parity.json").read_text())
    x = np.load(here / "plain.npz")["x"]
    again = Predictor(folder, kind="float32").predict_batch(x).outputs["again"]
    assert report["reference"][0]["metrics"]["mae"] == pytest.approx(np.abs(again - x).mean(), rel=1e-4)


def test_yes_or_no_with_names(here: Path) -> None:
    model = tabular(("yes", 1, "sigmoid"))
    model.save(here / "binary.keras")
    x = rows(200, 8)
    np.savez(here / "binary.npz", x=x, y=mostly((model.predict(x, verbose=0)[:, 0] >= 0.5).astype(int), 2))
    (here / "two.txt").write_text("no\nyes\n")
    data = ("--calibration", "binary.npz", "--test", "binary.npz")
    folder, _ = _export(here, "binary.keras", "binary", "--quantize", *data, "--classes", "two.txt")
    assert manifest(folder)["class_names"] == ["no", "yes"]
    assert manifest(folder)["parity"]["model.onnx"][0]["keras_accuracy"] == 0.9
    assert {answer.class_name for answer in Predictor(folder).predict_batch(x)} == {"no", "yes"}
    # Of an artifact that is exported anew the names stay.
    again, _ = _export(here, "binary", "binary", "--quantize", "dynamic", "--test", "binary.npz")
    assert manifest(again)["class_names"] == ["no", "yes"]


def test_logits_are_classes_where_labels_names_or_a_task_say_so(here: Path) -> None:
    tabular(("raw", 3, None)).save(here / "logits.keras")
    for name, options, task in (
        ("by_labels", ("--test", "kind.npz"), "classification"),
        ("by_names", ("--test", "plain.npz", "--classes", "three.txt"), "classification"),
        ("by_task", ("--test", "plain.npz", "--task", "classification"), "classification"),
        ("by_nothing", ("--test", "plain.npz"), "values"),
        ("by_output", ("--test", "kind.npz", "--task", "raw=values"), "values"),
    ):
        folder, _ = _export(here, "logits.keras", name, *options)
        assert manifest(folder)["outputs"][0]["task"] == task
        assert (Predictor(folder).class_names is None) == (task == "values")
    assert Predictor(here / "by_names").class_names == ("ant", "bee", "cat")


def test_logits_beside_probabilities(here: Path) -> None:
    data = ("--calibration", "kind.npz", "--test", "kind.npz")
    x = np.load(here / "kind.npz")["x"]
    for gives, names in (("both", ["probabilities", "logits"]), ("logits", ["logits"])):
        folder, _ = _export(here, "kind.keras", f"give_{gives}", "-o", gives, "--quantize", *data)
        assert [output["name"] for output in manifest(folder)["outputs"]] == names
        assert command("verify", folder.name, "--test", "kind.npz", cwd=here).code == 0
        answer = Predictor(folder, kind="float32").predict_batch(x)
        logits = answer.logits
        assert logits is not None
        shown = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(answer.probabilities, shown, atol=1e-6)


def test_a_leading_rescaling_layer_takes_raw_pixels(here: Path) -> None:
    data = ("--calibration", "pixels.npz", "--test", "pixels.npz")
    folder, _ = _export(here, "scaling.keras", "rescaled", "--quantize", *data)
    (given,) = manifest(folder)["inputs"]
    assert (given["dtype"], given["range"]) == ("uint8", [0, 255])
    assert not {"Cast", "Mul"} & {*_operators(folder / "model.int8.onnx")}


@pytest.mark.parametrize(
    ("options", "data", "low", "free"),
    [
        (("--input-scale", "1/255"), "pixels.npz", 0.0, True),
        (("--input-scale", "1/127.5", "--input-offset", "-1"), "pixels.npz", -1.0, False),
        (("--input", "int8", "--input-scale", "1/128"), "signed.npz", -1.0, False),
    ],
)
def test_raw_integers_are_scaled_in_the_graph(
    here: Path, options: tuple[str, ...], data: str, low: float, *, free: bool
) -> None:
    folder, _ = _export(here, "pixels.keras", "raw", "--quantize", *options, "--calibration", data, "--test", data)
    raw = np.load(here / data)["x"]
    (given,) = manifest(folder)["inputs"]
    assert given["dtype"] == raw.dtype.name
    (scaling,) = manifest(folder)["conversion"]["scaling"].values()
    scaled = raw.astype(np.float32) * np.float32(scaling["scale"]) + np.float32(scaling["offset"])
    assert scaled.min() == pytest.approx(low)
    keras, _ = layers()
    expected = keras.models.load_model(here / "pixels.keras").predict(scaled, verbose=0)
    found = Predictor(folder, kind="float32").predict_batch(raw).probabilities
    np.testing.assert_allclose(found, expected, atol=1e-6)
    operators = _operators(folder / "model.int8.onnx")
    assert ("Cast" not in operators and "Mul" not in operators) == free
