"""What a model.h offers, and the header by which the programs around it learn of that."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Interface", "read_interface"]

_FUNCTION = re.compile(
    r"^void (?P<prefix>\w+)_(?P<answer>logits|values)\(const (?P<type>uint8_t|int8_t|float) \*\w+, float \*\w+\);",
    re.MULTILINE,
)
_CLASSIFY = re.compile(r"^int (\w+_classify)\(", re.MULTILINE)
_DTYPES: dict[str, np.dtype[Any]] = {"uint8_t": np.dtype("u1"), "int8_t": np.dtype("i1"), "float": np.dtype("f4")}


@dataclass(frozen=True)
class Interface:
    """The function that takes a row and gives its answer.

    Attributes:
        function: its name.
        value: C type of an input value.
        inputs, outputs: how many values a row and an answer have.
        source_sha256: of the int8 ONNX file that the code was made from.
        classify: name of the function that gives a label; None where the model is no classifier.
    """

    function: str
    value: str
    inputs: int
    outputs: int
    source_sha256: str
    classify: str | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """The C type as numpy's."""
        return _DTYPES[self.value]

    @property
    def answer_bytes(self) -> int:
        """Of one row's floats, and of the label (int32) behind them where there is one."""
        return 4 * (self.outputs + (self.classify is not None))

    def labels_of(self, values: NDArray[np.float32]) -> NDArray[np.int32]:
        """The labels that belong to answers (n, outputs): the largest value, or whether the only one says yes."""
        threshold = 0 if self.function.endswith("_logits") else 0.5
        found: NDArray[np.int32] = np.empty(len(values), np.int32)
        found[:] = values.argmax(axis=1) if self.outputs > 1 else values[:, 0] >= threshold
        return found

    def rows_h(self) -> str:
        """The text of rows.h."""
        return (
            f'#include "model.h"\n\n#define ANSWER {self.function}\n#define VALUE {self.value}\n'
            f"#define INPUTS {self.inputs}\n#define OUTPUTS {self.outputs}\n"
            + (f"#define CLASSIFY {self.classify}\n" if self.classify else "")
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
            decides = _CLASSIFY.search(header)
            function, classify = f"{found['prefix']}_{found['answer']}", decides[1] if decides else None
            return Interface(function, found["type"], inputs, outputs, source[1], classify)
    raise ModelError("model.h is none that this version writes; export it again with --c")
