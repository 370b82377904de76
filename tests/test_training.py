"""Recipes are data, training repeats itself, and what it leaves is what it says."""

from __future__ import annotations

import csv
import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.data_fixtures import first_images
from toolkit.errors import DivergedError, MissingError, ModelError
from toolkit.training.recipes import RECIPES, Recipe, TeacherRecipe

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.data import FashionMnist
    from toolkit.training.history import Epoch

DEFAULT = RECIPES["default"]
PLAIN = Recipe(name="plain", epochs=3, batch_size=256, optimizer="adamw", learning_rate=2e-3)
SMALL_TEACHER = TeacherRecipe(count=2, width=4, epochs=1, batch_size=128, precision="float32")


@pytest.fixture(scope="module")
def few(fashion_mnist: FashionMnist) -> FashionMnist:
    """The first images of each part, for runs of seconds."""
    return first_images(fashion_mnist, 4000)


def _train(recipe: Recipe, data: FashionMnist, folder: Path, seed: int = 1) -> tuple[list[np.ndarray], list[Epoch]]:
    from toolkit.training.fit import train

    epochs: list[Epoch] = []
    folder.mkdir()
    result = train(recipe, data, seed, folder, epochs.append)
    assert result.epochs_run == len(epochs)
    return result.model.get_weights(), epochs


def test_the_reference_structure_is_the_notebooks() -> None:
    from toolkit.training.model import build_plain

    model = build_plain(DEFAULT.hidden)
    dense = [layer for layer in model.layers if layer.__class__.__name__ == "Dense"]
    assert [(layer.units, layer.activation.__name__) for layer in dense] == [
        (300, "relu"),
        (100, "relu"),
        (10, "softmax"),
    ]
    assert model.count_params() == 266_610
    assert (model.input_shape, model.output_shape) == ((None, 28, 28), (None, 10))


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


EVERYTHING = {
    "batch_norm": True,
    "standardize": True,
    "flip": True,
    "shift": 1,
    "scale": 0.1,
    "label_smoothing": 0.05,
    "weight_average": 0.9,
}


@pytest.mark.parametrize(
    ("optimizer", "rate", "more"),
    [
        ("sgd", 0.05, {"momentum": 0.9, "schedule": "linear"}),
        ("adam", 2e-3, {"schedule": "cosine", "warmup_epochs": 1}),
        ("adamw", 2e-3, {"weight_decay": 0.01, **EVERYTHING}),
        ("muon", 0.05, {"weight_decay": 0.1, "batch_norm": True}),
    ],
)
def test_every_optimizer_and_structure_learns(
    few: FashionMnist, tmp_path: Path, optimizer: str, rate: float, more: dict[str, Any]
) -> None:
    recipe = Recipe(
        name="mine",
        epochs=4,
        batch_size=128,
        optimizer=optimizer,
        learning_rate=rate,
        hidden=(32,),
        dropout=0.1,
        l2=1e-5,
        **more,
    )
    weights, epochs = _train(recipe, few, tmp_path / "run")
    assert [w.shape for w in weights] == [(784, 32), (32,), (32, 10), (10,)]
    assert epochs[-1].loss < epochs[0].loss
    assert epochs[-1].validation_accuracy > 0.5


def test_early_stopping_takes_the_best_epoch(few: FashionMnist, tmp_path: Path) -> None:
    from toolkit.training.fit import train

    recipe = PLAIN.override(epochs=30, early_stopping=1, learning_rate=0.03)
    epochs: list[Epoch] = []
    result = train(recipe, few, 1, tmp_path, epochs.append)
    assert result.epochs_run < 30
    best = min(epochs, key=lambda epoch: epoch.validation_loss)
    assert result.validation_loss == best.validation_loss
    scaled = few.validation_images.astype("float32") / 255
    found = (result.model.predict(scaled, verbose=0).argmax(axis=1) == few.validation_labels).mean()
    assert math.isclose(found, best.validation_accuracy, abs_tol=1e-6)


def test_a_diverging_run_says_so(few: FashionMnist, tmp_path: Path) -> None:
    recipe = PLAIN.override(epochs=20, optimizer="sgd", learning_rate=1e6)
    with pytest.raises(DivergedError, match="lower the learning rate"):
        _train(recipe, few, tmp_path / "run")


def test_a_diverging_teacher_is_named(few: FashionMnist, tmp_path: Path) -> None:
    wild = dataclasses.replace(SMALL_TEACHER, learning_rate=1e9, epochs=3)
    with pytest.raises(DivergedError, match=r"teacher 1 of 2 diverged.*lower the learning rate"):
        _train(dataclasses.replace(PLAIN, teacher=wild), few, tmp_path / "run")


def test_what_is_folded_computes_the_same(few: FashionMnist) -> None:
    """Against the layers themselves, with statistics far from where they begin."""
    import keras

    from toolkit.training.inputs import scaled
    from toolkit.training.model import build_mlp, fold

    recipe = dataclasses.replace(PLAIN, hidden=(20, 12), batch_norm=True, standardize=True, dropout=0.2)
    model = build_mlp(recipe, 0.3, 0.4)
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            size = layer.get_weights()[0].shape
            layer.set_weights([rng.uniform(-2, 2, size), *rng.normal(size=(2, *size)), rng.uniform(0.01, 3, size)])
    plain = fold(model, recipe)
    assert [layer.__class__.__name__ for layer in plain.layers] == ["Flatten", "Dense", "Dense", "Dense"]
    images = scaled(few.validation_images)
    expected = keras.ops.softmax(model(images, training=False)).numpy()
    assert np.allclose(plain(images).numpy(), expected, atol=2e-6)


def test_bfloat16_trains_and_float32_is_saved(few: FashionMnist, tmp_path: Path) -> None:
    from toolkit.keras_model import load_keras
    from toolkit.training.fit import train
    from toolkit.training.inputs import scaled

    recipe = DEFAULT.override(epochs=6, batch_size=256, precision="mixed_bfloat16")
    result = train(recipe, few, 1, tmp_path, lambda _: None)
    assert result.precision == "mixed_bfloat16"
    saved = load_keras(tmp_path / "model.keras")
    assert {layer.dtype_policy.name for layer in saved.layers} == {"float32"}
    answers = np.asarray(saved(scaled(few.validation_images)))
    right = answers.argmax(axis=1) == few.validation_labels
    assert result.validation_accuracy == right.mean() > 0.75
    of_label = answers[np.arange(len(answers)), few.validation_labels]
    assert math.isclose(result.validation_loss, -np.log(of_label).mean(), rel_tol=1e-5)
    weights, _ = _train(dataclasses.replace(recipe, precision="float32"), few, tmp_path / "float32")
    assert not np.array_equal(weights[0], result.model.get_weights()[0])  # it was no float32 by another name


def test_muon_orthogonalizes_in_bfloat16_as_keras_does_in_float32() -> None:
    import keras

    from toolkit.training.optimizers import optimizer_of

    steps = DEFAULT.newton_schulz_steps
    half = optimizer_of(DEFAULT.override(precision="mixed_bfloat16"), 1)
    plain = optimizer_of(DEFAULT.override(precision="float32"), 1)
    assert type(plain) is keras.optimizers.Muon
    for shape in ((300, 100), (30, 200)):
        matrix = keras.ops.convert_to_tensor(np.random.default_rng(1).normal(size=shape).astype(np.float32))
        found, exact = (np.asarray(one.zeropower_via_newtonschulz5(matrix, steps)) for one in (half, plain))
        assert found.dtype == np.float32
        assert found.shape == shape
        # The polynomial takes singular values to about 0.7 to 1.2 (Jordan et al. 2024); bfloat16 has eight bits.
        values = np.linalg.svd(found, compute_uv=False)
        assert 0.6 < values.min() <= values.max() < 1.3
        assert np.linalg.norm(found - exact) < 0.1 * np.linalg.norm(exact)


@pytest.mark.parametrize(
    ("features", "policy"), [({"avx2", "amx_bf16"}, "mixed_bfloat16"), ({"avx2"}, "float32"), (set(), "float32")]
)
def test_auto_takes_bfloat16_where_the_cpu_multiplies_it(
    features: set[str], policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolkit.training import precision

    monkeypatch.setattr(precision, "cpu_features", lambda: features)
    assert precision.policy_of("auto") == policy
    assert precision.policy_of("float32") == "float32"
    assert precision.policy_of("mixed_bfloat16") == "mixed_bfloat16"


def test_a_student_learns_from_its_teachers(few: FashionMnist, tmp_path: Path) -> None:
    from toolkit.training.fit import train

    recipe = dataclasses.replace(PLAIN, flip=True, shift=1, teacher=SMALL_TEACHER)
    epochs: list[Epoch] = []
    result = train(recipe, few, 1, tmp_path, epochs.append)
    assert [epoch.network for epoch in epochs] == ["teacher 1 of 2", "teacher 2 of 2", "", "", ""]
    assert result.epochs_run == 3
    assert result.teacher_accuracy is not None
    assert 0 < result.teacher_seconds < result.seconds
    assert result.validation_accuracy > 0.5


def test_teachers_answers_are_the_mean_of_their_softened_probabilities(few: FashionMnist, tmp_path: Path) -> None:
    """One gives logits, one probabilities; a file of either is as good as the model."""
    import keras

    from toolkit.training.augmentation import Augmentation, view_of
    from toolkit.training.distilling import soft_targets
    from toolkit.training.inputs import scaled
    from toolkit.training.teacher import open_teacher

    keras.utils.set_random_seed(3)
    first = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10)])
    second = keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")]
    )
    teachers = []
    for name, model in (("first", first), ("second", second)):
        model.save(tmp_path / f"{name}.keras")
        teachers.append(open_teacher(tmp_path / f"{name}.keras"))
    images, chosen = few.train_images[:100], Augmentation(flip=True, shift=1)
    found = soft_targets(teachers, images, chosen, 2.0, lambda *_: None)
    assert found.shape == (18, 100, 10)
    for at in (0, 4, 17):
        pixels = scaled(view_of(images, *chosen.views[at]).numpy())
        of_first = keras.ops.softmax(first(pixels) / 2).numpy()
        of_second = np.sqrt(second(pixels[..., None]).numpy().astype(np.float64))
        expected = (of_first + of_second / of_second.sum(axis=1, keepdims=True)) / 2
        assert np.allclose(found[at], expected, atol=1e-5)


def test_teachers_are_asked_through_fused_normalizations(few: FashionMnist) -> None:
    import keras

    from toolkit.training.fused_norm import FusedNormalization
    from toolkit.training.inputs import scaled
    from toolkit.training.teacher import build_teacher, fused

    pixels = scaled(few.validation_images[:64])
    teacher = build_teacher(SMALL_TEACHER)
    teacher(pixels, training=True)  # statistics of their own
    found = fused(teacher)
    kinds = [type(layer) for layer in found.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert set(kinds) == {FusedNormalization}
    assert np.allclose(found(pixels), teacher(pixels), atol=1e-4)

    class Own(keras.Model):  # type: ignore[misc]  # Keras has no types
        """Cannot be rebuilt from a config."""

        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def call(self, images: Any) -> Any:
            return self.inner(images)

    own = Own(teacher)
    assert fused(own) is own


def test_a_teacher_of_another_form_is_refused(tmp_path: Path) -> None:
    import keras

    from toolkit.training.teacher import open_teacher

    keras.Sequential([keras.Input((8,)), keras.layers.Dense(10)]).save(tmp_path / "other.keras")
    with pytest.raises(ModelError, match="expected \\(None, 28, 28\\)"):
        open_teacher(tmp_path / "other.keras")
    with pytest.raises(MissingError, match="does not exist"):
        open_teacher(tmp_path / "none.keras")
