"""A chain as C99: the four files, and what they need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.c_code.code import code_text
from toolkit.c_code.header import header_text
from toolkit.c_code.layout import Layout

if TYPE_CHECKING:
    from toolkit.c_code.chain import Chain

__all__ = ["CSource", "write_source"]


@dataclass(frozen=True)
class CSource:
    """model.h and model.c.

    Attributes:
        name: what every C name begins with.
        header: text of model.h.
        code: text of model.c.
        answer: what its floats are called, "logits" or "values": NAME_logits.
        decides: whether there is a NAME_classify.
        input_type: of one value, in C.
        flash_bytes: constants: weights with their padding, biases, multipliers, and a table of the input.
        ram_bytes: what a call needs beside its arguments.
    """

    name: str
    header: str
    code: str
    answer: str
    decides: bool
    input_type: str
    flash_bytes: int
    ram_bytes: int


def write_source(chain: Chain, artifact: str) -> CSource:
    """A chain as C.

    Args:
        chain: what to compute.
        artifact: its name; what C names allow of it begins every name.
    """
    layout = Layout(chain, artifact)
    return CSource(
        layout.name,
        header_text(layout),
        code_text(layout),
        layout.answer,
        layout.decides,
        layout.input_type,
        layout.flash_bytes,
        layout.ram_bytes,
    )
