"""What the tests of users' data share: specs of models, real files, and the one line that an error is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from toolkit.datasets import Rows, read_rows
from toolkit.errors import ToolkitError
from toolkit.keras_model import TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

IMAGE = TensorSpec("image", (None, 28, 28), "float32")
CLASSES = TensorSpec("probabilities", (None, 10), "float32")
FOUR = TensorSpec("features", (None, 4), "float32")
THREE = TensorSpec("kind", (None, 3), "float32")
ONE = TensorSpec("price", (None, 1), "float32")
SIGNAL = TensorSpec("signal", (None, None, 1), "float32")

RANDOM = np.random.default_rng(5)
X = RANDOM.normal(size=(6, 4)).astype(np.float32)
Y = np.array([0, 1, 2, 2, 1, 0])


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def given(path: Path, arrays: dict[str, Any], inputs: Any = FOUR, outputs: Any = THREE) -> Rows:
    """The rows of an .npz with these arrays."""
    return read(npz(path / "rows.npz", **arrays), inputs, outputs)


def read(path: Path, inputs: Any = FOUR, outputs: Any = THREE, **options: Any) -> Rows:
    """`read_rows` with one spec or several."""
    return read_rows(path, _several(inputs), _several(outputs), **options)


def refused(path: Path, inputs: Any = FOUR, outputs: Any = THREE, **options: Any) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(ToolkitError) as caught:
        read(path, inputs, outputs, **options)
    line = str(caught.value)
    assert "\n" not in line
    assert line.strip() == line
    assert caught.value.exit_code in (2, 3)
    assert ";" in line or ": " in line, line
    return line


def same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Equal in shape, dtype and bits."""
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def _several(specs: TensorSpec | list[TensorSpec]) -> list[TensorSpec]:
    return [specs] if isinstance(specs, TensorSpec) else specs
