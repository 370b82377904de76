"""Boards that go away, Ctrl-C, kill -9, silence: what is left there, and what comes back all the same."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.boards import connected, options
from tests.conftest import ROOT, TOOLKIT, Finished
from toolkit.errors import BoardError
from toolkit.remote import bench_on
from toolkit.remote.boards import parse_boards
from toolkit.remote.connection import Patience

if TYPE_CHECKING:
    from tests.sshd import Place, Server

pytest_plugins = ["tests.board_fixtures"]


def started(server: Server, bundle: Path, place: Place) -> subprocess.Popen[str]:
    """The command, long enough to be disturbed, once the board is at the benchmark."""
    command = [str(TOOLKIT), "bench", str(bundle), "--on", place.name, "--ssh-config", str(server.config)]
    process = subprocess.Popen(
        [*command, "--python", sys.executable, "--rounds", "1000", "-o", str(bundle.parent / f"{place.name}.json")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(f"Boards: {place.name}: bench, "):
            break
    assert place.left_now() != []
    return process


def ended(process: subprocess.Popen[str]) -> Finished:
    out, err = process.communicate(timeout=60)
    return Finished(process.returncode, out, err)


def processes_in(place: Place) -> list[int]:
    """Processes of the board that work in its temporary folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (entry / "cwd").readlink().is_relative_to(place.tmp):
                found.append(int(entry.name))
    return found


def other_python(version: str) -> str:
    """One that pyenv has."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = sorted(root.glob(f"versions/{version}.*/bin/python"))
    if not found:
        pytest.skip(f"there is no Python {version} here")
    return str(found[0])


@pytest.mark.parametrize(("version", "well"), [("3.9", True), ("3.8", False)])
def test_the_far_end_needs_python_3_9(server: Server, place: Place, version: str, well: bool) -> None:
    python = other_python(version)
    if not well:
        old = pytest.raises(BoardError, match=r"its Python is 3\.8, older than 3\.9, which the self-test needs")
        with old, connected(server, place, python):
            pass
        return
    with connected(server, place, python) as there:
        there.put("some/file", b"x" * 600_000)
        done = there.run([python, "-c", "import os; print(os.getcwd())"], cwd="some", limit=30)
        assert done.out.decode().strip() == f"{there.folder}/some"
        assert there.get("some/file") == b"x" * 600_000
        assert there.facts is not None
        assert there.facts.version == (3, 9)
        assert there.close() is None
        assert place.left_now() == []


def test_a_board_that_goes_away(server: Server, bundle: Path, place: Place) -> None:
    before = set(server.sessions())
    process = started(server, bundle, place)
    for session in set(server.sessions()) - before:
        os.kill(session, signal.SIGKILL)
    done = ended(process)
    assert done.code == 3
    assert done.error_line.startswith(f"error: {place.name}: bench: it went away: ")
    assert "may still be there (the board removes it when it notices)" in done.err
    assert place.left() == []
    assert processes_in(place) == []


def test_ctrl_c_leaves_nothing(server: Server, bundle: Path, place: Place) -> None:
    process = started(server, bundle, place)
    process.send_signal(signal.SIGINT)
    done = ended(process)
    assert done.code == 130
    assert done.error_line == "error: interrupted; nothing half-written was left behind"
    assert place.left_now() == []  # the command waited for that
    assert processes_in(place) == []


def test_what_was_measured_until_ctrl_c_is_kept(server: Server, bundle: Path, place: Place) -> None:
    def step(_done: int, _total: int, what: str) -> None:
        if re.search(r"bench, .*[1-9]\d %", what):
            raise KeyboardInterrupt

    many = options(server, arguments=("--scenario=single-stream", "--calls=300", "--rounds=20"))
    (result,) = bench_on(bundle, parse_boards([place.name]), many, step=step)
    assert (result.step, result.exit_code, result.error) == ("bench", 130, "interrupted")
    assert result.report is not None
    assert result.report["interrupted"]
    assert result.report["files"][0]["scenarios"]["single-stream"]["latency"]["n"] >= 300
    assert place.left_now() == []


def test_a_killed_command_leaves_nothing(server: Server, bundle: Path, place: Place) -> None:
    process = started(server, bundle, place)
    process.kill()
    ended(process)
    assert place.left() == []
    assert processes_in(place) == []


def test_a_board_that_says_nothing_any_more(server: Server, place: Place) -> None:
    """A cable that is pulled: nobody closes anything."""
    before, sessions = set(server.sessions()), set()
    try:
        with connected(server, place, patience=Patience(alive=2, silence=5)) as there:
            sessions = set(server.sessions()) - before
            for session in sessions:
                os.kill(session, signal.SIGSTOP)
            with pytest.raises(BoardError, match="it went away: no sign of life any more; see that it is on"):
                there.run([sys.executable, "-c", "import time; time.sleep(60)"], limit=60)
            assert there.close() == there.folder  # nobody could say
            assert place.left() == []  # it heard nothing for 5 s
    finally:
        for session in sessions:
            os.kill(session, signal.SIGKILL)


def test_what_a_command_there_leaves_running_is_ended(server: Server, place: Place) -> None:
    with connected(server, place) as there:
        script = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])"
        done = there.run([sys.executable, "-c", script], limit=60)
        assert (done.code, done.late) == (0, False)
        assert processes_in(place) == []


def test_a_benchmark_that_takes_too_long_is_ended(server: Server, bundle: Path, place: Place) -> None:
    endless = options(server, bench_limit=3, arguments=("--scenario=single-stream", "--calls=300", "--rounds=100000"))
    (result,) = bench_on(bundle, parse_boards([place.name]), endless)
    assert (result.step, result.exit_code) == ("bench", 3)
    assert "it was ended, as it took longer than " in result.line
    assert result.report is None or result.report["interrupted"]  # how far it came is the machine's affair
    assert place.left_now() == []


def test_answers_that_are_none_of_ours(server: Server, bundle: Path) -> None:
    answers = {
        "liar": r"printf '@toolkit-board\n{\"size\": 0}\n'; sleep 5; ",
        "babbler": r"printf '@toolkit-board\nnothing like it\n'; sleep 5; ",
        "flood": "yes; ",
    }
    liars = [server.place(name, before=before).name for name, before in answers.items()]
    results = bench_on(bundle, parse_boards(liars), options(server, patience=Patience(connect=20)))
    assert [(result.step, result.exit_code) for result in results] == [("connect", 3)] * 3
    assert all("it says something else than what was asked" in result.line for result in results)
