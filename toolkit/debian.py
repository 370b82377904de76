"""Debian packages without being root: apt-get in a private folder, which leaves the system as it is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["brief", "foreign_config", "missing_tool", "private_config", "run", "system_config", "uri_sizes"]


def missing_tool() -> str | None:
    """The first program that fetching packages needs and that is not on this system."""
    return next((tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None), None)


def system_config(folder: Path) -> Path:
    """Settings for apt-get with the system's own package lists, but downloads in a folder of ours."""
    return _write(folder, "system.conf", _OPTIONS)


def private_config(folder: Path) -> Path:
    """Settings for apt-get with package lists of its own, in a folder of ours."""
    return _write(folder, "private.conf", _OPTIONS + _PRIVATE_LISTS)


def foreign_config(folder: Path, architecture: str) -> Path:
    """Settings for apt-get that looks at an empty system of a given architecture ("arm64"), in a folder of ours.

    What it would install there are all packages that a thing needs, down to the C library.
    """
    (folder / "nothing-installed").touch()
    return _write(folder, f"{architecture}.conf", _OPTIONS + _PRIVATE_LISTS + _FOREIGN, architecture)


def _write(folder: Path, name: str, text: str, architecture: str = "") -> Path:
    for part in ("cache/archives/partial", "state/lists/partial"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text.format(folder=folder, architecture=architecture), encoding="utf-8")
    return path


# No lock and no cache of the system are touched and its update hooks are not run. Apt does not switch to its
# user _apt, who could not write into the private folder.
_OPTIONS = """\
Dir::Cache "{folder}/cache";
Debug::NoLocking "1";
APT::Sandbox::User "root";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
Acquire::Retries "1";
Acquire::Languages "none";
Acquire::PDiffs "false";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"""
_PRIVATE_LISTS = """\
Dir::State "{folder}/state";
Dir::State::lists "{folder}/state/lists";
Dir::State::status "/var/lib/dpkg/status";
"""
# The clears matter: a system's own lists of architectures and of packages to keep would be added to ours.
_FOREIGN = """\
Dir::State::status "{folder}/nothing-installed";
#clear APT::Architectures;
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "0";
#clear DPkg::Pre-Install-Pkgs;
#clear DPkg::Post-Invoke;
"""


def run(
    command: Sequence[str],
    folder: Path,
    deadline: float,
    on_line: Callable[[str], None] | None = None,
) -> str | None:
    """Run a program in a folder.

    Args:
        command: the program and its arguments; of ``apt-get update`` every complaint counts, of others only the exit.
        folder: where it runs.
        deadline: when it is killed, on `time.monotonic`'s clock.
        on_line: told of each line of its standard output.

    Returns:
        None if it ended well, or the last complaint it made, in a phrase.
    """
    began = time.monotonic()
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        process = subprocess.Popen(
            list(command),
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            errors="replace",
        )
        late = threading.Event()

        def give_up() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(max(deadline - began, 0.1), give_up)
        timer.start()
        try:
            for line in process.stdout or ():
                if on_line:
                    on_line(line.rstrip("\n"))
            code = process.wait()
        finally:
            timer.cancel()
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
        errors.seek(0)
        lines = [line.strip() for line in errors if line.strip()]
    if late.is_set():
        return f"not done within {max(deadline - began, 0.1):.0f} seconds"
    complaints = [line[2:] for line in lines if line.startswith(("E:", "W:"))]
    if code == 0 and "update" not in command:
        return None
    if complaints:
        return brief(complaints[-1].strip())
    if code:
        return brief(lines[-1]) if lines else f"exit code {code}"
    return None


def uri_sizes(line: str) -> list[int]:
    """The bytes of a package in a line of ``apt-get --print-uris`` ('address' name bytes hash), if it is one."""
    found = re.match(r"'[^']+' \S+ (\d+)", line)
    return [int(found[1])] if found else []


def brief(text: str) -> str:
    """The first line of a complaint, without the address of the server that it is about."""
    lines = re.sub(r"https?://\S+?(?=:?(\s|$))", "its server", text).strip().splitlines()
    return lines[0][:200] if lines else ""
