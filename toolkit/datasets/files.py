"""Opening what a person named, and saying what a file is that holds no rows."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from toolkit.errors import DataError, MissingError, UsageError

if TYPE_CHECKING:
    import zipfile
    from pathlib import Path

__all__ = ["WANTED", "check_path", "read_start", "what_it_is", "what_zip_it_is"]

WANTED = "an .npz, .npy or idx file, a folder of images, or a saved TensorFlow dataset"
_OTHERS = (
    (0, b"version https://git-lfs", "a Git LFS pointer, not the data itself; fetch it with: git lfs pull"),
    (0, b"\x89HDF", "an HDF5 file; load it (h5py.File) and save its arrays with numpy.savez"),
    (4, b"TFL3", f"a LiteRT (TFLite) model, no data; give {WANTED}"),
    (0, b"\x80", "a pickle, which is a program and is never opened; save the arrays with numpy.savez"),
    (0, b"\x89PNG", "a single picture; put it into a folder, and give the folder"),
    (0, b"\xff\xd8\xff", "a single picture; put it into a folder, and give the folder"),
    (0, b"MATLAB", "a MATLAB file; load it (scipy.io.loadmat) and save its arrays with numpy.savez"),
    (0, b"PAR1", "a Parquet table; load it and save its columns as arrays with numpy.savez"),
    (257, b"ustar", "a tar archive; unpack it, and give the folder or file in it"),
    (0, b"\x1f\x8b", "packed with gzip, and no idx file is inside; unpack it first"),
    (0, b"BZh", "packed with bzip2; unpack it first"),
    (0, b"\xfd7zXZ", "packed with xz; unpack it first"),
    (0, b"<", "a text such as a web page, perhaps what a download got instead; download the data again"),
    (0, b"{", "a JSON text; save its numbers as arrays with numpy.savez"),
    (0, b"[", "a JSON text; save its numbers as arrays with numpy.savez"),
)


def check_path(path: Path, shown: str, wanted: str = WANTED) -> None:
    """Refuse a path with nothing to read behind it.

    Args:
        path: what to look at.
        shown: how errors call it.
        wanted: what to give instead, for errors.

    Raises:
        MissingError: nothing is there.
        DataError: a device, a pipe or the like.
        UsageError: it may not be looked at.
    """
    try:
        exists, file, folder = path.exists(), path.is_file(), path.is_dir()
    except OSError as error:  # a folder that may not be entered, or a name that is too long
        raise _unreadable(shown, error) from error
    if not shown or not exists:
        raise MissingError(f"{shown or 'a path named with nothing'} does not exist; give {wanted}")
    if folder and not os.access(path, os.R_OK | os.X_OK):
        raise _unreadable(shown, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    if not file and not folder:
        raise DataError(f"{shown} is no regular file; give {wanted}")


def read_start(path: Path, shown: str, count: int = 512, wanted: str = WANTED) -> bytes:
    """The first bytes of a file.

    Args:
        path: the file.
        shown: how errors call it.
        count: bytes, at most.
        wanted: what to give instead, for errors.

    Raises:
        MissingError: no such file.
        DataError: it is a folder, or no regular file.
        UsageError: it may not be read.
    """
    check_path(path, shown, wanted)
    if path.is_dir():
        raise DataError(f"{shown} is a folder; give {wanted}")
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError as error:
        raise _unreadable(shown, error) from error


def _unreadable(shown: str, error: OSError) -> UsageError:
    return UsageError(f"cannot read {shown}: {error.strerror or error}; check the path and its permissions")


def what_it_is(start: bytes, path: Path, shown: str) -> str:
    """What a file is that holds no rows, and what to do, for an error."""
    if not start:
        return f"{shown} is empty; save or copy it again"
    suffix = path.suffix.lower()
    for at, magic, what in _OTHERS:
        if start[at:].startswith(magic):
            return f"{shown} is {what}"
    if suffix == ".onnx":
        return f"{shown} is a model, no data; give {WANTED}"
    if suffix in (".tfrecord", ".tfrecords"):
        return f"{shown} is a TFRecord file; read it with tf.data and write it with dataset.save(folder)"
    if suffix in (".csv", ".tsv", ".txt") or (_is_text(start) and (b"," in start or b";" in start or b"\t" in start)):
        return (
            f"{shown} is a text of numbers (CSV or the like); load it with numpy.loadtxt and save it with numpy.savez"
        )
    return f"{shown} begins with {start[:8]!r}, which is nothing known; give {WANTED}"


def what_zip_it_is(archive: zipfile.ZipFile, shown: str) -> str | None:
    """What a zip archive is that is no .npz; None where it may be one."""
    names = archive.namelist()
    if "config.json" in names and "metadata.json" in names:
        return f"{shown} is a .keras model, no data; give {WANTED}"
    if any(name.lower().endswith((".png", ".jpg", ".jpeg", ".bmp")) for name in names):
        return f"{shown} is a zip of pictures; unpack it, and give the folder"
    if any(name.endswith("data.pkl") for name in names):
        return f"{shown} is a PyTorch file, which holds a pickle and is never opened; save the arrays with numpy.savez"
    if not names:
        return f"{shown} is an archive without arrays; save the data again with numpy.savez"
    strange = [name for name in names if not name.endswith(".npy")]
    return f"{shown} holds '{strange[0]}', expected an .npz as numpy.savez writes it; save it so" if strange else None


def _is_text(start: bytes) -> bool:
    return all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in start)
