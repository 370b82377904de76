"""The far end: what runs on a board while ``toolkit bench --on`` uses it, sent there as text over ssh.

It makes one temporary folder, takes files into it, runs commands one at a time, gives files back, and removes the
folder with everything that was started: when it is told to, and also when nobody speaks to it any more (the connection
ended, or nothing was heard for a while), so that a board cleans up after itself. Python 3.9 or newer, the standard
library alone; nothing is imported from the toolkit.

What is said goes over standard input and output: one JSON object a line, and after it the bytes that its "size" tells.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

MARK = b"@toolkit-board"
"""The line after which the far end speaks; a login shell may print whatever it likes before."""

PREFIX = "toolkit-bench-"
"""How the folder's name begins."""

_OUTPUT = 4_000_000  # bytes of a command's standard output that are kept
_ERROR_LINES = 60
_ERROR_LINE = 500
_GRACE = 15.0  # seconds in which a command that took too long may end by itself
_PACE = 0.25  # seconds between two lines of a command that are handed on: each takes time that a benchmark might want


class _Gone(Exception):  # noqa: N818 - no error: the end
    """Nobody is there any more, or a signal ended this process."""


class _Told(Exception):  # noqa: N818 - the same
    """The other side said that it is the end."""


class Agent:
    """One connection's."""

    def __init__(self, source: IO[bytes], sink: IO[bytes]) -> None:
        self.source, self.sink = source, sink
        self.events: queue.SimpleQueue[tuple[str, Any, bytes]] = queue.SimpleQueue()
        self.silence, self.keep, self.heard = 90.0, False, time.monotonic()
        self.folder: Path | None = None
        self.child: subprocess.Popen[bytes] | None = None

    def serve(self) -> None:
        """Until told to end, or left alone."""
        told = False
        try:
            for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._signalled)
            threading.Thread(target=self._listen, daemon=True).start()
            self.sink.write(b"\n" + MARK + b"\n")
            self.say(_facts())
            while True:
                kind, frame, data = self._next()
                if kind == "frame":
                    self._handle(frame, data)
        except _Told:
            told = True
        except (_Gone, OSError):
            pass
        finally:
            left = self._clean()
        if told:
            self.say({"ended": True, "left": left})

    def say(self, answer: dict[str, Any], data: bytes = b"") -> None:
        """One answer."""
        self.sink.write(json.dumps({**answer, "size": len(data)}).encode() + b"\n" + data)
        self.sink.flush()

    def _signalled(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the form of a handler
        self.events.put(("gone", None, b""))  # a SimpleQueue's put may interrupt itself

    def _listen(self) -> None:
        try:
            while True:
                line = self.source.readline()
                frame = json.loads(line)
                data = self.source.read(frame.get("size", 0))
                self.events.put(("frame", frame, data))
        except (ValueError, OSError):  # an empty line is the end, and no JSON
            self.events.put(("gone", None, b""))

    def _next(self, deadline: float | None = None) -> tuple[str, Any, bytes]:
        """The next event but signs of life, which are answered; ("late", ...) after the deadline."""
        while True:
            until = self.heard + self.silence
            wait = (until if deadline is None else min(until, deadline)) - time.monotonic()
            try:
                kind, frame, data = self.events.get(timeout=max(wait, 0))
            except queue.Empty:
                if deadline is not None and deadline <= until:
                    return "late", None, b""
                raise _Gone from None
            if kind == "gone":
                raise _Gone
            if kind == "frame":
                self.heard = time.monotonic()
                if frame["do"] == "end":
                    raise _Told
                if frame["do"] == "alive":
                    self.say({"alive": True})
                    continue
            return kind, frame, data

    def _handle(self, frame: dict[str, Any], data: bytes) -> None:
        try:
            answer, content = getattr(self, f"do_{frame['do']}")(frame, data)
        except OSError as error:
            answer, content = {"failed": error.strerror or str(error), "errno": error.errno}, b""
        self.say(answer, content)

    def do_begin(self, frame: dict[str, Any], _data: bytes) -> tuple[dict[str, Any], bytes]:
        """Make the folder, where there is room for so many bytes."""
        self.silence, self.keep = float(frame["silence"]), bool(frame["keep"])
        place = _place(int(frame["need"]))
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        return {"folder": str(self.folder), "free": shutil.disk_usage(self.folder).free}, b""

    def do_put(self, frame: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Write a part of a file; after the last one, its hash as it is on the disk."""
        path = self._inside(frame["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("r+b" if frame["offset"] else "wb") as file:
            file.seek(frame["offset"])
            file.write(data)
        if not frame["last"]:
            return {"put": True}, b""
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
        return {"put": True, "sha256": digest.hexdigest()}, b""

    def do_get(self, frame: dict[str, Any], _data: bytes) -> tuple[dict[str, Any], bytes]:
        """Read a part of a file."""
        path = self._inside(frame["path"])
        with path.open("rb") as file:
            file.seek(frame["offset"])
            data = file.read(frame["most"])
        return {"got": True, "whole": path.stat().st_size}, data

    def do_stop(self, _frame: dict[str, Any], _data: bytes) -> tuple[dict[str, Any], bytes]:
        """End the command that runs, as Ctrl-C would; here none does any more."""
        return {"stopped": True}, b""

    def do_run(self, frame: dict[str, Any], _data: bytes) -> tuple[dict[str, Any], bytes]:
        """Run a command to its end, or to its time limit; nothing that it started outlives it."""
        folder = self._inside(frame["cwd"])
        dropped = ("PYTHONHOME", "PYTHONSTARTUP", "PYTHONDONTWRITEBYTECODE", *frame["without"])
        environment = {name: value for name, value in os.environ.items() if name not in dropped}
        scratch = self._inside("tmp")
        scratch.mkdir(exist_ok=True)
        environment["TMPDIR"] = str(scratch)
        if frame["imports"]:
            theirs = [environment["PYTHONPATH"]] if environment.get("PYTHONPATH") else []
            environment["PYTHONPATH"] = os.pathsep.join([str(self._inside(frame["imports"])), *theirs])
        started = time.monotonic()
        self.child = child = subprocess.Popen(
            frame["argv"], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert child.stdout is not None
        assert child.stderr is not None
        said, output = _Tail(self.events, child.stderr), _Whole(child.stdout)
        threading.Thread(target=self._wait, args=(child, said, output), daemon=True).start()
        late = stopped = False
        deadline: float | None = started + float(frame["limit"])
        while True:
            kind, value, _ = self._next(deadline)
            if kind == "line":
                self.say({"line": value})
            elif (kind == "late" and not stopped) or (kind == "frame" and value["do"] == "stop"):
                late, stopped, deadline = kind == "late", True, time.monotonic() + _GRACE
                child.send_signal(signal.SIGINT)  # as Ctrl-C would: it may keep what it has
            elif kind == "late":
                deadline = None
                _kill(child)
            elif kind == "ended":
                break
        self.child = None
        answer = {"code": child.returncode, "late": late, "errors": said.lines, "seconds": time.monotonic() - started}
        if not stopped or late:
            return answer, output.data[:_OUTPUT]
        self.say(answer, output.data[:_OUTPUT])
        return {"stopped": True}, b""

    def _wait(self, child: subprocess.Popen[bytes], *readers: threading.Thread) -> None:
        child.wait()
        # A child of the child may hold the other end of the pipes, and would do so for ever.
        readers[0].join(1)
        _kill(child)
        for reader in readers:
            reader.join(2)
        self.events.put(("ended", None, b""))

    def _inside(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / name

    def _clean(self) -> str | None:
        """Remove everything; the folder, where it stays."""
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        if self.child is not None:
            _kill(self.child)
        if self.folder is None:
            return None
        if self.keep:
            return str(self.folder)
        for _ in range(20):  # something that was killed a moment ago may still write
            shutil.rmtree(self.folder, ignore_errors=True)
            if not self.folder.exists():
                return None
            time.sleep(0.1)
        return str(self.folder)


class _Tail(threading.Thread):
    """Reads a command's standard error: keeps the last lines, and hands some on as they come."""

    def __init__(self, events: queue.SimpleQueue[tuple[str, Any, bytes]], source: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self.events, self.source = events, source
        self.lines: list[str] = []
        self.start()

    def run(self) -> None:
        last = 0.0
        while line := self.source.readline(65536):
            text = line.decode(errors="replace").strip()[:_ERROR_LINE]
            if not text:
                continue
            self.lines = [*self.lines[1 - _ERROR_LINES :], text]
            if time.monotonic() - last >= _PACE:
                last = time.monotonic()
                self.events.put(("line", text, b""))


class _Whole(threading.Thread):
    """Reads a command's standard output."""

    def __init__(self, source: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self.source, self.data = source, b""
        self.start()

    def run(self) -> None:
        while part := self.source.read1(65536):  # type: ignore[attr-defined]  # a pipe's reader is buffered
            if len(self.data) < _OUTPUT:
                self.data += part


def _kill(child: subprocess.Popen[bytes]) -> None:
    """The command and all that it started in its process group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


def _place(need: int) -> str:
    """Where temporary files go; where nobody chose that and there is little room, the larger of the usual two."""
    chosen = tempfile.gettempdir()
    if any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")) or _free(chosen) >= need:
        return chosen
    return max(chosen, "/var/tmp", key=_free)  # noqa: S108 - mkdtemp makes a private folder in it


def _free(folder: str) -> int:
    return shutil.disk_usage(folder).free if os.access(folder, os.W_OK | os.X_OK) else 0


def _facts() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "version": list(sys.version_info[:2]),
        "executable": sys.executable,
        "machine": platform.machine(),
        "system": platform.system(),
        "pip": importlib.util.find_spec("pip") is not None,
        "venv": importlib.util.find_spec("ensurepip") is not None,
    }


def main() -> None:
    """Serve standard input."""
    Agent(sys.stdin.buffer, sys.stdout.buffer).serve()
