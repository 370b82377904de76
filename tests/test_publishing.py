"""Writing is whole or not at all: swaps, locks, kills, full disks, folders that are none."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from toolkit import artifact, publishing, staged_folders
from toolkit.errors import StorageError, UsageError
from toolkit.publishing import write_atomic
from toolkit.staged_folders import staged_folder


def _publish(target: Path, content: str) -> None:
    with staged_folder(target) as staging:
        (staging / "manifest.json").write_text(_manifest(content))
        (staging / "model.onnx").write_text(content)


def _manifest(content: str) -> str:
    return json.dumps({"format": 2, "versions": {}, "name": content})


def _content(target: Path) -> set[str]:
    """What each file of the folder says: one word if it is of one piece."""
    texts = {path.name: path.read_text() for path in target.iterdir()}
    return {json.loads(text)["name"] if name == "manifest.json" else text for name, text in texts.items()}


def test_a_new_folder_appears_whole(tmp_path: Path) -> None:
    _publish(tmp_path / "deep" / "artifact", "1")
    assert _content(tmp_path / "deep" / "artifact") == {"1"}
    assert [p.name for p in (tmp_path / "deep").iterdir() if "staging" in p.name] == []


def test_an_existing_folder_is_replaced_and_foreign_files_stay_as_they_are_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "artifact"
    _publish(target, "1")
    (target / "notes.txt").write_text("old")
    (target / "parity.json").write_text("stale")
    (target / "samples").mkdir()
    (target / "samples" / "mine.png").write_text("mine")
    (target / "samples" / "0.png").write_text("old sample")
    os.mkfifo(target / "pipe")
    (target / "link").symlink_to("notes.txt")
    with staged_folder(target) as staging:
        (staging / "manifest.json").write_text(_manifest("2"))
        (staging / "samples").mkdir()
        (staging / "samples" / "0.png").write_text("new sample")
        (target / "notes.txt").write_text("edited meanwhile")
        (target / "new.txt").write_text("added meanwhile")
    names = ["link", "manifest.json", "new.txt", "notes.txt", "pipe", "samples"]
    assert sorted(path.name for path in target.iterdir()) == names
    assert (target / "notes.txt").read_text() == (target / "link").read_text() == "edited meanwhile"
    assert (target / "samples" / "mine.png").read_text() == "mine"
    assert (target / "samples" / "0.png").read_text() == "new sample"


@pytest.mark.parametrize("exchange", [True, False])
def test_what_comes_in_at_the_last_moment_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    target = tmp_path / "artifact"
    _publish(target, "1")
    swap = staged_folders._swap

    def late(staging: Path, destination: Path) -> None:
        (destination / "log.txt").write_text("late")
        swap(staging, destination)

    monkeypatch.setattr(staged_folders, "_swap", late)
    _publish(target, "2")
    assert (target / "log.txt").read_text() == "late"
    assert (target / "model.onnx").read_text() == "2"
    assert [path.name for path in tmp_path.iterdir()] == ["artifact"]


def test_modes_are_kept_and_staging_never_stays() -> None:
    """In a process without root's rights, which would hide what modes forbid."""
    script = f"""
import json, os, sys  # json: imported before the rights to read it are gone
from pathlib import Path
from toolkit.staged_folders import staged_folder
tmp = Path(sys.argv[1])
if os.geteuid() == 0:
    os.setuid(65534)
target = tmp / "artifact"
def publish():
    with staged_folder(target) as staging:
        (staging / "manifest.json").write_text({_manifest("1")!r})
publish()
(target / "private").mkdir(mode=0o700)
(target / "private" / "key").write_text("mine")
publish()
assert (target / "private").stat().st_mode & 0o777 == 0o700
assert (target / "private" / "key").read_text() == "mine"
for folder in (target / "private", target):
    folder.chmod(0o500)
    try:
        publish()
    except Exception as error:
        print(type(error).__name__, error)
    folder.chmod(0o700)
print(sorted(os.listdir(tmp)))
"""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        command = [sys.executable, "-c", script, folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    *refused, listing = done.stdout.splitlines()
    assert listing == "['artifact']"
    assert len(refused) == 2
    assert all(line.startswith("UsageError cannot write") for line in refused)


def test_a_mount_inside_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "artifact"
    _publish(target, "1")
    assert {Path("/"), Path("/proc")} <= set(staged_folders._mount_points())
    for mounted in (target, target / "notes"):
        monkeypatch.setattr(staged_folders, "_mount_points", lambda mounted=mounted: [Path("/"), mounted])
        with pytest.raises(UsageError, match=f"{mounted} is a mount point"), staged_folder(target):
            pass


def test_a_file_in_the_way_of_the_samples_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "artifact"
    _publish(target, "1")
    (target / "samples").write_text("mine")
    with pytest.raises(UsageError, match="in the way"), staged_folder(target):
        pass


def test_names_that_look_like_patterns_touch_nobody_elses_run(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "run1") as staging:
        (staging / "manifest.json").write_text(_manifest("1"))
        _publish(tmp_path / "run[1]", "2")
        _publish(tmp_path / "*", "3")
    assert _content(tmp_path / "run1") == {"1"}


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
    # Killed after them: the next run clears what the first rename left.
    (tmp_path / ".artifact.earlier").mkdir()
    (tmp_path / ".artifact.earlier" / "model.onnx").write_text("1")
    _publish(target, "3")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artifact"]


def test_two_runs_at_once_are_one_too_many(tmp_path: Path) -> None:
    target = tmp_path / "artifact"
    with staged_folder(target), pytest.raises(UsageError, match=f"process {os.getpid()}"), staged_folder(target):
        pass


@pytest.mark.parametrize("kind", ["file", "folder of other things", "foreign manifest", "damaged manifest"])
def test_only_artifacts_are_replaced(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    precious = target
    if kind != "file":
        target.mkdir()
        precious = target / ("thesis.txt" if kind == "folder of other things" else "manifest.json")
    text = json.dumps({"manifest_version": 3}) if kind == "foreign manifest" else "precious"
    precious.write_text(text)
    with pytest.raises(UsageError, match="choose another --output"), staged_folder(target):
        pass
    assert precious.read_text() == text


def test_places_that_cannot_be_replaced_are_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / "below")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "elsewhere").symlink_to("here")
    for target, says in [
        (Path(), "is the current folder or above it"),
        (Path(".."), "is the current folder or above it"),
        (Path("/"), "is the current folder or above it"),
        (tmp_path / "elsewhere" / "below", "is the current folder or above it"),
        (Path("/proc"), "is a mount point"),
        (tmp_path / "loop", "cannot use"),
    ]:
        with pytest.raises(UsageError, match=says), staged_folder(target):
            pass


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
from toolkit.staged_folders import staged_folder
number = 0
while True:
    number += 1
    with staged_folder(Path({str(target)!r})) as staging:
        text = str(number) * 20000
        (staging / "manifest.json").write_text('{{"format": 2, "versions": {{}}, "name": "' + text + '"}}')
        for name in ("model.onnx", "model.int8.onnx"):
            (staging / name).write_text(text)
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
from toolkit.publishing import write_atomic
from toolkit.staged_folders import staged_folder
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
    assert sorted(p.name for p in tmp_path.iterdir()) == ["artifact"]


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


def test_every_file_of_an_artifact_is_the_toolkits_own() -> None:
    """Else an earlier model's file would be carried over beside a new model as if it were the user's."""
    assert {*artifact.KINDS, artifact.SAVED_MODEL, artifact.PARITY, artifact.MANIFEST_NAME} <= staged_folders.OWN_FILES


def test_an_artifact_of_an_earlier_version_is_replaced_one_of_a_later_version_is_not(tmp_path: Path) -> None:
    target = tmp_path / "old"
    target.mkdir()
    for found, replaced in ((1, True), (99, False), ("1", False)):
        (target / "manifest.json").write_text(json.dumps({"format": found, "versions": {}}))
        if replaced:
            with staged_folder(target) as staging:
                (staging / "manifest.json").write_text(_manifest("new"))
            assert json.loads((target / "manifest.json").read_text())["name"] == "new"
        else:
            with pytest.raises(UsageError, match="this version reads"), staged_folder(target):
                pass
