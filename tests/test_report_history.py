"""history.csv as the report reads it: where overfitting begins, learning rates, and files that are none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from toolkit.artifact import Manifest
from toolkit.errors import CorruptArtifactError
from toolkit.manifest_records import FileRecord, TrainingRecord
from toolkit.report.history import TrainingFacts, find_training
from toolkit.report.parts import Missing
from toolkit.report.sections.training import pictures

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "epoch,accuracy,loss,val_accuracy,val_loss"


def found(folder: Path, text: str, recipe: dict[str, Any] | None = None, finish: int = 0) -> TrainingFacts | Missing:
    (folder / "history.csv").write_text(text)
    record = (
        None if recipe is None else TrainingRecord(recipe, 1, "data", 3, 1.0, 0.9, 0.8, 0.3, quantization_epochs=finish)
    )
    files = {"history.csv": FileRecord("history", "", len(text))}
    return find_training(folder, Manifest("m", {}, files, training=record), "m")


def course(folder: Path, losses: list[float], recipe: dict[str, Any] | None = None, finish: int = 0) -> TrainingFacts:
    lines = [f"{at},0.9,{1 / (at + 1)},0.8,{loss}" for at, loss in enumerate(losses)]
    facts = found(folder, "\n".join([HEAD, *lines, ""]), recipe, finish)
    assert isinstance(facts, TrainingFacts)
    return facts


def test_overfitting_begins_where_the_validation_loss_is_least(tmp_path: Path) -> None:
    facts = course(tmp_path, [0.9, 0.5, 0.4, 0.45, 0.6])
    assert (facts.best_epoch, facts.overfits_from) == (3, 3)
    assert facts.rise == pytest.approx(0.5)
    assert "overfits from epoch 3" in pictures(facts)["loss"]


@pytest.mark.parametrize("losses", [[0.9, 0.5, 0.4], [0.9, 0.4, 0.402], [0.4, 0.5, 0.4]])
def test_no_overfitting(tmp_path: Path, losses: list[float]) -> None:
    facts = course(tmp_path, losses)
    assert facts.overfits_from is None
    assert "overfits" not in pictures(facts)["loss"]


def test_a_finish_with_rounded_weights_is_no_overfitting(tmp_path: Path) -> None:
    losses = [0.9, 0.5, 0.4, 0.45, 0.44]
    assert course(tmp_path, losses, {}).overfits_from == 3
    facts = course(tmp_path, losses, {"quantization_aware": "int4"}, finish=2)
    assert (facts.best_epoch, facts.overfits_from, facts.finish) == (3, None, 2)
    assert len(facts.val_loss) == 5
    assert "overfits" not in pictures(facts)["loss"]


def test_one_epoch(tmp_path: Path) -> None:
    facts = course(tmp_path, [0.5])
    assert (facts.best_epoch, facts.overfits_from) == (1, None)
    assert set(pictures(facts)) == {"accuracy", "loss"}


def test_learning_rate_that_was_written_down(tmp_path: Path) -> None:
    text = f"{HEAD},learning_rate\n0,0.5,1,0.5,1,0.01\n1,0.6,0.9,0.6,0.9,0.005\n"
    facts = found(tmp_path, text, {"learning_rate": 0.3, "schedule": "constant"})
    assert isinstance(facts, TrainingFacts)
    assert (facts.learning_rate, facts.recorded) == ((0.01, 0.005), True)
    assert "learning-rate" in pictures(facts)


def test_learning_rate_of_the_recipe_only_where_it_is_constant(tmp_path: Path) -> None:
    assert course(tmp_path, [1, 2], {"learning_rate": 0.3, "schedule": "constant"}).learning_rate == (0.3, 0.3)
    assert course(tmp_path, [1, 2], {"learning_rate": 0.3, "schedule": "cosine"}).learning_rate == ()
    assert course(tmp_path, [1, 2], {}).learning_rate == ()


def test_what_is_no_number_is_left_out(tmp_path: Path) -> None:
    facts = found(tmp_path, f"{HEAD}\n0,0.5,1,0.5,0.9\n1,0.6,nan,,nan\n2,0.7,0.5,0.6,inf\n")
    assert isinstance(facts, TrainingFacts)
    assert facts.val_loss == (0.9, None, None)
    assert facts.loss == (1.0, None, 0.5)
    assert set(pictures(facts)) == {"accuracy", "loss"}


def test_without_accuracy(tmp_path: Path) -> None:
    facts = found(tmp_path, "epoch,loss,val_loss\n0,1,2\n1,0.5,1\n")
    assert isinstance(facts, TrainingFacts)
    assert set(pictures(facts)) == {"loss"}


def test_no_validation_loss_at_all(tmp_path: Path) -> None:
    facts = found(tmp_path, "epoch,loss,val_loss\n0,1,nan\n")
    assert isinstance(facts, Missing)
    assert "no validation loss" in facts.why


@pytest.mark.parametrize("text", ["", "epoch,loss\n0,1\n", f"{HEAD}\n", f"{HEAD}\n0,1\n", f"{HEAD}\n0,a,b,c,d\n", "\0"])
def test_what_is_no_history(tmp_path: Path, text: str) -> None:
    with pytest.raises(CorruptArtifactError, match="train or copy"):
        found(tmp_path, text)
