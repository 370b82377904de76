"""The folder that another architecture's Python lives in: Debian's packages and the wheels, prepared once.

`prepared` makes it in the user's cache, from the distribution's packages (apt-get says which, down to the C library)
and from the wheels of exactly the numpy and onnxruntime that run here. Nothing else of the system is touched and root
rights are not needed. What was downloaded stays until the folder is complete, so an interrupted preparation goes on
where it was. `store` has how a half one is kept from being used.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shutil
import sys
import time
import zipfile
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

from toolkit import debian
from toolkit.emulation import store
from toolkit.emulation.cpus import AMD64, ARM64
from toolkit.errors import MissingError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from toolkit.progress import Note, Step

__all__ = ["Root", "is_ready", "prepare", "root_of", "wanted_wheels"]

PACKAGES = ("python3", "libstdc++6")  # the second is the wheels' own need
WHEEL_MACHINE = {AMD64: "x86_64", ARM64: "aarch64"}
FETCH_SECONDS = 1800.0  # for all packages, or for one wheel
_SYSTEM_RECIPE = {"format": 1, "packages": list(PACKAGES)}


@dataclass(frozen=True)
class Root:
    """Another architecture's Python, ready to be run by an emulator.

    Attributes:
        system: the folder with Debian's files (usr, lib, ...).
        site: the folder with numpy and onnxruntime.
        python: the interpreter in it.
    """

    system: Path
    site: Path
    python: Path


def wanted_wheels() -> dict[str, str]:
    """The versions of numpy and onnxruntime that run here.

    Raises:
        MissingError: one is not installed from a wheel of that name.
    """
    try:
        return {name: metadata.version(name) for name in ("numpy", "onnxruntime")}
    except metadata.PackageNotFoundError as error:
        raise MissingError(f"{error.name} is not installed here, so it cannot be compared; install it") from error


def root_of(architecture: str, place: Path) -> Root:
    """Where the root of an architecture stands; see `is_ready` for whether it does."""
    base = place / architecture
    return Root(base / "system", base / "site", base / "system" / "usr" / "bin" / "python3")


def is_ready(architecture: str, place: Path) -> bool:
    """Both parts are complete and hold what this toolkit and its own libraries ask for."""
    root = root_of(architecture, place)
    return _is_system(root, architecture) and _is_site(root)


def _is_system(root: Root, architecture: str) -> bool:
    stamp = store.written_stamp(root.system)
    return stamp is not None and stamp.get("recipe") == _recipe(architecture) and root.python.exists()


def _is_site(root: Root) -> bool:
    system, site = store.written_stamp(root.system), store.written_stamp(root.site)
    return (
        site is not None
        and system is not None
        and site.get("wheels") == wanted_wheels()
        and site.get("python") == system.get("python")
    )


def _recipe(architecture: str) -> str:
    text = json.dumps({**_SYSTEM_RECIPE, "architecture": architecture}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def prepare(architecture: str, place: Path, note: Note, step: Step) -> None:
    """Make what is missing of a root; the store must be held alone.

    Raises:
        MissingError: a program or package that it takes cannot be had; says which.
        StorageError: the disk is full.
    """
    root = root_of(architecture, place)
    if is_ready(architecture, place):
        return
    if importlib.util.find_spec("pip") is None:
        raise MissingError(
            f"fetching the {architecture} wheels takes pip, which this Python ({sys.executable}) lacks; "
            "install it with: python -m ensurepip"
        )
    if not _is_system(root, architecture):
        if tool := debian.missing_tool():
            raise MissingError(
                f"emulating {architecture} takes Debian's Python for it, and {tool} is not on this system to fetch it; "
                "run on Debian or Ubuntu, or leave these CPUs out of --cpu"
            )
        store.build(root.system, _SystemMaker(architecture, place, note, step).fill)
    if not _is_site(root):
        system = store.written_stamp(root.system) or {}
        store.build(root.site, lambda beside: _fill_site(beside, architecture, place, system, note, step))
    shutil.rmtree(place / "downloads" / architecture, ignore_errors=True)


class _SystemMaker:
    """Fetches and unpacks Debian's packages."""

    def __init__(self, architecture: str, place: Path, note: Note, step: Step) -> None:
        self.architecture, self.place, self.note, self.step = architecture, place, note, step
        self.downloads = place / "downloads" / architecture
        self.deadline = time.monotonic() + FETCH_SECONDS
        self.trouble: str | None = None

    def fill(self, beside: Path) -> dict[str, Any]:
        self.downloads.mkdir(parents=True, exist_ok=True)
        config = debian.foreign_config(self.downloads, self.architecture)
        apt = ["apt-get", "-c", str(config)]
        self.note(f"fetching the lists of Debian's {self.architecture} packages into a private folder")
        # Its verdict is not asked for: one repository of many being out of reach must not matter.
        self.trouble = debian.run([*apt, "update"], self.downloads, self.deadline)
        packages = self._wanted(apt)
        self._fetch(apt, packages)
        archives = self.downloads / "cache" / "archives"
        for number, package in enumerate(packages, 1):
            self.step(number, len(packages), f"unpacking the {self.architecture} packages")
            self._do(["dpkg-deb", "-x", str(archives / package), str(beside)])
        # Newer releases have everything in usr and make these links when they are installed, which is not done here.
        for name in ("bin", "lib", "lib64", "sbin"):
            if not (beside / name).exists() and (beside / "usr" / name).is_dir():
                (beside / name).symlink_to(f"usr/{name}")
        python = (beside / "usr" / "bin" / "python3").readlink().name.removeprefix("python")
        return {
            "format": 1,
            "recipe": _recipe(self.architecture),
            "architecture": self.architecture,
            "python": python,
            "glibc": next(found[1] for p in packages if (found := re.match(r"libc6_([0-9.]+)", p))),
            "packages": sorted(packages),
        }

    def _wanted(self, apt: list[str]) -> dict[str, int]:
        """File names and bytes of all packages."""
        lines: list[str] = []
        # Packages that are here already would be left out, so it is asked as if none were.
        (empty := self.downloads / "no-archives" / "partial").mkdir(parents=True, exist_ok=True)
        apt = [*apt, "-o", f"Dir::Cache::archives={empty.parent}"]
        self._do([*apt, "install", "--print-uris", "-qq", "-y", *PACKAGES], lines.append)
        found = {line.split()[1]: size for line in lines for size in debian.uri_sizes(line)}
        if not any(name.startswith("libc6_") for name in found):
            raise MissingError(
                f"apt-get names no {self.architecture} packages ({self.trouble or 'its lists hold none'}); "
                "run again with a network and package sources for that architecture"
            )
        return found

    def _fetch(self, apt: list[str], packages: dict[str, int]) -> None:
        total = sum(packages.values())
        here = sum((self.downloads / "cache" / "archives" / name).is_file() for name in packages)
        missing = {n: s for n, s in packages.items() if not (self.downloads / "cache" / "archives" / n).is_file()}
        kept = f"; {here} are here from an earlier try" if here else ""
        self.note(
            f"fetching {sum(missing.values()) / 1e6:.1f} MB: {len(missing)} Debian packages for "
            f"{self.architecture}{kept}"
        )
        room = shutil.disk_usage(self.downloads).free
        if room < 6 * total:  # the packages, and what they unpack to
            raise StorageError(
                f"{self.place} has {room / 1e6:.0f} MB free and {6 * total / 1e6:.0f} MB are needed; free some space, "
                "or set TOOLKIT_CACHE to another folder"
            )

        def told(line: str) -> None:  # dlstatus:NUMBER:PERCENT:what
            if line.startswith("dlstatus:"):
                share = float(line.split(":")[2]) / 100
                self.step(round(share * total / 1000), round(total / 1000), f"kB of {self.architecture} packages")

        command = [*apt, "install", "--download-only", "-qq", "-y", "-o", "APT::Status-Fd=1", *PACKAGES]
        self._do(command, told)

    def _do(self, command: list[str], on_line: Callable[[str], None] | None = None) -> None:
        reason = debian.run(command, self.downloads, self.deadline, on_line)
        if reason is None:
            return
        store.storage_trouble(reason, self.place)
        before = f"; before that, apt-get update: {self.trouble}" if self.trouble else ""
        raise MissingError(
            f"the {self.architecture} system could not be prepared: {command[0]}: {reason}{before}; run again with a "
            "network and package sources for that architecture (what was fetched is kept)"
        )


def _fill_site(
    beside: Path, architecture: str, place: Path, system: dict[str, Any], note: Note, step: Step
) -> dict[str, Any]:
    """Fetch the wheels, each once and whole, and unpack them."""
    wheels = place / "downloads" / architecture / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    wanted = wanted_wheels()
    minor = int(system["glibc"].split(".")[1])
    machine = WHEEL_MACHINE[architecture]
    tags = [f"manylinux_2_{n}_{machine}" for n in range(minor, 16, -1)] + [f"manylinux2014_{machine}"]
    target = ["--only-binary=:all:", "--no-deps", "--implementation", "cp", "--python-version", system["python"]]
    target += [word for tag in tags for word in ("--platform", tag)]
    for number, (name, version) in enumerate(wanted.items()):
        step(number, len(wanted), f"wheels for {architecture}")
        if any(wheels.glob(f"{name}-{version}-*.whl")):
            continue
        _fetch_wheel(f"{name}=={version}", wheels, target, architecture, note)
    step(len(wanted), len(wanted), f"wheels for {architecture}")
    exact = [f"{name}=={version}" for name, version in wanted.items()]
    unpack = ["install", "--target", str(beside), "--no-index", "--find-links", str(wheels), "--no-compile", *target]
    _pip([*unpack, *exact], wheels, architecture, None)
    return {"format": 1, "wheels": wanted, "python": system["python"]}


def _fetch_wheel(wanted: str, wheels: Path, target: list[str], architecture: str, note: Note) -> None:
    part = wheels / "part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()

    def told(line: str) -> None:  # "Downloading NAME.whl (16.0 MB)", before the first byte
        if found := re.search(r"Downloading (?:\S*/)?(\S+\.whl)\S* \(([0-9.]+ [kM]B)\)", line):
            note(f"fetching {found[2]}: {found[1]}")

    _pip(["download", "--dest", str(part), "--progress-bar", "off", *target, wanted], wheels, architecture, told)
    (wheel,) = part.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        if damaged := archive.testzip():
            raise MissingError(f"{wheel.name} came damaged ({damaged}); run again")
    wheel.rename(wheels / wheel.name)
    part.rmdir()


def _pip(arguments: list[str], folder: Path, architecture: str, on_line: Callable[[str], None] | None) -> None:
    # The environment keeps the user's own index settings; but where to install is said here.
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    reason = debian.run(["env", "PIP_USER=0", *command], folder, time.monotonic() + FETCH_SECONDS, on_line)
    if reason is None:
        return
    store.storage_trouble(reason, folder)
    raise MissingError(
        f"the {architecture} wheels could not be had: pip: {reason.removeprefix('ERROR: ')}; run again with a network "
        f"(pip looks for {', '.join(f'{n} {v}' for n, v in wanted_wheels().items())}; what was fetched is kept)"
    )
