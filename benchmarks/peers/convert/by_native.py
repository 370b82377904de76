"""The int8 file of the reference artifact as C, for this CPU: for the predictor's native backend, and by itself.

    python -m benchmarks.peers.convert.by_native FOLDER

writes ``FOLDER/native``: an artifact with ``model.so``, as `toolkit export --native` makes it, only if its logits are
onnxruntime's, bit for bit, on all test images; and ``generated.so``, the same C built as the hand-written kernel is.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from benchmarks.peers.convert.by_hand import FLAGS, TIMED, shared_library
from benchmarks.shared.native import native_artifact
from toolkit.artifact import load_manifest
from toolkit.c_code.names import identifier

__all__ = ["function_alone"]

AROUND = Path(__file__).with_name("generated.c")


def function_alone(folder: Path) -> Path:
    """The ``model.c`` of an artifact with the functions that the hand-written kernel has, built by the same options.

    Raises:
        MissingError: no gcc.
        ModelError: gcc refuses it.
    """
    name = identifier(load_manifest(folder).name)
    names = [f"-DCLASSIFY={name}_classify", f"-DPIXELS={name.upper()}_INPUTS"]
    sources = [AROUND, folder / "model.c", TIMED]
    return shared_library([*FLAGS, "-std=c99", *names, f"-I{folder}"], sources, folder / "generated.so")


def main() -> None:
    """Write, compile, compare."""
    scratch = Path(sys.argv[1])
    native_artifact(scratch / "native", np.load(scratch / "test.npy"))
    function_alone(scratch / "native")


if __name__ == "__main__":
    main()
