"""Teachers of a sweep: trained once, for all trials that learn from the same."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.artifact import sha256_of
from toolkit.errors import CorruptArtifactError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from toolkit.data import FashionMnist
    from toolkit.progress import Step
    from toolkit.training.distilling import Taught
    from toolkit.training.history import OnEpoch
    from toolkit.training.recipes import Recipe
    from toolkit.training.run_folder import RunFolder

__all__ = ["Teachers"]

_ANSWERS = "taught"  # what `teach` calls them


class Teachers:
    """What teachers give, kept in a folder that processes may share, and the last one in memory.

    Args:
        folder: where; made if need be.
        data: the images.
        digest: of the images, sha256.
        seed: of the training.
    """

    def __init__(self, folder: Path, data: FashionMnist, digest: str, seed: int) -> None:
        self._folder, self._data, self._digest, self._seed = folder, data, digest, seed
        self._last: tuple[str, Taught] | None = None

    def of(self, recipe: Recipe, on_epoch: OnEpoch, step: Step) -> Taught | None:
        """What a recipe's teachers give; None of a recipe without.

        Raises:
            MissingError, ModelError: a teacher's file is none.
            DivergedError: a teacher's loss is no number.
        """
        if not recipe.distills:
            return None
        identity: dict[str, Any] = {
            "teacher": dataclasses.asdict(recipe.teacher) if recipe.teacher else None,
            "files": [[name, sha256_of(Path(name)) if Path(name).is_file() else None] for name in recipe.teacher_files],
            "seed": self._seed,
            "training images": self._digest,
        }
        of_teachers = _key(identity)
        of_answers = _key([of_teachers, recipe.flip, recipe.shift, recipe.temperature])
        if self._last is not None and self._last[0] == of_answers:
            return self._last[1]
        from toolkit.training.distilling import teach

        self._last = None  # two sets of answers need not be in memory together
        path = self._folder / f"teachers-{of_teachers}"
        with _alone(path.with_name(f".{path.name}.lock")):

            def taught(*, resume: bool) -> Taught:
                store = _store(path, identity, of_answers, resume=resume)
                return teach(recipe, self._data, self._seed, on_epoch, store, step)

            try:
                found = taught(resume=(path / "run.json").is_file())
            except CorruptArtifactError:  # they can be made again
                found = taught(resume=False)
        self._last = (of_answers, found)
        return found


def _store(path: Path, identity: dict[str, Any], answers: str, *, resume: bool) -> RunFolder:
    """A run folder that keeps teachers under their own names, and answers under one for each set of views."""
    from toolkit.training.run_folder import RunFolder

    class Store(RunFolder):
        def find(self, name: str) -> Path | None:
            return super().find(_named(name))

        def commit(self, name: str, fill: Callable[[Path], None]) -> None:
            super().commit(_named(name), fill)

    def _named(name: str) -> str:
        return f"{name}-{answers}" if name == _ANSWERS else name

    return Store(path, identity, resume=resume)


def _key(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Waits until no other process is at the same teachers."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
