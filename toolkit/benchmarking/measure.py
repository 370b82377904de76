"""The whole benchmark of an artifact: every file side by side with the others, each in processes of its own."""

from __future__ import annotations

import statistics
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.benchmarking.clock import describe_clock
from toolkit.benchmarking.conditions import between, read_conditions
from toolkit.benchmarking.feed import InputReport
from toolkit.benchmarking.footprint import summarize_memory, summarize_starts
from toolkit.benchmarking.host import describe_host
from toolkit.benchmarking.intervals import Ratio, paired_ratio
from toolkit.benchmarking.noise import judge_noise
from toolkit.benchmarking.opened import PREDICTOR
from toolkit.benchmarking.plan import BenchSettings
from toolkit.benchmarking.report import BenchReport, FileRatio, FileReport, Results
from toolkit.benchmarking.running import Run
from toolkit.benchmarking.scenarios import (
    batches,
    cpu_time,
    energy,
    fixed_rate,
    single_stream,
    size,
    sustained,
    throughput,
)
from toolkit.benchmarking.subject import Subject
from toolkit.errors import UsageError
from toolkit.predictor import model_files
from toolkit.progress import silent_step

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from toolkit.progress import Step

__all__ = ["measure", "medians_of", "run_bench"]


def run_bench(
    path: str | os.PathLike[str],
    settings: BenchSettings | None = None,
    step: Step = silent_step,
    *,
    factory: str = PREDICTOR,
) -> BenchReport:
    """Measure every model file behind a path, in interleaved rounds.

    Ctrl-C ends it early: the report then holds what was measured until then and says so.

    Args:
        path: an artifact folder, a bundle, or an ``.onnx`` or ``.ort`` file.
        settings: what to measure and how long.
        step: told of the progress.
        factory: see `toolkit.benchmarking.opened.Opened`.

    Raises:
        MissingError, ModelError, CorruptArtifactError: see `Predictor`.
        UsageError: settings that do not suit the machine or the model.
        ToolkitError: every file crashed or hung.
        KeyboardInterrupt: before anything was measured.
    """
    settings = settings or BenchSettings()
    return measure([Subject(file, settings, factory) for file in model_files(path)], path, settings, step)


def measure(subjects: Sequence[Subject], path: object, settings: BenchSettings, step: Step) -> BenchReport:
    """See `run_bench`; of any files.

    Args:
        subjects: the files; what they gave by round is in them afterwards.
        path: that the user named, for errors.
        settings: what to measure and how long.
        step: told of the progress.
    """
    first = read_conditions()  # before all else: the load average should not be our own
    host = describe_host()
    cores = host.usable_cores
    if cores is not None and settings.threads > cores:
        raise UsageError(
            f"threads is {settings.threads}, but this process may use {cores} cores; give {cores} or fewer"
        )
    created = datetime.now(UTC).isoformat(timespec="seconds")
    clock = describe_clock()
    run = Run(subjects, settings, cores, step)
    try:
        run.look(path)
        run.measure()
    finally:
        run.close()
    conditions = between(first, read_conditions())
    return BenchReport(
        created=created,
        interrupted=run.interrupted,
        settings=settings,
        host=host,
        clock=clock,
        conditions=conditions,
        noise=judge_noise(_control(run), run.probe(), _switches(run), conditions),
        files=tuple(_file(run, subject) for subject in run.subjects),
        ratios=_ratios(run),
    )


def medians_of(subject: Subject) -> list[float]:
    """The median time of one row in each round of the single stream, in ns."""
    return [
        statistics.median(sample for taken in takes for sample in taken["samples"])
        for takes in subject.rounds.get("single-stream", [])
    ]


def _control(run: Run) -> Ratio | None:
    if run.control is None:
        return None
    again, first = medians_of(run.control), medians_of(run.subjects[0])[:: run.control_every]
    return paired_ratio(again, first) if again and first else None


def _switches(run: Run) -> float | None:
    """Involuntary context switches a second."""
    takes = [
        taken for subject in run.subjects for round_ in subject.rounds.get("single-stream", []) for taken in round_
    ]
    seconds = sum(taken["ns"] for taken in takes) / 1e9
    return sum(taken["switches"] for taken in takes) / seconds if seconds > 0 else None


def _ratios(run: Run) -> tuple[FileRatio, ...]:
    """Every file beside the float32 one, or else the last."""
    base = next((subject for subject in run.subjects if subject.file.kind == "float32"), run.subjects[-1])
    return tuple(
        FileRatio(subject.name, base.name, paired_ratio(medians_of(subject), medians_of(base)))
        for subject in run.subjects
        if subject is not base and medians_of(subject) and medians_of(base)
    )


def _file(run: Run, subject: Subject) -> FileReport:
    wanted, took, starts = run.settings.scenarios, subject.rounds, run.starts[subject]
    cores, sweep = run.cores_of.get(subject), run.sweeps.get(subject)
    single = took.get("single-stream")
    results = Results(
        single_stream=single_stream.summarize(single, subject.warm_ups) if single else None,
        fixed_rate=fixed_rate.summarize(took["fixed-rate"]) if "fixed-rate" in took else None,
        batches=batches.summarize(took["batches"]) if "batches" in took else None,
        throughput=throughput.summarize(cores.found, cores.cores, cores.refused) if cores else None,
        sustained=sustained.summarize(run.sustained[subject]) if subject in run.sustained else None,
        cold_start=summarize_starts(starts, warmup=1) if starts and "cold-start" in wanted else None,
        memory=summarize_memory(starts) if starts and "memory" in wanted else None,
        cpu_time=cpu_time.summarize(took["cpu-time"]) if "cpu-time" in took else None,
        energy=energy.summarize(took["energy"]) if "energy" in took else None,
        size=size.look(subject.file.path) if "size" in wanted else None,
        sweep=sweep.report() if sweep else None,
    )
    look = subject.look
    return FileReport(
        name=subject.name,
        kind=subject.file.kind,
        sha256=look.get("sha256") or subject.file.sha256,
        size_bytes=Path(subject.file.path).stat().st_size,
        inputs=tuple(_input(given) for given in look.get("inputs", ())),
        call=look.get("call"),
        processes=subject.processes,
        failed=subject.failed,
        scenarios=results,
    )


def _input(given: dict[str, object]) -> InputReport:
    lists = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    return InputReport(**lists)  # type: ignore[arg-type]  # the worker sends its fields
