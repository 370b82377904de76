"""LiteRT: an interpreter for one image and one for batches, each with XNNPACK, which it takes by itself."""

from __future__ import annotations

import importlib
from typing import Any


class Engine:
    """Memory is allocated once; views of the tensors are filled and read in place, which is its fastest public way."""

    def __init__(self, spec: dict[str, Any]) -> None:
        interpreter: Any = importlib.import_module("ai_edge_litert.interpreter").Interpreter

        def opened(name: str) -> tuple[Any, Any, Any]:
            it: Any = interpreter(model_path=spec["files"][name], num_threads=spec["threads"])
            it.allocate_tensors()
            first, last = it.get_input_details()[0]["index"], it.get_output_details()[0]["index"]
            return it.invoke, it.tensor(first), it.tensor(last)

        self._open: Any = opened
        self._invoke, self._into, self._out_of = opened("model")
        self._batches: Any = None

    def classify(self, image: Any) -> int:
        """The label of one raw image."""
        self._into()[0] = image
        self._invoke()
        return int(self._out_of().argmax())

    def classify_batch(self, images: Any) -> Any:
        """The labels of as many raw images as the second file takes."""
        if self._batches is None:
            self._batches = self._open("batch")
        invoke, into, out_of = self._batches
        into()[...] = images
        invoke()
        return out_of().argmax(axis=1)
