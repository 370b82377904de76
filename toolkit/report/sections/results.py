"""The results on the test rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.report.charts import calibration_chart
from toolkit.report.markup import Child, Html, paragraph, table, tag, titled
from toolkit.report.measures import BINS
from toolkit.report.parts import Missing
from toolkit.report.sections.common import bar, cards, figure, part, row_card, section, without
from toolkit.report.words import percent

if TYPE_CHECKING:
    from toolkit.report.report import Report
    from toolkit.report.results import ResultFacts

__all__ = ["MATRIX", "show"]

MATRIX = 20
"""Classes of which a confusion matrix can still be read."""
_CLASSES, _PAIRS = 60, 20


def show(report: Report) -> Html:
    """Confusion, figures by class, mistakes, calibration."""
    facts = report.results
    if isinstance(facts, Missing):
        return section("results", "Results", without(facts))
    return section(
        "results",
        "Results",
        paragraph(
            f"What {facts.file} says to {facts.rows:,} test rows, run by the predictor as on a device: "
            f"{percent(facts.accuracy)} are right, {facts.mistakes_in_all:,} are not. It is the file that a predictor "
            "opens by default."
        ),
        tag("div", _confusion(facts), _classes(facts), class_="pair"),
        _mistakes(report, facts),
        _calibration(facts),
    )


def _confusion(facts: ResultFacts) -> Html:
    if len(facts.class_names) > MATRIX:
        return part(f"The {_PAIRS} most frequent confusions", _pairs(facts))
    heads = [tag("th", tag("span", name), scope="col", class_="turned") for name in facts.class_names]
    lines = []
    for row, counts in enumerate(facts.confusion):
        total = max(sum(counts), 1)
        cells = [
            tag(
                "td",
                f"{count:,}" if count else "0",
                class_="right" if row == column else "wrong" if count else "none",
                # Mistakes are few: their colour is strengthened, or nothing but the diagonal could be seen.
                style=f"--v:{(count / total if row == column else min(1.0, 4 * count / total)):.3f}",
                title=f"{facts.class_names[row]} said to be {facts.class_names[column]}: {count:,}",
            )
            for column, count in enumerate(counts)
        ]
        lines.append(tag("tr", tag("th", facts.class_names[row], scope="row", class_="text"), cells))
    caption = "Confusion matrix: what is true in rows, what was said in columns"
    inside = tag(
        "table",
        tag("thead", tag("tr", tag("td", ""), heads)),
        tag("tbody", lines),
        class_="confusion",
        aria_label=caption,
    )
    return part("Confusion matrix", titled(caption, inside))


def _pairs(facts: ResultFacts) -> Html:
    pairs = sorted(
        (
            (count, row, column)
            for row, counts in enumerate(facts.confusion)
            for column, count in enumerate(counts)
            if row != column
        ),
        key=lambda entry: (-entry[0], entry[1:]),
    )
    names = facts.class_names
    rows = [[names[row], names[column], f"{count:,}"] for count, row, column in pairs[:_PAIRS] if count]
    return table("Confusions", ["is", "said to be", "rows"], rows, left=2)


def _classes(facts: ResultFacts) -> Html:
    rows = [
        [
            each.name,
            *([percent(share), bar(share or 0)] for share in (each.precision, each.recall, each.f1)),
            f"{each.rows:,}",
        ]
        for each in facts.classes[:_CLASSES]
    ]
    left_out = len(facts.classes) - _CLASSES
    known = [each.f1 for each in facts.classes if each.f1 is not None]
    mean = percent(sum(known) / len(known))
    return part(
        "Precision and recall by class",
        paragraph(
            "Precision: of the rows said to be of a class, the share that is. Recall: of the rows of a class, the "
            f"share that is found. F1: their harmonic mean, over all classes {mean} on average."
        ),
        table("By class", ["class", "precision", "recall", "F1", "rows"], rows, kind="counted"),
        paragraph(f"{left_out:,} more classes are not shown.") if left_out > 0 else None,
    )


def _mistakes(report: Report, facts: ResultFacts) -> Child:
    if not facts.mistakes:
        return part("Mistakes", paragraph("None."))
    names = facts.class_names
    shown = [
        row_card(
            report.pictures.get(each.row),
            f"{names[each.true]}, said to be {names[each.found]}",
            [
                ["is ", tag("b", names[each.true])],
                ["said ", tag("b", names[each.found], class_="bad"), f" {percent(each.confidence, 1)}"],
            ],
            each.row,
        )
        for each in facts.mistakes
    ]
    return part(
        "The most confident mistakes",
        paragraph(
            f"{len(shown)} of {facts.mistakes_in_all:,}: those of which the model is surest, with the probability that "
            "it gives its answer."
        ),
        cards(shown, "The most confident mistakes"),
    )


def _calibration(facts: ResultFacts) -> Html:
    errors = ", ".join(f"{percent(curve.ece)} for {curve.file}" for curve in facts.calibration)
    first = facts.calibration[0]
    rows = [
        [
            f"{percent(each.low, 0)} to {percent(each.high, 0)}",
            f"{each.rows:,}",
            percent(each.confidence, 1),
            percent(each.accuracy, 1),
        ]
        for each in first.bins
        if each.rows
    ]
    return part(
        "Calibration",
        tag(
            "div",
            figure(
                calibration_chart(facts.calibration),
                "How often answers of a confidence are right. On the dashed line they are right as often as they "
                "are sure; above it more often.",
            ),
            tag(
                "div",
                paragraph(
                    f"Expected calibration error: {errors}. It is the mean distance between confidence and share of "
                    f"right answers over {BINS} bins of equal width, weighted by their rows."
                ),
                table(f"Bins of {first.file}", ["confidence", "rows", "mean", "right"], rows),
            ),
            class_="beside",
        ),
    )
