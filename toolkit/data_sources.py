"""Where Fashion-MNIST can come from: a folder, Keras' own loader, the Debian package installed or fetched.

Each source gives the same four payloads, proved by size and sha256 of the uncompressed bytes (the packagings
differ in their gzip headers), so it does not matter which of them answered.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from toolkit import debian
from toolkit.errors import DataError, MissingError, ToolkitError, UsageError
from toolkit.idx import GZIP_MAGIC, gunzip, pack
from toolkit.keras_model import import_keras

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from toolkit.progress import Note

__all__ = [
    "FILES",
    "PACKAGE",
    "PACKAGE_FOLDER",
    "Payload",
    "SourceError",
    "fetch_package",
    "from_keras",
    "from_package",
    "read_folder",
]


class Payload(NamedTuple):
    """What one of the four files holds once it is uncompressed."""

    size: int
    sha256: str


FILES: Mapping[str, Payload] = {
    "train-images-idx3-ubyte": Payload(47_040_016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
    "train-labels-idx1-ubyte": Payload(60_008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    "t10k-images-idx3-ubyte": Payload(7_840_016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    "t10k-labels-idx1-ubyte": Payload(10_008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
}

PACKAGE = "dataset-fashion-mnist"
PACKAGE_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FETCH_SECONDS = 600.0  # for everything that apt-get does: enough for 40 MB at 1 Mbit/s
KERAS_SECONDS = 10.0  # without a byte from Keras' server


class SourceError(Exception):
    """Why a source has nothing to give, in a phrase."""


def read_folder(folder: Path) -> dict[str, bytes]:
    """The four payloads from a folder, plain or gzip'd, each proved by its sha256.

    Raises:
        MissingError: no such folder, or not all four files in it.
        UsageError: it is a file, or cannot be read.
        DataError: a file is damaged, cut short or something else.
    """
    try:
        present = {entry.name for entry in folder.iterdir()}
    except FileNotFoundError as error:
        raise MissingError(f"the folder {folder} does not exist; give one that holds Fashion-MNIST's files") from error
    except OSError as error:
        raise UsageError(f"cannot read the folder {folder}: {os.strerror(error.errno or 0)}; give another") from error
    found = {name: next((n for n in _spellings(name) if n in present), None) for name in FILES}
    if missing := [f"{name}[.gz]" for name, spelling in found.items() if spelling is None]:
        raise MissingError(f"{folder} lacks {', '.join(missing)}; give a folder with Fashion-MNIST's four idx files")
    return {name: _read_file(folder / spelling, name) for name, spelling in found.items() if spelling is not None}


def _spellings(name: str) -> tuple[str, ...]:
    dotted = name.replace("-idx", ".idx")  # as some unpacking programs write it
    return name, f"{name}.gz", dotted, f"{dotted}.gz"


def _read_file(path: Path, name: str) -> bytes:
    """One payload; whether it is gzip'd is seen from its bytes, as some browsers unpack and keep the name."""
    expected = FILES[name]
    advice = "download the file again, or leave the folder out so that the toolkit finds the data itself"
    try:
        with path.open("rb") as file:
            data = file.read(2 * expected.size)
        if data.startswith(GZIP_MAGIC):
            data = gunzip(data, 2 * expected.size)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {os.strerror(error.errno or 0)}; check its permissions") from error
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}; {advice}") from error
    if reason := _difference(data, expected):
        raise DataError(f"{path} is not Fashion-MNIST's {name}: {reason}; {advice}")
    return data


def _difference(data: bytes, expected: Payload) -> str | None:
    if len(data) != expected.size:
        return f"got {len(data)} bytes uncompressed, expected {expected.size}"
    found = hashlib.sha256(data).hexdigest()
    if found == expected.sha256:
        return None
    return f"its sha256 begins {found[:12]}, expected {expected.sha256[:12]}"


def from_keras(note: Note) -> dict[str, bytes]:
    """The four payloads through ``keras.datasets.fashion_mnist.load_data()``, rebuilt from its arrays.

    Raises:
        SourceError: Keras is not installed, cannot reach its server, or gave something else.
    """
    note("asking Keras for Fashion-MNIST")
    earlier = socket.getdefaulttimeout()
    socket.setdefaulttimeout(KERAS_SECONDS)
    try:
        keras = import_keras()
        with _silence():
            (train_images, train_labels), (test_images, test_labels) = keras.datasets.fashion_mnist.load_data()
        arrays = (train_images, train_labels, test_images, test_labels)
        payloads = {name: pack(array) for name, array in zip(FILES, arrays, strict=True)}
    except MissingError as error:
        raise SourceError(_brief(error)) from error
    except Exception as error:  # Keras raises plain Exception for a failed download
        raise SourceError(_brief(error)) from error
    finally:
        socket.setdefaulttimeout(earlier)
    for name, data in payloads.items():
        if reason := _difference(data, FILES[name]):
            raise SourceError(f"its {name} is another: {reason}")
    return payloads


def _brief(error: Exception) -> str:
    return debian.brief(str(error)) or type(error).__name__


@contextmanager
def _silence() -> Iterator[None]:
    """Send file descriptors 1 and 2 nowhere: Keras shows a progress bar of its own, and its server's address."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    saved: list[tuple[int, int]] = []
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for descriptor in (1, 2):
            with suppress(OSError):  # a process may run with these closed
                saved.append((descriptor, os.dup(descriptor)))
                os.dup2(nowhere, descriptor)
        yield
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        for descriptor, copy in saved:
            os.dup2(copy, descriptor)
            os.close(copy)
        os.close(nowhere)


def from_package(note: Note) -> dict[str, bytes]:  # noqa: ARG001 - the sources share one signature
    """The four payloads from the installed Debian or Ubuntu package.

    Raises:
        SourceError: it is not installed, or its files are damaged.
    """
    if not PACKAGE_FOLDER.is_dir():
        raise SourceError(f"{PACKAGE_FOLDER} does not exist")
    return _proved(PACKAGE_FOLDER)


def _proved(folder: Path) -> dict[str, bytes]:
    try:
        return read_folder(folder)
    except ToolkitError as error:
        raise SourceError(str(error)) from error


def fetch_package(note: Note) -> dict[str, bytes]:
    """The four payloads from the Debian or Ubuntu package, fetched into a private folder, without root.

    The system's package lists serve if they know the package. If not (a fresh container image has none, stale
    ones name files that are gone), lists are fetched into the private folder. The system is not changed.

    Raises:
        SourceError: no apt-get here, or it could not fetch the package.
    """
    if tool := debian.missing_tool():
        raise SourceError(f"{tool} is not on this system")
    note(f"fetching 31 MB from the Debian package {PACKAGE}")
    try:
        with tempfile.TemporaryDirectory(prefix="toolkit-data-") as folder:
            return _fetch_into(Path(folder), note)
    except OSError as error:
        raise SourceError(f"no private folder to fetch into: {error}") from error


def _fetch_into(folder: Path, note: Note) -> dict[str, bytes]:
    deadline = time.monotonic() + FETCH_SECONDS
    (folder / "files").mkdir()
    system, private = debian.system_config(folder), debian.private_config(folder)
    download = ["download", PACKAGE]
    reason = debian.run(["apt-get", "-c", str(system), *download], folder, deadline)
    if reason:
        note("the system's package lists do not help; fetching lists (about 10 MB) into a private folder")
        # Its verdict is not asked for: one repository of many being out of reach must not matter.
        trouble = debian.run(["apt-get", "-c", str(private), "update"], folder, deadline)
        reason = debian.run(["apt-get", "-c", str(private), *download], folder, deadline)
        if reason and trouble:
            reason = f"{reason}; before that, apt-get update: {trouble}"
    if reason:
        raise SourceError(reason)
    packages = list(folder.glob(f"{PACKAGE}_*.deb"))
    if not packages:
        raise SourceError("apt-get ended well but left no package")
    if reason := debian.run(["dpkg-deb", "-x", str(packages[0]), str(folder / "files")], folder, deadline):
        raise SourceError(f"the package cannot be unpacked: {reason}")
    return _proved(folder / "files" / PACKAGE_FOLDER.relative_to("/"))
