"""Environments as devices have them: numpy and one runtime, from locked versions, kept in the user's cache."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.shared.common import ROOT, clean_environment, note
from toolkit.cache import cache_root
from toolkit.errors import MissingError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["environment", "installed", "locked", "numpy_requirements", "onnxruntime_requirements", "required"]

LOCK = ROOT / "requirements-core.lock"
LOCKS = Path(__file__).with_name("locks")
FINISHED = ".finished"


def onnxruntime_requirements() -> str:
    """What the device needs of requirements-core.lock: onnxruntime and whatever it requires, numpy among it."""
    return _entries_of("onnxruntime")


def numpy_requirements() -> str:
    """Numpy alone, as requirements-core.lock has it."""
    return _entries_of("numpy")


def _entries_of(name: str) -> str:
    entries = _entries(LOCK)
    return "".join(entries[found] for found in required([name]) if found in entries)


def required(names: Sequence[str]) -> list[str]:
    """These packages and all that they require, as far as they are installed here; sorted."""
    wanted, found = [_normalized(name) for name in names], set[str]()
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:  # of another system
            continue
        found.add(name)
        plain = [text for text in requirements if "extra ==" not in text]
        wanted += [_normalized(re.split(r"[^\w.-]", text, maxsplit=1)[0]) for text in plain]
    return sorted(found)


def locked(name: str) -> str:
    """What one of the files in `locks` names: versions with hashes."""
    return (LOCKS / f"{name}.lock").read_text(encoding="utf-8")


def _entries(lock: Path) -> dict[str, str]:
    """The entries of a lock file by package; one that stands there for several Pythons has all its lines."""
    entries: dict[str, str] = {}
    for entry in re.split(r"\n(?=\w)", lock.read_text(encoding="utf-8").strip()):
        name = _normalized(re.split(r"==", entry, maxsplit=1)[0])
        entries[name] = entries.get(name, "") + entry + "\n"
    return entries


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def environment(name: str, requirements: str) -> str:
    """The Python of an environment with these packages and no other, made once.

    Raises:
        MissingError: the packages cannot be installed.
    """
    key = hashlib.sha256(f"{sys.version}\n{sys.base_prefix}\n{requirements}".encode()).hexdigest()[:16]
    place = cache_root() / "benchmarks" / f"{name}-{key}"
    python = place / "bin" / "python"
    if (place / FINISHED).is_file():
        return str(python)
    note(f"making the environment of {name}")
    shutil.rmtree(place, ignore_errors=True)  # of an earlier try that was cut short
    place.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    locked = place / "requirements.txt"
    locked.write_text(requirements, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "--quiet"]
    install = ["install", "--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", str(locked)]
    done = subprocess.run([*pip, *install], env=clean_environment(), check=False, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip() or "pip said nothing").splitlines()[-1]
        raise MissingError(f"the packages of {name} cannot be installed: {said}; see {locked}")
    (place / FINISHED).touch()
    return str(python)


def installed(python: str, only: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Each package of an environment with its version and its bytes on the disk, bytecode included.

    Args:
        python: of the environment.
        only: these packages, as `required` names them; None: all.
    """
    command = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=clean_environment())
    rows = []
    for found in importlib.metadata.distributions(path=[done.stdout.strip()]):
        name = found.metadata["Name"]
        if only is not None and _normalized(name) not in only:
            continue
        paths = {Path(os.path.realpath(str(file.locate()))) for file in found.files or []}
        size = sum(path.stat().st_size for path in paths if path.is_file())
        rows.append({"package": name, "version": found.version, "bytes": size})
    return sorted(rows, key=lambda row: str(row["package"]).lower())
