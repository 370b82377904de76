"""tract: an ONNX file made runnable for one shape, as its own documentation has it."""

from __future__ import annotations

import importlib
from typing import Any


class Engine:
    """It has no threads to set; shapes are fixed before it optimizes."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._tract: Any = importlib.import_module("tract")
        self._file = spec["files"]["model"]
        self._one = self._opened(1)
        self._batches: Any = None

    def _opened(self, batch: int) -> Any:
        model = self._tract.onnx().load(self._file)
        model.set_input_fact(0, f"{batch},28,28,u8")
        model.analyse()
        return model.into_model().into_runnable()

    def classify(self, image: Any) -> int:
        """The label of one raw image."""
        return int(self._one.run([image[None]])[0].to_numpy().argmax())

    def classify_batch(self, images: Any) -> Any:
        """The labels of some raw images, always as many."""
        if self._batches is None:
            self._batches = self._opened(len(images))
        return self._batches.run([images])[0].to_numpy().argmax(axis=1)
