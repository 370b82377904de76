"""Rows of data for a model, and what the readers of files hand over on the way there."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from toolkit.keras_model.source import TensorSpec

__all__ = ["LIMIT", "Found", "Rows", "listed", "shape_text"]

LIMIT = 4_000_000_000
"""Bytes that one file's arrays may have; what a file declares is looked at before anything is read."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows for a model.

    Attributes:
        inputs: by input name, in the model's order, each (n, ...) with the rank that the model has, C-contiguous, in
            native byte order, n >= 1 and the same everywhere. In the model's dtype, with one exception: uint8 for an
            input of floats stays uint8 (pixels, very likely), and whoever knows what the model was trained on scales
            them. Perhaps read-only, and perhaps mapped from the file.
        targets: by output name, for the outputs whose right answers are known:

            - for an output [batch, k], k >= 2: classes as int64 (n,); or 0/1 as int64 (n, k) where a row has other than
              one 1; or floats as float32 (n, k). Rows with one 1 each become classes, whatever the output is for: that
              loses nothing.
            - for an output [batch, 1]: int64 (n, 1) where all are 0 or 1, else float32 (n, 1).
            - for any other: numbers of the output's shape, float32 (int64 for an output of integers).
        class_names: of the classes, in order; None where the data has none.
        source: one phrase for reports, such as "calib.npz".
        notes: what a person should know of how the data was read, a line each.
    """

    inputs: dict[str, NDArray[Any]]
    targets: dict[str, NDArray[Any]]
    class_names: tuple[str, ...] | None
    source: str
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(next(iter(self.inputs.values())))

    def take(self, which: slice | Sequence[int] | NDArray[np.integer[Any]]) -> Rows:
        """Some of the rows, in the order asked for.

        Args:
            which: a slice, or row numbers.

        Raises:
            DataError: that would be none, or a row that is not there.
        """
        index = which if isinstance(which, slice) else np.asarray(which)
        if not isinstance(index, slice) and index.size and index.dtype.kind not in "iu":
            raise DataError(
                f"{self.source}: got rows of dtype {index.dtype}, expected row numbers; use numpy.flatnonzero"
            )
        index = index if isinstance(index, slice) else index.astype(np.intp)
        try:
            inputs = {name: np.ascontiguousarray(array[index]) for name, array in self.inputs.items()}
            targets = {name: np.ascontiguousarray(array[index]) for name, array in self.targets.items()}
        except IndexError as error:
            raise DataError(f"{self.source} has rows 0 to {self.count - 1}; got: {error}") from error
        taken = replace(self, inputs=inputs, targets=targets)
        if taken.count == 0:
            raise DataError(f"{self.source} has {self.count} rows, and none was taken; take one at least")
        return taken


@dataclass(frozen=True, eq=False)
class Found:
    """What a file holds, matched to a model's names but not yet to its shapes and dtypes.

    Attributes:
        inputs: by input name, for every input of the model.
        targets: by output name.
        class_names: of the classes, in order, or None.
        source: one phrase for reports.
        notes: a line each.
    """

    inputs: Mapping[str, NDArray[Any]]
    targets: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    class_names: tuple[str, ...] | None = None
    source: str = ""
    notes: tuple[str, ...] = ()


def shape_text(shape: Sequence[int | None]) -> str:
    """A tensor's shape for people, such as "(batch, 28, 28)", with "?" for a size that is free."""
    sizes = ["?" if size is None else str(size) for size in shape]
    if sizes and shape[0] is None:
        sizes[0] = "batch"
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def listed(names: Sequence[str] | Sequence[TensorSpec]) -> str:
    """Names for people, such as "'a' and 'b'"; the first nine of many; "nothing" for none."""
    quoted = [f"'{name if isinstance(name, str) else name.name}'" for name in names]
    if len(quoted) > 10:
        quoted = [*quoted[:9], f"{len(quoted) - 9} more"]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted) or "nothing"
