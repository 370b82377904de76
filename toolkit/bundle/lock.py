"""Writes ``device.lock.json``: the wheels that bundles install, for every Python and architecture.

    python -m toolkit.bundle.lock            (`make lock`; it takes pip and a network)

From Python 3.11 on, these are the versions and hashes of ``requirements-core.lock``; for the older ones, which the
toolkit itself does not run on, the newest up to those that have a wheel. pip tells which these are from metadata alone.
Where several wheels fit, the one for the oldest glibc is taken.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from toolkit.bundle.requirements import LOCK, LOCK_FORMAT, PYTHONS, TARGETS, Wheel, normalized
from toolkit.errors import MissingError
from toolkit.publishing import write_atomic

CORE_LOCK = Path(__file__).parents[2] / "requirements-core.lock"
WANTED = ("numpy", "onnxruntime")
NEWEST_GLIBC = 28  # of 2.x: Debian 10 and RHEL 8 have it
OWN_PYTHON = (3, 11)  # the oldest that the core lock is for


def main() -> None:
    """Ask pip for every combination, and write the file as a whole."""
    from packaging.requirements import Requirement

    pins = [Requirement(line.rstrip(" \\")) for line in _core_lock().splitlines() if line[:1].isalpha()]
    found: dict[str, dict[str, dict[str, str]]] = {}
    for architecture in TARGETS["linux"]:
        for python in PYTHONS:
            environment = {
                "python_version": python,
                "python_full_version": f"{python}.0",
                "platform_machine": architecture,
                "sys_platform": "linux",
                "platform_system": "Linux",
                "os_name": "posix",
                "implementation_name": "cpython",
                "platform_python_implementation": "CPython",
                "extra": "",
            }
            locked = tuple(map(int, python.split("."))) >= OWN_PYTHON
            ours = [f"{p.name}{p.specifier}" for p in pins if p.marker is None or p.marker.evaluate(environment)]
            limits = ours if locked else [line.replace("==", "<=") for line in ours]
            report = _ask_pip(architecture, python, limits, exact=locked)
            wheels = sorted(map(_wheel, report))
            _check_whole(report, environment)
            if locked:
                _check_locked(wheels)
            found.setdefault(architecture, {})[python] = {wheel.file: wheel.sha256 for wheel in wheels}
            print(f"{architecture}, Python {python}: {', '.join(f'{w.name} {w.version}' for w in wheels)}")  # noqa: T201
    write_atomic(LOCK, json.dumps({"format": LOCK_FORMAT, "wheels": found}, indent=1) + "\n")


def _core_lock() -> str:
    return CORE_LOCK.read_text(encoding="utf-8")


def _ask_pip(architecture: str, python: str, limits: list[str], *, exact: bool) -> list[dict[str, Any]]:
    """What pip would install there, from its report (pip documentation, "Installation Report").

    Args:
        architecture: of the wheels.
        python: its version, "3.9".
        limits: versions to keep to.
        exact: they leave no choice.

    Raises:
        MissingError: pip fails.
    """
    # In order of preference, so the oldest glibc first.
    tags = [f"manylinux2014_{architecture}", *(f"manylinux_2_{n}_{architecture}" for n in range(17, NEWEST_GLIBC + 1))]
    with tempfile.TemporaryDirectory() as scratch:
        constraints, report = Path(scratch, "constraints.txt"), Path(scratch, "report.json")
        constraints.write_text("\n".join(limits), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--target", scratch, "--report", str(report), "--constraint", str(constraints)]
        command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", python]
        command += [word for tag in tags for word in ("--platform", tag)]
        # pip up to 23.2 holds Requires-Python against the Python that runs it; exact versions are right already.
        command += ["--ignore-requires-python"] if exact else []
        done = subprocess.run([*command, *WANTED], capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no word"])[-1]
            raise MissingError(f"pip has no wheels for {architecture} and Python {python}: {last}; run again")
        entries: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))["install"]
        return entries


def _wheel(entry: dict[str, Any]) -> Wheel:
    download = entry["download_info"]
    return Wheel(download["url"].rsplit("/", 1)[1], download["archive_info"]["hashes"]["sha256"])


def _check_whole(report: list[dict[str, Any]], environment: dict[str, str]) -> None:
    """Everything that these need there is among them: pip looks at conditions with the eyes of the Python that runs it.

    Raises:
        MissingError: something is not.
    """
    from packaging.requirements import Requirement

    names = {normalized(entry["metadata"]["name"]) for entry in report}
    for entry in report:
        for need in map(Requirement, entry["metadata"].get("requires_dist", [])):
            if (need.marker is None or need.marker.evaluate(environment)) and normalized(need.name) not in names:
                raise MissingError(
                    f"{entry['metadata']['name']} needs {need} with Python {environment['python_version']}, which pip "
                    "left out; run this with that Python's pip"
                )


def _check_locked(wheels: list[Wheel]) -> None:
    """The hashes are those of the core lock too.

    Raises:
        MissingError: one is not.
    """
    known = set(re.findall(r"--hash=sha256:([0-9a-f]{64})", _core_lock()))
    if strange := [wheel.file for wheel in wheels if wheel.sha256 not in known]:
        raise MissingError(f"{CORE_LOCK.name} has no hash of {', '.join(strange)}; write it anew with: make lock")


if __name__ == "__main__":
    main()
