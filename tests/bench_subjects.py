"""Predictors that behave badly, for the workers of a benchmark to open."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from toolkit.predictor import Predictor, RuntimeSettings


class _Around:
    def __init__(self, path: str, settings: RuntimeSettings) -> None:
        self.predictor = Predictor(path, settings=settings)
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.predictor, name)


class CrashesLater(_Around):
    """The float32 file takes its process down in a batch; others are well."""

    def predict_batch(self, rows: Any) -> Any:
        if self.predictor.file.kind == "float32":
            os.kill(os.getpid(), signal.SIGSEGV)
        return self.predictor.predict_batch(rows)


class HangsLater(_Around):
    """The float32 file never comes back from a batch, and hears no signal that Python would have to handle."""

    def predict_batch(self, rows: Any) -> Any:
        while self.predictor.file.kind == "float32":
            time.sleep(1)
        return self.predictor.predict_batch(rows)


def crashes(path: str, settings: RuntimeSettings) -> Any:  # noqa: ARG001 - what a factory is given
    """It cannot even be opened."""
    os.write(2, b"some words\nthe last words\n")
    os.abort()
