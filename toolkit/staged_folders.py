"""Artifact folders that several stages fill, each published as a whole or not at all.

The models of a folder are never changed in place. A stage takes the folder's lock, fills a staging
folder beside it and swaps the two in one system call, so that a reader, a crash or ``kill -9`` at any moment meets
either the earlier folder or the new one. What a killed run leaves behind is a hidden staging folder, which the next run
removes. A manifest to which verification adds what it found about files that stay as they are is replaced as a whole
(`toolkit.publishing.write_atomic`).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.card_mark import CARD, is_own_card
from toolkit.errors import StorageError, ToolkitError, UsageError
from toolkit.predictor import MANIFEST_NAME, read_manifest
from toolkit.publishing import storage_error, write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["OWN_FILES", "replace_manifest", "staged_folder"]

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h

Replaceable = Callable[[Path, Path], None]
"""Takes a folder that is not empty, and the path that errors call it by; raises UsageError if it must stay."""


@contextmanager
def staged_folder(target: Path, *, replaceable: Replaceable | None = None) -> Iterator[Path]:
    """An empty staging folder that takes the target's place when the block ends well, and vanishes when it does not.

    Of an artifact, what else is in the target then moves over: everything but `OWN_FILES` and a model card of ours, as
    it is at that moment.

    Args:
        target: the folder; it need not exist.
        replaceable: for what is not an artifact: tells of an earlier folder whether it may go as a whole, since nothing
            moves over then. Asked before the work, and again once the folder is out of the way; if it must stay by
            then, it comes back.

    Raises:
        UsageError: target is a file, a folder that is no artifact (or must stay), cannot be written or renamed, or is
            in use by another run.
        StorageError: the disk is full or fails; the earlier folder is whole.
    """
    target = _checked_target(target, replaceable or _check_artifact)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target):
            earlier = target.with_name(f".{target.name}.earlier")
            if earlier.is_dir():  # a run was killed within the two renames of _swap
                _remove(earlier) if target.exists() else earlier.rename(target)
            for leftover in target.parent.iterdir():
                if re.fullmatch(rf"\.{re.escape(target.name)}\.staging-[0-9a-f]{{8}}", leftover.name):
                    _remove(leftover)
            staging = target.with_name(f".{target.name}.staging-{secrets.token_hex(4)}")
            try:
                staging.mkdir()
                yield staging
                _sync(staging)
                _put_in_place(staging, target, replaceable)
            finally:
                _remove(staging)
    except ToolkitError:
        raise
    except shutil.Error as error:  # one for all that copytree could not copy
        raise StorageError(f"could not write {target}: {error}; what was there before is untouched") from error
    except OSError as error:
        raise storage_error(error, target) from error


def _put_in_place(staging: Path, target: Path, replaceable: Replaceable | None) -> None:
    if target.is_dir():
        if replaceable is None:
            _carry_over(target, staging, _not_carried(target))
        shutil.copystat(target, staging)
    _swap(staging, target)
    if not staging.is_dir():
        return
    # Now staging is the earlier folder, and may hold what came into it while we worked.
    if replaceable is None:
        _carry_over(staging, target, _not_carried(staging))
    elif any(staging.iterdir()):
        try:
            replaceable(staging, target)
        except ToolkitError:
            _swap(staging, target)
            raise


def replace_manifest(target: Path, earlier: bytes, text: str) -> None:
    """Put another manifest into a published folder whose other files stay as they are.

    Args:
        target: the artifact folder.
        earlier: the manifest's bytes as they were read; if they are others by now, nothing is written.
        text: the new manifest.

    Raises:
        UsageError: another command replaced the artifact or is doing so, or it cannot be written.
        StorageError: the disk is full or fails; the earlier manifest is whole.
    """
    target = target.resolve()
    path = target / MANIFEST_NAME
    try:
        with _locked(target):
            if path.read_bytes() != earlier:
                raise UsageError(f"{target} was replaced by another command while it was verified; verify it again")
            write_atomic(path, text)
    except ToolkitError:
        raise
    except OSError as error:
        raise storage_error(error, target) from error


# What the toolkit writes into an artifact folder (and the ten pictures in samples/). The rest belongs to the user.
OWN_FILES = frozenset(
    {
        MANIFEST_NAME,
        "bench.json",
        "golden.npz",
        "history.csv",
        "main.c",
        "model.c",
        "model.float16.onnx",
        "model.h",
        "model.h5",
        "model.int4.onnx",
        "model.int8.onnx",
        "model.keras",
        "model.mk",
        "model.onnx",
        "model.so",
        "parity.json",
        "report.html",
        "saved_model",
        "settings.json",
        "tune.json",
    }
)


def _not_carried(folder: Path) -> frozenset[str]:
    """What is about the earlier model, and does not move over to the next one."""
    return OWN_FILES | ({CARD} if is_own_card(folder / CARD) else set())


def _checked_target(target: Path, replaceable: Replaceable) -> Path:
    """The folder's absolute path, if a run may replace it: known before the work, not after it."""
    try:
        target = Path(os.path.abspath(target))  # noqa: PTH100 - resolve() would replace a link by what it points to
        if target.is_symlink():
            target = target.resolve()
        if target.exists() and not target.is_dir():
            raise UsageError(f"{target} is a file, expected a folder to write; choose another --output")
        if target.resolve() in (here := Path.cwd(), *here.parents):
            raise UsageError(
                f"{target} is the current folder or above it, and publishing replaces the folder; run from outside it, "
                "or choose another --output"
            )
        if target.is_dir():
            _check_inside(target)
        occupied = target.is_dir() and any(target.iterdir())
    except (OSError, RuntimeError) as error:  # RuntimeError: a link that leads to itself
        raise UsageError(f"cannot use {target}: {error}; choose another --output") from error
    if occupied:
        replaceable(target, target)
    return target


def _check_artifact(folder: Path, shown: Path) -> None:
    try:
        manifest = read_manifest(str(folder), older=True)
    except ToolkitError as error:
        raise UsageError(
            f"{shown} is neither empty nor an artifact of this toolkit that may be replaced "
            f"({str(error).split(';')[0]}); choose another --output"
        ) from error
    if manifest.get("bundle"):
        raise UsageError(f"{shown} is a bundle for a device, which no artifact replaces; choose another --output")


def _check_inside(target: Path) -> None:
    """Nothing in the folder will hinder its replacement once the work is done."""
    mounted = sorted(m for m in _mount_points() if m == target or target in m.parents)
    if mounted:
        raise UsageError(
            f"{mounted[0]} is a mount point, and publishing replaces the folder {target}; choose a folder in it, or "
            "another --output"
        )
    if (target / "samples").is_symlink() or (target / "samples").is_file():
        raise UsageError(f"{target / 'samples'} is in the way of the samples folder; rename it")
    for folder, _, _ in os.walk(target):
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise UsageError(f"cannot write {folder}: Permission denied; change its mode or choose another --output")


def _mount_points() -> list[Path]:
    """Where something is mounted: bind mounts too, which the numbers that stat gives do not show."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:  # no Linux
        return []
    # The fifth field, with blanks and the like as octal escapes: Linux, Documentation/filesystems/proc.rst, 3.5.
    fields = (line.split(" ")[4] for line in lines)
    return [Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), field)) for field in fields]


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    lock = target.with_name(f".{target.name}.lock")
    while True:
        with lock.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                owner = file.read().strip() or "unknown"
                raise UsageError(
                    f"another toolkit command (process {owner}) is writing {target}; "
                    "wait for it or choose another --output"
                ) from error
            if not lock.exists() or not os.path.samestat(lock.stat(), os.fstat(file.fileno())):
                continue  # its last owner removed it between our opening and our locking
            try:
                file.truncate(0)
                file.write(str(os.getpid()))
                file.flush()
                yield
            finally:
                lock.unlink(missing_ok=True)  # while it is still ours
            return


def _carry_over(source: Path, target: Path, leave: frozenset[str]) -> None:
    """Bring what target does not have, as links to the same files: nothing is copied, so no disk is filled by it."""
    for entry in source.iterdir():
        mine = target / entry.name
        if entry.name in leave:
            continue
        if entry.is_dir() and not entry.is_symlink():
            new = not mine.is_dir()
            if new:
                mine.mkdir()
            _carry_over(entry, mine, frozenset())
            if new:
                shutil.copystat(entry, mine)
        elif not mine.exists() and not mine.is_symlink():
            try:
                os.link(entry, mine, follow_symlinks=False)
            except OSError as error:
                if error.errno == errno.EXDEV:  # another file system: removing the earlier folder would empty it
                    raise
                shutil.copy2(entry, mine, follow_symlinks=False)  # a file system without links


def _remove(folder: Path) -> None:
    """Remove a folder of ours whatever modes it took over; one that resists is left for the next run."""
    for inside, _, _ in os.walk(folder):
        with suppress(OSError):
            Path(inside).chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


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
    # A file system (or libc) without the exchange: renames, with the earlier folder kept until the new one is there.
    earlier = target.with_name(f".{target.name}.earlier")
    target.rename(earlier)
    try:
        staging.rename(target)
    except OSError:
        earlier.rename(target)
        raise
    earlier.rename(staging)
