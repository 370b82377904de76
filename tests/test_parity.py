"""The comparison counts right for every task, and no number that is none gets past it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from toolkit.errors import UsageError
from toolkit.verification.gates import BatchCheck, Limits, judge, small_set_notes
from toolkit.verification.parity import Parity, compare, compare_decisions, compare_values

PROBABILITIES = hnp.arrays(np.float32, st.tuples(st.integers(1, 30), st.just(4)), elements=st.floats(0, 1, width=32))
TASKS = ("classification", "multilabel", "values")


def _failed(kind: str, parity: Parity, *batches: BatchCheck, limits: Limits | None = None) -> list[str]:
    return [gate.name for gate in judge(kind, parity, batches, limits or Limits()) if not gate.passed]


@given(PROBABILITIES, st.integers(0, 2**32 - 1), st.sampled_from(TASKS))
def test_a_file_agrees_with_itself(values: np.ndarray, seed: int, task: str) -> None:
    rng = np.random.default_rng(seed)
    labels = {"classification": rng.integers(0, 4, len(values)), "multilabel": rng.integers(0, 2, values.shape)}
    parity = compare(task, values, values, labels.get(task))
    assert (parity.n, parity.not_finite, parity.max_abs, parity.mean_abs) == (len(values), 0, 0.0, 0.0)
    assert not _failed("float32", parity)
    assert not _failed("int8", parity)


@given(PROBABILITIES, PROBABILITIES)
def test_counts_are_those_of_a_loop(a: np.ndarray, b: np.ndarray) -> None:
    n = min(len(a), len(b))
    a, b = a[:n], b[:n]
    labels = np.arange(n) % 4
    parity = compare_decisions("classification", a, b, labels)
    flips = [i for i in range(n) if list(a[i]).index(max(a[i])) != list(b[i]).index(max(b[i]))]
    assert [flip.index for flip in parity.flips] == flips
    assert parity.agreement == pytest.approx(1 - len(flips) / n)
    assert parity.max_abs == pytest.approx(max(abs(float(x) - float(y)) for x, y in zip(a.flat, b.flat, strict=True)))
    assert parity.confusion is not None
    assert sum(map(sum, parity.confusion)) == n
    for flip in parity.flips:
        ordered = sorted(map(float, a[flip.index]))
        assert flip.keras_margin == pytest.approx(ordered[-1] - ordered[-2])


def test_yes_and_no_by_hand() -> None:
    keras = np.array([[0.9, 0.2], [0.5, 0.1], [0.3, 0.6]], np.float32)
    found = np.array([[0.8, 0.5], [0.49, 0.1], [0.3, 0.6]], np.float32)
    parity = compare_decisions("multilabel", keras, found, np.array([[1, 1], [0, 0], [0, 1]]))
    assert [(f.index, f.position, f.true_label, f.keras_label, f.label) for f in parity.flips] == [
        (0, 1, 1, 0, 1),
        (1, 0, 0, 1, 0),
    ]
    assert parity.flips[0].keras_margin == pytest.approx(0.6)
    assert (parity.decisions, parity.confusion, parity.worst_row) == (6, None, 0)
    assert (parity.agreement, parity.keras_accuracy, parity.accuracy) == pytest.approx((4 / 6, 4 / 6, 6 / 6))
    binary = compare_decisions("binary", keras[:, :1], found[:, :1], np.array([1, 0, 0]))
    assert binary.confusion == [[2, 0], [0, 1]]
    assert (binary.agreement, binary.keras_accuracy, binary.accuracy) == pytest.approx((2 / 3, 2 / 3, 1))
    assert binary.flips[0].position is None


def test_without_targets_nothing_is_said_of_accuracy() -> None:
    values = np.eye(3, dtype=np.float32)
    for task in ("classification", "multilabel"):
        parity = compare_decisions(task, values, values[::-1].copy())
        assert (parity.keras_accuracy, parity.accuracy, parity.accuracy_drop, parity.confusion) == (None,) * 4
        assert {flip.true_label for flip in parity.flips} == {None}
        assert [gate.name for gate in judge("int8", parity, [], Limits())] == [
            "values that are no numbers",
            "label agreement",
        ]
        assert _failed("int8", parity) == ["label agreement"]


# values


def test_relative_error_is_what_is_left_unexplained() -> None:
    rng = np.random.default_rng(0)
    keras = 1000 + rng.normal(size=(400, 1))
    noisy = keras + rng.normal(size=keras.shape) / 10
    parity = compare_values(keras, noisy)
    unexplained = 1 - np.corrcoef(keras[:, 0], noisy[:, 0])[0, 1] ** 2
    assert parity.relative_error == pytest.approx(math.sqrt(unexplained), rel=0.02)
    assert parity.sqnr_db > 75  # which says nothing of the part that changes
    # One constant answer tells nothing: 1.
    assert compare_values(keras, np.full_like(keras, keras.mean())).relative_error == pytest.approx(1)


@pytest.mark.parametrize(("level", "found", "error"), [(5.0, 5.5, 0.1), (0.0, 0.0, 0.0), (0.0, 1e-9, 1.0)])
def test_a_constant_answer_divides_by_nothing(level: float, found: float, error: float) -> None:
    for rows in (1, 5):
        parity = compare_values(np.full((rows, 2, 2), level), np.full((rows, 2, 2), found))
        assert parity.relative_error == pytest.approx(error)
        assert math.isfinite(parity.scaled_max_abs)


def test_a_small_column_does_not_hide_behind_a_large_one() -> None:
    rng = np.random.default_rng(0)
    keras = np.column_stack([1e5 + 1e4 * rng.normal(size=200), rng.normal(size=200)]).astype(np.float32)
    lost = keras.copy()
    lost[:, 1] = 0
    parity = compare_values(keras, lost)
    assert parity.relative_error < 1e-3
    assert parity.column_errors is not None
    assert parity.column_errors[0] == 0
    assert parity.column_errors[1] == pytest.approx(1, rel=0.05)
    assert _failed("int8", parity) == ["relative error"]
    lost[:, 1] = keras[:, 1] + np.float32(1e-3)  # a share of 1e-8 of the largest value, of 3e-4 of its own
    assert _failed("float32", compare_values(keras, lost)) == ["largest difference"]
    # More columns than that are one thing.
    assert compare_values(np.ones((3, 17)), np.ones((3, 17))).column_errors is None


def test_values_of_any_size_are_held_to_their_own_size() -> None:
    rng = np.random.default_rng(0)
    for size in (1e-6, 1.0, 1e6):
        keras = size * rng.normal(size=(50, 20, 3))
        assert not _failed("float32", compare_values(keras, keras * (1 + 5e-5)))
        assert _failed("float32", compare_values(keras, keras * (1 + 5e-4))) == ["largest difference"]
        assert not _failed("int8", compare_values(keras, keras * 1.09))
        assert _failed("int8", compare_values(keras, keras * 1.11)) == ["relative error"]


def test_logits_are_held_to_their_size() -> None:
    keras = np.array([[30.0, -50.0], [1.0, 2.0]], np.float32)
    assert not _failed("float32", compare("classification", keras, keras + np.float32(4e-4)))
    assert _failed("float32", compare("classification", keras, keras + np.float32(6e-4))) == ["largest difference"]


def test_whole_numbers_and_booleans_are_values_too() -> None:
    parity = compare_values(np.array([[1], [3]]), np.array([[1], [2]]))
    assert parity.max_abs == 1
    assert parity.relative_error == pytest.approx(math.sqrt(1 / 2))
    assert compare_values(np.array([True, False]), np.array([True, True])).max_abs == 1


# gates


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_fails_every_kind(poison: float, task: str) -> None:
    good = np.full((5, 3), 1 / 3, np.float32)
    bad = good.copy()
    bad[2, 1] = poison
    parity = compare(task, good, bad)
    assert parity.not_finite == 1
    assert parity.scaled_max_abs == 1
    assert parity.worst_row == 2
    for kind in ("float32", "int8"):
        assert "values that are no numbers" in _failed(kind, parity)


def test_a_nan_figure_never_passes_a_gate() -> None:
    good = np.eye(3, dtype=np.float32)
    parity = compare_decisions("classification", good, good, np.arange(3))
    poisoned = dataclasses.replace(parity, scaled_max_abs=math.nan, agreement=math.nan)
    assert _failed("float32", poisoned) == ["largest difference"]
    assert _failed("int8", poisoned, BatchCheck(7, 0, math.nan)) == [
        "label agreement",
        "largest difference at batch 7",
    ]
    values = dataclasses.replace(compare_values(good, good), column_errors=[math.nan])
    assert _failed("int8", values, BatchCheck(7, None, math.nan)) == ["relative error", "largest difference at batch 7"]


def test_a_tie_may_fall_either_way_and_nothing_else_may() -> None:
    keras = np.array([[0.5, 0.5, 0.0], [0.1, 0.9, 0.0]], np.float32)
    other = keras.copy()
    other[0, 1] = np.nextafter(other[0, 1], np.float32(1))
    tie = compare_decisions("classification", keras, other)
    assert len(tie.flips) == 1
    assert not _failed("float32", tie)
    swapped = compare_decisions("classification", keras, keras[:, [1, 0, 2]].copy())
    assert _failed("float32", swapped) == ["labels that differ from Keras", "largest difference"]


@given(st.integers(5000, 10_000))
def test_exactly_half_a_point_lost_is_accepted(right: int) -> None:
    good = np.eye(3, dtype=np.float32)
    parity = dataclasses.replace(
        compare_decisions("classification", good, good, np.arange(3)),
        decisions=10_000,
        keras_accuracy=right / 10_000,
        accuracy=(right - 50) / 10_000,
    )
    assert not _failed("int8", parity)
    assert _failed("int8", dataclasses.replace(parity, accuracy=(right - 51) / 10_000)) == ["accuracy lost"]


def test_a_small_set_is_said_to_be_small() -> None:
    for rows, about in ((40, ["agreement", "accuracy"]), (64, ["accuracy"]), (200, [])):
        good = np.eye(2, dtype=np.float32)[np.arange(rows) % 2]
        known = compare_decisions("classification", good, good, np.arange(rows) % 2)
        assert [note.split()[0] for note in small_set_notes("int8", known, Limits())] == about
        assert small_set_notes("float32", known, Limits()) == []
        unknown = compare_decisions("classification", good, good)
        assert len(small_set_notes("int8", unknown, Limits())) == (rows == 40)
    good = np.eye(2, dtype=np.float32)[np.arange(64) % 2]
    (note,) = small_set_notes("int8", compare("classification", good, good, np.arange(64) % 2), Limits())
    assert note == "accuracy is judged on 64: one right answer more or less is 1.56 points, the limit is 0.50"


def test_limits_must_make_sense() -> None:
    for name in ("float32_max_abs", "int8_min_agreement", "int8_max_accuracy_drop"):
        for value in (-0.1, 1.1, math.nan):
            with pytest.raises(UsageError, match="expected a share"):
                Limits(**{name: value})
    for name in ("int8_max_relative_error", "max_metric_change"):
        for value in (-0.1, math.inf, math.nan):
            with pytest.raises(UsageError, match="expected 0 or more"):
                Limits(**{name: value})


def test_shapes_must_fit() -> None:
    for task in TASKS:
        for shapes in (((2, 3), (2, 4)), ((0, 3), (0, 3))):
            with pytest.raises(ValueError, match="cannot compare"):
                compare(task, *(np.zeros(shape, np.float32) for shape in shapes))
    with pytest.raises(ValueError, match="with targets of shape"):
        compare("classification", np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="cannot compare"):
        compare("regression", np.zeros((2, 3)), np.zeros((2, 3)))
