"""One round of the throughput scenario: every way to use all cores, with as many processes as that takes."""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from toolkit.benchmarking.conditions import available_memory
from toolkit.benchmarking.workers import Worker, WorkerFailedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.benchmarking.subject import Subject

__all__ = ["AllCores"]

_LEAD_NS = 20_000_000  # between the request and the common start, beside what the model itself needs to get ready
_MOST_PROCESSES = 64
_PROCESS_BYTES = 100_000_000  # of a small model: Python, numpy and the runtime


class AllCores:
    """The throughput of one file on all cores, a round at a time.

    Args:
        subject: the file.
        cores: how many to use.
        batch: rows a call, where it is not one.
        seconds: each way is given.

    Attributes:
        found: rows a second of each whole round, by way and batch size.
        refused: ways that are not measured, and why.
    """

    def __init__(self, subject: Subject, cores: int, batch: int, seconds: float) -> None:
        self.subject, self.cores, self.batch, self.seconds = subject, cores, batch, seconds
        self.found: dict[tuple[str, int], list[float]] = {}
        self.refused: list[str] = []
        memory = available_memory()
        room = (memory or 10**12) // 2 // (_PROCESS_BYTES + 4 * int(subject.look["bytes"]))
        self.processes = min(cores, _MOST_PROCESSES) if min(cores, _MOST_PROCESSES) <= room else 0
        if not self.processes:
            self.refused.append(f"processes: {cores} of them would take more than half of the free memory")

    def round(self) -> None:
        """Measure every way once; a round in which the model fails leaves nothing."""
        if self.subject.failed is not None:
            return
        rates: dict[tuple[str, int], float] = {}
        sizes = sorted({1, self.batch})
        workers: list[Worker] = []
        try:
            workers += [self._opened(1) for _ in range(max(1, self.processes))]
            for size in sizes:
                if self.processes:
                    rates["processes", size] = self._together(workers, 1, size)
                if self.cores > 1:
                    rates["threads", size] = self._together(workers[:1], self.cores, size)
            if self.cores > 1:
                workers[0].close()
                workers[0] = self._opened(self.cores)
                for size in sizes:
                    rates["runtime-threads", size] = self._together(workers[:1], 1, size)
        except WorkerFailedError as error:
            self.subject.fail(error)
            return
        finally:
            for worker in workers:
                worker.close()
        for key, rate in rates.items():
            self.found.setdefault(key, []).append(rate)

    def _opened(self, threads: int) -> Worker:
        worker = Worker(self.subject.name)
        try:
            worker.ask("open", self.subject.settings.timeout, **self.subject.opening(threads=threads))
            worker.ask("warm-up", self.subject.settings.timeout)
        except BaseException:
            worker.close()
            raise
        return worker

    def _together(self, workers: Sequence[Worker], threads: int, batch: int) -> float:
        """Rows a second of some processes that begin at the same moment."""
        request: dict[str, Any] = {"threads": threads, "batch": batch}
        limit, lead = self.subject.settings.timeout + 10 * self.seconds, 0
        # The first time for nothing: it tells how long the slowest needs to get ready.
        for seconds in (0.0, self.seconds):
            start_at = monotonic_ns() + _LEAD_NS + 2 * lead
            for worker in workers:
                worker.send("throughput", limit, start_at=start_at, seconds=seconds, **request)
            answers = [worker.receive() for worker in workers]
            lead = max(int(answer["first_ns"]) for answer in answers)
        return sum(float(answer["rows_per_second"]) for answer in answers)
