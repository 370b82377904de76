"""An exported file on other CPUs, beside this machine: the same rows, run under emulation and compared."""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.emulation.cpus import CPUS, TOO_OLD
from toolkit.emulation.run import Task, prepared, run_all, this_machine
from toolkit.errors import ModelError, UsageError
from toolkit.manifest_records import CpuRecord
from toolkit.predictor import Predictor
from toolkit.verification.cpus import CpuAnswers, CpuCheck, Emulated, compare_cpu

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from toolkit.emulation.cpus import Cpu
    from toolkit.emulation.run import Answers, Machine
    from toolkit.progress import Note, Step
    from toolkit.verification.gates import Limits
    from toolkit.verification.report import VerificationReport

__all__ = ["ORDER", "OtherCpus", "check_files", "check_report", "emulators", "records"]

ORDER = [cpu.name for cpu in (*CPUS, *TOO_OLD)]
"""Names of the CPUs, oldest first within each architecture."""

BATCH = 500
ALONE = 100  # rows that are run one by one as well: that takes the runtime's other kernels
FLOAT_LOGITS = 1000  # rows whose float32 logits are looked at; their gates need none
# Float arithmetic is slow under emulation (a fused multiply-add is done in software), so float32 files are shared out.
FLOAT_PIECES = 4


@dataclass(frozen=True)
class OtherCpus:
    """What to run elsewhere.

    Attributes:
        cpus: other CPUs.
        images: how many of the test images, from the first; None for all.
    """

    cpus: tuple[Cpu, ...] = ()
    images: int | None = None

    def __post_init__(self) -> None:
        if self.images is not None and self.images < 1:
            raise UsageError(f"--cpu-images is {self.images}, expected 1 or more")
        if self.images is not None and not self.cpus:
            raise UsageError("--cpu-images does nothing without --cpu; add --cpu, or drop it")


@contextmanager
def emulators(wanted: OtherCpus, note: Note, step: Step) -> Iterator[list[Machine]]:
    """Everything that some CPUs need, fetched if need be and kept as it is meanwhile.

    Raises:
        MissingError, StorageError, UsageError: see `toolkit.emulation.run.prepared`.
    """
    if not wanted.cpus:
        yield []
        return
    with prepared(wanted.cpus, note, step) as machines:
        yield machines


def check_report(
    report: VerificationReport,
    folder: Path,
    inputs: Mapping[str, NDArray[Any]],
    targets: Mapping[str, NDArray[Any]],
    machines: Sequence[Machine],
    limits: Limits,
    note: Note,
    step: Step,
) -> VerificationReport:
    """A verification report with its files' rows and verdicts on other CPUs.

    Args:
        report: what verification found on this machine.
        folder: where its files are.
        inputs: rows as the files take them, by input name.
        targets: what is known to be right, by output name.
        machines: the other CPUs; none: the report as it is.
        limits: what is accepted.
        note: told what is being done.
        step: told how many rows are done.

    Raises:
        ModelError: see `check_files`.
        CpuError: a CPU cannot run a file at all.
    """
    if not machines:
        return report
    note(f"Running on other CPUs: {', '.join(machine.name for machine in machines)}")
    paths = [folder / file.name for file in report.files]
    checks = check_files(paths, inputs, targets, machines, step)
    files = [file.on_cpus(found, limits) for file, found in zip(report.files, checks, strict=True)]
    return dataclasses.replace(report, files=files)


@dataclass(frozen=True)
class _File:
    """A file that is run.

    Attributes:
        path: where it is.
        tasks: what its outputs mean.
        inner: by output name, the tensor to compare bit by bit; empty where the bare runtime cannot be asked.
        derived: they are read from a copy.
        exact: whether they promise to be the same everywhere.
        scores: the output that labels are of, or None.
    """

    path: Path
    tasks: dict[str, str]
    inner: dict[str, str]
    derived: bool
    exact: bool
    scores: str | None


def check_files(
    paths: Sequence[Path],
    inputs: Mapping[str, NDArray[Any]],
    targets: Mapping[str, NDArray[Any]],
    machines: Sequence[Machine],
    step: Step,
) -> list[list[CpuCheck]]:
    """For each file one comparison a machine, of all outputs.

    The file itself goes through the predictor, in batches and one by one. What is in front of its softmax or sigmoid is
    read from a copy that has it among its outputs; the copy's other outputs must be the file's own, bit for bit, on
    every CPU.

    Args:
        paths: the files.
        inputs: rows by input name, as the files take them.
        targets: what is known to be right, by output name.
        machines: the other CPUs.
        step: told how many rows are done.

    Raises:
        ModelError: a file does not take these rows, or its logits cannot be read.
        CpuError: a CPU cannot run it.
    """
    from toolkit.conversion.logits import with_logits

    tasks, files = [], []
    for number, path in enumerate(paths):
        data = path.read_bytes()
        copy = with_logits(data, str(path))
        predictor = Predictor(path)
        given = _rows(predictor, inputs)
        int8, size = predictor.file.kind == "int8", predictor.batch or 1
        tasks += [
            Task(f"{number}", data, given, "predictor", BATCH, 1 if int8 else FLOAT_PIECES),
            Task(f"{number} alone", data, given, "predictor", 1, limit=ALONE),
        ]
        # What is dynamically quantized must not see other rows of its batch: the predictor takes care of that by
        # itself, and of filling up batches of a fixed size. For the bare runtime it is done here, where it can be.
        inner = copy.inner if size == 1 or not copy.computed_scales else {}
        if inner:
            limit = None if int8 else max(size, FLOAT_LOGITS // size * size)
            batch = 1 if copy.computed_scales else BATCH if predictor.batch is None else size
            whole = {name: _filled(array, size) for name, array in given.items()}
            tasks.append(Task(f"{number} logits", copy.data, whole, "runtime", batch, limit=limit))
        if inner and size == 1:
            tasks.append(Task(f"{number} logits alone", copy.data, given, "runtime", 1, limit=ALONE))
        scores = None if predictor.classes is None else predictor.output_names[0]
        derived = copy.data is not data  # else there is nothing to prove of a copy
        files.append(_File(path, predictor.task_of, inner, derived, int8 and copy.exact, scores))
    here, *there = run_all([this_machine(), *machines], tasks, step, "rows on all CPUs")
    found: list[list[CpuCheck]] = []
    for number, file in enumerate(files):
        ours, known = _answers(here, number, file), targets.get(file.scores or "")
        checks = []
        for machine, answers in zip(machines, there, strict=True):
            theirs, labels = _answers(answers, number, file), None if known is None else known.reshape(-1)
            where = _where(machine, answers)
            checks.append(compare_cpu(where, ours, theirs, labels, exact=file.exact, tasks=file.tasks))
        found.append(checks)
    return found


def _rows(predictor: Predictor, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The rows that a file takes.

    Raises:
        ModelError: there are none for an input of it.
    """
    names = [info.name for info in predictor.inputs]
    if missing := [name for name in names if name not in inputs]:
        raise ModelError(
            f"{predictor.file.path} takes an input {missing[0]!r}, expected {', '.join(map(repr, inputs))} as the "
            "others; export it again"
        )
    return {name: inputs[name] for name in names}


def _filled(rows: NDArray[Any], size: int) -> NDArray[Any]:
    """Rows filled up with the last one to whole batches, as the predictor does."""
    return np.concatenate([rows, np.repeat(rows[-1:], -len(rows) % size, axis=0)]) if size > 1 else rows


def _answers(answers: Answers, number: int, file: _File) -> CpuAnswers:
    whole, alone = _Said(answers, f"{number}", file), _Said(answers, f"{number} alone", file)
    inner = _inner(answers.tasks.get(f"{number} logits"), whole, file)
    alone_inner = _inner(answers.tasks.get(f"{number} logits alone"), alone, file)
    return CpuAnswers(whole.labels, whole.outputs, inner, alone.labels, alone.outputs, alone_inner)


class _Said:
    """What the predictor said there of one task's rows."""

    def __init__(self, answers: Answers, key: str, file: _File) -> None:
        found = answers.tasks[key]
        self.outputs = {name: found[f"output/{name}"] for name in file.tasks}
        self.labels = found.get("labels") if file.scores else None


def _inner(found: Mapping[str, NDArray[Any]] | None, said: _Said, file: _File) -> dict[str, NDArray[Any]]:
    """The tensors to compare bit by bit, none if there are none.

    Raises:
        ModelError: the copy that they are from answers otherwise than the file.
    """
    from toolkit.conversion.logits import check_copy

    if found is None:
        return {}
    count = min(len(array) for array in (*found.values(), *said.outputs.values()))
    if file.derived:
        first = {name: array[:count] for name, array in said.outputs.items()}
        check_copy(str(file.path), first, {name: found[name][:count] for name in first})
    return {tensor: found[tensor][:count] for tensor in file.inner.values()}


def _where(machine: Machine, answers: Answers) -> Emulated:
    cpu = machine.cpu
    if cpu is None:
        raise ValueError("this machine is no emulated CPU")
    return Emulated(cpu.name, cpu.architecture, machine.emulator, answers.python, answers.numpy, answers.onnxruntime)


def records(report: VerificationReport) -> dict[str, list[CpuRecord]]:
    """The manifest's section about other CPUs: file name to one record a CPU; empty where none was run."""
    return {file.name: [_record(check) for check in file.cpus] for file in report.files if file.cpus}


def _record(check: CpuCheck) -> CpuRecord:
    known = {field.name for field in dataclasses.fields(CpuRecord)}
    values: dict[str, Any] = {**dataclasses.asdict(check), **dataclasses.asdict(check.where)}
    return CpuRecord(**{name: value for name, value in values.items() if name in known})
