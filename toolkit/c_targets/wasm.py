"""Rows through the C code as WebAssembly, in Node."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from toolkit.c_targets.building import Built, Sizes
from toolkit.c_targets.programs import Answers
from toolkit.c_wasm.build import build_wasm
from toolkit.c_wasm.node import run_in_node
from toolkit.errors import InputError, ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from toolkit.c_targets.interface import Interface

__all__ = ["build_module", "run_module"]


def build_module(code: str, header: str, interface: Interface, folder: Path, *, simd: bool) -> Built:
    """Compile and link a module; its bytes count as code.

    Args:
        code: text of model.c.
        header: text of model.h.
        interface: of the header.
        folder: an empty one, for all files.
        simd: with vectors.

    Raises:
        ModelError: the compiler refuses it.
    """
    begun = time.perf_counter()
    name = interface.function.rpartition("_")[0]
    module = build_wasm(code, header, name, folder, simd=simd, classify=interface.classify)
    seconds = time.perf_counter() - begun
    path = folder / "model.wasm"
    path.write_bytes(module)
    return Built(path, seconds, Sizes(len(module), 0, 0))


def run_module(built: Built, interface: Interface, rows: NDArray[Any]) -> Answers:
    """The answers to rows (n, inputs) of the interface's dtype.

    Raises:
        ModelError: Node cannot run it.
    """
    try:
        return Answers(*run_in_node(built.program.read_bytes(), rows, interface.outputs))
    except InputError as error:
        raise ModelError(str(error)) from error
