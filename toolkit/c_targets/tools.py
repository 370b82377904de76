"""Compilers, emulators and small tools: found on this system, tried, or named with the package that brings them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.emulation import store
from toolkit.errors import MissingError, ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.c_targets.table import Target

__all__ = ["Toolchain", "complaint", "find", "run"]

SECONDS = 600.0  # for one file; measured: 0.1 s with gcc, and 40 s for the largest model that fits into a header
_ERRORS = ("error", "cannot find", "undefined reference", "will not fit", "overflowed", "no such file")
_PROBE = """\
#include <math.h>
#include <string.h>
int main(int count, char **arguments)
{
    memset(&count, arguments == 0, sizeof count);
    return (int)rintf((float)count);
}
"""


@dataclass(frozen=True)
class Toolchain:
    """What a target takes, found on this system.

    Attributes:
        target: it.
        compiler: path of the program.
        version: its name and version: "gcc 12.2.0".
        size: path of the program that sizes up object files; None where there is none.
        emulator: path of what runs the code; None: this machine does.
        runs_on: the emulator's name and version, or "this machine".
    """

    target: Target
    compiler: str
    version: str
    size: str | None
    emulator: str | None
    runs_on: str


def find(target: Target) -> Toolchain:
    """Everything that a target takes.

    Raises:
        MissingError: a program or the target's C library is not there.
    """
    compiler = shutil.which(target.compiler)
    if compiler is None:
        raise MissingError(_missing(target, target.compiler, target.packages[:1]))
    if target.kind == "wasm" and shutil.which("wasm-ld") is None:
        raise MissingError(_missing(target, "wasm-ld", target.packages[1:]))
    emulator = next(filter(None, map(_emulator, target.emulator)), None)
    if target.emulator and emulator is None:
        raise MissingError(_missing(target, target.emulator[0], (target.emulator_package,)))
    if target.kind != "wasm":
        _try(target, compiler)
    name = "gcc" if target.compiler.endswith("gcc") else target.compiler
    return Toolchain(
        target,
        compiler,
        _version(compiler, name),
        shutil.which(target.size) if target.size else None,
        emulator,
        "this machine" if emulator is None else _version(emulator, Path(emulator).name.removesuffix("-static")),
    )


def _missing(target: Target, program: str, packages: Sequence[str]) -> str:
    return f"--c {target.name} needs {program}, which is not on this system; install the package {' '.join(packages)}"


def _emulator(name: str) -> str | None:
    """From PATH, or among those that `toolkit verify --cpu` fetched."""
    fetched = store.folder() / "qemu"
    path = str(fetched / "usr" / "bin") if store.written_stamp(fetched) else None
    return shutil.which(name) or (shutil.which(name, path=path) if path else None)


def _version(program: str, name: str) -> str:
    done = run([program, "--version"], None, 60)
    found = re.findall(r"\d+\.\d+(?:\.\d+)*", (done.stdout.decode(errors="replace").splitlines() or [""])[0])
    return f"{name} {found[-1] if name == 'gcc' else found[0]}" if found else name


def _try(target: Target, compiler: str) -> None:
    """A compiler may be there without its C library, or not know an option: then no model is to blame.

    Raises:
        MissingError: it cannot make any program.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "probe.c").write_text(_PROBE, encoding="ascii")
        start = ["-nostartfiles", "-Wl,--entry=main"] if target.kind == "cortex-m" else []
        done = run([compiler, *target.flags, *start, "probe.c", "-o", "probe", "-lm"], folder, SECONDS)
    if done.returncode:
        raise MissingError(
            f"--c {target.name}: {target.compiler} cannot make a program here ({complaint(done)}); install the "
            f"packages {' '.join(target.packages)}"
        )


def run(
    command: Sequence[str], folder: Path | None, seconds: float, given: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end, its messages in English; one that takes too long is killed, with exit code -9.

    Raises:
        ModelError: the system cannot run it.
    """
    try:
        return subprocess.run(
            list(command),
            cwd=folder,
            input=given,
            capture_output=True,
            env={**os.environ, "LC_ALL": "C"},
            timeout=seconds,
            check=False,
        )
    except OSError as error:
        raise ModelError(
            f"{command[0]} cannot be run here ({error.strerror or error}); install it again, or choose other targets"
        ) from error
    except subprocess.TimeoutExpired as error:
        text = f"not done within {seconds:.0f} seconds"
        return subprocess.CompletedProcess(command, -9, error.stdout or b"", text.encode())


def complaint(done: subprocess.CompletedProcess[bytes]) -> str:
    """A compiler's or linker's first error, in one line."""
    lines = [line.strip() for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if any(word in line.lower() for word in _ERRORS)] or lines[-1:]
    return errors[0][:200] if errors else f"exit code {done.returncode}"
