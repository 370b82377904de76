"""golden.npz: rows with what the exported files must answer to them, as an export writes it."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from tests.breaking import copy_of
from tests.conftest import toolkit
from tests.own import command, layers, mostly, rows, settled, tabular
from toolkit.api import export_model
from toolkit.artifact import check_files, load_manifest
from toolkit.conversion.logits import check_copy
from toolkit.errors import CorruptArtifactError, ModelError
from toolkit.golden import GoldenVectors, dump, load, make_golden, reduced
from toolkit.keras_model import open_model
from toolkit.predictor import Predictor
from toolkit.verification.gates import Limits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.zoo import Example
    from toolkit.data import FashionMnist

GOLDEN, INT8, FLOAT = "golden.npz", "model.int8.onnx", "model.onnx"


def _golden(folder: Path) -> GoldenVectors:
    """What an artifact has, once it is clear that the manifest knows it."""
    manifest = load_manifest(folder)
    check_files(folder, manifest)
    data = (folder / GOLDEN).read_bytes()
    assert (manifest.files[GOLDEN].kind, manifest.files[GOLDEN].bytes) == ("golden", len(data))
    return load(data, GOLDEN)


def _through_the_bare_runtime(path: Path, tensor: str, given: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """A tensor of a file for each row alone, by the onnx package's own means: nothing of what is tested here."""
    import onnxruntime as ort

    model = onnx.load(path)
    if tensor not in [output.name for output in model.graph.output]:
        model.graph.output.append(onnx.ValueInfoProto(name=tensor))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    first = session.get_inputs()[0].shape[0]
    size = first if isinstance(first, int) else 1
    count = len(next(iter(given.values())))
    blocks = ({name: np.repeat(array[[i]], size, axis=0) for name, array in given.items()} for i in range(count))
    return np.concatenate([session.run([tensor], block)[0][:1] for block in blocks])


def _hold(folder: Path, *, exact: bool, dynamic: bool = False) -> GoldenVectors:
    """Everything in an artifact's golden vectors is what its files give; int8 is exact or not, as said."""
    golden = _golden(folder)
    names = sorted(name for name in load_manifest(folder).files if name.endswith(".onnx"))
    assert sorted(golden.files) == names
    for name, file in golden.files.items():
        predictor = Predictor(folder / name)
        assert file.tensors.keys() == set(predictor.output_names)
        assert file.exact is (exact and name == INT8)
        decides = set(predictor.task_of.values()) != {"values"}
        limit = 0.0 if file.exact else 0.01 if name != FLOAT else 1e-5 if decides else 1e-4
        assert file.tolerance == limit
        for i in range(len(golden)):
            answer = predictor.predict({key: array[i] for key, array in golden.inputs.items()})
            for output, tensor in file.tensors.items():
                assert file.exact or tensor == output
                if tensor == output:
                    assert file.values[tensor][i].tobytes() == answer.outputs[output].tobytes()
            if golden.labels is not None and answer.label is not None:
                assert answer.label == golden.labels[i]
        if not dynamic:
            for tensor, values in file.values.items():
                assert values.tobytes() == _through_the_bare_runtime(folder / name, tensor, golden.inputs).tobytes()
    assert golden.scales.keys() == set(predictor.output_names)
    return golden


def test_a_run_writes_rows_of_the_test_set_with_the_answers_of_keras(
    trained: Path, fashion_mnist: FashionMnist
) -> None:
    golden = _hold(trained, exact=True)
    assert (len(golden), golden.random, golden.scales) == (32, False, {"probabilities": [1.0]})
    assert golden.files[INT8].tensors == {"probabilities": "output/BiasAdd"}
    images, labels = golden.inputs["image"], golden.labels
    assert images.dtype == np.uint8
    assert images.shape == (32, 28, 28)
    assert labels is not None
    assert labels.dtype == np.int64
    known = {image.tobytes() for image in fashion_mnist.test_images}
    assert {image.tobytes() for image in images} <= known
    (said,) = open_model(trained / "model.keras").answers({"image": images.astype(np.float32) / 255}).values()
    np.testing.assert_allclose(golden.keras["probabilities"], said, atol=1e-6)
    assert (said.argmax(axis=1) == labels).all()
    top = np.sort(said, axis=1)
    assert (top[:, -1] - top[:, -2] > 0.199).all()
    assert set(np.bincount(labels, minlength=10)) <= {3, 4}  # spread over the classes
    assert (trained / GOLDEN).stat().st_size <= 40_000


def test_the_same_artifact_is_the_same_bytes(trained: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    finished = toolkit("export", trained, "--output", again, "--quantize")
    assert finished.code == 0, finished.err
    assert "golden.npz" in finished.out
    assert (again / GOLDEN).read_bytes() == (trained / GOLDEN).read_bytes()
    # Written again, and whatever zip and numpy are asked to read it, it is the same.
    data = (trained / GOLDEN).read_bytes()
    assert dump(load(data, GOLDEN)) == data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_DEFLATED}
    with np.load(trained / GOLDEN, allow_pickle=False) as stored:
        assert set(stored.files) == {
            "input/image", "keras/probabilities", "label", "facts",
            "model.onnx/probabilities", "model.int8.onnx/output/BiasAdd",
        }  # fmt: skip
        facts = json.loads(str(stored["facts"]))
    assert (facts["format"], facts["random"]) == (1, False)
    assert facts["files"][INT8] == {"tensors": {"probabilities": "output/BiasAdd"}, "exact": True, "tolerance": 0.0}
    assert facts["files"][FLOAT] == {
        "tensors": {"probabilities": "probabilities"}, "exact": False, "tolerance": 1e-05
    }  # fmt: skip


def test_one_file_alone(trained: Path) -> None:
    golden = _golden(trained)
    alone = reduced(golden, INT8)
    assert alone.files == {INT8: golden.files[INT8]}
    again = load(dump(alone), GOLDEN)
    assert list(again.files) == [INT8]
    assert again.files[INT8].values["output/BiasAdd"].tobytes() == golden.files[INT8].values["output/BiasAdd"].tobytes()
    assert again.inputs["image"].tobytes() == golden.inputs["image"].tobytes()
    assert list(reduced(golden, INT8, "model.int8.ort").files) == ["model.int8.ort"]
    with pytest.raises(CorruptArtifactError, match=r"know model.onnx, model.int8.onnx, not model.int4.onnx"):
        reduced(golden, "model.int4.onnx")


def test_reading_and_reducing_need_numpy_alone(trained: Path) -> None:
    script = f"""
import sys
for name in ("tensorflow", "keras", "onnx", "tf2onnx", "onnxruntime", "typer", "PIL"):
    sys.modules[name] = None  # what imports it fails
from pathlib import Path
from toolkit.golden import dump, load, reduced
data = Path({str(trained / GOLDEN)!r}).read_bytes()
sys.stdout.buffer.write(dump(reduced(load(data, "golden.npz"), {INT8!r})))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == dump(reduced(_golden(trained), INT8))


# other models


def _own(folder: Path, model: Any, quantize: str | None, given: Any, **options: Any) -> Path:
    calibration = given if quantize == "static" else None
    export_model(model, folder, quantize=quantize, calibration=calibration, test=given, **options)
    return folder


def test_values(tmp_path: Path) -> None:
    golden = _hold(_own(tmp_path / "a", tabular(("value", 2, None)), "static", rows(60, 8)), exact=True)
    assert (golden.labels, len(golden)) == (None, 32)
    assert golden.inputs["sensor"].tobytes() == rows(60, 8)[:32].tobytes()  # of no classifier the first
    assert golden.files[INT8].tensors == {"value": "value"}
    (answers,) = open_model(tmp_path / "a" / "model.keras").answers({"sensor": rows(60, 8)}).values()
    assert golden.scales["value"] == pytest.approx(np.abs(answers).max(axis=0))  # of all rows, for each column


def test_yes_and_no(tmp_path: Path) -> None:
    golden = _hold(_own(tmp_path / "a", tabular(("sick", 1, "sigmoid")), "static", rows(300, 8)), exact=True)
    assert golden.labels is not None
    yes = golden.keras["sick"][:, 0]
    assert ((yes >= 0.5) == (golden.labels == 1)).all()
    assert (np.abs(2 * yes - 1) > 0.2).all()
    assert list(np.bincount(golden.labels)) == [16, 16]
    assert golden.files[INT8].tensors["sick"] != "sick"  # in front of the sigmoid


def test_logits_are_sure_by_their_probabilities(tmp_path: Path) -> None:
    model = tabular(("kind", 3, None))
    given = rows(300, 8)
    labels = mostly(model.predict(given, verbose=0).argmax(axis=1), 3)
    golden = _hold(_own(tmp_path / "a", model, "static", given, labels=labels, tasks="classification"), exact=True)
    assert golden.labels is not None
    shares = np.exp(golden.keras["kind"])
    top = np.sort(shares / shares.sum(axis=1, keepdims=True), axis=1)
    assert (top[:, -1] - top[:, -2] > 0.2).all()


@pytest.mark.parametrize(("output", "given"), [("logits", "logits"), ("both", "probabilities")])
def test_logits_that_keras_does_not_give(trained: Path, tmp_path: Path, output: str, given: str) -> None:
    folder = tmp_path / "a"
    finished = toolkit("export", trained, "-o", folder, "-o", output, "--quantize")
    assert finished.code == 0, finished.err
    golden = _hold(folder, exact=True)
    assert golden.keras.keys() == {"probabilities"}
    assert golden.keras["probabilities"].tobytes() == _golden(trained).keras["probabilities"].tobytes()
    assert given in golden.files[INT8].tensors


def test_a_dynamic_file_gives_each_row_its_own_answer(tmp_path: Path) -> None:
    golden = _hold(
        _own(tmp_path / "a", tabular(("kind", 3, "softmax")), "dynamic", rows(300, 8)), exact=False, dynamic=True
    )
    assert (golden.files[INT8].tensors, golden.files[INT8].tolerance) == ({"kind": "kind"}, 0.01)


def test_a_fixed_batch_and_several_inputs_and_outputs(tmp_path: Path) -> None:
    keras, kinds = layers()
    one, other = keras.Input((5,), batch_size=4, name="one"), keras.Input((3,), batch_size=4, name="other")
    hidden = kinds.Dense(16, activation="relu", name="hidden")(kinds.Concatenate(name="joined")([one, other]))
    ends = [kinds.Dense(2, name="values")(hidden), kinds.Dense(3, activation="softmax", name="kind")(hidden)]
    given = {"one": rows(80, 5), "other": rows(80, 3, seed=1)}
    golden = _hold(_own(tmp_path / "a", settled(keras.Model([one, other], ends)), None, given), exact=False)
    assert golden.inputs.keys() == given.keys()
    assert golden.keras.keys() == {"values", "kind"}
    assert golden.labels is not None  # one of the two is of classes
    golden = _hold(_own(tmp_path / "b", settled(keras.Model([one, other], ends)), "static", given), exact=True)
    assert golden.files[INT8].tensors["values"] == "values"
    assert golden.files[INT8].tensors["kind"] != "kind"


@pytest.mark.parametrize(("name", "exact"), [("fixed_batch", True), ("conv1d_free_length", False)])
def test_models_of_the_zoo(zoo: Callable[[str], Example], tmp_path: Path, name: str, exact: bool) -> None:
    example = zoo(name)
    export_model(
        example.model,
        tmp_path / "a",
        quantize="static",
        calibration=example.calibration,
        test=example.test,
        labels=example.labels,
    )
    golden = _hold(tmp_path / "a", exact=exact)
    assert golden.labels is not None
    most = max(array[:1].nbytes for array in golden.inputs.values())
    assert len(golden) == min(32, 48_000 // most)


def test_large_rows_are_few(tmp_path: Path) -> None:
    keras, kinds = layers()
    given = keras.Input((20_000,), name="wave")
    model = settled(keras.Model(given, kinds.Dense(1, name="value")(given)))
    golden = _hold(_own(tmp_path / "a", model, None, rows(10, 20_000)), exact=False)
    assert len(golden) == 2


# rows that mean nothing, and none at all


def test_random_rows_are_called_so(tmp_path: Path) -> None:
    model = tabular(("kind", 3, "softmax"))
    model.save(tmp_path / "kind.keras")
    done = command("export", "kind.keras", "-o", "a", cwd=tmp_path)
    assert done.code == 0, done.err
    golden = _hold(tmp_path / "a", exact=False)
    assert golden.random
    assert golden.labels is not None
    # Where Keras is sure of none, labels of random rows would say nothing: the values alone do.
    model.set_weights([weight * 0.01 for weight in model.get_weights()])
    model.save(tmp_path / "unsure.keras")
    done = command("export", "unsure.keras", "-o", "b", cwd=tmp_path)
    assert done.code == 0, done.err
    golden = _hold(tmp_path / "b", exact=False)
    assert (golden.random, golden.labels, len(golden)) == (True, None, 32)


def test_without_a_row_that_may_be_demanded_none_are_written(tmp_path: Path) -> None:
    model = tabular(("kind", 3, "softmax"))
    model.save(tmp_path / "kind.keras")
    np.savez(tmp_path / "rows.npz", x=rows(100, 8))
    assert command("export", "kind.keras", "-o", "a", "--test", "rows.npz", cwd=tmp_path).code == 0
    assert (tmp_path / "a" / GOLDEN).exists()
    model.set_weights([weight * 0.01 for weight in model.get_weights()])
    model.save(tmp_path / "unsure.keras")
    done = command("export", "unsure.keras", "-o", "a", "--test", "rows.npz", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "no golden.npz is written: of no test row Keras is sure" in done.err
    assert not (tmp_path / "a" / GOLDEN).exists()  # the earlier model's does not stay
    assert GOLDEN not in load_manifest(tmp_path / "a").files
    assert command("verify", "a", "--test", "rows.npz", cwd=tmp_path).code == 0


def test_rows_on_which_a_file_has_another_label_are_not_taken(trained: Path, fashion_mnist: FashionMnist) -> None:
    """Keras' answers are made up here: of every other row it is sure of a class that no file gives."""
    images = fashion_mnist.test_images[:200]
    labels = Predictor(trained / FLOAT).predict_batch(images).labels
    own = np.arange(200) % 2 == 0
    keras = np.full((200, 10), 0.01, np.float32)
    keras[np.arange(200), np.where(own, labels, (labels + 1) % 10)] = 0.91
    outputs = load_manifest(trained).outputs
    paths = [trained / FLOAT, trained / INT8]
    golden = make_golden(paths, {"image": images}, {"probabilities": keras}, outputs, Limits())
    assert golden is not None
    taken = {image.tobytes() for image in golden.inputs["image"]}
    assert taken <= {image.tobytes() for image in images[own]}
    keras = np.roll(keras, 1, axis=1)
    assert make_golden(paths, {"image": images[own]}, {"probabilities": keras[own]}, outputs, Limits()) is None


# artifacts without it, and damaged ones


@pytest.mark.slow
def test_an_artifact_of_an_earlier_version_is_used_as_before(trained: Path, tmp_path: Path) -> None:
    older = copy_of(trained, tmp_path)
    path = older / "manifest.json"
    content = json.loads(path.read_text())
    assert content["format"] == 3
    del content["files"][GOLDEN]
    path.write_text(json.dumps(content, indent=2) + "\n")
    (older / GOLDEN).unlink()
    before = path.read_bytes()
    for arguments in (("verify", older), ("predict", "-m", older, *sorted((older / "samples").glob("*.png"))[:1])):
        finished = toolkit(*arguments)
        assert finished.code == 0, finished.err
    assert toolkit("inspect", older).code == 0
    assert path.read_bytes() == before  # verifying adds none
    assert not (older / GOLDEN).exists()
    finished = toolkit("export", older, "--quantize")
    assert finished.code == 0, finished.err
    assert (older / GOLDEN).read_bytes() == (trained / GOLDEN).read_bytes()


def test_damage_is_noticed(trained: Path, tmp_path: Path) -> None:
    broken = copy_of(trained, tmp_path)
    data = bytearray((broken / GOLDEN).read_bytes())
    data[len(data) // 2] ^= 1
    (broken / GOLDEN).write_bytes(data)
    with pytest.raises(CorruptArtifactError, match=r"golden\.npz was changed or damaged"):
        check_files(broken, load_manifest(broken))
    finished = toolkit("verify", broken)
    assert finished.code == 4
    assert "golden.npz was changed or damaged" in finished.error_line
    (broken / GOLDEN).unlink()
    with pytest.raises(CorruptArtifactError, match="is missing"):
        check_files(broken, load_manifest(broken))


def _with_facts(golden: GoldenVectors, **changes: Any) -> bytes:
    whole = io.BytesIO()
    with np.load(io.BytesIO(dump(golden))) as stored:
        arrays = {name: stored[name] for name in stored.files}
    facts = json.loads(str(arrays["facts"])) | changes
    np.savez(whole, **(arrays | {"facts": np.array(json.dumps(facts))}))
    return whole.getvalue()


def test_what_holds_no_golden_vectors_is_refused(trained: Path) -> None:
    data = (trained / GOLDEN).read_bytes()
    golden = load(data, GOLDEN)
    objects = io.BytesIO()
    np.savez(objects, facts=np.array({"format": 1}, dtype=object))
    for wrong, reason in (
        (b"", "No data left in file"),
        (b"no zip at all", "pickle"),
        (data[: len(data) // 2], "not a zip file"),
        (objects.getvalue(), "allow_pickle=False"),
        (_with_facts(golden, format=2), "format 2, this version reads 1"),
        (_with_facts(golden, files={FLOAT: {"tensors": {"y": "gone"}, "exact": False, "tolerance": 0}}), "gone"),
        (_with_facts(golden, files=[]), "list"),
        (dump(dataclasses.replace(golden, labels=np.zeros(5, np.int64))), "no common number of rows"),
        (dump(dataclasses.replace(golden, inputs={})), "no common number of rows"),
    ):
        with pytest.raises(CorruptArtifactError, match=reason) as error:
            load(wrong, "the/golden.npz")
        assert str(error.value).startswith("the/golden.npz holds no golden vectors")
        assert "\n" not in str(error.value)


def test_a_copy_that_answers_otherwise_says_nothing_of_the_logits() -> None:
    own, logits = {"y": np.array([[1, 2]], np.float32)}, np.array([[0, 1]], np.float32)
    check_copy("m.onnx", own, {**own, "logits": logits})
    with pytest.raises(ModelError, match=r"the logits of m\.onnx cannot be read"):
        check_copy("m.onnx", own, {"y": np.nextafter(own["y"], np.float32(9)), "logits": logits})
