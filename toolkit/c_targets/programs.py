"""Rows through a compiled program, on this machine or under qemu's user emulation."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from toolkit.c_targets.tools import run
from toolkit.errors import ModelError

if TYPE_CHECKING:
    import subprocess

    from numpy.typing import NDArray

    from toolkit.c_targets.building import Built
    from toolkit.c_targets.interface import Interface
    from toolkit.c_targets.table import Order
    from toolkit.c_targets.tools import Toolchain

__all__ = ["Answers", "answers_from", "ended", "run_program", "stored"]

START_SECONDS, ROW_SECONDS = 60.0, 0.5  # measured: 3 ms a row at most


class Answers(NamedTuple):
    """What a target gave.

    Attributes:
        values: float32 (n, outputs).
        labels: of the model's other function, int32 (n,); None where it has none, or it was not called.
    """

    values: NDArray[np.float32]
    labels: NDArray[np.int32] | None


def run_program(tools: Toolchain, built: Built, interface: Interface, rows: NDArray[Any]) -> Answers:
    """The answers to rows, in pieces, as many at once as there are cores.

    Args:
        tools: of the target.
        built: its program.
        interface: of the model.
        rows: (n, inputs), of the interface's dtype.

    Raises:
        ModelError: the program failed, or gave another number of answers.
    """
    command = [*([tools.emulator] if tools.emulator else []), str(built.program), "labels"]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pieces = np.array_split(rows, min(cores, len(rows)))

    def piece(part: NDArray[Any]) -> Answers:
        seconds = START_SECONDS + ROW_SECONDS * len(part)
        done = run(command, built.program.parent, seconds, stored(part, tools.target.order))
        if done.returncode:
            raise ModelError(ended(done, len(done.stdout) // interface.answer_bytes))
        return answers_from(done.stdout, len(part), interface, tools.target.order)

    with ThreadPoolExecutor(len(pieces)) as pool:
        found = list(pool.map(piece, pieces))
    labels = [each.labels for each in found if each.labels is not None]
    return Answers(np.concatenate([each.values for each in found]), np.concatenate(labels) if labels else None)


def stored(rows: NDArray[Any], order: Order) -> bytes:
    """Rows as a machine of that byte order has them in memory."""
    return rows.astype(rows.dtype.newbyteorder(order)).tobytes()


def answers_from(data: bytes, count: int, interface: Interface, order: Order) -> Answers:
    """Answers that a machine of that byte order wrote, to `count` rows.

    Raises:
        ModelError: there are more or fewer of them.
    """
    if len(data) != count * interface.answer_bytes:
        raise ModelError(f"it gave {len(data):,} bytes of answers, expected {count * interface.answer_bytes:,}")
    # The bits are turned, not the values: a NaN keeps its own.
    bits = np.frombuffer(data, np.dtype(f"{order}u4")).astype("=u4").reshape(count, -1)
    values = np.ascontiguousarray(bits[:, : interface.outputs]).view(np.float32)
    return Answers(values, bits[:, -1].view(np.int32) if interface.classify else None)


def ended(done: subprocess.CompletedProcess[bytes], rows: int) -> str:
    """How a program failed, in a phrase."""
    said = done.stderr.decode(errors="replace").strip().splitlines()
    if done.returncode < 0 and not (said and said[0].startswith("not done")):
        try:
            how = f"by {signal.Signals(-done.returncode).name}"
        except ValueError:
            how = f"by signal {-done.returncode}"
    else:
        how = f"with exit code {done.returncode}"
    return f"it ended {how} after {rows:,} rows" + (f": {said[0][:200]}" if said else "")
