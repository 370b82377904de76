"""How many instructions one inference takes, where that can be counted: no clock, the same number every time."""

from __future__ import annotations

import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from toolkit.c_targets.programs import stored
from toolkit.c_targets.tools import run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toolkit.c_targets.building import Built
    from toolkit.c_targets.interface import Interface
    from toolkit.c_targets.tools import Toolchain

__all__ = ["count"]

SECONDS = 300.0  # beyond that it is not worth waiting for; measured: 1 s a million under qemu on a quiet machine


def count(tools: Toolchain, built: Built, interface: Interface, rows: NDArray[Any]) -> tuple[int, str] | None:
    """Instructions of one inference, and what counted them; None where they cannot be counted.

    Natively by valgrind's callgrind, within the model's function: it plays a CPU with AVX2 and without AVX-512, so code
    for that cannot be counted. Under qemu-user by a log with one line an instruction: the difference between two rows
    and one.

    Args:
        tools: of a target that is native or Linux.
        built: its program.
        interface: of the model.
        rows: (n, inputs), of the interface's dtype; the first is run.
    """
    given = stored(rows[:1], tools.target.order)
    if tools.emulator is None:
        return _by_callgrind(built, interface, given)
    # 8.1 has both names, 9 only the second.
    major = int(re.findall(r"\d+", tools.runs_on.rpartition(" ")[2])[0])
    single = "-singlestep" if major < 9 else "-one-insn-per-tb"
    command = [tools.emulator, single, "-d", "exec,nochain", str(built.program)]
    with ThreadPoolExecutor(1) as pool:
        one, two = (_lines(pool, command, given * times) for times in (1, 2))
    if not one or not two:
        return None
    return two - one, f"qemu {single}"


def _by_callgrind(built: Built, interface: Interface, given: bytes) -> tuple[int, str] | None:
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        return None
    options = ["--tool=callgrind", "--callgrind-out-file=callgrind.out", f"--toggle-collect={interface.function}"]
    done = run([valgrind, *options, str(built.program)], built.program.parent, SECONDS, given)
    found = re.search(rb"Collected : (\d+)", done.stderr)
    return (int(found[1]), "callgrind") if done.returncode == 0 and found and int(found[1]) else None


def _lines(pool: ThreadPoolExecutor, command: list[str], given: bytes) -> int | None:
    """Lines of qemu's log; None if it did not end well in time."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        if process.stdin is None or process.stderr is None:
            return None
        counted = pool.submit(lambda lines: sum(line.startswith(b"Trace") for line in lines), process.stderr)
        process.stdin.write(given)
        process.stdin.close()
        found = counted.result(SECONDS)
        return found if process.wait(SECONDS) == 0 else None
    except (TimeoutError, subprocess.TimeoutExpired, BrokenPipeError):
        return None
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
