"""``toolkit bench --on`` against a real sshd: what comes back, what is left there, and what goes wrong."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.boards import bench, options
from tests.bundles import MODEL
from tests.conftest import REFERENCE, TOOLKIT
from tests.environments import core_wheels
from toolkit.remote import bench_on, job, run
from toolkit.remote.boards import parse_boards

if TYPE_CHECKING:
    import pytest

    from tests.sshd import Place, Server

pytest_plugins = ["tests.board_fixtures"]


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
