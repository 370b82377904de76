"""Writing that is whole or not at all: files, and artifact folders that several stages fill.

A folder is never changed in place. A stage takes the folder's lock, fills a staging folder beside it and swaps the
two in one system call, so that a reader, a crash or ``kill -9`` at any moment meets either the earlier folder or the
new one. What a killed run leaves behind is a hidden staging folder, which the next run removes.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import secrets
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.errors import StorageError, ToolkitError, UsageError
from toolkit.predictor import MANIFEST_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["staged_folder", "storage_error", "write_atomic"]

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file so that it is there as a whole or not at all, and survives a power cut.

    Raises:
        UsageError, StorageError: it cannot be written; an earlier file is untouched.
    """
    payload = data.encode() if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise storage_error(error, path) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def staged_folder(target: Path, *, keep: frozenset[str] | None = None) -> Iterator[Path]:
    """A staging folder that takes the target's place when the block ends well, and vanishes when it does not.

    Args:
        target: the artifact folder; it need not exist.
        keep: names of the toolkit's own files to carry over from the earlier folder (None: all). Files that the
            toolkit does not own are always carried over.

    Raises:
        UsageError: target is a file, a folder that is no artifact, cannot be written, or is in use by another run.
        StorageError: the disk is full or fails; the earlier folder is whole.
    """
    target = Path(os.path.abspath(target))  # noqa: PTH100 - resolve() would replace a link by what it points to
    if target.is_symlink():
        target = target.resolve()
    _check_target(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target):
            earlier = target.with_name(f".{target.name}.earlier")
            if earlier.is_dir() and not target.exists():  # a run was killed between the two renames of _swap
                earlier.rename(target)
            for leftover in target.parent.glob(f".{target.name}.staging-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            staging = target.with_name(f".{target.name}.staging-{secrets.token_hex(4)}")
            try:
                _mirror(target, staging, keep)
                yield staging
                _sync(staging)
                _swap(staging, target)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    except ToolkitError:
        raise
    except OSError as error:
        raise storage_error(error, target) from error


def storage_error(error: OSError, path: Path | None = None) -> ToolkitError | OSError:
    """The error of ours that says what an OSError means for the person; the error itself where it says nothing."""
    where = path or error.filename or "the output"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG):
        return StorageError(
            f"could not write {where}: {os.strerror(error.errno or 0)}; what was there before is untouched: "
            "free some space or choose another --output"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UsageError(f"cannot write {where}: {os.strerror(error.errno or 0)}; choose another --output")
    if path is not None and error.errno == errno.ENOENT:  # without a path of ours it may be a file that was to be read
        return UsageError(f"cannot write {where}: {os.strerror(error.errno)}; choose another --output")
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG):
        return UsageError(f"cannot use {where}: {os.strerror(error.errno or 0)}; choose another path")
    return error


# What the toolkit writes into an artifact folder. Everything else there belongs to the user.
OWN_FILES = frozenset(
    {
        MANIFEST_NAME,
        "bench.json",
        "history.csv",
        "model.int8.onnx",
        "model.keras",
        "model.onnx",
        "parity.json",
        "samples",
    }
)


def _check_target(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is a file, expected a folder for the artifact; choose another --output")
    try:
        foreign = target.is_dir() and not (target / MANIFEST_NAME).is_file() and any(target.iterdir())
    except PermissionError as error:
        raise UsageError(f"cannot read {target}: permission denied; choose another --output") from error
    if foreign:
        raise UsageError(
            f"{target} holds files but no {MANIFEST_NAME}, so it is not an artifact of this toolkit; "
            "choose an empty or new --output"
        )


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    lock = target.with_name(f".{target.name}.lock")
    with lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise UsageError(
                f"another toolkit command (process {owner}) is writing {target}; wait for it or choose another --output"
            ) from error
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        # The lock file stays: removing it would let two later runs lock two different files of this name.
        yield


def _mirror(target: Path, staging: Path, keep: frozenset[str] | None) -> None:
    staging.mkdir()
    if not target.is_dir():
        return
    shutil.copystat(target, staging)
    for entry in target.iterdir():
        if entry.name in OWN_FILES and keep is not None and entry.name not in keep:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, staging / entry.name, symlinks=True)
        else:
            shutil.copy2(entry, staging / entry.name, follow_symlinks=False)


def _sync(folder: Path) -> None:
    for path in [*(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _swap(staging: Path, target: Path) -> None:
    """Put staging in target's place; afterwards staging holds what was there before."""
    if not target.exists():
        staging.rename(target)
        return
    libc = ctypes.CDLL(None, use_errno=True)
    exchange = getattr(libc, "renameat2", None)
    if exchange is not None:
        arguments = (_AT_FDCWD, os.fsencode(staging), _AT_FDCWD, os.fsencode(target), _RENAME_EXCHANGE)
        if exchange(*arguments) == 0:
            return
        code = ctypes.get_errno()
        if code not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(code, os.strerror(code), os.fspath(target))
    # A file system (or libc) without the exchange: two renames, with the earlier folder kept until both are done.
    earlier = target.with_name(f".{target.name}.earlier")
    target.rename(earlier)
    try:
        staging.rename(target)
    except OSError:
        earlier.rename(target)
        raise
    shutil.rmtree(earlier, ignore_errors=True)
