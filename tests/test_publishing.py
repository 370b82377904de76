"""Writing is whole or not at all: swaps, locks, kills, full disks, folders that are none."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT
from toolkit import publishing
from toolkit.errors import StorageError, UsageError
from toolkit.publishing import staged_folder, write_atomic

if TYPE_CHECKING:
    from pathlib import Path


def _publish(target: Path, content: str) -> None:
    with staged_folder(target) as staging:
        (staging / "manifest.json").write_text(content)
        (staging / "model.onnx").write_text(content)


def _content(target: Path) -> set[str]:
    return {path.read_text() for path in target.iterdir()}


def test_a_new_folder_appears_whole(tmp_path: Path) -> None:
    _publish(tmp_path / "deep" / "artifact", "1")
    assert _content(tmp_path / "deep" / "artifact") == {"1"}
    assert [p.name for p in (tmp_path / "deep").iterdir() if "staging" in p.name] == []


def test_an_existing_folder_is_replaced_and_foreign_files_stay(tmp_path: Path) -> None:
    target = tmp_path / "artifact"
    _publish(target, "1")
    (target / "notes.txt").write_text("mine")
    (target / "parity.json").write_text("stale")
    with staged_folder(target, keep=frozenset()) as staging:
        (staging / "manifest.json").write_text("2")
    assert sorted(path.name for path in target.iterdir()) == ["manifest.json", "notes.txt"]


def test_a_failure_leaves_the_earlier_folder(tmp_path: Path) -> None:
    target = tmp_path / "artifact"
    _publish(target, "1")

    def fail() -> None:
        with staged_folder(target) as staging:
            (staging / "model.onnx").write_text("2")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert _content(target) == {"1"}
    assert [p.name for p in tmp_path.iterdir() if "staging" in p.name] == []


def test_without_the_exchange_call_two_renames_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    target = tmp_path / "artifact"
    _publish(target, "1")
    _publish(target, "2")
    assert _content(target) == {"2"}
    # Killed between the two renames: the next run puts the earlier folder back before it starts.
    target.rename(tmp_path / ".artifact.earlier")
    with pytest.raises(RuntimeError), staged_folder(target):
        raise RuntimeError
    assert _content(target) == {"2"}


def test_two_runs_at_once_are_one_too_many(tmp_path: Path) -> None:
    target = tmp_path / "artifact"
    with staged_folder(target), pytest.raises(UsageError, match=f"process {os.getpid()}"), staged_folder(target):
        pass


@pytest.mark.parametrize("kind", ["file", "folder of other things"])
def test_only_artifacts_are_replaced(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    if kind == "file":
        target.write_text("precious")
    else:
        target.mkdir()
        (target / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match=r"choose an(other| empty)"), staged_folder(target):
        pass
    assert (target if kind == "file" else target / "thesis.txt").read_text() == "precious"


def test_a_link_to_an_artifact_stays_a_link(tmp_path: Path) -> None:
    _publish(tmp_path / "real", "1")
    (tmp_path / "link").symlink_to("real")
    _publish(tmp_path / "link", "2")
    assert (tmp_path / "link").is_symlink()
    assert _content(tmp_path / "real") == {"2"}


def test_kill_at_any_moment_leaves_a_whole_artifact(tmp_path: Path) -> None:
    """A process publishes again and again and is killed at random moments; the folder is always of one piece."""
    target = tmp_path / "artifact"
    script = f"""
import sys
from pathlib import Path
from toolkit.publishing import staged_folder
number = 0
while True:
    number += 1
    with staged_folder(Path({str(target)!r})) as staging:
        for name in ("manifest.json", "model.onnx", "model.int8.onnx"):
            (staging / name).write_text(str(number) * 20000)
    print(flush=True)
"""
    for attempt in range(12):
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.003 * attempt)
            process.send_signal(signal.SIGKILL)
        assert len(_content(target)) == 1
        assert len(list(target.iterdir())) == 3
    _publish(target, "after")
    assert [p.name for p in tmp_path.iterdir() if "staging" in p.name] == []


def test_a_full_disk_is_said_and_leaves_the_earlier_folder(tmp_path: Path) -> None:
    """A file size limit stands in for the full disk; the kernel answers the write with an error all the same."""
    target = tmp_path / "artifact"
    _publish(target, "1")
    script = f"""
import resource, signal
from pathlib import Path
from toolkit.publishing import staged_folder, write_atomic
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
def a_file():
    write_atomic(Path({str(tmp_path / "big")!r}), bytes(5000))
def a_folder():
    with staged_folder(Path({str(target)!r})) as staging:
        (staging / "model.onnx").write_bytes(bytes(5000))
for write in (a_file, a_folder):
    try:
        write()
    except Exception as error:
        print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["StorageError", "StorageError"]
    assert all("what was there before is untouched" in line for line in lines)
    assert _content(target) == {"1"}
    assert sorted(p.name for p in tmp_path.iterdir()) == [".artifact.lock", "artifact"]


def test_a_really_full_disk(tmp_path: Path) -> None:
    """On a small tmpfs, where the machine lets us mount one; elsewhere the limit above is the proof."""
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mount)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        with pytest.raises(StorageError):
            raise publishing.storage_error(OSError(28, "No space left on device"), mount)
        return
    try:
        target = mount / "artifact"
        _publish(target, "1")
        with pytest.raises(StorageError, match="No space left"), staged_folder(target) as staging:
            (staging / "model.onnx").write_bytes(bytes(200_000))
        assert _content(target) == {"1"}
        with pytest.raises(StorageError, match="No space left"):
            write_atomic(mount / "report.json", bytes(200_000))
        assert [p.name for p in mount.iterdir() if p.name.endswith(".part")] == []
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_write_atomic_replaces(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.json"
    write_atomic(path, json.dumps({"a": 1}))
    write_atomic(path, b"2")
    assert path.read_bytes() == b"2"
    assert [p.name for p in path.parent.iterdir()] == ["report.json"]
