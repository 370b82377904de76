"""The course of a benchmark: the look at every file, the interleaved rounds, and what follows them."""

from __future__ import annotations

import statistics
from itertools import chain
from typing import TYPE_CHECKING, Any

from toolkit.benchmarking.all_cores import AllCores
from toolkit.benchmarking.footprint import Start, start_fresh
from toolkit.benchmarking.plan import LEAST_CALLS, LOAD, SLOW_ROUNDS, SLOW_SECONDS, SWEEP_BATCH, BenchSettings
from toolkit.benchmarking.subject import Subject
from toolkit.benchmarking.sweep import Sweeper
from toolkit.errors import ToolkitError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from toolkit.progress import Step

__all__ = ["Run"]

TURNS = 4
"""Single calls of a round are taken in so many turns, so that the files meet the same noise."""

_PROBE = "probe"

_CONTROLS = 10  # rounds with the control; more would tell no more of the noise

Stage = tuple[str, int, "Callable[[int], None]"]  # what is being done, how often, and doing it


class Run:
    """The files of one benchmark and what is asked of them.

    Args:
        subjects: the files.
        settings: how much.
        cores: that may be used; None: unknown.
        step: told of the progress.

    Attributes:
        control: the first file once more, for the single stream alone, every `control_every` rounds; None: without.
        starts: cold starts of each file.
        cores_of: throughput on all cores.
        sweeps: of the settings.
        sustained: what the sustained run gave.
        interrupted: Ctrl-C ended it early.
    """

    def __init__(self, subjects: Sequence[Subject], settings: BenchSettings, cores: int | None, step: Step) -> None:
        self.subjects, self.settings, self.cores, self.step = list(subjects), settings, cores or 1, step
        first = subjects[0]
        controlled = settings.control and "single-stream" in settings.scenarios
        self.control = Subject(first.file, settings, first.factory) if controlled else None
        self.control_every = max(1, settings.rounds // _CONTROLS)
        self.starts: dict[Subject, list[Start]] = {subject: [] for subject in subjects}
        self.cores_of: dict[Subject, AllCores] = {}
        self.sweeps: dict[Subject, Sweeper] = {}
        self.sustained: dict[Subject, dict[str, Any]] = {}
        self.interrupted = False

    def close(self) -> None:
        """End every process."""
        for subject in self._all():
            subject.close()

    def _all(self) -> list[Subject]:
        return [*self.subjects, *([self.control] if self.control is not None else [])]

    def _alive(self) -> list[Subject]:
        return [subject for subject in self.subjects if subject.failed is None]

    def look(self, path: object) -> None:
        """Open every file once, in a process that may crash or hang; all are measured as the slowest allows.

        Args:
            path: that the user named, for errors.

        Raises:
            UsageError: a size for free dimensions of which there are none, or that does not suit.
            ToolkitError: a file cannot be opened, or every file crashed or hung.
        """
        for subject in self.subjects:
            self.step(0, 1, "a first look")
            subject.begin_round()
        alive = self._alive()
        if not alive:
            raise ToolkitError("; ".join(str(subject.failed) for subject in self.subjects))
        if self.settings.free_size is not None and not any(subject.look["free"] for subject in alive):
            raise UsageError(f"{path} has no free dimension besides the batch, so a size for it does nothing; drop it")
        self.seconds = max(subject.seconds for subject in alive)
        row_bytes = max(subject.look["row_bytes"] for subject in alive)
        self.calls = self.settings.calls_of(self.seconds)
        self.sizes = self.settings.batches_of(self.seconds, row_bytes, alive[0].look["batch"])
        self.batch = max((size for size in self.sizes if size <= SWEEP_BATCH), default=self.sizes[0])
        slowest = []
        for subject in alive:
            calls = max(LEAST_CALLS, self.calls // 10)
            taken = subject.ask("single-stream", self.seconds * calls, calls=calls)
            slowest += [statistics.median(taken["samples"]) / 1e9] if taken else []
            subject.warm_ups.clear()
            subject.close()
        self.rate = self.settings.rate or LOAD / max(slowest, default=self.seconds)

    def measure(self) -> None:
        """Everything; Ctrl-C ends it early, unless nothing was measured yet.

        Raises:
            KeyboardInterrupt: in the latter case.
        """
        done = 0
        stages = list(self._stages())
        total = sum(times for _, times, _ in stages)
        try:
            for what, times, once in stages:
                for number in range(times):
                    self.step(done, total, what)
                    once(number)
                    done += 1
            self.step(total, total, "done")
        except KeyboardInterrupt:
            self.interrupted = True
            measured: list[Any] = [subject.rounds for subject in self.subjects]
            measured += [self.sustained, *self.starts.values()]
            measured += [cores.found for cores in self.cores_of.values()]
            measured += [sweep.times for sweep in self.sweeps.values()]
            if not any(measured):
                raise

    def _stages(self) -> Iterator[Stage]:
        settings, wanted = self.settings, set(self.settings.scenarios)
        plan = list(self._requests())
        if wanted & {"cold-start", "memory"}:
            yield "cold starts", settings.rounds + 1, self._start_each
        if len(plan) > 1:
            yield "measuring", settings.rounds, lambda number: self._round(number, plan)
        few = min(settings.rounds, settings.few_rounds)
        if "throughput" in wanted:
            yield "all cores", few, self._all_cores
        if "sweep" in wanted:
            rounds = min(settings.rounds, SLOW_ROUNDS) if self.seconds > SLOW_SECONDS else settings.rounds
            yield "settings", rounds, self._sweep
            yield "the best settings again", rounds, self._confirm
        if "sustained" in wanted:
            yield "sustained", len(self.subjects), self._sustain

    def _requests(self) -> Iterator[tuple[str, float, list[dict[str, Any]], int]]:
        """Of each scenario of the rounds: name, seconds of a request, the requests of a round, and rounds at most."""
        wanted, settings = self.settings.scenarios, self.settings
        turns = min(TURNS, self.calls)
        calls = -(-self.calls // turns)
        count = settings.rows_at(self.rate)
        longest = settings.batch_seconds + self.seconds * self.sizes[-1]
        sizes = [{"size": size, "seconds": settings.batch_seconds} for size in self.sizes]
        every, few, slow = settings.rounds, settings.few_rounds, self.seconds > SLOW_SECONDS
        yield _PROBE, 0.0, [{}], every
        for found in (
            ("single-stream", self.seconds * calls, [{"calls": calls}] * turns, every),
            ("fixed-rate", count / self.rate, [{"rate": self.rate, "count": count}], few if slow else every),
            ("batches", longest, sizes, every),
            ("cpu-time", self.seconds * self.calls, [{"calls": self.calls}], every),
            ("energy", settings.energy_seconds, [{"seconds": settings.energy_seconds}], few),
        ):
            if found[0] in wanted:
                yield found

    def _round(self, number: int, plan: Sequence[tuple[str, float, list[dict[str, Any]], int]]) -> None:
        everyone = self._alive()
        if self.control is not None and number % self.control_every == 0:
            everyone.append(self.control)
        for subject in everyone if number % 2 else reversed(everyone):
            subject.begin_round()
        for name, seconds, requests, most in plan:
            if number >= most:
                continue
            order = everyone if name in ("single-stream", _PROBE) else self._alive()
            takes: dict[Subject, list[dict[str, Any] | None]] = {subject: [] for subject in order}
            for at, request in enumerate(requests):
                for subject in order if (number + at) % 2 else reversed(order):
                    takes[subject].append(subject.ask(name, seconds, **request))
            for subject in order:
                subject.keep(name, takes[subject])

    def _start_each(self, number: int) -> None:
        order = self._alive()
        for subject in order if number % 2 else reversed(order):
            try:
                start = start_fresh(
                    subject.file.path, threads=self.settings.threads, free=subject.free, timeout=self.settings.timeout
                )
            except ToolkitError as error:
                subject.fail(error)
                continue
            if number:  # the first one filled the page cache
                self.starts[subject].append(start)

    def _all_cores(self, number: int) -> None:
        for subject in self._alive():
            if number == 0:
                self.cores_of[subject] = AllCores(subject, self.cores, self.batch, self.settings.throughput_seconds)
            self.cores_of[subject].round()

    def _sweep(self, number: int) -> None:
        for subject in self._alive():
            if number == 0:
                # The largest batch, as rows of a run are chosen by it.
                self.sweeps[subject] = Sweeper(subject, self.cores, self.sizes[-1], self.seconds)
            self.sweeps[subject].first(number)

    def _confirm(self, number: int) -> None:
        for subject in self._alive():
            self.sweeps[subject].confirm(number)

    def _sustain(self, number: int) -> None:
        subject = self.subjects[number]
        seconds = self.settings.sustained_seconds
        taken = subject.with_worker(lambda ask: _sustained(subject, ask, seconds))
        if taken is not None:
            self.sustained[subject] = taken

    def probe(self) -> list[float]:
        """The machine's own speed: the median time of the probe in each round, in ns."""
        by_round: list[list[int]] = []
        for subject in self._all():
            for number, takes in enumerate(subject.rounds.get(_PROBE, [])):
                if number == len(by_round):
                    by_round.append([])
                by_round[number] += chain.from_iterable(taken["samples"] for taken in takes)
        return [statistics.median(samples) for samples in by_round]


def _sustained(subject: Subject, ask: Callable[..., Any], seconds: float) -> dict[str, Any]:
    ask("open", 0.0, **subject.opening())
    ask("warm-up", 0.0)
    return dict(ask("sustained", seconds, seconds=seconds))
