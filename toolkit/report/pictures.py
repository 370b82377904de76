"""The page's pictures as files of their own: SVG, which opens in any browser and in drawing programs."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from toolkit.errors import ToolkitError, UsageError
from toolkit.inspection.diagram import draw
from toolkit.publishing import write_atomic
from toolkit.report.axes import chart
from toolkit.report.cells import pixel_values
from toolkit.report.charts import calibration_chart, latency_chart
from toolkit.report.galleries import confusion_picture, gallery, grid_picture, sample_picture
from toolkit.report.images import png_uri
from toolkit.report.markup import Html, tag
from toolkit.report.page import style
from toolkit.report.parts import Missing
from toolkit.report.sections.network import layer_pictures
from toolkit.report.sections.results import MATRIX
from toolkit.report.sections.training import pictures
from toolkit.report.words import percent

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from toolkit.report.neurons import NeuronFacts, Sample
    from toolkit.report.report import Report

__all__ = ["check_folder", "drawings", "write_pictures"]


def check_folder(folder: Path) -> None:
    """Refuse before the work what is no place for pictures.

    Raises:
        UsageError: it is a file, or cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--images is {folder}, which is a file; give a folder")


def write_pictures(report: Report, folder: Path) -> list[Path]:
    """Write every picture that the report has; earlier ones of the same names are replaced.

    Returns:
        The files.

    Raises:
        UsageError, StorageError: one cannot be written; those before it are whole.
    """
    written = []
    for name, drawn in drawings(report).items():
        write_atomic(folder / f"{name}.svg", drawn)
        written.append(folder / f"{name}.svg")
    return written


def drawings(report: Report) -> dict[str, str]:
    """Each picture, by its file's name without the ending, as a whole SVG file."""
    found: dict[str, Html] = {}
    if not isinstance(report.data, Missing):
        if report.data.grid:
            found["data-grid"] = grid_picture("Some rows of each class", report.data.grid)
        if report.data.pixels is not None:
            found["pixels"] = pixel_values(report.data.pixels.title, report.data.pixels.picture)
    if not isinstance(report.neurons, Missing):
        for at, sample in enumerate(report.neurons.samples, 1):
            found[f"neurons-{at:02}"] = _sample(report.neurons, sample)
    if not isinstance(report.training, Missing):
        found |= {f"training-{name}": drawn for name, drawn in pictures(report.training).items()}
    found |= _results(report)
    if not isinstance(report.bench, Missing):
        found |= {f"latency-{file.kind}": latency_chart(file) for file in report.bench.files if file.counts}
    files = {name: _standing_alone(drawn) for name, drawn in found.items()}
    if not isinstance(report.network, Missing):
        with suppress(ToolkitError):  # too many boxes for a picture, which the page says
            files["network"] = draw(report.network.graph)
    return files


def _results(report: Report) -> dict[str, Html]:
    found: dict[str, Html] = {}
    facts, flips = report.results, report.flips
    if not isinstance(facts, Missing):
        names = facts.class_names
        if len(names) <= MATRIX:
            found["confusion"] = confusion_picture(f"Confusion of {facts.file}", names, facts.confusion)
        found["calibration"] = calibration_chart(facts.calibration)
        cards = [
            (picture, [f"is {names[each.true]}", f"said {names[each.found]} {percent(each.confidence, 1)}"])
            for each in facts.mistakes
            if (picture := report.pictures.get(each.row)) is not None
        ]
        if cards:
            found["mistakes"] = gallery("The most confident mistakes", cards)
    if not isinstance(flips, Missing):
        cards = [
            (
                picture,
                [
                    f"{flips.reference}: {flips.class_names[each.reference]}",
                    f"{flips.file}: {flips.class_names[each.found]}",
                ],
            )
            for each in flips.shown
            if (picture := report.pictures.get(each.row)) is not None
        ]
        if cards:
            found["flips"] = gallery("Rows with another label", cards)
    return found


def _sample(facts: NeuronFacts, sample: Sample) -> Html:
    parts = layer_pictures(facts, sample)
    if sample.picture is not None:
        parts[0] = (parts[0][0], _enlarged(sample.picture, sample.title))
    return sample_picture(facts, sample, parts)


def _enlarged(picture: NDArray[np.uint8], said: str) -> Html:
    height, width = picture.shape[:2]
    tall = 168 * height / width
    return chart(said, [tag("image", href=png_uri(picture), width=168, height=tall, class_="pixelated")], 168, tall)


def _standing_alone(drawn: Html) -> str:
    """A picture of the page's with the style and the background that the page gives it."""
    rules = tag("style", style("colours.css", "charts.css"), Html("svg { background: var(--paper) }\n"))
    opened, rest = drawn.split(">", 1)
    return f'<svg xmlns="http://www.w3.org/2000/svg"{opened.removeprefix("<svg")}>{rules}{rest}\n'
