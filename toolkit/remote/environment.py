"""A Python with numpy and onnxruntime on a board: the one that was named, or an environment made in our folder."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple

from toolkit.errors import BoardError, MissingError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from toolkit.remote.connection import Connection, Facts, Finished

__all__ = ["INSTALLED_BYTES", "Interpreter", "prepare", "read_wheels"]

INSTALLED_BYTES = 400_000_000
"""Room for an environment: 170 MB on x86-64 with onnxruntime 1.31, and the wheels beside it while they are unpacked."""

_MAKE_LIMIT, _INSTALL_LIMIT, _LOOK_LIMIT = 600, 3600, 300  # seconds: an SD card and a slow link
_PIP_OF_OTHERS = (22, 3)  # the first pip that installs into another environment (--python)


class Interpreter(NamedTuple):
    """What runs the self-test and the benchmark.

    Attributes:
        path: on the board.
        own: it was made in our folder; the environment's PYTHONPATH is none of its business.
    """

    path: str
    own: bool


def read_wheels(folder: Path, requirements: str) -> dict[str, bytes]:
    """Those wheels of a folder that the requirements name by their hashes.

    Raises:
        UsageError: it is no folder.
        MissingError: it has none of them.
    """
    if not folder.is_dir():
        raise UsageError(f"--wheels {folder} is no folder; give one with the wheels of the bundle's requirements.txt")
    wanted = set(re.findall(r"--hash=sha256:([0-9a-f]{64})", requirements))
    found = {path.name: path.read_bytes() for path in sorted(folder.glob("*.whl")) if path.is_file()}
    chosen = {name: data for name, data in found.items() if hashlib.sha256(data).hexdigest() in wanted}
    if not chosen:
        raise MissingError(
            f"--wheels {folder} has none of the {len(wanted)} wheels that the bundle's requirements.txt names; fetch "
            "them with: pip download --require-hashes -r requirements.txt"
        )
    return chosen


def prepare(
    connection: Connection,
    *,
    named: bool,
    wheels: Mapping[str, bytes] | None,
    bundle: str,
    tell: Callable[[str], None],
) -> Interpreter:
    """Find or make it.

    Args:
        connection: begun, with the bundle in place.
        named: the user named this Python, so it is taken as it is if it imports numpy and onnxruntime.
        wheels: bytes by file name, to be installed in place of downloads.
        bundle: where it is, below the folder.
        tell: told of what is done.

    Raises:
        BoardError: no environment can be made.
    """
    facts = connection.facts
    assert facts is not None  # it is begun
    base = facts.executable
    if named:
        tell("looking for numpy and onnxruntime")
        if connection.run([base, "-c", "import numpy, onnxruntime"], limit=_LOOK_LIMIT).code == 0:
            return Interpreter(base, own=False)
    pip = _make(connection, facts, tell)
    words = ["install", "--quiet", "--no-input", "--no-cache-dir", "--disable-pip-version-check", "--require-hashes"]
    if wheels is not None:
        chosen = _fitting(wheels, facts)
        for name, data in chosen.items():
            tell(f"sending {name}")
            connection.put(f"wheels/{name}", data)
        words += ["--no-index", "--find-links", f"{connection.folder}/wheels"]
    tell("installing numpy and onnxruntime")
    done = connection.run(
        [*pip, *words, "-r", f"{connection.folder}/{bundle}/requirements.txt"],
        limit=_INSTALL_LIMIT,
        without=("PYTHONPATH",),
    )
    if done.code:
        said = _pip_says(done)
        what_to_do = _OTHERWISE
        if "No space left" in said or "quota" in said:
            what_to_do = f"make room for {INSTALLED_BYTES / 1e6:.0f} MB beside {connection.folder}, or set TMPDIR there"
        raise BoardError(f"pip does not install the bundle's requirements.txt: {said}; {what_to_do}")
    return Interpreter(f"{connection.folder}/venv/bin/python", own=True)


_OTHERWISE = (
    "see to it that the board reaches a package index, or give --wheels FOLDER, or --python with both installed"
)


def _make(connection: Connection, facts: Facts, tell: Callable[[str], None]) -> list[str]:
    """An empty environment in our folder; the words that run a pip which installs into it."""
    tell("making an environment")
    place = f"{connection.folder}/venv"
    base, python = facts.executable, f"{place}/bin/python"
    # A pip of 22.3 or newer installs into an environment that has none, which saves making one: half a minute on a
    # small board. Else the module venv gives it one, for which Debian has a package of its own.
    ways = []
    if facts.pip and _version_of_pip(connection, base) >= _PIP_OF_OTHERS:
        ways.append((["--without-pip"], [base, "-m", "pip", "--python", python]))
    if facts.venv:
        ways.append(([], [python, "-m", "pip"]))
    for more, pip in ways:
        command = [base, "-m", "venv", "--clear", *more, place]
        if connection.run(command, limit=_MAKE_LIMIT, without=("PYTHONPATH",)).code == 0:
            return pip
    raise BoardError(
        f"{base} can make no environment: there is no pip for it; install one there (Debian: apt-get install "
        "python3-venv), or name a Python with numpy and onnxruntime: --python PATH"
    )


def _version_of_pip(connection: Connection, base: str) -> tuple[int, int]:
    done = connection.run([base, "-m", "pip", "--version"], limit=_LOOK_LIMIT)
    version = re.match(rb"pip (\d+)\.(\d+)", done.out)
    return (int(version[1]), int(version[2])) if version else (0, 0)


def _fitting(wheels: Mapping[str, bytes], facts: Facts) -> dict[str, bytes]:
    """Those for this Python and machine, as far as the names tell (PEP 427: NAME-VERSION-PYTHON-ABI-PLATFORM.whl)."""
    major, minor = facts.version
    pythons = {f"cp{major}{minor}", f"py{major}", f"py{major}{minor}", "abi3"}
    chosen = {}
    for name, data in wheels.items():
        python, abi, platform = name.removesuffix(".whl").split("-")[-3:]
        if pythons & {*python.split("."), *abi.split(".")} and (platform == "any" or platform.endswith(facts.machine)):
            chosen[name] = data
    return chosen


def _pip_says(done: Finished) -> str:
    if done.late:
        return f"it did not end in {done.seconds:.0f} s"
    errors = [line for line in done.errors if line.startswith("ERROR:")]
    return (errors[-1] if errors else done.last).removeprefix("ERROR:").strip()[:300]
