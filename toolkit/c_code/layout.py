"""How a chain is laid out in C: names, paddings and sizes, which header and code agree on."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from toolkit.c_code.names import comment, identifier

if TYPE_CHECKING:
    from collections.abc import Iterable

    from toolkit.c_code.chain import Chain

__all__ = ["ALIGNMENT", "ROWS", "Layout", "number", "up", "wrapped"]

ALIGNMENT = 64
"""Bytes: rows of weights are padded to it, so that the widest registers of today load them whole, with no rest."""

ROWS = 4
"""Rows of weights that are summed side by side: each value of the input is then loaded once for four."""

_LINE = 110
_TYPES = {"uint8": "uint8_t", "int8": "int8_t", "float32": "float"}


class Layout:
    """What is derived from a chain and the artifact's name, once for all files.

    Attributes:
        chain: what is written down.
        artifact: the name that people know.
        name: what every C name begins with; `upper` for constants.
        input_type: of one value, in C.
        input: what the input is called in C.
        answer: what the floats are called, "logits" or "values".
        decides: whether there is a NAME_classify.
        widths: of each layer's rows: its inputs, padded.
        sums: rows of the layer that has most, padded.
    """

    def __init__(self, chain: Chain, artifact: str) -> None:
        self.chain, self.artifact = chain, comment(artifact)
        self.name = identifier(artifact)
        self.upper = self.name.upper()
        self.input_type = _TYPES[chain.input_dtype]
        self.input = "image" if len(chain.input_shape) > 1 else "input"
        self.answer = "logits" if chain.end or chain.task == "classification" else "values"
        several = chain.outputs > 1
        self.decides = (chain.task == "classification" and several) or (chain.task == "binary" and not several)
        self.widths = [up(layer.inputs, ALIGNMENT) for layer in chain.layers]
        self.sums = max(up(layer.outputs, ROWS) for layer in chain.layers)

    @property
    def arguments(self) -> str:
        """Of the function that gives floats."""
        return f"const {self.input_type} *{self.input}, float *{self.answer}"

    @property
    def title(self) -> str:
        """The chain in a few words."""
        sizes = [self.chain.inputs, *(layer.outputs for layer in self.chain.layers)]
        return "dense layers " + "-".join(str(size) for size in sizes)

    def buffer(self, at: int) -> str:
        """The member of the scratch that layer `at` takes."""
        return f"hidden_{at}" if at else "input"

    @cached_property
    def flash_bytes(self) -> int:
        """Constants: weights with their padding, biases and multipliers; and what each byte of the input becomes."""
        return (0 if self.chain.input_table is None else 256) + sum(
            up(layer.outputs, ROWS) * (width + 4) + 4 * len(layer.multipliers)
            for layer, width in zip(self.chain.layers, self.widths, strict=True)
        )

    @cached_property
    def ram_bytes(self) -> int:
        """The scratch: sums, and each layer's input."""
        return sum(self.widths) + 4 * self.sums


def up(count: int, to: int) -> int:
    """The next multiple."""
    return -(-count // to) * to


def number(value: np.float32) -> str:
    """A float32 in C that reads back as the same bits."""
    return f"{np.format_float_scientific(value, unique=True, trim='0')}f"


def wrapped(values: Iterable[str]) -> str:
    """Values with commas behind them, in lines of a readable length."""
    lines, line = [], "   "
    for value in values:
        if len(line) + len(value) + 2 > _LINE:
            lines.append(line)
            line = "   "
        line += f" {value},"
    return "\n".join([*lines, line])
