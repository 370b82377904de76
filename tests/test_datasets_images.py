"""Folders of images, held against what Keras reads from the same folders."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given as property_of
from hypothesis import settings
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import ROOT
from tests.datasets_helpers import CLASSES, IMAGE, ONE, X, npz, read, refused, same
from toolkit.data import CLASS_NAMES
from toolkit.datasets.image_folder import resize
from toolkit.keras_model import TensorSpec, import_keras

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from toolkit.data import FashionMnist

COLOUR = TensorSpec("image", (None, 12, 10, 3), "float32")
GREY = TensorSpec("image", (None, 12, 10, 1), "float32")
THREE = TensorSpec("kind", (None, 3), "float32")


def _picture(seed: int, height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    """Smooth and coloured, so that JPEG keeps it well."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (4, 4, channels), dtype=np.uint8)
    big = [Image.fromarray(coarse[..., c]).resize((width, height), Image.Resampling.BICUBIC) for c in range(channels)]
    return np.stack([np.asarray(channel) for channel in big], axis=-1)


def _save(path: Path, pixels: NDArray[np.uint8], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path, **options)
    return path


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    """Three classes (one of them empty), several formats, sizes and depths, and things that are no images."""
    folder = tmp_path / "animals"
    for number, suffix in enumerate(("png", "jpg", "jpeg", "bmp", "PNG")):
        _save(folder / "cat" / f"{number}.{suffix}", _picture(number, 12, 10))
    _save(folder / "ant" / "large.png", _picture(9, 31, 45))
    _save(folder / "ant" / "small.png", _picture(10, 5, 3))
    _save(folder / "ant" / "deep" / "grey.png", _picture(11, 12, 10, 1))
    _save(folder / "ant" / "clear.png", _picture(12, 12, 10, 4))
    (folder / "bee").mkdir()
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "0.png").write_bytes(b"")
    (folder / "ant" / "notes.txt").write_text("of ants")
    (folder / "ant" / "Thumbs.db").write_text("")
    (folder / "ant" / ".DS_Store").write_text("")
    return folder


def _keras_reads(folder: Path, size: tuple[int, int], mode: str) -> tuple[NDArray[np.float32], NDArray[Any], list[str]]:
    keras = import_keras()
    dataset = keras.utils.image_dataset_from_directory(
        str(folder), color_mode=mode, image_size=size, shuffle=False, batch_size=100, verbose=False
    )
    ((images, labels),) = dataset.as_numpy_iterator()
    return images, labels, dataset.class_names


@pytest.mark.parametrize(("mode", "spec", "most"), [("rgb", COLOUR, 0.51), ("grayscale", GREY, 1.51)])
def test_classes_and_pixels_are_those_of_keras(animals: Path, mode: str, spec: TensorSpec, most: float) -> None:
    if mode == "grayscale":
        (animals / "cat" / "3.bmp").unlink()  # which Keras cannot make grey
    rows = read(animals, spec, THREE)
    images, labels, names = _keras_reads(animals, (12, 10), mode)
    assert rows.class_names == tuple(names) == ("ant", "bee", "cat")
    assert rows.targets["kind"].tolist() == labels.tolist()
    array = rows.inputs["image"]
    assert (array.shape, array.dtype) == (images.shape, np.dtype(np.uint8))
    # Keras keeps fractions of pixels, rounds grey otherwise, and decodes JPEG more coarsely.
    difference = np.abs(array.astype(np.float32) - images).reshape(len(array), -1).max(axis=1)
    # ant: clear, large, small, deep/grey; cat: 0.png, 1.jpg, 2.jpeg, (3.bmp,) 4.PNG
    jpeg = np.isin(np.arange(len(array)), (5, 6))
    assert difference[~jpeg].max() <= most
    assert difference[jpeg].max() <= 4
    assert rows.source == f"the {len(array)} images in animals"


def test_what_was_done_is_said(animals: Path) -> None:
    assert read(animals, COLOUR, THREE).notes == (
        "animals: 1 files that are no images were left out",
        "animals: 2 of 9 images resized to 12x10 by bilinear interpolation, as Keras does",
        "animals: 1 of 9 images of one channel, which was repeated",
        "animals: 1 of 9 images transparent: only the colours were taken, as Keras does",
    )
    assert "animals: 8 of 9 images made grey" in read(animals, GREY, THREE).notes


@property_of(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    to=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_resizing_is_that_of_tensorflow(height: int, width: int, to: tuple[int, int], seed: int) -> None:
    import_keras()
    import tensorflow as tf

    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    exact = tf.image.resize(pixels, to, method="bilinear").numpy()
    assert np.abs(resize(pixels, *to).astype(np.float32) - exact).max() <= 0.501


def test_real_images_come_back_bit_for_bit(tmp_path: Path, fashion_mnist: FashionMnist) -> None:
    images, labels = fashion_mnist.test_images[:40], fashion_mnist.test_labels[:40]
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        _save(
            tmp_path / "real" / f"{label} {CLASS_NAMES[label].replace('/', ' ')}" / f"{number:03}.png", image[..., None]
        )
    order = np.argsort(labels, kind="stable")
    assert len(set(labels.tolist())) == 10
    for spec, expected in ((IMAGE, images), (TensorSpec("image", (None, 28, 28, 1), "uint8"), images[..., None])):
        rows = read(tmp_path / "real", spec, CLASSES)
        assert same(rows.inputs["image"], np.ascontiguousarray(expected[order]))
        assert rows.targets["probabilities"].tolist() == labels[order].tolist()
        assert rows.class_names is not None
        assert rows.class_names[0] == "0 T-shirt top"
        assert rows.notes == ()


def test_images_without_folders_have_no_targets(tmp_path: Path) -> None:
    for number in (2, 0, 1):
        _save(tmp_path / f"{number}.png", _picture(number, 12, 10))
    rows = read(tmp_path, COLOUR, THREE)
    assert (rows.targets, rows.class_names, rows.count) == ({}, None, 3)
    assert same(rows.inputs["image"], np.stack([_picture(number, 12, 10) for number in range(3)]))


def test_a_model_of_pixels_as_floats_gets_bytes_and_one_of_ints_gets_ints(tmp_path: Path) -> None:
    _save(tmp_path / "a.png", _picture(1, 12, 10))
    for dtype, got in (("float32", "uint8"), ("float16", "uint8"), ("uint8", "uint8"), ("int32", "int32")):
        assert read(tmp_path, TensorSpec("image", (None, 12, 10, 3), dtype), []).inputs["image"].dtype == got


def test_folders_are_no_classes_of_other_outputs(animals: Path) -> None:
    rows = read(animals, COLOUR, TensorSpec("again", (None, 12, 10, 3), "float32"))
    assert (rows.targets, rows.class_names) == ({}, None)
    assert "were not taken as classes" in rows.notes[-4]
    assert read(animals, COLOUR, []).targets == {}
    shutil.rmtree(animals / "bee")
    rows = read(animals, COLOUR, ONE)
    assert rows.targets["price"].tolist() == [[0]] * 4 + [[1]] * 5
    assert rows.class_names == ("ant", "cat")


def test_as_many_folders_as_classes(animals: Path) -> None:
    shutil.rmtree(animals / "bee")
    line = refused(animals, COLOUR, THREE)
    assert "has 2 folders ('ant' and 'cat'), expected 3, one for each class of the output 'kind'" in line


def test_a_free_size_needs_images_of_one_size(tmp_path: Path) -> None:
    free = TensorSpec("image", (None, None, None, 3), "float32")
    for number in range(3):
        _save(tmp_path / f"{number}.png", _picture(number, 7, 9))
    assert read(tmp_path, free, []).inputs["image"].shape == (3, 7, 9, 3)
    _save(tmp_path / "3.png", _picture(3, 9, 7))
    line = refused(tmp_path, free, [])
    assert "1 of 4 images have other sizes than '0.png' (7x9)" in line


def test_a_folder_beyond_the_limit_is_thinned_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for label in range(3):
        for number in range(10):
            _save(
                tmp_path / "many" / f"class {label}" / f"{number}.png",
                np.full((12, 10, 3), label * 10 + number, np.uint8),
            )
    monkeypatch.setattr("toolkit.datasets.image_folder.IMAGES_LIMIT", 9 * 360)
    rows = read(tmp_path / "many", COLOUR, THREE)
    assert rows.notes[0].startswith("many: 9 of 30 images were taken, evenly spread")
    assert np.bincount(rows.targets["kind"]).tolist() == [3, 3, 3]
    assert (rows.inputs["image"][:, 0, 0, 0] // 10).tolist() == rows.targets["kind"].tolist()
    assert rows.source == "the 9 images in many"


def test_progress_is_told(tmp_path: Path) -> None:
    for number in range(130):
        _save(tmp_path / f"{number}.bmp", _picture(1, 12, 10))
    heard: list[tuple[int, int]] = []
    read(tmp_path, COLOUR, [], step=lambda done, total, _: heard.append((done, total)))
    assert heard == [(0, 130), (64, 130), (128, 130), (130, 130)]


def test_other_depths(tmp_path: Path) -> None:
    deep = (_picture(1, 12, 10, 1)[..., 0].astype(np.uint16) << 8) + (
        np.arange(120, dtype=np.uint16).reshape(12, 10) * 2
    )
    Image.fromarray(deep).save(tmp_path / "a.png")
    Image.fromarray(_picture(1, 12, 10)).quantize(200).save(tmp_path / "b.gif")
    Image.fromarray(_picture(1, 12, 10)).convert("CMYK").save(tmp_path / "c.jpg")
    Image.fromarray(_picture(1, 12, 10)).convert("1").save(tmp_path / "d.png")
    Image.fromarray(_picture(1, 12, 10)).save(tmp_path / "e.webp", lossless=True)
    rows = read(tmp_path, COLOUR, [])
    assert np.array_equal(rows.inputs["image"][0], np.repeat(_picture(1, 12, 10, 1), 3, axis=-1))
    assert np.array_equal(rows.inputs["image"][4], _picture(1, 12, 10))
    alpha = read(tmp_path, TensorSpec("image", (None, 12, 10, 4), "uint8"), []).inputs["image"]
    assert (alpha[4, ..., 3] == 255).all()


def test_a_turned_picture_stays_as_keras_takes_it(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    _save(tmp_path / "a.png", _picture(1, 12, 10), exif=exif)
    rows = read(tmp_path, COLOUR, [])
    assert np.array_equal(rows.inputs["image"][0], _picture(1, 12, 10))
    assert "not turned upright though their EXIF says so" in rows.notes[0]


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        (b"", "is no image that can be read"),
        (b"hello", "is no image that can be read"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "is no image that can be read"),
        ("cut", "cannot be decoded"),
        ("large", "million pixels"),
        ("dangling", "No such file"),
    ],
)
def test_bad_pictures(tmp_path: Path, data: bytes | str, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _save(tmp_path / "bad.png", np.random.default_rng(1).integers(0, 256, (12, 10, 3), dtype=np.uint8))
    if isinstance(data, bytes):
        path.write_bytes(data)
    elif data == "cut":
        path.write_bytes(path.read_bytes()[:300])
    elif data == "large":
        monkeypatch.setattr("toolkit.datasets.image_folder.MAX_PIXELS", 100)
    else:
        path.unlink()
        path.symlink_to(tmp_path / "none")
    line = refused(tmp_path, COLOUR, [])
    assert wrong in line
    assert "bad.png" in line


def test_folders_that_are_unclear(tmp_path: Path, animals: Path) -> None:
    _save(animals / "stray.png", _picture(1, 12, 10))
    assert "has images in itself ('stray.png') and in folders ('ant', 'bee' and 'cat')" in refused(
        animals, COLOUR, THREE
    )
    (animals / "stray.png").unlink()
    flat = TensorSpec("image", (None, 784), "float32")
    assert "input 'image' takes (batch, 784), expected (batch, height, width)" in refused(animals, flat, THREE)
    assert "serves a model of one input" in refused(animals, [COLOUR, GREY], THREE)
    (tmp_path / "empty").mkdir()
    npz(tmp_path / "empty" / "a.npz", x=X)
    assert "is a folder without images" in refused(tmp_path / "empty", COLOUR, THREE)


def test_without_pillow(tmp_path: Path) -> None:
    _save(tmp_path / "a.png", _picture(1, 12, 10))
    script = """
import sys
sys.modules["PIL"] = None
from toolkit.datasets import read_rows
from toolkit.keras_model.source import TensorSpec
try:
    read_rows(sys.argv[1], [TensorSpec("x", (None, 12, 10, 3), "uint8")], [])
except Exception as error:
    print(type(error).__name__, error.exit_code, error)
print(sorted({"tensorflow", "keras", "onnx", "typer"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True, cwd=ROOT
    )
    said, modules = done.stdout.splitlines()
    assert said.startswith("MissingError 3 ")
    assert "install the extra 'images'" in said
    assert modules == "[]"
