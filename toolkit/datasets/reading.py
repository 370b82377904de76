"""Reading rows: what a path holds, told by its content; then the reader for that."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.datasets import arrays
from toolkit.datasets.files import WANTED, check_path, read_start, what_it_is
from toolkit.datasets.fitting import fit
from toolkit.datasets.idx_files import is_idx, read_idx
from toolkit.datasets.image_folder import has_images, read_folder
from toolkit.datasets.naming import assign, only_input
from toolkit.datasets.rows import Found, Rows
from toolkit.datasets.saved import is_saved_dataset, read_saved
from toolkit.errors import DataError
from toolkit.progress import silent_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.keras_model.source import TensorSpec
    from toolkit.progress import Step

__all__ = ["read_rows"]


def read_rows(
    path: str | os.PathLike[str],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    part: str | None = None,
    step: Step = silent_step,
) -> Rows:
    """The rows in a file or folder, as a model takes them. What it is, its content says, not its name.

    Args:
        path: an ``.npz`` with arrays named after inputs and outputs (see `naming.assign`); a ``.npy`` or idx file
            (plain or gzip'd) with the rows of a model of one input, for X-images-idx3-ubyte with the labels beside it;
            a folder of images, or of a folder of images for each class; or what ``tf.data.Dataset.save`` wrote.
        inputs: the model's, shapes with the batch.
        outputs: the model's, shapes with the batch; none known: no targets.
        part: "train" or "test": which to take of an ``.npz`` that has both x_train and x_test.
        step: told how far the reading is, of what takes time: images, ``.npz`` files, saved datasets.

    Raises:
        MissingError: nothing is there, or what reads it is not installed.
        DataError: it is no data, is damaged, or does not fit the model; says what was got and what was expected.
        UsageError: it may not be read.
    """
    shown = os.fspath(path)
    place = Path(path)
    check_path(place, shown)
    return fit(_found(place, shown, inputs, outputs, part, step), inputs, outputs)


def _found(
    path: Path,
    shown: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    part: str | None,
    step: Step,
) -> Found:
    source = path.name or shown
    if path.is_dir():
        if is_saved_dataset(path):
            return read_saved(path, shown, inputs, outputs, step)
        for mark, what in (("saved_model.pb", "a SavedModel"), ("manifest.json", "an exported artifact")):
            if (path / mark).is_file():
                raise DataError(f"{shown} is {what}, no data; give {WANTED}")
        if has_images(path, shown):
            return read_folder(path, shown, inputs, outputs, step)
        raise DataError(
            f"{shown} is a folder without images (PNG, JPEG, BMP, GIF, WebP) and no saved TensorFlow dataset; "
            f"give {WANTED}"
        )
    start = read_start(path, shown)
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return assign(arrays.read_npz(path, shown, step), inputs, outputs, source, part)
    if start.startswith(b"\x93NUMPY"):
        spec = only_input(inputs, shown, "a .npy file")
        return Found({spec.name: arrays.read_npy(path, shown)}, source=source)
    if is_idx(path, start):
        return read_idx(path, shown, inputs, outputs)
    raise DataError(what_it_is(start, path, shown))
