"""Rows through a whole image on an emulated Cortex-M, and what it takes of flash, memory and instructions there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.c_targets.building import sizes_of
from toolkit.c_targets.programs import START_SECONDS, Answers, answers_from, ended, stored
from toolkit.c_targets.tools import run
from toolkit.errors import ModelError
from toolkit.verification.c_targets import Footprint

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toolkit.c_targets.building import Built
    from toolkit.c_targets.interface import Interface
    from toolkit.c_targets.tools import Toolchain

__all__ = ["run_image"]

COUNTED_BY = "SysTick, one instruction a nanosecond"
ROW_SECONDS = 0.5  # measured: 1 to 4 ms
# The boards' timer ticks at 25 MHz; with -icount shift=0 qemu lets an instruction take 1 ns.
INSTRUCTIONS_A_TICK = 40


def run_image(tools: Toolchain, built: Built, interface: Interface, rows: NDArray[Any]) -> tuple[Answers, Footprint]:
    """The answers to rows, and what they took.

    Args:
        tools: of the target.
        built: its image.
        interface: of the model.
        rows: (n, inputs), of the interface's dtype.

    Raises:
        ModelError: it failed, or gave another number of answers.
    """
    folder, order = built.program.parent, tools.target.order
    (folder / "rows.bin").write_bytes(stored(rows, order))
    command = [str(tools.emulator), "-M", tools.target.board, "-display", "none", "-monitor", "none", "-serial", "none"]
    command += ["-semihosting-config", "enable=on,target=native", "-icount", "shift=0", "-kernel", built.program.name]
    done = run(command, folder, START_SECONDS + ROW_SECONDS * len(rows))
    answers = folder / "answers.bin"
    found = answers.read_bytes() if answers.exists() else b""
    if done.returncode:
        reason = " (the processor faulted)" if done.returncode == 3 else ""
        raise ModelError(ended(done, len(found) // interface.answer_bytes) + reason)
    calls, low, high, stack = np.fromfile(folder / "counts.bin", f"{order}u4").tolist()
    size = sizes_of(tools, built.program)
    return answers_from(found, len(rows), interface, order), Footprint(
        instructions=round((low + (high << 32)) * INSTRUCTIONS_A_TICK / calls),
        counted_by=COUNTED_BY,
        flash=None if size is None else size.text + size.data,
        ram=None if size is None else size.data + size.bss + stack,
        stack=stack,
    )
