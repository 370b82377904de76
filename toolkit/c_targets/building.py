"""model.c compiled for a target, and linked with what runs it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from toolkit.c_targets.tools import SECONDS, complaint, run
from toolkit.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.c_targets.interface import Interface
    from toolkit.c_targets.tools import Toolchain

__all__ = ["Built", "Sizes", "build", "sizes_of"]


@dataclass(frozen=True)
class Sizes:
    """Bytes by what they become: code and constants, values with a start, values without."""

    text: int
    data: int
    bss: int


@dataclass(frozen=True)
class Built:
    """What a compiler made.

    Attributes:
        program: what can be run.
        seconds: that model.c took.
        object: sizes of it alone; None where they cannot be had.
    """

    program: Path
    seconds: float
    object: Sizes | None


def build(tools: Toolchain, code: str, header: str, interface: Interface, folder: Path) -> Built:
    """Compile model.c, and link it with a program that reads rows and writes answers.

    Args:
        tools: of a target that is native, Linux or Cortex-M.
        code: text of model.c.
        header: text of model.h.
        interface: of the header.
        folder: an empty one, for all files.

    Raises:
        ModelError: the compiler refuses it; with its first error.
    """
    image = tools.target.kind == "cortex-m"
    parts = ["image.c", "image.ld"] if image else ["program.c"]
    texts = {"model.c": code, "model.h": header, "rows.h": interface.rows_h()}
    texts |= {name: (resources.files(__package__) / "harness" / name).read_text(encoding="ascii") for name in parts}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    begun = time.perf_counter()
    done = run([tools.compiler, *tools.target.flags, "-c", "model.c", "-o", "model.o"], folder, SECONDS)
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise ModelError(f"it does not compile: {complaint(done)}")
    how = ["-nostartfiles", "-T", "image.ld"] if image else []
    command = [tools.compiler, *tools.target.flags, *how, parts[0], "model.o", "-o", "program", "-lm"]
    done = run(command, folder, SECONDS)
    if done.returncode:
        raise ModelError(f"it does not link: {complaint(done)}")
    return Built(folder / "program", seconds, sizes_of(tools, folder / "model.o"))


def sizes_of(tools: Toolchain, path: Path) -> Sizes | None:
    """The sizes of an object file or a program; None where they cannot be had."""
    if tools.size is None:
        return None
    done = run([tools.size, path.name], path.parent, 60)
    try:
        text, data, bss = map(int, done.stdout.split(b"\n")[1].split()[:3])
    except (IndexError, ValueError):
        return None
    return Sizes(text, data, bss)
