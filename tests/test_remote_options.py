"""What ``--on`` and its companions take, and what they refuse before any board is asked."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.boards import bench
from tests.bundles import MODEL
from tests.conftest import REFERENCE, toolkit
from toolkit.cli import boards
from toolkit.errors import MissingError, UsageError
from toolkit.remote.boards import parse_boards

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sshd import Place, Server

pytest_plugins = ["tests.board_fixtures"]


def test_a_damaged_bundle_is_not_even_sent(server: Server, bundle: Path, place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "device"
    shutil.copytree(bundle, folder)
    (folder / MODEL).write_bytes((folder / MODEL).read_bytes()[:-1] + b"x")
    done = bench(server, folder, on=[place.name])
    assert done.code == 4
    assert f"{MODEL} was changed or damaged" in done.error_line


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
