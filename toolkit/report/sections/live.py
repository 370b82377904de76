"""The panel in which the page itself runs the int8 model: what stands in it before the script fills it."""

from __future__ import annotations

import base64
import json
from itertools import groupby
from typing import TYPE_CHECKING

from toolkit.report.cells import MOST_CELLS, cell_columns
from toolkit.report.markup import Child, Html, paragraph, tag
from toolkit.report.parts import Missing
from toolkit.report.sections.common import section, without
from toolkit.report.words import kilobytes

if TYPE_CHECKING:
    from toolkit.report.live import LiveFacts, LiveRow
    from toolkit.report.report import Report

__all__ = ["data", "show"]

_SHIFTS = (("left", "\N{LEFTWARDS ARROW}"), ("up", "\N{UPWARDS ARROW}"), ("down", "\N{DOWNWARDS ARROW}"),
           ("right", "\N{RIGHTWARDS ARROW}"))  # fmt: skip
_ANSWERS = 12
"""Drawn at most; of more the largest."""


def show(report: Report) -> Html:
    """The panel, empty: the script shows it where it can fill it."""
    facts = report.live
    if isinstance(facts, Missing):
        return section("live", "Live", without(facts))
    shape = f"{facts.width} \N{MULTIPLICATION SIGN} {facts.height}"
    return section(
        "live",
        "Live",
        paragraph(
            f"Here {facts.file} itself runs, in this page: its C code, compiled to WebAssembly "
            f"({kilobytes(facts.bytes)}). Draw in the picture, erase, shift or flip it, and see what every neuron "
            "makes of it."
        ),
        tag("noscript", tag("p", "It needs JavaScript, which this browser does not run here.", class_="missing")),
        tag("p", "", id="live-failed", class_="missing", role="alert", hidden=True),
        tag(
            "div",
            tag("div", _chooser(facts), _editor(facts, shape), class_="live-left"),
            tag("div", _layers(facts), class_="live-right"),
            tag(
                "div",
                tag("p", "", id="live-proof", class_="live-proof"),
                tag("p", tag("span", "", id="live-time"), " ", _button("measure", "Measure again")),
                class_="live-foot",
            ),
            id="live-panel",
            class_="live",
            hidden=True,
        ),
    )


def _chooser(facts: LiveFacts) -> Child:
    if not facts.rows:
        return None
    return tag(
        "div",
        tag("label", "Start from", for_="live-row"),
        tag("select", [_options(title, rows) for title, rows in _grouped(facts)], id="live-row"),
        _button("previous", "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}", "Previous test row"),
        _button("next", "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}", "Next test row"),
        class_="live-choice",
    )


def _grouped(facts: LiveFacts) -> list[tuple[str, list[tuple[int, LiveRow]]]]:
    """Rows with their place in the data, by class."""

    def label(entry: tuple[int, LiveRow]) -> int:
        return -1 if entry[1].label is None else entry[1].label

    found = groupby(sorted(enumerate(facts.rows), key=label), key=label)
    groups = [(at, list(entries)) for at, entries in found]
    return [("" if at < 0 else entries[0][1].title, entries) for at, entries in groups]


def _options(title: str, rows: list[tuple[int, LiveRow]]) -> Html:
    options = [
        tag("option", f"{title}, row {row.row:,}" if title else f"row {row.row:,}",
            " (mistaken)" if row.right is False else "", value=str(at))
        for at, row in rows
    ]  # fmt: skip
    return tag("optgroup", options, label=title) if title else Html("".join(options))


def _editor(facts: LiveFacts, shape: str) -> Html:
    """The picture, and what can be done to it."""
    canvas = tag("canvas", width=facts.width, height=facts.height, id="live-canvas", aria_hidden="true")
    drawing = tag(
        "div",
        canvas,
        tag("div", "", id="live-mark", class_="live-mark", aria_hidden="true"),
        id="live-picture",
        class_="live-picture",
        role="application",
        tabindex="0",
        aria_label=f"Picture of {shape} pixels, to draw in",
        aria_describedby="live-keys",
    )
    pens = [
        tag("label", tag("input", type="radio", name="live-pen", value=value, checked=value == "draw"), f" {said}")
        for value, said in (("draw", "Draw"), ("erase", "Erase"))
    ]
    sliders = [
        tag("label", "Width ", tag("input", type="range", id="live-width", min="1", max="5", value="2")),
        tag("label", "Grey ", tag("input", type="range", id="live-grey", min="1", max="255", value="255")),
    ]
    shifts = [_button(f"shift-{way}", arrow, f"Shift {way} by a pixel") for way, arrow in _SHIFTS]
    others = [
        _button("mirror", "Mirror", "Flip left to right"),
        _button("turn", "Upside down", "Flip top to bottom"),
        _button("clear", "Clear"),
        _button("reset", "As it was", "Back to the test row as it was") if facts.rows else None,
    ]
    keys = (
        "Keys in the picture: arrows move the mark, Space draws or erases, Backspace erases; with Shift, arrows shift "
        "the picture."
    )
    return tag(
        "div",
        tag(
            "div",
            tag("p", "", id="live-pixels", class_="live-caption"),
            drawing,
            tag("p", "", id="live-spot", class_="live-spot", role="status"),
            tag("p", "", id="live-said", class_="live-said", role="status"),
        ),
        tag(
            "div",
            tag(
                "fieldset", tag("legend", "Pen"), pens, tag("div", sliders, class_="live-sliders"), class_="live-tools"
            ),
            tag("fieldset", tag("legend", "Shift and flip"), shifts, others, class_="live-tools"),
            paragraph(keys, id="live-keys", class_="faint live-keys"),
        ),
        class_="live-editor",
    )


def _layers(facts: LiveFacts) -> list[Child]:
    """Places for each layer's neurons, and for the answers."""
    hidden = [
        tag("figure", tag("figcaption", layer.name, id=f"live-caption-{at}"), tag("div", "", id=f"live-layer-{at}"))
        for at, layer in enumerate(facts.layers)
    ]
    answers = tag(
        "figure",
        tag("figcaption", _answers_name(facts)),
        tag("ol", "", id="live-answers", class_="live-answers", aria_label=_answers_name(facts)),
        class_="live-all",
    )
    return [*hidden, answers]


def _answers_name(facts: LiveFacts) -> str:
    kind = {"Softmax": "probabilities", "Sigmoid": "probabilities", None: "values"}[facts.end]
    return f"{facts.outputs:,} {kind}" if facts.outputs > 1 else {"probabilities": "probability"}.get(kind, "value")


def _button(name: str, shown: str, said: str | None = None) -> Html:
    return tag("button", shown, type="button", id=f"live-{name}", aria_label=said, title=said)


def data(facts: LiveFacts) -> Html:
    """What the script needs, as JSON in an element of its own; bytes are in base64."""
    found = {
        "file": facts.file,
        "height": facts.height,
        "width": facts.width,
        "layers": [
            {
                "name": layer.name,
                "neurons": layer.neurons,
                "scale": layer.scale,
                "zero": layer.zero_point,
                "drawn": min(layer.neurons, MOST_CELLS),
                "columns": cell_columns(min(layer.neurons, MOST_CELLS)),
            }
            for layer in facts.layers
        ],
        "outputs": facts.outputs,
        "shown": min(facts.outputs, _ANSWERS),
        "end": facts.end,
        "names": facts.class_names,
        "rows": [{"title": row.title, "row": row.row, "label": row.label} for row in facts.rows],
        "pictures": _base64(facts.pictures.tobytes()),
        "logits": _base64(facts.logits.astype("<f4").tobytes()),
        "simd": _base64(facts.modules.simd),
        "plain": _base64(facts.modules.plain),
        "rest": _base64(facts.modules.rest),
    }
    # In an element for scripts nothing is markup but its end, and what could be taken for a comment.
    return tag("script", Html(json.dumps(found).replace("<", "\\u003c")), type="application/json", id="live-data")


def _base64(given: bytes) -> str:
    return base64.b64encode(given).decode("ascii")
