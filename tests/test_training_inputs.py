"""What comes when is a pure function of seed, epoch and step; augmentation does what it says, bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toolkit.training.inputs import Inputs

RNG = np.random.default_rng(5)
IMAGES = RNG.integers(0, 256, (50, 28, 28)).astype(np.uint8)
LABELS = (np.arange(50) % 10).astype(np.uint8)


def inputs(soft: NDArray[np.float32] | None = None) -> Inputs:
    from toolkit.training.inputs import Inputs

    return Inputs(IMAGES, LABELS, soft)


def batches(epochs: range, seed: int = 3, batch_size: int = 16, **options: Any) -> list[tuple[Any, Any]]:
    from toolkit.training.augmentation import Augmentation
    from toolkit.training.inputs import training_batches

    augmentation = options.pop("augmentation", Augmentation(flip=True, shift=2, scale=0.1, erase=0.5))
    given = options.pop("given", inputs())
    whole = options.pop("whole", False)
    found = training_batches(given, augmentation, batch_size, epochs, seed, whole=whole, **options)
    return [(x.numpy(), y.numpy()) for x, y in found]


def moved(image: NDArray[np.uint8], flip: bool, down: int, right: int) -> NDArray[np.uint8]:
    """Mirrored, then moved, what comes in being 0: in plain numpy."""
    image = image[:, ::-1] if flip else image
    padded = np.pad(image, 4)
    return padded[4 - down : 32 - down, 4 - right : 32 - right]


def test_what_comes_is_a_function_of_seed_and_epoch_alone() -> None:
    every = batches(range(5))
    assert len(every) == 5 * 4
    for (x, y), (again_x, again_y) in zip(every[3 * 4 :], batches(range(3, 5)), strict=True):
        assert np.array_equal(x, again_x)
        assert np.array_equal(y, again_y)
    first, second = every[:4], every[4:8]
    assert not all(np.array_equal(x, other) for (x, _), (other, _) in zip(first, second, strict=True))
    assert not np.array_equal(every[0][0], batches(range(1), seed=4)[0][0])


def test_an_epoch_holds_every_image_once() -> None:
    from toolkit.training.augmentation import Augmentation

    for epoch in range(2):
        found = np.concatenate([x for x, _ in batches(range(epoch, epoch + 1), augmentation=Augmentation())])
        labels = np.concatenate([y for _, y in batches(range(epoch, epoch + 1), augmentation=Augmentation())])
        places = [int(np.flatnonzero((np.round(x * 255) == IMAGES).all(axis=(1, 2)))[0]) for x in found]
        assert sorted(places) == list(range(50))
        assert np.array_equal(labels.argmax(axis=1), LABELS[places])
        assert found.dtype == np.float32
        assert np.array_equal(found, IMAGES[places].astype(np.float32) / np.float32(255))


def test_whole_batches_leave_the_rest_out() -> None:
    from toolkit.training.inputs import steps_in

    assert [len(x) for x, _ in batches(range(1))] == [16, 16, 16, 2]
    assert [len(x) for x, _ in batches(range(1), whole=True)] == [16, 16, 16]
    assert (steps_in(inputs(), 16, whole=False), steps_in(inputs(), 16, whole=True)) == (4, 3)
    assert [len(x) for x, _ in batches(range(2), whole=True, batch_size=64)] == [50, 50]
    assert steps_in(inputs(), 64, whole=True) == 1


def test_views_are_what_numpy_makes_of_them() -> None:
    from toolkit.training.augmentation import Augmentation, view_of

    augmentation = Augmentation(flip=True, shift=1)
    assert len(augmentation.views) == 18
    assert len(set(augmentation.views)) == 18
    for flip, down, right in [*augmentation.views, (True, -4, 3)]:
        expected = np.stack([moved(image, flip, down, right) for image in IMAGES])
        assert np.array_equal(view_of(IMAGES, flip, down, right).numpy(), expected)


def test_each_image_is_the_view_that_it_is_said_to_be() -> None:
    from toolkit.training.augmentation import Augmentation, augment, draw

    augmentation = Augmentation(flip=True, shift=1)
    seen = set()
    for number in range(20):
        drawn = draw(augmentation, 50, [7, number])
        views = augmentation.view(drawn).numpy()
        found = augment(IMAGES, augmentation, drawn).numpy()
        for image, view, original in zip(found, views, IMAGES, strict=True):
            assert np.array_equal(image, moved(original, *augmentation.views[view]))
        seen |= set(views.tolist())
    assert seen == set(range(18))


def test_scaling_keeps_the_middle_and_erasing_the_rest() -> None:
    from toolkit.training.augmentation import Augmentation, augment, draw

    board = np.zeros((400, 28, 28), np.uint8)
    board[:, 4:24, 4:24] = 200
    scaling = Augmentation(scale=0.2)
    drawn = draw(scaling, 400, [1, 2])
    sides = np.sqrt((augment(board, scaling, drawn).numpy() / 200).sum(axis=(1, 2)))
    assert np.allclose(sides, 20 * drawn.size.numpy(), atol=0.6)
    assert drawn.size.numpy().min() < 0.82
    assert drawn.size.numpy().max() > 1.18
    erasing = Augmentation(erase=0.3)
    ones = np.full((400, 28, 28), 255, np.uint8)
    holes = (augment(ones, erasing, draw(erasing, 400, [1, 3])).numpy() == 0).sum(axis=(1, 2)) / 784
    assert 0.2 < (holes > 0).mean() < 0.4
    assert holes.max() <= 0.3


def test_labels_are_smoothed_and_teachers_answers_follow_their_image() -> None:
    from toolkit.training.augmentation import Augmentation

    soft = np.zeros((18, 50, 10), np.float32)
    soft[..., 0] = np.arange(18)[:, None] * 100 + np.arange(50)
    chosen = Augmentation(flip=True, shift=1)
    for x, y in batches(range(1), augmentation=chosen, given=inputs(soft), label_smoothing=0.1):
        assert y.shape == (len(x), 20)
        assert np.allclose(y[:, :10].sum(axis=1), 1)
        assert np.allclose(y[:, :10].max(axis=1), 0.91)
        for image, target in zip(x, y, strict=True):
            view, place = divmod(int(target[10]), 100)
            assert np.array_equal(np.round(image * 255), moved(IMAGES[place], *chosen.views[view]))
            assert target[:10].argmax() == LABELS[place]


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_loss_of_distillation_is_hintons(temperature: float) -> None:
    from toolkit.training.losses import accuracy, distillation, label_loss

    logits = RNG.normal(size=(6, 10)).astype(np.float32)
    label = np.eye(10, dtype=np.float32)[[1, 2, 3, 4, 5, 6]]
    soft = RNG.dirichlet(np.ones(10), 6).astype(np.float32)

    def cross_entropy(targets: NDArray[np.float32], values: NDArray[np.float32]) -> NDArray[np.float64]:
        wide = values.astype(np.float64)
        found: NDArray[np.float64] = -(targets * (wide - np.log(np.exp(wide).sum(axis=1, keepdims=True)))).sum(axis=1)
        return found

    loss = distillation(0.3, temperature)
    expected = 0.7 * cross_entropy(label, logits) + 0.3 * temperature**2 * cross_entropy(soft, logits / temperature)
    both = np.concatenate([label, soft], axis=1)
    assert np.allclose(np.asarray(loss(both, logits)), expected, atol=1e-5)
    assert np.allclose(np.asarray(loss(label, logits)), cross_entropy(label, logits), atol=1e-5)
    assert np.allclose(np.asarray(label_loss(both, logits)), cross_entropy(label, logits), atol=1e-5)
    assert np.array_equal(np.asarray(accuracy(both, logits)), logits.argmax(axis=1) == label.argmax(axis=1))
