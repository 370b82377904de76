"""Where the artifact comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.report.markup import Html, code, paragraph, table, tag
from toolkit.report.parts import Missing
from toolkit.report.sections.common import part, section, settings, without
from toolkit.report.words import DASH

if TYPE_CHECKING:
    from toolkit.report.provenance import Provenance
    from toolkit.report.report import Report

__all__ = ["show"]


def show(report: Report) -> Html:
    """Commands, settings and versions, hashes."""
    found = report.provenance
    return section("provenance", "Provenance", _commands(found), _settings(report), _hashes(found))


def _commands(found: Provenance) -> Html | None:
    if not found.commands:
        return None
    lines = tag("ol", [tag("li", code(command)) for command in found.commands], class_="commands")
    return part(
        "Made again",
        paragraph("These commands make the same again, in this order, with the versions below."),
        lines,
    )


def _settings(report: Report) -> Html:
    found = report.provenance
    record = {key: value for key, value in found.training.items() if key != "recipe"}
    recipe = found.training.get("recipe", {})
    missing = None
    if not found.training:
        missing = without(Missing("There is no record of its training: the model was trained elsewhere."))
    known = [
        ("Training recipe", recipe),
        ("Training", record),
        ("Conversion", found.conversion),
        ("Quantization recipe", found.quantization),
        ("Data", found.data),
        ("Versions", found.versions),
    ]
    tables = [settings(title, values) for title, values in known if values]
    return part("Settings and versions", missing, tag("div", tables, class_="tables"))


def _hashes(found: Provenance) -> Html:
    rows = [[name, f"{size:,}", code(digest) if digest else DASH] for name, (digest, size) in found.hashes.items()]
    return part(
        "Files",
        paragraph("Each was held against its sha256 when this report was made."),
        table("Hashes", ["file", "bytes", "sha256"], rows, kind="hashes"),
    )
