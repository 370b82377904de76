"""What ``toolkit predict --batch`` refuses: in one line, and before anything is printed."""

from __future__ import annotations

import io
import os
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tests import small_graphs
from tests.batches import MANY, make_photos, stored
from tests.conftest import ROOT, toolkit
from tests.small_graphs import write
from tests.tiny_model import IMAGES, tiny_model
from toolkit.idx import pack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("a model") / "tiny.onnx")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("my photos"))


def _empty(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("no picture")


def _cut(path: Path, kind: str, keep: float) -> None:
    whole = stored(path.parent, kind, IMAGES).read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])


def _flipped(path: Path, kind: str) -> None:
    """One bit in the middle of the packed values."""
    whole = bytearray(stored(path.parent, kind, MANY[:100]).read_bytes())
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
    path = stored(tmp_path, "npy", IMAGES)
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
