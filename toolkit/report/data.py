"""The data: how much of each class, some of it to look at, and one picture pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.report.parts import ASIDE, Missing
from toolkit.report.rows import KnownRows, picture_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DataFacts", "GridRow", "PixelFacts", "describe_data"]

PICTURES = 12
"""Of each class, in the grid."""
_CLASSES = 20
_PIXELS = 32


@dataclass(frozen=True, eq=False)
class GridRow:
    """Some rows of one class: their pictures, uint8 (height, width) or (height, width, 3)."""

    name: str
    pictures: tuple[NDArray[np.uint8], ...] = field(repr=False, metadata=ASIDE)


@dataclass(frozen=True, eq=False)
class PixelFacts:
    """One picture to be shown pixel by pixel.

    Attributes:
        row: which of the test rows it is.
        title: its class, or which row it is.
        cut: it is the middle of a larger one.
        picture: uint8 (height, width), 32x32 at most.
    """

    row: int
    title: str
    cut: bool
    picture: NDArray[np.uint8] = field(repr=False, metadata=ASIDE)


@dataclass(frozen=True, eq=False)
class DataFacts:
    """What the model was trained or tested on.

    Attributes:
        source: in a phrase.
        class_names: or None.
        rows: how many, by part ("training", "validation", "test").
        counts: of each class, by part; empty where the right answers are not known.
        shape, dtype: of one row of the first input.
        grid: some rows of each class; empty where rows are no pictures or their classes are not known.
        grid_of: which part these are of.
        pixels: one picture, or None where rows are no grey pictures.
    """

    source: str
    class_names: tuple[str, ...] | None
    rows: dict[str, int]
    counts: dict[str, list[int]]
    shape: tuple[int, ...]
    dtype: str
    grid: tuple[GridRow, ...]
    grid_of: str
    pixels: PixelFacts | None


def describe_data(known: KnownRows | Missing) -> DataFacts | Missing:
    """What there is to say of the rows."""
    if isinstance(known, Missing):
        return known
    parts: dict[str, NDArray[Any]]
    labels: NDArray[Any] | None
    if known.fashion is not None:
        data = known.fashion
        parts = {"training": data.train_labels, "validation": data.validation_labels, "test": data.test_labels}
        shown, labels, grid_of = data.train_images, data.train_labels, "training"
        source = "Fashion-MNIST"
    else:
        parts = {} if known.labels is None else {"test": known.labels}
        shown, labels, grid_of = next(iter(known.inputs.values())), known.labels, "test"
        source = known.source
    rows = {name: len(found) for name, found in parts.items()} or {"test": known.count}
    names = known.class_names
    if names is None and known.labels is not None:
        names = tuple(f"class {label}" for label in range(int(known.labels.max()) + 1))
    counts = {}
    if names is not None:
        counts = {part: np.bincount(found, minlength=len(names)).tolist() for part, found in parts.items()}
    return DataFacts(
        source=source,
        class_names=names,
        rows=rows,
        counts=counts,
        shape=known.shape,
        dtype=known.dtype,
        grid=_grid(shown, labels, names) if known.are_pictures and names and labels is not None else (),
        grid_of=grid_of,
        pixels=_pixels(known),
    )


def _grid(images: NDArray[Any], labels: NDArray[Any], names: tuple[str, ...]) -> tuple[GridRow, ...]:
    """A seeded choice of each class, of the first twenty classes."""
    choose = np.random.default_rng(0)
    found = []
    for label, name in enumerate(names[:_CLASSES]):
        of_class = np.flatnonzero(labels == label)
        chosen = choose.choice(of_class, min(PICTURES, len(of_class)), replace=False)
        if len(chosen):
            found.append(GridRow(name, tuple(picture_of(images[row]) for row in chosen)))
    return tuple(found)


def _pixels(known: KnownRows) -> PixelFacts | None:
    """The first test row; its middle where it is larger than can be read."""
    picture = known.picture(0)
    if picture is None or picture.ndim == 3:
        return None
    top, left = (max(0, (side - _PIXELS) // 2) for side in picture.shape)
    part = picture[top : top + _PIXELS, left : left + _PIXELS]
    return PixelFacts(0, known.title(0), part.shape != picture.shape, part)
