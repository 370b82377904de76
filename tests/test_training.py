"""Recipes are data, training repeats itself, and what it leaves is what it says."""

from __future__ import annotations

import csv
import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from toolkit.errors import DivergedError, UsageError
from toolkit.training.recipes import RECIPES, Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.data import FashionMnist
    from toolkit.training.fit import Epoch

DEFAULT = RECIPES["default"]


@pytest.fixture(scope="module")
def few(fashion_mnist: FashionMnist) -> FashionMnist:
    """The first images of each part, for runs of seconds."""
    return dataclasses.replace(
        fashion_mnist,
        train_images=fashion_mnist.train_images[:4000],
        train_labels=fashion_mnist.train_labels[:4000],
        validation_images=fashion_mnist.validation_images[:500],
        validation_labels=fashion_mnist.validation_labels[:500],
    )


def _train(recipe: Recipe, data: FashionMnist, folder: Path, seed: int = 1) -> tuple[list[np.ndarray], list[Epoch]]:
    from toolkit.training.fit import train

    epochs: list[Epoch] = []
    folder.mkdir()
    result = train(recipe, data, seed, folder, epochs.append)
    assert result.epochs_run == len(epochs)
    return result.model.get_weights(), epochs


def test_the_reference_structure_is_the_notebooks() -> None:
    from toolkit.training.model import build_mlp

    model = build_mlp(DEFAULT, 215)
    dense = [layer for layer in model.layers if layer.__class__.__name__ == "Dense"]
    assert [(layer.units, layer.activation.__name__) for layer in dense] == [
        (300, "relu"),
        (100, "relu"),
        (10, "softmax"),
    ]
    assert model.count_params() == 266_610
    assert (model.input_shape, model.output_shape) == ((None, 28, 28), (None, 10))
    assert model.loss == "sparse_categorical_crossentropy"


def test_same_seed_same_weights_and_what_is_left_behind(few: FashionMnist, tmp_path: Path) -> None:
    from toolkit.keras_model import load_keras

    recipe = DEFAULT.override(epochs=2)
    first, epochs = _train(recipe, few, tmp_path / "a")
    again, _ = _train(recipe, few, tmp_path / "b")
    other, _ = _train(recipe, few, tmp_path / "c", seed=2)
    assert all(np.array_equal(x, y) for x, y in zip(first, again, strict=True))
    assert not all(np.array_equal(x, y) for x, y in zip(first, other, strict=True))
    saved = load_keras(tmp_path / "a" / "model.keras").get_weights()
    assert all(np.array_equal(x, y) for x, y in zip(first, saved, strict=True))
    assert (tmp_path / "a" / "model.keras").stat().st_size < 1_200_000  # the weights, not the optimizer's state
    with (tmp_path / "a" / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [0, 1]
    for row, epoch in zip(rows, epochs, strict=True):
        assert math.isclose(float(row["val_accuracy"]), epoch.validation_accuracy)
        assert math.isclose(float(row["loss"]), epoch.loss)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_every_optimizer_and_structure_learns(few: FashionMnist, tmp_path: Path, optimizer: str) -> None:
    recipe = DEFAULT.override(
        epochs=3,
        optimizer=optimizer,
        learning_rate=0.05 if optimizer == "sgd" else 2e-3,
        hidden=(32,),
        dropout=0.1,
        l2=1e-5,
    )
    weights, epochs = _train(recipe, few, tmp_path / "run")
    assert [w.shape for w in weights] == [(784, 32), (32,), (32, 10), (10,)]
    assert epochs[-1].loss < epochs[0].loss
    assert epochs[-1].validation_accuracy > 0.5


def test_early_stopping_takes_the_best_epoch(few: FashionMnist, tmp_path: Path) -> None:
    from toolkit.training.fit import train

    recipe = DEFAULT.override(epochs=30, early_stopping=1, learning_rate=0.03, schedule="constant", dropout=0.0)
    epochs: list[Epoch] = []
    result = train(recipe, few, 1, tmp_path, epochs.append)
    assert result.epochs_run < 30
    best = min(epochs, key=lambda epoch: epoch.validation_loss)
    assert result.validation_loss == best.validation_loss
    scaled = few.validation_images.astype("float32") / 255
    found = (result.model.predict(scaled, verbose=0).argmax(axis=1) == few.validation_labels).mean()
    assert math.isclose(found, best.validation_accuracy, abs_tol=1e-6)


def test_a_diverging_run_says_so(few: FashionMnist, tmp_path: Path) -> None:
    recipe = DEFAULT.override(epochs=20, optimizer="sgd", learning_rate=1e6, dropout=0.0)
    with pytest.raises(DivergedError, match="lower the learning rate"):
        _train(recipe, few, tmp_path / "run")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("optimizer", "rmsprop"),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("learning_rate", math.inf),
        ("hidden", ()),
        ("hidden", (300, 0)),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("l2", -1.0),
        ("early_stopping", -1),
        ("schedule", "linear"),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting: str, value: object) -> None:
    with pytest.raises(UsageError, match="expected"):
        DEFAULT.override(**{setting: value})


def test_overriding_keeps_the_rest() -> None:
    assert DEFAULT.override(epochs=None) is DEFAULT
    changed = DEFAULT.override(optimizer="sgd", learning_rate=0.01)
    assert (changed.name, changed.weight_decay, changed.hidden) == ("custom", 0.0, (300, 100))
    with pytest.raises(UsageError, match="choose adamw"):
        DEFAULT.override(optimizer="sgd", weight_decay=0.1)
