"""qemu's user emulation: found on PATH, or fetched from the distribution into the cache."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolkit import debian
from toolkit.emulation import store
from toolkit.emulation.cpus import AMD64, ARM64
from toolkit.errors import MissingError

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.progress import Note

__all__ = ["Emulator", "fetch", "find", "host_architecture"]

# The second names are those of distributions that no longer ship two builds.
PROGRAMS = {AMD64: ("qemu-x86_64-static", "qemu-x86_64"), ARM64: ("qemu-aarch64-static", "qemu-aarch64")}
PACKAGES = ("qemu-user-static", "qemu-user")
OLDEST = (7, 2)  # the first with AVX2, without which a Haswell would quietly be something else
FETCH_SECONDS = 1200.0


@dataclass(frozen=True)
class Emulator:
    """A program that runs another architecture's programs: where it is and its version, "7.2.22"."""

    program: str
    version: str

    @property
    def name(self) -> str:
        """For reports, without this machine's paths."""
        return f"qemu {self.version}"


def host_architecture() -> str:
    """Debian's name of this machine's architecture.

    Raises:
        MissingError: emulation is not for this system.
    """
    names = {"x86_64": AMD64, "amd64": AMD64, "aarch64": ARM64, "arm64": ARM64}
    machine = platform.machine().lower()
    if sys.platform != "linux" or machine not in names:
        raise MissingError(
            f"other CPUs can be emulated on Linux on x86-64 or 64-bit ARM, this is {platform.system()} on {machine}; "
            "run the command there, or leave --cpu out"
        )
    return names[machine]


def find(architecture: str, place: Path) -> Emulator | None:
    """The emulator for an architecture, from PATH or from the store; None if neither has one that is new enough."""
    fetched = os.pathsep.join(map(str, _fetched_folders(place)))
    for name in PROGRAMS[architecture]:
        for path in (None, fetched):
            program = shutil.which(name, path=path)
            if program and (version := _version(program)) and tuple(map(int, version.split(".")[:2])) >= OLDEST:
                return Emulator(program, version)
    return None


def _fetched_folders(place: Path) -> list[Path]:
    qemu = place / "qemu"
    return [qemu / "usr" / "bin"] if store.written_stamp(qemu) else []


def _version(program: str) -> str | None:
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, errors="replace", timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"version (\d+\.\d+(\.\d+)*)", done.stdout)
    return found[1] if found else None


def fetch(architecture: str, place: Path, note: Note) -> Emulator:
    """Fetch the distribution's qemu into the store, which must be held alone.

    Raises:
        MissingError: it cannot be fetched, or is too old.
        StorageError: the disk is full.
    """
    wanted = f"{PROGRAMS[architecture][0]} {'.'.join(map(str, OLDEST))} or newer is not on this system"
    advice = f"install the package {PACKAGES[0]}, or run again with a network"
    if tool := debian.missing_tool():
        raise MissingError(f"{wanted}, and it cannot be fetched because {tool} is not here either; {advice}")
    downloads = place / "downloads" / "qemu"
    reason = _download(downloads, note)
    if reason:
        store.storage_trouble(reason, place)
        raise MissingError(f"{wanted}, and fetching it failed: {reason}; {advice}")
    package = next(iter(sorted(downloads.glob("*.deb"))))

    def fill(beside: Path) -> dict[str, Any]:
        trouble = debian.run(["dpkg-deb", "-x", str(package), str(beside)], downloads, time.monotonic() + FETCH_SECONDS)
        if trouble:
            store.storage_trouble(trouble, place)
            raise MissingError(f"the package {package.name} cannot be unpacked: {trouble}; {advice}")
        return {"format": 1, "package": package.name}

    store.build(place / "qemu", fill)
    shutil.rmtree(downloads, ignore_errors=True)
    found = find(architecture, place)
    if found is None:
        raise MissingError(f"{wanted}, and {package.name}, which this distribution has, holds none; {advice}")
    return found


def _download(downloads: Path, note: Note) -> str | None:
    """Fetch the package file; the reason if that failed."""
    downloads.mkdir(parents=True, exist_ok=True)
    for half in downloads.glob("*.deb"):
        half.unlink()
    deadline = time.monotonic() + FETCH_SECONDS
    config = debian.system_config(downloads)
    reason = _download_first(config, downloads, deadline, note)
    if reason:
        note("the system's package lists do not help; fetching lists (about 10 MB) into a private folder")
        config = debian.private_config(downloads)
        trouble = debian.run(["apt-get", "-c", str(config), "update"], downloads, deadline)
        reason = _download_first(config, downloads, deadline, note)
        if reason and trouble:
            reason = f"{reason}; before that, apt-get update: {trouble}"
    return reason


def _download_first(config: Path, downloads: Path, deadline: float, note: Note) -> str | None:
    reasons = []
    for package in PACKAGES:
        lines: list[str] = []
        command = ["apt-get", "-c", str(config), "download", package]
        reason = debian.run([*command, "--print-uris"], downloads, deadline, lines.append)
        if reason is None:
            size = sum(size for line in lines for size in debian.uri_sizes(line))
            note(f"fetching qemu: {size / 1e6:.1f} MB (the package {package})")
            reason = debian.run(command, downloads, deadline)
        if reason is None and any(downloads.glob("*.deb")):
            return None
        reasons.append(reason or "apt-get ended well but left no package")
    return reasons[0]
