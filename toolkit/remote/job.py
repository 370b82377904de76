"""One board, step by step: connect, copy, environment, self-test, bench, results; and away again."""

from __future__ import annotations

import json
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from toolkit.errors import BoardError, UsageError
from toolkit.remote import environment
from toolkit.remote.code import MODULE
from toolkit.remote.connection import Cancelled, Connection, Patience, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from toolkit.remote.boards import Board
    from toolkit.remote.connection import Facts, Finished

__all__ = ["LOWEST_PYTHON", "PAGES", "STEPS", "BoardOptions", "BoardResult", "Job", "Sending"]

STEPS = ("connect", "copy", "environment", "self-test", "bench", "results")
"""What is done on a board, in order."""

PAGES = {"markdown": "bench.md", "csv": "bench.csv", "save-settings": "settings.json"}
"""What the benchmark writes besides its report if it is asked to: the option, and the file on the board."""

LOWEST_PYTHON = (3, 11)
"""Of the benchmark; the self-test runs on older ones."""

_SELFTEST_LIMIT = 900.0
_BUNDLE, _CODE, _REPORT = "bundle", "code", "bench.json"
_KNOWN_CODES = (1, 2, 3, 4)
_ROOM = 50_000_000  # for the report, and what the benchmark writes


@dataclass(frozen=True)
class BoardOptions:
    """How boards are used.

    Attributes:
        python: name or path of a Python on the boards; None: one is looked for.
        wheels: a folder here with what the boards install; None: they download it.
        keep: leave our folder there.
        arguments: words for ``python -m toolkit.benchmarking``, besides the bundle and what it writes.
        pages: names of `PAGES`: what is to come back besides the report.
        ssh_config: a configuration for OpenSSH in place of the user's.
        interactive: OpenSSH may ask the user on the terminal; boards are connected one after another then.
        bench_limit: seconds that the benchmark may take.
        patience: see there.

    Raises:
        UsageError: a Python that would be an option or no word, or a configuration that is not there.
    """

    python: str | None = None
    wheels: Path | None = None
    keep: bool = False
    arguments: tuple[str, ...] = ()
    pages: tuple[str, ...] = ()
    ssh_config: Path | None = None
    interactive: bool = False
    bench_limit: float = 4 * 3600
    patience: Patience = field(default_factory=Patience)

    def __post_init__(self) -> None:
        python, config = self.python, self.ssh_config
        if python is not None and (not python or python.startswith("-") or not python.isprintable()):
            raise UsageError(f"--python is {python!r}, expected the name or path of a Python on the board")
        if config is not None and not config.is_file():
            raise UsageError(f"--ssh-config {config} is no file; give one in the form of ~/.ssh/config")


@dataclass(frozen=True)
class BoardResult:
    """What came of one board.

    Attributes:
        board: which.
        step: of `STEPS`, the last that was begun.
        error: what went wrong in it, and what to do; None: all is well.
        exit_code: 0, or what that failure means (see `toolkit.errors`).
        facts: what the board says of itself; None: it never spoke.
        environment: "made" there, or the Python that was "named"; None: neither came about.
        selftest: the self-test's report, as ``python predictor.py --selftest --json`` gives it.
        report: the benchmark's, as bench.json holds it.
        pages: bytes of what else was asked for, by the names of `PAGES`, as far as it came about.
        left: our folder there, where it stays or may stay.
        seconds: how long it all took.
    """

    board: Board
    step: str
    error: str | None
    exit_code: int
    facts: Facts | None
    environment: str | None
    selftest: Mapping[str, Any] | None
    report: Mapping[str, Any] | None
    pages: Mapping[str, bytes]
    left: str | None
    seconds: float

    @property
    def line(self) -> str:
        """Which board, which step, what happened and what to do."""
        return f"{self.board.name}: {self.step}: {self.error or 'done'}"


@dataclass(frozen=True)
class Sending:
    """What goes to every board: bytes by file name."""

    bundle: Mapping[str, bytes]
    code: Mapping[str, bytes]
    wheels: Mapping[str, bytes] | None

    def need(self, *, named: bool) -> int:
        """Room that it takes there with what is made of it, about: bytes.

        Args:
            named: the Python there has what it needs, most likely.
        """
        sizes = sum(len(data) for files in (self.bundle, self.code, self.wheels or {}) for data in files.values())
        return sizes + _ROOM + (0 if named else environment.INSTALLED_BYTES)


class Job:
    """One board's: `start`, then `run` in a thread of its own; `cancel` and `kill` from any other."""

    def __init__(self, board: Board, options: BoardOptions, sending: Sending, tell: Callable[[str, str], None]) -> None:
        self.board, self.options = board, options
        self._sending, self._tell_of = sending, tell
        self._connection: Connection | None = None
        self._step, self._began = STEPS[0], time.monotonic()
        self._failed: BoardError | None = None
        self._environment: str | None = None
        self._selftest: dict[str, Any] | None = None
        self._report: dict[str, Any] | None = None
        self._pages: dict[str, bytes] = {}

    def start(self) -> None:
        """Start the connection.

        Raises:
            MissingError: no OpenSSH here.
        """
        options = self.options
        self._connection = Connection(
            self.board,
            python=options.python,
            config=options.ssh_config,
            interactive=options.interactive,
            patience=options.patience,
        )

    def open(self) -> None:
        """Wait until it stands; what hinders it comes out of `run`."""
        try:
            self._there.open()
        except BoardError as error:
            self._failed = error

    def run(self) -> BoardResult:
        """All steps. A failure is in what it returns; so is the user's interruption."""
        error: str | None = None
        code, left = 0, None
        try:
            self._steps()
        except BoardError as failure:
            error, code = str(failure), failure.exit_code
        except Cancelled:
            error, code = "interrupted", 130
        finally:
            left = self._there.close()
        return BoardResult(
            board=self.board,
            step=self._step,
            error=error,
            exit_code=code,
            facts=self._there.facts,
            environment=self._environment,
            selftest=self._selftest,
            report=self._report,
            pages=self._pages,
            left=left,
            seconds=time.monotonic() - self._began,
        )

    def cancel(self) -> None:
        """Make `run` clean up and come back soon."""
        if self._connection is not None:
            self._connection.cancel()

    def kill(self) -> None:
        """End the connection at once."""
        if self._connection is not None:
            self._connection.kill()

    @property
    def folder(self) -> str:
        """Ours on the board, once there is one."""
        return self._connection.folder if self._connection is not None else ""

    @property
    def _there(self) -> Connection:
        assert self._connection is not None  # start() comes first
        return self._connection

    def _begin(self, step: str) -> None:
        self._step = step
        self._tell("")

    def _tell(self, more: str) -> None:
        self._tell_of(self._step, more)

    def _steps(self) -> None:
        there = self._there
        self._begin("connect")
        if there.facts is None and self._failed is None:
            self.open()
        if self._failed is not None:
            raise self._failed
        self._begin("copy")
        named = self.options.python is not None
        there.begin(need=self._sending.need(named=named), keep=self.options.keep)
        for name, data in self._sending.bundle.items():
            there.put(f"{_BUNDLE}/{name}", data)
        for name, data in self._sending.code.items():
            there.put(f"{_CODE}/{name}", data)
        self._begin("environment")
        python = environment.prepare(there, named=named, wheels=self._sending.wheels, bundle=_BUNDLE, tell=self._tell)
        self._environment = "made" if python.own else "named"
        without = ("PYTHONPATH",) if python.own else ()
        self._begin("self-test")
        self._test(python, without)
        self._begin("bench")
        self._bench(python, without)
        self._begin("results")
        self._report = _report(there.get(_REPORT))
        for name in self.options.pages:
            self._pages[name] = there.get(PAGES[name])

    def _test(self, python: environment.Interpreter, without: tuple[str, ...]) -> None:
        """Raise what the self-test finds wrong."""
        command = [python.path, "predictor.py", "--selftest", "--json"]
        done = self._there.run(command, limit=_SELFTEST_LIMIT, cwd=_BUNDLE, without=without)
        try:
            report = json.loads(done.out)
            self._selftest = report if isinstance(report, dict) else None
        except ValueError:
            pass
        if self._selftest is None:
            raise BoardError(f"it gave no verdict: {_ended(done)}; run it there: python predictor.py --selftest")
        if done.code:
            raise BoardError(f"it failed: {printable(str(self._selftest.get('error')))}", _known(done.code))

    def _bench(self, python: environment.Interpreter, without: tuple[str, ...]) -> None:
        facts = self._there.facts
        assert facts is not None  # open() was well
        if facts.version < LOWEST_PYTHON:
            raise BoardError(
                f"its Python is {facts.python}, older than {'.'.join(map(str, LOWEST_PYTHON))}, which the benchmark "
                "needs (the self-test passed); name a newer one with --python"
            )
        folder = self._there.folder
        # -P keeps the current folder out of sys.path, as it is for an installed program.
        command = [python.path, "-P", "-m", MODULE, f"{folder}/{_BUNDLE}", "--output", f"{folder}/{_REPORT}"]
        command += [f"--{name}={folder}/{PAGES[name]}" for name in self.options.pages]
        try:
            done = self._there.run(
                [*command, *self.options.arguments],
                limit=self.options.bench_limit,
                without=without,
                imports=_CODE,
                tell=self._tell,
            )
        except Cancelled:
            with suppress(BoardError):  # what was measured until then is not lost
                self._report = _report(self._there.rescue(_REPORT))
            raise
        if done.code:
            with suppress(BoardError):  # nor is it here
                self._report = _report(self._there.get(_REPORT))
            raise BoardError(f"it failed: {_ended(done)}", _known(done.code))


def _known(code: int) -> int:
    return code if code in _KNOWN_CODES else 3


def _ended(done: Finished) -> str:
    """How a command that failed came to its end."""
    if done.late:
        return f"it was ended, as it took longer than {done.seconds:.0f} s"
    if done.code < 0:
        try:
            name = signal.Signals(-done.code).name
        except ValueError:
            name = f"signal {-done.code}"
        return f"{name} ended it, as when memory runs out or a CPU lacks an instruction ({done.last})"
    errors = [line.removeprefix("error: ") for line in done.errors if line.startswith("error: ")]
    return errors[-1] if errors else f"exit code {done.code}: {done.last}"


def _report(data: bytes) -> dict[str, Any]:
    try:
        report = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BoardError(f"bench.json is damaged ({str(error)[:80]}); run again") from error
    if not isinstance(report, dict) or "format" not in report:
        raise BoardError("bench.json is no report of a benchmark; run again")
    return report
