"""``toolkit predict --batch`` and ``--min-confidence`` as they are installed: what they say."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tests import small_graphs
from tests.batches import BROKEN, MANY, in_order, lines_of, make_photos, stored, table_of
from tests.conftest import REFERENCE, toolkit
from tests.small_graphs import write
from tests.tiny_model import IMAGES, NAMES, expected, tiny_model
from toolkit.predictor import Predictor

if TYPE_CHECKING:
    from pathlib import Path

COLOURS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("a model") / "tiny.onnx")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("my photos"))


KINDS = ["npy", "fortran.npy", "npz", "packed.npz", "idx3-ubyte", "idx3-ubyte.gz"]


# The same answers as the plain way, in order


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_says_the_same_as_in_the_plain_way(model: Path, tmp_path: Path, kind: str) -> None:
    path = stored(tmp_path, kind, MANY)
    plain = toolkit("predict", path, "-m", model, "--json")
    done = toolkit("predict", "--batch", path, "-m", model, "--json")
    assert (plain.code, done.code) == (0, 0), done.err
    assert done.out == plain.out
    assert done.err == ""
    answers = lines_of(done.out)
    assert [answer["index"] for answer in answers] == list(range(5000))
    np.testing.assert_allclose([a["probabilities"] for a in answers], expected(MANY), atol=1e-6)


def test_a_folder_says_the_same_as_its_pictures(photos: Path) -> None:
    names = in_order(photos)
    plain = toolkit("predict", *names, "-m", REFERENCE, "--json")
    done = toolkit("predict", "--batch", photos, "-m", REFERENCE, "--json")
    answers = lines_of(done.out)
    assert [answer["file"] for answer in answers] == names
    assert [answer for answer in answers if "error" not in answer] == lines_of(plain.out)
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
        (answer,) = lines_of(toolkit("predict", "--batch", tmp_path / name, "-m", model, "--json").out)
        np.testing.assert_allclose(answer["probabilities"], expected(IMAGES[:1])[0], atol=1e-6)


def test_no_rows_are_no_error(model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "none.npy", IMAGES[:0])
    for output in ("a.csv", "a.jsonl", "a.npy"):
        done = toolkit("predict", "--batch", tmp_path / "none.npy", "-m", model, "-o", tmp_path / output)
        assert done.code == 0, done.err
    assert table_of(tmp_path / "a.csv") == []
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
    answers = lines_of(toolkit("predict", "--batch", tmp_path / "pictures", "-m", free, "--json").out)
    assert [answer["class_name"] for answer in answers] == list(COLOURS) * 3


# What people and files get


def test_people_get_a_table_of_classes(model: Path, tmp_path: Path) -> None:
    done = toolkit("predict", "--batch", stored(tmp_path, "npy", MANY), "-m", model)
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
    names = in_order(photos)
    for name in ("a.csv", "a.jsonl", "a.npy"):
        done = toolkit("predict", "--batch", photos, "-m", model, "-o", tmp_path / name)
        assert done.code == 2
        assert f"{len(BROKEN)} of {len(names)} rows have no answer" in done.err
        assert f"{len(names)} rows written to {tmp_path / name}" in done.err
    lines, table, labels = (
        lines_of((tmp_path / "a.jsonl").read_text()),
        table_of(tmp_path / "a.csv"),
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
    (row,) = table_of(tmp_path / "a.csv")
    assert row["file"] == str(folder / "new\nline.png")


def test_a_model_without_classes_gives_numbers(tmp_path: Path) -> None:
    model = write(tmp_path / "a.onnx", small_graphs.AUTOENCODER, outputs={"again": ("values", None)})
    rows = np.random.default_rng(1).normal(size=(3000, 4)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    done = toolkit("predict", "--batch", tmp_path / "rows.npy", "-m", model, "-o", tmp_path / "a.csv")
    assert done.code == 0, done.err
    answers = Predictor(model).predict_batch(rows).outputs["again"]
    table = table_of(tmp_path / "a.csv")
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
    answers = lines_of(done.out)
    assert [answer["index"] for answer in answers] == list(range(3000))
    assert [answer["index"] for answer in answers if "error" in answer] == [17, 2500]
    assert "rows.npy[17]: input 'x': contains NaN or infinity" in done.err
    whole = np.delete(rows, [17, 2500], axis=0)
    found = [answer["outputs"]["kind"] for answer in answers if "error" not in answer]
    np.testing.assert_array_equal(np.array(found, np.float32), -whole)

    tokens = write(tmp_path / "t.onnx", small_graphs.TOKENS, inputs={"tokens": (0, 4)})
    np.save(tmp_path / "t.npy", np.array([[1, 1, 1], [1, 1, 9], [2**40, 1, 1]]))
    done = toolkit("predict", "--batch", tmp_path / "t.npy", "-m", tokens, "--json")
    assert ["error" in answer for answer in lines_of(done.out)] == [False, True, True]
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
        answers = lines_of(done.out)
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
