"""A report of an artifact, part by part."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.artifact import ONNX, QUANTIZED, check_files, load_manifest
from toolkit.diagnosis import error_by_layer
from toolkit.errors import UsageError
from toolkit.report.bench import read_bench
from toolkit.report.data import describe_data
from toolkit.report.export import describe_cpus, describe_export, find_flips, read_parity
from toolkit.report.history import find_training
from toolkit.report.live import find_live
from toolkit.report.network import describe_network
from toolkit.report.neurons import find_neurons
from toolkit.report.parts import Missing, not_exported, not_quantized
from toolkit.report.provenance import trace
from toolkit.report.report import Report
from toolkit.report.results import ask, judge_answers
from toolkit.report.rows import KnownRows, find_rows
from toolkit.report.summary import lead_of, tiles_of, verdict_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from toolkit.artifact import Manifest
    from toolkit.data import FashionMnist
    from toolkit.progress import Step
    from toolkit.report.export import FlipFacts
    from toolkit.report.results import ResultFacts
    from toolkit.verification.layers import LayerReport

__all__ = ["make_report"]

_PARTS = 7


def make_report(folder: Path, test: Path | None, fashion: Callable[[], FashionMnist], step: Step) -> Report:
    """Everything that there is to say of an artifact; nothing is written.

    What can be read is read; the exported files are run on the test rows. Keras is opened only where nothing was
    exported yet, or where only it tells what a file takes.

    Args:
        folder: the artifact.
        test: test rows; None for Fashion-MNIST's where the artifact was trained or verified on these.
        fashion: gives Fashion-MNIST.
        step: told of the progress.

    Raises:
        MissingError: the folder, the data or a package is missing.
        ModelError: the folder is no artifact, or a file cannot be run.
        CorruptArtifactError: a file is not what the manifest says, or a report in the folder is damaged.
        DataError: the test rows do not fit.
        UsageError: it is a bundle, or was replaced meanwhile; or test rows that would do nothing.
    """
    manifest = load_manifest(folder)
    if manifest.bundle is not None:
        raise UsageError(
            f"{folder} is a bundle for a device, which holds no figures; give the artifact that it was made of"
        )
    step(0, _PARTS, "checking files")
    check_files(folder, manifest)
    place = shlex.quote(place_of(folder))
    parity, bench = read_parity(folder, manifest, place), read_bench(folder, manifest, place)
    training = find_training(folder, manifest, place)
    step(1, _PARTS, "reading rows")
    rows = find_rows(folder, manifest, place, test, fashion, step)
    step(2, _PARTS, "looking into the model")
    network = describe_network(folder, manifest, place)
    step(3, _PARTS, "running the files")
    answers = ask(folder, manifest, rows, lambda *_: None)
    results = judge_answers(manifest, place, rows, answers)
    flips = find_flips(manifest, place, parity, rows, answers)
    neurons = find_neurons(folder, manifest, place, network, rows, answers)
    step(4, _PARTS, "compiling the live panel")
    live = find_live(folder, manifest, place, rows, answers)
    step(5, _PARTS, "error by layer")
    layers = _layers(folder, manifest, place, rows)
    export = describe_export(manifest, place, parity)
    passed, verdict = verdict_of(export)
    step(6, _PARTS, "putting it together")
    if load_manifest(folder).files != manifest.files:
        raise UsageError(f"{folder} was replaced by another command while it was looked at; report it again")
    return Report(
        name=manifest.name,
        place=place,
        lead=lead_of(manifest, network, export),
        passed=passed,
        verdict=verdict,
        tiles=tiles_of(export, bench, place),
        data=describe_data(rows),
        network=network,
        neurons=neurons,
        live=live,
        training=training,
        results=results,
        export=export,
        flips=flips,
        layers=layers,
        cpus=describe_cpus(manifest, place),
        c_targets=tuple(manifest.c_targets),
        bench=bench,
        provenance=trace(folder, manifest, place, timed=not isinstance(bench, Missing)),
        manifest=manifest,
        pictures=_pictures(rows, results, flips),
    )


def place_of(folder: Path) -> str:
    """A folder's path as a page may show it: below the current folder, or else its name alone.

    A page is handed on, and where somebody keeps things is nobody else's business.
    """
    absolute = Path(os.path.abspath(folder))  # noqa: PTH100 - resolve() would follow links, which have other names
    here = Path.cwd()
    return str(absolute.relative_to(here)) if here in absolute.parents else absolute.name


def _layers(folder: Path, manifest: Manifest, place: str, rows: KnownRows | Missing) -> LayerReport | Missing:
    """Error by layer of the int8 file: looked at anew, since verification does so only where it loses too much."""
    if ONNX not in manifest.files:
        return not_exported(place)
    if not set(QUANTIZED.values()) & manifest.files.keys():
        return not_quantized(manifest, place)
    if QUANTIZED["int8"] not in manifest.files:
        return Missing("Error by layer is looked at in int8 files alone.")
    if isinstance(rows, Missing):
        return rows
    found = error_by_layer(folder, [], manifest, rows.inputs, lambda *_: None)
    if found.unknown is not None or not found.layers:
        return Missing(f"Error by layer is not known: {found.unknown or 'the file has no quantized layers'}.")
    return found


def _pictures(
    rows: KnownRows | Missing, results: ResultFacts | Missing, flips: FlipFacts | Missing
) -> dict[int, NDArray[np.uint8]]:
    """Those that the page shows by their row."""
    wanted = [] if isinstance(results, Missing) else [each.row for each in results.mistakes]
    wanted += [] if isinstance(flips, Missing) else [each.row for each in flips.shown]
    if isinstance(rows, Missing):
        return {}
    return {row: picture for row in dict.fromkeys(wanted) if (picture := rows.picture(row)) is not None}
