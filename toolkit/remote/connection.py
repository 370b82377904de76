"""One board over one ssh process: what `toolkit.remote.agent` understands, asked from here."""

from __future__ import annotations

import hashlib
import json
import queue
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from toolkit.errors import BoardError
from toolkit.remote import agent, ssh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from toolkit.remote.boards import Board

__all__ = ["Cancelled", "Connection", "Facts", "Finished", "Patience", "printable"]

_PART = 256 * 1024
_LARGEST_LINE = 1 << 20
_LARGEST_NOISE = 1 << 18  # what a login shell prints before
_LARGEST_FILE = 1 << 30
_END = 20.0  # seconds in which a board removes what it has


class Cancelled(Exception):  # noqa: N818 - no error: the user's Ctrl-C
    """This board is to stop."""


class Patience(NamedTuple):
    """How long, in seconds.

    Attributes:
        alive: between two signs of life; a board that gives none for three times as long is gone.
        connect: until the far end speaks; while OpenSSH may ask a person, ten times that.
        silence: after which the board takes us for gone and cleans up.
    """

    alive: int = 10
    connect: float = 60
    silence: float = 90


class Facts(NamedTuple):
    """What a board says of itself.

    Attributes:
        python: the version of the Python that was found there.
        version: its first two numbers.
        executable: where it is.
        machine, system: as ``uname`` says them.
        pip, venv: it has a pip, and can give one to an environment.
    """

    python: str
    version: tuple[int, int]
    executable: str
    machine: str
    system: str
    pip: bool
    venv: bool


class Finished(NamedTuple):
    """A command that ended on a board.

    Attributes:
        code: its exit code, negative for a signal.
        late: it was ended for its time limit.
        out: standard output.
        errors: the last lines of standard error.
        seconds: how long it took.
    """

    code: int
    late: bool
    out: bytes
    errors: tuple[str, ...]
    seconds: float

    @property
    def last(self) -> str:
        """What it said last."""
        return next((line for line in reversed(self.errors) if line), "it said nothing")


class Connection:
    """A board with a temporary folder of ours on it, until `close`.

    Attributes:
        board: which.
        facts: what it says of itself; None until `open`.
        folder: ours, as a path there; empty until `begin`.
    """

    def __init__(
        self,
        board: Board,
        *,
        python: str | None = None,
        config: Path | None = None,
        interactive: bool = False,
        patience: Patience | None = None,
    ) -> None:
        self.board, self.patience = board, patience or Patience()
        self.facts: Facts | None = None
        self.folder = ""
        self._interactive, self._config = interactive, config
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._writing, self._heard, self._cancelled = threading.Lock(), time.monotonic(), False
        self._said, self._garbled, self._over = b"", False, threading.Event()
        command = ssh.ssh_command(board, interactive=interactive, config=config, alive=self.patience.alive)
        remote = ssh.remote_command((python,) if python else ssh.PYTHONS)
        self._process = ssh.start([*command, remote])
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._hear, self._hear_errors)]
        for thread in self._threads:
            thread.start()

    def open(self) -> None:
        """Wait until the far end speaks; fills `facts`.

        Raises:
            BoardError: it does not come to that: the reason, and what to do.
        """
        source = Path(agent.__file__).read_bytes()
        with suppress(OSError):  # what became of it says the process
            self._write(f"{len(source)}\n".encode() + source)
        limit = self.patience.connect * (10 if self._interactive else 1)
        said = self._answer(limit, "it did not begin to speak")
        with _understood():
            words = {name: printable(str(said[name])) for name in ("python", "executable", "machine", "system")}
            major, minor = map(int, said["version"])
            self.facts = Facts(**words, version=(major, minor), pip=bool(said["pip"]), venv=bool(said["venv"]))
        threading.Thread(target=self._stay_alive, daemon=True).start()

    def begin(self, *, need: int, keep: bool) -> None:
        """Make the folder, where there is room for so many bytes.

        Raises:
            BoardError: it cannot be made, or the board is gone.
        """
        answer = self._ask({"do": "begin", "need": need, "keep": keep, "silence": self.patience.silence}, limit=60)
        self._check(answer, "a temporary folder cannot be made")
        with _understood():
            self.folder = printable(str(answer["folder"]))

    def put(self, name: str, data: bytes) -> None:
        """Write a file below the folder, and see that it arrived.

        Raises:
            BoardError: the disk is full there, or gave back other bytes, or the board is gone.
        """
        answer: dict[str, Any] = {}
        for offset in range(0, max(len(data), 1), _PART):
            part = data[offset : offset + _PART]
            frame = {"do": "put", "path": name, "offset": offset, "last": offset + _PART >= len(data)}
            answer = self._ask(frame, part, limit=120)
            self._check(answer, f"{self.folder}/{name} cannot be written")
        if answer.get("sha256") != hashlib.sha256(data).hexdigest():
            raise BoardError(f"{self.folder}/{name} is not there as it was sent; its disk or memory may be bad")

    def get(self, name: str) -> bytes:
        """Read a file below the folder.

        Raises:
            BoardError: it is not there, or the board is gone.
        """
        data = bytearray()
        while True:
            frame = {"do": "get", "path": name, "offset": len(data), "most": _PART}
            answer = self._ask(frame, limit=120)
            self._check(answer, f"{self.folder}/{name} cannot be read")
            data += answer["data"]
            with _understood():
                if not answer["data"] or len(data) >= min(int(answer["whole"]), _LARGEST_FILE):
                    return bytes(data)

    def run(
        self,
        argv: Sequence[str],
        *,
        limit: float,
        cwd: str = ".",
        without: Sequence[str] = (),
        imports: str = "",
        tell: Callable[[str], None] | None = None,
    ) -> Finished:
        """Run a command there.

        Args:
            argv: program and words.
            limit: seconds that it may take.
            cwd: below the folder.
            without: names that its environment has not.
            imports: a folder below ours from which Python imports first.
            tell: told of lines of its standard error as they come, a few a second at most.

        Raises:
            BoardError: it cannot be started, or the board is gone.
        """
        frame = {
            "do": "run",
            "argv": list(argv),
            "cwd": cwd,
            "without": list(without),
            "imports": imports,
            "limit": limit,
        }
        answer = self._ask(frame, limit=limit + 60, tell=tell)
        self._check(answer, f"{argv[0]} cannot be started")
        with _understood():
            errors = tuple(printable(str(line)) for line in answer["errors"])
            code, seconds = int(answer["code"]), float(answer["seconds"])
            return Finished(code, bool(answer["late"]), answer["data"], errors, seconds)

    def rescue(self, name: str) -> bytes:
        """After `cancel`: end the command that runs there as Ctrl-C would, and read a file that it left.

        Raises:
            BoardError: there is none, or the board is gone.
        """
        self._cancelled = False
        answer = self._ask({"do": "stop"}, limit=_END)
        while "stopped" not in answer:  # answers to what was asked before come first
            answer = self._answer(_END, "it did not end")
        return self.get(name)

    def cancel(self) -> None:
        """Make whatever waits for the board raise `Cancelled`; any thread may call it."""
        self._cancelled = True
        self._answers.put({"cancel": True})

    def close(self) -> str | None:
        """Have the board end what runs there and remove the folder, then end the connection.

        Returns:
            The folder where it stays, or where nobody could say that it went (it will, once the board notices); else
            None.
        """
        left: str | None = self.folder or None
        with suppress(BoardError, OSError, ValueError, KeyError):
            if self.facts is not None and self._process.poll() is None:
                self._cancelled = False
                self._write(b'{"do": "end"}\n')
                left = self._wait_for_end()
        self.kill()
        return left

    def kill(self) -> None:
        """End the connection at once; the board cleans up after itself."""
        self._process.terminate()  # not SIGKILL: it may have turned the terminal's echo off for a question
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for thread in self._threads:
            thread.join(5)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None and self._writing.acquire(timeout=5):
                with suppress(OSError):
                    stream.close()
                self._writing.release()

    def _wait_for_end(self) -> str | None:
        deadline = time.monotonic() + _END
        while True:  # answers to what was asked before may still come
            answer = self._answer(deadline - time.monotonic(), "it did not end")
            if answer.get("ended"):
                return str(answer["left"]) if answer["left"] else None

    def _ask(
        self,
        frame: dict[str, Any],
        data: bytes = b"",
        *,
        limit: float,
        tell: Callable[[str], None] | None = None,
    ) -> dict[str, Any]:
        with suppress(OSError):  # what became of it says the process
            self._write(json.dumps({**frame, "size": len(data)}).encode() + b"\n" + data)
        deadline = time.monotonic() + limit
        while True:
            answer = self._answer(deadline - time.monotonic(), f"it gave no answer in {limit:.0f} s")
            if "line" not in answer:
                return answer
            if tell is not None:
                tell(printable(str(answer["line"])))

    def _answer(self, limit: float, late: str) -> dict[str, Any]:
        try:
            answer = self._answers.get(timeout=max(limit, 0))
        except queue.Empty:
            raise BoardError(f"{late}; check that it is well") from None
        if self._cancelled:
            raise Cancelled
        if answer is None:
            raise BoardError(self._why_ended())
        return answer

    def _check(self, answer: dict[str, Any], what: str) -> None:
        if "failed" in answer:
            raise BoardError(f"{what}: {printable(str(answer['failed']))}; make room there, or look what is wrong")

    def _write(self, data: bytes) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        with self._writing:
            stdin.write(data)
            stdin.flush()

    def _hear(self) -> None:
        """Answers into the queue; None at the end."""
        stdout = self._process.stdout
        assert stdout is not None
        noise = 0
        try:
            while (line := stdout.readline(_LARGEST_LINE)).rstrip(b"\r\n") != agent.MARK:
                noise += len(line)
                if not line:
                    return
                if noise > _LARGEST_NOISE:
                    raise ValueError(line)
            while line := stdout.readline(_LARGEST_LINE):
                answer = json.loads(line)
                size = int(answer["size"])
                if not 0 <= size <= 2 * _LARGEST_FILE:
                    raise ValueError(size)
                answer["data"] = stdout.read(size)
                self._heard = time.monotonic()
                if "alive" not in answer:
                    self._answers.put(answer)
        except OSError:
            pass
        except (ValueError, KeyError, TypeError):
            self._garbled = True
        finally:
            self._over.set()
            self._answers.put(None)

    def _hear_errors(self) -> None:
        stderr = self._process.stderr
        assert stderr is not None
        with suppress(OSError, ValueError):
            while part := stderr.read1(65536):  # type: ignore[attr-defined]  # a pipe's reader is buffered
                self._said = (self._said + part)[-65536:]

    def _stay_alive(self) -> None:
        """Says now and then that we are here, and ends a connection that says nothing for long."""
        step, longest = self.patience.alive * 2, self.patience.alive * 6
        while not self._over.wait(step):
            if time.monotonic() - self._heard > longest:
                self._said += b"\nno sign of life any more"
                self._process.terminate()
            elif self._writing.acquire(timeout=1):
                self._writing.release()
                with suppress(OSError, ValueError):
                    self._write(b'{"do": "alive"}\n')

    def _why_ended(self) -> str:
        if self._garbled:
            return _GARBLED
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._threads[1].join(2)
        said = "\n".join(printable(line) for line in self._said.decode(errors="replace").splitlines())
        if ssh.NO_PYTHON in said:
            return "no such Python there; install Python 3.11 or newer, or name one with --python"
        if "@toolkit-old-python" in said:
            version = said.partition("@toolkit-old-python ")[2].split()[0]
            return f"its Python is {version}, older than 3.9, which the self-test needs; name another with --python"
        if self.facts is not None:
            last = (said.strip().splitlines() or ["no sign of life any more"])[-1].strip()
            return f"it went away: {last}; see that it is on and in this network, and run again"
        return ssh.reason(said, self._process.returncode, self.board, self._config)


@contextmanager
def _understood() -> Iterator[None]:
    """An answer of another form than ours is that board's failure."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise BoardError(_GARBLED) from error


_GARBLED = "it says something else than what was asked; check what its login prints, and that it is well"


def printable(text: str) -> str:
    """A board's words without anything that a terminal would obey."""
    return "".join(letter if letter.isprintable() else " " for letter in text)[:400]
