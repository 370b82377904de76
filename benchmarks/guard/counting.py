"""The figures that are held against bounds, by group and name, each a whole number."""

from __future__ import annotations

import os
import platform
import py_compile
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.guard import callgrind
from toolkit.errors import MissingError, ToolkitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["GROUPS", "ROOT", "Found", "Subject", "environment"]

ROOT = Path(__file__).parents[2]
_CHILD = Path(__file__).with_name("child.py")
_MODEL = "model.int8.onnx"


@dataclass(frozen=True)
class Subject:
    """What is looked at.

    Attributes:
        code: a folder with ``toolkit/predictor.py``, ``toolkit/selftest.py`` and ``toolkit/__init__.py``.
        artifact: an artifact folder.
    """

    code: Path
    artifact: Path


@dataclass(frozen=True)
class Found:
    """The figures of one group.

    Attributes:
        figures: by name.
        names: what a figure counts, where that can be told, by the figure's name.
        missing: why nothing was counted, or None.
    """

    figures: dict[str, int] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    missing: str | None = None


def environment() -> dict[str, str]:
    """What the number of instructions depends on, besides our own code."""
    build = [platform.python_version(), platform.python_compiler(), *platform.libc_ver()]
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    return {
        "machine": platform.machine() + (", AVX2" if " avx2 " in flags else ""),
        "python": ".".join(platform.python_version_tuple()[:2]),
        "build": " ".join(build),
        "numpy": metadata.version("numpy"),
        "onnxruntime": metadata.version("onnxruntime"),
        "valgrind": callgrind.version() or "none",
    }


@contextmanager
def _staged(subject: Subject) -> Iterator[Path]:
    """A folder with copies of what a start reads, the code compiled, so that no path or date of ours matters."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "staged"
        (folder / "toolkit").mkdir(parents=True)
        (folder / "artifact").mkdir()
        try:
            for name in ("__init__.py", "predictor.py"):
                shutil.copy(subject.code / "toolkit" / name, folder / "toolkit")
                py_compile.compile(str(folder / "toolkit" / name), doraise=True)
            for name in ("manifest.json", _MODEL):
                shutil.copy(subject.artifact / name, folder / "artifact")
            shutil.copy(_CHILD, folder)
        except OSError as error:
            raise MissingError(f"cannot copy {error.filename}: {error.strerror}; give other folders") from error
        except py_compile.PyCompileError as error:
            raise ToolkitError(f"{error.file} is no Python: {error.exc_value}; correct it") from error
        yield folder


# All of it: an environment's size and names move a program's stack and change what it does.
_ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "OPENBLAS_NUM_THREADS": "1",
    "ORT_DISABLE_TELEMETRY": "1",  # the runtime is imported before the predictor, which says so too
    "PATH": os.defpath,
    "PYTHONHASHSEED": "0",
    "PYTHONPATH": ".",
}


def _child(folder: Path, way: str) -> list[str]:
    """What the child prints, line by line."""
    done = subprocess.run(
        [sys.executable, _CHILD.name, way],
        cwd=folder,
        env=_ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise ToolkitError(f"the predictor cannot be counted: {reason}; see that it runs")
    return done.stdout.splitlines()


def _graph(subject: Subject) -> Found:
    """Nodes of the int8 file, and of the graph that the runtime makes of it."""
    try:
        import onnx

        from toolkit.conversion.logits import operators_as_run
    except ImportError as error:
        return Found(missing=f"{error.name} is not installed (extra 'train')")
    path = subject.artifact / _MODEL
    if not path.exists():
        raise MissingError(f"{path} does not exist; give an artifact with an int8 model")
    data = path.read_bytes()
    run = operators_as_run(data, str(path))
    nodes = [node.op_type for node in onnx.load_from_string(data).graph.node]
    return Found(
        {"nodes in the file": len(nodes), "nodes as run": run.total()},
        {"nodes in the file": nodes, "nodes as run": sorted(run.elements())},
    )


def _start(subject: Subject) -> Found:
    with _staged(subject) as folder:
        modules = _child(folder, "start")
    return Found({"modules": len(modules)}, {"modules": modules})


def _calls(subject: Subject) -> Found:
    return _lines(subject, "calls")


def _stays(subject: Subject) -> Found:
    return _lines(subject, "stays")


def _lines(subject: Subject, way: str) -> Found:
    with _staged(subject) as folder:
        lines = [line.rpartition(" ") for line in _child(folder, way)]
    return Found({name: int(number) for name, _, number in lines})


def _instructions(subject: Subject) -> Found:
    if reason := callgrind.why_not():
        return Found(missing=reason)
    with _staged(subject) as folder:
        command = [sys.executable, _CHILD.name, "phases", str(callgrind.FEW), str(callgrind.MANY)]
        costs = callgrind.count(command, folder, _ENVIRONMENT, folder.parent)
    return Found(callgrind.figures(costs))


def _bytes(subject: Subject) -> Found:
    """Sizes of what goes onto a device."""
    from toolkit.bundle.contents import gather

    files = [subject.artifact / name for name in (_MODEL, "model.onnx", "golden.npz")]
    files += [subject.code / "toolkit" / name for name in ("predictor.py", "selftest.py")]
    try:
        sizes = {path.name: path.stat().st_size for path in files}
    except OSError as error:
        raise MissingError(f"{error.filename}: {error.strerror}; give an artifact that was exported") from error
    bundle = gather(subject.artifact).files
    sizes["a bundle, beside its model"] = sum(len(data) for name, data in bundle.items() if name != _MODEL)
    return Found(sizes)


def _wheel(_: Subject) -> Found:
    """The toolkit's own wheel."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", scratch]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            return Found(missing=f"hatchling cannot build it: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
        wheel = next(Path(scratch).glob("*.whl"))
        return Found({"the toolkit": wheel.stat().st_size})


GROUPS: dict[str, Callable[[Subject], Found]] = {
    "instructions": _instructions,
    "calls": _calls,
    "stays": _stays,
    "start": _start,
    "graph": _graph,
    "bytes": _bytes,
    "wheel": _wheel,
}
"""How the figures of each group are had, in the order of the table."""
