"""Where a report may go: known before the work, not after it."""

import os
from pathlib import Path

__all__ = ["checked_file", "checked_report"]


def checked_report(path: Path, name: str) -> Path:
    """The path, if a report can be written there.

    Args:
        path: the file to write; its folder is made if need be.
        name: what this report is called inside an artifact, where every other name of the toolkit's own is refused.

    Raises:
        UsageError: it is a folder, no .json, another file of an artifact, or cannot be written.
    """
    from toolkit.errors import UsageError
    from toolkit.staged_folders import OWN_FILES

    if path.is_dir():
        raise UsageError(f"--output {path} is a folder, expected a file; give {path / name}")
    if path.suffix != ".json" or path.name in OWN_FILES - {name}:
        raise UsageError(f"--output {path} would not be a report of its own; expected a name such as {name}")
    return _writable(path, "--output")


def checked_file(path: Path | None, option: str, suffixes: tuple[str, ...]) -> Path | None:
    """The path that an option gives, if a file of such a name can be written there; None stays None.

    Args:
        path: the file to write; its folder is made if need be.
        option: its name, for errors.
        suffixes: what the file's name may end in.

    Raises:
        UsageError: it ends in something else, is a folder, or cannot be written.
    """
    from toolkit.errors import UsageError

    if path is None:
        return None
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"{option} is {path}, expected a name that ends in {' or '.join(suffixes)}")
    if path.is_dir():
        raise UsageError(f"{option} is {path}, which is a folder; give a file name in it")
    return _writable(path, option)


def _writable(path: Path, option: str) -> Path:
    from toolkit.errors import UsageError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writable = os.access(path.parent, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise UsageError(f"cannot write {path}: {path.parent} is no folder to write to; choose another {option}")
    return path
