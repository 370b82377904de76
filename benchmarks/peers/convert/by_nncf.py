"""NNCF's int8 for OpenVINO, every option at its default (in an environment of NNCF and OpenVINO alone).

    python -P by_nncf.py FOLDER

takes ``float.onnx`` and ``calibration.npy``, writes ``nncf.xml`` and ``nncf.bin``. Source: "Basic Quantization Flow" of
OpenVINO's documentation.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import numpy as np

os.environ["NNCF_CI"] = "1"  # it sends nothing about its use then


def main() -> None:
    """Quantize."""
    folder = sys.argv[1]
    openvino: Any = importlib.import_module("openvino")
    nncf: Any = importlib.import_module("nncf")
    rows = [image[None].astype(np.float32) / np.float32(255) for image in np.load(f"{folder}/calibration.npy")]
    model = openvino.Core().read_model(f"{folder}/float.onnx")
    quantized = nncf.quantize(model, nncf.Dataset(rows), subset_size=len(rows))
    openvino.save_model(quantized, f"{folder}/nncf.xml", compress_to_fp16=False)


if __name__ == "__main__":
    main()
