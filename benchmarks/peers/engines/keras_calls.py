"""Keras itself, in three ways to ask it; TensorFlow is its backend."""

from __future__ import annotations

import importlib
import os
from typing import Any

import numpy as np

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""


class Engine:
    """The trained model, which takes float32 pixels from 0 to 1."""

    def __init__(self, spec: dict[str, Any]) -> None:
        tensorflow: Any = importlib.import_module("tensorflow")
        tensorflow.config.threading.set_intra_op_parallelism_threads(spec["threads"])
        tensorflow.config.threading.set_inter_op_parallelism_threads(spec["threads"])
        keras: Any = importlib.import_module("keras")
        model: Any = keras.models.load_model(spec["files"]["model"])
        ways: dict[str, Any] = {
            "predict": lambda rows: model.predict(rows, batch_size=len(rows), verbose=0),
            "call": lambda rows: model(rows, training=False).numpy(),
        }
        if spec["options"]["way"] == "function":
            compiled: Any = tensorflow.function(lambda rows: model(rows, training=False), reduce_retracing=True)
            ways["function"] = lambda rows: compiled(tensorflow.constant(rows)).numpy()
        self._answers = ways[spec["options"]["way"]]

    def classify(self, image: Any) -> int:
        """The label of one raw image."""
        return int(self._answers(image[None].astype(np.float32) / np.float32(255)).argmax())

    def classify_batch(self, images: Any) -> Any:
        """The labels of some raw images."""
        return self._answers(images.astype(np.float32) / np.float32(255)).argmax(axis=1)
