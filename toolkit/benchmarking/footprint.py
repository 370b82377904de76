"""What the model costs beside its speed: a cold start, peak memory, and room on the disk."""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

import toolkit
from toolkit.benchmarking.host import distribution_of
from toolkit.errors import ToolkitError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ColdStart",
    "FREE_SIZE",
    "Installed",
    "Memory",
    "PARTS",
    "START_TIMEOUT",
    "Start",
    "WORK_CALLS",
    "ask_child",
    "installed_size",
    "start_fresh",
    "summarize_memory",
    "summarize_starts",
]

CHILD = Path(__file__).with_name("cold_start_child.py")

WORK_CALLS = 1000
"""Single rows that a child answers before its memory is read again; of a large model as many as fit into 2 s."""

START_TIMEOUT = 60.0
"""Seconds after which a child counts as hanging: tens of times what a start from a slow SD card takes."""

FREE_SIZE = 64
"""Size of free dimensions (besides the batch) unless another is asked for."""

PARTS = ("interpreter", "numpy_import", "predictor_import", "onnxruntime_import", "session_open", "first_run")


@dataclass(frozen=True)
class Start:
    """One fresh process, from the moment it was spawned to its first answer.

    Attributes:
        parts_ns: one a name of `PARTS`, in ns; together they are the whole time.
        peaks_bytes: peak resident memory after each of these but the first, and after ``work_calls`` more rows.
        memory_source: "VmHWM", or "ru_maxrss" where there is no /proc (on Linux that one includes the peak of
            the process that spawned it).
        without_bytecode: modules whose bytecode was not cached, so that Python compiled them in this start.
    """

    parts_ns: tuple[int, ...]
    peaks_bytes: tuple[int, ...]
    memory_source: str
    without_bytecode: tuple[str, ...]
    work_calls: int = WORK_CALLS

    @property
    def total_ns(self) -> int:
        """From spawn to first answer."""
        return sum(self.parts_ns)


@dataclass(frozen=True)
class ColdStart:
    """Medians over several fresh processes, with the files in the page cache.

    Attributes:
        n: processes.
        warmup: processes started before them and discarded.
        total_ms: from spawn to first answer.
        interpreter_ms, numpy_import_ms, predictor_import_ms, onnxruntime_import_ms: each its own median.
        session_open_ms: read the file, check it, open the session.
        first_run_ms: the first row.
        without_bytecode: as in `Start`.
        samples: every start.
    """

    n: int
    warmup: int
    total_ms: float
    interpreter_ms: float
    numpy_import_ms: float
    predictor_import_ms: float
    onnxruntime_import_ms: float
    session_open_ms: float
    first_run_ms: float
    without_bytecode: tuple[str, ...]
    samples: tuple[Start, ...]


@dataclass(frozen=True)
class Memory:
    """Peak resident memory of a process that does nothing but run the model: medians over several fresh processes.

    Attributes:
        import_bytes: when Python, numpy, the predictor and onnxruntime are imported.
        load_bytes: when the session is open.
        first_run_bytes: after the first row.
        work_bytes: after ``work_calls`` more rows.
        work_calls: the least of all processes.
        source: "VmHWM", or "ru_maxrss", see `Start`.
    """

    import_bytes: int
    load_bytes: int
    first_run_bytes: int
    work_bytes: int
    work_calls: int
    source: str


@dataclass(frozen=True)
class Installed:
    """Room that a package takes on disk: all files that its installer recorded; None is unknown."""

    package: str
    size_bytes: int | None


def start_fresh(model: str, *, threads: int, free: int = FREE_SIZE, timeout: float = START_TIMEOUT) -> Start:
    """Start a Python process that opens the model and answers one row.

    Args:
        model: an ``.onnx`` file.
        threads: threads that one run may use.
        free: size of free dimensions.
        timeout: seconds after which the process is killed.

    Raises:
        ToolkitError: it crashed, hung, or answered something else.
    """
    if not sys.executable:
        raise ToolkitError("Python does not know its own executable, so no fresh process can be timed; use a venv")
    folder = str(Path(toolkit.__file__).parents[1])
    # -P keeps the current folder out of sys.path, as it is for an installed program.
    command = [sys.executable, "-P", str(CHILD), model, str(threads), folder, str(WORK_CALLS), str(free)]
    spawned = monotonic_ns()
    answer = ask_child(command, timeout)
    try:
        stamps = [spawned, *answer["stamps"]]
        parts = tuple(b - a for a, b in pairwise(stamps))
        start = Start(
            parts,
            tuple(int(peak) for peak in answer["peaks"]),
            str(answer["memory_source"]),
            tuple(answer["without_bytecode"]),
            int(answer["work_calls"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ToolkitError(f"the cold-start process left out a figure ({error!r}); {_AGAIN}") from error
    if len(parts) != len(PARTS) or min(parts) < 0:
        raise ToolkitError(f"the cold-start process gave the times {parts}, expected {len(PARTS)} from 0 up; {_AGAIN}")
    if len(start.peaks_bytes) != len(PARTS):
        raise ToolkitError(
            f"the cold-start process gave {len(start.peaks_bytes)} peaks, expected {len(PARTS)}; {_AGAIN}"
        )
    return start


_AGAIN = "run the command again, and report it if it stays"


def ask_child(command: Sequence[str], timeout: float) -> dict[str, Any]:
    """Run a process that prints one JSON object on its last line.

    Args:
        command: program and arguments.
        timeout: seconds after which it is killed.

    Raises:
        ToolkitError: it could not start, crashed, hung, or printed something else.
    """
    try:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolkitError(
            f"the cold-start process gave no answer in {timeout:g} s and was killed; "
            "free the machine of other work and run again"
        ) from error
    except OSError as error:
        raise ToolkitError(
            f"the cold-start process cannot be started: {error}; check the Python installation"
        ) from error
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        how = _signal_name(-done.returncode) if done.returncode < 0 else f"exit code {done.returncode}"
        raise ToolkitError(
            f"the cold-start process ended with {how}: {said[-1][:200] if said else 'it said nothing'}; "
            "check that the model and onnxruntime work with: toolkit predict"
        )
    try:
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except (ValueError, IndexError, TypeError) as error:
        raise ToolkitError(f"the cold-start process printed {done.stdout[-80:]!r}, expected JSON; {_AGAIN}") from error


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def summarize_starts(starts: Sequence[Start], warmup: int) -> ColdStart:
    """Medians of some starts."""
    columns = zip(*(start.parts_ns for start in starts), strict=True)
    parts = dict(zip(PARTS, (statistics.median(column) / 1e6 for column in columns), strict=True))
    return ColdStart(
        n=len(starts),
        warmup=warmup,
        total_ms=statistics.median(start.total_ns for start in starts) / 1e6,
        interpreter_ms=parts["interpreter"],
        numpy_import_ms=parts["numpy_import"],
        predictor_import_ms=parts["predictor_import"],
        onnxruntime_import_ms=parts["onnxruntime_import"],
        session_open_ms=parts["session_open"],
        first_run_ms=parts["first_run"],
        without_bytecode=starts[-1].without_bytecode,
        samples=tuple(starts),
    )


def summarize_memory(starts: Sequence[Start]) -> Memory:
    """Medians of the same starts."""
    peaks = [int(statistics.median(column)) for column in zip(*(s.peaks_bytes for s in starts), strict=True)]
    return Memory(
        import_bytes=peaks[2],
        load_bytes=peaks[3],
        first_run_bytes=peaks[4],
        work_bytes=peaks[5],
        work_calls=min(start.work_calls for start in starts),
        source=starts[0].memory_source,
    )


def installed_size(module: str) -> Installed:
    """Room that the package of a module takes on the disk, in bytes."""
    found = distribution_of(module)
    files = found.files if found else None
    if not files:
        return Installed(module, None)  # a system package, whose installer keeps its list elsewhere
    size = 0
    for file in files:
        path = Path(str(file.locate()))
        if path.is_file():
            size += path.stat().st_size
    return Installed(module, size)
