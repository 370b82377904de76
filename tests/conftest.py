"""What tests share: the real data, a small artifact made by the installed command, and that command itself."""

from __future__ import annotations

import dataclasses
import fcntl
import functools
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.warm import Warm
from toolkit.data import FashionMnist, load

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.zoo.example import Example

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "exported" / "fashion-mnist"
TOOLKIT = Path(sys.executable).parent / "toolkit"


LONGEST = (
    "test_other_cpus.py",
    "test_resume.py",
    "test_tune.py",
    "test_quantize.py",
    "test_bundle_wheel.py",
    "test_sweep.py",
    "test_packaging.py",
    "test_poisoned_layers.py",
    "test_device_benchmark.py",
    "test_architectures.py",
)
"""Begun first, so that no worker is left with one of them when the other has nothing to do any more."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


def pytest_report_header() -> str:
    names = ("numpy", "onnxruntime", "onnx", "tensorflow", "keras", "tf2onnx", "typer")
    return ", ".join(f"{name} {metadata.version(name)}" for name in names)


@dataclass(frozen=True)
class Finished:
    """A command that ended: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def error_line(self) -> str:
        """The one line that says what was wrong; there is exactly one, and no traceback."""
        assert "Traceback" not in self.err + self.out
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        return lines[0]


_WITH_KERAS = ("run", "train", "sweep", "export", "tune", "verify", "inspect", "report")
"""Commands that import TensorFlow, which takes most of their time on models as small as tests have."""


@functools.cache
def _warm() -> Warm:
    return Warm()


def toolkit(
    *arguments: object,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    fresh: bool = False,
    seconds: float = 300,
) -> Finished:
    """Run the installed ``toolkit`` command.

    Args:
        arguments: its arguments.
        cwd: the folder it is started in; None: the project's.
        env: variables it has besides ours.
        fresh: it has to import TensorFlow by itself. Else it may be forked from a process that has; see `tests.warm`.
        seconds: that it may take.
    """
    command = [str(TOOLKIT), *map(str, arguments)]
    environment = {**os.environ, **(env or {})}
    if not fresh and hasattr(os, "fork") and arguments and arguments[0] in _WITH_KERAS and _warm().fits(environment):
        code, out, err = _warm().run(command, cwd or ROOT, environment, seconds)
        return Finished(code, *(io.TextIOWrapper(io.BytesIO(said)).read() for said in (out, err)))
    done = subprocess.run(
        command,
        cwd=cwd or ROOT,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=seconds,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def fashion_mnist() -> FashionMnist:
    """The real data set."""
    return load()


@pytest.fixture(scope="session")
def zoo() -> Callable[[str], Example]:
    """Builds a model of the zoo by its name, once a session."""

    @functools.cache
    def build(name: str) -> Example:
        from tests.zoo import ZOO

        return ZOO[name]()

    return build


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> tuple[Path, Finished]:
    """`toolkit run` on the real data with two epochs: the artifact folder and what the command said.

    Half a minute, so the first worker that needs it makes it, and the others wait.
    """
    alone = not hasattr(request.config, "workerinput")  # else pytest-xdist gives each worker a folder in a common one
    place = (tmp_path_factory.getbasetemp() if alone else tmp_path_factory.getbasetemp().parent) / "whole run"
    folder, said = place / "small", place / "said.json"
    place.mkdir(exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            finished = toolkit("run", "--epochs", 2, "--output", folder, fresh=True)
            said.write_text(json.dumps(dataclasses.asdict(finished)))
    return folder, Finished(**json.loads(said.read_text()))


@pytest.fixture(scope="session")
def trained(whole_run: tuple[Path, Finished]) -> Path:
    """A verified artifact (two epochs); tests that change it copy it first."""
    folder, finished = whole_run
    assert finished.code == 0, finished.err
    return folder


NAME_IN_C = "second-model"
"""Of the artifact `in_c`; in C no name can be like that."""


@pytest.fixture(scope="session")
def in_c(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference artifact with its model in C and compiled for this CPU; tests that change it copy it first."""
    folder = tmp_path_factory.mktemp("c") / NAME_IN_C
    shutil.copytree(REFERENCE, folder)
    done = toolkit("export", folder, "--quantize", "--c", "--native")
    assert done.code == 0, done.err
    assert "give the bits of model.int8.onnx on all 10,000 rows" in done.err
    assert "it gives the bits of model.int8.onnx, and its labels, on all 10,000 rows" in done.err
    return folder


@dataclass(frozen=True)
class Bundles:
    """One bundle in its three forms; tests that change one copy it first."""

    folder: Path
    zip: Path
    wheel: Path


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """Made of the reference artifact by the installed command."""
    place = tmp_path_factory.mktemp("bundles")
    done = toolkit("bundle", REFERENCE, "-o", place / "device", "--zip", "--wheel")
    assert done.code == 0, done.err
    return Bundles(place / "device", place / "device.zip", next(place.glob("*.whl")))
