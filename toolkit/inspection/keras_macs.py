"""Multiply-adds of one call of a Keras layer, from its weights and the shapes that go in and out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["NOTHING", "UNKNOWN", "Work", "layer_work", "times"]

_Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Work:
    """Multiply-adds for one row.

    Attributes:
        count: None where it depends on a free dimension, or is not known at all.
        per_position: for one position of the free dimensions, where work is proportional to them.
    """

    count: int | None
    per_position: int | None = None


NOTHING, UNKNOWN = Work(0), Work(None)


@dataclass(frozen=True)
class _Call:
    layer: Any
    given: Sequence[_Shape]
    answered: Sequence[_Shape]


def times(fixed: int, *sizes: int | None) -> Work:
    """The product; None among the sizes is a free dimension."""
    known = fixed * math.prod(size for size in sizes if size is not None)
    if known == 0:
        return NOTHING
    return Work(None, known) if None in sizes else Work(known)


def layer_work(layer: Any, given: Sequence[_Shape], answered: Sequence[_Shape]) -> Work:
    """What one call of a layer or operation takes.

    Args:
        layer: of Keras; built.
        given: shapes of the tensors that go in, with the batch.
        answered: shapes of those that come out.
    """
    name = type(layer).__name__
    if not type(layer).__module__.startswith("keras."):
        return UNKNOWN  # somebody's own: only its author knows what it computes
    rule = _RULES.get(name)
    if rule is not None:
        try:
            return rule(_Call(layer, given, answered))
        except (AttributeError, IndexError, TypeError, ValueError):  # not built, or called in a way of its own
            return UNKNOWN
    return UNKNOWN if name in _NOT_KNOWN else NOTHING


def _size(weight: Any) -> int:
    return math.prod(weight.shape)


def _positions(shape: _Shape, channels_last: bool) -> _Shape:
    """The dimensions of a picture or sequence, without batch and channels."""
    return shape[1:-1] if channels_last else shape[2:]


def _last(layer: Any) -> bool:
    return bool(getattr(layer, "data_format", "channels_last") == "channels_last")


def _dense(call: _Call) -> Work:
    return times(_size(call.layer.kernel), *call.answered[0][1:-1])


def _convolution(call: _Call) -> Work:
    return times(_size(call.layer.kernel), *_positions(call.answered[0], _last(call.layer)))


def _separable(call: _Call) -> Work:
    weights = _size(call.layer.depthwise_kernel) + _size(call.layer.pointwise_kernel)
    return times(weights, *_positions(call.answered[0], _last(call.layer)))


def _transposed(call: _Call) -> Work:
    return times(_size(call.layer.kernel), *_positions(call.given[0], _last(call.layer)))


def _recurrent(call: _Call) -> Work:
    """Each step multiplies the input by one matrix and the state by another."""
    return times(_cell(call.layer.cell), call.given[0][1])


def _cell(cell: Any) -> int:
    inner = getattr(cell, "cells", None)
    return sum(map(_cell, inner)) if inner else _size(cell.kernel) + _size(cell.recurrent_kernel)


def _rnn(call: _Call) -> Work:
    cells = getattr(call.layer.cell, "cells", [call.layer.cell])
    known = all(type(c).__name__ in ("LSTMCell", "GRUCell", "SimpleRNNCell") for c in cells)
    return _recurrent(call) if known else UNKNOWN


def _recurrent_convolution(call: _Call) -> Work:
    weights = _size(call.layer.cell.kernel) + _size(call.layer.cell.recurrent_kernel)
    skip = 2 if call.layer.return_sequences else 1
    spatial = call.answered[0][skip:-1] if _last(call.layer) else call.answered[0][skip + 1 :]
    return times(weights, call.given[0][1], *spatial)


def _bidirectional(call: _Call) -> Work:
    one, two = (
        layer_work(each, call.given, call.answered) for each in (call.layer.forward_layer, call.layer.backward_layer)
    )
    return _sum(one, two)


def _sum(*works: Work) -> Work:
    if all(work.count is not None for work in works):
        return Work(sum(work.count or 0 for work in works))
    if all(work.per_position is not None for work in works):
        return Work(None, sum(work.per_position or 0 for work in works))
    return UNKNOWN


def _time_distributed(call: _Call) -> Work:
    steps = call.given[0][1]
    inner = layer_work(call.layer.layer, [(g[0], *g[2:]) for g in call.given], [(a[0], *a[2:]) for a in call.answered])
    if inner.count is None:
        return UNKNOWN
    return times(inner.count, steps)


def _einsum_dense(call: _Call) -> Work:
    return _einsum(call.layer.equation, [call.given[0], tuple(call.layer.kernel.shape)])


def _einsum_operation(call: _Call) -> Work:
    return _einsum(call.layer.subscripts, call.given)


def _einsum(equation: str, shapes: Sequence[_Shape]) -> Work:
    """Two operands: each combination of indices is one product. The batch is the first index of the first operand."""
    terms = equation.replace(" ", "").split("->")[0].split(",")
    if len(terms) != 2:
        return UNKNOWN
    sizes: dict[str, int | None] = {}
    for term, shape in zip(terms, shapes, strict=True):
        if "..." in term:
            before, after = term.split("...")
            middle = len(shape) - len(before) - len(after)
            if middle < 0:
                return UNKNOWN
            term = before + "".join(chr(0x2460 + i) for i in range(middle)) + after  # noqa: PLW2901 - spelled out
        sizes.update(zip(term, shape, strict=True))
    batch = terms[0].replace("...", "\u2460")[0]
    return times(1, *(size for index, size in sizes.items() if index != batch))


def _multi_head(call: _Call) -> Work:
    """Projections of query, key and value, the scores, their sum over the values, and the projection out."""
    query, value = call.given[0], call.given[1]
    key = call.given[2] if len(call.given) > 2 and len(call.given[2]) == len(value) else value
    if len(query) != 3 or len(value) != 3:
        return UNKNOWN
    rows, columns = query[1], value[1]
    if rows is None or columns is None or key[1] is None:
        return UNKNOWN  # the scores go with their product
    heads = getattr(call.layer, "num_heads", None) or call.layer.num_query_heads
    width = getattr(call.layer, "key_dim", None) or call.layer.head_dim
    deep = getattr(call.layer, "value_dim", None) or width
    inside = [getattr(call.layer, f"_{part}_dense").kernel for part in ("query", "key", "value", "output")]
    steps = (rows, key[1], columns, rows)
    projections = sum(_size(kernel) * count for kernel, count in zip(inside, steps, strict=True))
    return Work(projections + heads * rows * columns * (width + deep))


def _attention(call: _Call) -> Work:
    if getattr(call.layer, "score_mode", "dot") != "dot":
        return UNKNOWN
    query, value = call.given[0], call.given[1]
    sizes = (query[1], value[1], query[-1], value[-1])
    if None in sizes:
        return UNKNOWN
    rows, columns, width, deep = (size or 0 for size in sizes)
    return Work(rows * columns * (width + deep))


def _matrix_product(call: _Call) -> Work:
    return times(1, call.given[0][-1], *call.answered[0][1:])


def _dot(call: _Call) -> Work:
    axis = call.layer.axes if isinstance(call.layer.axes, int) else call.layer.axes[0]
    shared = call.given[0][axis]
    outside = math.prod(size or 0 for size in call.answered[0][1:])
    return UNKNOWN if shared is None or None in call.answered[0][1:] else Work(shared * outside)


_RULES: dict[str, Callable[[_Call], Work]] = {
    "Dense": _dense,
    "EinsumDense": _einsum_dense,
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D", "DepthwiseConv1D", "DepthwiseConv2D"), _convolution),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), _separable),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), _transposed),
    **dict.fromkeys(("LSTM", "GRU", "SimpleRNN"), _recurrent),
    "RNN": _rnn,
    **dict.fromkeys(("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"), _recurrent_convolution),
    "Bidirectional": _bidirectional,
    "TimeDistributed": _time_distributed,
    **dict.fromkeys(("MultiHeadAttention", "GroupQueryAttention"), _multi_head),
    "Attention": _attention,
    "Dot": _dot,
    "Matmul": _matrix_product,
    "Einsum": _einsum_operation,
}
# Keras' own with sums of products in them that no rule above counts.
_NOT_KNOWN = frozenset(
    """
    AdditiveAttention Conv ConvTranspose Correlate DepthwiseConv Det DotProductAttention FFT FFT2 Inner Inv IRFFT
    ISTFT Lambda MelSpectrogram Outer RFFT ReversibleEmbedding STFT STFTSpectrogram SVD SeparableConv Solve
    SpectralNormalization StackedRNNCells TFSMLayer Tensordot Vdot
    """.split()  # noqa: SIM905 - a list of words is read more easily so
)
