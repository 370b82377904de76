from __future__ import annotations

import os
import statistics
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from toolkit.benchmarking.feed import fed_with, random_rows
from toolkit.benchmarking.host import describe_host
from toolkit.benchmarking.latency import (
    summarize_latency,
    summarize_throughput,
    thread_counts,
    time_batches,
    time_calls,
)
from toolkit.benchmarking.plan import BenchSettings
from toolkit.benchmarking.rounds import NOISE_BOUND, Measurement, run_rounds, spread_of_medians
from toolkit.errors import ToolkitError, UsageError
from toolkit.predictor import TensorInfo

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class FakeClock:
    """Counts up by a list of durations: the time passes between the two readings of each call."""

    def __init__(self, durations: list[int]) -> None:
        self.readings = []
        now = 0
        for duration in durations:
            self.readings += [now, now + duration]
            now += duration
        self.readings.reverse()

    def __call__(self) -> int:
        return self.readings.pop()


def test_latency_figures_are_those_of_the_samples() -> None:
    generator = np.random.default_rng(0)
    rounds = [generator.integers(1000, 9000, 700).tolist() for _ in range(3)]
    samples = [s for r in rounds for s in r]
    figures = summarize_latency(rounds, warmup=7)
    hundredths = statistics.quantiles(samples, n=1000, method="inclusive")
    assert figures.p50_ns == statistics.median(samples)
    for found, permille in (
        (figures.p90_ns, 900),
        (figures.p95_ns, 950),
        (figures.p99_ns, 990),
        (figures.p999_ns, 999),
    ):
        assert found == pytest.approx(hundredths[permille - 1])
        assert found == pytest.approx(float(np.percentile(samples, permille / 10)))
    assert figures.mean_ns == pytest.approx(statistics.fmean(samples))
    assert figures.std_ns == pytest.approx(statistics.pstdev(samples))
    assert (figures.min_ns, figures.max_ns, figures.n, figures.warmup) == (min(samples), max(samples), 2100, 7)
    assert figures.samples_ns == tuple(tuple(r) for r in rounds)


def test_percentiles_of_a_known_row() -> None:
    figures = summarize_latency([list(range(1, 1002)), list(range(1, 1002))], warmup=0)
    assert (figures.p50_ns, figures.p90_ns, figures.p99_ns) == (501, 901, 991)


def test_too_few_samples_for_a_percentile_leave_it_out() -> None:
    found = summarize_latency([[5] * 999], warmup=0)
    assert (found.p99_ns, found.p999_ns) == (5, None)
    assert summarize_latency([[5] * 99], warmup=0).p99_ns is None
    assert summarize_latency([[5] * 1000], warmup=0).p999_ns == 5


def test_calls_are_timed_one_by_one_and_warm_up_is_not() -> None:
    seen: list[int] = []
    images = np.arange(3)
    samples = time_calls(seen.append, images, calls=4, warmup=2, clock=FakeClock([10, 20, 30, 40]))
    assert samples == (10, 20, 30, 40)
    assert seen == [0, 1, 0, 1, 2, 0]  # two to warm up, then from the first image on


def test_batches_are_timed_until_the_time_is_up() -> None:
    seen: list[int] = []

    def run(images: np.ndarray[Any, Any]) -> None:
        seen.append(len(images))

    readings = iter([0, 0, 400, 400, 900, 900, 1600])
    samples = time_batches(run, np.zeros(8), seconds=1e-6, clock=lambda: next(readings))
    assert samples == (400, 500, 700)
    assert seen == [8, 8, 8, 8]


def test_a_batch_slower_than_its_time_is_still_timed_once() -> None:
    readings = iter([0, 0, 10**9])
    assert time_batches(len, np.zeros(8), seconds=1e-6, clock=lambda: next(readings)) == (10**9,)


def test_batches_end_after_enough_runs() -> None:
    assert len(time_batches(len, np.zeros(8), seconds=1e9, most=5)) == 5


def test_throughput_is_the_batch_over_the_median_time() -> None:
    figures = summarize_throughput([[1000, 2000], [2000, 9000]], batch=64, warmup=3)
    assert figures.images_per_second == pytest.approx(64 / 2e-6)
    assert (figures.n, figures.samples_ns) == (4, ((1000, 2000), (2000, 9000)))


def test_rounds_are_interleaved_and_every_other_one_runs_backwards() -> None:
    order: list[str] = []

    def measure(name: str) -> Callable[[], int]:
        def once() -> int:
            order.append(name)
            return len(order)

        return once

    measurements = [Measurement(measure(name)) for name in "abc"]
    told: list[tuple[int, int, str]] = []
    run_rounds(measurements, 3, lambda done, total, what: told.append((done, total, what)))
    assert "".join(order) == "cba" + "abc" + "cba" + "abc"
    assert measurements[0].discarded == [3]
    assert measurements[0].results == [4, 9, 10]
    assert told[0] == (0, 12, "warm-up")
    assert told[-1] == (12, 12, "measuring")
    assert [done for done, _, _ in told] == list(range(13))


def test_noise_is_the_spread_of_the_rounds_medians() -> None:
    assert spread_of_medians([[100, 100, 9999], [100], [100]]) == 0  # an outlier is no drift
    assert spread_of_medians([[90], [100], [120]]) == pytest.approx(0.3)


@pytest.mark.parametrize(("last", "noisy"), [(110, False), (111, True)])
def test_noise_is_flagged_above_its_bound_only(last: int, noisy: bool) -> None:
    figures = summarize_latency([[100] * 500, [100] * 500, [last] * 500], warmup=0)
    assert figures.noisy is noisy
    assert (figures.spread > NOISE_BOUND) is noisy


def test_a_clock_that_stands_still_is_an_error() -> None:
    with pytest.raises(ToolkitError, match="too coarse"):
        summarize_throughput([[0, 0], [0, 0]], batch=1, warmup=0)


def test_thread_counts() -> None:
    assert thread_counts(None) == (1,)
    assert thread_counts(1) == (1,)
    assert thread_counts(2) == (1, 2)
    assert thread_counts(6) == (1, 2, 3, 4, 6)
    assert thread_counts(64) == (1, 2, 3, 4, 8, 16, 32, 64)


def _rows(dtype: str, shape: tuple[int | None, ...], low: float, high: float, n: int = 500) -> Any:
    return random_rows(fed_with(TensorInfo("x", np.dtype(dtype), shape), (low, high), free=7), n, seed=3)


def test_rows_follow_the_model_its_range_and_the_seed() -> None:
    pixels = _rows("uint8", (28, 28), 0, 255, 5)
    assert (str(pixels.dtype), pixels.shape) == ("uint8", (5, 28, 28))
    assert np.array_equal(pixels, _rows("uint8", (28, 28), 0, 255, 5))
    assert _rows("float32", (None, 3, None), 0, 1, 2).shape == (2, 7, 3, 7)
    assert _rows("float32", (), 0, 1).shape == (500,)
    for dtype in ("float32", "float64", "float16"):
        floats = _rows(dtype, (4,), -3, 0.1)
        assert floats.dtype == dtype
        assert -3 <= floats.min() < -2.9
        assert 0 < floats.max() <= np.dtype(dtype).type(0.1)
    for dtype in ("int8", "int32", "int64", "uint16", "uint64"):
        assert set(_rows(dtype, (4,), 2, 5).ravel().tolist()) == {2, 3, 4, 5}
    assert _rows("int8", (4,), -1000, 1000).min() == -128  # its own limits are narrower
    assert set(_rows("bool", (4,), 0, 1).ravel().tolist()) == {False, True}


def test_a_large_model_gets_fewer_calls_and_smaller_batches() -> None:
    settings = BenchSettings()
    assert settings.calls_of(1e-5) == 2000
    assert settings.calls_of(4e-3) == 250
    assert settings.calls_of(10) == 5  # too few for a p99
    assert replace(settings, calls=300).calls_of(10) == 300  # as asked
    assert settings.batches_of(1e-5, 784, None) == (1, 4, 16, 64, 256, 1024)
    assert settings.batches_of(1e-2, 784, None) == (1, 4, 16, 64)
    assert settings.batches_of(1e-5, 1_000_000, None) == (1, 4, 16, 64)
    assert settings.batches_of(10, 784, None) == (1,)
    assert settings.batches_of(1e-5, 784, 6) == (6, 18, 66, 258, 1026)
    assert settings.batches_of(10, 784, 6) == (6,)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("rounds", 1), ("calls", 0), ("calls", 4), ("threads", 0), ("batches", ()), ("batches", (0, 256))],
)
def test_settings_that_cannot_be_measured_with_are_refused(setting: str, value: object) -> None:
    with pytest.raises(UsageError):
        replace(BenchSettings(), **{setting: value})  # type: ignore[arg-type]


def test_an_unknown_machine_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_load() -> tuple[float, float, float]:
        raise OSError

    monkeypatch.setattr("platform.system", lambda: "Unknown")
    monkeypatch.setattr(os, "getloadavg", no_load)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # macOS has none
    host = describe_host(tmp_path)
    unknown = (host.cpu_model, host.board, host.cpu_features, host.governor, host.load_average, host.affinity)
    assert unknown == (None,) * 6
    assert host.usable_cores is None
    assert host.virtualized is None
    assert "CPU unknown" in host.hardware_line()
    assert host.python in host.software_line()


def test_an_x86_machine_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    _write(tmp_path, "proc/cpuinfo", "model name\t: Some CPU @ 2GHz\nflags\t: fpu avx2 avx512_vnni\n" * 2)
    _write(tmp_path, "etc/os-release", 'NAME=x\nPRETTY_NAME="Some Linux 1"\n')
    for core in range(os.cpu_count() or 1):
        _write(tmp_path, f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor", "powersave\n")
    host = describe_host(tmp_path)
    assert (host.cpu_model, host.cpu_features) == ("Some CPU @ 2GHz", ("avx2", "avx512_vnni"))
    assert (host.operating_system, host.governor, host.virtualized) == ("Some Linux 1", "powersave", False)


def test_an_arm_board_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    core = "Features\t: fp asimd asimddp\nCPU implementer\t: 0x41\nCPU part\t: {}\n"
    _write(tmp_path, "proc/cpuinfo", core.format("0xd05") + core.format("0xd0b"))
    _write(tmp_path, "proc/device-tree/model", "Some Board Rev 1.1\0")
    host = describe_host(tmp_path)
    assert (host.cpu_model, host.board) == ("Cortex-A55 + Cortex-A76", "Some Board Rev 1.1")
    assert host.cpu_features == ("asimd", "asimddp")
    assert host.virtualized is None


def _write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
