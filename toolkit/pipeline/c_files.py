"""The C files of an artifact: written from its int8 file, and only if their arithmetic gives that file's very bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.artifact import C_FILES
from toolkit.c_code.chain import run
from toolkit.c_code.example import main_c, makefile
from toolkit.c_code.reading import read_chain
from toolkit.c_code.source import write_source
from toolkit.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from toolkit.c_code.chain import Chain
    from toolkit.datasets import Rows
    from toolkit.progress import Note

__all__ = ["write_c_files"]


def write_c_files(folder: Path, int8: str, name: str, rows: Rows, note: Note) -> None:
    """Write the C files (`toolkit.artifact.C_FILES`) beside an int8 file.

    Args:
        folder: that holds the int8 file.
        int8: its name.
        name: of the artifact; the C names follow from it.
        rows: on all of which the integers are run, and compared with the file bit by bit.
        note: told what is done.

    Raises:
        ModelError: the file is no chain of dense layers, or its answers differ from the integers'.
    """
    note("Writing C")
    data = (folder / int8).read_bytes()
    chain = read_chain(data)
    _check(chain, data, int8, rows)
    source = write_source(chain, name)
    note(
        f"    {source.name}_{source.answer}: {source.flash_bytes:,} bytes of constants, {source.ram_bytes:,} of memory "
        f"a call; its integers give the bits of {int8} on all {rows.count:,} rows"
    )
    texts = (source.code, source.header, main_c(chain, source), makefile(source))
    for file, text in zip(C_FILES, texts, strict=True):
        (folder / file).write_text(text, encoding="ascii")


def _check(chain: Chain, data: bytes, int8: str, rows: Rows) -> None:
    (given,) = rows.inputs.values()
    runtime = _answers(data, int8, rows.inputs)
    own = run(chain, given)
    if differing := int((own.view(np.uint32) != runtime.view(np.uint32)).any(axis=1).sum()):
        largest = float(np.abs(own.astype(np.float64) - runtime).max())
        raise ModelError(
            f"the integers of the C code differ from {int8} on {differing:,} of {rows.count:,} rows, by up to "
            f"{largest:.3g}; this is a bug, please report this model (export without --c meanwhile)"
        )


def _answers(data: bytes, int8: str, inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """What the runtime gives before a softmax or sigmoid at the end, (n, outputs)."""
    import onnxruntime

    from toolkit.conversion.logits import with_logits

    copy = with_logits(data, int8)
    session = onnxruntime.InferenceSession(copy.data, providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run([copy.output], dict(inputs))[0]
    return found.reshape(len(found), -1)
