"""The sweep with real training: through the library on few images, and by the installed command on all."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import toolkit
from tests.data_fixtures import first_images
from tests.fake_training import listener, settings
from toolkit.errors import MissingError
from toolkit.sweeping.sweep import SweepSettings, sweep
from toolkit.training.recipe_files import find_recipe
from toolkit.training.recipes import Recipe, TeacherRecipe

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.data import FashionMnist
    from toolkit.training.history import Epoch

SMALL = Recipe(name="small", hidden=(16,), epochs=3, batch_size=256, optimizer="sgd", learning_rate=0.1)


@pytest.fixture(scope="module")
def few(fashion_mnist: FashionMnist) -> FashionMnist:
    return first_images(fashion_mnist, 2000)


def real(folder: Path, *spaces: str, **more: Any) -> SweepSettings:
    return settings(folder, *spaces, **{"recipe": SMALL, **more})


def test_diverged_stopped_and_finished_by_real_training(
    few: FashionMnist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import optuna

    from toolkit.training.fit import train

    bad = lambda trial: trial.params["learning_rate"] == "1e-06"  # noqa: E731 - what a pruner would find out
    monkeypatch.setattr(optuna.trial.Trial, "should_prune", bad)
    report = sweep(real(tmp_path, "learning_rate=0.1|1e-6|1e30|0.05"), few, listener())
    found = {row.settings["learning_rate"]: row for row in report.trials}
    assert {rate: row.outcome for rate, row in found.items()} == {
        "0.1": "finished",
        "0.05": "finished",
        "1e-06": "pruned",
        "1e+30": "diverged",
    }
    assert (found["1e-06"].epochs_run, found["0.1"].epochs_run) == (1, 3)
    assert report.best is not None
    assert report.best.parameters == 785 * 16 + 17 * 10
    again = train(report.recipe_of(report.best), few, 1, tmp_path, lambda _: None)
    assert again.validation_accuracy == report.best.validation_accuracy
    assert again.validation_loss == report.best.validation_loss


@pytest.mark.slow
def test_teachers_are_trained_once(few: FashionMnist, tmp_path: Path) -> None:
    teacher = TeacherRecipe(count=2, width=4, epochs=1, batch_size=256, precision="float32")
    taught = dataclasses.replace(SMALL, epochs=2, teacher=teacher)
    few = dataclasses.replace(few, train_images=few.train_images[:512], train_labels=few.train_labels[:512])
    seen: list[tuple[int, str]] = []

    def on_epoch(number: int, epoch: Epoch) -> None:
        seen.append((number, epoch.network))

    told = dataclasses.replace(listener(), on_epoch=on_epoch)
    chosen = real(tmp_path, "temperature=1.5|2.0", "dropout=0.0|0.2", recipe=taught, trials=2)
    sweep(chosen, few, told)
    report = sweep(dataclasses.replace(chosen, trials=4), few, told)
    assert [number for number, network in seen if network] == [0, 0]
    assert [row.outcome for row in report.trials] == ["finished"] * 4
    (kept,) = tmp_path.glob("teachers-*/teacher-1")
    (kept / "teacher.keras").write_bytes(b"damaged")
    for answers in kept.parent.glob("taught-*"):
        (answers / "soft.npy").write_bytes(b"damaged")
    assert sweep(dataclasses.replace(chosen, name="again", trials=1), few, told).best is not None
    assert len([network for _, network in seen if network]) == 4


def test_a_teacher_that_is_missing_stops_the_sweep_and_is_not_counted(few: FashionMnist, tmp_path: Path) -> None:
    chosen = real(tmp_path, "dropout=0..0.5", "teacher_files=none.keras")
    with pytest.raises(MissingError, match="does not exist"):
        sweep(chosen, few, listener())
    report = sweep(dataclasses.replace(chosen, timeout=0.0), few, listener())
    assert [row.outcome for row in report.trials] == ["interrupted"]
    assert report.counted == 0


ARGUMENTS = ("sweep", "--epochs", 2, "--search", "hidden=300,100|64", "--search", "learning_rate=log:0.01..0.1")


@pytest.mark.slow
def test_interrupted_continued_applied_and_trained_by_the_command(tmp_path: Path) -> None:
    arguments = [*map(str, ARGUMENTS), "-o", str(tmp_path), "--trials", "3", "--seed", "7"]
    command = [sys.executable, "-m", "toolkit", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "trial 0 (1 of 3)" in line:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert "the same command goes on from there" in err
    assert "Traceback" not in err
    begun = json.loads((tmp_path / "sweep.json").read_text())
    assert begun["counts"]["finished"] >= 1
    recipe, picture = tmp_path / "recipe.json", tmp_path / "sweep.svg"
    ended = toolkit(*arguments, "--apply", recipe, "--plot", picture)
    assert ended.code == 0, ended.err
    report = json.loads((tmp_path / "sweep.json").read_text())
    assert report["counts"]["finished"] == 3
    best = report["trials"][0]
    assert best["number"] == report["best"]
    assert best["settings"]["hidden"] in ([300, 100], [64])
    assert f"{best['validation_accuracy']:.2%}" in ended.out
    assert ended.out.splitlines()[-1] == f"Next: toolkit train --recipe {recipe} --seed 7"
    assert "--epochs 80 trains longer" in ended.err
    assert picture.read_text().startswith("<?xml")
    trained = toolkit("train", "--recipe", recipe, "--seed", 7, "--output", tmp_path / "mine", "--json")
    assert trained.code == 0, trained.err
    record = json.loads(trained.out)
    assert record["validation_accuracy"] == best["validation_accuracy"]
    assert record["validation_loss"] == best["validation_loss"]
    assert find_recipe(str(tmp_path / "mine")) == find_recipe(str(recipe))
    shown = toolkit(*arguments, "--json")  # nothing is left to try
    assert shown.code == 0
    assert json.loads(shown.out)["trials"] == report["trials"]


def test_settings_that_make_no_sense_end_the_command(tmp_path: Path) -> None:
    search = ["--search", "optimizer=adam", "--search", "momentum=0.1..0.9"]
    finished = toolkit("sweep", "-o", tmp_path, *search, fresh=True)
    assert finished.code == 2
    assert "none of the first 5 trials could be trained" in finished.error_line
    assert "only sgd takes one" in finished.error_line
    assert json.loads((tmp_path / "sweep.json").read_text())["counts"] == {"invalid": 5}


@pytest.mark.slow
def test_nothing_but_diverged_trials_is_a_failure(tmp_path: Path) -> None:
    arguments = ["--epochs", 2, "--search", "learning_rate=1e20|1e22", "--search", "optimizer=sgd", "--apply"]
    finished = toolkit("sweep", "-o", tmp_path, *arguments, tmp_path / "recipe.json", "--json")
    assert finished.code == 1, finished.err
    assert json.loads(finished.out)["counts"] == {"diverged": 2}
    assert "no trial was trained to its end" in finished.error_line
    assert not (tmp_path / "recipe.json").exists()


def test_without_optuna_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "optuna.py").write_text("raise ImportError('no optuna here')\n")
    path = os.pathsep.join([str(tmp_path / "hidden"), os.environ.get("PYTHONPATH", "")])
    finished = toolkit("sweep", "-o", tmp_path / "out", env={"PYTHONPATH": path})
    assert finished.code == 3
    assert "no optuna here" in finished.error_line
    assert "the extra 'sweep'" in finished.error_line
    assert not (tmp_path / "out").exists()
