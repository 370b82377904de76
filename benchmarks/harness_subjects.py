"""Predictors of known behaviour, by which the measuring itself is measured; opened by its workers."""

from __future__ import annotations

import statistics
from time import perf_counter_ns
from typing import Any

from toolkit.benchmarking.latency import time_calls
from toolkit.predictor import Predictor, RuntimeSettings

__all__ = ["Empty", "Paced", "Slowed"]


class _Around:
    """A real predictor's attributes."""

    def __init__(self, path: str, settings: RuntimeSettings) -> None:
        self.predictor = Predictor(path, settings=settings)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.predictor, name)


class Empty(_Around):
    """A call that does nothing: what the harness measures of it is its own."""

    def classify(self, row: object) -> None:
        """Nothing."""


class Paced(_Around):
    """A predictor that looks at the clock around each call, and then waits for a share of its own time: here none.

    Its own time is all of it, these looks included: they are counted by a factor that is measured when it is opened.
    """

    share = 0.0

    def __init__(self, path: str, settings: RuntimeSettings) -> None:
        super().__init__(path, settings)
        self._classify = self.predictor.classify
        self._wait = 0.0  # of each call's inner time
        rows = [self.predictor.inputs[0].zeros(1)[0]]
        inner = time_calls(self._classify, rows, calls=500, warmup=100)
        whole = time_calls(self.classify, rows, calls=500, warmup=100)
        self._wait = self.share * statistics.median(whole) / statistics.median(inner)

    def classify(self, row: Any) -> int:
        """The label, after the wait."""
        start = perf_counter_ns()
        label = self._classify(row)
        wait = (perf_counter_ns() - start) * self._wait
        end = perf_counter_ns() + wait  # both kinds come so far alike; one of them waits on from here
        while perf_counter_ns() < end:
            pass
        return label


class Slowed(Paced):
    """The same with a busy wait of 5 % of each call's own time."""

    share = 0.05
