"""This project's predictor.py, by itself."""

from __future__ import annotations

import importlib
import sys
from typing import Any


class Engine:
    """`Predictor.classify` and `Predictor.predict_batch` on raw images."""

    def __init__(self, spec: dict[str, Any]) -> None:
        sys.path.append(spec["code"])
        module: Any = importlib.import_module("predictor")
        # Given, so that nobody's settings.json of this machine is taken.
        settings = module.RuntimeSettings(threads=spec["threads"])
        it = module.Predictor(spec["files"]["model"], settings=settings, **spec["options"])
        self.classify, self._batch = it.classify, it.predict_batch

    def classify_batch(self, images: Any) -> Any:
        """The labels of some raw images."""
        return self._batch(images).labels
