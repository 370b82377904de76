"""Virtual environments for tests: the core lock's wheels and nothing else, without a network once they are here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from toolkit.artifact import sha256_of

LOCK = ["-r", str(ROOT / "requirements-core.lock")]


def core_environment(folder: Path) -> Path:
    """A new virtual environment with the core lock; its Python."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=120)
    python = folder / "bin" / "python"
    pip_install(python, "--no-index", "--find-links", str(core_wheels()), "--require-hashes", *LOCK)
    return python


def pip_install(python: Path, *arguments: str) -> None:
    """Install into a Python's environment."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, timeout=300)


def core_wheels() -> Path:
    """The core dependencies' wheels, fetched once into the virtual environment that runs the tests."""
    kept = Path(sys.prefix) / f"core-wheels-{sha256_of(ROOT / 'requirements-core.lock')[:12]}"
    if not kept.is_dir():
        partial = kept.with_name(f"{kept.name}.{os.getpid()}")
        command = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--require-hashes", *LOCK]
        subprocess.run([sys.executable, *command, "-d", str(partial)], check=True, timeout=300)
        partial.rename(kept)
    return kept
