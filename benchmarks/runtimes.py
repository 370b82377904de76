"""The reference bundle tested by itself on every Python, on old releases of onnxruntime and on emulated CPUs.

    python benchmarks/runtimes.py [ARTIFACT]     (`make runtimes`; writes benchmarks/results/runtimes.json)

`toolkit bundle` makes the folder and its wheel once, then each runs where a device would run it:

- in a new environment of each Python that is found (on PATH, or pyenv's), with the bundle's own requirements.txt under
  ``--require-hashes``, the folder's ``python predictor.py --selftest``;
- with Python 3.9 and the oldest onnxruntime that the bundle names, some later ones, and the one before, which it has to
  refuse, the installed wheel's ``python -m fashion_mnist_model --selftest``;
- on emulated CPUs the very same wheel file.

Takes a network, and about ten minutes. Exits 1 if something does not end as it should.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from toolkit.artifact import load_manifest, sha256_of
from toolkit.benchmarking.host import describe_host
from toolkit.bundle.requirements import PYTHONS
from toolkit.emulation.cpus import CPUS, TOO_OLD, choose
from toolkit.emulation.run import Machine, prepared
from toolkit.emulation.starting import run_python
from toolkit.publishing import write_atomic

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "exported" / "fashion-mnist"
RELEASES = ("1.12.0", "1.14.0", "1.16.0", "1.19.2")  # of onnxruntime, between the oldest and today's
OLD_PYTHON = "3.9"  # has wheels of all of them
NUMPY_2 = (1, 19)  # the first onnxruntime that runs with numpy 2
ELSEWHERE = ("nehalem", "haswell", "cortex-a53", "cortex-a72", "cortex-a76")
REFUSED = ("penryn",)  # a CPU that is too old for the pinned numpy
MISSING = 3  # the exit code of a device that lacks something
FEATURES = """
import json
from numpy._core._multiarray_umath import __cpu_features__ as features
print(json.dumps([name for name, found in features.items() if found]))
"""


def main() -> None:
    """Bundle, install, test and write."""
    artifact = Path(sys.argv[1]) if sys.argv[1:] else REFERENCE
    with tempfile.TemporaryDirectory() as scratch:
        trial = _Trial(Path(scratch), artifact)
        report: dict[str, Any] = {
            "format": 1,
            "host": asdict(describe_host()),
            "bundle": trial.described(),
            "pythons": [trial.on_python(python) for python in PYTHONS],
            "runtimes": trial.on_releases(),
            "cpus": trial.elsewhere(),
        }
    write_atomic(ROOT / "benchmarks" / "results" / "runtimes.json", json.dumps(report, indent=1) + "\n")
    bad = [row["what"] for key in ("pythons", "runtimes", "cpus") for row in report[key] if row["as_expected"] is False]
    if bad:
        sys.exit(f"error: not as it should be: {'; '.join(bad)}")


class _Trial:
    """A bundle and its wheel, and the places where they are tried."""

    def __init__(self, scratch: Path, artifact: Path) -> None:
        self.scratch, self.folder = scratch, scratch / "device"
        program = Path(sys.executable).parent / "toolkit"
        command = [str(program), "bundle", str(artifact), "-o", str(self.folder), "--wheel"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (self.wheel,) = scratch.glob("*.whl")
        self.package = self.wheel.name.partition("-")[0]
        self.manifest = load_manifest(self.folder)

    def described(self) -> dict[str, Any]:
        """What is tried."""
        bundle = self.manifest.bundle
        if bundle is None:
            raise ValueError("the bundle's manifest has no bundle section")
        sha256 = self.manifest.files[bundle.model].sha256
        return {
            **asdict(bundle),
            "model_sha256": sha256,
            "wheel": self.wheel.name,
            "wheel_sha256": sha256_of(self.wheel),
        }

    def on_python(self, python: str) -> dict[str, Any]:
        """The folder with its own requirements."""
        what = f"Python {python}"
        if (found := _interpreter(python)) is None:
            return _told({"what": what, "expected": 0, "as_expected": None})
        environment = self._environment(found, f"python-{python}")
        pins = ["--require-hashes", "-r", str(self.folder / "requirements.txt")]
        if trouble := _pip(environment, *pins):
            return _told({"what": what, "expected": 0, "as_expected": False, "error": trouble})
        done = _run([str(environment), str(self.folder / "predictor.py"), "--selftest", "--json"], self.scratch)
        _remove(environment)
        return _told(self._row(what, done, 0))

    def on_releases(self) -> list[dict[str, Any]]:
        """The wheel with old releases of the runtime."""
        floor = tuple(map(int, str(self.described()["onnxruntime"]).split(".")))
        later = [release for release in RELEASES if _number(release) > floor]
        before = f"{floor[0]}.{floor[1] - 1}.*"
        oldest = f"{floor[0]}.{floor[1]}.0"
        expected = {before: MISSING, **dict.fromkeys((oldest, *later), 0)}
        return [_told(self._on_release(release, code)) for release, code in expected.items()]

    def _on_release(self, release: str, expected: int) -> dict[str, Any]:
        what = f"onnxruntime {release.removesuffix('.*')}"
        if (found := _interpreter(OLD_PYTHON)) is None:
            return {"what": what, "expected": expected, "as_expected": None}
        environment = self._environment(found, f"onnxruntime-{release.rstrip('.*')}")
        numpy = "numpy<2" if _number(release) < NUMPY_2 else "numpy"
        trouble = _pip(environment, "--only-binary=:all:", f"onnxruntime=={release}", numpy)
        # pip has to find the requirements met by what is there, or (told not to look) to complain afterwards.
        trouble = trouble or _pip(environment, "--no-index", *(["--no-deps"] if expected else []), str(self.wheel))
        if trouble:
            return {"what": what, "expected": expected, "as_expected": False, "error": trouble}
        checked = _run([str(environment), "-m", "pip", "check", "--disable-pip-version-check"], self.scratch)
        done = _run([str(environment), "-m", self.package, "--selftest", "--json"], self.scratch)
        _remove(environment)
        row = self._row(what, done, expected)
        row["pip_check"] = checked.stdout.strip()
        row["as_expected"] = row["as_expected"] and bool(checked.returncode) == bool(expected)
        return row

    def elsewhere(self) -> list[dict[str, Any]]:
        """The wheel on other CPUs."""
        site = self.scratch / "site"
        pip = Path(sys.executable)
        if trouble := _pip(pip, "--no-index", "--no-deps", "--no-compile", "--target", str(site), str(self.wheel)):
            raise RuntimeError(trouble)
        with prepared(choose((*ELSEWHERE, *REFUSED)), print, _silent) as machines:
            return [_told(self._on_cpu(machine, site)) for machine in machines]

    def _on_cpu(self, machine: Machine, site: Path) -> dict[str, Any]:
        cpu = next(each for each in (*CPUS, *TOO_OLD) if each == machine.cpu)
        done = run_python(machine, ["-m", self.package, "--selftest", "--json"], [site])
        row = self._row(cpu.name, done, MISSING if cpu.name in REFUSED else 0)
        row["emulator"] = machine.emulator
        if cpu.name in REFUSED:
            return row
        seen = json.loads(run_python(machine, ["-c", FEATURES]).stdout)
        wrong = [name for name in cpu.has if name not in seen] + [name for name in cpu.lacks if name in seen]
        if wrong:
            row |= {"as_expected": False, "error": f"{machine.emulator} plays another CPU: {', '.join(wrong)}"}
        return row

    def _environment(self, interpreter: str, name: str) -> Path:
        folder = self.scratch / name
        subprocess.run([interpreter, "-m", "venv", str(folder)], check=True)
        return folder / "bin" / "python"

    def _row(self, what: str, done: subprocess.CompletedProcess[str], expected: int) -> dict[str, Any]:
        """What a self-test said. Its latency is left out: it is a short look, and emulated time means nothing."""
        row: dict[str, Any] = {"what": what, "expected": expected, "as_expected": False, "exit_code": done.returncode}
        try:
            report = json.loads(done.stdout)
        except ValueError:
            lines = [line for line in done.stderr.splitlines() if "TCG doesn't support" not in line]
            return {**row, "error": " ".join(lines[-1:]) or f"no report, exit code {done.returncode}"}
        error = (report["error"] or "").replace(f"{self.scratch}{os.sep}", "")
        row["as_expected"] = done.returncode == report["exit_code"] == expected
        row |= {"error": error or None, "versions": report.get("versions")}
        row["checks"] = {check["name"]: check["detail"] for check in report["checks"] if check["name"] != "latency"}
        return row


def _told(row: dict[str, Any]) -> dict[str, Any]:
    """Said as it goes, since all of it takes minutes."""
    verdict = {None: "not tried: not on this machine", True: "as it should be", False: "WRONG"}[row["as_expected"]]
    reason = f" ({row['error']})" if row.get("error") else ""
    print(f"{row['what']}: {verdict}{reason}", flush=True)
    return row


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")[:2]))


def _interpreter(python: str) -> str | None:
    """A Python of some version, from PATH or pyenv's folder."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [shutil.which(f"python{python}"), *map(str, root.glob(f"versions/{python}.*/bin/python"))]
    script = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    for candidate in filter(None, candidates):  # pyenv's shims are on PATH even where they lead nowhere
        done = subprocess.run([candidate, "-c", script], capture_output=True, text=True, check=False)
        if done.stdout.strip() == python:
            return candidate
    return None


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )


def _pip(python: Path, *arguments: str) -> str | None:
    """Install; the last line of pip's complaint if it could not."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    done = _run(command, python.parent)
    return None if done.returncode == 0 else "pip: " + (done.stderr.strip().splitlines() or ["no word"])[-1]


def _remove(python: Path) -> None:
    """An environment that is no longer needed: each takes hundreds of megabytes."""
    shutil.rmtree(python.parents[1], ignore_errors=True)


def _silent(done: int, total: int, what: str) -> None:
    """No bar: this is a script."""


if __name__ == "__main__":
    main()
