"""Files that are written whole or not at all, and what an error of the file system means for the person.

Reports (parity.json, bench.json) are single files, each replaced as a whole. Folders that several stages fill are in
`toolkit.staged_folders`.
"""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from toolkit.errors import StorageError, ToolkitError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["atomic_file", "staged_file", "storage_error", "write_atomic"]

_IN_THE_WAY = frozenset(
    {
        errno.EBUSY,
        errno.EEXIST,
        errno.EISDIR,
        errno.ENAMETOOLONG,
        errno.ENOTDIR,
        errno.ENOTEMPTY,
        errno.EXDEV,
    }
)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file so that it is there as a whole or not at all, and survives a power cut.

    Raises:
        UsageError, StorageError: it cannot be written; an earlier file is untouched.
    """
    with staged_file(path, data):
        pass


@contextmanager
def staged_file(path: Path, data: bytes | str, *, family: str = "") -> Iterator[Path]:
    """A file that is written beside its place at once, takes it when the block ends well, and else vanishes.

    Until then its name is .FAMILY.HEX.part, which tells what a killed run left.

    Args:
        path: the place.
        data: what to write.
        family: a name that several files of one run share; by default the file's own.

    Yields:
        Where it is for now.

    Raises:
        UsageError, StorageError: it cannot be written; an earlier file is untouched.
    """
    with _beside(path, family) as file:
        with _naming(path):
            file.write(data.encode() if isinstance(data, str) else data)
            _to_disk(file)
        yield Path(file.name)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write into, which takes the path's place when the block ends well, and vanishes when it does not.

    Errors in the block that are no OSError go through as they are.

    Raises:
        UsageError, StorageError: it cannot be written; an earlier file is untouched.
    """
    with _beside(path) as file, _naming(path):
        yield file
        _to_disk(file)


@contextmanager
def _beside(path: Path, family: str = "") -> Iterator[BinaryIO]:
    """A file beside a path, open for writing, that takes the path's place when the block ends well."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder, expected a file to write; give a name in it")
    temporary = path.with_name(f".{family or path.name}.{secrets.token_hex(4)}.part")
    try:
        with _naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = temporary.open("wb")
        try:
            yield file
        finally:
            with suppress(OSError):  # what matters was flushed; after a failure it would only fail again
                file.close()
        with _naming(path):
            temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _to_disk(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors of the file system as ours, about this path."""
    try:
        yield
    except ToolkitError:  # a StorageError is an OSError too
        raise
    except OSError as error:
        raise storage_error(error, path) from error


def storage_error(error: OSError, path: Path | None = None) -> ToolkitError | OSError:
    """The error of ours that says what an OSError means for the person; the error itself where it says nothing."""
    where = path or error.filename or "the output"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG):
        return StorageError(
            f"could not write {where}: {os.strerror(error.errno or 0)}; what was there before is untouched: "
            "free some space or choose another --output"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        verb = "use" if path is None else "write"
        return UsageError(f"cannot {verb} {where}: {os.strerror(error.errno or 0)}; choose another path")
    if path is not None and error.errno == errno.ENOENT:  # without a path of ours it may be a file that was to be read
        return UsageError(f"cannot write {where}: {os.strerror(error.errno)}; choose another path")
    if error.errno in (
        errno.EBUSY,
        errno.EXDEV,
        errno.ENOTDIR,
        errno.EEXIST,
        errno.EISDIR,
        errno.ENAMETOOLONG,
        errno.ENOTEMPTY,
    ):
        return UsageError(f"cannot use {where}: {os.strerror(error.errno or 0)}; choose another path")
    return error
