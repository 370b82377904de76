"""Weights as an int4 file holds them: rounded in blocks as onnxruntime's quantizer does, gradients straight through.

`training` does not know the exporter; a test holds these values against those of an exported file.
"""

from __future__ import annotations

from typing import Any

from toolkit.keras_model import import_keras, import_tensorflow

__all__ = ["BLOCK", "DenseInBlocks", "in_blocks", "straight_through"]

tf = import_tensorflow()

BLOCK = 32
"""Weights that share a scale, along a layer's input: the exporter's `toolkit.conversion.quantize.INT4_BLOCK`."""


def in_blocks(kernel: Any) -> Any:
    """What a kernel becomes when an int4 file stores it; a second time it changes nothing.

    By onnxruntime's MatMulNBitsQuantizer, symmetric: in each block of `BLOCK` weights of one output, that of the
    largest magnitude (of two, the negative one) is -8 steps, so the scale may be negative, and the others are the
    nearest of -8 to 7 steps.

    Args:
        kernel: float32 (inputs, outputs).

    Returns:
        float32 of the same shape: whole steps times their block's scale.
    """
    rows, columns = kernel.shape
    count = -(-rows // BLOCK)
    blocks = tf.reshape(tf.pad(kernel, [[0, count * BLOCK - rows], [0, 0]]), [count, BLOCK, columns])
    least, most = (reduce(blocks, axis=1, keepdims=True) for reduce in (tf.reduce_min, tf.reduce_max))
    scale = tf.where(most > -least, most, least) / -8.0
    places = blocks * tf.math.divide_no_nan(1.0, scale) + 8.0
    whole = tf.floor(places)
    # As C's roundf, which takes halves upwards here; tf.round takes them to the even one.
    steps = whole + tf.cast(places - whole >= 0.5, tf.float32)
    rounded = (tf.clip_by_value(steps, 0.0, 15.0) - 8.0) * scale
    return tf.reshape(rounded, [count * BLOCK, columns])[:rows]


def straight_through(kernel: Any) -> Any:
    """`in_blocks`, whose gradient is taken for 1 (Bengio et al. 2013, arXiv:1308.3432): rounding itself has none."""
    return tf.grad_pass_through(in_blocks)(kernel)


class DenseInBlocks(import_keras().layers.Dense):  # type: ignore[misc]  # Keras has no types
    """Keras' Dense, which computes with its kernel rounded and trains the kernel itself.

    As Jacob et al. 2018 (arXiv:1712.05877) simulate quantization.
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:  # noqa: ARG002 - Keras' form
        """The layer's answer, float32 (batch, units)."""
        return self.activation(tf.matmul(inputs, straight_through(tf.convert_to_tensor(self.kernel))) + self.bias)
