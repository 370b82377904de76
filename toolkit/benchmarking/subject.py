"""One model file as the parent process sees it: the processes that measure it, and what they gave."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from toolkit.benchmarking.footprint import FREE_SIZE
from toolkit.benchmarking.opened import PREDICTOR
from toolkit.benchmarking.steady import WarmUp
from toolkit.benchmarking.workers import Worker, WorkerFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from toolkit.benchmarking.plan import BenchSettings
    from toolkit.predictor import ModelFile

__all__ = ["Subject"]

_OPENING_SECONDS = 1.0  # what opening the model anew may take of a round

T = TypeVar("T")


class Subject:
    """A model file with its measurements.

    Args:
        file: the model.
        settings: of the benchmark.
        factory: see `toolkit.benchmarking.opened.Opened`.
        name: in errors and reports; by default that of the file.

    Attributes:
        name: see above.
        rounds: by scenario, the takes of each whole round.
        warm_ups: of each round.
        look: what the first look gave.
        failed: why it is measured no further.
        processes: how many there were; each opened the file anew.
    """

    def __init__(
        self, file: ModelFile, settings: BenchSettings, factory: str = PREDICTOR, name: str | None = None
    ) -> None:
        self.file, self.settings, self.factory = file, settings, factory
        self.name = name or Path(file.path).name
        self.rounds: dict[str, list[list[dict[str, Any]]]] = {}
        self.warm_ups: list[WarmUp] = []
        self.look: dict[str, Any] = {}
        self.failed: str | None = None
        self.processes = 0
        self._worker: Worker | None = None
        self._served = 0

    @property
    def free(self) -> int:
        """Size of free dimensions."""
        return self.settings.free_size or FREE_SIZE

    @property
    def seconds(self) -> float:
        """What one row takes, about."""
        return float(self.look["seconds"])

    def opening(self, **settings: Any) -> dict[str, Any]:
        """The request that opens the file; settings of the runtime in place of the benchmark's."""
        return {
            "path": self.file.path,
            "settings": {"threads": self.settings.threads, **settings},
            "free": self.free,
            "seed": self.settings.seed,
            "factory": self.factory,
        }

    def open(self) -> Worker:
        """A process of its own with the file opened; the caller closes it.

        Raises:
            WorkerFailedError: the model crashed or hung.
            ToolkitError: it cannot be opened.
        """
        worker = Worker(self.name)
        try:
            self.look = worker.ask("open", self.settings.timeout, **self.opening())
        except BaseException:
            worker.close()
            raise
        self.processes += 1
        return worker

    def with_worker(self, work: Callable[[Callable[..., Any]], T]) -> T | None:
        """Do something in a process of its own; None if the model failed in it, or before.

        Args:
            work: takes a function that asks the process: (what, seconds that it should take, the request).
        """
        if self.failed is not None:
            return None
        worker = Worker(self.name)

        def ask(what: str, seconds: float, /, **request: Any) -> Any:
            return worker.ask(what, self.settings.timeout + 10 * seconds, **request)

        try:
            return work(ask)
        except WorkerFailedError as error:
            self.fail(error)
            return None
        finally:
            worker.close()

    def begin_round(self) -> None:
        """Have a warm process: a new one, or for some rounds the same one where opening the file takes long."""
        if self.failed is not None:
            return
        if self._worker is not None and self._served * _OPENING_SECONDS >= self.look["open_ns"] / 1e9:
            self.close()
        try:
            if self._worker is None:
                self._worker, self._served = self.open(), 0
            self._served += 1
            self.warm_ups.append(WarmUp(**self._worker.ask("warm-up", self.settings.timeout)))
        except WorkerFailedError as error:
            self.fail(error)

    def ask(self, scenario: str, seconds: float, /, **request: Any) -> dict[str, Any] | None:
        """What the model gives in a scenario; None if it failed, now or before.

        Args:
            scenario: its name.
            seconds: that it should take.
            request: see its module.
        """
        if self._worker is None:
            return None
        try:
            return dict(self._worker.ask(scenario, self.settings.timeout + 10 * seconds, **request))
        except WorkerFailedError as error:
            self.fail(error)
            return None

    def keep(self, scenario: str, takes: Sequence[dict[str, Any] | None]) -> None:
        """Add a round, if it is whole."""
        whole = [taken for taken in takes if taken is not None]
        if whole and len(whole) == len(takes):
            self.rounds.setdefault(scenario, []).append(whole)

    def fail(self, error: Exception) -> None:
        """Measure it no further."""
        self.failed = str(error)
        self.close()

    def close(self) -> None:
        """End its process."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None
