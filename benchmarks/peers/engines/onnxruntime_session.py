"""onnxruntime as its documentation calls it: a session, `run`, everything else at its default."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np


class Engine:
    """The file takes float32; so pixels are divided by 255 here."""

    def __init__(self, spec: dict[str, Any]) -> None:
        ort: Any = importlib.import_module("onnxruntime")
        options = ort.SessionOptions()
        options.intra_op_num_threads = spec["threads"]
        self._session = ort.InferenceSession(spec["files"]["model"], options, providers=["CPUExecutionProvider"])
        self._name = self._session.get_inputs()[0].name

    def classify(self, image: Any) -> int:
        """The label of one raw image."""
        return int(self._answers(image[None]).argmax())

    def classify_batch(self, images: Any) -> Any:
        """The labels of some raw images."""
        return self._answers(images).argmax(axis=1)

    def _answers(self, images: Any) -> Any:
        return self._session.run(None, {self._name: images.astype(np.float32) / np.float32(255)})[0]
