"""Where a float32 file leaves Keras: the first layer whose output the file's graph does not have.

A layer's output is looked for among all tensors of the graph by its values. A converter may write images with channels
first, drop dimensions of size one, and join layers (batch normalization into the convolution before it), so:

- values are compared over every order of the axes that gives the layer's shape;
- a layer of which a later layer's output is right is taken as right, or as joined with that one;
- a layer that has no tensor under its name is passed over, unless no layer has.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["TOLERANCE", "Divergence", "LayerOutput", "find_divergence"]

TOLERANCE = 1e-4
"""How far a tensor may be from the layer's output, as a share of its largest value. Sums in another order moved inner
tensors of the models that the tests train by up to 1.4e-5; one changed weight moves them by 1e-3 and more."""


class LayerOutput(Protocol):
    """One call of a Keras layer."""

    @property
    def name(self) -> str:
        """Of the layer, those of nested models as OUTER/INNER."""

    @property
    def kind(self) -> str:
        """Its class."""

    @property
    def value(self) -> NDArray[Any]:
        """What it gave, (n, ...)."""

    @property
    def sources(self) -> Sequence[int]:
        """The calls, by index, whose outputs it took."""


@dataclass(frozen=True)
class Divergence:
    """The first layer of a float32 file that differs from Keras.

    Attributes:
        layer: its name; joined with " + " to the batch normalization behind it, where one tensor holds both; None if
            there is none to name.
        difference: its largest difference, as a share of the layer's largest value; None if a value is no number, or
            where there is no layer.
        before: the layers in front of it that still agree.
        compared: layers whose outputs were found in the file.
        unknown: why no layer can be named; None if one is.
    """

    layer: str | None
    difference: float | None
    before: list[str]
    compared: int
    unknown: str | None = None

    @property
    def finding(self) -> str:
        """One line."""
        if self.layer is None:
            return f"the first layer that differs is not known: {self.unknown}"
        off = "holds values that are no numbers" if self.difference is None else f"is off by {self.difference:.1e}"
        size = "" if self.difference is None else " of its largest value"
        agree = f"; {' and '.join(self.before)} still agree{'' if len(self.before) > 1 else 's'}" if self.before else ""
        return f"first layer that differs: {self.layer} (its output {off}{size}{agree})"


def find_divergence(
    layers: Sequence[LayerOutput], tensors: Mapping[str, NDArray[Any]], outputs: Iterable[str]
) -> Divergence:
    """The first layer whose output a graph does not have.

    Args:
        layers: calls of Keras' layers, in the order in which they ran.
        tensors: every tensor that the graph computed from the same rows, by name, in the graph's order.
        outputs: which of them are the graph's outputs.
    """
    ends = set(outputs)
    by_size: dict[int, list[tuple[str, NDArray[Any]]]] = {}
    for name, array in tensors.items():
        by_size.setdefault(array.size, []).append((name, array))
    users: dict[int, list[int]] = {index: [] for index in range(len(layers))}
    for index, layer in enumerate(layers):
        for source in layer.sources:
            users[source].append(index)
    nearest = [_nearest(layer.value, by_size.get(layer.value.size, [])) for layer in layers]
    agrees = [difference <= TOLERANCE for difference in nearest]
    right = list(agrees)  # it, or something made of it
    for index in reversed(range(len(layers))):
        right[index] |= any(right[user] for user in users[index])
    own = [
        _own(layer, by_size.get(layer.value.size, []), set() if users[index] else ends)
        for index, layer in enumerate(layers)
    ]
    named = any(own)
    wrong = [index for index in range(len(layers)) if not right[index]]
    compared = sum(agrees)
    if not wrong:
        return Divergence(
            None,
            None,
            [],
            compared,
            f"no layer is off by more than {TOLERANCE:g} of its largest value; differences add up",
        )
    first = next((index for index in wrong if own[index] or not named), None)
    if first is None:
        return Divergence(None, None, [], compared, "no layer that differs has a tensor of its own in the file")
    last = _joined(first, layers, users)
    found = own[last] or own[first] or [array for _, array in by_size.get(layers[last].value.size, [])]
    difference = _difference(layers[last].value, found[-1]) if found else math.inf
    before = dict.fromkeys(layers[index].name for index in _agreeing_before(first, layers, agrees))
    names = dict.fromkeys(layers[index].name for index in (first, last))
    return Divergence(" + ".join(names), difference if math.isfinite(difference) else None, list(before), compared)


def _own(layer: LayerOutput, candidates: Sequence[tuple[str, NDArray[Any]]], ends: set[str]) -> list[NDArray[Any]]:
    """Tensors of the layer's size that are named after it; for the last layers, the graph's outputs too."""
    return [array for name, array in candidates if name.startswith(f"{layer.name}/") or name in ends]


def _joined(index: int, layers: Sequence[LayerOutput], users: Mapping[int, Sequence[int]]) -> int:
    """The batch normalization that a converter writes into the layer's own operator, or the layer."""
    after = users[index]
    if len(after) == 1 and layers[after[0]].kind == "BatchNormalization":
        return after[0]
    return index


def _agreeing_before(index: int, layers: Sequence[LayerOutput], agrees: Sequence[bool]) -> Iterator[int]:
    """The nearest calls in front of one whose own outputs were found."""
    for source in layers[index].sources:
        if agrees[source]:
            yield source
        else:
            yield from _agreeing_before(source, layers, agrees)


def _nearest(value: NDArray[Any], candidates: Sequence[tuple[str, NDArray[Any]]]) -> float:
    best = math.inf
    for _, array in candidates:
        best = min(best, _difference(value, array))
        if best <= TOLERANCE:
            break
    return best


def _difference(value: NDArray[Any], array: NDArray[Any]) -> float:
    """Largest difference as a share of the largest |value|, over the orders of the axes; infinite with a NaN."""
    exact = np.squeeze(value).astype(np.float64)
    size = float(np.abs(exact).max(initial=0)) or 1.0
    if not (np.isfinite(exact).all() and np.isfinite(array).all()):
        return math.inf
    best = math.inf
    for form in _forms(np.squeeze(array), exact.shape):
        best = min(best, float(np.abs(exact - form).max(initial=0)) / size)
    return best


def _forms(array: NDArray[Any], shape: tuple[int, ...]) -> Iterator[NDArray[Any]]:
    """An array in a given shape: its axes in any order, or flattened from images with channels first."""
    if array.ndim == len(shape) and array.ndim <= 5:
        for order in itertools.permutations(range(array.ndim)):
            if tuple(array.shape[axis] for axis in order) == shape:
                yield array.transpose(order)
        return
    yield array.reshape(shape)
    if array.ndim > 2:
        yield np.moveaxis(array, 1, -1).reshape(shape)
