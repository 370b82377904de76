"""Weight scales with which an int8 model computes the same sums on every CPU.

The trouble
    x86 without VNNI multiplies uint8 activations by int8 weights with ``vpmaddubsw``: two neighbouring products along
    the summed dimension are added in 16 bits, *with saturation*. Two products reach 2 x 255 x 127 = 64,770, the sum
    holds 32,767, so such a CPU clips where VNNI and ARM, which add in 32 bits, do not: the same file gives different
    answers (onnxruntime#6004, #5849). Signed activations fare no better: the runtime adds 128 to them and corrects
    afterwards, so they run from 0 to 255 there too. uint8 weights are widened to 16 bits first and do not saturate.

Which products are paired
    Found out by running weights of which only two are not zero on an emulated Haswell, for every two of them
    (tests/test_pairs.py does it again): in a Gemm or MatMul rows k and k+1 of the summed dimension meet, for even k,
    within one column, with per-channel scales as with one. In a Conv it is the same with the summed dimension in the
    order of positions first, channels last: neighbouring channels at one position of the kernel, or the last channel of
    one position and the first of the next. In a depthwise Conv no two meet: its kernel adds in 32 bits. Here all
    neighbours are bounded, also from odd k on, and those of a Conv in both orders, channels last and channels first, so
    that nothing rests on alignment or on the way a release lays out its input. Nehalem (SSE 4.2) does not saturate.

The bound
    An activation is 0 to 255, each on its own, so the largest sum of a pair is 255 x (w1+ + w2+), w+ being the
    positive part of a quantized weight, and the smallest is -255 x (w1- + w2-). 255 x 128 = 32,640 fits and
    255 x 129 = 32,895 does not: **both sums of parts must be at most 128**. `pair_load` is the larger of them.

The scale
    A quantized weight is round(w / s), at most w / s + 1/2 in size, so two of them have parts of at most p / s + 1
    together, p being the same sum over the real weights. Whole numbers below 129 are at most 128, so p / s < 128
    suffices: s > p / 128. The 8-bit range asks for s >= max|w| / 127. The scale is the larger of the two, and could
    hardly be smaller: rounding takes off 1 at most as well, so with s < p / 129 a pair of exactly these weights
    does saturate. What is given away is at most 129 / 128, or 0.8 %.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AS_THEY_STAND", "LIMIT", "Orders", "pair_load", "portable_scale"]

LIMIT = 128
"""Most that the positive parts, and the negative parts, of two paired int8 weights may come to together."""

Orders: TypeAlias = "tuple[NDArray[np.intp] | None, ...]"
"""In which orders the runtime may take the summed dimension: each a permutation of it, or None for as it stands; no
order where it pairs no two."""

AS_THEY_STAND: Orders = (None,)

# Room for the rounding of float32 division and of the scale itself (each 2^-24 of the value).
_MARGIN = 1 - 2.0**-20


def pair_load(weights: NDArray[Any], orders: Orders = AS_THEY_STAND) -> NDArray[Any]:
    """The largest sum of positive parts, or of negative parts, that two paired weights come to.

    Args:
        weights: shape (k, n), real or quantized: k is the summed dimension, n the outputs.
        orders: see `Orders`.

    Returns:
        One figure an output, shape (n,), of float64 for real weights and int64 for quantized ones.
    """
    exact = weights.astype(np.float64 if weights.dtype.kind == "f" else np.int64)
    parts = np.stack([np.maximum(exact, 0), np.maximum(-exact, 0)])
    alone = parts.max(axis=(0, 1))  # what an odd row out, paired with nothing, comes to
    taken = [parts if order is None else parts[:, order] for order in orders] if len(exact) > 1 else []
    paired = [(one[:, :-1] + one[:, 1:]).max(axis=(0, 1)) for one in taken]
    return np.maximum.reduce([alone, *paired])  # type: ignore[no-any-return]  # numpy's reduce is typed as Any


def portable_scale(
    weights: NDArray[np.float32], orders: Orders = AS_THEY_STAND, *, per_channel: bool
) -> NDArray[np.float32]:
    """The smallest scale with which no pair of int8 weights can saturate, whatever the activations.

    Args:
        weights: float32 of shape (k, n), finite; k is the summed dimension, n the outputs.
        orders: see `Orders`.
        per_channel: one scale an output instead of one for all.

    Returns:
        float32 of shape (n,) or (1,); 1 where all weights are zero.
    """
    whole = np.abs(weights.astype(np.float64)).max(axis=0) / 127
    paired = pair_load(weights, orders) / LIMIT
    needed = np.maximum(whole, paired) / _MARGIN
    if not per_channel:
        needed = needed.max(keepdims=True)
    scale = needed.astype(np.float32)
    # A subnormal scale would lose the precision that the margin counts on; nothing that small is told from zero.
    return np.where(scale < np.finfo(np.float32).tiny * 2**24, np.float32(1), scale)
