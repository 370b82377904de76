"""Instructions, counted by valgrind's callgrind in a process of its own.

The numbers of a machine's instructions are the same in every run: no clock, no other process and no temperature is in
them. What would be: hash seeds, the environment, and the runtime's thread for telemetry, are fixed or off. valgrind
shows programs a CPU of its own making, with AVX2 and without AVX-512, whatever the machine has beyond that.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.errors import MissingError, ToolkitError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["FEW", "MANY", "Cost", "count", "figures", "read", "version", "why_not"]

FEW, MANY = 30, 130  # calls; the difference is free of what the loop around them and the marks take
SECONDS = 300  # ten times what it takes on a busy machine
_ALLOCATING = {"malloc", "calloc", "realloc", "memalign", "posix_memalign", "aligned_alloc"}
_COSTS = frozenset("0123456789+-*")  # what a line of cost begins with: its place, absolute or as a difference
_NAME = re.compile(r"\((\d+)\)(?: (.+))?")
_TRIGGER = "desc: Trigger: Client Request: "


@dataclass(frozen=True)
class Cost:
    """What was counted between two marks.

    Attributes:
        instructions: by the file that they are in ("libc.so.6").
        allocations: calls of malloc and the like, of all libraries.
    """

    instructions: Counter[str]
    allocations: int

    @property
    def total(self) -> int:
        """Of all files."""
        return self.instructions.total()

    @property
    def outside(self) -> int:
        """Of all files but onnxruntime's: Python, numpy, and the C library on whoever's behalf."""
        return sum(number for name, number in self.instructions.items() if "onnxruntime" not in name)

    @property
    def python(self) -> int:
        """Of the interpreter, of numpy and of other extension modules (``_sha256.cpython-311-...so``).

        The C library's are left out: how long malloc searches depends on how the heap happens to lie.
        """
        return sum(n for name, n in self.instructions.items() if "python" in name and "onnxruntime" not in name)


def version() -> str | None:
    """valgrind's, or None where there is none."""
    if not (program := shutil.which("valgrind")):
        return None
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=60)
    return said.stdout.strip().removeprefix("valgrind-") or None


def why_not() -> str | None:
    """Why instructions cannot be counted here, or None where they can."""
    if platform.machine() != "x86_64":
        return "instructions are counted on x86-64 only"
    return "valgrind is not installed (apt-get install valgrind)" if version() is None else None


def count(command: list[str], folder: Path, environment: dict[str, str], scratch: Path) -> dict[str, Cost]:
    """Run a program that marks its parts and return what each took, by its label.

    Args:
        command: the program and its arguments.
        folder: where it runs.
        environment: all of its environment.
        scratch: a folder for callgrind's own files.

    Raises:
        MissingError: there is no valgrind.
        ToolkitError: the program failed or took too long.
    """
    if reason := why_not():
        raise MissingError(reason)
    log = scratch / "valgrind.log"
    valgrind = [shutil.which("valgrind") or "valgrind", "--tool=callgrind", "--instr-atstart=no", f"--log-file={log}",
                f"--callgrind-out-file={scratch / 'callgrind.out'}"]  # fmt: skip
    try:
        done = subprocess.run(
            [*valgrind, *command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolkitError(
            f"callgrind did not end within {SECONDS} s; run it on a machine that is less busy"
        ) from error
    if done.returncode:
        said = (log.read_text(errors="replace") if log.exists() else "") + done.stderr
        reason = (said.strip().splitlines() or ["it said nothing"])[-1]
        raise ToolkitError(f"under callgrind the program ended with {done.returncode}: {reason}; run it without")
    files = scratch.glob("callgrind.out.*")
    parts = dict(read(path.read_text(encoding="utf-8", errors="replace").splitlines()) for path in files)
    if not parts.keys() - {""}:
        raise ToolkitError("callgrind wrote nothing at the program's marks; see that valgrind works here")
    return parts


def read(lines: Iterable[str]) -> tuple[str, Cost]:
    """One of callgrind's files: the label of the mark that it was written at, and the cost.

    Its format is that of valgrind's manual, "Callgrind Format Specification": names are given once, with a number that
    stands for them from then on; the line after "calls=" is what those calls took, which stands with the function that
    was called as well.
    """
    label, file, called = "", "", ""
    known: dict[str, dict[str, str]] = {"ob": {}, "fn": {}}
    instructions: Counter[str] = Counter()
    allocations, inclusive = 0, False
    for line in lines:
        key, _, value = line.partition("=")
        if line[:1] in _COSTS:
            if not inclusive:
                instructions[file] += int(line.split()[1])
            inclusive = False
        elif key == "calls":
            inclusive = True
            allocations += int(value.split()[0]) if called in _ALLOCATING else 0
        elif key in {"ob", "cob", "fn", "cfn"}:
            name = _name(known[key[-2:]], value)
            file = name.rpartition("/")[2] if key == "ob" else file
            called = name.partition("@")[0] if key == "cfn" else called
        elif line.startswith(_TRIGGER):
            label = line.removeprefix(_TRIGGER)
    return label, Cost(instructions, allocations)


def _name(known: dict[str, str], text: str) -> str:
    """A name that is written out the first time and is a number afterwards."""
    if not (match := _NAME.fullmatch(text)):
        return text
    number, name = match.groups()
    if name:
        known[number] = name
    return known.get(number, "")


def figures(costs: dict[str, Cost]) -> dict[str, int]:
    """What is held against bounds, of the parts that `benchmarks.guard.child` marks."""
    found = {}
    calls = MANY - FEW
    for way in ("classify", "predict"):
        few, many = costs[f"{way} {FEW}"], costs[f"{way} {MANY}"]
        found[f"{way}, all"] = round((many.total - few.total) / calls)
        found[f"{way}, outside onnxruntime"] = round((many.outside - few.outside) / calls)
        found[f"{way}, Python and numpy"] = round((many.python - few.python) / calls)
        found[f"{way}, allocations in C"] = round((many.allocations - few.allocations) / calls)
    found["import"] = costs["import"].total
    found["open"] = costs["open"].total
    return found
