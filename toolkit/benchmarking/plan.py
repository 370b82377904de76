"""How much is measured: the scenarios, and how long each takes."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.errors import UsageError

__all__ = [
    "BenchSettings",
    "DEFAULT",
    "LEAST_CALLS",
    "LOAD",
    "MOST_SECONDS",
    "QUICK",
    "SCENARIOS",
    "SLOW_ROUNDS",
    "SLOW_SECONDS",
    "SWEEP_BATCH",
]

SCENARIOS = (
    "single-stream",
    "fixed-rate",
    "batches",
    "throughput",
    "sustained",
    "cold-start",
    "memory",
    "cpu-time",
    "energy",
    "size",
    "sweep",
)
QUICK = ("single-stream", "batches", "cold-start", "memory", "cpu-time", "size")
DEFAULT = tuple(name for name in SCENARIOS if name != "sustained")

MOST_SECONDS = 1.0
"""A large model gets fewer calls and smaller batches, so that none of them takes much longer than this in a round."""

SWEEP_BATCH = 256
"""Batch size of the sweep and of the throughput on all cores, unless the model is too large for it."""

MOST_BATCH_BYTES = 64_000_000
"""Inputs of one batch at most: a device has little memory, and a model's activations are a multiple of its inputs."""

LEAST_CALLS = 5
"""Single rows a round, however slow the model is; percentiles that need more samples are then left out."""

SLOW_SECONDS, SLOW_ROUNDS = 0.1, 8
"""A model that takes longer for one row gets so many rounds of the sweep at most: enough for a verdict."""

LOAD = 0.5
"""Default rate: this share of what the model can do."""


@dataclass(frozen=True)
class BenchSettings:
    """What is measured and how long.

    Attributes:
        scenarios: those of `SCENARIOS`.
        rounds: rounds kept; everything is measured once in each.
        calls: single rows a round, for each file; None: `default_calls`, or as many as fit into `MOST_SECONDS`.
        threads: threads of one run, for everything but the sweep.
        batches: batch sizes of the throughput; of a model with a fixed batch size, the next multiples of it. Those that
            would take too long or too much memory are left out.
        batch_seconds: time a round spends on each batch size.
        rate: rows a second of the fixed-rate stream; None: `LOAD` of what the slowest file can do.
        rate_seconds: time a round spends on it.
        throughput_seconds: time a round spends on each way to use all cores.
        sustained_seconds: of the sustained run, once.
        energy_seconds: time a round spends on energy, half of it idle.
        few_rounds: rounds of throughput and energy at most, which take long.
        control: the first file is opened a second time in each round, so that noise shows.
        seed: of the random rows.
        free_size: size of free dimensions; None: `FREE_SIZE`.
        timeout: seconds after which a file that gives no sign counts as hanging.

    Raises:
        UsageError: a value that cannot be measured with.
    """

    scenarios: tuple[str, ...] = DEFAULT
    rounds: int = 10
    calls: int | None = None
    default_calls: int = 2000
    threads: int = 1
    batches: tuple[int, ...] = (1, 4, 16, 64, 256, 1024)
    batch_seconds: float = 0.02
    rate: float | None = None
    rate_seconds: float = 0.2
    throughput_seconds: float = 0.1
    sustained_seconds: float = 60.0
    energy_seconds: float = 1.0
    few_rounds: int = 5
    control: bool = True
    seed: int = 0
    free_size: int | None = None
    timeout: float = 60.0

    def __post_init__(self) -> None:
        unknown = [name for name in self.scenarios if name not in SCENARIOS]
        if unknown or not self.scenarios:
            raise UsageError(f"no scenario {', '.join(unknown)}; give one or more of {', '.join(SCENARIOS)}")
        if self.rounds < 2:
            raise UsageError(f"rounds is {self.rounds}, expected 2 or more: one round cannot tell how noisy it is")
        if self.calls is not None and self.calls < LEAST_CALLS:
            raise UsageError(f"calls is {self.calls}, expected {LEAST_CALLS} or more: fewer have no median to speak of")
        if self.threads < 1:
            raise UsageError(f"threads is {self.threads}, expected 1 or more")
        if self.free_size is not None and self.free_size < 1:
            raise UsageError(f"the size of free dimensions is {self.free_size}, expected 1 or more")
        if not self.batches or min(self.batches) < 1:
            raise UsageError(f"batches are {self.batches}, expected sizes of 1 or more")
        if self.rate is not None and not 0.01 <= self.rate <= 1e6:
            raise UsageError(f"rate is {self.rate:g}, expected 0.01 to 1,000,000 rows a second")
        for name in ("sustained_seconds", "timeout"):
            if not 1 <= getattr(self, name) <= 86_400:
                raise UsageError(f"{name.replace('_', ' ')} is {getattr(self, name):g}, expected 1 to 86,400")

    def calls_of(self, seconds: float) -> int:
        """Single rows a round of a model that takes so long for one."""
        return self.calls or max(LEAST_CALLS, min(self.default_calls, int(MOST_SECONDS / seconds)))

    def rows_at(self, rate: float) -> int:
        """Rows a round of the fixed-rate stream."""
        return max(LEAST_CALLS, round(rate * self.rate_seconds))

    def batches_of(self, seconds: float, row_bytes: int, fixed: int | None) -> tuple[int, ...]:
        """Batch sizes for a model that takes so long and so much memory for one row."""
        sizes = sorted({-(-batch // (fixed or 1)) * (fixed or 1) for batch in self.batches})
        # Of a fixed batch size, one row takes as long as all.
        most = min(MOST_SECONDS / seconds * (fixed or 1), MOST_BATCH_BYTES / max(row_bytes, 1))
        return tuple(size for size in sizes if size <= most) or (sizes[0],)

    @classmethod
    def quick(cls) -> BenchSettings:
        """A first look in a few seconds."""
        return cls(scenarios=QUICK, rounds=3, default_calls=1000, batch_seconds=0.01)

    @classmethod
    def thorough(cls) -> BenchSettings:
        """Everything, for some minutes."""
        return cls(scenarios=SCENARIOS, rounds=30, few_rounds=10)
