"""How sure a ratio is, and whether the machine was quiet: figures from made-up rounds."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from toolkit.benchmarking.compare import Line
from toolkit.benchmarking.conditions import Conditions
from toolkit.benchmarking.histogram import bars, histogram_of
from toolkit.benchmarking.intervals import CONFIDENCE, Ratio, paired_ratio, unpaired_ratio
from toolkit.benchmarking.noise import judge_noise
from toolkit.benchmarking.samples import pack, unpack

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUIET = Conditions(
    seconds=10.0,
    load_before=0.1,
    load_after=0.2,
    others_cores=0.0,
    steal=0.0,
    frequency_before_mhz=None,
    frequency_after_mhz=None,
    temperature_before_c=None,
    temperature_after_c=None,
    throttled=0,
    clock_set_s=0.0,
    slept_s=0.0,
)


def _rounds(generator: np.random.Generator, count: int, kind: str) -> NDArray[np.float64]:
    """Times of a file in some rounds, as machines give them: even noise, some rounds disturbed, two memory layouts."""
    noise = generator.normal(0, 0.01, count)
    if kind == "disturbed":
        noise = noise + (generator.random(count) < 0.05) * generator.random(count)
    if kind == "layouts":
        noise = noise + generator.integers(0, 2, count) * 0.03
    return np.exp(noise) * 10_000


@pytest.mark.parametrize("kind", ["even", "disturbed", "layouts"])
def test_of_thirty_rounds_nearly_all_intervals_hold_one_and_nearly_all_see_five_per_cent(kind: str) -> None:
    generator = np.random.default_rng(3)
    holds = sees = 0
    for _ in range(200):
        old, new = _rounds(generator, 30, kind), _rounds(generator, 30, kind)
        same = paired_ratio(new.tolist(), old.tolist())
        holds += same.low <= 1 <= same.high
        sees += paired_ratio((new * 1.05).tolist(), old.tolist()).verdict == "slower"
    assert holds >= 194  # of 200, 99 % of them expected: fewer would be a chance of one in a thousand
    assert sees >= 190


def test_drift_that_both_meet_does_not_matter() -> None:
    generator = np.random.default_rng(0)
    drift = np.linspace(1, 3, 20)
    old = _rounds(generator, 20, "even") * drift
    new = _rounds(generator, 20, "even") * drift * 0.9
    found = paired_ratio(new.tolist(), old.tolist())
    assert found.verdict == "faster"
    assert found.ratio == pytest.approx(0.9, abs=0.01)
    assert unpaired_ratio(new.tolist(), old.tolist()).verdict == "no difference"


def test_a_slower_machine_widens_the_interval_of_two_runs() -> None:
    generator = np.random.default_rng(0)
    old, new = _rounds(generator, 20, "even"), _rounds(generator, 20, "even") * 1.2
    assert unpaired_ratio(new.tolist(), old.tolist()).verdict == "slower"
    found = unpaired_ratio(new.tolist(), old.tolist(), drift=1.15)
    assert found.verdict == "no difference"
    assert found.low < 1.2 / 1.15**2 < 1.2 < found.high
    faster = unpaired_ratio(new.tolist(), old.tolist(), drift=1 / 1.15)
    assert faster.verdict == "slower"
    assert faster.high > 1.2 * 1.15**2


def test_few_rounds_are_less_sure_and_allow_no_verdict() -> None:
    found = paired_ratio([200.0, 210.0, 220.0], [100.0, 100.0, 100.0])
    assert (found.low, found.high) == pytest.approx((2.0, 2.2))
    assert (found.confidence, found.verdict) == (0.75, "too few rounds")
    assert paired_ratio([2.0], [1.0]).confidence == 0
    assert paired_ratio([2.0] * 6, [1.0] * 6).verdict == "slower"
    eight = paired_ratio([2.0] * 8, [1.0] * 8)
    assert (eight.confidence, eight.low, eight.high) == pytest.approx((CONFIDENCE, 2.0, 2.0))


@pytest.mark.parametrize("times", [[], [0.0, 1.0]])
def test_no_ratio_of_nothing(times: list[float]) -> None:
    with pytest.raises(ValueError, match="no ratio"):
        paired_ratio(times, [1.0, 1.0])


def test_a_regression_is_certain_and_beyond_what_is_allowed() -> None:
    def line(ratio: float, low: float, *, gates: bool = True) -> Line:
        return Line("m.onnx", "one row, p50", 1.0, ratio, Ratio(ratio, low, ratio + 0.1, 0.99, 30), gates)

    assert line(1.08, 1.02).regressed(0.05)
    assert not line(1.04, 1.02).regressed(0.05)  # certain, but allowed
    assert not line(1.08, 0.99).regressed(0.05)  # perhaps chance
    assert not line(1.08, 1.02, gates=False).regressed(0.05)


def test_a_quiet_machine_is_called_quiet() -> None:
    control = Ratio(1.001, 0.99, 1.01, 0.99, 10)
    assert not judge_noise(control, [100.0, 101.0, 102.0], 3.0, QUIET).noisy
    unknown = replace(QUIET, others_cores=None, steal=None, throttled=None, slept_s=None)
    assert not judge_noise(None, [], None, unknown).noisy


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"others_cores": 0.5}, "other programs kept busy: 0.5 cores"),
        ({"steal": 0.03}, "the hypervisor took from the cores: 3.0%"),
        ({"throttled": 2}, "slowed down because of heat or power: 2.0 times"),
        ({"slept_s": 4.0}, "suspended for: 4.0 seconds"),
    ],
)
def test_every_measure_of_noise_is_a_reason(change: dict[str, float], words: str) -> None:
    noise = judge_noise(None, [], None, replace(QUIET, **change))  # type: ignore[arg-type]  # int or float
    assert [words in str(reason) for reason in noise.reasons] == [True]


def test_the_control_the_probe_and_the_switches_are_reasons() -> None:
    wide = Ratio(1.0, 0.93, 1.01, 0.99, 10)
    noise = judge_noise(wide, [100.0, 150.0, 100.0], 500.0, QUIET)
    assert [str(reason).partition(":")[0] for reason in noise.reasons] == [
        "the same file opened twice differs by up to",
        "a fixed piece of work changes between rounds by",
        "measured processes were interrupted",
    ]


@pytest.mark.parametrize("rounds", [[[1, 2, 3], [4]], [[]], [], [[2**40, 1]], [[0, 2**32 - 1], [5] * 1000]])
def test_packed_samples_come_back(rounds: list[list[int]]) -> None:
    assert unpack(pack(rounds)) == tuple(map(tuple, rounds))


def test_packed_samples_take_little_room() -> None:
    samples = np.random.default_rng(0).normal(11_000, 300, 20_000).astype(int).tolist()
    assert len(pack([samples])["data"]) < 50_000


@pytest.mark.parametrize(
    "change", [{"counts": [4]}, {"dtype": "<f8"}, {"data": "AAAA"}, {"data": "no base64!"}, {"counts": None}]
)
def test_damaged_samples_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"packed|dtype|base64"):
        unpack(pack([[1, 2, 3]]) | change)


def test_a_histogram_counts_every_sample() -> None:
    samples = [*range(1000, 2000), 10**7]
    found = histogram_of(samples)
    assert sum(found.counts) == len(samples)
    assert list(found.edges_ns) == sorted(found.edges_ns)
    assert (found.edges_ns[0], found.edges_ns[-1]) == (1000, 10**7)
    assert found.counts[-1] == 1  # beyond p99.9
    assert sum(histogram_of([5, 5, 5]).counts) == 3
    assert math.isfinite(histogram_of([0]).edges_ns[0])


def test_bars_are_as_high_as_their_counts() -> None:
    assert bars([0, 1, 50, 100]) == " ▁▄█"
    assert bars([0, 1, 50, 100], ascii_only=True) == " .=@"
    assert bars([]) == ""
