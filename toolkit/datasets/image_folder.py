"""A folder of images, or a folder of such folders by class, read as Keras' `image_dataset_from_directory` reads it.

The classes are the sub-folders in sorted order. What fits the model's size is taken bit for bit; anything else is
resized as Keras does it by default: to the model's height and width, without regard to its shape, by bilinear
interpolation between the four nearest pixels (without smoothing first, which Pillow would do). As Keras does not turn
pictures upright by their EXIF, neither is it done here. Keras keeps fractions of a resized pixel; here it is rounded.
Lossless pictures agree with Keras' reading; TensorFlow decodes JPEG more coarsely, which moves
a pixel by up to 4 of 255.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.datasets.class_names import checked_names
from toolkit.datasets.naming import only_input, only_output
from toolkit.datasets.rows import Found, listed, shape_text
from toolkit.errors import DataError, MissingError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from toolkit.keras_model.source import TensorSpec
    from toolkit.progress import Step

__all__ = ["IMAGES_LIMIT", "has_images", "read_folder"]

IMAGES_LIMIT = 2_000_000_000
"""Bytes that the images of one folder may take; of more, some are taken, spread evenly over the classes."""

MAX_PIXELS = 64_000_000  # of one picture
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_ORIENTATION = 0x0112  # the EXIF tag
_EVERY = 64  # images between two words on progress


@dataclass(frozen=True)
class _Listing:
    """The image files of a folder, with the class of each; classes is empty where there are no folders of classes."""

    files: list[Path]
    labels: list[int]
    classes: tuple[str, ...]
    others: int


def has_images(folder: Path, shown: str) -> bool:
    """Whether there is an image in a folder or below it.

    Raises:
        UsageError: a folder may not be read.
    """
    return bool(_walk(folder, shown)[0])


def read_folder(
    folder: Path, shown: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], step: Step
) -> Found:
    """The images in a folder, uint8 of shape (n, h, w) or (n, h, w, c), and their classes if there are folders of them.

    Raises:
        MissingError: Pillow is not installed.
        DataError: the model takes no images, a picture cannot be decoded, the sizes are unclear, or the folders are not
            as many as the model has classes.
        UsageError: a folder or file may not be read.
    """
    spec = only_input(inputs, shown, "a folder of images")
    height, width, channels, axis = _size(spec, shown)
    listing = _list(folder, shown)
    notes, targets, names = [], {}, None
    if listing.others:
        notes.append(f"{folder.name}: {listing.others} files that are no images were left out")
    chosen = np.arange(len(listing.files))
    free = height is None or width is None
    if height is None or width is None:
        first = _open(listing.files[0])
        height, width = height or first.height, width or first.width
    most = max(1, IMAGES_LIMIT // (height * width * channels))
    if len(chosen) > most:
        chosen = np.linspace(0, len(chosen) - 1, most).round().astype(np.intp)
        notes.append(
            f"{folder.name}: {most} of {len(listing.files)} images were taken, evenly spread, as all would take more "
            f"than {IMAGES_LIMIT / 1e9:g} GB"
        )
    files = [listing.files[index] for index in chosen]
    images, done = _read_all(files, folder, (height, width, channels), step)
    if free and done["resized"]:
        raise DataError(
            f"{shown}: {done['resized']} of {len(files)} images have other sizes than '{files[0].name}' "
            f"({height}x{width}), and the model takes any size, so none is right for all; resize them to one size"
        )
    if listing.classes:
        output = only_output(outputs)
        if output is None:
            notes.append(
                f"{folder.name}: its folders were not taken as classes, as this model has no single output of them"
            )
        else:
            _check_classes(listing.classes, output, shown)
            names = checked_names(listing.classes, f"{shown}: the folders")
            targets[output.name] = np.array(listing.labels, np.int64)[chosen]
    return Found(
        {spec.name: images if axis else images[..., 0]},
        targets,
        names,
        f"the {len(files)} images in {folder.name or shown}",
        tuple(notes + _told(done, len(files), folder.name, (height, width, channels))),
    )


def _size(spec: TensorSpec, shown: str) -> tuple[int | None, int | None, int, bool]:
    """Height and width (None: free), channels, and whether the model's shape has an axis for these."""
    row = spec.shape[1:]
    if len(row) == 2 and all(size is None or size > 1 for size in row):
        return row[0], row[1], 1, False
    if len(row) == 3 and row[2] in (1, 3, 4, None):
        return row[0], row[1], row[2] or 3, True
    raise DataError(
        f"{shown} holds images, but input '{spec.name}' takes {shape_text(spec.shape)}, expected (batch, height, "
        "width) or (batch, height, width, 1, 3 or 4 channels); give an .npz with rows of that shape"
    )


def _check_classes(classes: Sequence[str], output: TensorSpec, shown: str) -> None:
    count = output.shape[1]
    wanted = 2 if count == 1 else count
    if wanted is not None and len(classes) != wanted:
        raise DataError(
            f"{shown} has {len(classes)} folders ({listed(classes)}), expected {wanted}, one for each class of the "
            f"output '{output.name}', numbered in sorted order; add the missing ones (they may be empty), or give a "
            "folder of images without folders, whose classes are then unknown"
        )


def _walk(folder: Path, shown: str) -> tuple[list[Path], int]:
    """The image files in a folder and below, sorted as Keras does; and how many other files there are."""
    files, others = [], 0

    def refuse(error: OSError) -> None:
        raise UsageError(f"cannot read {shown}: {error.strerror} ({error.filename}); check its permissions")

    for root, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(_SUFFIXES) and not name.startswith("."):
                files.append(Path(root) / name)
            elif not name.startswith(".") and name.lower() not in ("thumbs.db", "desktop.ini"):
                others += 1
    return files, others


def _list(folder: Path, shown: str) -> _Listing:
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    files, others = _walk(folder, shown)
    here = [file for file in files if file.parent == folder]
    if not classes or len(here) == len(files):
        return _Listing(here, [0] * len(here), (), others)
    if here:
        raise DataError(
            f"{shown} has images in itself ('{here[0].name}') and in folders ({listed(classes)}); move them into the "
            "folder of their class, or out"
        )
    number = {name: index for index, name in enumerate(classes)}
    labels = [number[file.relative_to(folder).parts[0]] for file in files]
    return _Listing(files, labels, tuple(classes), others)


def _read_all(
    files: Sequence[Path], folder: Path, shape: tuple[int, int, int], step: Step
) -> tuple[NDArray[np.uint8], dict[str, int]]:
    """All images, uint8 of shape (n, height, width, channels), and to how many of them what was done."""
    height, width, channels = shape
    images = np.empty((len(files), height, width, channels), np.uint8)
    done = {"resized": 0, "recoloured": 0, "turned": 0, "transparent": 0}
    for index, file in enumerate(files):
        if index % _EVERY == 0:
            step(index, len(files), f"reading images in {folder.name}")
        image = _open(file)
        done["turned"] += image.getexif().get(_ORIENTATION, 1) != 1
        done["recoloured"] += (len(image.getbands()) == 1) != (channels == 1)
        done["transparent"] += channels != 4 and image.has_transparency_data
        pixels = _pixels(image, channels)
        if pixels.shape[:2] != (height, width):
            done["resized"] += 1
            pixels = resize(pixels, height, width)
        images[index] = pixels
    step(len(files), len(files), f"reading images in {folder.name}")
    return images, done


def _told(done: dict[str, int], total: int, name: str, shape: tuple[int, int, int]) -> list[str]:
    height, width, channels = shape
    texts = {
        "resized": f"resized to {height}x{width} by bilinear interpolation, as Keras does",
        "recoloured": "made grey" if channels == 1 else "of one channel, which was repeated",
        "turned": "not turned upright though their EXIF says so, as Keras does not either",
        "transparent": "transparent: only the colours were taken, as Keras does",
    }
    return [f"{name}: {count} of {total} images {texts[what]}" for what, count in done.items() if count]


def _open(file: Path) -> Image.Image:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise MissingError(
            f"{file} needs Pillow to be read ({error}); install the extra 'images': pip install '.[images]' in the "
            "project"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's warning of large pictures; the limit below is ours
            with Image.open(file, formats=_FORMATS) as image:
                if image.width * image.height <= MAX_PIXELS:
                    image.load()
                    return image
    except Image.DecompressionBombError:
        pass
    except (PermissionError, FileNotFoundError) as error:
        raise UsageError(f"cannot read {file}: {error.strerror}; check its permissions, or the link") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{file} is no image that can be read, whatever its name says; mend or remove it") from error
    except Exception as error:  # damaged pictures make Pillow raise errors of many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"{file} cannot be decoded: {reason}; copy or save it again") from error
    raise DataError(f"{file} has more than {MAX_PIXELS // 1_000_000} million pixels; save a smaller copy of it")


def _pixels(image: Image.Image, channels: int) -> NDArray[np.uint8]:
    """uint8 of shape (height, width, channels)."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits a pixel; Pillow's own conversion would cut values off at 255
        image = Image.fromarray((np.asarray(image, np.uint32) >> 8).astype(np.uint8))
    if image.mode in ("P", "PA", "LA", "La", "1") and channels < 4:
        image = image.convert("RGBA").convert("RGB")
    pixels = np.asarray(image if image.mode == _MODES[channels] else image.convert(_MODES[channels]), np.uint8)
    return pixels.reshape(*pixels.shape[:2], channels)


def resize(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Bilinear interpolation between pixel centres, without smoothing: what ``tf.image.resize`` gives, rounded.

    Args:
        pixels: uint8 of shape (h, w, c).
        height: wanted.
        width: wanted.
    """
    rows, cols = _weights(pixels.shape[0], height), _weights(pixels.shape[1], width)
    values: NDArray[Any] = pixels.astype(np.float32)
    values = values[rows[0]] * (1 - rows[2])[:, None, None] + values[rows[1]] * rows[2][:, None, None]
    values = values[:, cols[0]] * (1 - cols[2])[:, None] + values[:, cols[1]] * cols[2][:, None]
    return values.round().astype(np.uint8)


def _weights(size: int, wanted: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """For each wanted place: the pixel before it, the one after it, and how far it is on the way between."""
    place = (np.arange(wanted) + 0.5) * (size / wanted) - 0.5
    before = np.floor(place)
    way = (place - before).astype(np.float32)
    low, high = np.clip(before, 0, size - 1), np.clip(before + 1, 0, size - 1)
    return low.astype(np.intp), high.astype(np.intp), way
