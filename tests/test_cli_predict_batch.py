"""``toolkit predict --batch`` and ``--min-confidence`` as they are installed."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tests import small_graphs
from tests.conftest import REFERENCE, ROOT, TOOLKIT, toolkit
from tests.small_graphs import write
from tests.tiny_model import IMAGES, NAMES, WEIGHTS, expected, tiny_model
from toolkit.idx import pack
from toolkit.predictor import Predictor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MANY = np.random.default_rng(5).integers(0, 256, (5000, 28, 28), np.uint8)  # more than one block, and not whole ones
COLOURS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("a model") / "tiny.onnx")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of which some are broken, in folders; and what is none."""
    folder = tmp_path_factory.mktemp("my photos")
    for number, name in enumerate(("b.png", "a/2.PNG", "a/10.png", "a.jpg", "a/c/z.png", "B.png", "é.png")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[number]).save(path, quality=100)
    Image.fromarray(IMAGES[9]).resize((40, 30)).convert("RGB").save(folder / "a" / "photo.jpeg")
    (folder / "a" / "broken.png").write_bytes((folder / "b.png").read_bytes()[:90])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_text("hello")
    (folder / "nowhere.png").symlink_to("nothing")
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_text("no picture either")
    (folder / ".cache").mkdir()
    shutil.copy(folder / "b.png", folder / ".cache" / "b.png")
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    os.mkfifo(folder / "pipe.png")
    return folder


BROKEN = {"a/broken.png", "empty.jpg", "text.png", "nowhere.png"}


def _in_order(photos: Path) -> list[str]:
    found = [path for path in photos.rglob("*.*") if path.suffix.lower() in (".png", ".jpg", ".jpeg")]
    hidden = [path for path in found if "/." in str(path.relative_to(photos.parent))]
    return [str(path) for path in sorted(found) if path not in hidden and path.name != "pipe.png"]


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def _stored(folder: Path, kind: str, images: Any) -> Path:
    """Images in a file of some kind."""
    path = folder / f"images.{kind}"
    if kind == "npy":
        np.save(path, images)
    elif kind == "fortran.npy":
        np.save(path, np.asfortranarray(images))
    elif kind == "npz":
        np.savez(path, image=images, y=np.zeros(len(images)), class_names=np.array(NAMES))
    elif kind == "packed.npz":
        np.savez_compressed(path, x=images)
    else:
        path.write_bytes(gzip.compress(pack(images), 1) if kind.endswith("gz") else pack(images))
    return path


KINDS = ["npy", "fortran.npy", "npz", "packed.npz", "idx3-ubyte", "idx3-ubyte.gz"]


# The same answers as the plain way, in order


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_says_the_same_as_in_the_plain_way(model: Path, tmp_path: Path, kind: str) -> None:
    path = _stored(tmp_path, kind, MANY)
    plain = toolkit("predict", path, "-m", model, "--json")
    done = toolkit("predict", "--batch", path, "-m", model, "--json")
    assert (plain.code, done.code) == (0, 0), done.err
    assert done.out == plain.out
    assert done.err == ""
    answers = _lines(done.out)
    assert [answer["index"] for answer in answers] == list(range(5000))
    np.testing.assert_allclose([a["probabilities"] for a in answers], expected(MANY), atol=1e-6)


def test_a_folder_says_the_same_as_its_pictures(photos: Path) -> None:
    names = _in_order(photos)
    plain = toolkit("predict", *names, "-m", REFERENCE, "--json")
    done = toolkit("predict", "--batch", photos, "-m", REFERENCE, "--json")
    answers = _lines(done.out)
    assert [answer["file"] for answer in answers] == names
    assert [answer for answer in answers if "error" not in answer] == _lines(plain.out)
    assert {os.path.relpath(answer["file"], photos) for answer in answers if "error" in answer} == BROKEN
    assert done.code == plain.code == 2
    said = [
        [line.split("; ")[0].split(", ")[0] for line in each.err.splitlines() if "error: " in line]
        for each in (plain, done)
    ]
    assert said[0] == said[1]
    errors = said[1]
    assert len(errors) == len(BROKEN)
    assert errors[0].startswith(f"error: {photos}/a/broken.png cannot be decoded")
    assert "photo.jpeg: 40x30 RGB picture made grey" in done.err
    assert f"{photos}: 2 files that are no pictures were left out" in done.err  # the notes, and the pipe


def test_one_picture_is_a_batch_of_one(model: Path, tmp_path: Path) -> None:
    Image.fromarray(IMAGES[0]).save(tmp_path / "p.png")
    plain = toolkit("predict", tmp_path / "p.png", "-m", model, "--json")
    assert toolkit("predict", "--batch", tmp_path / "p.png", "-m", model, "--json") == plain


@pytest.mark.parametrize("name", ["one.npy", "one.npz"])
def test_one_row_may_come_without_its_axis(model: Path, tmp_path: Path, name: str) -> None:
    for image in (IMAGES[0], np.asfortranarray(IMAGES[0])):
        save = np.save if name.endswith("npy") else np.savez
        save(tmp_path / name, image)
        (answer,) = _lines(toolkit("predict", "--batch", tmp_path / name, "-m", model, "--json").out)
        np.testing.assert_allclose(answer["probabilities"], expected(IMAGES[:1])[0], atol=1e-6)


def test_no_rows_are_no_error(model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "none.npy", IMAGES[:0])
    for output in ("a.csv", "a.jsonl", "a.npy"):
        done = toolkit("predict", "--batch", tmp_path / "none.npy", "-m", model, "-o", tmp_path / output)
        assert done.code == 0, done.err
    assert _table(tmp_path / "a.csv") == []
    assert (tmp_path / "a.jsonl").read_text() == ""
    assert np.load(tmp_path / "a.npy").shape == (0,)


def test_several_inputs_and_pictures_of_any_size(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    rows: dict[str, Any] = {
        "image": random.normal(size=(3000, 4, 3)).astype(np.float32),
        "rows": random.integers(1, 9, (3000, 2)),  # int64, as numpy makes it; the model takes int32
    }
    two = write(
        tmp_path / "two.onnx",
        small_graphs.TWO,
        outputs={"brightness": ("values", None), "kind": ("classification", (0, 1))},
        class_names=COLOURS,
    )
    np.savez_compressed(tmp_path / "rows.npz", **rows)
    done = toolkit("predict", "--batch", tmp_path / "rows.npz", "-m", two, "--json")
    assert done.out == toolkit("predict", tmp_path / "rows.npz", "-m", two, "--json").out
    assert len(done.out.splitlines()) == 3000

    free = write(
        tmp_path / "free.onnx",
        """(uint8[n,height,width,3] picture) => (float[n,3] colour) {
            pixels = Cast <to = 1> (picture)
            colour = ReduceMean <axes = [1, 2], keepdims = 0> (pixels)
        }""",
        outputs={"colour": ("classification", None)},
        class_names=COLOURS,
    )
    (tmp_path / "pictures").mkdir()
    for number in range(9):  # their sizes differ, so that they cannot all be one array
        colour = [(200, 10, 10), (10, 200, 10), (10, 10, 200)][number % 3]
        Image.new("RGB", (6 + number // 2, 8), colour).save(tmp_path / "pictures" / f"{number}.png")
    answers = _lines(toolkit("predict", "--batch", tmp_path / "pictures", "-m", free, "--json").out)
    assert [answer["class_name"] for answer in answers] == list(COLOURS) * 3


# What people and files get


def test_people_get_a_table_of_classes(model: Path, tmp_path: Path) -> None:
    done = toolkit("predict", "--batch", _stored(tmp_path, "npy", MANY), "-m", model)
    assert done.code == 0
    assert done.err == ""  # no bar in a pipe
    shares = expected(MANY)
    labels = shares.argmax(axis=1)
    assert "5,000 rows of" in done.out
    for label, name in enumerate(NAMES):
        line = next((line for line in done.out.splitlines() if name in line), "")
        chosen = labels == label
        assert bool(line) == chosen.any()
        if line:
            assert f"{chosen.sum():,} " in line
            assert f"{chosen.mean():.1%}" in line
            assert f"{shares[chosen].max(axis=1).mean():.4f}" in line


def test_each_row_goes_into_a_file(photos: Path, model: Path, tmp_path: Path) -> None:
    names = _in_order(photos)
    for name in ("a.csv", "a.jsonl", "a.npy"):
        done = toolkit("predict", "--batch", photos, "-m", model, "-o", tmp_path / name)
        assert done.code == 2
        assert f"{len(BROKEN)} of {len(names)} rows have no answer" in done.err
        assert f"{len(names)} rows written to {tmp_path / name}" in done.err
    lines, table, labels = (
        _lines((tmp_path / "a.jsonl").read_text()),
        _table(tmp_path / "a.csv"),
        np.load(tmp_path / "a.npy"),
    )
    assert (tmp_path / "a.jsonl").read_text() == toolkit("predict", "--batch", photos, "-m", model, "--json").out
    assert labels.dtype == np.int64
    assert len(lines) == len(table) == len(labels) == len(names)
    for name, line, row, label in zip(names, lines, table, labels, strict=True):
        assert (line["file"], row["file"], row["index"]) == (name, name, "0")
        if os.path.relpath(name, photos) in BROKEN:
            assert row["error"] == line["error"]
            assert (row["label"], label) == ("", -2)
        else:
            assert int(row["label"]) == line["label"] == label
            assert row["class_name"] == line["class_name"] == NAMES[label]
            for key in ("confidence", "margin"):
                assert np.float32(row[key]) == np.float32(line[key])
            assert row["error"] == ""
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", "a.jsonl", "a.npy"}


def test_names_that_are_no_text_come_back_as_they_are(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b'\xff, "x"')
    folder.mkdir()
    Image.fromarray(IMAGES[0]).save(folder / "new\nline.png")
    done = toolkit("predict", "--batch", folder, "-m", model, "-o", tmp_path / "a.csv", env={"COLUMNS": "200"})
    assert done.code == 0, done.err
    (row,) = _table(tmp_path / "a.csv")
    assert row["file"] == str(folder / "new\nline.png")


def test_a_model_without_classes_gives_numbers(tmp_path: Path) -> None:
    model = write(tmp_path / "a.onnx", small_graphs.AUTOENCODER, outputs={"again": ("values", None)})
    rows = np.random.default_rng(1).normal(size=(3000, 4)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    done = toolkit("predict", "--batch", tmp_path / "rows.npy", "-m", model, "-o", tmp_path / "a.csv")
    assert done.code == 0, done.err
    answers = Predictor(model).predict_batch(rows).outputs["again"]
    table = _table(tmp_path / "a.csv")
    found = [[np.float32(row[f"again[{at}]"]) for at in range(4)] for row in table]
    np.testing.assert_array_equal(found, answers)
    line = next(line for line in done.out.splitlines() if "again" in line)
    for value in (answers.min(), answers.max(), answers.mean(dtype=np.float64)):
        assert f"{value:.6g}" in line
    assert "12,000" in line
    for output, says in (("a.npy", "names no classes"), ("a.txt", "end it in .csv, .jsonl or .npy")):
        done = toolkit("predict", "--batch", tmp_path / "rows.npy", "-m", model, "-o", tmp_path / output)
        assert done.code == 2
        assert says in done.error_line
    free = write(tmp_path / "f.onnx", "(float[n,length] x) => (float[n,length] y) { y = Tanh (x) }")
    done = toolkit("predict", "--batch", tmp_path / "rows.npy", "-m", free, "-o", tmp_path / "a.csv")
    assert "a free size in 'y', which is no table; write .jsonl" in done.error_line


def test_one_bad_row_does_not_stop_the_others(tmp_path: Path) -> None:
    model = write(tmp_path / "m.onnx", small_graphs.LOGITS, outputs={"kind": ("classification", None)})
    rows = np.random.default_rng(1).normal(size=(3000, 4)).astype(np.float32)
    rows[2500, 1], rows[17, 3] = np.nan, np.inf
    np.save(tmp_path / "rows.npy", rows)
    done = toolkit("predict", "--batch", tmp_path / "rows.npy", "-m", model, "--json")
    assert done.code == 2
    answers = _lines(done.out)
    assert [answer["index"] for answer in answers] == list(range(3000))
    assert [answer["index"] for answer in answers if "error" in answer] == [17, 2500]
    assert "rows.npy[17]: input 'x': contains NaN or infinity" in done.err
    whole = np.delete(rows, [17, 2500], axis=0)
    found = [answer["outputs"]["kind"] for answer in answers if "error" not in answer]
    np.testing.assert_array_equal(np.array(found, np.float32), -whole)

    tokens = write(tmp_path / "t.onnx", small_graphs.TOKENS, inputs={"tokens": (0, 4)})
    np.save(tmp_path / "t.npy", np.array([[1, 1, 1], [1, 1, 9], [2**40, 1, 1]]))
    done = toolkit("predict", "--batch", tmp_path / "t.npy", "-m", tokens, "--json")
    assert ["error" in answer for answer in _lines(done.out)] == [False, True, True]
    assert "t.npy[1]: input 'tokens': values run from 1 to 9" in done.err
    assert "t.npy[2]: input 'tokens' got int64, expected int32" in done.err


# Unsure


def test_unsure_below_a_confidence(model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", IMAGES)
    shares = expected(IMAGES)
    bound = float(np.median(shares.max(axis=1)))
    unsure = shares.max(axis=1) < bound
    options = ("-m", model, "--min-confidence", bound)
    outputs = []
    for named in ([tmp_path / "rows.npy"], ["--batch", tmp_path / "rows.npy"]):
        done = toolkit("predict", *named, *options, "--json")
        outputs.append(done.out)
        answers = _lines(done.out)
        assert [answer["label"] == -1 for answer in answers] == unsure.tolist()
        assert [answer["class_name"] == "unsure" for answer in answers] == unsure.tolist()
        np.testing.assert_allclose([a["confidence"] for a in answers], shares.max(axis=1), atol=1e-6)
        best = np.sort(shares, axis=1)
        np.testing.assert_allclose([a["margin"] for a in answers], best[:, -1] - best[:, -2], atol=1e-6)
        done = toolkit("predict", *named, *options)
        line = next(line for line in done.out.splitlines() if line.strip().startswith("unsure"))
        assert f"{unsure.sum()} " in line
        assert f"{unsure.mean():.1%}" in line
    assert outputs[0] == outputs[1]
    toolkit("predict", "--batch", tmp_path / "rows.npy", *options, "-o", tmp_path / "a.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.where(unsure, -1, shares.argmax(axis=1)))
    done = toolkit("predict", tmp_path / "rows.npy", *options, "--all")
    assert sum("-1   unsure" in line for line in done.out.splitlines()) == unsure.sum()


def test_unsure_needs_classes_and_a_probability(model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", IMAGES)
    nameless = tiny_model(tmp_path / "nameless.onnx", names=None)
    for named in ([tmp_path / "rows.npy"], ["--batch", tmp_path / "rows.npy"]):
        done = toolkit("predict", *named, "-m", nameless, "--min-confidence", 0.5)
        assert done.code == 2
        assert "names no classes" in done.error_line
        for bound in ("1.5", "-0.1", "nan", "high"):
            done = toolkit("predict", *named, "-m", model, "--min-confidence", bound)
            assert done.code == 2
            assert "confidence" in done.error_line


# What is refused, in one line and before anything is printed


def _empty(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("no picture")


def _cut(path: Path, kind: str, keep: float) -> None:
    whole = _stored(path.parent, kind, IMAGES).read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])


def _flipped(path: Path, kind: str) -> None:
    """One bit in the middle of the packed values."""
    whole = bytearray(_stored(path.parent, kind, MANY[:100]).read_bytes())
    whole[len(whole) // 2] ^= 4
    path.write_bytes(whole)


def _saved(array: Any) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, array)

    return save


def _longer(path: Path) -> None:
    path.write_bytes(pack(IMAGES) + b"x")


def _claims_more(path: Path) -> None:
    """A header of a million rows in front of fifty."""
    buffer = io.BytesIO()
    np.save(buffer, IMAGES)
    path.write_bytes(buffer.getvalue().replace(b"(50, 28, 28), }" + b" " * 5, b"(1000000, 28, 28), }", 1))


def _pickled(path: Path) -> None:
    np.savez(path.with_suffix(".npz"), x=np.array([{}], object), allow_pickle=True)
    path.with_suffix(".npz").rename(path)


def _without_central_directory(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("picture.png", b"no")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_empty, "holds no pictures (.png, .jpg or .jpeg), and 1 other files"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b"a,b\n1,2\n"), "is a text of numbers"),
        (lambda path: _cut(path, "npy", 0.9), "it is cut short or damaged"),
        (lambda path: _cut(path, "npy", 0.002), "damaged .npy header"),
        (lambda path: _cut(path, "idx3-ubyte", 0.9), "has fewer bytes than the"),
        (lambda path: _cut(path, "idx3-ubyte", 0.0003), "is cut short"),
        (lambda path: _cut(path, "idx3-ubyte.gz", 0.9), "cut short"),
        (lambda path: _cut(path, "npz", 0.9), "no whole zip archive"),
        (lambda path: _flipped(path, "idx3-ubyte.gz"), "copy or download it again"),
        (lambda path: _flipped(path, "packed.npz"), "is no whole zip archive"),
        (lambda path: _flipped(path, "npz"), "is no whole zip archive"),
        (_longer, "has more bytes than the"),
        (_claims_more, "it is cut short or damaged"),
        (_pickled, "Python objects, which are a pickle"),
        (_without_central_directory, "is a zip of pictures"),
        (_saved(IMAGES.astype(np.int64)), "holds int64 of shape (50, 28, 28), expected uint8"),
        (_saved(IMAGES / 255), "undo the division by 255"),
        (_saved(IMAGES.reshape(-1, 784)), "has shape (50, 784), expected uint8 of shape (28, 28) or (n, 28, 28)"),
        (_saved(IMAGES[..., None]), "has shape (50, 28, 28, 1)"),
        (_saved(np.array(["a", "b"])), "expected uint8"),
        (_saved(np.float32(1)), "single number"),
    ],
)
def test_what_is_no_batch_is_one_line(model: Path, tmp_path: Path, make: Callable[[Path], None], says: str) -> None:
    path = tmp_path / "rows"
    make(path)
    done = toolkit("predict", "--batch", path, "-m", model, "--json", "-o", tmp_path / "a.jsonl")
    assert done.code == 2
    assert says in done.error_line
    assert done.out == ""
    assert not (tmp_path / "a.jsonl").exists()


def test_what_another_model_takes_is_one_line(tmp_path: Path) -> None:
    floats = write(tmp_path / "m.onnx", small_graphs.LOGITS)
    two = write(tmp_path / "two.onnx", small_graphs.TWO)
    Image.new("RGB", (3, 4)).save(tmp_path / "image.png")
    np.save(tmp_path / "wide.npy", np.zeros((5, 3), np.float32))
    np.save(tmp_path / "bytes.npy", np.zeros((5, 4), np.uint8))
    np.save(tmp_path / "none.npy", np.zeros((0, 4), np.float32))
    np.savez(tmp_path / "part.npz", image=np.zeros((2, 4, 3), np.float32))
    np.savez(tmp_path / "uneven.npz", image=np.zeros((2, 4, 3), np.float32), rows=np.zeros((3, 2), np.int32))
    np.savez(tmp_path / "fortran.npz", x=np.asfortranarray(np.zeros((5, 4), np.float32)))
    for model, name, says in (
        (floats, "image.png", "give rows as .npy"),
        (floats, "wide.npy", "got shape (5, 3), expected (batch, 4)"),
        (floats, "bytes.npy", "got dtype uint8, expected float32"),
        (floats, "none.npy", "got no rows"),
        (floats, "fortran.npz", "numpy.ascontiguousarray"),
        (two, "image.png", "an .npz with an array for each"),
        (two, "wide.npy", "an .npz with an array for each"),
        (two, "part.npz", "no array for the input 'rows'"),
        (two, "uneven.npz", "expected the same number of each"),
    ):
        done = toolkit("predict", "--batch", tmp_path / name, "-m", model, "--json")
        assert done.code == 2, name
        assert says in done.error_line
        assert done.out == ""


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--batch", "tests", "README.md"], 2, "stands alone"),
        (["--batch", "-"], 2, "no standard input"),
        (["--batch", "nowhere"], 3, "nowhere does not exist"),
        (["--batch", "tests", "--top", 2], 2, "do nothing with --batch"),
        (["--batch", "tests", "--all"], 2, "do nothing with --batch"),
        (["README.md", "-o", "x.csv"], 2, "--output goes with --batch"),
        (["-o", "x.csv"], 2, "got no FILE"),
    ],
)
def test_options_that_do_not_go_together(model: Path, arguments: list[object], code: int, says: str) -> None:
    done = toolkit("predict", *arguments, "-m", model)
    assert done.code == code
    assert says in done.error_line
    assert done.out == ""


def test_where_answers_cannot_go(model: Path, tmp_path: Path) -> None:
    path = _stored(tmp_path, "npy", IMAGES)
    before = path.read_bytes()
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").write_text("")
    for output, says in (
        (path, "is what the rows are read from"),
        (tmp_path / "folder.csv", "is a folder"),
        (tmp_path / "file" / "a.csv", "choose another path"),
        (tmp_path / "answers", "end it in .csv, .jsonl or .npy"),
    ):
        done = toolkit("predict", "--batch", path, "-m", model, "-o", output)
        assert done.code == 2
        assert says in done.error_line
        assert done.out == ""
    assert path.read_bytes() == before


def test_many_errors_are_counted(model: Path, tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number:02}.png").write_text("no picture")
    done = toolkit("predict", "--batch", tmp_path, "-m", model)
    assert done.code == 2
    assert done.out == ""  # no table of nothing
    assert len([line for line in done.err.splitlines() if line.startswith("error: ")]) == 20
    assert "... and 10 more such errors" in done.err
    assert "30 of 30 rows have no answer" in done.err


def test_without_pillow_it_is_said_once(model: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "PIL.py").write_text("raise ImportError('not here')")
    done = toolkit("predict", "--batch", photos, "-m", model, env={"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"})
    assert done.code == 3
    assert "install the extra 'images'" in done.error_line


def test_no_training_library_is_loaded(model: Path, photos: Path, tmp_path: Path) -> None:
    """A device has none of them: here their import fails."""
    for name in ("keras", "tensorflow", "onnx", "tf2onnx", "matplotlib"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a training library was imported')")
    np.savez(tmp_path / "rows.npz", x=IMAGES)
    environment = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    for source, code in ((photos, 2), (tmp_path / "rows.npz", 0)):
        done = toolkit("predict", "--batch", source, "-m", model, "-o", tmp_path / "a.csv", env=environment)
        assert done.code == code
        assert (tmp_path / "a.csv").is_file()


# Nothing half-written


def test_a_model_that_breaks_leaves_the_earlier_file(tmp_path: Path) -> None:
    broken = tiny_model(tmp_path / "broken.onnx", weights=np.full_like(WEIGHTS, np.nan))
    output = tmp_path / "a.csv"
    output.write_text("earlier")
    done = toolkit("predict", "--batch", _stored(tmp_path, "npy", MANY), "-m", broken, "-o", output)
    assert done.code == 2
    assert "NaN" in done.error_line
    assert output.read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


def _sparse(path: Path, count: int) -> Path:
    """Black images that take no room on the disk."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, 28, 28)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + count * 784)
    return path


def test_ctrl_c_leaves_the_earlier_file(tmp_path: Path, model: Path) -> None:
    output = tmp_path / "a.jsonl"
    output.write_text("earlier")
    path = _sparse(tmp_path / "rows.npy", 2_000_000)
    process = subprocess.Popen(
        [str(TOOLKIT), "predict", "--batch", str(path), "-m", str(model), "--json", "-o", str(output)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        # Where the tests run in the background of a script, SIGINT is ignored, and a child inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - before any thread of ours
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["index"] == 0
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "error: interrupted; nothing half-written was left behind\n"
    assert output.read_text() == "earlier"
    assert {path.name for path in tmp_path.iterdir()} == {"a.jsonl", "rows.npy"}


def test_a_reader_that_goes_away_leaves_no_file(tmp_path: Path, model: Path) -> None:
    path = _sparse(tmp_path / "rows.npy", 500_000)
    command = [str(TOOLKIT), "predict", "--batch", str(path), "-m", str(model), "--json", "-o", str(tmp_path / "a.csv")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 141
    process.stderr.close()
    assert [path.name for path in tmp_path.iterdir()] == ["rows.npy"]


# Progress


def test_a_terminal_gets_a_bar(tmp_path: Path, model: Path, photos: Path) -> None:
    """stderr is a terminal here, stdout a pipe: nothing of the bar gets into it."""
    path = _sparse(tmp_path / "rows.npy", 30_000)
    for source in (path, photos):
        ours, theirs = pty.openpty()
        seen = bytearray()

        def drain(end: int = ours, into: bytearray = seen) -> None:
            try:
                while piece := os.read(end, 4096):
                    into += piece
            except OSError:  # what Linux says at the end
                pass

        reader = threading.Thread(target=drain)
        reader.start()
        done = subprocess.run(
            [str(TOOLKIT), "predict", "--batch", str(source), "-m", str(model), "--json"],
            stdout=subprocess.PIPE,
            stderr=theirs,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "150"},
            cwd=ROOT,
            check=False,
        )
        os.close(theirs)
        reader.join(timeout=20)
        os.close(ours)
        text = seen.decode()
        assert "rows, " in text
        assert "/s" in text
        answers = [json.loads(line) for line in done.stdout.decode().splitlines()]
        if source == path:
            assert "/30000" in text
            assert len(answers) == 30_000
        else:
            assert "error: " in text
            assert len(answers) == len(_in_order(photos))


# Memory


_LAUNCHER = """
import os, resource, sys
child = os.fork()
if child == 0:
    resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[1]),) * 2)
    os.execv(sys.argv[2], sys.argv[2:])
_, status, usage = os.wait4(child, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss)
"""


def _peak(limit: int, *arguments: object) -> int:
    """The most memory that the installed command had (VmHWM), in MB, when its data may take so many bytes.

    The launcher is a small process of its own, since a child's figure begins with that of who forks it.
    """
    done = subprocess.run(
        [sys.executable, "-S", "-c", _LAUNCHER, str(limit), str(TOOLKIT), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=120,
    )
    code, kilobytes = map(int, done.stdout.split()[-2:])
    assert code == 0, done.stderr
    return kilobytes // 1024


def test_memory_does_not_grow_with_the_rows(tmp_path: Path, model: Path) -> None:
    """600 MB of images where 256 MB may be had, and twenty times the rows in the same memory."""
    limit = 256_000_000
    few, many = (_sparse(tmp_path / f"{count}.npy", count) for count in (20_000, 400_000))
    vast = _sparse(tmp_path / "vast.npy", 765_000)
    assert vast.stat().st_size > 2 * limit
    peaks = {}
    for path, count in ((few, 20_000), (many, 400_000), (vast, 765_000)):
        output = tmp_path / f"{path.stem}.labels.npy"
        peaks[count] = _peak(limit, "predict", "--batch", path, "-m", model, "-o", output)
        assert np.load(output).shape == (count,)
    assert max(peaks.values()) - min(peaks.values()) < 16, peaks
