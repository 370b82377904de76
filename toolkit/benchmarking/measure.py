"""The whole benchmark of an artifact: every scenario once a round, the files side by side, each in its own process."""

from __future__ import annotations

import statistics
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from toolkit.benchmarking.feed import InputReport
from toolkit.benchmarking.footprint import installed_size, start_fresh, summarize_starts
from toolkit.benchmarking.host import describe_host
from toolkit.benchmarking.latency import clock_overhead_ns
from toolkit.benchmarking.opened import PREDICTOR
from toolkit.benchmarking.plan import LOAD, BenchSettings
from toolkit.benchmarking.report import BenchReport, FileReport, Results
from toolkit.benchmarking.scenarios import batches, cpu_time, fixed_rate, single_stream
from toolkit.benchmarking.subject import Subject
from toolkit.errors import ToolkitError, UsageError
from toolkit.predictor import model_files
from toolkit.progress import silent_step

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    from toolkit.progress import Step

__all__ = ["run_bench"]

TURNS = 4
"""Single calls of a round are taken in so many turns, so that the files meet the same noise."""


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
    host = describe_host()  # first: its load average should not be our own
    cores = host.usable_cores
    if cores is not None and settings.threads > cores:
        raise UsageError(
            f"threads is {settings.threads}, but this process may use {cores} cores; give {cores} or fewer"
        )
    created = datetime.now(UTC).isoformat(timespec="seconds")
    run = _Run([Subject(file, settings, factory) for file in model_files(path)], settings, step)
    try:
        run.look(path)
        interrupted = run.rounds()
    finally:
        run.close()
    return BenchReport(
        created=created,
        interrupted=interrupted,
        settings=settings,
        host=host,
        clock_overhead_ns=clock_overhead_ns(),
        files=tuple(run.report(subject) for subject in run.subjects),
        installed=tuple(installed_size(module) for module in ("numpy", "onnxruntime")),
    )


class _Run:
    """The files of one benchmark and what is asked of them."""

    def __init__(self, subjects: Sequence[Subject], settings: BenchSettings, step: Step) -> None:
        self.subjects, self.settings, self.step = list(subjects), settings, step
        self.starts: dict[Subject, list[Any]] = {subject: [] for subject in subjects}

    def close(self) -> None:
        for subject in self.subjects:
            subject.close()

    def alive(self) -> list[Subject]:
        return [subject for subject in self.subjects if subject.failed is None]

    def look(self, path: object) -> None:
        """Open every file once, in a process that may crash or hang; all are measured as the slowest allows."""
        for subject in self.subjects:
            subject.begin_round()
        alive = self.alive()
        if not alive:
            raise ToolkitError("; ".join(str(subject.failed) for subject in self.subjects))
        if self.settings.free_size is not None and not any(subject.look["free"] for subject in alive):
            raise UsageError(f"{path} has no free dimension besides the batch, so a size for it does nothing; drop it")
        self.seconds = max(subject.seconds for subject in alive)
        row_bytes = max(subject.look["row_bytes"] for subject in alive)
        self.calls = self.settings.calls_of(self.seconds)
        self.sizes = self.settings.batches_of(self.seconds, row_bytes, alive[0].look["batch"])
        slowest = []
        for subject in alive:
            taken = subject.ask("single-stream", self.seconds * self.calls, calls=max(10, self.calls // 10))
            slowest += [statistics.fmean(taken["samples"]) / 1e9] if taken else []
            subject.warm_ups.clear()
            subject.close()
        self.rate = self.settings.rate or LOAD / max(slowest, default=self.seconds)

    def _requests(self) -> Iterator[tuple[str, float, list[dict[str, Any]]]]:
        """Of each scenario that workers take: its name, the seconds of a request, and the requests of a round."""
        wanted, settings = self.settings.scenarios, self.settings
        turns = min(TURNS, self.calls)
        calls = -(-self.calls // turns)
        count = max(10, round(self.rate * settings.rate_seconds))
        yield from (
            (name, seconds, requests)
            for name, seconds, requests in (
                ("single-stream", self.seconds * calls, [{"calls": calls}] * turns),
                ("fixed-rate", count / self.rate, [{"rate": self.rate, "count": count}]),
                (
                    "batches",
                    settings.batch_seconds + self.seconds * self.sizes[-1],
                    [{"size": size, "seconds": settings.batch_seconds} for size in self.sizes],
                ),
                ("cpu-time", self.seconds * self.calls, [{"calls": self.calls}]),
            )
            if name in wanted
        )

    def rounds(self) -> bool:
        """All rounds; whether Ctrl-C ended them early."""
        plan = list(self._requests())
        cold = {"cold-start", "memory"} & set(self.settings.scenarios)
        total = self.settings.rounds * (sum(len(requests) for _, _, requests in plan) + 1 + bool(cold)) + bool(cold)
        done = 0

        def tell() -> None:
            nonlocal done
            self.step(done, total, "measuring")
            done += 1

        try:
            if cold:
                tell()
                self._start_each(discard=True)
            for number in range(self.settings.rounds):
                self._round(number, plan, tell)
                if cold:
                    tell()
                    self._start_each()
            self.step(total, total, "measuring")
        except KeyboardInterrupt:
            if not any(subject.rounds for subject in self.subjects):
                raise
            return True
        return False

    def _round(
        self, number: int, plan: Sequence[tuple[str, float, list[dict[str, Any]]]], tell: Callable[[], None]
    ) -> None:
        tell()
        order = self.alive()
        for subject in order if number % 2 else reversed(order):
            subject.begin_round()
        for name, seconds, requests in plan:
            takes: dict[Subject, list[dict[str, Any] | None]] = {subject: [] for subject in order}
            for at, request in enumerate(requests):
                tell()
                for subject in order if (number + at) % 2 else reversed(order):
                    takes[subject].append(subject.ask(name, seconds, **request))
            for subject in order:
                subject.keep(name, takes[subject])

    def _start_each(self, *, discard: bool = False) -> None:
        for subject in self.alive():
            start = start_fresh(
                subject.file.path, threads=self.settings.threads, free=subject.free, timeout=self.settings.timeout
            )
            if not discard:
                self.starts[subject].append(start)

    def report(self, subject: Subject) -> FileReport:
        took = subject.rounds
        starts = self.starts[subject]
        results = Results(
            single_stream=single_stream.summarize(took["single-stream"], subject.warm_ups)
            if "single-stream" in took
            else None,
            fixed_rate=fixed_rate.summarize(took["fixed-rate"]) if "fixed-rate" in took else None,
            batches=batches.summarize(took["batches"]) if "batches" in took else None,
            cpu_time=cpu_time.summarize(took["cpu-time"]) if "cpu-time" in took else None,
            cold_start=summarize_starts(starts, warmup=1) if starts else None,
        )
        return FileReport(
            name=subject.name,
            kind=subject.file.kind,
            sha256=subject.look.get("sha256") or subject.file.sha256,
            size_bytes=_size(subject.file.path),
            inputs=tuple(InputReport(**{**given, "shape": tuple(given["shape"])}) for given in subject.look["inputs"])
            if subject.look
            else (),
            call=subject.look.get("call"),
            processes=subject.processes,
            failed=subject.failed,
            scenarios=results,
        )


def _size(path: str) -> int:
    from pathlib import Path

    return Path(path).stat().st_size
