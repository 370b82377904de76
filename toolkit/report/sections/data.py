"""The data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.report.cells import pixel_values
from toolkit.report.images import picture_tag
from toolkit.report.markup import Child, Html, paragraph, scrolled, table, tag
from toolkit.report.parts import Missing
from toolkit.report.sections.common import bar, figure, part, section, without

if TYPE_CHECKING:
    from toolkit.report.data import DataFacts
    from toolkit.report.report import Report

__all__ = ["show"]

_CLASSES = 60  # in the table of counts


def show(report: Report) -> Html:
    """What the model was trained or tested on."""
    facts = report.data
    if isinstance(facts, Missing):
        return section("data", "Data", without(facts))
    rows = ", ".join(f"{count:,} for {name}" for name, count in facts.rows.items())
    shape = " \N{MULTIPLICATION SIGN} ".join(map(str, facts.shape)) or "one number"
    return section(
        "data",
        "Data",
        paragraph(f"{facts.source}: rows of {shape} ({facts.dtype}), {rows}."),
        _grid(facts),
        tag("div", _counts(facts), _pixels(facts), class_="row"),
    )


def _grid(facts: DataFacts) -> Child:
    if not facts.grid:
        return None
    lines = [
        tag(
            "div",
            tag("span", row.name, class_="grid-name"),
            tag(
                "div",
                [picture_tag(picture, "") for picture in row.pictures],
                class_="grid-pictures",
                role="img",
                aria_label=f"{len(row.pictures)} {facts.grid_of} rows of {row.name}",
            ),
            class_="grid-row",
        )
        for row in facts.grid
    ]
    return part(
        "Some of each class",
        paragraph(f"Of the {facts.grid_of} rows, a seeded choice: the same in every report."),
        tag("div", lines, class_="grid"),
    )


def _counts(facts: DataFacts) -> Child:
    if not facts.counts or facts.class_names is None:
        return None
    most = {name: max(*counts, 1) for name, counts in facts.counts.items()}
    rows = [
        [
            name,
            *([f"{counts[label]:,}", bar(counts[label] / most[split])] for split, counts in facts.counts.items()),
        ]
        for label, name in enumerate(facts.class_names[:_CLASSES])
    ]
    rows.append(["all", *(f"{sum(counts):,}" for counts in facts.counts.values())])
    left_out = len(facts.class_names) - _CLASSES
    more = paragraph(f"{left_out:,} more classes are not shown.") if left_out > 0 else None
    return part("Class counts", table("Rows by class", ["class", *facts.counts], rows, kind="counted"), more)


def _pixels(facts: DataFacts) -> Child:
    shown = facts.pixels
    if shown is None:
        return None
    what = f"{shown.title}, test row {shown.row:,}"
    said = f"{what}. Each square is a pixel and its number what the file gets: 0 is black, 255 is white."
    if shown.cut:
        said += " The picture is larger; this is its middle."
    picture = scrolled("Pixels of one row", pixel_values(f"{what}: pixel by pixel", shown.picture))
    return part("One row, pixel by pixel", figure(picture, said))
