"""The device runtime: right answers, clear refusals, threads, fork and pickle."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.conftest import REFERENCE, ROOT
from toolkit.predictor import (
    CorruptArtifactError,
    InputError,
    MissingError,
    ModelError,
    Predictor,
    RuntimeSettings,
    UsageError,
)

GOLDEN = np.load(Path(__file__).parent / "golden" / "keras.npz")
IMAGES, KERAS = GOLDEN["images"], GOLDEN["probabilities"]


def _small_onnx(path: Path, dtype: int = TensorProto.UINT8) -> Path:
    """28x28 pixels times fixed weights, softmax: a real model that needs no training."""
    weights = np.random.default_rng(0).normal(size=(784, 10)).astype(np.float32) / 100
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["pixels", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", dtype, ["batch", 28, 28])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10])],
        [
            numpy_helper.from_array(np.array([-1, 784], np.int64), "shape"),
            numpy_helper.from_array(weights, "weights"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.save(model, path)
    return path


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return Path(shutil.copytree(REFERENCE, tmp_path / "artifact"))


def test_float32_gives_keras_probabilities() -> None:
    answers = Predictor(REFERENCE, kind="float32").predict_batch(IMAGES)
    np.testing.assert_allclose(answers.probabilities, KERAS, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(answers.labels, KERAS.argmax(axis=1))


def test_int8_is_the_default_and_gives_keras_labels() -> None:
    predictor = Predictor(REFERENCE)
    assert predictor.file.kind == "int8"
    np.testing.assert_array_equal(predictor.predict_batch(IMAGES).labels, KERAS.argmax(axis=1))


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_every_way_of_asking_gives_the_same_answer(kind: str) -> None:
    predictor = Predictor(REFERENCE, kind=kind)
    batch = predictor.predict_batch(IMAGES)
    assert len(batch) == len(IMAGES)
    for image, from_batch in zip(IMAGES, batch, strict=True):
        alone = predictor.predict(image)
        assert alone.label == from_batch.label == predictor.classify(image)
        assert alone.class_name == from_batch.class_name
        assert predictor.class_names is not None
        assert alone.class_name == predictor.class_names[alone.label]
        assert alone.confidence == alone.probabilities.max()
        np.testing.assert_allclose(alone.probabilities, from_batch.probabilities, atol=1e-6)


def test_a_batch_is_like_a_list() -> None:
    batch = Predictor(REFERENCE).predict_batch(IMAGES)
    assert [p.label for p in batch[2:5]] == [p.label for p in batch][2:5] == batch.labels[2:5].tolist()
    assert batch[-1].label == batch.labels[-1]
    with pytest.raises(IndexError):
        batch[len(IMAGES)]
    batch[0].probabilities[:] = 0
    assert batch.probabilities[0].sum() > 0


def test_results_do_not_share_memory() -> None:
    predictor = Predictor(REFERENCE)
    first = predictor.predict(IMAGES[0])
    kept = first.probabilities.copy()
    predictor.predict(IMAGES[1])
    np.testing.assert_array_equal(first.probabilities, kept)


def test_an_empty_batch_has_no_predictions() -> None:
    batch = Predictor(REFERENCE).predict_batch(IMAGES[:0])
    assert (len(batch), list(batch), batch.probabilities.shape) == (0, [], (0, 10))


def test_views_of_any_stride_are_read_right() -> None:
    predictor = Predictor(REFERENCE)
    mirrored = IMAGES[:, :, ::-1]
    plain = np.ascontiguousarray(mirrored)
    read_only = plain.copy()
    read_only.flags.writeable = False
    assert predictor.classify(mirrored[0]) == predictor.classify(plain[0]) == predictor.classify(read_only[0])
    np.testing.assert_array_equal(
        predictor.predict_batch(mirrored).probabilities, predictor.predict_batch(plain).probabilities
    )
    assert predictor.classify(np.asfortranarray(plain[0])) == predictor.classify(plain[0])


def _with(value: float) -> Any:
    image = IMAGES[0].astype(np.float32)
    image[3, 3] = value
    return image


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (IMAGES[0].astype(np.float64) / 255, "undo the division by 255"),
        (IMAGES[0].astype(np.int64), "array.astype(numpy.uint8)"),
        (IMAGES[0].astype(np.int16) - 1, "values run from -1 to"),
        (IMAGES[0].astype(np.int16) + 256, "but uint8 runs from 0 to 255"),
        (_with(np.nan), "NaN or infinity"),
        (_with(np.inf), "NaN or infinity"),
        (IMAGES[0][:27], "got shape (27, 28), expected uint8 of shape (28, 28)"),
        (IMAGES[:1], "got shape (1, 28, 28)"),
        (IMAGES[0].tolist(), "got list"),
        (IMAGES[0].tobytes(), "got bytes"),
        (np.ma.masked_array(IMAGES[0]), "got MaskedArray"),
        (IMAGES[0].astype(object), "got dtype object"),
        (IMAGES[0].astype(">u2"), "got dtype >u2, expected uint8"),
        (IMAGES[0].astype(np.int8), "got dtype int8"),
        (IMAGES[0] > 9, "got dtype bool"),
        (IMAGES[0].astype(complex), "got dtype complex128"),
        (IMAGES[0].astype("U3"), "got dtype <U3"),
        (IMAGES[0].view("V1"), "got dtype |V1"),
        (IMAGES[0].reshape(784), "got shape (784,)"),
        (IMAGES[0][:, :, None], "got shape (28, 28, 1)"),
        (IMAGES[0][0, 0], "got uint8"),
        (np.empty((0, 28), np.uint8), "got shape (0, 28)"),
        (None, "got NoneType"),
    ],
)
def test_a_wrong_image_is_refused_with_what_to_do(image: Any, says: str) -> None:
    predictor = Predictor(REFERENCE)
    for ask in (predictor.classify, predictor.predict):
        with pytest.raises(InputError) as caught:
            ask(image)
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError):
        predictor.predict_batch(image if image is None else [image])  # type: ignore[call-overload]  # wrong on purpose


def test_float_models_look_for_nan(tmp_path: Path) -> None:
    predictor = Predictor(_small_onnx(tmp_path / "float.onnx", TensorProto.FLOAT))
    assert predictor.input_dtype == np.float32
    image = IMAGES[0].astype(np.float32) / np.float32(255)
    assert predictor.classify(image) == predictor.predict_batch(image[None]).outputs["probabilities"][0].argmax()
    poisoned = image.copy()
    poisoned[0, 0] = np.nan
    for wrong, says in [
        (poisoned, "NaN"),
        (poisoned.astype(np.float64), "NaN"),
        (image.astype(np.float64), "astype.numpy.float32"),
        (IMAGES[0], "astype.numpy.float32"),
        (image.astype(">f4"), "astype.numpy.float32"),
    ]:
        for ask in (predictor.classify, predictor.predict, lambda x: predictor.predict_batch(x[None])):
            with pytest.raises(InputError, match=says):
                ask(wrong)


def test_float_models_know_their_range(tmp_path: Path) -> None:
    model = onnx.load(_small_onnx(tmp_path / "float.onnx", TensorProto.FLOAT))
    given = {"name": model.graph.input[0].name, "range": [0, 1]}
    helper.set_model_props(model, {"toolkit.contract": json.dumps({"inputs": [given]})})
    onnx.save(model, tmp_path / "float.onnx")
    predictor = Predictor(tmp_path / "float.onnx")
    image = IMAGES[0].astype(np.float32)
    predictor.classify(image / np.float32(255))
    for ask in (predictor.classify, lambda x: predictor.predict_batch(x[None])):
        with pytest.raises(InputError, match="values run from 0 to 255"):
            ask(image)


def test_a_lone_file_serves_and_carries_its_class_names(tmp_path: Path) -> None:
    shutil.copy(REFERENCE / "model.int8.onnx", tmp_path / "anything.onnx")
    answer = Predictor(tmp_path / "anything.onnx").predict(IMAGES[0])
    assert answer.class_name == Predictor(REFERENCE).predict(IMAGES[0]).class_name


def test_a_foreign_file_serves_without_class_names(tmp_path: Path) -> None:
    predictor = Predictor(_small_onnx(tmp_path / "small.onnx"))
    answer = predictor.predict(IMAGES[0])
    assert (answer.label, answer.class_name, answer.confidence, answer.probabilities) == (None, None, None, None)
    assert predictor.classify(IMAGES[0]) == answer.outputs["probabilities"].argmax()


@pytest.mark.parametrize("at", [0.0, 0.5, 0.999])
def test_one_flipped_bit_is_refused(artifact: Path, at: float) -> None:
    path = artifact / "model.int8.onnx"
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= 4
    path.write_bytes(data)
    for target in (artifact, path):
        with pytest.raises(CorruptArtifactError, match="changed or damaged"):
            Predictor(target)


def test_damaged_manifests_are_refused(artifact: Path) -> None:
    path = artifact / "manifest.json"
    manifest = json.loads(path.read_text())
    for text, says in [
        ("", "damaged"),
        ("{", "damaged"),
        ("[" * 100_000, "damaged"),
        (json.dumps({**manifest, "format": 99}), "format 99"),
        (json.dumps({**manifest, "files": None}), "incomplete"),
        (json.dumps({**manifest, "files": {"model.onnx": {}}}), "incomplete"),
        (json.dumps({**manifest, "files": {"../model.onnx": manifest["files"]["model.onnx"]}}), "outside"),
        (json.dumps({**manifest, "files": {"model.onnx": {"kind": "float32", "sha256": None}}}), "changed or damaged"),
        (json.dumps({**manifest, "files": {"model.onnx": {"kind": "weird", "sha256": "0"}}}), "incomplete"),
    ]:
        path.write_text(text)
        with pytest.raises(CorruptArtifactError, match=says):
            Predictor(artifact)


def test_a_manifest_of_something_else_is_none_of_ours(tmp_path: Path) -> None:
    shutil.copy(REFERENCE / "model.int8.onnx", tmp_path / "model.onnx")
    for text in ("[]", '{"manifest_version": 3}'):
        (tmp_path / "manifest.json").write_text(text)
        assert Predictor(tmp_path / "model.onnx").predict(IMAGES[0]).class_name is not None
        with pytest.raises(ModelError, match="no artifact"):
            Predictor(tmp_path)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    real = (REFERENCE / "model.onnx").read_bytes()
    for name, data in [
        ("empty", b""),
        ("text", b"this is no model\n"),
        ("pointer", b"version https://git-lfs.example/spec/v1\noid sha256:1234\nsize 12\n"),
        ("truncated", real[: len(real) // 2]),
        ("zeros", bytes(1000)),
        ("png", b"\x89PNG\r\n\x1a\n" + bytes(64)),
    ]:
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(data)
        with pytest.raises(ModelError) as caught:
            Predictor(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(MissingError):
        Predictor(tmp_path / "nothing.onnx")
    with pytest.raises(ModelError, match="no artifact"):
        Predictor(tmp_path)


def test_weights_outside_the_file_are_refused(tmp_path: Path) -> None:
    model = onnx.load(_small_onnx(tmp_path / "inside.onnx"))
    onnx.save(model, tmp_path / "outside.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(ModelError, match="outside the file"):
        Predictor(tmp_path / "outside.onnx")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("toolkit.class_names", "5"),
        ("toolkit.class_names", "not json"),
        ("toolkit.class_names", '["one"]'),
        ("toolkit.contract", "[]"),
        ("toolkit.contract", '{"inputs": [{}]}'),
    ],
)
def test_unreadable_metadata_is_refused(tmp_path: Path, key: str, value: str) -> None:
    model = onnx.load(_small_onnx(tmp_path / "small.onnx"))
    helper.set_model_props(model, {key: value})
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(CorruptArtifactError, match="export it again"):
        Predictor(tmp_path / "odd.onnx")


def test_what_the_artifact_does_not_have_is_refused() -> None:
    with pytest.raises(ModelError, match="no int4 model"):
        Predictor(REFERENCE, kind="int4")
    with pytest.raises(UsageError, match="threads is 0"):
        Predictor(REFERENCE, settings=RuntimeSettings(threads=0))


def test_it_works_copied_alone(tmp_path: Path) -> None:
    """Only predictor.py and the artifact, and nothing of the toolkit, of Keras or of ONNX in the process."""
    shutil.copy(ROOT / "toolkit" / "predictor.py", tmp_path)
    shutil.copytree(REFERENCE, tmp_path / "model")
    np.save(tmp_path / "images.npy", IMAGES)
    script = """
import sys, numpy as np
from predictor import Predictor
print(Predictor("model").predict_batch(np.load("images.npy")).labels.tolist())
heavy = {"toolkit", "tensorflow", "keras", "onnx", "tf2onnx", "typer", "rich", "PIL"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, check=True, timeout=60, capture_output=True, text=True
    )
    assert json.loads(done.stdout) == KERAS.argmax(axis=1).tolist()


def test_importing_it_brings_numpy_and_little_else() -> None:
    script = """
import sys, numpy
before = set(sys.modules)
import toolkit.predictor
print(sorted({name.split(".")[0] for name in set(sys.modules) - before}))
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=ROOT)
    assert set(json.loads(done.stdout.replace("'", '"'))) <= {"toolkit", "atexit", "__future__"}


def test_json_is_read_as_the_json_package_does() -> None:
    script = r"""
import sys, numpy
from toolkit.predictor import _parsed
texts = ['{"a": [1, -2.5e3, true, null, "x\\u00e9\\n"], "b": {}}', b' [NaN, Infinity, -Infinity]\n', '"\xc3\xa9"', '0',
         '{}', '', ' ', '[1', '{"a" 1}', '[1] 2', '{1: 2}', 'nul', '"\x01"', b'\xff', b'\xef\xbb\xbf[1]',
         '[1]'.encode("utf-16"), '[' * 100_000]
def outcome(read, text):
    try:
        return repr(read(text))
    except Exception as error:
        return type(error).__name__, str(error)
found = []
for text in texts:
    found.append(outcome(_parsed, text))
    early = "json" in sys.modules
    if text == texts[4]:
        assert not early
    for name in [name for name in sys.modules if name.split(".")[0] == "json"]:
        del sys.modules[name]
import json
assert found == [outcome(json.loads, text) for text in texts], found
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_telemetry_is_off(tmp_path: Path) -> None:
    open_it = f"from toolkit.predictor import Predictor; Predictor({str(REFERENCE)!r})"
    script = f"import os; {open_it}; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    clean = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=tmp_path, env=clean
    )
    assert done.stdout.strip() == "1"
