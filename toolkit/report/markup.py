"""HTML and SVG, put together from small pieces; what is not markup already is escaped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from toolkit.inspection.svg import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Child", "Html", "code", "join", "paragraph", "scrolled", "table", "tag", "titled"]

_VOID = {"br", "img", "input", "link", "meta"}


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


Child = str | None | Iterable["Child"]
"""What can stand in an element: text (escaped unless it is `Html`), nothing, or several of these."""


def tag(name: str, /, *children: Child, **attributes: str | float | bool | None) -> Html:
    """One element.

    Args:
        name: of the element.
        children: what is in it.
        attributes: an underscore at the end of a name falls off, any other is a hyphen. None and False leave the
            attribute out, True gives it without a value; numbers are written with two decimals at most.
    """
    given = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None)
    if name in _VOID:
        return Html(f"<{name}{given}>")
    return Html(f"<{name}{given}>{join(children)}</{name}>")


def join(children: Child) -> Html:
    """Children one after the other, without an element around them."""
    if children is None:
        return Html()
    if isinstance(children, Html):
        return children
    if isinstance(children, str):
        return Html(clean(children))
    return Html("".join(join(child) for child in children))


def _attribute(key: str, value: str | float | bool) -> str:
    name = key.rstrip("_").replace("_", "-")
    if isinstance(value, bool):
        return f" {name}" if value else ""
    said = value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
    return f' {name}="{clean(said)}"'


def paragraph(*children: Child, **attributes: str) -> Html:
    """A paragraph."""
    return tag("p", *children, **attributes)


def code(said: str) -> Html:
    """A command or a name of a file, in line."""
    return tag("code", said)


def table(
    caption: str, columns: Sequence[str], rows: Iterable[Sequence[Child]], *, left: int = 1, kind: str = ""
) -> Html:
    """A table that scrolls within itself where it is wider than the page.

    Args:
        caption: what it is of; shown above it, and said by screen readers.
        columns: heads.
        rows: as many cells each; the first is the row's head.
        left: how many columns are text, aligned to the left; the others are figures.
        kind: a class for the table.
    """
    heads = [tag("th", column, scope="col", class_=None if at >= left else "text") for at, column in enumerate(columns)]
    lines = [
        tag(
            "tr",
            [
                tag("th", cell, scope="row", class_="text")
                if at == 0
                else tag("td", cell, class_=None if at >= left else "text")
                for at, cell in enumerate(row)
            ],
        )
        for row in rows
    ]
    inside = tag(
        "table",
        tag("thead", tag("tr", heads)),
        tag("tbody", lines),
        class_=kind or None,
        aria_label=caption,
    )
    return titled(caption, inside)


def titled(caption: str, inside: Html) -> Html:
    """A table with its caption above, which would make it as wide as itself if it were the table's own."""
    return tag(
        "div", paragraph(caption, class_="caption", aria_hidden="true"), scrolled(caption, inside), class_="table"
    )


def scrolled(said: str, inside: Html, kind: str = "") -> Html:
    """What scrolls within itself where it is wider than the page; whoever has no mouse does that by keys."""
    classes = f"scroll {kind}".strip()
    return tag("div", inside, class_=classes, role="region", aria_label=said, tabindex="0")
