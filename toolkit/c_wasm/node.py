"""A WebAssembly model over many rows, in Node."""

from __future__ import annotations

import math
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from toolkit.errors import InputError, MissingError, ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Answered", "answered", "run_in_node"]

_SCRIPT = Path(__file__).parent / "source" / "run.js"


class Answered(NamedTuple):
    """What a module gave.

    Attributes:
        values: float32 (n, outputs), with the bits that it gave.
        labels: int32 (n,); None of a module that says none.
    """

    values: NDArray[np.float32]
    labels: NDArray[np.int32] | None


def run_in_node(wasm: bytes, rows: NDArray[Any], outputs: int) -> Answered:
    """What a module of `toolkit.c_wasm.build` answers in Node.

    Args:
        wasm: the module.
        rows: (n, ...), of the dtype that the model takes.
        outputs: values in one answer.

    Raises:
        MissingError: node is not installed.
        InputError: the module takes rows of another size, or gives another number of values.
        ModelError: it cannot be run.
    """
    node = shutil.which("node")
    if node is None:
        raise MissingError("WebAssembly is run with node, which is not installed; run: apt-get install nodejs")
    with tempfile.TemporaryDirectory() as folder:
        module = Path(folder) / "model.wasm"
        module.write_bytes(wasm)
        size = rows.itemsize * math.prod(rows.shape[1:])
        command = [node, str(_SCRIPT), str(module), str(size), str(outputs)]
        done = subprocess.run(command, input=rows.tobytes(), capture_output=True, check=False)
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode == 2:
        raise InputError(said)
    if done.returncode:
        lines = [line for line in said.splitlines() if "Error" in line] or said.splitlines() or ["nothing"]
        raise ModelError(f"node cannot run the WebAssembly module: it says {lines[0][:200]!r}; build it again")
    return answered(done.stdout, len(rows), outputs)


def answered(data: bytes, count: int, outputs: int) -> Answered:
    """The bytes that ``answersOf`` gives for some rows, as arrays.

    Raises:
        ValueError: they are no answers to so many rows.
    """
    words = np.frombuffer(data, "<u4")
    words = words.reshape(count, -1 if count else outputs)
    if words.shape[1] not in (outputs, outputs + 1):
        raise ValueError(f"{words.shape[1]} words an answer")
    values = np.ascontiguousarray(words[:, :outputs]).view(np.float32)
    return Answered(values, np.ascontiguousarray(words[:, -1]).view(np.int32) if words.shape[1] > outputs else None)
