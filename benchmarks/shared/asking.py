"""A process that answers questions: a line of JSON goes in, one comes back, and none may take for ever."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING, Any, Self

from benchmarks.shared.common import clean_environment
from toolkit.errors import ToolkitError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

__all__ = ["Asked"]

TIMEOUT = 600.0
"""Seconds after which an answer will not come any more: several times what the longest takes on a busy machine."""

LINGER = 60.0
"""Seconds that a process may take to end after the end of its input."""


class Asked:
    """A running process, as a context; at its end it is told to stop by the end of its input.

    Attributes:
        said: its first line, which it prints when it is ready.
        pid: of the process.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        """Start it and wait until it is ready.

        Args:
            name: for people.
            command: program and arguments.
            environment: variables beside those of this process.
            timeout: seconds until it has to be ready.

        Raises:
            ToolkitError: it cannot be started, ended, hung, or said something else than JSON.
        """
        self._name, self._pending = name, b""
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - a pipe nobody reads fills up
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=clean_environment() | dict(environment or {}),
                process_group=0,  # Ctrl-C is for the parent, which keeps what was measured
            )
        except OSError as error:
            self._errors.close()
            raise ToolkitError(f"the {name} cannot be started: {error}; make its environment anew") from error
        self.pid = self._process.pid
        self.said = self._read(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    def ask(self, command: str, *arguments: Any, timeout: float = TIMEOUT) -> Any:
        """Have something measured; nothing else happens meanwhile.

        Raises:
            ToolkitError: the process failed, or gave no answer in `timeout` seconds; it is not there any more then.
        """
        assert self._process.stdin is not None
        if self._errors.closed:
            raise ToolkitError(f"the {self._name} has ended; start it again")
        try:
            self._process.stdin.write(json.dumps([command, *arguments]).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:  # it is gone; what it said at its end is the better message
            pass
        return self._read(timeout)

    def end(self) -> None:
        """Let it end; kill it if it does not. Twice does no harm."""
        if not self._errors.closed:
            self._ended()

    def _read(self, timeout: float) -> Any:
        assert self._process.stdout is not None
        reading, deadline = self._process.stdout.fileno(), time.monotonic() + timeout
        while b"\n" not in self._pending:
            ready, _, _ = select.select([reading], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                self._process.kill()
                self._ended()
                raise ToolkitError(f"the {self._name} gave no answer in {timeout:g} s and was killed")
            if not (got := os.read(reading, 1 << 20)):
                raise ToolkitError(f"the {self._name} ended: {self._ended()}")
            self._pending += got
        line, _, self._pending = self._pending.partition(b"\n")
        try:
            return json.loads(line)
        except ValueError as error:
            self._process.kill()
            self._ended()
            raise ToolkitError(f"the {self._name} said {line[:80]!r}, expected JSON") from error

    def _ended(self) -> str:
        """Wait for its end; the last line that it said beside its answers."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):  # what was not sent goes nowhere
                pipe.close()
        try:
            code = self._process.wait(timeout=LINGER)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        with self._errors:
            self._errors.seek(0)
            said = self._errors.read().strip().splitlines()
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return said[-1].strip() if said and code >= 0 else how
