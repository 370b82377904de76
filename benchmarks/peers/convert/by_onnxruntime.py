"""onnxruntime's own int8, as its documentation does it (in the project's environment).

    python -m benchmarks.peers.convert.by_onnxruntime FOLDER

takes ``float.onnx`` and ``calibration.npy``, writes ``static.onnx`` and ``dynamic.onnx``. Source: "Quantize ONNX
models" of onnxruntime's documentation: pre-processing, then `quantize_static` in QDQ format with its calibrator, or
`quantize_dynamic`; every option at its default.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    """Quantize both ways."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    folder = Path(sys.argv[1])
    prepared = folder / "prepared.onnx"
    quant_pre_process(folder / "float.onnx", prepared)

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # it has no types
        def __init__(self) -> None:
            images = np.load(folder / "calibration.npy").astype(np.float32) / 255
            self.rows = iter([{"image": image[None]} for image in images])

        def get_next(self) -> dict[str, Any] | None:
            return next(self.rows, None)

    quantization.quantize_static(prepared, folder / "static.onnx", Reader(), quant_format=quantization.QuantFormat.QDQ)
    quantization.quantize_dynamic(prepared, folder / "dynamic.onnx")


if __name__ == "__main__":
    main()
