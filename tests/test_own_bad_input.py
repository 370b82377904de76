"""What is wrong with a model, its rows or the options is one line and an exit code, and nothing is left behind."""

from __future__ import annotations

import pickle
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.conftest import toolkit
from tests.keras_files import write_zip
from tests.own import CUSTOM, command, fails, layers, rows, tabular

if TYPE_CHECKING:
    from pathlib import Path

X = rows(40, 8)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    (folder / "own_metrics.py").write_text(CUSTOM)
    _models(folder)
    _data(folder)
    for name, text in {
        "two": "a\nb\n",
        "three": "a\nb\nc\n",
        "twice": "a\na\nb\n",
        "none": "",
        "gap": "a\n\nb\n",
    }.items():
        (folder / f"{name}.txt").write_text(text)
    (folder / "latin.txt").write_bytes(b"\xe9\n\xff\n")
    assert command("export", "kind.keras", "-o", "good", "--test", "kind.npz", cwd=folder).code == 0
    return folder


def _models(folder: Path) -> None:
    keras, kinds = layers()
    model = tabular(("kind", 3, "softmax"))
    model.save(folder / "kind.keras")
    model.export(folder / "kind_saved", verbose=False)
    model.save_weights(folder / "only.weights.h5")
    tabular(("value", 1, None)).save(folder / "value.keras")
    whole = (folder / "kind.keras").read_bytes()
    (folder / "cut.keras").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.keras").write_bytes(b"")
    (folder / "text.keras").write_text("hello")
    with zipfile.ZipFile(folder / "kind.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    write_zip(folder / "leads_out.keras", {**parts, "../../evil.txt": b"x"})
    write_zip(folder / "other.keras", {"hello.txt": b"x"})
    flagged = bytearray(whole)
    for start in (b"PK\x03\x04", b"PK\x01\x02"):  # the first entry's flag that it is encrypted
        at = whole.find(start) + (6 if start.endswith(b"\x04") else 8)
        flagged[at] |= 1
    (folder / "secret.keras").write_bytes(flagged)
    weights = model.get_weights()
    weights[0][0, 0] = np.nan
    model.set_weights(weights)
    model.save(folder / "nan.keras")
    keras.Model(given := keras.Input((8,), name="x"), kinds.Flatten(name="flat")(given)).save(
        folder / "weightless.keras"
    )
    keras.Model(given := keras.Input((0,), name="x"), kinds.Dense(2, name="d")(given)).save(folder / "zero.keras")
    words = keras.Input((1,), dtype="string", name="words")
    lookup = kinds.StringLookup(vocabulary=["a", "b"], name="lookup")(words)
    keras.Model(words, kinds.Embedding(4, 2, name="embed")(lookup)).save(folder / "words.keras")
    tokens = keras.Input((4,), dtype="int32", name="tokens")
    keras.Model(tokens, kinds.Embedding(9, 2, name="embed")(tokens)).save(folder / "tokens.keras")


def _data(folder: Path) -> None:
    spoilt = X.copy()
    spoilt[3, 2] = np.nan
    files: dict[str, dict[str, Any]] = {
        "kind": {"x": X, "y": np.arange(40) % 3},
        "plain": {"x": X},
        "value": {"x": X, "y": X[:, :1]},
        "names": {"foo": X, "bar": X},
        "more": {"x": X, "foo": X},
        "shape": {"x": X[:, :5]},
        "one": {"x": X[0]},
        "none": {"x": X[:0]},
        "text": {"x": X.astype("S4")},
        "complex": {"x": X.astype(complex)},
        "nan": {"x": spoilt},
        "huge": {"x": X.astype(float) * 1e300},
        "high": {"x": X, "y": np.full(40, 3)},
        "low": {"x": X, "y": np.full(40, -1)},
        "half": {"x": X, "y": np.full(40, 0.5)},
        "soft": {"x": X, "y": np.full((40, 3), 1 / 3, np.float32)},
        "several": {"x": X, "y": np.ones((40, 3), int)},
        "count": {"x": X, "y": np.zeros(20, int)},
        "named": {"x": X, "y": np.arange(40) % 3, "class_names": np.array(["a", "b"])},
        "floats": {"x": rows(20, 4)},
        "unknown": {"x": np.full((20, 4), 99)},
    }
    for name, arrays in files.items():
        np.savez(folder / f"{name}.npz", **arrays)
    objects = np.array([1, "a", None], object)
    np.savez(folder / "objects.npz", allow_pickle=True, x=objects)
    np.save(folder / "objects.npy", objects, allow_pickle=True)
    (folder / "rows.pkl").write_bytes(pickle.dumps({"x": X}))
    whole = (folder / "kind.npz").read_bytes()
    (folder / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.npz").write_bytes(b"")
    (folder / "folder").mkdir()
    (folder / "folder" / "notes.txt").write_text("no rows")


@pytest.mark.parametrize(
    ("model", "code", "says"),
    [
        ("cut.keras", 2, "is a damaged or truncated zip archive"),
        ("empty.keras", 2, "(0 bytes) is no Keras model"),
        ("text.keras", 2, "is neither a zip archive nor HDF5"),
        ("secret.keras", 2, "encrypted"),
        ("leads_out.keras", 2, "'../../evil.txt', which leads out of it"),
        ("other.keras", 2, "zip archive without config.json"),
        ("only.weights.h5", 2, "holds weights only"),
        ("nan.keras", 2, "weight hidden/kernel holds NaN or infinity"),
        ("zero.keras", 2, "expected no dimension of size zero"),
        ("words.keras", 2, "'words' of the model"),
        ("kind.npz", 2, "so it is no Keras model"),
        ("objects.npy", 2, "is no Keras model"),
        ("rows.pkl", 2, "a pickle"),
        ("folder", 2, "is a folder without a model"),
        ("nowhere.keras", 3, "does not exist"),
    ],
)
def test_what_is_no_model_to_export(here: Path, model: str, code: int, says: str) -> None:
    line = fails(code, "export", model, "-o", "out", "--test", "plain.npz", cwd=here)
    assert line.startswith("error: ")
    assert says in line


def test_a_model_without_weights_is_exported_and_not_quantized(here: Path, tmp_path: Path) -> None:
    assert command("export", here / "weightless.keras", "-o", "out", cwd=tmp_path).code == 0
    line = fails(2, "export", here / "weightless.keras", "-o", "more", "--quantize", "dynamic", cwd=tmp_path)
    assert "nothing in model.onnx could be quantized" in line


BAD_ROWS = [
    ("names.npz", 2, "no array for the input 'sensor'"),
    ("more.npz", 2, "has 'foo', which fits nothing"),
    ("shape.npz", 2, "got shape (40, 5), expected (batch, 8)"),
    ("one.npz", 2, "add the batch axis"),
    ("none.npz", 2, "got no rows"),
    ("text.npz", 2, "expected numbers"),
    ("complex.npz", 2, "complex128"),
    ("objects.npz", 2, "holds Python objects, which are a pickle"),
    ("objects.npy", 2, "holds Python objects, which are a pickle"),
    ("rows.pkl", 2, "is a pickle"),
    ("cut.npz", 2, "is no whole zip archive"),
    ("empty.npz", 2, "is empty"),
    ("nan.npz", 2, "NaN or infinity in 1 of 40 rows (first in row 3)"),
    ("huge.npz", 2, "which float32 cannot hold"),
    ("high.npz", 2, "got the class 3, expected 0 to 2"),
    ("low.npz", 2, "got the class -1, expected 0 to 2"),
    ("half.npz", 2, "with the value 0.5, expected a whole number"),
    ("count.npz", 2, "20 rows of the targets of 'kind'"),
    ("named.npz", 2, "has 2 class names, expected 3"),
    ("folder", 2, "is a folder without images"),
    ("kind.keras", 2, "is a .keras model, no data"),
    ("kind_saved", 2, "is a SavedModel, no data"),
    ("good", 2, "is an exported artifact, no data"),
    ("good/model.onnx", 2, "is a model, no data"),
    ("only.weights.h5", 2, "is an HDF5 file"),
    ("nowhere.npz", 3, "does not exist"),
]


@pytest.mark.parametrize(("data", "code", "says"), BAD_ROWS)
def test_rows_that_cannot_be_used(here: Path, data: str, code: int, says: str) -> None:
    for options in (("--test", data), ("--quantize", "--calibration", data, "--test", "kind.npz")):
        assert says in fails(code, "export", "kind.keras", "-o", "out", *options, cwd=here)
    assert says in fails(code, "verify", "good", "--test", data, cwd=here)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("soft.npz", "expected the number of one class for each row (classification); save them so, or give --task"),
        ("several.npz", "or give --task kind=multilabel"),
    ],
)
def test_targets_of_another_kind_than_the_output(here: Path, data: str, says: str) -> None:
    assert says in fails(2, "export", "kind.keras", "-o", "out", "--test", data, cwd=here)
    assert says in fails(2, "verify", "good", "--test", data, cwd=here)


def test_yes_or_no_takes_0_and_1_alone(here: Path) -> None:
    tabular(("yes", 1, "sigmoid")).save(here / "yes.keras")
    line = fails(2, "export", "yes.keras", "-o", "out", "--test", "kind.npz", cwd=here)
    assert "are values from 0 to 2, expected 0 or 1 for no or yes (binary)" in line


def test_numbers_for_tokens_that_the_model_does_not_know(here: Path) -> None:
    line = fails(2, "export", "tokens.keras", "-o", "out", "--test", "unknown.npz", cwd=here)
    assert "fails on these rows: indices[0,0] = 99 is not in [0, 9); give rows such as it was trained on" in line
    assert "expected int32" in fails(2, "export", "tokens.keras", "-o", "out", "--test", "floats.npz", cwd=here)


KIND, VALUE = ("kind.keras", "--test", "kind.npz"), ("value.keras", "--test", "value.npz")
STATIC = ("--quantize", "--calibration", "plain.npz")


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        ((*KIND, "--classes", "two.txt"), 2, "2 class names were given, but the model tells 3 classes apart; give 3"),
        ((*KIND, "--classes", "twice.txt"), 2, "the classes 0 and 1 are both called 'a'"),
        ((*KIND, "--classes", "none.txt"), 2, "has no class names"),
        ((*KIND, "--classes", "gap.txt"), 2, "the name of class 1 is ''"),
        ((*KIND, "--classes", "latin.txt"), 2, "is not UTF-8 text"),
        ((*KIND, "--classes", "folder"), 2, "is a folder"),
        ((*KIND, "--classes", "nowhere.txt"), 3, "does not exist"),
        ((*VALUE, "--classes", "three.txt"), 2, "no output of the model has classes"),
        ((*KIND, "--task", "sorting"), 2, "--task is 'sorting', expected one of classification"),
        ((*KIND, "--task", "other=values"), 2, "--task names the output 'other', but the model has kind; name one"),
        ((*KIND, "--task", "binary"), 2, "give --task kind=classification or multilabel or values"),
        ((*VALUE, "--task", "classification"), 2, "give --task value=binary or values"),
        ((*KIND, "--task", "values", "--task", "values"), 2, "given twice for all outputs"),
        ((*KIND, "--input-scale", "0"), 2, "--input-scale is 0"),
        ((*KIND, "--input-scale", "nan"), 2, "--input-scale is nan, expected a finite number"),
        ((*KIND, "--input-scale", "1/0"), 2, "expected a number or a fraction such as 1/255"),
        ((*KIND, "--input-scale", "one"), 2, "expected a number or a fraction such as 1/255"),
        ((*KIND, "--input-offset", "-1"), 2, "--input-offset does nothing without --input-scale"),
        ((*KIND, "--input", "int16"), 2, "expected uint8, int8 or float32"),
        ((*KIND, "--input", "uint8"), 2, "give --input-scale"),
        ((*KIND, "--input", "float32", "--input-scale", "1/255"), 2, "does nothing with --input float32"),
        ((*KIND, "--input-scale", "1/255"), 2, "expected raw values of uint8"),
        (("tokens.keras", "--input-scale", "1/255"), 2, "has 0 float32 inputs"),
        ((*VALUE, "--metric", "accuracy"), 2, "expected mae, mse, rmse, r2 or module:function"),
        ((*VALUE, "--metric", "own_metrics:gone"), 3, "the module own_metrics has no gone"),
        ((*VALUE, "--metric", "no_such_module:gone"), 3, "no such module"),
        ((*VALUE, "--metric", "other=mae"), 2, "the model has no output 'other'"),
        ((*VALUE, "--metric", "mae", "--metric", "mae"), 2, "names the same metric twice"),
        ((*KIND, "--data", "folder"), 2, "--data names Fashion-MNIST, which is not used with --calibration or --test"),
        (("kind.keras", "--data", "folder"), 2, "which is not of the form of the model"),
        ((*KIND, "--calibration", "plain.npz"), 2, "--calibration does nothing here"),
        ((*KIND, "--calibration", "plain.npz", "--quantize", "dynamic"), 2, "--calibration does nothing here"),
        ((*KIND, "--max-relative-error", "0.2"), 2, "without --quantize, --max-relative-error would do nothing"),
        ((*KIND, "--max-metric-change", "0.2"), 2, "--max-metric-change does nothing here, since no --metric is given"),
        ((*KIND, *STATIC, "--max-relative-error", "0.2"), 2, "no int8 output of values is judged"),
        ((*VALUE, *STATIC, "--min-agreement", "0.5"), 2, "no int8 output of classes is judged"),
        (("kind.keras", "--test", "plain.npz", *STATIC, "--max-accuracy-drop", "0.5"), 2, "right answers are known"),
        (("kind.keras", "--quantize", "dynamic", "--min-agreement", "0.5"), 2, "no int8 output of classes is judged"),
        ((*VALUE, "-o", "both"), 2, "has no logits beside its answer; leave out --output"),
        ((*KIND, "-o", "both", "-o", "logits"), 2, "--output is given as both and logits"),
    ],
)
def test_options_that_make_no_sense(here: Path, options: tuple[str, ...], code: int, says: str) -> None:
    assert says in fails(code, "export", *options, "-o", "out", cwd=here)


@pytest.mark.parametrize(
    ("model", "data", "metric", "says"),
    [
        ("value.keras", "value.npz", "own_metrics:fails", "fails with RuntimeError: no way"),
        ("value.keras", "value.npz", "own_metrics:no_number", "gives nan, expected a number"),
        ("value.keras", "plain.npz", "mae", "needs targets of the output value, and the test set has none"),
        ("kind.keras", "kind.npz", "mae", "no output of the model is one of values"),
        ("kind.keras", "kind.npz", "kind=mae", "the targets have the shape (40,), the answers (40, 3)"),
    ],
)
def test_a_metric_that_cannot_be_had_is_said_before_the_work(
    here: Path, model: str, data: str, metric: str, says: str
) -> None:
    options = ("--quantize", "--calibration", "plain.npz", "--test", data, "--metric", metric)
    before = sorted(here.iterdir())
    done = command("export", model, "-o", "out", *options, cwd=here)
    assert done.code == 2, done.err
    assert says in done.error_line
    assert "Quantizing" not in done.err
    assert sorted(here.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--data", "folder", "--test", "kind.npz"), "--data names Fashion-MNIST, which is not used with --test"),
        ((), "good was verified on kind.npz, 40 rows; give --test FILE with such rows"),
        (("--data", "folder"), "give --test FILE with such rows"),
        (("--test", "kind.npz", "--min-agreement", "0.5"), "has no quantized model"),
        (("--test", "kind.npz", "--max-relative-error", "0.5"), "--max-relative-error does nothing here"),
        (("--test", "kind.npz", "--max-metric-change", "0.5"), "--max-metric-change does nothing here"),
        (("--test", "kind.npz", "--layers"), "has no int8 model, so --layers does nothing"),
    ],
)
def test_options_of_verify_that_make_no_sense(here: Path, options: tuple[str, ...], says: str) -> None:
    assert says in fails(2, "verify", "good", *options, cwd=here)


def test_the_installed_command_says_it_in_one_line_too(here: Path) -> None:
    done = toolkit("export", "kind.keras", "-o", "out", "--test", "soft.npz", cwd=here)
    assert done.code == 2
    assert "expected the number of one class for each row" in done.error_line
    assert not (here / "out").exists()
