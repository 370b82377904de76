"""Rows through the C code as WebAssembly, in Node or Chromium."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from toolkit.c_targets.building import Built, Sizes
from toolkit.c_targets.programs import Answers
from toolkit.c_wasm.build import build_wasm
from toolkit.c_wasm.chromium import run_in_chromium
from toolkit.c_wasm.node import run_in_node
from toolkit.errors import InputError, ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from toolkit.c_targets.interface import Interface
    from toolkit.c_targets.tools import Toolchain

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


def run_module(tools: Toolchain, built: Built, interface: Interface, rows: NDArray[Any]) -> Answers:
    """The answers to rows (n, inputs) of the interface's dtype.

    Raises:
        ModelError: it cannot be run.
    """
    module = built.program.read_bytes()
    try:
        if "chromium" in tools.target.emulator:
            return Answers(*run_in_chromium(str(tools.emulator), module, rows, interface.outputs))
        return Answers(*run_in_node(module, rows, interface.outputs))
    except InputError as error:
        raise ModelError(str(error)) from error
