"""``toolkit predict`` as it is installed: what it prints, and what it exits with."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import REFERENCE, ROOT, TOOLKIT, Finished, toolkit
from tests.tiny_model import IMAGES, NAMES, WEIGHTS, expected, tiny_model
from toolkit.data import CLASS_NAMES
from toolkit.idx import pack

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("a model") / "tiny.onnx")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a picture.png"
    Image.fromarray(IMAGES[0]).save(path)
    return path


def _piped(model: Path, data: bytes, *options: str) -> Finished:
    done = subprocess.run(
        [str(TOOLKIT), "predict", "-", "-m", str(model), *options],
        input=data,
        capture_output=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())


def _lines(done: Finished) -> list[dict[str, Any]]:
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def test_json_lines_say_what_the_model_says(model: Path, picture: Path, tmp_path: Path) -> None:
    several = tmp_path / "several.npy"
    np.save(several, IMAGES[:3])
    answers = _lines(toolkit("predict", picture, several, "-m", model, "--json"))
    assert [(a["file"], a["index"]) for a in answers] == [
        (str(picture), 0),
        *((str(several), index) for index in range(3)),
    ]
    rows = expected(np.concatenate([IMAGES[:1], IMAGES[:3]]))
    np.testing.assert_allclose([a["probabilities"] for a in answers], rows, atol=1e-6)
    for answer, row in zip(answers, rows, strict=True):
        assert answer["label"] == row.argmax()
        assert answer["class_name"] == NAMES[row.argmax()]
        assert answer["confidence"] == max(answer["probabilities"])


def test_people_get_a_table(model: Path, picture: Path) -> None:
    done = toolkit("predict", picture, "-m", model)
    assert done.code == 0
    label = int(expected(IMAGES[:1]).argmax())
    row = next(line for line in done.out.splitlines() if picture.name in line)
    assert f"{label}   {NAMES[label]}" in row
    assert f"{expected(IMAGES[:1]).max():.4f}" in row
    assert "tiny.onnx (float32)" in done.out
    assert done.err == ""


def test_names_that_a_terminal_or_rich_would_trip_over(model: Path, picture: Path, tmp_path: Path) -> None:
    for name in (b"[bold]x.png", b"\xff.png", "\u00e9.png".encode()):
        path = tmp_path / os.fsdecode(name)
        path.write_bytes(picture.read_bytes())
        done = toolkit("predict", path.name, "-m", model, cwd=tmp_path, env={"PYTHONIOENCODING": "ascii"})
        assert done.code == 0, done.err
        (answer,) = _lines(toolkit("predict", path.name, "-m", model, "--json", cwd=tmp_path))
        assert answer["file"] == path.name
        if name.isascii():
            assert path.name in done.out


def test_the_runners_up(model: Path, picture: Path) -> None:
    done = toolkit("predict", picture, "-m", model, "--top", 3)
    order = np.argsort(-expected(IMAGES[:1])[0])
    row = next(line for line in done.out.splitlines() if picture.name in line)
    assert [row.index(NAMES[label]) for label in order[:3]] == sorted(row.index(NAMES[label]) for label in order[:3])
    assert NAMES[order[3]] not in row


def test_many_images_end_in_a_summary(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "t10k-images-idx3-ubyte"
    path.write_bytes(pack(IMAGES))
    done = toolkit("predict", path, "-m", model)
    assert done.code == 0, done.err
    assert f"{path.name}[19]" in done.out
    assert f"{path.name}[20]" not in done.out
    assert "and 30 more rows" in done.out
    assert "All 50 rows" in done.out
    counts = np.bincount(expected(IMAGES).argmax(axis=1), minlength=10)
    for name, count in zip(NAMES, counts, strict=True):
        assert any(name in line and f"{count / 50:.1%}" in line for line in done.out.splitlines()) == (count > 0)
    assert f"{path.name}[49]" in toolkit("predict", path, "-m", model, "--all").out


def test_more_images_than_one_run_takes(model: Path) -> None:
    images = np.tile(IMAGES, (50, 1, 1))
    answers = _lines(_piped(model, images.tobytes(), "--json"))
    assert len(answers) == 2500
    labels = expected(images).argmax(axis=1)
    assert [answer["label"] for answer in answers] == labels.tolist()


def test_no_images_at_all_is_no_error(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "none.npy"
    np.save(path, IMAGES[:0])
    assert _lines(toolkit("predict", path, "-m", model, "--json")) == []
    assert toolkit("predict", path, "-m", model).code == 0


def test_every_kind_of_standard_input(model: Path, picture: Path, tmp_path: Path) -> None:
    array = tmp_path / "array.npy"
    np.save(array, IMAGES[0])
    for data in (picture.read_bytes(), array.read_bytes(), pack(IMAGES[:1]), IMAGES[0].tobytes()):
        (answer,) = _lines(_piped(model, data, "--json"))
        assert answer["file"] == "-"
        assert answer["label"] == expected(IMAGES[:1]).argmax()


def test_what_was_done_to_a_photo_is_said_on_stderr(model: Path, tmp_path: Path) -> None:
    """Only a model of Fashion-MNIST takes for granted that things are bright on black."""
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (60, 80), "white").save(path)
    done = toolkit("predict", path, "-m", model, "--json")
    assert len(_lines(done)) == 1
    assert done.err == f"{path}: 60x80 RGB picture made grey, resized to 28x28\n"
    done = toolkit("predict", path, "-m", tiny_model(tmp_path / "fashion.onnx", names=list(CLASS_NAMES)), "--json")
    assert len(_lines(done)) == 1
    assert "photo.jpg: 60x80 RGB picture made grey, inverted, as its border is bright, fitted" in done.err


def test_one_bad_file_does_not_stop_the_others(model: Path, picture: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    done = toolkit("predict", tmp_path / "nope.png", picture, tmp_path / "text.png", "-m", model)
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert ["nope.png" in errors[0], "text.png" in errors[1]] == [True, True]
    assert picture.name in done.out
    assert done.code == 3  # that of the first
    done = toolkit("predict", tmp_path / "text.png", picture, tmp_path / "nope.png", "-m", model, "--json")
    assert done.code == 2
    assert len(done.out.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--json", "--all"], 2, "--all does nothing with --json"),
        (["--json", "--top", 2], 2, "--top does nothing with --json"),
        (["--top", 11], 2, "the model knows 10 classes"),
        (["--top", 0], 2, "--top"),
        (["--threads", 0], 2, "--threads"),
        (["--kind", "int3"], 2, "--kind"),
        (["--kind", "int8"], 2, "has no int8 model"),
        (["-", "-"], 2, "named twice"),
        (["-"], 2, "standard input is empty"),
        (["-m", "nowhere.onnx"], 3, "nowhere.onnx does not exist"),
        (["-m", "README.md"], 2, "is no ONNX model"),
    ],
)
def test_a_users_mistake_is_one_line(model: Path, picture: Path, arguments: list[object], code: int, says: str) -> None:
    named = [] if arguments[0] == "-" else [picture]
    done = toolkit("predict", *named, "-m", model, *arguments)
    assert done.code == code
    assert says in done.error_line
    assert done.out == ""


def test_no_image_named() -> None:
    done = toolkit("predict")
    assert done.code == 2
    assert "FILE" in done.error_line


def test_nothing_here_to_predict_with(picture: Path, tmp_path: Path) -> None:
    done = toolkit("predict", picture, cwd=tmp_path)
    assert done.code == 3
    assert "toolkit run" in done.error_line


def test_a_model_without_class_names(picture: Path, tmp_path: Path) -> None:
    nameless = tiny_model(tmp_path / "nameless.onnx", names=None)
    (answer,) = _lines(toolkit("predict", picture, "-m", nameless, "--json"))
    assert (answer["label"], answer["class_name"], answer["probabilities"]) == (None, None, None)
    np.testing.assert_allclose(answer["outputs"]["probabilities"], expected(IMAGES[:1])[0], atol=1e-6)
    done = toolkit("predict", picture, "-m", nameless, "--top", 2)
    assert done.code == 2
    assert "--top ranks classes, but" in done.error_line


def test_a_model_that_takes_no_raw_pixels(picture: Path, tmp_path: Path) -> None:
    done = toolkit("predict", picture, "-m", tiny_model(tmp_path / "float.onnx", dtype="float32"))
    assert done.code == 2
    assert "the model does not say in which scale; give rows as .npy, or export with --input-scale" in done.error_line


def test_a_model_that_answers_nan(picture: Path, tmp_path: Path) -> None:
    broken = tiny_model(tmp_path / "broken.onnx", weights=np.full_like(WEIGHTS, np.nan))
    for option in ("--json", "--top=2"):
        done = toolkit("predict", picture, "-m", broken, option)
        assert done.code == 2
        assert "NaN" in done.error_line
        assert done.out == ""


def test_no_training_library_is_loaded(model: Path, picture: Path, tmp_path: Path) -> None:
    """A device has none of them: here their import fails."""
    for name in ("keras", "tensorflow", "onnx", "tf2onnx", "matplotlib"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a training library was imported')")
    environment = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    assert len(_lines(toolkit("predict", picture, "-m", model, "--json", env=environment))) == 1


def test_the_reference_artifact_knows_its_own_samples() -> None:
    samples = sorted((REFERENCE / "samples").glob("*.png"))
    assert samples
    for kind in ("int8", "float32"):
        done = toolkit("predict", *samples, "-m", REFERENCE, "--kind", kind, "--json")
        assert [answer["file"] for answer in _lines(done)] == list(map(str, samples))
