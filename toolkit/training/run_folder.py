"""What an interrupted training leaves, so that it can go on: a folder of sets of files, each whole or not there."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from toolkit.artifact import sha256_of
from toolkit.errors import CorruptArtifactError, MissingError, StorageError, ToolkitError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["RunFolder"]

_IDENTITY, _SUMS = "run.json", "sums.json"


class RunFolder:
    """A training run's folder, made anew or opened again.

    A set is a folder of files and their sha256; it takes its place by a rename, so that a kill at any moment leaves the
    earlier set or the new one.

    Args:
        path: the folder.
        identity: what decides the run's result, as JSON values: one that goes on must have been begun with the same.
        resume: open what is there instead of starting anew.

    Raises:
        MissingError: there is nothing to resume.
        UsageError: what is there was begun otherwise.
        CorruptArtifactError: it is damaged.
    """

    def __init__(self, path: Path, identity: dict[str, Any], *, resume: bool) -> None:
        self.path = path
        if resume:
            self._check(identity)
            return
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        (path / _IDENTITY).write_text(json.dumps(identity), encoding="utf-8")

    def _check(self, identity: dict[str, Any]) -> None:
        try:
            earlier = json.loads((self.path / _IDENTITY).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise MissingError(
                f"there is no interrupted training to resume ({self.path} is not there); train without --resume"
            ) from error
        except ValueError as error:
            raise self._corrupt(_IDENTITY) from error
        if not isinstance(earlier, dict):
            raise self._corrupt(_IDENTITY)
        # As JSON gives it back: tuples are lists there.
        now = json.loads(json.dumps(identity))
        if changed := _difference(earlier, now):
            raise UsageError(
                f"the interrupted training was begun with {changed}; resume it with the same settings, or train "
                "without --resume, which starts anew"
            )

    def commit(self, name: str, fill: Callable[[Path], None]) -> None:
        """Put a set in place of an earlier one of that name.

        Args:
            name: of the set.
            fill: writes its files into a folder.

        Raises:
            StorageError: they cannot be written; the earlier set is whole.
        """
        staging = self.path / f"{name}.new-{secrets.token_hex(4)}"
        earlier = self.path / f"{name}.earlier"
        try:
            with self.writing():
                for left in self.path.glob(f"{name}.new-*"):  # by a run that was killed
                    shutil.rmtree(left, ignore_errors=True)
                staging.mkdir()
                fill(staging)
                sums = {path.name: sha256_of(path) for path in sorted(staging.iterdir())}
                (staging / _SUMS).write_text(json.dumps(sums), encoding="utf-8")
                if (self.path / name).exists():
                    shutil.rmtree(earlier, ignore_errors=True)
                    (self.path / name).rename(earlier)
                staging.rename(self.path / name)
                shutil.rmtree(earlier, ignore_errors=True)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """What cannot be written in the block, said as it is for a person.

        Raises:
            StorageError: the disk is full or fails; every set that was committed is whole.
        """
        try:
            yield
        except ToolkitError:
            raise
        except (OSError, RuntimeError) as error:  # h5py raises the latter where closing a file fails
            number = error.errno if isinstance(error, OSError) else None
            # h5py's own texts have several lines.
            reason = os.strerror(number) if number else " ".join(str(error).split())[:200]
            raise StorageError(
                f"could not write the checkpoint in {self.path} ({reason}); free some space, then go on with --resume"
            ) from error

    def find(self, name: str) -> Path | None:
        """The folder of a set whose files are as they were written; None if there is no such set.

        Raises:
            CorruptArtifactError: a file is damaged or missing.
        """
        folder, earlier = self.path / name, self.path / f"{name}.earlier"
        if not folder.exists() and earlier.exists():  # killed between the two renames
            earlier.rename(folder)
        if not folder.exists():
            return None
        try:
            sums = json.loads((folder / _SUMS).read_text(encoding="utf-8"))
            damaged = [file for file, known in sums.items() if sha256_of(folder / file) != known]
        except (OSError, ValueError, AttributeError) as error:
            raise self._corrupt(name) from error
        if damaged or not sums:
            raise self._corrupt(f"{name}/{damaged[0]}" if damaged else name)
        return folder

    def _corrupt(self, what: str) -> CorruptArtifactError:
        return CorruptArtifactError(
            f"the interrupted training cannot be resumed: {self.path / what} is damaged; train without --resume"
        )

    def remove(self) -> None:
        """Remove the folder; what it held is not needed any more."""
        shutil.rmtree(self.path, ignore_errors=True)


def _difference(earlier: dict[str, Any], now: dict[str, Any], within: str = "") -> str | None:
    """The first setting that is another, in words."""
    for name in {**earlier, **now}:
        one, other = earlier.get(name), now.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            if found := _difference(one, other, f"{within}{name}."):
                return found
        elif one != other:
            return f"{within}{name} {one!r}, and this asks for {other!r}"
    return None
