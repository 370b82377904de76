"""A bundle on some boards, on all of them at once: `toolkit.remote.job` in threads, followed and stopped together."""

from __future__ import annotations

import queue
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.bundle.layout import REQUIREMENTS
from toolkit.bundle.make import BundleOptions, make_bundle
from toolkit.bundle.reading import read_found
from toolkit.bundle.verify import verify_bundle
from toolkit.errors import UsageError
from toolkit.predictor import SUMS_NAME
from toolkit.progress import silent_note, silent_step
from toolkit.remote.code import needed_files
from toolkit.remote.environment import read_wheels
from toolkit.remote.job import STEPS, BoardOptions, BoardResult, Job, Sending

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.progress import Note, Step
    from toolkit.remote.boards import Board

__all__ = ["bench_on"]

_AFTER_INTERRUPT = 30.0  # seconds that boards get to clean up


def bench_on(
    path: Path,
    boards: Sequence[Board],
    options: BoardOptions | None = None,
    note: Note = silent_note,
    step: Step = silent_step,
) -> list[BoardResult]:
    """Test and time a bundle on boards.

    Args:
        path: a bundle (folder or .zip), or an artifact, of which one is made in a temporary folder.
        boards: each once.
        options: see there.
        note: told what people should know while it runs.
        step: told of the progress.

    Returns:
        One result a board, in their order; a board that fails does not keep the others from going on. After Ctrl-C they
        are told to clean up, and the results hold what was measured until then and the exit code 130.

    Raises:
        MissingError: no OpenSSH here; or see `make_bundle`, `verify_bundle`, `read_wheels`.
        UsageError, ModelError, CorruptArtifactError, GateError: the bundle, the artifact or an option is wrong.
        KeyboardInterrupt: Ctrl-C before all boards were at work, or a second time.
    """
    options = options or BoardOptions()
    bundle = _bundle_files(path, note)
    wheels = read_wheels(options.wheels, bundle[REQUIREMENTS].decode()) if options.wheels is not None else None
    sending = Sending(bundle, needed_files(), wheels)
    workers: list[_Worker] = []
    events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
    try:
        for board in boards:
            worker = _Worker(len(workers), board, options, sending, events)
            workers.append(worker)
            worker.job.start()
            if options.interactive:
                note(f"{board.name}: connecting")
                worker.job.open()
        for worker in workers:
            worker.start()
        _follow(workers, events, step)
    except BaseException as error:
        _stop(workers, note)
        # What was measured until then is kept, if all came so far; another Ctrl-C does not get here.
        if not isinstance(error, KeyboardInterrupt) or any(worker.result is None for worker in workers):
            raise
    return [worker.result for worker in workers if worker.result is not None]


_Event = tuple[int, str, str]  # which worker, the step that it is in (empty: it is through), and what exactly


class _Worker(threading.Thread):
    """A board's thread.

    Attributes:
        result: what came of it, once it is through.
        failure: what should not have happened.
    """

    def __init__(
        self,
        at: int,
        board: Board,
        options: BoardOptions,
        sending: Sending,
        events: queue.SimpleQueue[_Event],
    ) -> None:
        super().__init__(daemon=True)
        self.job = Job(board, options, sending, lambda step, more: events.put((at, step, more)))
        self.result: BoardResult | None = None
        self.failure: Exception | None = None
        self._at, self._events = at, events

    def run(self) -> None:
        try:
            self.result = self.job.run()
        except Exception as error:  # noqa: BLE001 - raised again in the main thread, which waits for a word of this one
            self.failure = error
        finally:
            self._events.put((self._at, "", ""))


def _bundle_files(path: Path, note: Note) -> dict[str, bytes]:
    """What is copied: a bundle's files, each held against its hash."""
    with tempfile.TemporaryDirectory(prefix="toolkit-bundle-") as scratch:
        if path.is_dir() and not (path / SUMS_NAME).exists():
            note(f"Making a bundle of {path}")
            path = make_bundle(path, Path(scratch, "bundle"), BundleOptions()).folder
        check = verify_bundle(path)
        if check.form == "wheel":
            raise UsageError(f"{path} is a wheel; give the bundle's folder or .zip, or the artifact")
        files = read_found(path).files
    if files.keys() != check.files.keys():
        raise UsageError(f"{path} changed while it was read; run again when nothing writes there")
    return files


def _follow(workers: Sequence[_Worker], events: queue.SimpleQueue[_Event], step: Step) -> None:
    """Tell of the progress until all are through."""
    reached, open_ones = [0] * len(workers), len(workers)
    total = len(STEPS) * len(workers)
    while open_ones:
        at, name, more = events.get()
        worker = workers[at]
        if not name:
            open_ones -= 1
            reached[at] = len(STEPS)
            if worker.failure is not None:
                raise worker.failure
            if worker.result is not None and worker.result.error is not None:
                step(sum(reached), total, f"{worker.job.board.name}: failed")
            continue
        reached[at] = STEPS.index(name)
        step(sum(reached), total, f"{worker.job.board.name}: {name}{f', {more}' if more else ''}")
    step(total, total, "done")


def _stop(workers: Sequence[_Worker], note: Note) -> None:
    """Have every board clean up, and say where one gave no answer any more."""
    for worker in workers:
        worker.job.cancel()
    deadline = time.monotonic() + _AFTER_INTERRUPT
    try:
        for worker in workers:
            if worker.ident is not None:
                worker.join(max(deadline - time.monotonic(), 0))
    finally:
        for worker in workers:
            worker.job.kill()
    for worker in workers:
        if worker.result is None and worker.job.folder:
            note(f"{worker.job.board.name}: did not say that it removed {worker.job.folder} (it will, left alone)")
