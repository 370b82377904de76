"""Weight scales with which an int8 model computes the same sums on every CPU.

The trouble
    x86 without VNNI multiplies uint8 activations by int8 weights with ``vpmaddubsw``: two neighbouring products along
    the summed dimension are added in 16 bits, *with saturation*. Two products reach 2 x 255 x 127 = 64,770, the sum
    holds 32,767, so such a CPU clips where VNNI and ARM, which add in 32 bits, do not: the same file gives different
    answers (onnxruntime#6004, #5849). Signed activations fare no better: the runtime adds 128 to them and corrects
    afterwards, so they run from 0 to 255 there too. uint8 weights are widened to 16 bits first and do not saturate.

Which products are paired
    In a Gemm or MatMul the runtime packs the weights so that rows k and k+1 of the summed dimension meet, within one
    column. Rows are taken from an even k on, but all neighbours are bounded here, so nothing rests on the alignment.
    In a Conv the order of the summed dimension is the runtime's own (channels first or last, by kernel), so there any
    two weights of an output channel are taken to meet.

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

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LIMIT", "pair_load", "portable_scale"]

LIMIT = 128
"""Most that the positive parts, and the negative parts, of two paired int8 weights may come to together."""

# Room for the rounding of float32 division and of the scale itself (each 2^-24 of the value).
_MARGIN = 1 - 2.0**-20


def pair_load(weights: NDArray[Any], *, any_pair: bool) -> NDArray[Any]:
    """The largest sum of positive parts, or of negative parts, that two paired weights come to.

    Args:
        weights: shape (k, n), real or quantized: k is the summed dimension, n the outputs.
        any_pair: any two weights of an output may meet (Conv), not only neighbours (Gemm, MatMul).

    Returns:
        One figure an output, shape (n,), of float64 for real weights and int64 for quantized ones.
    """
    exact = weights.astype(np.float64 if weights.dtype.kind == "f" else np.int64)
    parts = np.stack([np.maximum(exact, 0), np.maximum(-exact, 0)])
    if len(exact) == 1:  # an odd row out is paired with nothing
        return parts[:, 0].max(axis=0)  # type: ignore[no-any-return]  # numpy's max is typed as Any
    if any_pair:
        top = np.partition(parts, -2, axis=1)
        sums = top[:, -1] + top[:, -2]
    else:
        sums = (parts[:, :-1] + parts[:, 1:]).max(axis=1)
    return sums.max(axis=0)  # type: ignore[no-any-return]


def portable_scale(weights: NDArray[np.float32], *, any_pair: bool, per_channel: bool) -> NDArray[np.float32]:
    """The smallest scale with which no pair of int8 weights can saturate, whatever the activations.

    Args:
        weights: float32 of shape (k, n), finite; k is the summed dimension, n the outputs.
        any_pair: see `pair_load`.
        per_channel: one scale an output instead of one for all.

    Returns:
        float32 of shape (n,) or (1,); 1 where all weights are zero.
    """
    whole = np.abs(weights.astype(np.float64)).max(axis=0) / 127
    paired = pair_load(weights, any_pair=any_pair) / LIMIT
    needed = np.maximum(whole, paired) / _MARGIN
    if not per_channel:
        needed = needed.max(keepdims=True)
    scale = needed.astype(np.float32)
    # A subnormal scale would lose the precision that the margin counts on; nothing that small is told from zero.
    return np.where(scale < np.finfo(np.float32).tiny * 2**24, np.float32(1), scale)
