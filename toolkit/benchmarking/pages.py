"""A report as Markdown, as CSV and as plain text."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from toolkit.benchmarking.tables import head_lines, noise_lines, tables_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from toolkit.benchmarking.tables import Table

__all__ = ["as_csv", "as_markdown", "as_text"]

_LISTS = frozenset(
    ["samples", "samples_ns", "times_ns", "times_n", "histogram", "windows", "rounds", "process_rounds_ns"]
)


def as_markdown(report: dict[str, Any]) -> str:
    """A page with every table.

    Args:
        report: see `BenchReport.to_json`.
    """
    names = ", ".join(file["name"] for file in report["files"])
    parts = [f"# Benchmark of {names}", f"{report['created']}, toolkit {report['host']['toolkit']}"]
    parts.append("\n".join(f"- {_escaped(line)}" for line in head_lines(report)))
    parts += [f"**{_escaped(line)}**" for line in noise_lines(report)]
    for table in tables_of(report):
        head = [[cell or " " for cell in table.columns], ["---", *["---:"] * (len(table.columns) - 1)]]
        body = [[_escaped(cell) for cell in row] for row in table.rows]
        lines = "\n".join(f"| {' | '.join(row)} |" for row in (*head, *body))
        parts.append(f"## {_escaped(table.title)}\n\n{lines}")
    return "\n\n".join(parts) + "\n"


def as_csv(report: dict[str, Any]) -> str:
    """One figure a line: file, kind, scenario, its name (parts with dots), and value; samples are in bench.json.

    Args:
        report: see `BenchReport.to_json`.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "kind", "scenario", "figure", "value"])
    for file in report["files"]:
        for scenario, result in file["scenarios"].items():
            for figure, value in _figures(result):
                writer.writerow([file["name"], file["kind"], scenario, figure, value])
    return text.getvalue()


def as_text(report: dict[str, Any], *, ascii_only: bool = False) -> str:
    """Everything in plain lines.

    Args:
        report: see `BenchReport.to_json`.
        ascii_only: no character that a terminal may not know.
    """
    tables = [_aligned(table) for table in tables_of(report, ascii_only=ascii_only)]
    return "\n\n".join(["\n".join(head_lines(report)), *tables, "\n".join(noise_lines(report))]).rstrip() + "\n"


def _aligned(table: Table) -> str:
    rows = [table.columns, *table.rows]
    widths = [max(len(row[at]) for row in rows) for at in range(len(table.columns))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(widths[at]) for at, cell in enumerate(row[1:], 1))])
        for row in rows
    ]
    return "\n".join([table.title, *(f"  {line.rstrip()}" for line in lines)])


def _figures(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Numbers, texts and truth values in a result, each with where it is."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in _LISTS:
                yield from _figures(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            label = _label(inner)
            yield from _figures(inner, f"{name}.{at if label is None else label}")
    elif value is not None:
        yield name, value


def _label(value: Any) -> str | None:
    """What an entry of a list is known by, where it says so."""
    if not isinstance(value, dict):
        return None
    if "way" in value:
        return f"{value['way']}-{value['batch']}"
    return next((str(value[key]) for key in ("batch", "package") if key in value), None)


def _escaped(text: str) -> str:
    for character in "\\|*_<`":
        text = text.replace(character, f"\\{character}")
    return text
