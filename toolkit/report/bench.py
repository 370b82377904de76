"""Timings that `toolkit bench` left in the artifact."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from toolkit.artifact import ONNX
from toolkit.benchmarking.report import FORMAT
from toolkit.benchmarking.tables import head_lines, names_of, noise_lines, tables_of
from toolkit.errors import CorruptArtifactError
from toolkit.report.parts import ASIDE, Missing, not_exported, read_json

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.artifact import Manifest

__all__ = ["BENCH", "BenchFacts", "TimedFile", "read_bench"]

BENCH = "bench.json"

Cells = tuple[str, ...]


@dataclass(frozen=True)
class TimedFile:
    """Latency and footprint of one file. None: that was not measured.

    Attributes:
        name, kind: of the file.
        title: what tables call it.
        failed: why it was measured no further, or None.
        p50_us, p90_us, p99_us: one row after the other.
        noisy: the rounds' medians differ too much for these figures to be relied on.
        edges_us, counts: the histogram of these times; one edge more than counts.
        cold_start_ms: from a fresh process to its first answer.
        memory_bytes: peak of a process that does nothing else.
    """

    name: str
    kind: str
    title: str
    failed: str | None
    p50_us: float | None
    p90_us: float | None
    p99_us: float | None
    noisy: bool
    edges_us: tuple[float, ...]
    counts: tuple[int, ...]
    cold_start_ms: float | None
    memory_bytes: int | None


@dataclass(frozen=True)
class BenchFacts:
    """What a benchmark found.

    Attributes:
        created: when it began, as bench.json says.
        heads: machine, software, inputs and method, a line each.
        noise: the verdict on the machine, a line each.
        noisy: its figures are not to be relied on.
        files: one entry each.
        tables: (title, heads, rows) of everything that was measured.
    """

    created: str
    heads: tuple[str, ...]
    noise: tuple[str, ...]
    noisy: bool
    files: tuple[TimedFile, ...]
    tables: tuple[tuple[str, Cells, tuple[Cells, ...]], ...] = field(repr=False, metadata=ASIDE)


def read_bench(folder: Path, manifest: Manifest, place: str) -> BenchFacts | Missing:
    """What bench.json says of an artifact's files, if it is about these very files.

    Raises:
        CorruptArtifactError: it is damaged.
    """
    again = f"toolkit bench {place}"
    found = read_json(folder / BENCH, again)
    if ONNX not in manifest.files:
        return not_exported(place)
    if found is None:
        return Missing("The files were not timed yet.", again)
    if found.get("format") != FORMAT:
        return Missing(f"{BENCH} is of format {found.get('format')!r}, this version reads {FORMAT}.", again)
    try:
        for file in found["files"]:
            record = manifest.files.get(file["name"])
            if file["sha256"] is not None and (record is None or record.sha256 != file["sha256"]):
                return Missing(f"{BENCH} is about other files than these, so it is not used.", again)
        return _facts(found)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, StopIteration) as error:
        raise CorruptArtifactError(
            f"{folder / BENCH} is incomplete ({error!r}); remove it, or write it again with: {again}"
        ) from error


def _facts(found: dict[str, Any]) -> BenchFacts:
    return BenchFacts(
        created=str(found["created"]),
        heads=tuple(head_lines(found)),
        noise=tuple(noise_lines(found)),
        noisy=bool(found["noise"]["noisy"]),
        files=tuple(_file(file, title) for file, title in zip(found["files"], names_of(found), strict=True)),
        tables=tuple((each.title, tuple(each.columns), tuple(map(tuple, each.rows))) for each in tables_of(found)),
    )


def _file(file: dict[str, Any], title: str) -> TimedFile:
    scenarios = file["scenarios"]
    single, cold, memory = (scenarios[name] for name in ("single-stream", "cold-start", "memory"))
    latency = single["latency"] if single else None
    histogram = latency["histogram"] if latency else {"edges_ns": [], "counts": []}
    return TimedFile(
        name=file["name"],
        kind=file["kind"],
        title=title,
        failed=file["failed"],
        p50_us=_us(latency, "p50_ns"),
        p90_us=_us(latency, "p90_ns"),
        p99_us=_us(latency, "p99_ns"),
        noisy=bool(latency and latency["noisy"]),
        edges_us=tuple(edge / 1000 for edge in histogram["edges_ns"]),
        counts=tuple(histogram["counts"]),
        cold_start_ms=cold["total_ms"] if cold else None,
        memory_bytes=memory["work_bytes"] if memory else None,
    )


def _us(latency: dict[str, Any] | None, key: str) -> float | None:
    value = latency[key] if latency else None
    return None if value is None else value / 1000
