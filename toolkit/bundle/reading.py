"""A bundle from the outside: its files as they are in a folder, a zip file or a wheel, and none that does not belong.

Nothing of it is run, and nothing is unpacked to a disk.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.bundle import archives
from toolkit.bundle.layout import PREDICTOR, SIGNATURE, SUMS, belongs, is_cache
from toolkit.errors import CorruptArtifactError, MissingError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Found", "read_found"]

_ABOUT = ("METADATA", "RECORD", "WHEEL")


@dataclass(frozen=True)
class Found:
    """What is at a path.

    Attributes:
        path: of the folder or file.
        form: "folder", "zip" or "wheel".
        top: the folder's name, in a zip file or wheel too.
        files: the bundle's, bytes by name.
        about: of a wheel, the files of its .dist-info folder.
        data: of a zip file or wheel, the whole file.
        signature: what belongs to it, or None.
        caches: a folder has Python's compiled modules beside its own.
    """

    path: Path
    form: str
    top: str
    files: dict[str, bytes]
    about: dict[str, bytes]
    data: bytes
    signature: bytes | None
    caches: bool = False

    def shown(self, name: str) -> str:
        """How errors call one of the files."""
        return str(self.path / name) if self.form == "folder" else f"{self.path}: {name}"


def read_found(path: Path) -> Found:
    """What is at a path, read once.

    Raises:
        MissingError: nothing is there.
        UsageError: it is no folder, zip file or wheel, or cannot be read.
        CorruptArtifactError: it is damaged, or holds what does not belong to a bundle.
    """
    try:
        if path.is_dir():
            return _folder(path)
        if not path.exists():
            raise MissingError(f"{path} does not exist; give a bundle: a folder, a .zip or a .whl")
        if path.suffix not in (".zip", ".whl") or not path.is_file():
            raise UsageError(f"{path} is no bundle; give a folder, a .zip or a .whl made by 'toolkit bundle'")
        _check_size(path, path.stat().st_size)
        return _wheel(path) if path.suffix == ".whl" else _zip(path)
    except (CorruptArtifactError, MissingError, UsageError):
        raise
    except OSError as error:
        raise UsageError(f"cannot read {error.filename or path}: {error.strerror}; check its permissions") from error


def _folder(path: Path) -> Found:
    files, caches = {}, False
    entries = sorted(path.iterdir())
    if not {SUMS, PREDICTOR} & {entry.name for entry in entries}:  # one of them may be what is missing
        raise UsageError(f"{path} is no bundle; make one of an artifact with: toolkit bundle")
    for entry in entries:
        if is_cache(entry):
            caches = True
            continue
        mode = entry.lstat().st_mode
        if stat.S_ISLNK(mode):
            raise CorruptArtifactError(
                f"{entry} is a link to {entry.readlink()}, expected a regular file; copy the bundle again as a whole"
            )
        if not stat.S_ISREG(mode) or not belongs(entry.name):
            raise CorruptArtifactError(f"{entry} is a file that does not belong to a bundle; remove it")
        _check_size(entry, entry.lstat().st_size)
        files[entry.name] = entry.read_bytes()
    signature = files.pop(SIGNATURE, None)
    return Found(path, "folder", path.resolve().name, files, {}, b"", signature, caches)


def _check_size(path: Path, size: int) -> None:
    """Files are read whole, so none is that would fill the memory."""
    if size > archives.MOST_BYTES:
        raise CorruptArtifactError(
            f"{path} has {size:,} bytes, expected {archives.MOST_BYTES:,} at most; it is of no bundle, do not use it"
        )


def _zip(path: Path) -> Found:
    data = path.read_bytes()
    folders = _by_folder(path, archives.read(data, path))
    if len(folders) != 1:
        raise CorruptArtifactError(f"{path} holds {len(folders)} folders, expected one; do not use it")
    ((top, files),) = folders.items()
    _check_names(path, top, files)
    signature = files.pop(SIGNATURE, None)
    return Found(path, "zip", top, files, {}, data, signature)


def _wheel(path: Path) -> Found:
    data = path.read_bytes()
    folders = _by_folder(path, archives.read(data, path))
    about = {name: files for name, files in folders.items() if name.endswith(".dist-info")}
    packages = [name for name in folders if name not in about]
    if len(about) != 1 or len(packages) != 1:
        raise CorruptArtifactError(
            f"{path} holds {', '.join(folders) or 'nothing'}, expected a package and its .dist-info; do not use it"
        )
    ((_, described),) = about.items()
    if sorted(described) != sorted(_ABOUT):
        raise CorruptArtifactError(
            f"{path}: its .dist-info holds {', '.join(sorted(described))}, expected {', '.join(_ABOUT)}; do not use it"
        )
    _check_names(path, packages[0], folders[packages[0]])
    beside = path.with_name(f"{path.name}.sig")
    signature = beside.read_bytes() if beside.is_file() else None
    return Found(path, "wheel", packages[0], folders[packages[0]], described, data, signature)


def _by_folder(path: Path, members: dict[str, bytes]) -> dict[str, dict[str, bytes]]:
    folders: dict[str, dict[str, bytes]] = {}
    for member, data in members.items():
        folder, _, name = member.partition("/")
        folders.setdefault(folder, {})[name] = data
    if not folders:
        raise CorruptArtifactError(f"{path} is empty; copy it again as a whole")
    return folders


def _check_names(path: Path, top: str, files: dict[str, bytes]) -> None:
    for name in files:
        if not belongs(name):
            raise CorruptArtifactError(
                f"{path}: {top}/{name} is a file that does not belong to a bundle; do not use it"
            )
