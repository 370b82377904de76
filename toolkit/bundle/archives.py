"""A bundle as one zip file: written the same way each time, and read without trust in what it says.

Members are stored, not compressed: another build of zlib would compress to other bytes, and weights hardly shrink.
"""

from __future__ import annotations

import io
import stat
import zipfile
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

from toolkit.errors import CorruptArtifactError, ToolkitError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["MOST_BYTES", "check_sizes", "read", "write"]

MOST_BYTES = 2_200_000_000
"""What a bundle has at most: an ONNX file in one piece has 2 GB (2**31)."""

_MOMENT = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say
_MOST_FILES = 64  # a bundle has about a dozen
# What unpacks to more than a hundred times its size is there to fill memory; a small file may be as empty as it likes.
_MOST_EXPANSION = 100
_EXPANSION_LOOKED_AT = 16_000_000
_ENCRYPTED = 0x1


def write(files: Mapping[str, bytes], top: str) -> bytes:
    """A zip file with one folder, and these files in it.

    Args:
        files: bytes by name.
        top: the folder's name.

    Raises:
        UsageError: top cannot be a name in a zip file.
    """
    if "\\" in top or not top.isprintable():
        raise UsageError(f"a zip file cannot hold a folder named {top!r}; choose another --output")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(f"{top}/{name}", _MOMENT)
            entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o644) << 16  # Unix, whatever this runs on
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def read(data: bytes, shown: object) -> dict[str, bytes]:
    """Every file of a zip file, by its name; all are below some folder, and none leads out of it.

    Args:
        data: the zip file.
        shown: how errors call it.

    Raises:
        CorruptArtifactError: it is damaged, or holds what no bundle does.
    """
    check_sizes(data, shown)
    with _damage_told(shown), zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        for entry in entries:
            _check(entry, shown)
        if len(entries) > _MOST_FILES or len({entry.filename for entry in entries}) != len(entries):
            raise CorruptArtifactError(
                f"{shown} holds {len(entries)} files, or two of one name; expected {_MOST_FILES} at most; do not use it"
            )
        return {entry.filename: archive.read(entry) for entry in entries}


def check_sizes(data: bytes, shown: object) -> None:
    """What a zip file says that it unpacks to is not too much; more than it says is never unpacked.

    Raises:
        CorruptArtifactError: it is too much, or the file is no zip file.
    """
    with _damage_told(shown), zipfile.ZipFile(io.BytesIO(data)) as archive:
        total = sum(entry.file_size for entry in archive.infolist())
        if total > max(_EXPANSION_LOOKED_AT, min(MOST_BYTES, _MOST_EXPANSION * len(data))):
            raise CorruptArtifactError(
                f"{shown} unpacks from {len(data):,} to {total:,} bytes, expected {_MOST_EXPANSION} times as much at "
                "most; do not use it"
            )


@contextmanager
def _damage_told(shown: object) -> Iterator[None]:
    """Everything that zipfile raises about a file, as our error."""
    try:
        yield
    except ToolkitError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,  # another way of compressing
        OSError,
        OverflowError,
        RuntimeError,  # encrypted
        ValueError,
    ) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CorruptArtifactError(f"{shown} is damaged ({reason}); copy it again as a whole") from error


def _check(entry: zipfile.ZipInfo, shown: object) -> None:
    # zipfile cuts a name at a NUL and turns the separators of its own system; what stood there decides.
    name = entry.orig_filename
    parts = name.split("/")
    if len(parts) != 2 or {"", ".", ".."} & {*parts} or "\\" in name or "\0" in name or name != entry.filename:
        raise CorruptArtifactError(f"{shown} holds {name[:80]!r}, expected files in one folder alone; do not use it")
    mode = entry.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise CorruptArtifactError(f"{shown} holds {name[:80]!r}, which is no regular file; do not use it")
    if entry.flag_bits & _ENCRYPTED:
        raise CorruptArtifactError(f"{shown} is encrypted, which no bundle is; do not use it")
