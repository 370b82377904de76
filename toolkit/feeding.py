"""What people hand to ``toolkit predict``, as rows that the model takes: pictures, and arrays by input name."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.data import CLASS_NAMES
from toolkit.datasets.arrays import read_npy, read_npz
from toolkit.datasets.files import check_path
from toolkit.datasets.fitting import fit
from toolkit.datasets.idx_files import is_idx, read_idx
from toolkit.datasets.naming import assign, only_input
from toolkit.datasets.rows import Found
from toolkit.errors import InputError
from toolkit.images import MAX_BYTES, as_fashion_mnist, fitted, is_picture, read_bytes, read_images, read_picture
from toolkit.keras_model.source import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from toolkit.predictor import Predictor, TensorInfo

__all__ = [
    "Given",
    "check_takes_pictures",
    "is_one_row",
    "read_given",
    "read_picture_file",
    "specs",
    "takes_raw_images",
    "wanted",
]

_NPY, _ZIP = b"\x93NUMPY", (b"PK\x03\x04", b"PK\x05\x06")


@dataclass(frozen=True, eq=False)
class Given:
    """What one file held.

    Attributes:
        name: the file as it was named, "-" for standard input.
        rows: by input name, each (n, ...).
        notes: what was done to make them so; a line each, for people.
    """

    name: str
    rows: dict[str, NDArray[Any]]
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(next(iter(self.rows.values())))

    @property
    def names(self) -> list[str]:
        """One name a row: the file's own, with an index where it holds several."""
        if self.count == 1:
            return [self.name]
        return [f"{self.name}[{index}]" for index in range(self.count)]


def read_given(path: str, predictor: Predictor, stdin: bytes | None = None) -> Given:
    """The rows in a file, or in standard input where the path is "-".

    Args:
        path: an ``.npz`` with an array for each input; for a model of one input also a ``.npy`` or idx file; for one
            that takes images a PNG or JPEG; for one of 28x28 raw pixels also those from a pipe. One row may come
            without the axis of rows.
        predictor: the model.
        stdin: what standard input held, for "-".

    Raises:
        MissingError: no such file, or Pillow is needed and not installed.
        InputError, DataError, UsageError: damaged, or not what the model takes.
    """
    data = stdin or b"" if path == "-" else read_bytes(path, 16)
    shown = "standard input" if path == "-" else path
    if is_picture(data):
        check_takes_pictures(shown, predictor)
        return _picture(data if path == "-" else read_bytes(path), path, shown, predictor)
    if takes_raw_images(predictor) and not data.startswith(_ZIP):
        return Given(path, {predictor.input_name: read_images(path, stdin).images})
    if not data:
        raise InputError(f"{shown} is empty; give rows as .npz or .npy: {wanted(predictor)}")
    packed = path != "-" and is_idx(Path(path), data)
    if not packed and not data.startswith((_NPY, *_ZIP)):
        raise InputError(
            f"{shown} begins with {data[:8]!r}, expected an .npz, .npy or idx file, or a PNG or JPEG for a model of "
            f"images; this one takes {wanted(predictor)}"
        )
    if path != "-":
        return Given(path, _arrays(Path(path), shown, data, predictor))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "input"
        place.write_bytes(data)
        rows = _arrays(place, shown, data, predictor)
        return Given(path, {name: np.array(array) for name, array in rows.items()})


def read_picture_file(path: str, predictor: Predictor) -> Given:
    """The one row in a picture, exactly as `read_given` makes it, for a model that passed `check_takes_pictures`.

    Raises:
        MissingError: no such file, or Pillow is not installed.
        InputError: no PNG or JPEG, damaged or too large.
    """
    data = read_bytes(path)
    if not is_picture(data):
        found = f"begins with {data[:8]!r}" if data else "is empty"
        raise InputError(f"{path} {found}, expected a PNG or JPEG; convert it, or leave it out")
    return _picture(data, path, path, predictor)


def takes_raw_images(predictor: Predictor) -> bool:
    """Whether a model takes what Fashion-MNIST has: 28x28 raw pixels, and nothing else."""
    return [(str(info.dtype), info.shape) for info in predictor.inputs] == [("uint8", (28, 28))]


def check_takes_pictures(shown: str, predictor: Predictor) -> None:
    """Refuse a picture for a model that takes none.

    Args:
        shown: what to call the picture.
        predictor: the model.

    Raises:
        InputError: it has several inputs, or one of other shapes or unknown scale.
    """
    if len(predictor.inputs) != 1:
        raise InputError(
            f"{shown} is a picture, which serves a model of one input; this one takes {wanted(predictor)}: give "
            "an .npz with an array for each"
        )
    (info,) = predictor.inputs
    if _channels(info) not in (1, 3) or (info.dtype != np.uint8 and info.dtype.kind != "f"):
        raise InputError(
            f"{shown} is a picture, but '{info.name}' takes {info.wanted(batch=True)}, expected an input of one or "
            "three channels of pixels for that; give rows as .npy"
        )
    if info.dtype != np.uint8 and info.name not in predictor.ranges:
        raise InputError(
            f"{shown} is a picture, but '{info.name}' takes {info.dtype} and the model does not say in which scale; "
            "give rows as .npy, or export with --input-scale, so that the model takes raw pixels"
        )


def wanted(predictor: Predictor) -> str:
    """What a model takes, for people."""
    return ", ".join(f"'{info.name}' ({info.wanted(batch=True)})" for info in predictor.inputs)


def _arrays(path: Path, shown: str, start: bytes, predictor: Predictor) -> dict[str, NDArray[Any]]:
    check_path(path, shown)
    inputs, outputs = specs(predictor.inputs), specs(predictor.outputs)
    if start.startswith(_NPY):
        found = {only_input(inputs, shown, "a .npy file").name: read_npy(path, shown)}
    elif start.startswith(_ZIP):
        found = dict(assign(read_npz(path, shown), inputs, outputs, shown).inputs)
    else:
        found = dict(read_idx(path, shown, inputs, []).inputs)
    for info in predictor.inputs:
        if is_one_row(found[info.name].shape, info):
            found[info.name] = found[info.name][np.newaxis]
    return fit(Found(found, source=shown), inputs, []).inputs


def is_one_row(shape: tuple[int, ...], info: TensorInfo) -> bool:
    """Whether an array of this shape is one row of an input, without the axis of rows."""
    return len(shape) == len(info.shape) and all(
        want in (None, size) for size, want in zip(shape, info.shape, strict=True)
    )


def specs(tensors: Sequence[TensorInfo]) -> list[TensorSpec]:
    """Inputs or outputs in the form that the readers of data files take."""
    return [TensorSpec(info.name, (None, *info.shape), str(info.dtype)) for info in tensors]


def _plain(image: Any, name: str, height: int, width: int) -> tuple[NDArray[np.uint8], str | None]:
    pixels, note = fitted(image, name, height, width, 1)
    return pixels[..., 0], note


def _picture(data: bytes, path: str, shown: str, predictor: Predictor) -> Given:
    """One row of pixels, and what was done to the picture."""
    if len(data) > MAX_BYTES:
        raise InputError(f"{shown} has more than {MAX_BYTES} bytes; save a smaller copy of it")
    (info,) = predictor.inputs
    if takes_raw_images(predictor):
        rule = as_fashion_mnist if predictor.class_names == CLASS_NAMES else partial(_plain, height=28, width=28)
        pixels, note = read_picture(data, shown, rule)
        return Given(path, {info.name: pixels[np.newaxis]}, (note,) if note else ())
    height, width = info.shape[:2]
    rule = partial(fitted, height=height, width=width, channels=_channels(info) or 1)
    pixels, note = read_picture(data, shown, rule)
    row = pixels.reshape(pixels.shape[: len(info.shape)])[np.newaxis]
    if info.dtype == np.uint8:
        return Given(path, {info.name: row}, (note,) if note else ())
    low, high = predictor.ranges[info.name]
    scaled = np.clip(low + row.astype(np.float64) / 255 * (high - low), low, high).astype(info.dtype)
    scale = f"pixels scaled from 0..255 to {low:g}..{high:g}"
    return Given(path, {info.name: scaled}, (f"{note}, {scale}" if note else f"{shown}: {scale}",))


def _channels(info: TensorInfo) -> int | None:
    return 1 if len(info.shape) == 2 else info.shape[2] if len(info.shape) == 3 else None
