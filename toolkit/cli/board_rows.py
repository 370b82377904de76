"""The figures of several reports (bench.json, format 3), a row each, a column a report."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["figures", "noisy"]

_Report = Mapping[str, Any]
_Figure = Callable[[_Report], str | None]


def figures(reports: Sequence[_Report]) -> list[list[str]]:
    """Rows of a table: what it is, then each report's, "-" where it has none; nothing of what no report has.

    Args:
        reports: as boards gave them, so nothing is taken for granted; empty where there is none.
    """
    rows = []
    for what, figure in _ROWS:
        cells = [_cell(figure, report) for report in reports]
        if any(cells):
            rows.append([what, *(cell or "-" for cell in cells)])
    return rows


def noisy(report: _Report) -> str | None:
    """By what the machine was too noisy, in words; None: it was not."""
    return _cell(_noise, report)


def _cell(figure: _Figure, report: _Report) -> str | None:
    from toolkit.remote.connection import printable

    try:
        text = figure(report)
    except (LookupError, TypeError, ValueError, ArithmeticError):
        return None
    return printable(text) if text else None


def _scenario(report: _Report, name: str) -> Any:
    return report["files"][0]["scenarios"][name]


def _marked(text: str, measured: Mapping[str, Any]) -> str:
    return f"~{text}" if measured["noisy"] else text


def _stream(name: str) -> _Figure:
    def figure(report: _Report) -> str:
        latency = _scenario(report, "single-stream")["latency"]
        return _marked(f"{latency[name] / 1000:,.1f}", latency)

    return figure


def _host(name: str) -> _Figure:
    def figure(report: _Report) -> str | None:
        found = report["host"][name]
        return None if found is None else str(found)

    return figure


def _cores(report: _Report) -> str:
    host = report["host"]
    return f"{len(host['affinity'])} of {host['logical_cores']}"


def _fixed_rate(report: _Report) -> str:
    found = _scenario(report, "fixed-rate")
    text = f"{found['latency']['p99_ns'] / 1000:,.1f} at {found['rate']:,.0f}/s"
    return _marked(text, found["latency"]) if found["kept_up"] else f"does not keep up with {found['rate']:,.0f}/s"


def _batches(report: _Report) -> str:
    best = max(_scenario(report, "batches")["sizes"], key=lambda size: float(size["images_per_second"]))
    return _marked(f"{best['images_per_second']:,.0f} (batch {best['batch']})", best)


def _throughput(report: _Report) -> str:
    best = _scenario(report, "throughput")["best"]
    return _marked(f"{best['rows_per_second']:,.0f} ({best['way']}, batch {best['batch']})", best)


def _noise(report: _Report) -> str | None:
    from toolkit.benchmarking.tables import noise_lines

    return "; ".join(noise_lines(dict(report))) if report["noise"]["noisy"] else None


_ROWS: tuple[tuple[str, _Figure], ...] = (
    ("board", _host("board")),
    ("CPU", _host("cpu_model")),
    ("cores usable", _cores),
    ("memory", lambda report: f"{report['host']['memory_bytes'] / 2**30:.1f} GiB"),
    ("governor", _host("governor")),
    ("Python", _host("python")),
    ("onnxruntime", _host("onnxruntime")),
    ("model", lambda report: report["files"][0]["name"]),
    ("quiet enough", lambda report: "NO" if report["noise"]["noisy"] else "yes"),
    ("one row, p50 in us", _stream("p50_ns")),
    ("  p90", _stream("p90_ns")),
    ("  p99", _stream("p99_ns")),
    ("  p99.9", _stream("p999_ns")),
    ("fixed rate, p99 in us", _fixed_rate),
    ("CPU time a row in us", lambda report: f"{_scenario(report, 'cpu-time')['process_ns'] / 1000:,.1f}"),
    ("energy a row in uJ", lambda report: f"{_scenario(report, 'energy')['row_microjoules']:,.1f}"),
    ("rows a second, in batches", _batches),
    ("rows a second, all cores", _throughput),
    ("cold start in ms", lambda report: f"{_scenario(report, 'cold-start')['total_ms']:,.1f}"),
    ("memory after work", lambda report: f"{_scenario(report, 'memory')['work_bytes'] / 1e6:,.1f} MB"),
    ("installed", lambda report: f"{_scenario(report, 'size')['installed_bytes'] / 1e6:,.1f} MB"),
)
