"""MNN: its module interface, which its documentation recommends over sessions."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np


class Engine:
    """Shapes do not change, so memory is planned once for each; the variable that goes in is made once."""

    def __init__(self, spec: dict[str, Any]) -> None:
        importlib.import_module("MNN")
        nn: Any = importlib.import_module("MNN.nn")
        expr: Any = importlib.import_module("MNN.expr")

        def opened(batch: int) -> tuple[Any, Any, Any]:
            runtime = nn.create_runtime_manager(
                ({"backend": "CPU", "numThread": spec["threads"], "precision": "normal", "memory": "low"},)
            )
            outputs = [spec["options"]["output"]]
            file = spec["files"]["model"]
            net = nn.load_module_from_file(file, ["image"], outputs, runtime_manager=runtime, shape_mutable=False)
            return runtime, net, expr.placeholder([batch, 28, 28], expr.NCHW)

        self._open = opened
        self._one = opened(1)
        self._batches: Any = None

    def classify(self, image: Any) -> int:
        """The label of one raw image."""
        return int(_answers(self._one, image[None]).argmax())

    def classify_batch(self, images: Any) -> Any:
        """The labels of some raw images, always as many."""
        if self._batches is None:
            self._batches = self._open(len(images))
        return _answers(self._batches, images).argmax(axis=1)


def _answers(opened: Any, images: Any) -> Any:
    _, net, given = opened
    given.write(images.astype(np.float32) / np.float32(255))
    return net.forward(given).read()
