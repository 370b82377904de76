"""MNN's own converter (in an environment of MNN alone).

    python -P by_mnn.py FOLDER

takes ``float.onnx``, writes ``float.mnn`` and ``int8.mnn``, whose weights are in 8 bits; MNN's documentation has the
runtime quantize activations as they come then ("memory": "low").
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main() -> None:
    """Convert both."""
    program = Path(sys.executable).with_name("mnnconvert")
    for name, more in (("float", []), ("int8", ["--weightQuantBits", "8"])):
        command = [sys.executable, str(program), "-f", "ONNX", "--modelFile", "float.onnx", "--bizCode", "model"]
        subprocess.run([*command, "--MNNModel", f"{name}.mnn", *more], cwd=sys.argv[1], check=True)


if __name__ == "__main__":
    main()
