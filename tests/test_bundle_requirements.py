"""What a bundle installs: pinned by hash for every Python and architecture, and nowhere said from where."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.requirements import Requirement

from tests.conftest import ROOT
from tests.environments import core_wheels
from toolkit.bundle import lock
from toolkit.bundle.requirements import LOCK, PYTHONS, TARGETS, Wheel, cpu_features, glibc, normalized, text, wheels
from toolkit.emulation.cpus import ARM64, CPUS
from toolkit.errors import MissingError, UsageError

EVERY = [(target, machine) for target, machines in TARGETS.items() for machine in machines]


def _read(target: str) -> list[tuple[Requirement, set[str]]]:
    """The requirements of a target, each with its hashes."""
    found = []
    for entry in text(target).replace("\\\n", "").splitlines():
        if not entry.startswith("#"):
            requirement, *hashes = entry.split("--hash=sha256:")
            found.append((Requirement(requirement.strip()), {each.strip() for each in hashes}))
    return found


def _needed(target: str, python: str, machine: str) -> dict[str, tuple[str, set[str]]]:
    """Version and hashes by name of what pip takes there."""
    environment = {"python_version": python, "platform_machine": machine}
    chosen = [each for each in _read(target) if each[0].marker is None or each[0].marker.evaluate(environment)]
    assert len({requirement.name for requirement, _ in chosen}) == len(chosen), "one line a distribution"
    return {requirement.name: (str(requirement.specifier), hashes) for requirement, hashes in chosen}


@pytest.mark.parametrize(("target", "machine"), EVERY)
@pytest.mark.parametrize("python", PYTHONS)
def test_every_python_gets_its_own_pins(target: str, machine: str, python: str) -> None:
    needed = _needed(target, python, machine)
    pinned = wheels(python, machine)
    assert {wheel.name for wheel in pinned} == set(needed) >= {"numpy", "onnxruntime"}
    tag = f"cp{python.replace('.', '')}"
    for wheel in pinned:
        version, hashes = needed[wheel.name]
        assert version == f"=={wheel.version}"
        assert wheel.sha256 in hashes
        assert wheel.file.endswith(("-any.whl", f"{machine}.whl"))
        if wheel.name in {"numpy", "onnxruntime"}:
            assert f"-{tag}-{tag}-" in wheel.file


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_has_its_own_hashes_and_no_others(target: str) -> None:
    expected = {wheel.sha256 for machine in TARGETS[target] for python in PYTHONS for wheel in wheels(python, machine)}
    assert set().union(*(hashes for _, hashes in _read(target))) == expected


@pytest.mark.parametrize("python", ["3.8", "3.14"])
def test_another_python_is_refused_instead_of_getting_nothing(python: str) -> None:
    needed = _needed("linux", python, "x86_64")
    assert {"numpy", "onnxruntime"} <= set(needed)
    tag = f"cp{python.replace('.', '')}"
    assert not [w for p in PYTHONS for w in wheels(p, "x86_64") if f"-{tag}-" in w.file]


def test_no_address_and_small() -> None:
    for target in TARGETS:
        assert not re.search(r"://|index|\.org|\.io|find-links", text(target))
        assert len(text(target)) < 12_000
    assert not re.search(r"://|\.org|\.io", LOCK.read_text())


def test_the_toolkits_own_pythons_get_what_its_lock_says() -> None:
    core = (ROOT / "requirements-core.lock").read_text()
    pins = [Requirement(line.rstrip(" \\")) for line in core.splitlines() if line[:1].isalpha()]
    for python in ("3.11", "3.12", "3.13"):
        environment = {"python_version": python, "python_full_version": f"{python}.1"}
        locked = {p.name: str(p.specifier) for p in pins if p.marker is None or p.marker.evaluate(environment)}
        for machine in TARGETS["linux"]:
            for wheel in wheels(python, machine):
                assert locked[wheel.name] == f"=={wheel.version}"
                assert f"--hash=sha256:{wheel.sha256}" in core


def test_nothing_that_these_need_is_left_out() -> None:
    """By what the wheels that run here say of themselves."""
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    names = {wheel.name for wheel in wheels(here, platform.machine())}
    for name in names:
        for need in map(Requirement, metadata.requires(name) or []):
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                assert normalized(need.name) in names


def test_pip_installs_them_here_and_refuses_another_hash(tmp_path: Path) -> None:
    (target,) = [name for name, machines in TARGETS.items() if machines == (platform.machine(),)]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    command += ["--no-index", "--find-links", str(core_wheels()), "--no-compile"]

    def install(requirements: str, where: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "requirements.txt").write_text(requirements)
        arguments = ["--target", str(tmp_path / where), "-r", str(tmp_path / "requirements.txt")]
        return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=300, check=False)

    done = install(text(target), "good")
    assert done.returncode == 0, done.stderr
    found = {normalized(d.metadata["Name"]): d.version for d in metadata.distributions(path=[str(tmp_path / "good")])}
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert found == {wheel.name: wheel.version for wheel in wheels(here, platform.machine())}
    pinned = next(w.sha256 for w in wheels(here, platform.machine()) if w.name == "onnxruntime")
    refused = install(text(target).replace(pinned, pinned[::-1]), "bad")
    assert refused.returncode != 0
    assert "DO NOT MATCH THE HASHES" in refused.stderr
    assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("a-1-py3-none-any.whl", (0, 0)),
        ("a-1-cp39-cp39-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl", (2, 27)),
        ("a-1-cp39-cp39-manylinux_2_17_aarch64.manylinux2014_aarch64.whl", (2, 17)),
        ("a-1-cp39-abi3-manylinux2014_x86_64.whl", (2, 17)),
        ("a-1-cp27-cp27mu-manylinux1_x86_64.whl", (2, 5)),
    ],
)
def test_the_glibc_of_a_wheel(file: str, expected: tuple[int, int]) -> None:
    assert Wheel(file, "").glibc == expected


def test_the_glibc_of_a_target_is_the_highest() -> None:
    for target, machines in TARGETS.items():
        every = [wheel.glibc for machine in machines for python in PYTHONS for wheel in wheels(python, machine)]
        assert glibc(target) == ".".join(map(str, max(every)))
        assert f"glibc {glibc(target)} or newer" in text(target).splitlines()[0]
    for file in ("a-1-cp39-cp39-musllinux_1_2_x86_64.whl", "a-1-cp39-cp39-win_amd64.whl"):
        with pytest.raises(ValueError, match="expected a manylinux"):
            assert Wheel(file, "").glibc


def test_cpu_features_are_those_that_numpy_was_built_for() -> None:
    features = cpu_features()
    assert set(features) == {"x86_64", "aarch64"}
    assert set(cpu_features("linux-aarch64")) == {"aarch64"}
    baseline = np._core._multiarray_umath.__cpu_baseline__  # type: ignore[attr-defined]  # numpy's only list of it
    if platform.machine() == "x86_64":
        assert baseline == ["X86_V2"]
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next(line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features")))
    assert set(features[platform.machine()]) <= set(flags), "numpy runs here"
    for cpu in CPUS:
        if cpu.architecture == ARM64:
            assert set(features["aarch64"]) <= set(cpu.flags)


@pytest.mark.parametrize("ask", [text, glibc, cpu_features])
def test_a_target_that_does_not_exist(ask: Any) -> None:
    with pytest.raises(UsageError, match="expected one of linux, linux-x86_64, linux-aarch64"):
        ask("windows")


# how the lock is made


def _entry(name: str, requires: list[str]) -> dict[str, Any]:
    return {"metadata": {"name": name, "requires_dist": requires}}


def test_a_lock_without_something_that_is_needed_is_refused() -> None:
    environment = {"python_version": "3.9", "sys_platform": "linux", "extra": ""}
    optional = ['Other; python_version < "3.9"', 'more; extra == "tests"', 'windows; sys_platform == "win32"']
    lock._check_whole([_entry("onnxruntime", ["Proto_Buf>3", *optional]), _entry("proto.buf", [])], environment)
    with pytest.raises(MissingError, match=r"onnxruntime needs backport.* with Python 3\.9"):
        lock._check_whole([_entry("onnxruntime", ['backport; python_version < "3.10"'])], environment)


def test_a_hash_that_the_core_lock_does_not_have_is_refused() -> None:
    lock._check_locked(wheels("3.11", "aarch64"))
    with pytest.raises(MissingError, match=r"no hash of numpy-1-py3-none-any\.whl"):
        lock._check_locked([Wheel("numpy-1-py3-none-any.whl", "0" * 64)])


def test_the_lock_is_as_its_maker_writes_it() -> None:
    found = json.loads(LOCK.read_text())
    assert {machine: list(pythons) for machine, pythons in found["wheels"].items()} == {
        machine: list(PYTHONS) for machine in TARGETS["linux"]
    }
    for pythons in found["wheels"].values():
        for files in pythons.values():
            assert list(files) == sorted(files)
            assert all(re.fullmatch(r"[0-9a-f]{64}", value) for value in files.values())
