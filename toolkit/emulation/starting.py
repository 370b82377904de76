"""How Python is started on a machine: through the emulator, on the board that it shows, with nothing else of ours."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.emulation.board import make_board
from toolkit.errors import CpuError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.emulation.run import Machine

__all__ = ["environment", "python_command", "run_python"]


def python_command(machine: Machine, board: Path, arguments: Sequence[str]) -> list[str]:
    """The command that starts a machine's Python with some arguments.

    Args:
        machine: from `toolkit.emulation.run.prepared`, which must still hold it.
        board: what `make_board` filled; nothing looks at it where the machine is this one.
        arguments: of Python.
    """
    command = [str(machine.python), *arguments]
    if machine.cpu is None:
        return command
    return [machine.program, "-L", str(board), "-cpu", machine.cpu.model, *command]


def environment(machine: Machine) -> dict[str, str]:
    """The variables that a program there gets, and no others of this process."""
    variables = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "ORT_DISABLE_TELEMETRY": "1"}
    if machine.system is None and "LD_LIBRARY_PATH" in os.environ:  # this interpreter may need it
        variables["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    return variables


def run_python(
    machine: Machine, arguments: Sequence[str], imports: Sequence[Path] = (), timeout: float = 300.0
) -> subprocess.CompletedProcess[str]:
    """Run Python on a machine to its end, in an empty folder.

    Args:
        machine: from `toolkit.emulation.run.prepared`, which must still hold it; or this one.
        arguments: of Python, such as ["-m", "package"].
        imports: folders to import from, before those of numpy and onnxruntime there.
        timeout: seconds.

    Returns:
        Its exit code (negative: the signal that ended it) and what it wrote.

    Raises:
        CpuError: it took longer.
    """
    with tempfile.TemporaryDirectory(prefix="toolkit-emulation-") as scratch:
        board, empty = Path(scratch, "board"), Path(scratch, "empty")
        board.mkdir()
        empty.mkdir()
        if machine.cpu is not None:
            make_board(machine.cpu, board, machine.system)
        path = os.pathsep.join(map(str, (*imports, *machine.imports)))
        # No user's and no interpreter's own packages: the folders above are all there is, besides the standard library.
        command = python_command(machine, board, ["-s", "-S", "-B", *arguments])
        try:
            return subprocess.run(
                command,
                env={**environment(machine), "PYTHONPATH": path},
                cwd=empty,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise CpuError(
                f"{machine.name}: Python did not end within {timeout:.0f} s; run again when the machine is less busy"
            ) from error
