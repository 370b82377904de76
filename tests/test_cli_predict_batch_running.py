"""``toolkit predict --batch`` while it runs: interruptions, progress, memory."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.batches import MANY, in_order, make_photos, sparse, stored
from tests.conftest import ROOT, TOOLKIT, toolkit
from tests.tiny_model import WEIGHTS, tiny_model

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("a model") / "tiny.onnx")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("my photos"))


# Nothing half-written


def test_a_model_that_breaks_leaves_the_earlier_file(tmp_path: Path) -> None:
    broken = tiny_model(tmp_path / "broken.onnx", weights=np.full_like(WEIGHTS, np.nan))
    output = tmp_path / "a.csv"
    output.write_text("earlier")
    done = toolkit("predict", "--batch", stored(tmp_path, "npy", MANY), "-m", broken, "-o", output)
    assert done.code == 2
    assert "NaN" in done.error_line
    assert output.read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


def test_ctrl_c_leaves_the_earlier_file(tmp_path: Path, model: Path) -> None:
    output = tmp_path / "a.jsonl"
    output.write_text("earlier")
    path = sparse(tmp_path / "rows.npy", 2_000_000)
    process = subprocess.Popen(
        [str(TOOLKIT), "predict", "--batch", str(path), "-m", str(model), "--json", "-o", str(output)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        # Where the tests run in the background of a script, SIGINT is ignored, and a child inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - before any thread of ours
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["index"] == 0
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "error: interrupted; nothing half-written was left behind\n"
    assert output.read_text() == "earlier"
    assert {path.name for path in tmp_path.iterdir()} == {"a.jsonl", "rows.npy"}


def test_a_reader_that_goes_away_leaves_no_file(tmp_path: Path, model: Path) -> None:
    path = sparse(tmp_path / "rows.npy", 500_000)
    command = [str(TOOLKIT), "predict", "--batch", str(path), "-m", str(model), "--json", "-o", str(tmp_path / "a.csv")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 141
    process.stderr.close()
    assert [path.name for path in tmp_path.iterdir()] == ["rows.npy"]


# Progress


def test_a_terminal_gets_a_bar(tmp_path: Path, model: Path, photos: Path) -> None:
    """stderr is a terminal here, stdout a pipe: nothing of the bar gets into it."""
    path = sparse(tmp_path / "rows.npy", 30_000)
    for source in (path, photos):
        ours, theirs = pty.openpty()
        seen = bytearray()

        def drain(end: int = ours, into: bytearray = seen) -> None:
            try:
                while piece := os.read(end, 4096):
                    into += piece
            except OSError:  # what Linux says at the end
                pass

        reader = threading.Thread(target=drain)
        reader.start()
        done = subprocess.run(
            [str(TOOLKIT), "predict", "--batch", str(source), "-m", str(model), "--json"],
            stdout=subprocess.PIPE,
            stderr=theirs,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "150"},
            cwd=ROOT,
            check=False,
        )
        os.close(theirs)
        reader.join(timeout=20)
        os.close(ours)
        text = seen.decode()
        assert "rows, " in text
        assert "/s" in text
        answers = [json.loads(line) for line in done.stdout.decode().splitlines()]
        if source == path:
            assert "/30000" in text
            assert len(answers) == 30_000
        else:
            assert "error: " in text
            assert len(answers) == len(in_order(photos))


# Memory


_LAUNCHER = """
import os, resource, sys
child = os.fork()
if child == 0:
    resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[1]),) * 2)
    os.execv(sys.argv[2], sys.argv[2:])
_, status, usage = os.wait4(child, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss)
"""


def _peak(limit: int, *arguments: object) -> int:
    """The most memory that the installed command had (VmHWM), in MB, when its data may take so many bytes.

    The launcher is a small process of its own, since a child's figure begins with that of who forks it.
    """
    done = subprocess.run(
        [sys.executable, "-S", "-c", _LAUNCHER, str(limit), str(TOOLKIT), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=120,
    )
    code, kilobytes = map(int, done.stdout.split()[-2:])
    assert code == 0, done.stderr
    return kilobytes // 1024


def test_memory_does_not_grow_with_the_rows(tmp_path: Path, model: Path) -> None:
    """600 MB of images where 256 MB may be had, and twenty times the rows in the same memory."""
    limit = 256_000_000
    few, many = (sparse(tmp_path / f"{count}.npy", count) for count in (20_000, 400_000))
    vast = sparse(tmp_path / "vast.npy", 765_000)
    assert vast.stat().st_size > 2 * limit
    peaks = {}
    for path, count in ((few, 20_000), (many, 400_000), (vast, 765_000)):
        output = tmp_path / f"{path.stem}.labels.npy"
        peaks[count] = _peak(limit, "predict", "--batch", path, "-m", model, "-o", output)
        assert np.load(output).shape == (count,)
    assert max(peaks.values()) - min(peaks.values()) < 16, peaks
