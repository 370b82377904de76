"""ncnn's converter pnnx (in an environment of pnnx alone; its program needs no torch, its Python package would).

    python -P by_pnnx.py FOLDER

takes ``float.onnx``, writes ``one.param`` and ``one.bin`` for a single image, ``many.param`` and ``many.bin`` for 256.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

BATCH = 256


def main() -> None:
    """Convert for both shapes."""
    folder = Path(sys.argv[1])
    program = Path(sysconfig.get_path("purelib")) / "pnnx" / "pnnx"
    if not program.is_file():
        program = Path(sysconfig.get_path("platlib")) / "pnnx" / "pnnx"
    for name, batch in (("one", 1), ("many", BATCH)):
        with tempfile.TemporaryDirectory() as scratch:
            shutil.copy(folder / "float.onnx", scratch)
            command = [str(program), "float.onnx", f"inputshape=[{batch},28,28]"]
            subprocess.run(command, cwd=scratch, check=True, stdout=subprocess.DEVNULL)
            for kind in ("param", "bin"):
                shutil.copy(Path(scratch) / f"float.ncnn.{kind}", folder / f"{name}.{kind}")


if __name__ == "__main__":
    main()
