"""The reference artifact with its int8 model in C and compiled for this CPU, as `toolkit export --native` makes it."""

from __future__ import annotations

import dataclasses
import shutil
from typing import TYPE_CHECKING

from benchmarks.shared.common import REFERENCE, note
from toolkit.artifact import QUANTIZED, load_manifest
from toolkit.datasets import Rows
from toolkit.native import LIBRARY
from toolkit.pipeline.c_files import build_native, write_c_files
from toolkit.pipeline.exporting import record_of

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["native_artifact"]


def native_artifact(folder: Path, images: NDArray[np.uint8]) -> None:
    """A copy of the reference artifact in a new folder, with ``model.c``, ``model.h`` and ``model.so``.

    Args:
        folder: to be made.
        images: raw, (n, 28, 28), on which the C is held against the int8 file, bit for bit.

    Raises:
        MissingError, UsageError: no compiler, or it fails.
        ModelError: the answers differ.
    """
    int8 = QUANTIZED["int8"]
    shutil.copytree(REFERENCE, folder)
    manifest = load_manifest(folder)
    rows = Rows({"image": images}, {}, None, "test images")
    write_c_files(folder, int8, manifest.name, rows, note)
    native = build_native(folder, int8, manifest.name, rows, None, note)
    files = {**manifest.files, LIBRARY: record_of(folder / LIBRARY)}
    dataclasses.replace(manifest, files=files, native=native).write(folder)
