"""The network, and rows with their activated neurons."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from toolkit.errors import ToolkitError
from toolkit.inspection.diagram import draw
from toolkit.inspection.svg import inlined
from toolkit.predictor import PROBABILITIES
from toolkit.report.cells import MOST_CELLS, answer_bars, neuron_cells
from toolkit.report.images import picture_tag
from toolkit.report.markup import Child, Html, join, paragraph, scrolled, table, tag
from toolkit.report.parts import Missing
from toolkit.report.sections.common import bar, figure, part, section, without
from toolkit.report.words import DASH

if TYPE_CHECKING:
    from toolkit.report.network import NetworkFacts
    from toolkit.report.neurons import NeuronFacts, Sample
    from toolkit.report.report import Report

__all__ = ["layer_pictures", "show"]

_LAYERS = 200  # in the table
_BOXES = 400  # in the diagram: more cannot be taken in, and make a page of megabytes


def show(report: Report) -> Html:
    """The diagram, the layers, and the neurons at work."""
    facts = report.network
    shown = without(facts) if isinstance(facts, Missing) else tag("div", _diagram(facts), _layers(facts), class_="row")
    neurons = report.neurons
    # What is missing for the same reason is said once.
    work = None if neurons == facts else without(neurons) if isinstance(neurons, Missing) else _neurons(neurons)
    return section("network", "Network", shown, part("Neurons at work", work) if work else None)


def _diagram(facts: NetworkFacts) -> Child:
    boxes = len(facts.graph.nodes)
    try:
        drawn = Html(inlined(draw(facts.graph))) if boxes <= _BOXES or facts.sizes else None
    except ToolkitError:  # too many boxes for any picture
        drawn = None
    if drawn is None:
        return paragraph(f"The graph of {facts.file} has {boxes:,} operators, more than a page can show.")
    picture = scrolled("Diagram of the network", drawn, "diagram")
    said = f"{facts.file}."
    if facts.sizes is not None:
        said += " Of long layers the first and the last neurons are drawn; each is connected to all of the next layer."
    return part("Layers and neurons", figure(picture, said))


def _layers(facts: NetworkFacts) -> Child:
    most = max((layer.parameters for layer in facts.layers), default=0) or 1
    work = max((layer.multiply_adds or 0 for layer in facts.layers), default=0) or 1
    rows: list[list[Child]] = [
        [
            [layer.name, tag("span", f"{layer.type}, gives {_shape(layer.output)}", class_="under")],
            [f"{layer.parameters:,}", bar(layer.parameters / most)],
            [
                DASH if layer.multiply_adds is None else f"{layer.multiply_adds:,}",
                bar((layer.multiply_adds or 0) / work, "second"),
            ],
        ]
        for layer in facts.layers[:_LAYERS]
    ]
    left_out = len(facts.layers) - _LAYERS
    if left_out > 0:
        rows.append([f"{left_out:,} more", "", ""])
    total = DASH if facts.multiply_adds is None else f"{facts.multiply_adds:,}"
    rows.append(["all", f"{facts.parameters:,}", total])
    return part(
        "Parameters and multiply-adds",
        paragraph(
            "A parameter is a stored number. A multiply-add is one product added to a sum, for "
            f"{facts.row}; biases and activations are not counted."
        ),
        table("Layers", ["layer", "parameters", "multiply-adds"], rows, kind="counted"),
    )


def _shape(shape: tuple[int | str | None, ...] | None) -> str:
    """A shape without the batch."""
    if shape is None:
        return "a shape that is not known"
    return " \N{MULTIPLICATION SIGN} ".join("?" if size is None else str(size) for size in shape[1:]) or "one number"


def _neurons(facts: NeuronFacts) -> Html:
    """Radio buttons and a panel each; the style shows the panel of the one that is chosen, so no script is needed."""
    picks: list[Child] = []
    panels = []
    for at, sample in enumerate(facts.samples):
        name = f"sample-{at}"
        thumb = None if sample.picture is None else picture_tag(sample.picture, "")
        said = tag("span", sample.title, class_="pick-name")
        wrong = tag("span", "mistaken", class_="pick-wrong") if sample.right is False else None
        picks.append(tag("input", type="radio", name="sample", id=name, checked=at == 0))
        picks.append(tag("label", thumb, said, wrong, for_=name))
        panels.append(_panel(facts, sample, at))
    chooser = tag(
        "fieldset",
        tag("legend", "Pick a row"),
        picks,
        tag("div", panels, class_="panels"),
        class_="picker",
    )
    return join(
        [
            paragraph(
                f"What each neuron of {facts.file} gives for a row ({facts.rows_of}): the stronger the colour, the "
                "larger its value beside the largest of its layer. Pale squares are neurons at 0. Rest the pointer on "
                "one to read its value."
            ),
            chooser,
        ]
    )


def _panel(facts: NeuronFacts, sample: Sample, at: int) -> Html:
    pictures = [
        tag("figure", tag("figcaption", title), picture, class_="answers-figure" if last else None)
        for title, picture, last in _marked(layer_pictures(facts, sample))
    ]
    heading = tag("p", tag("strong", sample.title), f" (row {sample.row:,})", _verdict(sample), class_="panel-title")
    return tag("div", heading, tag("div", pictures, class_="panel-pictures"), class_="panel", id=f"panel-{at}")


def _marked(pictures: list[tuple[str, Html]]) -> list[tuple[str, Html, bool]]:
    return [(title, picture, at == len(pictures) - 1) for at, (title, picture) in enumerate(pictures)]


def _verdict(sample: Sample) -> Child:
    if sample.answer is None:
        return None
    if sample.right is None:
        return f": said to be {sample.answer}"
    kind = "good" if sample.right else "bad"
    return [
        ": said to be ",
        tag("span", sample.answer, class_=kind),
        ", which is right" if sample.right else ", which is wrong",
    ]


def layer_pictures(facts: NeuronFacts, sample: Sample) -> list[tuple[str, Html]]:
    """What comes in, each layer's neurons, and the answers: a title and a picture each."""
    count = len(sample.inputs)
    found = []
    if sample.picture is not None:
        found.append((f"{count:,} pixels", picture_tag(sample.picture, sample.title, "input-picture")))
    else:
        inputs = np.nan_to_num(sample.inputs.astype(np.float32))
        found.append((f"{count:,} inputs", neuron_cells(f"Inputs of {sample.title}", inputs, "input")))
    for name, values in zip(facts.names[:-1], sample.layers[:-1], strict=True):
        active = int((values > 0).sum())
        title = f"{name}: {active:,} of {len(values):,} active"
        if len(values) > MOST_CELLS:
            title += f" (the first {MOST_CELLS:,} drawn)"
        found.append((title, neuron_cells(f"{name} for {sample.title}", values)))
    last = sample.layers[-1]
    names = facts.class_names or tuple(f"{facts.answers} {at}" for at in range(len(last)))
    right = names.index(sample.title) if sample.right is not None and sample.title in names else None
    shares = facts.answers == PROBABILITIES
    bars = answer_bars(f"Answers for {sample.title}", names, last, shares=shares, right=right)
    found.append((f"{len(last):,} {facts.answers if facts.answers in ('probabilities', 'logits') else 'values'}", bars))
    return found
