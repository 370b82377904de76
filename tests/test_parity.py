"""The comparison counts right, and no number that is none gets past it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from toolkit.errors import UsageError
from toolkit.verification.gates import BatchCheck, Limits, judge
from toolkit.verification.parity import compare

PROBABILITIES = hnp.arrays(np.float32, st.tuples(st.integers(1, 30), st.just(4)), elements=st.floats(0, 1, width=32))


@given(PROBABILITIES, st.integers(0, 2**32 - 1))
def test_a_file_agrees_with_itself(values: np.ndarray, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 4, len(values))
    parity = compare(values, values, labels)
    assert (parity.agreement, parity.max_abs, parity.mean_abs, parity.flips) == (1.0, 0.0, 0.0, [])
    assert sum(map(sum, parity.confusion)) == len(values)
    assert all(gate.passed for kind in ("float32", "int8") for gate in judge(kind, parity, [], Limits()))


@given(PROBABILITIES, PROBABILITIES)
def test_counts_are_those_of_a_loop(a: np.ndarray, b: np.ndarray) -> None:
    n = min(len(a), len(b))
    a, b = a[:n], b[:n]
    labels = np.arange(n) % 4
    parity = compare(a, b, labels)
    flips = [i for i in range(n) if list(a[i]).index(max(a[i])) != list(b[i]).index(max(b[i]))]
    assert [flip.index for flip in parity.flips] == flips
    assert parity.agreement == pytest.approx(1 - len(flips) / n)
    assert parity.max_abs == pytest.approx(max(abs(float(x) - float(y)) for x, y in zip(a.flat, b.flat, strict=True)))
    for flip in parity.flips:
        ordered = sorted(map(float, a[flip.index]))
        assert flip.keras_margin == pytest.approx(ordered[-1] - ordered[-2])


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_fails_every_kind(poison: float) -> None:
    good = np.full((5, 3), 1 / 3, np.float32)
    bad = good.copy()
    bad[2, 1] = poison
    parity = compare(good, bad, np.zeros(5, np.int64))
    assert parity.not_finite == 1
    assert math.isfinite(parity.max_abs)
    assert parity.max_abs == 1
    for kind in ("float32", "int8"):
        assert not all(gate.passed for gate in judge(kind, parity, [], Limits()))


def test_a_nan_figure_never_passes_a_gate() -> None:
    good = np.eye(3, dtype=np.float32)
    parity = compare(good, good, np.arange(3))
    poisoned = dataclasses.replace(parity, max_abs=math.nan, agreement=math.nan)
    assert [g.name for g in judge("float32", poisoned, [], Limits()) if not g.passed] == ["largest difference"]
    failed = [g.name for g in judge("int8", poisoned, [BatchCheck(7, 0, math.nan)], Limits()) if not g.passed]
    assert failed == ["label agreement", "largest difference at batch 7"]


@given(st.integers(5000, 10_000))
def test_exactly_half_a_point_lost_is_accepted(right: int) -> None:
    good = np.eye(3, dtype=np.float32)
    parity = dataclasses.replace(
        compare(good, good, np.arange(3)), n=10_000, keras_accuracy=right / 10_000, accuracy=(right - 50) / 10_000
    )
    assert all(gate.passed for gate in judge("int8", parity, [], Limits()))
    worse = dataclasses.replace(parity, accuracy=(right - 51) / 10_000)
    assert [gate.name for gate in judge("int8", worse, [], Limits()) if not gate.passed] == ["accuracy lost"]


def test_limits_must_be_shares() -> None:
    for name in ("float32_max_abs", "int8_min_agreement", "int8_max_accuracy_drop"):
        for value in (-0.1, 1.1, math.nan):
            with pytest.raises(UsageError, match="expected a share"):
                Limits(**{name: value})


def test_shapes_must_fit() -> None:
    with pytest.raises(ValueError, match="cannot compare"):
        compare(np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32), np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="cannot compare"):
        compare(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), np.zeros(0, np.int64))
