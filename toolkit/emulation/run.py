"""Runs models over arrays on emulated CPUs, and on this one in the very same way.

`prepared` fetches what is missing, once; `run_all` starts one child process (`toolkit.emulation.child`) for each piece
of work, as many at once as there are cores. Everything is dictionaries of arrays by name, so a model may have any
number of inputs and outputs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit import predictor
from toolkit.emulation import child, emulator, store
from toolkit.emulation import root as roots
from toolkit.emulation.board import make_board
from toolkit.emulation.starting import environment, python_command
from toolkit.errors import CpuError, MissingError
from toolkit.publishing import storage_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from toolkit.emulation.cpus import Cpu
    from toolkit.progress import Note, Step

__all__ = ["Answers", "Machine", "Task", "prepared", "run_all", "this_machine"]

START_SECONDS, ROW_SECONDS = 300.0, 2.0  # how long a child may take; measured: 3 s, and 0.02 s a float32 row


@dataclass(frozen=True)
class Machine:
    """A CPU that programs can be started on.

    Attributes:
        cpu: which one; None for this machine's own.
        emulator: its name and version; "" where there is none.
        program: the emulator's path, or "".
        python: the interpreter to start on it.
        imports: the folders that numpy and onnxruntime are imported from.
        system: the root behind its board's files, or None for the host's own.
    """

    cpu: Cpu | None
    emulator: str
    program: str
    python: Path
    imports: tuple[Path, ...]
    system: Path | None = None

    @property
    def name(self) -> str:
        """What people call it."""
        return self.cpu.name if self.cpu else "this machine"


@dataclass(frozen=True)
class Task:
    """One model over rows of the inputs.

    Attributes:
        key: the caller's name for it.
        model: an ONNX file's bytes.
        inputs: arrays by input name, all with the same number of rows.
        through: "runtime" for every output of the graph as it is, "predictor" for what the predictor
            says: each output as "output/NAME", and "labels" and "probabilities" where the file names its classes.
        batch: rows a run.
        pieces: how many children may share the rows. Tasks in one piece share a child, as starting one takes seconds.
        limit: only so many rows, from the first.
    """

    key: str
    model: bytes
    inputs: Mapping[str, NDArray[Any]]
    through: str
    batch: int
    pieces: int = 1
    limit: int | None = None

    @property
    def rows(self) -> int:
        """How many."""
        rows = len(next(iter(self.inputs.values())))
        return rows if self.limit is None else min(rows, self.limit)

    def shares(self) -> list[tuple[int, int]]:
        """First and last row (not included) of each piece; whole batches, so that pieces change no answer."""
        edges = np.linspace(0, -(-self.rows // self.batch), self.pieces + 1).astype(int) * self.batch
        return list(pairwise(np.unique(edges.clip(max=self.rows)).tolist()))


@dataclass(frozen=True)
class Answers:
    """What a machine said: arrays by output name for each task's key, and the versions and features seen there."""

    tasks: dict[str, dict[str, NDArray[Any]]]
    python: str
    numpy: str
    onnxruntime: str
    features: tuple[str, ...]


def this_machine() -> Machine:
    """This machine's own CPU, run in a child process like the others."""
    return Machine(None, "", "", Path(sys.executable), _own_imports())


def _own_imports() -> tuple[Path, ...]:
    found = []
    for name in ("numpy", "onnxruntime"):
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            raise MissingError(f"{name} is not installed here; install it with: pip install {name}")
        found.append(Path(spec.origin).parents[1])
    return tuple(dict.fromkeys(found))


@contextmanager
def prepared(cpus: Sequence[Cpu], note: Note, step: Step) -> Iterator[list[Machine]]:
    """Machines for some CPUs; what they need is fetched first if it is not there, and stays as it is meanwhile.

    Raises:
        MissingError: something needed cannot be had; says what.
        StorageError, UsageError: it cannot be kept.
    """
    host = emulator.host_architecture()
    architectures = sorted({cpu.architecture for cpu in cpus})
    foreign = [a for a in architectures if a != host]
    while True:
        with store.locked(alone=False, note=note) as place:
            found = {a: emulator.find(a, place) for a in architectures}
            if all(found.values()) and all(roots.is_ready(a, place) for a in foreign):
                yield [_machine(cpu, found[cpu.architecture], host, place) for cpu in cpus]
                return
        with store.locked(alone=True, note=note) as place:
            for architecture in architectures:
                if emulator.find(architecture, place) is None:
                    emulator.fetch(architecture, place, note)
            for architecture in foreign:
                roots.prepare(architecture, place, note, step)


def _machine(cpu: Cpu, found: emulator.Emulator | None, host: str, place: Path) -> Machine:
    if found is None:
        raise MissingError(f"no emulator for {cpu.architecture}; run again")
    if cpu.architecture == host:
        # The interpreter itself, not a virtual environment's link: nothing of the environment but the two is needed.
        return Machine(cpu, found.name, found.program, Path(sys.executable).resolve(), _own_imports())
    root = roots.root_of(cpu.architecture, place)
    return Machine(cpu, found.name, found.program, root.python, (root.site,), root.system)


def run_all(machines: Sequence[Machine], tasks: Sequence[Task], step: Step, what: str) -> list[Answers]:
    """Run all tasks on all machines.

    Args:
        machines: in any order.
        tasks: of any sizes; their inputs may be shared.
        step: told how many rows are done.
        what: shown with it.

    Returns:
        One `Answers` a machine, in their order.

    Raises:
        CpuError: a CPU that the wheels do not run on, or that is not the one it should be.
        StorageError: the disk is full.
    """
    total = len(machines) * sum(task.rows for task in tasks)
    with tempfile.TemporaryDirectory(prefix="toolkit-emulation-") as scratch:
        try:
            pool = _Pool(Path(scratch), total, step, what)
            return pool.run(machines, tasks)
        except OSError as error:
            raise storage_error(error, Path(scratch)) from error


@dataclass(frozen=True)
class _Job:
    """What one child does."""

    place: int
    machine: Machine
    name: str
    inputs: Path
    runs: list[dict[str, Any]]


def _facts(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        facts = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(facts, dict):
            return facts
    return {}


class _Pool:
    """The children of one `run_all`."""

    def __init__(self, scratch: Path, total: int, step: Step, what: str) -> None:
        self.scratch, self.total, self.step, self.what = scratch, total, step, what
        self.done, self.failed = 0, False
        self.lock = threading.Lock()
        self.children: set[subprocess.Popen[str]] = set()

    def run(self, machines: Sequence[Machine], tasks: Sequence[Task]) -> list[Answers]:
        shutil.copy(predictor.__file__, self.scratch / "predictor.py")
        shutil.copy(child.__file__, self.scratch / "child.py")
        inputs: dict[int, Path] = {}
        for number, task in enumerate(tasks):
            if id(task.inputs) not in inputs:
                inputs[id(task.inputs)] = self.scratch / f"inputs-{number}.npz"
                child.save(str(inputs[id(task.inputs)]), task.inputs)
            (self.scratch / f"model-{number}.onnx").write_bytes(task.model)
        for number, machine in enumerate(machines):
            board = self.scratch / f"board-{number}"
            board.mkdir()
            if machine.cpu is not None:
                make_board(machine.cpu, board, machine.system)
        jobs = [
            _Job(place, machine, name, path, runs)
            for place, machine in enumerate(machines)
            for name, path, runs in self._shares(place, tasks, inputs)
        ]
        jobs.sort(key=lambda job: len(job.runs))  # the pieces of what takes long come first
        self.step(0, self.total, self.what)
        cores = len(os.sched_getaffinity(0))
        with ThreadPoolExecutor(cores) as executor:
            try:
                futures = [executor.submit(self._start, job) for job in jobs]
                for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                    future.result()
            except BaseException:
                self._stop()
                executor.shutdown(cancel_futures=True)
                raise
        return [self._collect(place, machine, tasks) for place, machine in enumerate(machines)]

    def _shares(
        self, place: int, tasks: Sequence[Task], inputs: Mapping[int, Path]
    ) -> Iterator[tuple[str, Path, list[dict[str, Any]]]]:
        """What each child of a machine does: a name, its inputs and its runs."""
        together: dict[Path, list[dict[str, Any]]] = {}
        for number, task in enumerate(tasks):
            runs = [
                {
                    "model": str(self.scratch / f"model-{number}.onnx"),
                    "through": task.through,
                    "batch": task.batch,
                    "first": first,
                    "last": last,
                    "answers": str(self.scratch / f"answers-{place}-{number}-{piece}.npz"),
                }
                for piece, (first, last) in enumerate(task.shares())
            ]
            path = inputs[id(task.inputs)]
            if task.pieces == 1:
                together.setdefault(path, []).extend(runs)
            else:
                for piece, run in enumerate(runs):
                    yield f"{place}-{number}-{piece}", path, [run]
        for path, runs in together.items():
            yield f"{place}-{path.stem}", path, runs

    def _stop(self) -> None:
        with self.lock:
            self.failed = True
            for process in self.children:
                process.kill()

    def _start(self, started: _Job) -> None:
        machine, name = started.machine, started.name
        job = self.scratch / f"job-{name}.json"
        facts = self.scratch / f"facts-{name}.json"
        content = {
            "import_from": [str(self.scratch), *map(str, machine.imports)],
            "inputs": str(started.inputs),
            "facts": str(facts),
            "runs": started.runs,
        }
        job.write_text(json.dumps(content), encoding="utf-8")
        board = self.scratch / f"board-{started.place}"
        command = python_command(machine, board, ["-I", "-S", "-B", str(self.scratch / "child.py"), str(job)])
        with (self.scratch / f"errors-{name}.txt").open("w+", errors="replace") as errors:
            with self.lock:
                if self.failed:
                    return
                process = subprocess.Popen(
                    command,
                    env=environment(machine),
                    cwd=self.scratch,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                )
                self.children.add(process)
            rows = sum(run["last"] - run["first"] for run in started.runs)
            late = threading.Timer(START_SECONDS + ROW_SECONDS * rows, process.kill)
            late.start()
            try:
                for line in process.stdout or ():
                    if found := re.fullmatch(r"done (\d+)\n", line):
                        self._advance(int(found[1]))
                code = process.wait()
            finally:
                late.cancel()
                process.kill()
                process.wait()
                if process.stdout:
                    process.stdout.close()
                with self.lock:
                    self.children.discard(process)
            errors.seek(0)
            if code and not self.failed:
                raise _explain(machine, code, errors.read(), _facts(facts))

    def _advance(self, rows: int) -> None:
        with self.lock:
            self.done += rows
            self.step(self.done, self.total, self.what)

    def _collect(self, place: int, machine: Machine, tasks: Sequence[Task]) -> Answers:
        found: dict[str, dict[str, NDArray[Any]]] = {}
        for number, task in enumerate(tasks):
            parts = [
                child.load(str(self.scratch / f"answers-{place}-{number}-{piece}.npz"))
                for piece in range(len(task.shares()))
            ]
            found[task.key] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        facts = _facts(next(iter(sorted(self.scratch.glob(f"facts-{place}-*.json")))))
        seen = tuple(facts["features"])
        if machine.cpu is not None:
            _check_identity(machine, seen)
        return Answers(found, facts["python"], facts["numpy"], facts["onnxruntime"], seen)


def _check_identity(machine: Machine, seen: tuple[str, ...]) -> None:
    """An emulator that leaves something out says so nowhere; what runs there must look like that CPU."""
    cpu = machine.cpu
    if cpu is None:
        return
    wrong = [f"no {name}" for name in cpu.has if name not in seen] + [name for name in cpu.lacks if name in seen]
    if wrong:
        raise CpuError(
            f"{machine.emulator} shows a {cpu.name} with {', '.join(wrong)}, so it is another CPU; "
            "use another version of qemu"
        )


def _explain(machine: Machine, code: int, errors: str, facts: dict[str, Any]) -> CpuError:
    lines = [
        line.strip()
        for line in errors.splitlines()
        if line.strip() and not line.startswith("qemu") and "TCG doesn't support" not in line
    ]
    last = lines[-1].removeprefix("error: ") if lines else ""
    where = f"{machine.name} ({machine.emulator})" if machine.cpu else machine.name
    versions = ", ".join(f"{name} {version}" for name, version in roots.wanted_wheels().items())
    killed = -code if code < 0 else code - 128 if code > 128 else 0
    advice = "leave it out of --cpu" if machine.cpu else "install them again"
    if killed == signal.SIGILL:
        during = "numpy" if not facts else "onnxruntime" if "onnxruntime" not in facts else "the model"
        return CpuError(
            f"{where}: illegal instruction at {during}: the wheels ({versions}) need more than this CPU has; {advice}"
        )
    if killed:
        with suppress(ValueError):
            last = f"killed by {signal.Signals(killed).name}"
    return CpuError(f"{where}: {last[:300] or f'exit code {code}'} ({versions}); {advice}")
