"""The page: one HTML file that asks for nothing else, neither from a network nor from the disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.report.markup import Html, paragraph, tag
from toolkit.report.parts import Missing
from toolkit.report.sections import data, export, live, network, provenance, results, training

if TYPE_CHECKING:
    from toolkit.report.report import Report

__all__ = ["SECTIONS", "page", "style"]

_STYLE = Path(__file__).parent / "style"

SECTIONS = (
    ("data", "Data", data.show),
    ("network", "Network", network.show),
    ("live", "Live", live.show),
    ("training", "Training", training.show),
    ("results", "Results", results.show),
    ("export", "Export", export.show),
    ("provenance", "Provenance", provenance.show),
)
"""Name, title and maker of each section, in the order of the page."""

# A browser that would fetch anything is told not to: the page may be of an artifact from anybody.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'{}; img-src data:"
_WASM = " 'wasm-unsafe-eval'"
"""In a page with a model: it compiles WebAssembly, which is no leave to run text as a script."""


def page(report: Report) -> str:
    """The whole page. The same report is the same text."""
    names = (*((name, title) for name, title, _ in SECTIONS),)
    links = [tag("li", tag("a", title, href=f"#{name}")) for name, title in names]
    runs = None if isinstance(report.live, Missing) else report.live
    body = tag(
        "body",
        tag("a", "Skip to the report", href="#main", class_="skip"),
        tag("header", tag("div", _head(report), class_="wrap"), class_="top"),
        tag("nav", tag("div", tag("ul", links), class_="wrap"), aria_label="Sections"),
        tag("main", [show(report) for _, _, show in SECTIONS], id="main", class_="wrap"),
        tag("footer", _foot(report), class_="wrap"),
        tag("script", style("page.js")),
        [] if runs is None else [live.data(runs), tag("script", style("live_model.js", "live.js"))],
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY.format(_WASM if runs else "")),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="generator", content="toolkit report"),
        tag("link", rel="icon", href="data:,"),
        tag("title", f"{report.name}: model report"),
        tag("style", style("colours.css", "charts.css", "page.css", *(["live.css"] if runs else [])), _picking(report)),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def style(*names: str) -> Html:
    """Style sheets, or the script, as they stand in a page."""
    return Html("".join((_STYLE / name).read_text(encoding="utf-8") for name in names))


def _picking(report: Report) -> Html:
    """The rules by which a radio button shows its panel."""
    if isinstance(report.neurons, Missing):
        return Html()
    rules = [
        f"#sample-{at}:checked ~ .panels > #panel-{at} {{ display: block }}"
        for at in range(len(report.neurons.samples))
    ]
    return Html("\n".join([*rules, ""]))


def _head(report: Report) -> list[Html]:
    kind = {True: "good", False: "bad", None: "unknown"}[report.passed]
    tiles = [
        tag(
            "div",
            tag("dt", tile.label),
            tag("dd", tile.value, class_="value"),
            tag("dd", tile.detail, class_="detail"),
        )
        for tile in report.tiles
    ]
    return [
        paragraph("Model report", class_="kicker"),
        tag("h1", report.name),
        paragraph(report.lead, class_="lead"),
        tag("p", tag("span", report.verdict, class_=f"verdict {kind}")),
        tag("dl", tiles, class_="tiles"),
    ]


def _foot(report: Report) -> Html:
    return paragraph("Made with ", tag("code", f"toolkit report {report.place}"), ".")
