"""The scenarios on made-up clocks and made-up machines: exact figures, no timing."""

from __future__ import annotations

import os
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from toolkit.benchmarking.clock import describe_clock
from toolkit.benchmarking.conditions import Reading, available_memory, between, read_conditions, read_heat
from toolkit.benchmarking.intervals import NO_DIFFERENCE
from toolkit.benchmarking.options import bench_settings, compare_settings
from toolkit.benchmarking.plan import SCENARIOS
from toolkit.benchmarking.scenarios import cpu_time, energy, fixed_rate, size, sustained, throughput
from toolkit.benchmarking.scenarios.fixed_rate import run_at_rate
from toolkit.benchmarking.steady import warm_up
from toolkit.benchmarking.sweep import Sweeper, candidates
from toolkit.errors import UsageError
from toolkit.predictor import RuntimeSettings

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MS = 1_000_000
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]


class Time:
    """A clock that moves only when a call takes time or somebody waits."""

    def __init__(self, durations: Iterable[int]) -> None:
        self.now, self.durations, self.waited = 0, iter(durations), 0.0

    def __call__(self) -> int:
        return self.now

    def call(self, _: object) -> None:
        self.now += next(self.durations)

    def wait(self, seconds: float) -> None:
        self.waited += seconds
        self.now += round(seconds * 1e9) + MS  # a sleeping process wakes up late


class Ticking(Time):
    """The same, and looking at it takes a microsecond."""

    def __call__(self) -> int:
        self.now += 1000
        return self.now


def test_warm_up_ends_when_three_windows_agree() -> None:
    time = Time([90 * MS, *[9 * MS] * 10, *[MS] * 30])
    found = warm_up(time.call, [0], time)
    assert found.steady
    # The first call, two slow windows (each of one call of 9 ms), and they were alike; three times 9 ms.
    assert found.calls == 4
    assert found.seconds == pytest.approx(0.117)


def test_warm_up_is_bounded_and_says_so() -> None:
    time = Time(MS * 2**at for at in range(40))
    found = warm_up(time.call, [0], time)
    assert not found.steady
    assert 1 <= found.seconds < 3


def test_a_stall_makes_the_rows_behind_it_late() -> None:
    """The correction for coordinated omission: a stall of 35 ms at 100 rows a second is felt by three rows more."""
    time = Time([MS, 35 * MS, *[MS] * 8])
    latencies, services = run_at_rate(time.call, ["row"], rate=100, count=8, clock=time, wait=_exactly(time))
    assert [round(ns / MS) for ns in services] == [1, 35, 1, 1, 1, 1, 1, 1]
    assert [round(ns / MS) for ns in latencies] == [1, 35, 26, 17, 8, 1, 1, 1]
    found = fixed_rate.summarize([[{"rate": 100.0, "samples": latencies, "services": services, "warmup": 2}]])
    assert (found.late, found.rows, found.unanswered, found.kept_up) == (3, 8, 0, True)
    assert found.load == pytest.approx(42 / 80)


def _exactly(time: Time) -> Any:
    def wait(seconds: float) -> None:
        time.now += round(seconds * 1e9) + 300_000

    return wait


def test_waiting_ends_before_a_row_is_due_and_the_rest_is_watched() -> None:
    time = Ticking([MS] * 20)
    latencies, _ = run_at_rate(time.call, ["row"], rate=100, count=10, clock=time, wait=_early(time))
    assert max(latencies) < 1.01 * MS


def _early(time: Time) -> Any:
    def wait(seconds: float) -> None:
        time.now += round(seconds * 1e9)

    return wait


def test_rows_that_never_began_count_with_what_they_waited() -> None:
    time = Time([100 * MS] * 50)
    latencies, services = run_at_rate(time.call, ["row"], rate=100, count=20, clock=time, wait=time.wait)
    assert len(latencies) == 20
    assert len(services) == 3  # 220 ms were given
    assert [round(ns / MS) for ns in latencies[:5]] == [101, 191, 281, 271, 261]
    found = fixed_rate.summarize([[{"rate": 100.0, "samples": latencies, "services": services, "warmup": 1}]])
    assert (found.late, found.unanswered, found.kept_up) == (20, 17, False)


def test_cpu_time_is_of_one_call() -> None:
    takes = [[{"calls": 100, "process_ns": ns, "thread_ns": ns // 2}] for ns in (1000, 1100, 1500)]
    found = cpu_time.summarize(takes)
    assert (found.process_ns, found.thread_ns, found.process_rounds_ns) == (11, 5.5, (10, 11, 15))


def test_the_best_way_to_use_all_cores_is_named() -> None:
    rates = {("processes", 1): [10.0, 12.0, 11.0], ("threads", 64): [100.0, 90.0, 95.0], ("threads", 1): []}
    found = throughput.summarize(rates, 4, ["processes: too few"])
    assert found is not None
    assert (found.best.way, found.best.batch, found.best.rows_per_second) == ("threads", 64, 95)
    assert found.refused == ("processes: too few",)
    assert len(found.ways) == 2
    assert throughput.summarize({}, 4, []) is None


def _window(number: int, p50: float, throttled: int | None) -> dict[str, Any]:
    return {
        "start_s": float(number),
        "n": 100,
        "p50_ns": p50,
        "p99_ns": p50 * 2,
        "max_ns": int(p50 * 9),
        "frequency_mhz": None,
        "temperature_c": 50.0,
        "throttled": throttled,
        "times_ns": {},
        "times_n": {},
    }


def test_a_machine_that_slows_down_does_not_hold() -> None:
    steady = [_window(i, 1000 + i % 3, 7) for i in range(60)]
    found = sustained.summarize({"windows": steady, "seconds": 60.0, "throttled": 7})
    assert (found.holds, found.throttled) == (True, 0)
    assert found.slope_per_minute == pytest.approx(0, abs=0.001)
    hot = [_window(i, 1000 * 1.01**i, 7) for i in range(60)]
    found = sustained.summarize({"windows": hot, "seconds": 60.0, "throttled": 7})
    assert not found.holds
    assert found.slope_per_minute == pytest.approx(1.01**60 - 1)
    assert found.drift.verdict == "slower"
    found = sustained.summarize({"windows": [*steady[:-1], _window(59, 1000, 9)], "seconds": 60.0, "throttled": 7})
    assert (found.holds, found.throttled) == (False, 2)


def test_energy_is_read_where_the_kernel_shows_it(tmp_path: Path) -> None:
    assert "shows no energy counter" in energy.take(_busy(tmp_path, []), 0.01, str(tmp_path))["reason"]
    package = tmp_path / "sys/class/powercap/intel-rapl:0"
    for name, text in (("name", "package-0\n"), ("max_energy_range_uj", "1000000\n"), ("energy_uj", "999000\n")):
        package.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    (tmp_path / "sys/class/powercap/intel-rapl:0:0").mkdir()  # a part of it: not counted twice
    taken = energy.take(_busy(package, [2000]), 0.02, str(tmp_path))  # over the end of its range
    assert taken["domains"] == ["package-0"]
    assert taken["idle"][0] == 0
    assert taken["busy"][0] == 3001
    assert taken["rows"] > 0
    found = energy.summarize([[taken]])
    assert found.readable
    assert found.row_total_microjoules == pytest.approx(3001 / taken["rows"])
    assert found.row_microjoules == pytest.approx(3001 / taken["rows"])
    assert energy.summarize([[{"reason": "none here"}]]) == energy.Energy(readable=False, reason="none here")


def _busy(package: Path, readings: list[int]) -> Any:
    """A model that takes energy: it writes the counter when it is called."""

    def call(_: object) -> None:
        if readings:
            (package / "energy_uj").write_text(str(readings.pop()))

    return SimpleNamespace(turn=[0], call=call)


def test_idle_power_is_taken_off() -> None:
    taken = {"domains": ["package-0"], "idle": [1000, 10**6], "busy": [5000, 2 * 10**6], "rows": 100}
    found = energy.summarize([[taken], [taken]])
    assert (found.row_total_microjoules, found.row_microjoules) == pytest.approx((50, 30))
    assert (found.idle_watts, found.busy_watts) == pytest.approx((1.0, 2.5))


def test_sizes_name_what_has_to_be_installed(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(bytes(1234))
    found = size.look(str(tmp_path / "m.onnx"))
    assert found.file_bytes == 1234
    assert [entry.package for entry in found.installed][:2] == ["numpy", "onnxruntime"]
    assert {"protobuf", "flatbuffers"} <= {entry.package for entry in found.installed}
    assert found.installed_bytes == sum(entry.size_bytes or 0 for entry in found.installed)


def _reading(**change: Any) -> Reading:
    first = Reading(100.0, 1000.0, 200.0, 5.0, 50.0, 1.0, 0.5, (2_000_000, 1_500_000), 60.0, 3)
    return replace(first, **change)


def test_conditions_are_what_happened_between_two_readings() -> None:
    last = _reading(
        monotonic_s=110.0,
        wall_s=1000.0 + 10 + 3600 + 2,
        boot_s=212.0,
        own_cpu_s=9.0,
        busy_s=60.0,
        steal_s=1.0 + len(CORES),
        frequency_khz=(900_000,),
        throttled=5,
    )
    found = between(_reading(), last)
    assert (found.seconds, found.others_cores) == pytest.approx((10, 0.6))
    assert found.steal == pytest.approx(0.1)
    assert (found.clock_set_s, found.slept_s) == pytest.approx((3600, 2))
    assert (found.frequency_before_mhz, found.frequency_after_mhz, found.throttled) == (1500, 900, 2)


def test_a_machine_is_read_from_its_files(tmp_path: Path) -> None:
    files = {"proc/meminfo": "MemTotal: 4 kB\nMemAvailable: 3 kB\n", "sys/class/thermal/thermal_zone0/temp": "41000\n"}
    stat = "cpu  1 1 1 1 1 1 1 1 0 0\n"
    for core in CORES:
        stat += f"cpu{core} 100 10 20 5000 7 3 2 50 0 0\n"
        files[f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq"] = "1800000\n"
        files[f"sys/devices/system/cpu/cpu{core}/thermal_throttle/core_throttle_count"] = "2\n"
    for name, text in (files | {"proc/stat": stat}).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found, tick = read_conditions(tmp_path), os.sysconf("SC_CLK_TCK")
    assert found.busy_s == pytest.approx(135 * len(CORES) / tick)
    assert found.steal_s == pytest.approx(50 * len(CORES) / tick)
    assert read_heat(tmp_path) == ((1_800_000,) * len(CORES), 41.0, 2 * len(CORES))
    assert available_memory(tmp_path) == 3072


def test_a_container_without_sys_and_proc_is_unknown_not_an_error(tmp_path: Path) -> None:
    found = read_conditions(tmp_path)
    assert (found.busy_s, found.steal_s, found.frequency_khz, found.temperature_c, found.throttled) == (None,) * 5
    known = between(found, found)
    assert (known.others_cores, known.steal, known.throttled) == (None,) * 3
    assert available_memory(tmp_path) is None
    assert describe_clock(tmp_path).source is None


def test_the_clock_says_how_fine_it_is() -> None:
    readings = iter(range(0, 10**7, 40))
    found = describe_clock(clock=lambda: next(readings))
    assert (found.step_ns, found.overhead_ns, found.monotonic, found.adjustable) == (40, 40, True, False)


def test_settings_to_try_differ_from_the_base_in_one_thing() -> None:
    base = RuntimeSettings()
    found = candidates(base, 2, 256)
    assert found[0] == ("base", base)
    told = [(name, s.threads, s.spinning, s.optimization, s.batch_rows) for name, s in found[1:]]
    assert told == [
        ("threads", 2, False, "all", None),
        ("spinning", 2, True, "all", None),
        ("optimization", 1, False, "extended", None),
        ("optimization", 1, False, "basic", None),
        ("optimization", 1, False, "none", None),
        ("batch_rows", 1, False, "all", 16),
        ("batch_rows", 1, False, "all", 64),
        ("batch_rows", 1, False, "all", 256),
    ]
    for _, settings in found:
        settings.check()
    assert {name for name, _ in candidates(base, 1, 8)} == {"base", "optimization"}


class _FakeSubject:
    """Answers as a file would whose time depends on the settings."""

    settings = bench_settings()

    def __init__(self, times: dict[str, float]) -> None:
        self.times, self.opened, self.asked = times, RuntimeSettings(), 0

    def opening(self, **settings: Any) -> dict[str, Any]:
        return settings

    def with_worker(self, work: Any) -> Any:
        return work(self._ask)

    def _ask(self, what: str, _: float, /, **request: Any) -> dict[str, Any]:
        if what == "open":
            self.opened = RuntimeSettings(**request)
        self.asked += 1
        time = 1000 * (1 + 0.001 * (self.asked % 5))
        for name, factor in self.times.items():
            if f"{name}" in (f"threads={self.opened.threads}", f"optimization={self.opened.optimization}"):
                time *= factor
        return {"samples": [round(time)] * 5}


def _swept(times: dict[str, float]) -> Any:
    sweeper = Sweeper(_FakeSubject(times), 2, 256, 1e-5)  # type: ignore[arg-type]  # what it needs of a Subject
    for number in range(10):
        sweeper.first(number)
    for number in range(10):
        sweeper.confirm(number)
    return sweeper.report()


def test_the_best_settings_are_measured_again() -> None:
    found = _swept({"threads=2": 0.5, "optimization=basic": 0.9, "optimization=none": 1.5})
    assert found.best == RuntimeSettings(threads=2, optimization="basic")
    assert found.row_gain.verdict == "faster"
    assert found.row_gain.ratio == pytest.approx(0.45, rel=0.02)
    assert [point.ratio is None for point in found.points[:2]] == [True, False]


def test_where_nothing_is_faster_for_certain_nothing_is_gained() -> None:
    found = _swept({"threads=2": 1.2, "optimization=basic": 0.9999})
    assert found.best == RuntimeSettings()
    assert found.row_gain is None
    basic = next(point for point in found.points if point.settings.optimization == "basic")
    assert basic.ratio.verdict == NO_DIFFERENCE


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"rate": 10.0, "scenarios": ["single-stream"]}, "--rate does nothing without the scenario fixed-rate"),
        ({"seconds": 10.0}, "--seconds does nothing without the scenario sustained"),
        ({"calls": 10, "scenarios": ["size"]}, "--calls does nothing"),
        ({"rounds": 10, "scenarios": ["size"]}, "--rounds does nothing"),
        ({"plot": True, "scenarios": ["size"]}, "--plot does nothing"),
        ({"quick": True, "thorough": True}, "exclude each other"),
        ({"scenarios": ["idle"]}, "no scenario idle"),
        ({"rate": 0.0}, "rate is 0"),
        ({"seconds": 0.1, "scenarios": ["sustained"]}, "sustained seconds is 0.1"),
        ({"timeout": 0.0}, "timeout is 0"),
    ],
)
def test_what_would_do_nothing_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        bench_settings(**given)


def test_presets_and_what_is_asked_for() -> None:
    assert "sustained" not in bench_settings().scenarios
    assert bench_settings(thorough=True).scenarios == SCENARIOS
    assert "sweep" in bench_settings(quick=True, save_settings=True).scenarios
    found = bench_settings(scenarios=["sustained", "sustained"], seconds=5.0, size=9)
    assert (found.scenarios, found.sustained_seconds, found.free_size) == (("sustained",), 5, 9)
    assert [compare_settings(**{name: True}).rounds for name in ("quick", "thorough")] == [10, 90]
    assert compare_settings(rounds=12).rounds == 12
