"""A bundle on the disk: the folder and what stands beside it, each whole or not at all, and in nobody's place."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from toolkit.bundle import archives
from toolkit.bundle.layout import SUMS, belongs, is_cache
from toolkit.errors import ToolkitError, UsageError
from toolkit.predictor import read_manifest
from toolkit.publishing import staged_file
from toolkit.staged_folders import staged_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

__all__ = ["check_beside", "publish"]


def publish(
    target: Path, files: Mapping[str, bytes], beside: Mapping[Path, bytes], check: Callable[[Path], None]
) -> None:
    """Write a bundle's folder and the archives beside it.

    All is written under other names first, so a full disk changes nothing. Only an earlier bundle, or an empty folder,
    gives way; should a file that is not a bundle's come into it meanwhile, the earlier folder stays.

    Args:
        target: the folder.
        files: its files, by name. They get the time of now: tools that copy by time and size must see a new model.
        beside: further files, each checked by `check_beside`.
        check: told of the folder before it takes its place; what it raises keeps it from doing so.

    Raises:
        UsageError: the target is something else, holds other files, or is in use by another command.
        StorageError: the disk is full or fails.
    """
    with ExitStack() as staged:
        family = target.name
        mine = {staged.enter_context(staged_file(path, data, family=family)).name for path, data in beside.items()}
        with staged_folder(target, replaceable=_check_earlier) as staging:
            for file in staging.parent.iterdir():
                if re.fullmatch(rf"\.{re.escape(family)}\.[0-9a-f]{{8}}\.part", file.name) and file.name not in mine:
                    file.unlink(missing_ok=True)  # a killed run's
            for name, data in files.items():
                (staging / name).write_bytes(data)
            try:
                check(staging)
            except ToolkitError as error:
                raise type(error)(str(error).replace(str(staging), str(target))) from error


def check_beside(path: Path) -> None:
    """A file beside the folder may be written: it is not there, or is an earlier bundle's.

    Raises:
        UsageError: it is something else.
    """
    if not path.exists() and not path.is_symlink():
        return
    with suppress(ToolkitError, OSError, ValueError):
        data = path.read_bytes()
        if path.suffix == ".sig":
            if "dsseEnvelope" in json.loads(data):
                return
        elif any(name.endswith(f"/{SUMS}") for name in archives.read(data, path)):
            return
    raise UsageError(f"{path} is there and is no bundle, so it is not replaced; move it, or choose another --output")


def _check_earlier(folder: Path, shown: Path) -> None:
    try:
        manifest = read_manifest(str(folder), older=True)
    except ToolkitError as error:
        raise UsageError(
            f"{shown} is neither empty nor an earlier bundle that may be replaced; choose another --output"
        ) from error
    if not isinstance(manifest.get("bundle"), dict):
        raise UsageError(f"{shown} is an artifact, which no bundle replaces; choose another --output")
    for entry in sorted(folder.iterdir()):
        if not is_cache(entry) and (entry.is_symlink() or not entry.is_file() or not belongs(entry.name)):
            raise UsageError(
                f"{shown} is an earlier bundle, but {entry.name} in it is none of its files and would be lost; move "
                "it, or choose another --output"
            )
