"""Interrupted training goes on as if nothing had happened; what cannot go on says so and touches nothing."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.conftest import toolkit
from tests.data_fixtures import first_images
from toolkit.errors import CorruptArtifactError, MissingError, StorageError, UsageError
from toolkit.pipeline import TrainingPlan, run_folder_of, train_artifact
from toolkit.progress import silent_note, silent_step
from toolkit.training.recipes import Recipe, TeacherRecipe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from toolkit.data import FashionMnist
    from toolkit.training.history import Epoch

ADAM = Recipe(
    name="adam", hidden=(24,), epochs=5, batch_size=256, optimizer="adam", learning_rate=5e-3, dropout=0.3,
    early_stopping=2,
)  # fmt: skip
MUON = Recipe(
    name="muon", hidden=(24, 12), epochs=5, batch_size=512, optimizer="muon", learning_rate=0.05, weight_decay=0.1,
    schedule="cosine", warmup_epochs=1, batch_norm=True, standardize=True, flip=True, shift=1, weight_average=0.9,
)  # fmt: skip
TAUGHT = dataclasses.replace(
    MUON,
    name="taught",
    precision="mixed_bfloat16",
    weight_average=0.0,
    dropout=0.1,
    teacher=TeacherRecipe(count=2, width=4, epochs=1, batch_size=256, precision="float32"),
)

ROUNDED = dataclasses.replace(MUON, name="rounded", quantization_aware="int4", quantization_epochs=3)
STOPPED = dataclasses.replace(
    ADAM, name="stopped", epochs=40, learning_rate=0.05, dropout=0.0, quantization_aware="int4", quantization_epochs=2
)


@pytest.fixture(scope="module")
def few(fashion_mnist: FashionMnist) -> FashionMnist:
    return first_images(fashion_mnist, 2500)


class PulledPlugError(Exception):
    """Ends training where a test wants it to end."""


def pull_at(number: int, network: str = "") -> Callable[[Epoch], None]:
    def told(epoch: Epoch) -> None:
        if (epoch.number, epoch.network) == (number, network):
            raise PulledPlugError

    return told


def run(
    output: Path,
    recipe: Recipe,
    data: FashionMnist,
    told: Callable[[Epoch], None] = lambda _: None,
    *,
    seeds: tuple[int, ...] = (1,),
    resume: bool = False,
) -> None:
    train_artifact(output, TrainingPlan(recipe, seeds, resume), data, told, silent_note, silent_step)


def weights_of(artifact: Path) -> list[Any]:
    from toolkit.keras_model import load_keras

    return list(load_keras(artifact / "model.keras").get_weights())


def same(one: Path, other: Path) -> bool:
    assert (one / "history.csv").read_text() == (other / "history.csv").read_text()
    return all(np.array_equal(x, y) for x, y in zip(weights_of(one), weights_of(other), strict=True))


@pytest.fixture(scope="module")
def wholes(few: FashionMnist, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Recipe], Path]:
    """Gives the artifact of an uninterrupted training, made once for each recipe."""

    @functools.cache
    def made(recipe: Recipe) -> Path:
        output = tmp_path_factory.mktemp("whole") / "whole"
        run(output, recipe, few)
        return output

    return made


@pytest.mark.parametrize(
    ("recipe", "pulls"),
    [
        pytest.param(ADAM, (3, 4), id="adam"),
        pytest.param(MUON, (3, 4), id="muon"),
        # The second pull is the optimizer's affair, not the teachers'.
        pytest.param(TAUGHT, (4,), id="taught", marks=pytest.mark.slow),
    ],
)
def test_resumed_weights_are_bit_equal(
    recipe: Recipe, pulls: tuple[int, ...], few: FashionMnist, wholes: Callable[[Recipe], Path], tmp_path: Path
) -> None:
    """Pulled twice, the second time after one more epoch."""
    uninterrupted = wholes(recipe)
    # The epoch at which the plug is pulled was not checkpointed yet: it is run again.
    for number in pulls:
        with pytest.raises(PulledPlugError):
            run(tmp_path / "pulled", recipe, few, pull_at(number), resume=number != pulls[0])
        assert not (tmp_path / "pulled").exists()
    seen: list[Epoch] = []
    run(tmp_path / "pulled", recipe, few, seen.append, resume=True)
    assert (seen[0].number, seen[0].network) == (4, "")
    assert same(uninterrupted, tmp_path / "pulled")
    assert not run_folder_of(tmp_path / "pulled").exists()
    whole, pulled = (
        json.loads((folder / "manifest.json").read_text()) for folder in (uninterrupted, tmp_path / "pulled")
    )
    for name in ("epochs_run", "train_accuracy", "validation_accuracy", "validation_loss", "teacher_accuracy"):
        assert whole["training"][name] == pulled["training"][name]


@pytest.mark.slow
def test_a_finished_teacher_is_not_trained_again(
    few: FashionMnist, wholes: Callable[[Recipe], Path], tmp_path: Path
) -> None:
    with pytest.raises(PulledPlugError):
        run(tmp_path / "pulled", TAUGHT, few, pull_at(1, "teacher 2 of 2"))
    seen: list[Epoch] = []
    run(tmp_path / "pulled", TAUGHT, few, seen.append, resume=True)
    assert seen[0].network == "teacher 2 of 2"
    assert same(wholes(TAUGHT), tmp_path / "pulled")


@pytest.mark.slow
def test_early_stopping_stops_where_it_would_have(few: FashionMnist, tmp_path: Path) -> None:
    wild = dataclasses.replace(ADAM, epochs=40, learning_rate=0.05, dropout=0.0)
    seen: list[Epoch] = []
    run(tmp_path / "whole", wild, few, seen.append)
    assert 3 <= len(seen) < 40
    with pytest.raises(PulledPlugError):
        run(tmp_path / "pulled", wild, few, pull_at(len(seen) - 1))
    run(tmp_path / "pulled", wild, few, resume=True)
    assert same(tmp_path / "whole", tmp_path / "pulled")


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [ROUNDED, STOPPED], ids=lambda recipe: recipe.name)
def test_an_interrupted_finish_begins_again_from_the_float_network(
    recipe: Recipe, few: FashionMnist, wholes: Callable[[Recipe], Path], tmp_path: Path
) -> None:
    """Pulled in its second epoch; averaged weights, and those of the best epoch, are those that it began with."""
    with pytest.raises(PulledPlugError):
        run(tmp_path / "pulled", recipe, few, pull_at(2, "int4"))
    seen: list[Epoch] = []
    run(tmp_path / "pulled", recipe, few, seen.append, resume=True)
    assert [(epoch.network, epoch.number) for epoch in seen] == [
        ("int4", number + 1) for number in range(recipe.quantization_epochs)
    ]
    assert same(wholes(recipe), tmp_path / "pulled")
    whole, pulled = (
        json.loads((folder / "manifest.json").read_text())["training"]
        for folder in (wholes(recipe), tmp_path / "pulled")
    )
    for name in ("epochs_run", "quantization_epochs", "float_validation_accuracy", "validation_accuracy"):
        assert whole[name] == pulled[name]
    if recipe.early_stopping:
        assert whole["epochs_run"] < recipe.epochs


@pytest.mark.slow
def test_several_seeds_go_on_where_they_were(few: FashionMnist, tmp_path: Path) -> None:
    run(tmp_path / "whole", MUON, few, seeds=(1, 2))
    seen: list[Epoch] = []

    def second_seed(epoch: Epoch) -> None:
        seen.append(epoch)
        if len(seen) == MUON.epochs + 2:
            raise PulledPlugError

    with pytest.raises(PulledPlugError):
        run(tmp_path / "pulled", MUON, few, second_seed, seeds=(1, 2))
    again: list[Epoch] = []
    run(tmp_path / "pulled", MUON, few, again.append, seeds=(1, 2), resume=True)
    assert [epoch.number for epoch in again] == [2, 3, 4, 5]
    assert same(tmp_path / "whole", tmp_path / "pulled")
    record = json.loads((tmp_path / "whole" / "manifest.json").read_text())["training"]
    assert [entry["seed"] for entry in record["seeds"]] == [1, 2]
    best = max(record["seeds"], key=lambda entry: entry["validation_accuracy"])
    assert record["validation_accuracy"] == best["validation_accuracy"]


@pytest.fixture
def pulled(few: FashionMnist, tmp_path: Path) -> Path:
    """An artifact whose training was interrupted after two epochs."""
    with pytest.raises(PulledPlugError):
        run(tmp_path / "mine", MUON, few, pull_at(3))
    return tmp_path / "mine"


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        (dataclasses.replace(MUON, learning_rate=0.04), r"recipe\.learning_rate 0\.05, and this asks for 0\.04"),
        (dataclasses.replace(MUON, hidden=(24,)), r"recipe\.hidden \[24, 12\]"),
    ],
)
def test_a_changed_recipe_is_refused(recipe: Recipe, says: str, pulled: Path, few: FashionMnist) -> None:
    with pytest.raises(UsageError, match=says):
        run(pulled, recipe, few, resume=True)
    run(pulled, MUON, few, resume=True)  # what was there is still there


def test_other_images_are_refused(pulled: Path, few: FashionMnist) -> None:
    other = dataclasses.replace(few, train_labels=(few.train_labels + 1) % 10)
    with pytest.raises(UsageError, match="begun with training images"):
        run(pulled, MUON, other, resume=True)


def test_a_cpu_that_multiplies_otherwise_is_refused(
    pulled: Path, few: FashionMnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolkit.training import precision

    monkeypatch.setattr(precision, "policy_of", lambda _: "another")
    with pytest.raises(UsageError, match="begun with precision on this CPU 'float32'"):
        run(pulled, MUON, few, resume=True)


def test_a_damaged_checkpoint_is_refused(pulled: Path, few: FashionMnist) -> None:
    folder = run_folder_of(pulled) / "seed-1"
    for path in sorted((folder / "epoch").iterdir()):
        whole = path.read_bytes()
        for damaged in (whole[: len(whole) // 2], bytes([whole[0] ^ 1]) + whole[1:]):
            path.write_bytes(damaged)
            with pytest.raises(CorruptArtifactError, match="damaged; train without --resume"):
                run(pulled, MUON, few, resume=True)
        path.unlink()
        with pytest.raises(CorruptArtifactError, match="damaged"):
            run(pulled, MUON, few, resume=True)
        path.write_bytes(whole)
    (folder / "run.json").write_text("[")
    with pytest.raises(CorruptArtifactError, match=r"run\.json is damaged"):
        run(pulled, MUON, few, resume=True)


def test_a_checkpoint_cut_between_its_renames_is_found(
    pulled: Path, few: FashionMnist, wholes: Callable[[Recipe], Path]
) -> None:
    folder = run_folder_of(pulled) / "seed-1"
    (folder / "epoch").rename(folder / "epoch.earlier")
    (folder / "epoch.new-0123abcd").mkdir()
    run(pulled, MUON, few, resume=True)
    assert same(wholes(MUON), pulled)


def test_there_may_be_nothing_to_resume(few: FashionMnist, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="train without --resume"):
        run(tmp_path / "mine", MUON, few, resume=True)
    finished = toolkit("train", "--resume", "--output", tmp_path / "mine")
    assert finished.code == 3
    assert "there is no interrupted training" in finished.error_line


def test_a_full_disk_keeps_the_earlier_checkpoint(
    few: FashionMnist, wholes: Callable[[Recipe], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second checkpoint finds no room; the first is whole, and training goes on from it."""
    import shutil

    copyfile = shutil.copyfile

    def full(source: Any, target: Any, **options: Any) -> Any:
        if str(target).endswith("history.csv") and len(source.read_text().splitlines()) == 3:
            raise OSError(28, os.strerror(28), str(target))
        return copyfile(source, target, **options)

    monkeypatch.setattr("toolkit.training.checkpoints.shutil.copyfile", full)
    with pytest.raises(StorageError, match=r"No space left.*--resume"):
        run(tmp_path / "mine", MUON, few)
    monkeypatch.undo()
    assert not (tmp_path / "mine").exists()
    seen: list[Epoch] = []
    run(tmp_path / "mine", MUON, few, seen.append, resume=True)
    assert seen[0].number == 2
    assert same(wholes(MUON), tmp_path / "mine")


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "Can't synchronously write data (file write failed:\n, errno = 28"),
        RuntimeError("Unable to decrement id ref count\n(unable to close file)"),  # of h5py's close
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_disk_that_is_full_for_keras_is_said_in_one_line(
    error: Exception, few: FashionMnist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolkit.keras_model import import_keras

    backup = import_keras().callbacks.BackupAndRestore
    save = backup._save_model

    def full(self: Any) -> None:
        if self._current_epoch == 2:
            raise error
        save(self)

    monkeypatch.setattr(backup, "_save_model", full)
    with pytest.raises(StorageError, match=r"could not write the checkpoint.*--resume") as caught:
        run(tmp_path / "mine", MUON, few)
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    seen: list[Epoch] = []
    run(tmp_path / "mine", dataclasses.replace(MUON), few, seen.append, resume=True)
    assert seen[0].number == 2


SMALL = ("--hidden", "16", "--epochs", "8")
"""A training of the real data whose epochs are short, and enough of them to be interrupted in."""


def begun(output: Path) -> subprocess.Popen[str]:
    """That training by the installed command, at the end of its second epoch."""
    command = [sys.executable, "-m", "toolkit", "train", "--output", str(output), *SMALL]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Where the tests run in the background of a script, SIGINT is ignored, and a child inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - before any thread of ours
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "epoch 2/8" in line:
            return process
    raise AssertionError("it ended too soon")


def test_a_killed_command_resumes_bit_equal(tmp_path: Path) -> None:
    assert toolkit("train", "--output", tmp_path / "whole", *SMALL).code == 0
    process = begun(tmp_path / "mine")
    process.kill()
    process.communicate()
    assert not (tmp_path / "mine").exists()
    resumed = toolkit("train", "--output", tmp_path / "mine", *SMALL, "--resume")
    assert resumed.code == 0, resumed.err
    assert "epoch 1/8" not in resumed.err
    assert same(tmp_path / "whole", tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("times", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_ctrl_c_says_how_to_go_on(times: int, tmp_path: Path) -> None:
    process = begun(tmp_path / "mine")
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "--resume goes on from there" in err
    assert not (tmp_path / "mine").exists()
    assert toolkit("train", "--output", tmp_path / "mine", *SMALL, "--resume").code == 0


def test_a_diverged_training_leaves_nothing(tmp_path: Path) -> None:
    finished = toolkit(
        "train", "--recipe", "notebook", "--epochs", 2, "--learning-rate", 1e9, "--output", tmp_path / "mine"
    )
    assert finished.code == 1
    assert "lower the learning rate" in finished.error_line
    assert "epoch 2/2" not in finished.err
    assert finished.out == ""
    assert list(tmp_path.iterdir()) == []
