"""The whole benchmark of an artifact, and the report that it leaves."""

from __future__ import annotations

import hashlib
import statistics
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.benchmarking.feed import InputReport, alone, fed_with, random_rows, singles
from toolkit.benchmarking.footprint import (
    FREE_SIZE,
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
    summarize_latency,
    summarize_throughput,
    thread_counts,
    time_batches,
    time_calls,
)
from toolkit.benchmarking.rounds import NOISE_BOUND, Measurement, run_rounds
from toolkit.errors import InputError, UsageError
from toolkit.predictor import ModelFile, Predictor, RuntimeSettings, model_files
from toolkit.progress import silent_step

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from toolkit.progress import Step

__all__ = ["BenchReport", "BenchSettings", "FORMAT", "FileReport", "InputReport", "ThreadRun", "run_bench"]

FORMAT = 2

SWEEP_BATCH = 256
"""Batch size of the thread sweep, unless the model is too large for it."""

MOST_SECONDS = 1.0
"""A large model gets fewer calls and smaller batches, so that none of them takes much longer than this in a round."""

MOST_BATCH_BYTES = 64_000_000
"""Inputs of one batch at most: a device has little memory, and a model's activations are a multiple of its inputs."""


@dataclass(frozen=True)
class BenchSettings:
    """How long to measure.

    Attributes:
        rounds: rounds kept; everything is measured once in each.
        calls: single rows a round, for each file; None: `DEFAULT_CALLS`, or as many as fit into `MOST_SECONDS`.
        threads: threads of one run, for everything but the thread sweep.
        batches: batch sizes of the throughput; of a model with a fixed batch size, the next multiples of it. Those that
            would take too long or too much memory are left out.
        batch_seconds: time a round spends on each batch size.
        seed: of the random rows.
        free_size: size of free dimensions; None: `FREE_SIZE`.

    Raises:
        UsageError: a value that cannot be measured with.
    """

    rounds: int = 10
    calls: int | None = None
    default_calls: int = 2000
    threads: int = 1
    batches: tuple[int, ...] = (1, 4, 16, 64, 256, 1024)
    batch_seconds: float = 0.02
    seed: int = 0
    free_size: int | None = None

    def __post_init__(self) -> None:
        if self.rounds < 2:
            raise UsageError(f"rounds is {self.rounds}, expected 2 or more: one round cannot tell how noisy it is")
        calls = self.default_calls if self.calls is None else self.calls
        if calls < 1 or self.rounds * calls < MIN_SAMPLES:
            raise UsageError(
                f"{self.rounds} rounds of {calls} calls are too few for a p99.9, "
                f"expected {MIN_SAMPLES} calls or more in all; raise --calls or --rounds"
            )
        if self.threads < 1:
            raise UsageError(f"threads is {self.threads}, expected 1 or more")
        if self.free_size is not None and self.free_size < 1:
            raise UsageError(f"the size of free dimensions is {self.free_size}, expected 1 or more")
        if SWEEP_BATCH not in self.batches or min(self.batches) < 1:
            raise UsageError(
                f"batches are {self.batches}, expected sizes of 1 or more, with {SWEEP_BATCH} for the thread sweep"
            )

    def calls_of(self, seconds: float, *, headline: bool) -> int:
        """Single rows a round of a model that takes so long for one; in the thread sweep a quarter.

        Never fewer than a p99.9 needs.
        """
        least = -(-MIN_SAMPLES // self.rounds)
        calls = self.calls or max(least, min(self.default_calls, int(MOST_SECONDS / seconds)))
        return calls if headline else min(calls, max(calls // 4, least))

    def batches_of(self, seconds: float, row_bytes: int, fixed: int | None) -> tuple[int, ...]:
        """Batch sizes for a model that takes so long and so much memory for one row."""
        sizes = sorted({-(-batch // (fixed or 1)) * (fixed or 1) for batch in self.batches})
        # Of a fixed batch size, one row takes as long as all.
        most = min(MOST_SECONDS / seconds * (fixed or 1), MOST_BATCH_BYTES / max(row_bytes, 1))
        return tuple(size for size in sizes if size <= most) or (sizes[0],)

    @classmethod
    def quick(cls) -> BenchSettings:
        """A first look in a few seconds."""
        return cls(rounds=3, default_calls=1000, batch_seconds=0.01)


@dataclass(frozen=True)
class ThreadRun:
    """One thread count of the sweep: single rows, and batches of `SWEEP_BATCH` or what the model allows."""

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
        inputs: what it was fed with.
        call: what single rows went through: "classify", or "predict" where there are no classes.
        latency, throughput: with ``settings.threads`` threads.
        thread_sweep: thread counts rising, ``settings.threads`` among them.
        cold_start: fresh process to first answer, and its memory.
    """

    name: str
    kind: str
    sha256: str
    size_bytes: int
    inputs: tuple[InputReport, ...]
    call: str
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
        predictors = {threads: Predictor(file.path, settings=RuntimeSettings(threads=threads)) for threads in counts}
        self.predictor = predictors[settings.threads]
        self.free = settings.free_size or FREE_SIZE
        self.inputs = tuple(
            fed_with(tensor, self.predictor.ranges.get(tensor.name), self.free) for tensor in self.predictor.inputs
        )
        self.call = "predict" if self.predictor.classes is None else "classify"
        self.predictors = predictors

    def _rows(self, count: int) -> dict[str, NDArray[Any]]:
        return {fed.name: random_rows(fed, count, self.settings.seed) for fed in self.inputs}

    def look(self) -> tuple[float, int]:
        """Seconds and bytes of one row: the middle of a few calls after the first."""
        rows = self._rows(1)
        call, row = getattr(self.predictor, self.call), singles(rows)[0]
        try:
            taken = time_calls(call, [row], calls=5, warmup=2)
        except InputError as error:
            if any(None in tensor.shape for tensor in self.predictor.inputs):
                raise UsageError(f"free dimensions of size {self.free} do not suit: {error}; try --size") from error
            raise
        return max(statistics.median(taken), 1) / 1e9, sum(array.nbytes for array in rows.values())

    def prepare(self, seconds: float, batches: tuple[int, ...], sweep: int) -> None:
        """Set up what is measured.

        Args:
            seconds: that the slowest file takes for one row.
            batches: sizes.
            sweep: batch size of the thread sweep, one of them.
        """
        settings = self.settings
        rows = self._rows(max(*batches, 32))
        turn = singles({name: array[:32] for name, array in rows.items()})
        self.sweep, self.sizes, self.warmup = sweep, batches, {}
        for threads, predictor in self.predictors.items():
            headline = threads == settings.threads
            calls = settings.calls_of(seconds, headline=headline)
            self.warmup[threads] = max(1, calls // 10)  # after them the caches hold this model, not the last one
            call = getattr(predictor, self.call)
            self.latency[threads] = Measurement(
                partial(time_calls, call, turn, calls=calls, warmup=self.warmup[threads])
            )
            for size in batches if headline else (sweep,):
                batch = alone({name: array[:size] for name, array in rows.items()})
                self.batches[threads, size] = Measurement(
                    partial(time_batches, predictor.predict_batch, batch, seconds=settings.batch_seconds)
                )
        self.starts: Measurement[Start] = Measurement(
            partial(start_fresh, self.file.path, threads=settings.threads, free=self.free)
        )

    def report(self) -> FileReport:
        headline = self.settings.threads
        return FileReport(
            name=Path(self.file.path).name,
            kind=self.file.kind,
            sha256=self.sha256,
            size_bytes=self.size,
            inputs=self.inputs,
            call=self.call,
            latency=self._latency(headline),
            throughput=tuple(self._throughput(headline, batch) for batch in self.sizes),
            thread_sweep=tuple(
                ThreadRun(threads, self._latency(threads), self._throughput(threads, self.sweep))
                for threads in self.latency
            ),
            cold_start=summarize_starts(self.starts.results, warmup=1),
        )

    def _latency(self, threads: int) -> Latency:
        # The beginning of every round, and the whole of the first one.
        measurement = self.latency[threads]
        discarded = self.warmup[threads] * (self.settings.rounds + 1) + sum(len(c) for c in measurement.discarded)
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
    tensors = [tensor for subject in subjects for tensor in subject.predictor.inputs]
    if settings.free_size is not None and not any(None in tensor.shape for tensor in tensors):
        raise UsageError(f"{path} has no free dimension besides the batch, so a size for it does nothing; drop it")
    # All files are measured alike: as the largest allows.
    looks = [subject.look() for subject in subjects]
    seconds, row_bytes = max(look[0] for look in looks), max(look[1] for look in looks)
    sizes = settings.batches_of(seconds, row_bytes, subjects[0].predictor.batch)
    for subject in subjects:
        subject.prepare(seconds, sizes, max((size for size in sizes if size <= SWEEP_BATCH), default=sizes[0]))
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
