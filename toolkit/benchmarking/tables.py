"""A report as tables for people: made of bench.json's values, so that one from another machine is shown alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolkit.benchmarking.histogram import bars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Table", "head_lines", "names_of", "noise_lines", "ratio_text", "tables_of"]


@dataclass(frozen=True)
class Table:
    """A title, column heads, and rows of as many cells; the first column is text, the others are figures."""

    title: str
    columns: list[str]
    rows: list[list[str]]


def names_of(report: dict[str, Any]) -> list[str]:
    """What each file is called in tables: its kind, or its name where two are of a kind."""
    kinds = [file["kind"] for file in report["files"]]
    return kinds if len(set(kinds)) == len(kinds) else [file["name"] for file in report["files"]]


def head_lines(report: dict[str, Any]) -> list[str]:
    """The machine, the software and the method, a line each."""
    from toolkit.benchmarking.host import Host

    given: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in report["host"].items()
    }
    host, clock, settings = Host(**given), report["clock"], report["settings"]
    lines = [f"Machine: {host.hardware_line()}", f"Software: {host.software_line()}"]
    for tensor in next((file["inputs"] for file in report["files"] if file["inputs"]), []):
        shape = " x ".join(map(str, tensor["shape"])) or "one number"
        notes = "".join(f"; {note}" for note in tensor["notes"])
        lines.append(
            f"Input '{tensor['name']}': {tensor['dtype']} of {shape}, "
            f"seeded random {tensor['low']:g} to {tensor['high']:g}{notes}"
        )
    threads = f"{settings['threads']} thread{'s' if settings['threads'] > 1 else ''}"
    lines.append(
        f"Method: {threads}, {settings['rounds']} interleaved rounds, each file in a new process in each; clock "
        f"{clock['source'] or clock['name']}, {clock['overhead_ns']:.0f} ns a reading, not subtracted"
    )
    return lines


def tables_of(report: dict[str, Any], *, ascii_only: bool = False) -> list[Table]:
    """All tables that the report has figures for.

    Args:
        report: see `BenchReport.to_json`; samples do not matter.
        ascii_only: histograms of characters that every terminal knows.
    """
    makers: tuple[Callable[..., Iterable[Table]], ...] = (
        _single_stream,
        _fixed_rate,
        _batches,
        _throughput,
        _sustained,
        _sweep,
        _cold_start,
        _cost,
    )
    names = names_of(report)
    found: list[Table] = []
    for make in makers:
        found += make(report, names, ascii_only)
    return found


def noise_lines(report: dict[str, Any]) -> list[str]:
    """The verdict on the machine: one line, or why its figures are not to be relied on."""
    noise, failed = report["noise"], [file["failed"] for file in report["files"] if file["failed"]]
    lines = [f"FAILED: {reason}" for reason in failed]
    if report["interrupted"]:
        lines.append("INTERRUPTED: these are the rounds that were whole by then.")
    control = noise["control"]
    told = f"the same file opened twice: {ratio_text(control)}" if control else ""
    if not noise["noisy"]:
        return [*lines, f"Quiet enough; {told}."] if told else lines
    from toolkit.benchmarking.noise import Reason

    reasons = "; ".join(str(Reason(**reason)) for reason in noise["reasons"])
    return [
        *lines,
        f"THIS MACHINE WAS TOO NOISY: {reasons}{'; ' if told else ''}{told}. Do not rely on these figures: stop other "
        "work on it and measure again.",
    ]


def ratio_text(ratio: dict[str, Any] | None) -> str:
    """A ratio with its interval."""
    if ratio is None:
        return ""
    return f"{ratio['ratio']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})"


def _those(report: dict[str, Any], names: list[str], scenario: str) -> list[tuple[str, dict[str, Any]]]:
    """(name, result) of each file that has the scenario."""
    return [
        (name, file["scenarios"][scenario])
        for name, file in zip(names, report["files"], strict=True)
        if file["scenarios"][scenario] is not None
    ]


def _single_stream(report: dict[str, Any], names: list[str], ascii_only: bool) -> list[Table]:
    found = _those(report, names, "single-stream")
    if not found:
        return []
    shown = dict(zip((file["name"] for file in report["files"]), names, strict=True))
    ratios = {shown[entry["file"]]: entry["p50"] for entry in report["ratios"]}
    columns = ["", "p50", "p90", "p95", "p99", "p99.9", "mean", "min", "rounds differ", "distribution"]
    if ratios:
        columns.append(f"time to {shown[report['ratios'][0]['base']]}")
    rows = []
    for name, result in found:
        latency = result["latency"]
        figures = [_us(latency[key]) for key in ("p90_ns", "p95_ns", "p99_ns", "p999_ns", "mean_ns", "min_ns")]
        row = [name, _mark(_us(latency["p50_ns"]), latency["noisy"]), *figures, f"{latency['spread']:.1%}"]
        row.append(bars(latency["histogram"]["counts"], ascii_only=ascii_only))
        rows.append(row + ([ratio_text(ratios.get(name))] if ratios else []))
    call = next(file["call"] for file in report["files"] if file["call"])
    first = found[0][1]
    warm = f"warm-up until steady: {first['warm_up_seconds'] * 1e3:,.0f} ms"
    return [
        Table(
            f"Single stream: {call} of one row in us ({first['latency']['n']:,} calls; {warm} in each process)",
            columns,
            rows,
        )
    ]


def _fixed_rate(report: dict[str, Any], names: list[str], ascii_only: bool) -> list[Table]:
    found = _those(report, names, "fixed-rate")
    if not found:
        return []
    rows = []
    for name, result in found:
        latency = result["latency"]
        figures = [_us(latency[key]) for key in ("p90_ns", "p99_ns", "p999_ns", "max_ns")]
        rows.append(
            [
                name,
                f"{result['load']:.0%}",
                _mark(_us(latency["p50_ns"]), latency["noisy"]),
                *figures,
                f"{result['late']:,} of {result['rows']:,}",
                "yes" if result["kept_up"] else f"no: {result['unanswered']:,} unanswered",
                bars(latency["histogram"]["counts"], ascii_only=ascii_only),
            ]
        )
    title = f"Fixed rate: {_rate(found[0][1]['rate'])} rows a second, latency in us from when each was due"
    columns = ["", "busy", "p50", "p90", "p99", "p99.9", "max", "late", "kept up", "distribution"]
    return [Table(title, columns, rows)]


def _batches(report: dict[str, Any], names: list[str], _: bool) -> list[Table]:
    found = _those(report, names, "batches")
    if not found:
        return []
    sizes = [entry["batch"] for entry in found[0][1]["sizes"]]
    rows = []
    for name, result in found:
        rates = {e["batch"]: _mark(_rate(e["images_per_second"]), e["noisy"]) for e in result["sizes"]}
        rows.append([name, *(rates.get(size, "") for size in sizes)])
    return [Table("Batches: rows a second, by batch size", ["", *(f"{size:,}" for size in sizes)], rows)]


def _throughput(report: dict[str, Any], names: list[str], _: bool) -> list[Table]:
    found = _those(report, names, "throughput")
    if not found:
        return []
    cores = found[0][1]["cores"]
    ways = {
        "processes": f"{cores} processes",
        "threads": f"{cores} threads, one session",
        "runtime-threads": f"one caller, {cores} runtime threads",
    }
    keys = list(dict.fromkeys((way["way"], way["batch"]) for _, result in found for way in result["ways"]))
    rows = []
    for way, batch in keys:
        cells = [f"{ways[way]}, {'one row' if batch == 1 else f'batches of {batch}'}"]
        for _name, result in found:
            entry = next((w for w in result["ways"] if (w["way"], w["batch"]) == (way, batch)), None)
            text = _mark(_rate(entry["rows_per_second"]), entry["noisy"]) if entry else "not measured"
            cells.append(f"{text} best" if entry == result["best"] else text)
        rows.append(cells)
    rows += [[reason, *[""] * len(found)] for reason in found[0][1]["refused"]]
    title = f"Throughput: rows a second with {'all ' if cores > 1 else ''}{cores} core{'s' if cores > 1 else ''}"
    return [Table(title, ["", *(name for name, _ in found)], rows)]


def _sustained(report: dict[str, Any], names: list[str], ascii_only: bool) -> list[Table]:
    found = _those(report, names, "sustained")
    rows = []
    for name, result in found:
        medians = [window["p50_ns"] for window in result["windows"]]
        throttled = result["throttled"]
        rows.append(
            [
                name,
                "yes" if result["holds"] else "NO",
                ratio_text(result["drift"]),
                f"{result['slope_per_minute']:+.2%}",
                f"{result['worst']:.2f}",
                "not readable" if throttled is None else str(throttled),
                bars([round(1000 * median / max(medians)) for median in medians], ascii_only=ascii_only),
            ]
        )
    if not rows:
        return []
    seconds = found[0][1]["seconds"]
    columns = ["", "holds", "last quarter to first", "change a minute", "worst to best", "throttled", "p50 over time"]
    return [Table(f"Sustained: one row after the other for {seconds:,.0f} s", columns, rows)]


def _sweep(report: dict[str, Any], names: list[str], _: bool) -> list[Table]:
    tables = []
    for name, result in _those(report, names, "sweep"):
        rows = []
        for point in result["points"]:
            time = "" if point["p50_ns"] is None else _us(point["p50_ns"])
            ratio = point["ratio"]
            rows.append(
                [
                    _setting(point),
                    _mark(time, point["noisy"] and bool(time)),
                    _rate(point["rows_per_second"]),
                    ratio_text(ratio),
                    ratio["verdict"] if ratio else "",
                ]
            )
        title = f"Settings of {name}: one row in us, rows a second in batches of {result['batch']:,}; {_best(result)}"
        tables.append(Table(title, ["", "p50", "rows/s", "time to these settings", ""], rows))
    return tables


def _setting(point: dict[str, Any]) -> str:
    settings, what = point["settings"], point["setting"]
    threads = f"{settings['threads']} thread{'s' if settings['threads'] > 1 else ''}"
    return {
        "base": f"{threads}, all optimizations",
        "threads": threads,
        "spinning": f"{threads}, spinning",
        "optimization": f"optimization {settings['optimization']}",
        "batch_rows": f"{settings['batch_rows']} rows a run",
    }[str(what)]


def _best(result: dict[str, Any]) -> str:
    row, batch = result["row_gain"], result["batch_gain"]
    base = result["points"][0]["settings"]
    changed = {name: value for name, value in result["best"].items() if value != base[name]}
    if not changed:
        return "nothing is faster for certain than the first line"
    told = ", ".join(f"{name} {value}" for name, value in changed.items())
    if row is None:
        return f"best: {told} (not measured again)"
    return (
        f"best: {told}; measured again, one row takes {ratio_text(row)} of the time ({row['verdict']}), "
        f"a batch {ratio_text(batch)} ({batch['verdict']})"
    )


def _cold_start(report: dict[str, Any], names: list[str], _: bool) -> list[Table]:
    found = _those(report, names, "cold-start")
    if not found:
        return []
    parts = {
        "first answer after": "total_ms",
        "  interpreter start": "interpreter_ms",
        "  import numpy": "numpy_import_ms",
        "  import predictor": "predictor_import_ms",
        "  import onnxruntime": "onnxruntime_import_ms",
        "  check and open file": "session_open_ms",
        "  first row": "first_run_ms",
    }
    rows = [[title, *(f"{result[key]:,.1f}" for _, result in found)] for title, key in parts.items()]
    title = f"Cold start in ms: from a fresh process to its first answer (median of {found[0][1]['n']}, files in cache)"
    compiled = found[0][1]["without_bytecode"]
    if compiled:
        title += f"; not cached as bytecode, so compiled in every start: {', '.join(compiled)}"
    return [Table(title, ["", *(name for name, _ in found)], rows)]


def _cost(report: dict[str, Any], names: list[str], _: bool) -> list[Table]:
    """Size, memory, CPU time and energy: one figure or a few each."""
    rows: list[list[str]] = []

    def add(title: str, scenario: str, show: Callable[[dict[str, Any]], str]) -> None:
        cells = [
            show(file["scenarios"][scenario]) if file["scenarios"][scenario] is not None else ""
            for file in report["files"]
        ]
        if any(cells):
            rows.append([title, *cells])

    add("file", "size", lambda size: f"{size['file_bytes'] / 1000:,.0f} kB")
    add("installed beside it", "size", lambda size: _megabytes(size["installed_bytes"]))
    add("peak memory, imported", "memory", lambda memory: _megabytes(memory["import_bytes"]))
    add("peak memory, model loaded", "memory", lambda memory: _megabytes(memory["load_bytes"]))
    add("peak memory after work", "memory", lambda memory: _megabytes(memory["work_bytes"]))
    add("CPU time of one row", "cpu-time", lambda cpu: f"{cpu['process_ns'] / 1000:,.1f} us")
    add("energy of one row", "energy", _joules)
    return [Table("What it costs", ["", *names], rows)] if rows else []


def _joules(energy: dict[str, Any]) -> str:
    if not energy["readable"]:
        return "not readable here"
    return f"{energy['row_microjoules']:,.1f} uJ (idle {energy['idle_watts']:.1f} W, busy {energy['busy_watts']:.1f} W)"


def _mark(text: str, noisy: bool) -> str:
    return f"~{text}" if noisy else text


def _us(nanoseconds: float | None) -> str:
    return "too few" if nanoseconds is None else f"{nanoseconds / 1000:,.1f}"


def _rate(per_second: float) -> str:
    return f"{per_second:,.0f}" if per_second >= 100 else f"{per_second:,.2f}"


def _megabytes(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 1e6:,.1f} MB"
