"""What a model.h offers, and the header by which the programs around it learn of that."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from toolkit.errors import ModelError

__all__ = ["Interface", "read_interface"]

_FUNCTION = re.compile(
    r"^void (?P<prefix>\w+)_(?P<answer>logits|values)\(const (?P<type>uint8_t|int8_t|float) \*\w+, float \*\w+\);",
    re.MULTILINE,
)
_DTYPES: dict[str, np.dtype[Any]] = {"uint8_t": np.dtype("u1"), "int8_t": np.dtype("i1"), "float": np.dtype("f4")}


@dataclass(frozen=True)
class Interface:
    """The function that takes a row and gives its answer.

    Attributes:
        function: its name.
        value: C type of an input value.
        inputs, outputs: how many values a row and an answer have.
        source_sha256: of the int8 ONNX file that the code was made from.
    """

    function: str
    value: str
    inputs: int
    outputs: int
    source_sha256: str

    @property
    def dtype(self) -> np.dtype[Any]:
        """The C type as numpy's."""
        return _DTYPES[self.value]

    def rows_h(self) -> str:
        """The text of rows.h."""
        return (
            f'#include "model.h"\n\n#define ANSWER {self.function}\n#define VALUE {self.value}\n'
            f"#define INPUTS {self.inputs}\n#define OUTPUTS {self.outputs}\n"
        )


def read_interface(header: str) -> Interface:
    """What a model.h offers.

    Args:
        header: its text.

    Raises:
        ModelError: it is none that this version writes.
    """
    found = _FUNCTION.search(header)
    if found is not None:
        upper = found["prefix"].upper()
        sizes = [re.search(rf"^#define {upper}_{what} (\d+)", header, re.MULTILINE) for what in ("INPUTS", "OUTPUTS")]
        source = re.search(rf'^#define {upper}_SOURCE_SHA256 "(\w+)"', header, re.MULTILINE)
        if all(sizes) and source is not None:
            inputs, outputs = (int(size[1]) for size in sizes if size)
            return Interface(f"{found['prefix']}_{found['answer']}", found["type"], inputs, outputs, source[1])
    raise ModelError("model.h is none that this version writes; export it again with --c")
