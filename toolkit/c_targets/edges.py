"""Rows on which the rounding of a float input is put to the test: test rows come near none of its edges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["edge_rows"]

COUNT = 256
_VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")


def edge_rows(data: bytes, rows: NDArray[Any]) -> NDArray[Any]:
    """Rows of values half-way between two steps of a float32 input, and of the floats beside these.

    There a constant that a compiler keeps in more bits than float32 has (as C allows on x87 and IBM Z), or a division
    that becomes a product, makes a value one step more or less.

    Args:
        data: bytes of an int8 ONNX file.
        rows: (n, ...), as it takes them; of these, shape and dtype count.

    Returns:
        (256, ...), the same every time; none (0, ...) where the input is of integers, which are not rounded.
    """
    import onnx
    from onnx import numpy_helper

    if rows.dtype != np.float32:
        return rows[:0]
    graph = onnx.load_from_string(data).graph
    tensor = graph.input[0].name
    stored = {each.name: each for each in graph.initializer}
    for node in graph.node:  # in the order of computation
        if tensor not in node.input[:1]:
            continue
        if node.op_type in _VIEWS:
            tensor = node.output[0]
        elif node.op_type == "QuantizeLinear":
            scale = np.float32(numpy_helper.to_array(stored[node.input[1]]).reshape(-1)[0])
            zero = numpy_helper.to_array(stored[node.input[2]]).reshape(-1)[0]
            limits = np.iinfo(zero.dtype)
            steps = np.arange(limits.min, limits.max, dtype=np.float32) - np.float32(zero) + np.float32(0.5)
            at = (steps * scale).astype(np.float32)
            beside = [np.nextafter(at, np.float32(way)) for way in (-np.inf, np.inf)]
            shape = (COUNT, *rows.shape[1:])
            return np.random.default_rng(0).choice(np.concatenate([at, *beside]), shape).astype(np.float32)
    return rows[:0]
