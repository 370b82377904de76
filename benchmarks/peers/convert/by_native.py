"""The int8 file of the reference artifact as C, compiled for this CPU, for the predictor's native backend.

    python -m benchmarks.peers.convert.by_native FOLDER

writes ``FOLDER/native``, an artifact with ``model.so``, as `toolkit export --native` does: only if its logits are
onnxruntime's, bit for bit, on all test images.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path

import numpy as np

from benchmarks.shared.common import REFERENCE
from toolkit.artifact import MANIFEST_NAME, QUANTIZED, load_manifest
from toolkit.datasets import Rows
from toolkit.native import LIBRARY
from toolkit.pipeline.c_files import build_native, write_c_files
from toolkit.pipeline.exporting import record_of


def main() -> None:
    """Write, compile, compare."""
    scratch = Path(sys.argv[1])
    folder, int8 = scratch / "native", QUANTIZED["int8"]
    folder.mkdir()
    for name in (MANIFEST_NAME, int8):
        shutil.copyfile(REFERENCE / name, folder / name)
    manifest = load_manifest(folder)
    rows = Rows({"image": np.load(scratch / "test.npy")}, {}, None, "test images")
    write_c_files(folder, int8, manifest.name, rows, print)
    native = build_native(folder, int8, manifest.name, rows, None, print)
    files = {**manifest.files, LIBRARY: record_of(folder / LIBRARY)}
    dataclasses.replace(manifest, files=files, native=native).write(folder)


if __name__ == "__main__":
    main()
