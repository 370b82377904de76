"""What the sections share: their frame, figures, tables of settings, and what is said where a part is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from toolkit.report.images import picture_tag
from toolkit.report.markup import Child, Html, code, paragraph, tag, titled
from toolkit.report.words import flat, value_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from toolkit.report.parts import Missing

__all__ = ["bar", "cards", "figure", "part", "row_card", "section", "settings", "without"]


def section(name: str, title: str, *children: Child) -> Html:
    """A section with its heading; its name is where links lead."""
    heading = tag("h2", title, id=f"{name}-title")
    return tag("section", heading, *children, id=name, aria_labelledby=f"{name}-title")


def part(title: str, *children: Child) -> Html:
    """A part of a section."""
    return tag("div", tag("h3", title), *children, class_="part")


def without(missing: Missing) -> Html:
    """Why something is not there, and what adds it."""
    advice = paragraph("It comes with ", code(missing.command), ".") if missing.command else None
    return tag("div", paragraph(missing.why), advice, class_="missing", role="note")


def figure(picture: Html, caption: Child) -> Html:
    """A picture with what there is to say of it."""
    return tag("figure", picture, tag("figcaption", caption))


def cards(entries: Iterable[Html], said: str) -> Html:
    """Cards side by side, as many as fit."""
    return tag("ul", [tag("li", entry) for entry in entries], class_="cards", aria_label=said)


def row_card(picture: NDArray[np.uint8] | None, said: str, lines: Iterable[Child], row: int) -> Html:
    """A test row: its picture, and some lines below."""
    shown = None if picture is None else picture_tag(picture, said)
    return tag("div", shown, [paragraph(line) for line in lines], paragraph(f"row {row:,}", class_="faint"))


def bar(share: float, kind: str = "") -> Html:
    """A bar in a table's cell, as long as a share of 0 to 1."""
    style = f"--w:{100 * min(max(share, 0.0), 1.0):.1f}%"
    return tag("span", class_=f"bar {kind}".strip(), style=style, aria_hidden="true")


def settings(caption: str, found: Mapping[str, Any]) -> Html:
    """Any settings as a table of names and values; what holds settings itself is written out in place."""
    rows = [
        tag("tr", tag("th", name, scope="row", class_="text"), tag("td", value_text(value), class_="text"))
        for name, value in flat(found)
    ]
    return titled(caption, tag("table", tag("tbody", rows), class_="settings", aria_label=caption))
