"""The model NAME as a Python package.

    import PACKAGE
    PACKAGE.predict(image).class_name     # one row, as the model takes it
    PACKAGE.predict_batch(images).labels  # many rows
    PACKAGE.classify(image)               # the label alone, by the shortest path

One predictor is behind all of them, `shared_predictor()`: opened at the first call, with every file of this package
held against its hash, for all threads, and usable after a fork. Its class and the errors are in the module
`PACKAGE.predictor`. Whether this installation answers as it should on this device is said by:

    python -m PACKAGE --selftest
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, overload

# numpy and onnxruntime wait for the first call: the self-test must be able to say that they are missing.
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from numpy.typing import NDArray

    from toolkit.predictor import Prediction, PredictionBatch, Predictor

    Array = NDArray[Any]

__all__ = ["CLASS_NAMES", "__version__", "classify", "predict", "predict_batch", "shared_predictor"]

__version__ = "VERSION"
CLASS_NAMES: tuple[str, ...] | None = None
"""One name a label, or None where the model names no classes."""


class _Shared:
    """The one predictor of this process."""

    def __init__(self) -> None:
        self.opened: Predictor | None = None
        self.lock = threading.Lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.renew_lock)

    def renew_lock(self) -> None:
        """In a forked child, where whoever held the lock does not run."""
        self.lock = threading.Lock()

    def get(self) -> Predictor:
        """Open it, or wait for who does."""
        if self.opened is None:
            with self.lock:
                if self.opened is None:
                    from toolkit import predictor as device

                    self.opened = device.Predictor(os.path.dirname(os.path.abspath(__file__)))
        return self.opened


_SHARED = _Shared()


def shared_predictor() -> Predictor:
    """The `Predictor` that all calls in this process share, opened at the first; closing it is for good.

    Raises:
        ImportError: numpy is missing.
        MissingError: onnxruntime is missing.
        CorruptArtifactError: a file of this package was changed.
    """
    return _SHARED.get()


def predict(row: Array | Mapping[str, Array]) -> Prediction:
    """All that the model says of one row: an array as the model takes it, or arrays by input name."""
    return _SHARED.get().predict(row)


@overload
def predict_batch(rows: Array | Mapping[str, Array]) -> PredictionBatch: ...
@overload
def predict_batch(rows: Iterator[Array | Mapping[str, Array]]) -> Iterator[PredictionBatch]: ...
def predict_batch(
    rows: Array | Mapping[str, Array] | Iterator[Array | Mapping[str, Array]],
) -> PredictionBatch | Iterator[PredictionBatch]:
    """Predictions for many rows; for an iterator of blocks of rows an iterator, one batch a block."""
    return _SHARED.get().predict_batch(rows)


def classify(row: Array | Mapping[str, Array]) -> int:
    """The label of one row, by the shortest path."""
    return _SHARED.get().classify(row)
