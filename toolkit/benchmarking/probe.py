"""A fixed piece of work that is timed in every round beside the models: how fast the machine itself was just then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.benchmarking.latency import time_calls

if TYPE_CHECKING:
    from toolkit.benchmarking.opened import Opened

__all__ = ["CALLS", "take", "work"]

CALLS = 100

_GENERATOR = np.random.default_rng(0)
_MATRIX, _VECTOR = _GENERATOR.random((300, 100), np.float32), _GENERATOR.random(100, np.float32)


def work(_: object = None) -> int:
    """Some of what a small model is made of: interpreted Python, and a product of a matrix and a vector."""
    total = 0
    for number in range(100):
        total += number * number
    _MATRIX.dot(_VECTOR)
    return total


def take(_: Opened | None, calls: int = CALLS) -> dict[str, Any]:
    """Time the work in the worker."""
    return {"samples": time_calls(work, [None], calls=calls, warmup=calls // 10)}
