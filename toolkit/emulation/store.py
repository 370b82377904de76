"""The folder of the user's cache that emulation keeps things in: made once, whole or not at all, safe for two at once.

Everything stands in ``emulation/`` of the toolkit's cache. Who uses it holds a shared lock on it, who changes it the
only one; the system gives locks back when a process ends, however it ends. A folder is filled beside its place; a stamp
that says what is in it is the last file written; then it is renamed. So a folder without the right stamp is no folder.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from toolkit.cache import cache_root
from toolkit.errors import StorageError, ToolkitError
from toolkit.publishing import storage_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from toolkit.progress import Note

__all__ = ["STAMP", "build", "folder", "locked", "storage_trouble", "written_stamp"]

STAMP = "stamp.json"
_FULL = ("No space left", "File too large", "quota exceeded")


def folder() -> Path:
    """Where emulation keeps things; it need not exist.

    Raises:
        UsageError: this user has no home folder, and no variable names another place.
    """
    return cache_root() / "emulation"


@contextmanager
def locked(*, alone: bool, note: Note) -> Iterator[Path]:
    """Hold the store, among other readers or alone; waits for who holds it otherwise, and says so.

    Raises:
        UsageError, StorageError: it cannot be written.
    """
    place = folder()
    mode = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    try:
        place.mkdir(parents=True, exist_ok=True)
        file = (place / ".lock").open("a+")
    except OSError as error:
        raise _unusable(error, place) from error
    with file:
        told = False
        while True:
            try:
                fcntl.flock(file, mode | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    note(f"another toolkit command is using {place}; waiting for it")
                told = True
                time.sleep(0.2)
        yield place


def _unusable(error: OSError, place: Path) -> Exception:
    known = storage_error(error, place)
    if isinstance(known, ToolkitError):
        return type(known)(f"{str(known).split(';')[0]}; set TOOLKIT_CACHE to a folder with space that can be written")
    return known


def written_stamp(place: Path) -> dict[str, Any] | None:
    """What a finished folder says is in it; None where there is none, or a damaged one."""
    try:
        stamp = json.loads((place / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return stamp if isinstance(stamp, dict) else None


def build(place: Path, fill: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Make a folder anew; the store must be held alone.

    Args:
        place: where it goes; an earlier one is removed.
        fill: fills an empty folder beside it and returns the stamp.

    Raises:
        StorageError, UsageError: it cannot be written; nothing half is left in its place.
    """
    try:
        for leftover in place.parent.glob(f".{place.name}.building-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        beside = place.with_name(f".{place.name}.building-{secrets.token_hex(4)}")
        try:
            beside.mkdir(parents=True)
            stamp = fill(beside)
            (beside / STAMP).write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")
            os.sync()  # before the name: a power cut must not leave a folder whose files are empty
            shutil.rmtree(place, ignore_errors=True)
            beside.rename(place)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except ToolkitError:
        raise
    except OSError as error:
        raise _unusable(error, place) from error
    return stamp


def storage_trouble(reason: str, place: Path) -> None:
    """Raise if a program's complaint is that the disk is full.

    Raises:
        StorageError: it is.
    """
    if any(word in reason for word in _FULL):
        raise StorageError(
            f"could not write {place}: {reason}; free some space, or set TOOLKIT_CACHE to another folder"
        )
