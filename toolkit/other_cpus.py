"""An exported file on other CPUs, beside this machine: the same images, run under emulation and compared."""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.artifact import CpuRecord
from toolkit.emulation.cpus import CPUS, TOO_OLD
from toolkit.emulation.run import Task, prepared, run_all, this_machine
from toolkit.errors import ModelError, UsageError
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
    from toolkit.verification.report import OutputReport, VerificationReport

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
        inputs: rows as the files take them, by input name, each (n, ...).
        targets: what is known to be right, by output name; may be empty.
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
    tasks = [{output.name: output.task for output in file.outputs} for file in report.files]
    labels = [_labels(file.outputs, targets) for file in report.files]
    checks = check_files(paths, inputs, labels, machines, step, tasks)
    files = [file.on_cpus(found, limits) for file, found in zip(report.files, checks, strict=True)]
    return dataclasses.replace(report, files=files)


def _labels(outputs: Sequence[OutputReport], targets: Mapping[str, NDArray[Any]]) -> NDArray[np.integer] | None:
    """The true classes of a file's rows, if they are known and its outputs are one answer of classes or yes and no."""
    answers = {output.of: output.task for output in outputs}
    (name, task), *more = answers.items()
    return targets[name].reshape(-1) if not more and task in ("classification", "binary") and name in targets else None


def check_files(
    paths: Sequence[Path],
    inputs: Mapping[str, NDArray[Any]],
    labels: Sequence[NDArray[np.integer] | None],
    machines: Sequence[Machine],
    step: Step,
    tasks: Sequence[Mapping[str, str]] | None = None,
) -> list[list[CpuCheck]]:
    """For each file one comparison a machine.

    The file itself goes through the predictor, in batches and one by one. What goes into a softmax or sigmoid at its
    end is read from a copy that has that among its outputs, whose other outputs must be the file's own, bit for bit, on
    every CPU.

    Args:
        paths: the files.
        inputs: rows as all of them take them, by input name; a file that takes raw pixels or the same divided by 255
            gets the other form of uint8 pixels.
        labels: for each file its rows' true classes, shape (n,), or None.
        machines: the other CPUs.
        step: told how many rows are done.
        tasks: for each file the tasks of its outputs; those that are not named are classes.

    Raises:
        ModelError: a file does not take these rows, or what is before its softmax cannot be read.
        CpuError: a CPU cannot run it.
    """
    from toolkit.conversion.logits import with_logits

    found: list[list[CpuCheck]] = []
    jobs, copies = [], []
    for number, path in enumerate(paths):
        data = path.read_bytes()
        copy = with_logits(data, str(path))
        predictor = Predictor(path)
        given = _given(predictor, inputs, path)
        int8 = predictor.file.kind == "int8"
        copies.append((copy, int8 and not copy.computed_scales and not copy.float_sums))
        # What is dynamically quantized must not see other rows of its batch; the predictor knows that by itself. A
        # fixed batch is filled by the predictor; the bare runtime gets whole ones.
        fixed = predictor.batch
        batch = fixed or (1 if copy.computed_scales else BATCH)
        rows = len(next(iter(given.values())))
        limit = rows if int8 else min(rows, FLOAT_LOGITS)
        if fixed:
            limit -= limit % fixed
            if not limit:
                raise ModelError(f"{path} takes {fixed} rows at a time; compare that many on other CPUs, or more")
        alone = fixed or 1
        whole = BATCH - BATCH % fixed if fixed and fixed < BATCH else batch if fixed else BATCH
        jobs += [
            Task(f"{number}", data, given, "predictor", whole, 1 if int8 else FLOAT_PIECES),
            Task(f"{number} logits", copy.data, given, "runtime", batch, limit=limit),
            Task(f"{number} alone", data, given, "predictor", 1, limit=ALONE),
            Task(
                f"{number} logits alone", copy.data, given, "runtime", alone, limit=min(ALONE, limit) // alone * alone
            ),
        ]
    here, *there = run_all([this_machine(), *machines], jobs, step, "rows on all CPUs")
    for number, (path, (copy, exact)) in enumerate(zip(paths, copies, strict=True)):
        ours = _answers(here, number, path, copy.inner)
        checks = []
        for machine, answers in zip(machines, there, strict=True):
            theirs = _answers(answers, number, path, copy.inner)
            kinds = tasks[number] if tasks else None
            where = _where(machine, answers)
            checks.append(compare_cpu(where, ours, theirs, labels[number], exact=exact, tasks=kinds))
        found.append(checks)
    return found


def _given(predictor: Predictor, inputs: Mapping[str, NDArray[Any]], path: Path) -> dict[str, NDArray[Any]]:
    wanted = {info.name: info.dtype for info in predictor.inputs}
    if wanted.keys() != inputs.keys():
        raise ModelError(f"{path} calls its inputs {', '.join(wanted)}, unlike the others; export it again")
    given = {}
    for name, array in inputs.items():
        pixels = array.dtype == np.uint8 and wanted[name] == np.float32
        given[name] = array.astype(np.float32) / np.float32(255) if pixels else array
    return given


def _answers(answers: Answers, number: int, path: Path, inner: Mapping[str, str]) -> CpuAnswers:
    file, copy = answers.tasks[f"{number}"], answers.tasks[f"{number} logits"]
    alone, copy_alone = answers.tasks[f"{number} alone"], answers.tasks[f"{number} logits alone"]
    for whole, derived in ((file, copy), (alone, copy_alone)):
        for output in inner:
            if whole[f"output/{output}"][: len(derived[output])].tobytes() != derived[output].tobytes():
                raise ModelError(
                    f"the logits of {path} cannot be read: with them among its outputs it answers otherwise; this is "
                    "a limit of this version"
                )
    return CpuAnswers(
        file.get("labels"),
        {name: file[f"output/{name}"] for name in inner},
        {name: copy[name] for name in inner.values()},
        alone.get("labels"),
        {name: alone[f"output/{name}"] for name in inner},
        {name: copy_alone[name] for name in inner.values()},
    )


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
