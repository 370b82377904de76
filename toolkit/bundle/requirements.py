"""What a bundle installs on its device: pinned wheels with their hashes, and what these ask of the system and CPU.

The pins are data (``device.lock.json``, written by `toolkit.bundle.lock`): for each Python and architecture numpy,
onnxruntime and whatever onnxruntime needs. Neither the data nor the text made of it says where the wheels come from.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from toolkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["LOCK", "PYTHON", "PYTHONS", "TARGETS", "Wheel", "cpu_features", "glibc", "text", "wheels"]

LOCK = Path(__file__).with_name("device.lock.json")
LOCK_FORMAT = 1
PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
PYTHON = PYTHONS[0]
"""The oldest Python that a bundle runs on."""
TARGETS = {"linux": ("x86_64", "aarch64"), "linux-x86_64": ("x86_64",), "linux-aarch64": ("aarch64",)}
"""The architectures of each target, as ``platform.machine()`` spells them."""

# What numpy's wheels are compiled for, its CPU baseline, in the words of the flags and Features lines of
# /proc/cpuinfo (Linux, arch/x86/include/asm/cpufeatures.h, where SSE3 is "pni", and arch/arm64/kernel/cpuinfo.c).
# numpy looks for exactly these when it is imported (numpy/_core/src/common/npy_cpu_features.c: X86_V2 is SSE to SSE4.2,
# POPCNT, CX16 and LAHF); before 2.4 it asked for less. onnxruntime asks for nothing beyond them.
_CPU_FEATURES = {
    "x86_64": ["sse", "sse2", "pni", "ssse3", "sse4_1", "sse4_2", "popcnt", "cx16", "lahf_lm"],
    "aarch64": ["asimd"],
}
# Names of before PEP 600 for "built against this glibc": PEP 513, 571 and 599.
_OLD_TAGS = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}


class Wheel(NamedTuple):
    """One pinned file: its name, which says all else, and its hash."""

    file: str
    sha256: str

    @property
    def name(self) -> str:
        """The distribution's name, normalized."""
        return normalized(self.file.split("-")[0])

    @property
    def version(self) -> str:
        """The distribution's version."""
        return self.file.split("-")[1]

    @property
    def glibc(self) -> tuple[int, int]:
        """The lowest glibc that installers accept for it; (0, 0) where it needs none.

        Raises:
            ValueError: its platform is neither "any" nor a manylinux.
        """
        found = []
        for tag in self.file.removesuffix(".whl").split("-")[-1].split("."):
            if tag == "any":
                found.append((0, 0))
            elif match := re.match(r"manylinux_(\d+)_(\d+)_", tag):
                found.append((int(match[1]), int(match[2])))
            else:
                found.append(_OLD_TAGS.get(tag.split("_")[0], (-1, 0)))
        if min(found) < (0, 0):
            raise ValueError(f"{self.file} is for another kind of platform, expected a manylinux")
        return min(found)


def normalized(name: str) -> str:
    """A distribution's name as all tools compare it (Python packaging specification, "Names and normalization")."""
    return re.sub(r"[-_.]+", "-", name).lower()


def wheels(python: str, architecture: str) -> list[Wheel]:
    """The pinned wheels for a Python and an architecture, sorted by name."""
    return [Wheel(file, sha256) for file, sha256 in _lock()["wheels"][architecture][python].items()]


def text(target: str) -> str:
    """A requirements.txt for ``pip install --require-hashes``: every Python from `PYTHONS`, this target's hashes alone.

    Another Python or architecture is refused by pip, as no hash fits; nothing is quietly left out there.

    Args:
        target: of `TARGETS`.

    Raises:
        UsageError: no such target.
    """
    architectures = _architectures(target)
    pins: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
    for architecture, python in itertools.product(architectures, PYTHONS):
        for wheel in wheels(python, architecture):
            pins.setdefault((wheel.name, wheel.version), {}).setdefault(architecture, {})[python] = wheel.sha256
    lines = [
        f"# {target}: Python {PYTHONS[0]} to {PYTHONS[-1]}, glibc {glibc(target)} or newer",
        "# pip install --require-hashes -r requirements.txt",
    ]
    for (name, version), found in sorted(pins.items()):
        for marker, hashes in _lines(found, architectures):
            condition = f" ; {marker}" if marker else ""
            lines.append(" \\\n    ".join([f"{name}=={version}{condition}", *(f"--hash=sha256:{h}" for h in hashes)]))
    return "\n".join(lines) + "\n"


def glibc(target: str) -> str:
    """The glibc that the target's wheels need, all of them: "2.27".

    Raises:
        UsageError: no such target.
    """
    every = itertools.product(_architectures(target), PYTHONS)
    return ".".join(map(str, max(wheel.glibc for a, python in every for wheel in wheels(python, a))))


def cpu_features(target: str = "linux") -> dict[str, list[str]]:
    """What the wheels need of a CPU, by architecture of the target, in the words of /proc/cpuinfo.

    Raises:
        UsageError: no such target.
    """
    return {architecture: list(_CPU_FEATURES[architecture]) for architecture in _architectures(target)}


@functools.cache
def _lock() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(LOCK.read_text(encoding="utf-8"))
    if found["format"] != LOCK_FORMAT:
        raise ValueError(f"{LOCK.name} has format {found['format']}, expected {LOCK_FORMAT}")
    return found


def _architectures(target: str) -> tuple[str, ...]:
    if target not in TARGETS:
        raise UsageError(f"target is {target!r}, expected one of {', '.join(TARGETS)}")
    return TARGETS[target]


def _lines(found: dict[str, dict[str, str]], architectures: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    """One marker and its hashes for each line that a version takes.

    Args:
        found: hashes by architecture and Python.
        architectures: those of the target.
    """
    alike = len({tuple(pythons) for pythons in found.values()}) == 1 and set(found) == set(architectures)
    for part in [found] if alike else [{a: pythons} for a, pythons in found.items()]:
        machine = [] if alike else [f'platform_machine == "{next(iter(part))}"']
        for run in _runs(next(iter(part.values()))):
            hashes = {pythons[python] for pythons in part.values() for python in run}
            yield " and ".join([*_bounds(run), *machine]), sorted(hashes)


def _runs(pythons: Iterable[str]) -> list[list[str]]:
    """Some of `PYTHONS`, in order, as runs of neighbours."""
    wanted = set(pythons)
    return [list(run) for chosen, run in itertools.groupby(PYTHONS, wanted.__contains__) if chosen]


def _bounds(run: list[str]) -> list[str]:
    """Markers for a run of Pythons; open at both ends, so that any other Python meets a hash that does not fit."""
    bounds = []
    if run[0] != PYTHONS[0]:
        bounds.append(f'python_version >= "{run[0]}"')
    if run[-1] != PYTHONS[-1]:
        bounds.append(f'python_version < "{PYTHONS[PYTHONS.index(run[-1]) + 1]}"')
    return bounds
