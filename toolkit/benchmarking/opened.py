"""A model opened to be measured, within the process that measures it."""

from __future__ import annotations

import importlib
import statistics
from functools import cached_property
from typing import TYPE_CHECKING, Any

from toolkit.benchmarking.feed import InputReport, alone, fed_with, random_rows, singles
from toolkit.benchmarking.latency import time_calls
from toolkit.benchmarking.steady import WarmUp, warm_up
from toolkit.errors import InputError, UsageError
from toolkit.predictor import RuntimeSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["Opened", "PREDICTOR"]

PREDICTOR = "toolkit.predictor:Predictor"

_TURN = 32  # rows that single calls are given in turn
_SLOW_NS = 500_000_000  # one call tells enough of a model that takes so long


class Opened:
    """One model file and rows for it.

    Args:
        path: the file.
        settings: of the runtime, by name.
        free: size of free dimensions.
        seed: of the random rows.
        factory: "module:name" of what opens it: takes the path and ``settings``, gives what has a predictor's
            attributes.

    Attributes:
        predictor: what was opened.
        inputs: what it is fed with.
        call_name: "classify", or "predict" where there are no classes.
        call: that method.
    """

    def __init__(self, path: str, settings: dict[str, Any], free: int, seed: int, factory: str = PREDICTOR) -> None:
        module, _, name = factory.partition(":")
        make = getattr(importlib.import_module(module), name)
        self.predictor: Any = make(path, settings=RuntimeSettings(**settings))
        self.free, self.seed = free, seed
        self.inputs: tuple[InputReport, ...] = tuple(
            fed_with(tensor, self.predictor.ranges.get(tensor.name), free) for tensor in self.predictor.inputs
        )
        self.call_name = "predict" if self.predictor.classes is None else "classify"
        self.call: Callable[[Any], object] = getattr(self.predictor, self.call_name)
        self._batches: dict[int, Any] = {}

    def _rows(self, count: int) -> dict[str, NDArray[Any]]:
        return {fed.name: random_rows(fed, count, self.seed) for fed in self.inputs}

    @cached_property
    def turn(self) -> list[Any]:
        """Single rows, which are taken in turn."""
        return singles(self._rows(_TURN))

    def batch(self, size: int) -> Any:
        """Rows as ``predict_batch`` takes them; the last size that was asked for stays at hand."""
        if size not in self._batches:
            self._batches = {size: alone(self._rows(size))}
        return self._batches[size]

    def look(self) -> dict[str, Any]:
        """What must be known before anything is measured: seconds of a call and bytes of a row among it.

        Raises:
            UsageError: the size of free dimensions does not suit the model.
        """
        try:
            taken = time_calls(self.call, self.turn, calls=1, warmup=0)
            if taken[0] < _SLOW_NS:
                taken = time_calls(self.call, self.turn, calls=5, warmup=1)
        except InputError as error:
            if any(None in tensor.shape for tensor in self.predictor.inputs):
                raise UsageError(f"free dimensions of size {self.free} do not suit: {error}; try --size") from error
            raise
        row = self.turn[0]
        arrays = row.values() if isinstance(row, dict) else (row,)
        return {
            "seconds": max(statistics.median(taken), 1) / 1e9,
            "row_bytes": sum(int(array.nbytes) for array in arrays),
            "batch": self.predictor.batch,
            "free": any(None in tensor.shape for tensor in self.predictor.inputs),
        }

    def warm_up(self) -> WarmUp:
        """See `toolkit.benchmarking.steady`."""
        return warm_up(self.call, self.turn)
