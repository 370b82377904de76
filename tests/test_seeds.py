"""Several seeds, and teachers that are kept, with a training that takes no time: what stays when one of them fails."""

from __future__ import annotations

import dataclasses
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import REFERENCE, toolkit
from tests.fake_training import PLAIN, no_images
from toolkit.errors import DivergedError, StorageError, UsageError
from toolkit.pipeline import TrainingPlan, run_folder_of, train_artifact
from toolkit.progress import silent_step
from toolkit.training.recipes import TeacherRecipe

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.data import FashionMnist

TAUGHT = dataclasses.replace(PLAIN, name="taught", teacher=TeacherRecipe())


class PulledPlugError(Exception):
    """Ends training where a test wants it to end."""


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> dict[int, Exception]:
    """What training raises, by seed, once its teachers are there; in the place of training."""
    from toolkit.training import fit

    errors: dict[int, Exception] = {}

    def train(recipe: Any, _data: Any, seed: int, folder: Path, _on_epoch: Any, *, run: Any, **_: Any) -> Any:
        for number in range(1, (recipe.teacher.count if recipe.teacher else 0) + 1):
            if not run.find(f"teacher-{number}"):
                run.commit(
                    f"teacher-{number}", lambda place, at=number: (place / "teacher.keras").write_text(f"{seed} {at}")
                )
        if seed in errors:
            raise errors[seed]
        for name in ("model.keras", "history.csv"):
            shutil.copyfile(REFERENCE / name, folder / name)
        return fit.TrainingResult(None, recipe.epochs, 1.0, 0.0, 0.9, 0.8 + seed / 100, 0.2, 0.9, None)

    monkeypatch.setattr(fit, "train", train)
    return errors


def trained(
    output: Path, seeds: tuple[int, ...] = (1,), notes: list[str] | None = None, recipe: Any = TAUGHT, **more: Any
) -> Any:
    told = [] if notes is None else notes
    train_artifact(output, TrainingPlan(recipe, seeds, **more), no_images(), lambda _: None, told.append, silent_step)
    return json.loads((output / "manifest.json").read_text())["training"]


def teachers(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def test_a_resumed_training_of_another_seed_is_refused(fails: dict[int, Exception], tmp_path: Path) -> None:
    """Also where the recipe is another one: what was begun must not be lost for it."""
    fails[1] = PulledPlugError()
    with pytest.raises(PulledPlugError):
        trained(tmp_path / "mine")
    for seeds in ((2,), (2, 3)):
        with pytest.raises(UsageError, match=r"has seed 1, and this asks for 2.*--seed 1, or train without --resume"):
            trained(tmp_path / "mine", seeds, recipe=PLAIN, resume=True)
    assert (run_folder_of(tmp_path / "mine") / "seed-1" / "teacher-2" / "teacher.keras").is_file()
    assert not (tmp_path / "mine").exists()
    del fails[1]
    assert trained(tmp_path / "mine", (1, 2), resume=True)["seed"] == 2


def test_seeds_that_finished_outlive_one_that_diverges(fails: dict[int, Exception], tmp_path: Path) -> None:
    fails[3] = DivergedError("training diverged")
    notes: list[str] = []
    with pytest.raises(DivergedError):
        trained(tmp_path / "mine", (1, 2, 3, 4), notes)
    assert sorted(path.name for path in run_folder_of(tmp_path / "mine").iterdir()) == ["seed-1", "seed-2"]
    assert "seed 3 diverged; the 2 finished before are kept: --seed 1 --seeds 2 --resume" in notes[-1]
    record = trained(tmp_path / "mine", (1, 2), resume=True)
    assert (record["seed"], len(record["seeds"])) == (2, 2)


def test_one_seed_that_diverges_leaves_the_teachers_that_were_asked_for(
    fails: dict[int, Exception], tmp_path: Path
) -> None:
    fails[1] = DivergedError("training diverged")
    with pytest.raises(DivergedError):
        trained(tmp_path / "mine", save_teachers=tmp_path / "kept")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert teachers(tmp_path / "kept") == {"teacher-1-1.keras": "1 1", "teacher-1-2.keras": "1 2"}


def test_teachers_are_saved_before_a_seed_counts_as_finished(
    fails: dict[int, Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolkit.pipeline import training

    def full(*_: Any) -> None:
        raise StorageError("no space")

    with monkeypatch.context() as patched:
        patched.setattr(training, "write_atomic", full)
        with pytest.raises(StorageError):
            trained(tmp_path / "mine", save_teachers=tmp_path / "kept")
    assert teachers(tmp_path / "kept") == {}
    trained(tmp_path / "mine", save_teachers=tmp_path / "kept", resume=True)
    assert teachers(tmp_path / "kept") == {"teacher-1-1.keras": "1 1", "teacher-1-2.keras": "1 2"}
    assert not fails


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_where_teachers_go_is_looked_at_first(fails: dict[int, Exception], place: str, tmp_path: Path) -> None:
    fails[1] = AssertionError("it was trained")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"--save-teachers is .*file.*, expected a folder to write to"):
        trained(tmp_path / "mine", save_teachers=tmp_path / place)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_save_teachers_on_the_command_line(fashion_mnist: FashionMnist, tmp_path: Path) -> None:  # noqa: ARG001 - cached
    (tmp_path / "file").write_text("")
    for recipe, says in (("best", "expected a folder to write to"), ("notebook", "trains none; drop it")):
        done = toolkit("train", "--recipe", recipe, "--save-teachers", tmp_path / "file", "--output", tmp_path / "mine")
        assert (done.code, done.out) == (2, "")
        assert says in done.error_line
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
