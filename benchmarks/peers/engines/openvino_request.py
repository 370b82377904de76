"""OpenVINO: a request compiled for latency, and for batches one for throughput."""

from __future__ import annotations

import importlib
from typing import Any


class Engine:
    """Shapes are fixed and pixels are scaled by its own PrePostProcessor; tensors are filled and read in place.

    float32 stays float32: else its CPU plugin computes in bfloat16 where the CPU has that.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        self._ov: Any = importlib.import_module("openvino")
        self._core, self._spec = self._ov.Core(), spec
        request = self._compiled(1, "LATENCY", 1).create_infer_request()
        self._infer, self._into = request.infer, request.get_input_tensor().data[0]
        self._out_of = request.get_output_tensor().data
        self._queue: Any = None
        self._parts: list[Any] = []

    def _compiled(self, batch: int, hint: str, streams: int) -> Any:
        processor: Any = importlib.import_module("openvino.preprocess").PrePostProcessor
        model = self._core.read_model(self._spec["files"]["model"])
        model.reshape([batch, 28, 28])
        steps = processor(model)
        steps.input().tensor().set_element_type(self._ov.Type.u8)
        steps.input().preprocess().convert_element_type(self._ov.Type.f32).scale(255.0)
        settings = {
            "PERFORMANCE_HINT": hint,
            "INFERENCE_NUM_THREADS": self._spec["threads"],
            "NUM_STREAMS": streams,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        return self._core.compile_model(steps.build(), "CPU", settings)

    def classify(self, image: Any) -> int:
        """The label of one raw image."""
        self._into[...] = image
        self._infer()
        return int(self._out_of.argmax())

    def classify_batch(self, images: Any) -> Any:
        """The labels of some raw images, always as many: a part of them for each stream, all at once."""
        streams = self._spec["threads"]
        size = len(images) // streams
        if self._queue is None:
            queue: Any = importlib.import_module("openvino").AsyncInferQueue
            self._queue = queue(self._compiled(size, "THROUGHPUT", streams), streams)
            self._parts = [(r.get_input_tensor().data, r.get_output_tensor().data) for r in self._queue]
        for at, (given, _) in enumerate(self._parts):
            given[...] = images[at * size : (at + 1) * size]
            self._queue[at].start_async()
        for at in range(streams):
            self._queue[at].wait()
        labels: list[Any] = []
        for _, answers in self._parts:
            labels.extend(answers.argmax(axis=1))
        return labels
