"""How many instructions one inference takes, where that can be counted: no clock, the same number every time."""

from __future__ import annotations

import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import IO, TYPE_CHECKING, Any

from toolkit.c_targets.programs import stored
from toolkit.c_targets.tools import run
from toolkit.verification.c_targets import Footprint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from toolkit.c_targets.building import Built
    from toolkit.c_targets.interface import Interface
    from toolkit.c_targets.tools import Toolchain

__all__ = ["count"]

SECONDS = 1200.0  # measured: 6 s a million lines on a busy machine, of which there are some four million
PIECE = 1 << 20


def count(tools: Toolchain, built: Built, interface: Interface, rows: NDArray[Any]) -> Footprint:
    """Instructions of one inference, and what counted them; or why they were not counted.

    Natively by valgrind's callgrind, within the model's function: it plays a CPU with AVX2 and without AVX-512, so code
    for that cannot be counted. Where it does not find the function by its name (tcc), and under qemu-user by a log with
    one line an instruction, it is the difference between two rows and one.

    Args:
        tools: of a target that is native or Linux.
        built: its program.
        interface: of the model.
        rows: (n, inputs), of the interface's dtype; the first is run.
    """
    given = stored(rows[:1], tools.target.order)
    if tools.emulator is None:
        return _by_callgrind(built, interface, given)
    version = re.search(r" (\d+)[.\d]*$", tools.runs_on)
    if version is None:
        return Footprint(not_counted=f"{tools.runs_on} does not say its version")
    major = int(version[1])  # 8.1 has both names, 9 only the second
    single = "-singlestep" if major < 9 else "-one-insn-per-tb"
    command = [tools.emulator, single, "-d", "exec,nochain", str(built.program)]
    with ThreadPoolExecutor(1) as pool:
        one, two = (_lines(pool, command, given * times) for times in (1, 2))
    if not one or not two:
        return Footprint(not_counted=f"{tools.runs_on} did not end well within {SECONDS:g} s")
    return Footprint(two - one, f"qemu {single}")


def _by_callgrind(built: Built, interface: Interface, given: bytes) -> Footprint:
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        return Footprint(not_counted="valgrind is not installed")
    command = [valgrind, "--tool=callgrind", "--callgrind-out-file=callgrind.out"]
    within = _collected([*command, f"--toggle-collect={interface.function}"], built, given)
    if within is None:
        return Footprint(not_counted="valgrind, which knows no AVX-512, does not run it to its end")
    if not within:
        one, two = (_collected(command, built, given * times) for times in (1, 2))
        if not one or not two:
            return Footprint(not_counted="valgrind counts none")
        within = two - one
    return Footprint(within, "callgrind")


def _collected(command: Sequence[str], built: Built, given: bytes) -> int | None:
    """What callgrind collects; None where the program does not run to its end."""
    done = run([*command, str(built.program)], built.program.parent, SECONDS, given)
    found = re.search(rb"Collected : (\d+)", done.stderr)
    return int(found[1]) if done.returncode == 0 and found else None


def _lines(pool: ThreadPoolExecutor, command: list[str], given: bytes) -> int | None:
    """Lines of qemu's log that stand for an instruction; None if it did not end well in time."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        if process.stdin is None or process.stderr is None:
            return None
        counted = pool.submit(_traces, process.stderr)
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


def _traces(log: IO[bytes]) -> int:
    """Lines that begin with "Trace"; in large pieces, since a loop over lines takes longer than qemu itself."""
    found, end = 0, b"\n"
    while piece := log.read(PIECE):
        text = end + piece
        found += text.count(b"\nTrace ")
        end = text[-6:]  # shorter than what is looked for, so that nothing is counted twice
    return found
