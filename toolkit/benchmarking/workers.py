"""Processes that measure, as their parent sees them: started, asked, and ended when they hang."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import toolkit
from toolkit import errors
from toolkit.errors import ToolkitError

__all__ = ["Worker", "WorkerFailedError"]

_GRACE = 2.0  # seconds that the parent waits beyond the limit by which a worker ends itself
_CODE = (
    # The toolkit may run from a source tree that is not installed, or beside another that is.
    "import sys; sys.argv[1] in sys.path or sys.path.insert(0, sys.argv[1]); "
    "from toolkit.benchmarking.worker import main; main()"
)


class WorkerFailedError(ToolkitError):
    """A model crashed or hung, or took its process down in another way."""


class Worker:
    """A process with one model in it.

    Args:
        name: of what it measures, for errors.

    Raises:
        ToolkitError: no process can be started.
    """

    def __init__(self, name: str) -> None:
        if not sys.executable:
            raise ToolkitError("Python does not know its own executable, so no process can be started; use a venv")
        self.name = name
        self._said = _scratch()
        folder = str(Path(toolkit.__file__).parents[1])
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _CODE, folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
            )
        except OSError as error:
            os.close(self._said)
            raise ToolkitError(
                f"no process to measure in can be started: {error}; check the Python installation"
            ) from error
        self._rest = b""
        self._asked, self._limit, self._since = "", 0.0, 0.0

    def ask(self, what: str, limit: float, /, **request: Any) -> Any:
        """Ask and wait, see `send` and `receive`."""
        self.send(what, limit, **request)
        return self.receive()

    def send(self, what: str, limit: float, /, **request: Any) -> None:
        """Ask for something.

        Args:
            what: "open", "warm-up" or the name of a scenario.
            limit: seconds after which it counts as hanging.
            request: see the worker.
        """
        assert self._process.stdin is not None
        self._asked, self._limit, self._since = what, limit, time.monotonic()
        line = json.dumps({"do": what, "limit": limit, **request}) + "\n"
        with contextlib.suppress(BrokenPipeError):  # it is gone: `receive` says how
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()

    def receive(self) -> Any:
        """The answer to what was asked last.

        Raises:
            WorkerFailedError: the process crashed or hung.
            ToolkitError: what the worker says, in the class of error that it was there.
        """
        line = self._line()
        answer = json.loads(line)
        if "error" in answer:
            raise getattr(errors, answer["error"], ToolkitError)(answer["message"])
        return answer["given"]

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        end = self._since + self._limit + _GRACE
        while b"\n" not in self._rest:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                self._process.kill()
                raise WorkerFailedError(self._hung())
            part = os.read(descriptor, 1 << 20)
            if not part:
                raise WorkerFailedError(self._ended())
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _hung(self) -> str:
        return (
            f"{self.name} gave no answer to {self._asked} in {self._limit:g} s and was ended; "
            "if it is only slow, give more with --timeout"
        )

    def _ended(self) -> str:
        code = self._process.wait()
        if code == -signal.SIGALRM:
            return self._hung()
        how = f"exit code {code}"
        if code < 0:
            how = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        size = os.lseek(self._said, 0, os.SEEK_END)
        tail = os.pread(self._said, 4096, max(0, size - 4096)).decode(errors="replace").strip().splitlines()
        said = tail[-1][:200] if tail else "it said nothing"
        return f"{self.name} crashed in {self._asked} with {how}: {said}; check the model with: toolkit predict"

    def close(self) -> None:
        """End the process."""
        self._process.kill()  # it has nothing to finish
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        with contextlib.suppress(OSError):
            os.close(self._said)


def _scratch() -> int:
    """Somewhere for what the process says: not a file where that can be, as the disk may be full."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("toolkit-bench")
    try:
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
    except OSError:
        return os.open(os.devnull, os.O_RDWR)
