"""``toolkit bench --on`` against a real sshd: what comes back, what is left there, and what goes wrong."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.bundles import MODEL, make_bundle
from tests.conftest import REFERENCE, ROOT, TOOLKIT, Finished, toolkit
from tests.environments import core_wheels
from tests.sshd import server_or_skip
from toolkit.cli import boards
from toolkit.errors import BoardError, MissingError, UsageError
from toolkit.remote import BoardOptions, bench_on, job, run
from toolkit.remote.boards import parse_boards
from toolkit.remote.connection import Connection, Patience

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sshd import Place, Server

SHORT = ("--quick", "--scenario=single-stream", "--calls=400")
names = (f"board-{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server_or_skip(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "device")


@pytest.fixture
def place(server: Server) -> Place:
    return server.place(next(names))


def bench(server: Server, bundle: Path, *options: object, on: list[str]) -> Finished:
    """The installed command, with the Python that runs the tests on the board."""
    words = [word for name in on for word in ("--on", name)]
    python = () if "--python" in options else ("--python", sys.executable)
    return toolkit("bench", bundle, *words, *python, "--ssh-config", server.config, *SHORT, *options)


def options(server: Server, **more: Any) -> BoardOptions:
    return BoardOptions(**{"python": sys.executable, "ssh_config": server.config, "arguments": SHORT, **more})


@contextmanager
def connected(server: Server, place: Place, python: str = sys.executable, **more: Any) -> Iterator[Connection]:
    (board,) = parse_boards([place.name])
    there = Connection(board, python=python, config=server.config, **more)
    try:
        there.open()
        there.begin(need=0, keep=False)
        yield there
    finally:
        there.close()


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


def test_two_boards_side_by_side_and_nothing_left(server: Server, bundle: Path, tmp_path: Path) -> None:
    quiet, noisy = (
        server.place("quiet"),
        server.place("noisy", before="echo Welcome; echo 'last login: today' >&2; printf '> '; "),
    )
    pages = ("--markdown", tmp_path / "page.md", "--csv", tmp_path / "page.csv", "--plot", tmp_path / "page.svg")
    done = bench(server, bundle, "--output", tmp_path / "result.json", *pages, on=["quiet", "ssh://noisy"])
    assert done.code == 0, done.err
    head = next(line for line in done.out.splitlines() if "quiet" in line)
    assert "noisy" in head
    verdicts = next(line for line in done.out.splitlines() if line.strip().startswith("self-test"))
    assert verdicts.split()[1:] == ["passed", "passed"]
    assert any(line.split() == ["result", "ok", "ok"] for line in done.out.splitlines())
    assert "p99.9" in done.out
    for name in ("quiet", "noisy"):
        report = json.loads((tmp_path / f"result.{name}.json").read_text())
        assert report["files"][0]["sha256"] == hashlib.sha256((bundle / MODEL).read_bytes()).hexdigest()
        assert report["files"][0]["scenarios"]["single-stream"]["latency"]["samples_ns"]["data"]
        assert report["settings"]["rounds"] == 3
        assert "single-stream" in (tmp_path / f"page.{name}.csv").read_text()
        assert (tmp_path / f"page.{name}.md").read_text().count("|") > 10
        assert "<svg" in (tmp_path / f"page.{name}.svg").read_text()
    assert quiet.left_now() == noisy.left_now() == []


def test_an_environment_made_of_wheels_and_kept_and_a_board_that_is_not_known(
    server: Server, place: Place, tmp_path: Path
) -> None:
    """The interpreter below the virtual environment that runs the tests has neither numpy nor onnxruntime."""
    server.place("stranger", known=False)
    artifact, python = tmp_path / "model", Path(sys.executable).resolve()
    shutil.copytree(REFERENCE, artifact)
    more = ("--python", python, "--wheels", core_wheels(), "--keep", "--json", "--save-settings")
    done = bench(server, artifact, *more, on=["stranger", place.name])
    assert done.code == 3
    assert done.error_line.startswith("error: stranger: connect: its host key is not known here; connect once by hand")
    assert f"ssh -F {server.config} stranger" in done.error_line
    assert "stranger" not in (server.folder / "known_hosts").read_text()
    stranger, board = json.loads(done.out)["boards"]
    assert (stranger["step"], stranger["exit_code"], stranger["report"]) == ("connect", 3, None)
    assert not {"samples", "samples_ns", "times_ns"} & set(re.findall(r'"(\w+)": ', done.out))
    assert (board["board"], board["exit_code"], board["error"]) == (place.name, 0, None)
    assert (board["environment"], board["selftest"]["verdict"]) == ("made", "passed")
    latency = board["report"]["files"][0]["scenarios"]["single-stream"]["latency"]
    assert latency["p50_ns"] > 0
    assert board["file"] == str(tmp_path / f"model.{place.name}.bench.json")
    assert json.loads(Path(board["file"]).read_text())["files"][0]["kind"] == "int8"
    assert json.loads((tmp_path / f"model.{place.name}.settings.json").read_text())["file"] == MODEL
    kept = place.tmp / Path(board["left"]).name
    assert board["left"] == str(kept)
    assert f"{place.name}: kept there: {kept}" in done.err
    assert (kept / "bundle" / MODEL).is_file()
    assert (kept / "venv" / "bin" / "python").exists()
    assert place.left_now() == [kept.name]
    assert sorted(path.name for path in artifact.iterdir()) == sorted(path.name for path in REFERENCE.iterdir())


def test_openssh_asks_in_a_terminal(server: Server, bundle: Path) -> None:
    """The question about an unknown host is OpenSSH's own, and so is what it makes of the answer."""
    server.place("asked", known=False)
    ours, theirs = os.openpty()
    command = [str(TOOLKIT), "bench", str(bundle), "--on", "asked", "--ssh-config", str(server.config)]
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *command, "--python", "/nowhere"], stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    said = b""
    with suppress(OSError):  # how a terminal says that nobody is there any more
        while part := os.read(ours, 4096):
            said += part
            if said.endswith(b"(yes/no/[fingerprint])? "):
                os.write(ours, b"yes\n")
    os.close(ours)
    assert process.wait(60) == 3
    assert b"asked: connect: no such Python there" in said
    assert any(line.startswith("asked ") for line in (server.folder / "known_hosts").read_text().splitlines())


def test_a_changed_host_key(server: Server, bundle: Path) -> None:
    server.place("changed")
    other = (server.folder / "changed.pub").read_text().split()
    known = server.folder / "known_hosts"
    lines = [line for line in known.read_text().splitlines() if not line.startswith("changed ")]
    known.write_text("\n".join([*lines, f"changed {other[0]} {other[1]}"]) + "\n")
    done = bench(server, bundle, on=["changed"])
    assert done.code == 3
    assert "its host key is another than the one known here" in done.error_line
    assert "failed: connect" in done.out


def test_wrong_key_and_wrong_user(server: Server, bundle: Path) -> None:
    server.place("no-key", allowed=False)
    server.place("no-user", user="nobody-of-this-name")
    done = bench(server, bundle, on=["no-key", "no-user"])
    assert done.code == 3
    assert done.error_line == ("error: 2 of 2 boards failed, as said above; run again for those")
    for name in ("no-key", "no-user"):
        (line,) = [line for line in done.err.splitlines() if line.startswith(f"failed: {name}: connect: ")]
        assert "does not let this user in" in line


def test_no_such_python_and_nothing_listens(server: Server, bundle: Path, place: Place) -> None:
    done = bench(server, bundle, "--python", "/nowhere/python's own", on=[place.name])
    assert done.code == 3
    assert "connect: no such Python there; install Python 3.11 or newer, or name one with --python" in done.error_line
    done = bench(server, bundle, on=["ssh://127.0.0.1:1"])
    assert done.code == 3
    assert done.error_line.startswith("error: 127.0.0.1:1: connect: nothing listens there")


def test_a_full_disk(server: Server, bundle: Path) -> None:
    """A limit on the size of files stands for it: writing fails in the middle of the model."""
    small = server.place("small", before="ulimit -f 128; ")
    done = bench(server, bundle, on=["small"])
    assert done.code == 3
    assert "error: small: copy: " in done.error_line
    assert f"bundle/{MODEL} cannot be written: File too large; make room there" in done.error_line
    assert small.left_now() == []


def test_a_damaged_bundle_is_not_even_sent(server: Server, bundle: Path, place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "device"
    shutil.copytree(bundle, folder)
    (folder / MODEL).write_bytes((folder / MODEL).read_bytes()[:-1] + b"x")
    done = bench(server, folder, on=[place.name])
    assert done.code == 4
    assert f"{MODEL} was changed or damaged" in done.error_line


def test_a_bundle_damaged_on_the_way(
    server: Server, bundle: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {path.name: path.read_bytes() for path in bundle.iterdir()}
    files[MODEL] = files[MODEL][:-1] + b"x"
    monkeypatch.setattr(run, "_bundle_files", lambda *_: files)
    (result,) = bench_on(bundle, parse_boards([place.name]), options(server))
    assert (result.step, result.exit_code) == ("self-test", 4)
    assert result.line.startswith(f"{place.name}: self-test: it failed: files: ")
    assert result.selftest is not None
    assert result.selftest["verdict"] == "failed"
    assert place.left_now() == []


def test_a_python_too_old_for_the_benchmark_tests_itself_all_the_same(
    server: Server, bundle: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "LOWEST_PYTHON", (3, 99))
    (result,) = bench_on(bundle, parse_boards([place.name]), options(server))
    assert (result.step, result.exit_code) == ("bench", 3)
    assert "older than 3.99, which the benchmark needs (the self-test passed)" in result.line
    assert result.selftest is not None
    assert result.selftest["verdict"] == "passed"


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


def test_the_benchmark_there_says_what_is_wrong(server: Server, bundle: Path, place: Place) -> None:
    (result,) = bench_on(bundle, parse_boards([place.name]), options(server, arguments=("--threads=4096",)))
    assert (result.step, result.exit_code) == ("bench", 2)
    assert "it failed: threads is 4096" in result.line


def test_a_login_that_is_no_shell(server: Server, bundle: Path) -> None:
    server.place("closed", before="echo 'This account \033[31mis closed.'; exit 1; ")
    done = bench(server, bundle, on=["closed"])
    assert done.code == 3
    assert "its shell ended with exit code 1" in done.error_line
    assert "\033" not in done.err


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


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("pi", "pi"),
        ("pi@raspberry.local", "pi@raspberry.local"),
        ("ssh://pi@raspberry:2222", "pi@raspberry:2222"),
        ("ssh://raspberry/", "raspberry"),
        ("ssh://[fe80::1%eth0]:22", "[fe80::1%eth0]:22"),
        ("ssh://pi@::1", "pi@[::1]"),
    ],
)
def test_boards(given: str, shown: str) -> None:
    (board,) = parse_boards([given])
    assert board.name == shown
    assert board.destination[-2:] == ("--", board.host)


@pytest.mark.parametrize(
    "given",
    [
        "",
        "ssh://",
        "-oProxyCommand=touch x",
        "ssh://-oProxyCommand=x",
        "ssh://-l@host",
        "a b",
        "a\nb",
        "host\n",
        "ssh://host:0",
        "ssh://host:65536",
        "ssh://host:x",
        "ssh://host:",
        "ssh://host/etc",
        "ssh://a$(b)@host",
        "ssh://`b`",
        "host;ls",
        "@host",
        "http://host",
        "ssh://[::1",
        "ssh://[::1]22",
        "ssh://[host]:22x",
    ],
)
def test_what_is_no_board(given: str) -> None:
    with pytest.raises(UsageError, match=r"expected ssh://\[user@\]host\[:port\]"):
        parse_boards([given])


def test_a_password_is_not_taken_and_not_repeated() -> None:
    done = toolkit("bench", REFERENCE, "--on", "ssh://pi:secret@raspberry")
    assert done.code == 2
    assert "takes no password" in done.error_line
    assert "secret" not in done.out + done.err


def test_bad_options(bundle: Path, tmp_path: Path) -> None:
    def on(*names: str, output: Path | None = None, **more: Any) -> None:
        given = {"keep": False, "wheels": None, "ssh_config": None, **more}
        where = boards.there(names, given.pop("python", None), **given)
        assert where is not None
        boards.bench_there(bundle, where, (), output, {}, save_settings=False, json=False)

    with pytest.raises(UsageError, match="pi is given twice"):
        on("pi", "ssh://pi")
    with pytest.raises(UsageError, match="--python is '-c'"):
        on("pi", python="-c")
    with pytest.raises(UsageError, match=r"--ssh-config .* is no file"):
        on("pi", ssh_config=tmp_path / "none")
    with pytest.raises(UsageError, match=r"--wheels .* is no folder"):
        on("pi", wheels=tmp_path / "none")
    with pytest.raises(MissingError, match="has none of the"):
        on("pi", wheels=tmp_path)
    with pytest.raises(UsageError, match="is a folder"):
        on("pi", output=tmp_path)
    with pytest.raises(UsageError, match="--python needs --on"):
        on(python="python3")


def test_no_ssh_here(bundle: Path, tmp_path: Path) -> None:
    done = toolkit("bench", bundle, "--on", "pi", env={"PATH": str(tmp_path)})
    assert done.code == 3
    assert "there is no ssh here" in done.error_line


def test_a_wheel_or_a_lone_model_is_no_bundle(bundle: Path) -> None:
    done = toolkit("bench", bundle / MODEL, "--on", "pi")
    assert done.code == 2
    assert "no bundle" in done.error_line
