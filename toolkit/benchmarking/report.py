"""The whole benchmark of an artifact, and the report that it leaves."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.benchmarking.footprint import (
    ColdStart,
    Installed,
    Start,
    installed_size,
    start_fresh,
    summarize_starts,
)
from toolkit.benchmarking.host import Host, describe_host
from toolkit.benchmarking.latency import (
    MIN_SAMPLES,
    Latency,
    Throughput,
    clock_overhead_ns,
    random_images,
    summarize_latency,
    summarize_throughput,
    thread_counts,
    time_batches,
    time_calls,
)
from toolkit.benchmarking.rounds import NOISE_BOUND, Measurement, run_rounds
from toolkit.errors import UsageError
from toolkit.predictor import ModelFile, Predictor, model_files
from toolkit.progress import silent_step

if TYPE_CHECKING:
    import os

    from toolkit.progress import Step

__all__ = ["BenchReport", "BenchSettings", "FORMAT", "FileReport", "InputReport", "ThreadRun", "run_bench"]

FORMAT = 1

SWEEP_BATCH = 256


@dataclass(frozen=True)
class BenchSettings:
    """How long to measure.

    Attributes:
        rounds: rounds kept; everything is measured once in each.
        calls: single images a round, for each file.
        threads: threads of one run, for everything but the thread sweep.
        batches: batch sizes of the throughput.
        batch_seconds: time a round spends on each batch size.
        seed: of the random images.

    Raises:
        UsageError: a value that cannot be measured with.
    """

    rounds: int = 10
    calls: int = 2000
    threads: int = 1
    batches: tuple[int, ...] = (1, 4, 16, 64, 256, 1024)
    batch_seconds: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rounds < 2:
            raise UsageError(f"rounds is {self.rounds}, expected 2 or more: one round cannot tell how noisy it is")
        if self.calls < 1 or self.rounds * self.calls < MIN_SAMPLES:
            raise UsageError(
                f"{self.rounds} rounds of {self.calls} calls are too few for a p99.9, "
                f"expected {MIN_SAMPLES} calls or more in all; raise --calls or --rounds"
            )
        if self.threads < 1:
            raise UsageError(f"threads is {self.threads}, expected 1 or more")
        if SWEEP_BATCH not in self.batches or min(self.batches) < 1:
            raise UsageError(
                f"batches are {self.batches}, expected sizes of 1 or more, with {SWEEP_BATCH} for the thread sweep"
            )

    @property
    def sweep_calls(self) -> int:
        """Single images a round in the thread sweep: a quarter, but enough for a p99.9."""
        return min(self.calls, max(self.calls // 4, -(-MIN_SAMPLES // self.rounds)))

    @classmethod
    def quick(cls) -> BenchSettings:
        """A first look in a few seconds."""
        return cls(rounds=3, calls=1000, batch_seconds=0.01)

    @property
    def warmup(self) -> int:
        """Calls discarded as each round begins: after them the caches hold this model, not the last one."""
        return max(1, self.calls // 10)


@dataclass(frozen=True)
class InputReport:
    """What the models were fed with."""

    dtype: str
    shape: tuple[int, ...]
    seed: int
    note: str = "seeded random images; the time does not depend on the pixels' values"


@dataclass(frozen=True)
class ThreadRun:
    """One thread count of the sweep: single images, and batches of `SWEEP_BATCH`."""

    threads: int
    latency: Latency
    throughput: Throughput


@dataclass(frozen=True)
class FileReport:
    """All figures of one model file.

    Attributes:
        name: the file's name.
        kind: "int8" or "float32".
        sha256, size_bytes: of the file.
        input: what it was fed with.
        latency, throughput: with ``settings.threads`` threads.
        thread_sweep: thread counts rising, ``settings.threads`` among them.
        cold_start: fresh process to first answer, and its memory.
    """

    name: str
    kind: str
    sha256: str
    size_bytes: int
    input: InputReport
    latency: Latency
    throughput: tuple[Throughput, ...]
    thread_sweep: tuple[ThreadRun, ...]
    cold_start: ColdStart


@dataclass(frozen=True)
class BenchReport:
    """A benchmark of one or more files on one machine, taken in the same rounds.

    Attributes:
        created: when it began, UTC, ISO 8601.
        settings: how it was measured.
        host: on what.
        clock_overhead_ns: what reading the clock adds to every sample; it is not subtracted.
        files: int8 first.
        installed: numpy and onnxruntime.
    """

    created: str
    settings: BenchSettings
    host: Host
    clock_overhead_ns: float
    files: tuple[FileReport, ...]
    installed: tuple[Installed, ...]

    @property
    def noisy_figures(self) -> tuple[tuple[str, float], ...]:
        """(figure, spread between rounds) of those that exceed `NOISE_BOUND`, the worst first."""
        found = []
        for file in self.files:
            if file.latency.noisy:
                found.append((f"{file.kind} latency", file.latency.spread))
            found += [(f"{file.kind} throughput at batch {t.batch}", t.spread) for t in file.throughput if t.noisy]
            for run in file.thread_sweep:
                if run.threads == self.settings.threads:
                    continue
                if run.latency.noisy:
                    found.append((f"{file.kind} latency with {run.threads} threads", run.latency.spread))
                if run.throughput.noisy:
                    found.append((f"{file.kind} throughput with {run.threads} threads", run.throughput.spread))
        return tuple(sorted(found, key=lambda item: -item[1]))

    def to_json(self, *, samples: bool = True) -> dict[str, Any]:
        """The report as plain values.

        Args:
            samples: with every sample, or the figures alone.
        """
        value = asdict(self)
        value["settings"]["warmup"] = self.settings.warmup
        for file, report in zip(value["files"], self.files, strict=True):
            file["latency"]["noisy"] = report.latency.noisy
            # The headline's samples are in the report already.
            file["thread_sweep"] = [
                _without_samples(run) if run["threads"] == self.settings.threads else run
                for run in file["thread_sweep"]
            ]
        noisy = [{"figure": figure, "spread": spread} for figure, spread in self.noisy_figures]
        head = {"format": FORMAT, "noise_bound": NOISE_BOUND, "noisy_figures": noisy}
        return head | (value if samples else _without_samples(value))


def _without_samples(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_samples(v) for k, v in value.items() if k not in ("samples_ns", "samples")}
    if isinstance(value, list | tuple):
        return [_without_samples(v) for v in value]
    return value


class _Subject:
    """One file with everything that is measured of it."""

    def __init__(self, file: ModelFile, settings: BenchSettings, counts: tuple[int, ...]) -> None:
        data = file.read()
        self.file, self.settings = file, settings
        self.sha256, self.size = hashlib.sha256(data).hexdigest(), len(data)
        self.latency: dict[int, Measurement[tuple[int, ...]]] = {}
        self.batches: dict[tuple[int, int], Measurement[tuple[int, ...]]] = {}
        for threads in counts:
            predictor = Predictor(file.path, threads=threads)
            headline = threads == settings.threads
            calls = settings.calls if headline else settings.sweep_calls
            batches = settings.batches if headline else (SWEEP_BATCH,)
            images = random_images(predictor.input_dtype, predictor.input_shape, max(batches), settings.seed)
            self.latency[threads] = Measurement(
                partial(time_calls, predictor.classify, images[:32], calls=calls, warmup=settings.warmup)
            )
            for batch in batches:
                self.batches[threads, batch] = Measurement(
                    partial(time_batches, predictor.predict_batch, images[:batch], seconds=settings.batch_seconds)
                )
            self.input = InputReport(str(predictor.input_dtype), predictor.input_shape, settings.seed)
        self.starts: Measurement[Start] = Measurement(partial(start_fresh, file.path, threads=settings.threads))

    def report(self) -> FileReport:
        headline = self.settings.threads
        return FileReport(
            name=Path(self.file.path).name,
            kind=self.file.kind,
            sha256=self.sha256,
            size_bytes=self.size,
            input=self.input,
            latency=self._latency(headline),
            throughput=tuple(self._throughput(headline, batch) for batch in self.settings.batches),
            thread_sweep=tuple(
                ThreadRun(threads, self._latency(threads), self._throughput(threads, SWEEP_BATCH))
                for threads in self.latency
            ),
            cold_start=summarize_starts(self.starts.results, warmup=1),
        )

    def _latency(self, threads: int) -> Latency:
        # The beginning of every round, and the whole of the first one.
        measurement = self.latency[threads]
        discarded = self.settings.warmup * (self.settings.rounds + 1) + sum(len(c) for c in measurement.discarded)
        return summarize_latency(measurement.results, discarded)

    def _throughput(self, threads: int, batch: int) -> Throughput:
        measurement = self.batches[threads, batch]
        discarded = self.settings.rounds + 1 + sum(len(runs) for runs in measurement.discarded)
        return summarize_throughput(measurement.results, batch, discarded)


def run_bench(
    path: str | os.PathLike[str], settings: BenchSettings | None = None, step: Step = silent_step
) -> BenchReport:
    """Measure every model file behind a path, in interleaved rounds.

    Args:
        path: an artifact folder, or an ``.onnx`` file.
        settings: how long to measure.
        step: told of the progress.

    Raises:
        MissingError, ModelError, CorruptArtifactError: see `Predictor`.
        UsageError: more threads than this process may use cores.
        ToolkitError: a fresh process crashed or hung.
    """
    settings = settings or BenchSettings()
    host = describe_host()  # first: its load average should not be our own
    cores = host.usable_cores
    if cores is not None and settings.threads > cores:
        raise UsageError(
            f"threads is {settings.threads}, but this process may use {cores} cores; give {cores} or fewer"
        )
    created = datetime.now(UTC).isoformat(timespec="seconds")
    counts = tuple(sorted({settings.threads, *thread_counts(cores)}))
    subjects = [_Subject(file, settings, counts) for file in model_files(path)]
    # By figure and not by file, so that the files stand side by side in time.
    measurements: list[Measurement[Any]] = []
    measurements += [subject.latency[threads] for threads in counts for subject in subjects]
    for key in subjects[0].batches:
        measurements += [subject.batches[key] for subject in subjects]
    measurements += [subject.starts for subject in subjects]
    run_rounds(measurements, settings.rounds, step)
    return BenchReport(
        created=created,
        settings=settings,
        host=host,
        clock_overhead_ns=clock_overhead_ns(),
        files=tuple(subject.report() for subject in subjects),
        installed=tuple(installed_size(module) for module in ("numpy", "onnxruntime")),
    )
