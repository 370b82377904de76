"""Where a float32 file leaves Keras: the first layer whose output the file's graph does not have.

A layer's output is looked for among all tensors of the graph by its values. A converter may write images with channels
first, drop dimensions of size one, and join layers (batch normalization into the convolution before it), so:

- values are compared over every order of the axes that gives the layer's shape;
- a layer of which a later layer's output is right is taken as right, or as joined with that one;
- a layer that differs and has no tensor under its name, or one that is right but for a scale and a shift a channel
  (which converters write into a neighbour's weights), is named together with the layer behind it.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["TOLERANCE", "Divergence", "Graph", "LayerOutput", "find_divergence"]

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
    def linear(self) -> bool:
        """It has weights or constants, and no activation behind them."""

    @property
    def value(self) -> NDArray[Any]:
        """What it gave, (n, ...)."""

    @property
    def sources(self) -> Sequence[int]:
        """The calls, by index, whose outputs it took."""


class Graph(Protocol):
    """What an ONNX graph computed; see `toolkit.conversion.divergence.GraphTensors`."""

    @property
    def values(self) -> Mapping[str, NDArray[Any]]:
        """Every tensor by its name, in the graph's order."""

    @property
    def names(self) -> Mapping[str, Sequence[str]]:
        """The names that each of them goes by: its own, and those of the constants that it was made with."""

    @property
    def outputs(self) -> Sequence[str]:
        """Which of them are the graph's outputs."""


@dataclass(frozen=True)
class Divergence:
    """The first layer of a float32 file that differs from Keras.

    Attributes:
        layer: its name; several with " + " between, where one tensor holds what all of them do; None if there is none
            to name.
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


def find_divergence(layers: Sequence[LayerOutput], graph: Graph) -> Divergence:
    """The first layer whose output a graph does not have.

    Args:
        layers: calls of Keras' layers, in the order in which they ran.
        graph: what the file computed from the same rows.
    """
    by_size: dict[int, list[str]] = {}
    for name, array in graph.values.items():
        by_size.setdefault(array.size, []).append(name)
    candidates = [by_size.get(layer.value.size, []) for layer in layers]
    users: list[list[int]] = [[] for _ in layers]
    for index, layer in enumerate(layers):
        for source in layer.sources:
            users[source].append(index)
    agrees = [
        _nearest(layer.value, [graph.values[name] for name in names]) <= TOLERANCE
        for layer, names in zip(layers, candidates, strict=True)
    ]
    right = list(agrees)  # it, or something made of it
    for index in reversed(range(len(layers))):
        right[index] |= any(right[user] for user in users[index])
    wrong = [index for index in range(len(layers)) if not right[index]]
    compared = sum(agrees)
    if not wrong:
        why = f"no layer is off by more than {TOLERANCE:g} of its largest value; differences add up"
        return Divergence(None, None, [], compared, why)
    known = {part for layer in layers for part in layer.name.split("/")}
    own = [
        [name for name in candidates[index] if _is_of(layer, graph.names[name], known)]
        + [name for name in candidates[index] if name in graph.outputs and not users[index]]
        for index, layer in enumerate(layers)
    ]
    moved = [
        bool(own[index])
        and layer.linear
        and any(_takes_in(layers[user].kind) for user in users[index])
        and _is_shifted(layer.value, graph.values[own[index][-1]])
        for index, layer in enumerate(layers)
    ]
    chain = _chain(wrong, own, users, moved)
    last = chain[-1]
    shown = next((own[index] for index in reversed(chain) if own[index]), candidates[last])
    difference = _difference(layers[last].value, graph.values[shown[-1]]) if shown else math.inf
    before = dict.fromkeys(layers[index].name for index in _agreeing_before(chain[0], layers, agrees))
    names = dict.fromkeys(layers[index].name for index in chain)
    return Divergence(" + ".join(names), difference if math.isfinite(difference) else None, list(before), compared)


def _is_of(layer: LayerOutput, names: Iterable[str], known: Container[str]) -> bool:
    """A tensor goes by the layer's name; the converter may have counted it up, to a name that no other layer has."""
    wanted = layer.name.rpartition("/")[2]
    parts = {part for name in names for part in name.split("/")}
    return wanted in parts or any(re.sub(r"_\d+$", "", part) == wanted for part in parts if part not in known)


def _chain(
    wrong: Sequence[int], own: Sequence[Sequence[str]], users: Sequence[Sequence[int]], moved: Sequence[bool]
) -> list[int]:
    """The first call that differs, and those behind it that a converter may have joined with it.

    It goes on while a call has no tensor of its own, or one that is its output but for a scale and a shift a channel
    (``moved``): these were written into the neighbour's weights, and it may be the neighbour that is wrong.
    """
    chain = [wrong[0]]
    if not any(own):  # a file with names of another kind
        return chain
    while moved[chain[-1]] or not own[chain[-1]]:
        after = [index for index in users[chain[-1]] if index in wrong]
        if not after:
            break
        chain.append(after[0])
        if moved[chain[-2]] and not own[chain[-1]]:
            break
    return chain


def _takes_in(kind: str) -> bool:
    """Layers of a class have weights that a scale and a shift in front of them can be written into."""
    return kind in ("Dense", "BatchNormalization") or "Conv" in kind


def _is_shifted(value: NDArray[Any], array: NDArray[Any]) -> bool:
    """A tensor is a layer's output but for a scale and a shift for each channel (the last axis)."""
    exact = np.squeeze(value).astype(np.float64)
    if exact.ndim < 2 or not (np.isfinite(exact).all() and np.isfinite(array).all()):
        return False
    channels = exact.reshape(-1, exact.shape[-1])
    centred = channels - channels.mean(axis=0)
    for form in _forms(np.squeeze(array), exact.shape):
        found = form.reshape(channels.shape).astype(np.float64)
        found = found - found.mean(axis=0)
        size = np.square(found).sum(axis=0)
        scale = np.divide((found * centred).sum(axis=0), size, out=np.zeros_like(size), where=size > 0)
        if np.abs(centred - scale * found).max() <= TOLERANCE * np.abs(channels).max():
            return True
    return False


def _agreeing_before(index: int, layers: Sequence[LayerOutput], agrees: Sequence[bool]) -> Iterator[int]:
    """The nearest calls in front of one whose own outputs were found."""
    for source in layers[index].sources:
        if agrees[source]:
            yield source
        else:
            yield from _agreeing_before(source, layers, agrees)


def _nearest(value: NDArray[Any], candidates: Iterable[NDArray[Any]]) -> float:
    best = math.inf
    for array in candidates:
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
