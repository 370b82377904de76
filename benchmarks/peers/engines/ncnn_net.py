"""ncnn: a net, and an extractor for each run, as its documentation has it."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np


class Engine:
    """Its default options on a CPU: weights in 16 bits, computed in float32. Batches have a file of their own shape."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._ncnn: Any = importlib.import_module("ncnn")
        self._spec = spec
        self._net = self._opened("model")
        self._batches: Any = None

    def _opened(self, name: str) -> Any:
        net = self._ncnn.Net()
        net.opt.num_threads = self._spec["threads"]
        files = self._spec["files"]
        if net.load_param(files[name]) or net.load_model(files[f"{name} weights"]):
            raise OSError(f"ncnn cannot load {files[name]}")
        return net

    def classify(self, image: Any) -> int:
        """The label of one raw image."""
        return int(self._answers(self._net, image).argmax())

    def classify_batch(self, images: Any) -> Any:
        """The labels of as many raw images as the second file takes."""
        if self._batches is None:
            self._batches = self._opened("batch")
        return self._answers(self._batches, images).argmax(axis=1)

    def _answers(self, net: Any, images: Any) -> Any:
        scaled = images.astype(np.float32) / np.float32(255)  # a Mat only points to it, so it has to stay
        with net.create_extractor() as extractor:
            extractor.input("in0", self._ncnn.Mat(scaled))
            return np.array(extractor.extract("out0")[1])
