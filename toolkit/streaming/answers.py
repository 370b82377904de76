"""The predictions for a source, block by block, with the rows that have none in their places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.errors import DataError, InputError, ModelError
from toolkit.predictor import PredictionBatch
from toolkit.streaming.sources import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from toolkit.predictor import Predictor
    from toolkit.streaming.sources import Block, Source

__all__ = ["Answered", "answer_blocks", "check_finite"]


@dataclass(frozen=True, eq=False)
class Answered:
    """Some rows in order, with what the model says of them.

    Attributes:
        files: the file that each row is from.
        indices: the index of each row in its file.
        batch: the answers to those rows that have one, in order; None: no row has.
        failed: why the others have none, by their place.
        notes: what was done to pictures, a line each.
    """

    files: Sequence[str]
    indices: Sequence[int]
    batch: PredictionBatch | None
    failed: dict[int, Failure]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.files)

    @property
    def places(self) -> list[int]:
        """Those of the rows that have an answer."""
        return [place for place in range(len(self.files)) if place not in self.failed]


def answer_blocks(predictor: Predictor, source: Source) -> Iterator[Answered]:
    """What the model says of a source's rows, a block at a time, in order.

    A row with values that the model does not take (NaN, out of range) fails alone.

    Raises:
        DataError: the file cannot be read any more.
        ModelError: the model answers with NaN or infinity, or not a row for a row.
    """
    for block in source.blocks():
        failed = dict(block.failed)
        batch = _predicted(predictor, source, block, failed) if block.rows else None
        yield Answered(block.files, block.indices, batch, failed, block.notes)


def _predicted(
    predictor: Predictor, source: Source, block: Block, failed: dict[int, Failure]
) -> PredictionBatch | None:
    """The answers to a block's rows; those that fail are added to the others."""
    try:
        batch = predictor.predict_batch(source.fitted(block.rows, source.name))
    except (DataError, InputError):
        parts = []
        places = [place for place in range(len(block.files)) if place not in block.failed]
        for number, place in enumerate(places):
            name = block.files[place] if block.first is None else f"{block.files[place]}[{block.first + place}]"
            row = {key: array[number : number + 1] for key, array in block.rows.items()}
            try:
                parts.append(predictor.predict_batch(source.fitted(row, name)))
            except DataError as error:
                failed[place] = Failure.of(error)
            except InputError as error:
                failed[place] = Failure.of(error, name)
        if not parts:
            return None
        batch = PredictionBatch.joined(parts)
    check_finite(predictor, batch)
    return batch


def check_finite(predictor: Predictor, batch: PredictionBatch) -> None:
    """Refuse answers with NaN or infinity.

    Raises:
        ModelError: there are such.
    """
    arrays: list[NDArray[Any]] = list(batch.outputs.values())
    if not all(np.isfinite(array).all() for array in arrays if array.dtype.kind == "f"):
        raise ModelError(f"{predictor.file.path} answers with NaN or infinity; the model is broken: export it again")
