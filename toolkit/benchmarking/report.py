"""What a benchmark found, and the form of bench.json (bench.schema.json beside this file describes it)."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from toolkit.benchmarking.intervals import Ratio
from toolkit.benchmarking.rounds import NOISE_BOUND
from toolkit.benchmarking.samples import pack
from toolkit.predictor import RuntimeSettings

if TYPE_CHECKING:
    from toolkit.benchmarking.clock import Clock
    from toolkit.benchmarking.conditions import Conditions
    from toolkit.benchmarking.feed import InputReport
    from toolkit.benchmarking.footprint import ColdStart, Memory
    from toolkit.benchmarking.host import Host
    from toolkit.benchmarking.noise import Noise
    from toolkit.benchmarking.plan import BenchSettings
    from toolkit.benchmarking.scenarios.batches import Batches
    from toolkit.benchmarking.scenarios.cpu_time import CpuTime
    from toolkit.benchmarking.scenarios.energy import Energy
    from toolkit.benchmarking.scenarios.fixed_rate import FixedRate
    from toolkit.benchmarking.scenarios.single_stream import SingleStream
    from toolkit.benchmarking.scenarios.size import Size
    from toolkit.benchmarking.scenarios.sustained import Sustained
    from toolkit.benchmarking.scenarios.throughput import Throughput
    from toolkit.benchmarking.sweep import Sweep

__all__ = ["BenchReport", "FORMAT", "FileRatio", "FileReport", "Results", "plain"]

FORMAT = 3


@dataclass(frozen=True)
class Results:
    """What each scenario gave; None: it was not asked for, or ended before its first round."""

    single_stream: SingleStream | None = None
    fixed_rate: FixedRate | None = None
    batches: Batches | None = None
    throughput: Throughput | None = None
    sustained: Sustained | None = None
    cold_start: ColdStart | None = None
    memory: Memory | None = None
    cpu_time: CpuTime | None = None
    energy: Energy | None = None
    size: Size | None = None
    sweep: Sweep | None = None


@dataclass(frozen=True)
class FileReport:
    """All figures of one model file.

    Attributes:
        name: the file's name.
        kind: "int8", "int4", "float16" or "float32".
        sha256, size_bytes: of the file; sha256 is None where it failed before it was opened.
        inputs: what it was fed with.
        call: what single rows went through: "classify", or "predict" where there are no classes.
        processes: in which it was opened anew.
        failed: why it was measured no further; None: all is well.
        scenarios: the figures.
    """

    name: str
    kind: str
    sha256: str | None
    size_bytes: int
    inputs: tuple[InputReport, ...]
    call: str | None
    processes: int
    failed: str | None
    scenarios: Results


@dataclass(frozen=True)
class FileRatio:
    """Two files of the report side by side.

    Attributes:
        file, base: their names.
        p50: time of one row in file to that in base, by round.
    """

    file: str
    base: str
    p50: Ratio


@dataclass(frozen=True)
class BenchReport:
    """A benchmark of one or more files on one machine, taken in the same rounds.

    Attributes:
        created: when it began, UTC, ISO 8601.
        interrupted: whether Ctrl-C ended it early.
        settings: how it was measured.
        host: on what.
        clock: that times were taken from.
        conditions: what else the machine did.
        noise: whether it was quiet enough.
        files: the quantized one first.
        ratios: each file beside the float32 one, or else the last.
    """

    created: str
    interrupted: bool
    settings: BenchSettings
    host: Host
    clock: Clock
    conditions: Conditions
    noise: Noise
    files: tuple[FileReport, ...]
    ratios: tuple[FileRatio, ...]

    def to_json(self, *, samples: bool = True) -> dict[str, Any]:
        """The report as plain values.

        Args:
            samples: with every sample, or the figures alone.
        """
        return {"format": FORMAT, "noise_bound": NOISE_BOUND, **plain(self, samples=samples)}


_SAMPLES = {"samples_ns", "samples", "times_ns", "times_n"}


def plain(value: Any, *, samples: bool) -> Any:
    """A result as JSON values.

    Args:
        value: dataclasses, tuples, dicts and what JSON knows.
        samples: with every sample.
    """
    if isinstance(value, Ratio):
        return value.to_json()
    if isinstance(value, RuntimeSettings):
        return value._asdict()
    if is_dataclass(value):
        found = {}
        for field in fields(value):
            if not samples and field.name in _SAMPLES:
                continue
            given = getattr(value, field.name)
            name = field.name.replace("_", "-") if isinstance(value, Results) else field.name
            found[name] = pack(given) if field.name == "samples_ns" else plain(given, samples=samples)
        for name in ("noisy", "holds"):
            if isinstance(getattr(type(value), name, None), property):
                found[name] = getattr(value, name)
        return found
    if isinstance(value, dict):
        return {key: plain(inner, samples=samples) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner, samples=samples) for inner in value]
    return value
