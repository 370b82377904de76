"""The comparison itself: conversions, labels, times in interleaved rounds, fresh processes."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.peers.field import STEPS, Peer
from benchmarks.shared.asking import Asked
from benchmarks.shared.common import REFERENCE, ROOT, clean_environment, note
from benchmarks.shared.environments import environment, locked, numpy_requirements, onnxruntime_requirements
from toolkit.errors import MissingError, ToolkitError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Contestant", "Plan", "Trial", "median_start", "start_all", "take_labels", "take_starts", "take_times"]

HERE = Path(__file__).parent
PAUSE = 0.01
"""Seconds before each turn: threads of the one before that wait by spinning have stopped by then."""

BATCH = 256


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        rounds: interleaved rounds; one more comes first and is discarded.
        calls, seconds: single images of a turn at most, and the time after which it ends early.
        runs: batches of a turn at most, within the same time.
        label_seconds: of the images one by one; the rest of the labels come from batches then.
        starts, start_seconds: fresh processes of each, and the time after which there are no more of one.
        timeout: seconds after which any answer counts as hanging.
    """

    rounds: int
    calls: int
    seconds: float
    runs: int
    label_seconds: float
    starts: int
    start_seconds: float
    timeout: float


@dataclass
class Contestant:
    """One peer with one number of threads.

    Attributes:
        failed: why it is out, for people; None while it is not.
        singles, batches: labels.
        times, batch_times: samples in ns, a list a round.
        inside_times: the same of single images without Python around the function, where its engine can tell.
        starts: milliseconds to the first answer, peak bytes by then and after some work.
    """

    peer: Peer
    threads: int
    failed: str | None = None
    worker: Asked | None = None
    singles: list[int] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    times: list[list[int]] = field(default_factory=list)
    batch_times: list[list[int]] = field(default_factory=list)
    inside_times: list[list[int]] = field(default_factory=list)
    starts: list[tuple[float, int, int]] = field(default_factory=list)

    def attempt(self, what: Callable[[], None]) -> None:
        """Do something unless it has failed before; what fails now is kept, and the others go on."""
        if self.failed:
            return
        try:
            what()
        except ToolkitError as error:
            self.failed = str(error)
            note(f"{self.peer.name}, {self.threads} threads: {error}")
            self.stop()

    def stop(self) -> None:
        """End its worker."""
        if self.worker:
            self.worker.end()
            self.worker = None

    def ask(self, command: str, *arguments: Any, timeout: float) -> Any:
        """Ask its worker."""
        assert self.worker is not None
        return self.worker.ask(command, *arguments, timeout=timeout)


class Trial:
    """Environments and files, each made once; whose making fails says why, each time it is asked for.

    Attributes:
        seconds: how long each took.
    """

    def __init__(self, scratch: Path, images: Path, plan: Plan) -> None:
        self.scratch, self.images, self.plan = scratch, images, plan
        self.seconds: dict[str, float] = {}
        self._pythons: dict[str, str | ToolkitError] = {"project": sys.executable}
        self._steps: dict[str, ToolkitError | None] = {}

    def python(self, name: str) -> str:
        """The Python of an environment.

        Raises:
            ToolkitError: it cannot be made.
        """
        if name not in self._pythons:
            try:
                own = {"numpy": numpy_requirements, "onnxruntime": onnxruntime_requirements}
                requirements = own[name]() if name in own else locked(name)
                self._pythons[name] = environment(name, requirements)
            except (ToolkitError, OSError, subprocess.SubprocessError) as error:
                self._pythons[name] = error if isinstance(error, ToolkitError) else MissingError(str(error))
        found = self._pythons[name]
        if isinstance(found, ToolkitError):
            raise found
        return found

    def convert(self, name: str) -> None:
        """Have one of `STEPS` done, and what comes before it.

        Raises:
            ToolkitError: it failed.
        """
        if name not in self._steps:
            try:
                self._convert(name)
                self._steps[name] = None
            except ToolkitError as error:
                self._steps[name] = error
        if failure := self._steps[name]:
            raise failure

    def _convert(self, name: str) -> None:
        step, start = STEPS[name], time.monotonic()
        if step.after:
            self.convert(step.after)
        python = self.python(step.environment)
        note(f"converting: {step.script}")
        at = HERE / "convert" / f"{step.script}.py"
        how = ["-m", f"benchmarks.peers.convert.{step.script}"] if step.environment == "project" else ["-P", str(at)]
        try:
            done = subprocess.run(
                [python, *how, str(self.scratch)],
                cwd=ROOT,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=self.plan.timeout,
                env=clean_environment(),
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ToolkitError(f"{step.script} took longer than {self.plan.timeout:g} s and was killed") from error
        self.seconds[step.script] = time.monotonic() - start
        if done.returncode:
            said = done.stderr.strip().splitlines()
            raise ToolkitError(f"{step.script} ended with {done.returncode}: {said[-1] if said else 'it said nothing'}")

    def files(self, peer: Peer) -> dict[str, Path]:
        """Where a peer's files are."""
        return {name: (self.scratch if peer.step else REFERENCE) / file for name, file in peer.files.items()}

    def start(self, contestant: Contestant) -> Asked:
        """A worker that has given its first answer.

        Raises:
            ToolkitError: it cannot be had.
        """
        peer = contestant.peer
        if not peer.engine:
            raise MissingError(peer.settings)
        python = self.python(peer.environment)
        if peer.step:
            self.convert(peer.step)
        told = {
            "engine": peer.engine,
            "files": {name: str(path) for name, path in self.files(peer).items()},
            "threads": contestant.threads,
            "options": peer.options,
            "images": str(self.images),
            "code": str(ROOT / "toolkit"),
        }
        count = str(contestant.threads)
        return Asked(
            f"{peer.name} worker",
            [python, "-P", str(HERE / "worker.py"), json.dumps(told)],
            environment={"OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count},
            timeout=self.plan.timeout,
        )


def start_all(peers: Sequence[Peer], trial: Trial) -> list[Contestant]:
    """A worker for each peer and number of threads; with one core there is no second number."""
    cores = len(os.sched_getaffinity(0))
    counts = {"one": 1} | ({"all": cores} if cores > 1 else {})
    contestants = []
    for peer in peers:
        for count in peer.counts:
            if count in counts:
                contestants.append(it := Contestant(peer, counts[count]))
                it.attempt(lambda it=it: setattr(it, "worker", trial.start(it)))  # type: ignore[misc]  # a bound default
    return contestants


def take_labels(contestants: Sequence[Contestant], plan: Plan) -> None:
    """Every image through everyone, one by one and in batches."""
    for it in contestants:

        def both(it: Contestant = it) -> None:
            it.singles = it.ask("singles", plan.label_seconds, timeout=plan.timeout)
            it.batches = it.ask("batches", timeout=plan.timeout)

        it.attempt(both)


def take_times(contestants: Sequence[Contestant], plan: Plan) -> None:
    """Rounds in which each has a turn; every other one runs backwards."""
    for number in range(plan.rounds + 1):
        for it in contestants if number % 2 else reversed(contestants):

            def turn(it: Contestant = it, keep: bool = number > 0) -> None:
                time.sleep(PAUSE)
                singles = it.ask("time_singles", plan.calls, plan.seconds, timeout=plan.timeout)
                batches = it.ask("time_batches", plan.runs, plan.seconds, timeout=plan.timeout)
                inside = it.ask("time_inside", plan.calls, timeout=plan.timeout) if it.peer.inside else None
                if keep:
                    it.times.append(singles)
                    it.batch_times.append(batches)
                    if inside:
                        it.inside_times.append(inside)

            it.attempt(turn)


def take_starts(contestants: Sequence[Contestant], trial: Trial) -> None:
    """Fresh processes in turn, the files in the page cache since all of them have run before."""
    spent = [0.0] * len(contestants)
    for _ in range(trial.plan.starts):
        for at, it in enumerate(contestants):

            def fresh(it: Contestant = it) -> None:
                spawned = time.monotonic_ns()
                with trial.start(it) as worker:
                    first = (worker.said["answered"] - spawned) / 1e6
                    it.starts.append((first, worker.said["peak_bytes"], worker.ask("work", timeout=trial.plan.timeout)))

            if spent[at] <= trial.plan.start_seconds:
                begin = time.monotonic()
                it.attempt(fresh)
                spent[at] += time.monotonic() - begin


def median_start(contestant: Contestant) -> tuple[float, int, int]:
    """Medians of its starts: milliseconds, bytes at the first answer, bytes after some work."""
    columns = [statistics.median(column) for column in zip(*contestant.starts, strict=True)]
    return float(columns[0]), int(columns[1]), int(columns[2])
