"""C beside an int8 file, and the library made of it: kept only if they give the very bits of that file."""

from __future__ import annotations

import ctypes
import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.artifact import C_FILES
from toolkit.c_code.chain import run
from toolkit.c_code.example import main_c, makefile
from toolkit.c_code.library import build_library
from toolkit.c_code.reading import read_chain
from toolkit.c_code.source import write_source
from toolkit.errors import ModelError
from toolkit.manifest_records import NativeRecord
from toolkit.native import LIBRARY, NativeSession, misfit, native_logits

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from toolkit.c_code.chain import Chain
    from toolkit.datasets import Rows
    from toolkit.progress import Note

__all__ = ["build_native", "write_c_files"]

_CLOSE = 1e-5  # float32 sums of as many as thousands of powers, none above 1


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
    from toolkit.conversion.logits import logits_of

    note("Writing C")
    data = (folder / int8).read_bytes()
    chain = read_chain(data)
    (given,) = rows.inputs.values()
    _compare(run(chain, given), logits_of(data, int8, rows.inputs), "the integers of the C code", int8)
    source = write_source(chain, name)
    note(
        f"    {source.name}_{source.answer}: {source.flash_bytes:,} bytes of constants, {source.ram_bytes:,} of memory "
        f"a call; its integers give the bits of {int8} on all {rows.count:,} rows"
    )
    texts = (source.code, source.header, main_c(chain, source), makefile(source))
    for file, text in zip(C_FILES, texts, strict=True):
        (folder / file).write_text(text, encoding="ascii")


def build_native(folder: Path, int8: str, name: str, rows: Rows, cc: str | None, note: Note) -> NativeRecord:
    """Compile the C files beside an int8 file into the predictor's library.

    Args:
        folder: that holds both.
        int8: name of the int8 file.
        name: of the artifact.
        rows: on all of which the library is run, if it is for this machine, and compared with the file: the values
            before a softmax or sigmoid bit by bit, labels, and probabilities to `_CLOSE`.
        cc: see `toolkit.c_code.library.build_library`.
        note: told what is done.

    Raises:
        MissingError, UsageError: the compiler is missing or fails.
        ModelError: the library's answers differ.
    """
    from toolkit.conversion.logits import logits_of

    data = (folder / int8).read_bytes()
    chain = read_chain(data)
    (given,) = rows.inputs.values()
    built = build_library(chain, name, folder, folder / LIBRARY, given, cc)
    command, about = built.compiler.text, built.compiler.about
    note(f"Compiled {LIBRARY}: {command}, {about}, {built.path.stat().st_size:,} bytes")
    record = NativeRecord(about, command, built.compiler.machine, built.compiler.cpu_features, 0)
    if reason := misfit(dataclasses.asdict(record)):
        note(f"    it is not run here: {reason}")
        return record
    what, logits = f"{LIBRARY} ({command})", logits_of(data, int8, rows.inputs)
    _compare(native_logits(str(built.path), given, chain.outputs), logits, what, int8)
    _compare_answers(chain, built.path, given, logits, what)
    note(f"    it gives the bits of {int8}, and its labels, on all {rows.count:,} rows")
    return dataclasses.replace(record, rows=rows.count)


def _compare_answers(chain: Chain, library: Path, given: NDArray[Any], logits: NDArray[np.float32], what: str) -> None:
    """Refuse other labels or probabilities than follow from the values before a softmax or sigmoid."""
    session = NativeSession(ctypes.CDLL(str(library)), {"inputs": [], "outputs": [], "class_names": None})
    row, answer = np.empty(given.shape[1:], given.dtype), np.empty(chain.outputs, np.float32)
    call, buffers, label, _kept = session.direct(row, answer)
    answers, labels = np.empty_like(logits), np.empty(len(given), np.int64)
    for at, each in enumerate(given):
        row[...] = each
        call(buffers, None)
        answers[at], labels[at] = answer, label
    expected = logits.astype(np.float64)
    if chain.end == "Softmax":
        powers = np.exp(expected - expected.max(axis=1, keepdims=True))
        expected = powers / powers.sum(axis=1, keepdims=True)
    elif chain.end == "Sigmoid":
        with np.errstate(over="ignore"):  # of a probability of 0
            expected = 1 / (1 + np.exp(-expected))
    wrong = ~(np.isclose(answers, expected, rtol=0, atol=_CLOSE) | (answers == expected)).all(axis=1)
    if chain.task == "classification" and chain.outputs > 1:
        wrong |= labels != logits.argmax(axis=1)
    elif chain.task == "binary" and chain.outputs == 1:
        wrong |= labels != (logits[:, 0] >= (0 if chain.end else 0.5))
    if differing := int(wrong.sum()):
        raise ModelError(
            f"{what} gives {differing:,} of {len(given):,} rows another label or probability than follows from its "
            "logits; this is a bug, please report this model (export without --native meanwhile)"
        )


def _compare(own: NDArray[np.float32], runtime: NDArray[np.float32], what: str, int8: str) -> None:
    """Refuse answers with other bits than the runtime's."""
    if differing := int((own.view(np.uint32) != runtime.view(np.uint32)).any(axis=1).sum()):
        largest = float(np.abs(own.astype(np.float64) - runtime).max())
        raise ModelError(
            f"{what} differs from {int8} on {differing:,} of {len(own):,} rows, by up to {largest:.3g}; this is a bug, "
            "please report this model (export without --c and --native meanwhile)"
        )
