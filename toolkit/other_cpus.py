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
    from collections.abc import Iterator, Sequence
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
ALONE = 100  # images that are run one by one as well: that takes the runtime's other kernels
FLOAT_LOGITS = 1000  # images whose float32 logits are looked at; their gates need none
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
    images: NDArray[np.uint8],
    labels: NDArray[np.integer],
    machines: Sequence[Machine],
    limits: Limits,
    note: Note,
    step: Step,
) -> VerificationReport:
    """A verification report with its files' rows and verdicts on other CPUs.

    Args:
        report: what verification found on this machine.
        folder: where its files are.
        images: uint8 of shape (n, 28, 28).
        labels: true labels, shape (n,).
        machines: the other CPUs; none: the report as it is.
        limits: what is accepted.
        note: told what is being done.
        step: told how many images are done.

    Raises:
        ModelError: see `check_files`.
        CpuError: a CPU cannot run a file at all.
    """
    if not machines:
        return report
    note(f"Running on other CPUs: {', '.join(machine.name for machine in machines)}")
    paths = [folder / file.name for file in report.files]
    checks = check_files(paths, images, labels, machines, step)
    files = [file.on_cpus(found, limits) for file, found in zip(report.files, checks, strict=True)]
    return dataclasses.replace(report, files=files)


def check_files(
    paths: Sequence[Path],
    images: NDArray[np.uint8],
    labels: NDArray[np.integer],
    machines: Sequence[Machine],
    step: Step,
) -> list[list[CpuCheck]]:
    """For each file one comparison a machine.

    The file itself goes through the predictor, in batches and one by one. Its logits are read from a copy that has
    them among its outputs, whose probabilities must be the file's own, bit for bit, on every CPU.

    Raises:
        ModelError: a file is no model of these images, or its logits cannot be read.
        CpuError: a CPU cannot run it.
    """
    from toolkit.conversion.logits import with_logits

    tasks, given = [], {}
    kinds = {}
    for number, path in enumerate(paths):
        data = path.read_bytes()
        copy = with_logits(data, str(path))
        predictor = Predictor(path)
        dtype = predictor.input_dtype
        if dtype.str not in given:
            pixels = images if dtype == np.uint8 else images.astype(np.float32) / np.float32(255)
            given[dtype.str] = {predictor.input_name: pixels}
        inputs = given[dtype.str]
        if predictor.input_name not in inputs:
            raise ModelError(f"{path} calls its input {predictor.input_name!r}, unlike the others; export it again")
        exact = predictor.file.kind == "int8" and not copy.computed_scales and not copy.float_sums
        # A file that gives its logits by itself needs no copy, and nothing to prove of one.
        derived = None if copy.data is data else predictor.output_names[0]
        kinds[number] = (path, copy.output, derived, exact)
        int8 = predictor.file.kind == "int8"
        # What is dynamically quantized must not see other images of its batch; the predictor knows that by itself.
        batch = 1 if copy.computed_scales else BATCH
        tasks += [
            Task(f"{number}", data, inputs, "predictor", BATCH, 1 if int8 else FLOAT_PIECES),
            Task(f"{number} logits", copy.data, inputs, "runtime", batch, limit=None if int8 else FLOAT_LOGITS),
            Task(f"{number} alone", data, inputs, "predictor", 1, limit=ALONE),
            Task(f"{number} logits alone", copy.data, inputs, "runtime", 1, limit=ALONE),
        ]
    here, *there = run_all([this_machine(), *machines], tasks, step, "images on all CPUs")
    found: list[list[CpuCheck]] = []
    for number, (path, logits, probabilities, exact) in kinds.items():
        ours = _answers(here, number, path, logits, probabilities)
        checks = []
        for machine, answers in zip(machines, there, strict=True):
            theirs = _answers(answers, number, path, logits, probabilities)
            checks.append(compare_cpu(_where(machine, answers), ours, theirs, labels, exact=exact))
        found.append(checks)
    return found


def _answers(answers: Answers, number: int, path: Path, logits: str, probabilities: str | None) -> CpuAnswers:
    file, copy = answers.tasks[f"{number}"], answers.tasks[f"{number} logits"]
    alone, copy_alone = answers.tasks[f"{number} alone"], answers.tasks[f"{number} logits alone"]
    for whole, derived in ((file, copy), (alone, copy_alone)):
        if probabilities is None:
            continue
        if whole["probabilities"][: len(derived[logits])].tobytes() != derived[probabilities].tobytes():
            raise ModelError(
                f"the logits of {path} cannot be read: with them among its outputs it answers otherwise; this is a "
                "limit of this version"
            )
    return CpuAnswers(
        file["labels"],
        {"probabilities": file["probabilities"]},
        {logits: copy[logits]},
        alone["labels"],
        {"probabilities": alone["probabilities"]},
        {logits: copy_alone[logits]},
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
