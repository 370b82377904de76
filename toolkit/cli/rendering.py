"""Training progress, verification tables and the closing summary, for people."""

from __future__ import annotations

import shlex
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from toolkit.cli.c_tables import print_c_targets
from toolkit.cli.console import note, print_table
from toolkit.verification.parity import VALUES, DecisionParity, ValueParity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from toolkit.artifact import Manifest
    from toolkit.training.history import Epoch, OnEpoch
    from toolkit.verification.layers import LayerReport
    from toolkit.verification.parity import Flip
    from toolkit.verification.report import KerasOutput, OutputReport, VerificationReport

__all__ = ["print_summary", "print_verification", "resumable", "summary", "training_progress"]


def _figures(epoch: Epoch) -> str:
    return (
        f"{epoch.network + ' ' if epoch.network else ''}epoch {epoch.number}/{epoch.epochs} loss {epoch.loss:.3f} "
        f"acc {epoch.accuracy:.4f}, validation loss {epoch.validation_loss:.3f} acc {epoch.validation_accuracy:.4f}"
    )


@contextmanager
def training_progress() -> Iterator[OnEpoch]:
    """A bar with the last epoch's figures and the time left on stderr; in a pipe, a line an epoch."""
    times: dict[str, tuple[float, int]] = {}  # of each network: when its first epoch here ended, and its number
    begun = time.monotonic()
    if not sys.stderr.isatty():

        def plain(epoch: Epoch) -> None:
            now = time.monotonic()
            first, number = times.setdefault(epoch.network, (now, epoch.number))
            # A resumed run's first epoch is not number 1; until a second one ends, the first tells what one takes.
            one = (now - first) / (epoch.number - number) if epoch.number > number else now - begun
            note(f"    {_figures(epoch)}, {one * (epoch.epochs - epoch.number):.0f} s left")

        yield plain
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(bar_width=8), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("starting", total=None)
        seen: set[str] = set()

        def advance(epoch: Epoch) -> None:
            if epoch.number == 1 and epoch.network in seen:  # another seed
                seen.clear()
            if epoch.network not in seen:
                seen.add(epoch.network)
                progress.start()
                progress.reset(task, total=epoch.epochs)
            progress.update(task, completed=epoch.number, total=epoch.epochs, description=_figures(epoch))
            if epoch.number == epoch.epochs:
                progress.refresh()
                progress.stop()  # what comes next is printed below the bar, not above it

        yield advance


@contextmanager
def resumable(output: Path) -> Iterator[None]:
    """Says how an interrupted training can go on, where there is something to go on from."""
    try:
        yield
    except KeyboardInterrupt:
        from toolkit.pipeline import run_folder_of

        if any(run_folder_of(output).glob("*/*/sums.json")):
            note("what was trained so far is kept: the same command with --resume goes on from there")
        raise


def print_verification(report: VerificationReport, *, flips: int = 0, to_stderr: bool = False) -> None:
    """The verification as tables: each output beside Keras, what failed, the first flips, what layers say."""
    for reference in report.reference:
        _print_output(report, reference, alone=len(report.reference) == 1, to_stderr=to_stderr)
    _print_cpus(report, to_stderr=to_stderr)
    if report.c is not None:
        print_c_targets(report.c, to_stderr=to_stderr)
    for line in dict.fromkeys(
        f"{file.name}: {output.name}: {text}"
        for file in report.files
        for output in file.outputs
        for text in output.notes
    ):
        note(f"note: {line}")
    for line in report.failures():
        note(f"failed: {line}")
    for file in report.files:
        for output in file.outputs:
            if flips and isinstance(output.parity, DecisionParity) and output.parity.flips:
                title = file.name if len(file.outputs) == 1 else f"{file.name}, {output.name}"
                names = report.class_names if output.task != "multilabel" else None
                _print_flips(title, output.parity.flips, flips, names, to_stderr=to_stderr)
        if file.divergence is not None:
            note(f"{file.name}: {file.divergence.finding}")
        if file.layers is not None:
            _print_layers(file.name, file.layers, to_stderr=to_stderr)


def _print_output(report: VerificationReport, reference: KerasOutput, *, alone: bool, to_stderr: bool) -> None:
    """One table for each output of the Keras model, with the columns that its task has."""
    values = reference.task == VALUES
    found = [(file, output) for file in report.files for output in file.outputs if output.of == reference.name]
    known = not values and reference.accuracy is not None
    columns = ["", *(["accuracy", "points"] if known else [])]
    columns += ["relative error", "SQNR, dB", "max diff", "of largest"] if values else ["", "max diff", "mean diff"]
    if not values:
        columns[columns.index("", 1)] = "labels as Keras"
    named = list(reference.metrics)
    columns += [each for name in named for each in (_short(name), "change")] + ["gates"]
    keras = ["Keras", *([f"{reference.accuracy:.2%}", ""] if known else [])]
    keras += [""] * (4 if values else 3) + [
        each for value in reference.metrics.values() for each in (f"{value:.4g}", "")
    ]
    rows = [[*keras, ""]] if known or named else []
    for file, output in found:
        label = file.name if len({each.name for each, _ in found}) == len(found) else f"{file.name} {output.name}"
        rows.append([label, *_figures_of(output, known=known)])
        for change in output.metrics:
            rows[-1] += [f"{change.exported:.4g}", f"{round(change.change, 4) + 0:+.2%}"]
        rows[-1].append("passed" if file.passes(output) else "FAILED")
    shown = "" if alone and reference.task == "classification" else f", output {reference.name} ({reference.task})"
    print_table(f"Verification on {report.data}{shown}", columns, rows, to_stderr=to_stderr)


def _figures_of(output: OutputReport, *, known: bool) -> list[str]:
    parity = output.parity
    if isinstance(parity, ValueParity):
        return [
            f"{parity.worst_relative_error:.2%}",
            f"{parity.sqnr_db:.1f}",
            f"{parity.max_abs:.1e}",
            f"{parity.scaled_max_abs:.1e}",
        ]
    figures = [_figure(parity.accuracy, ".2%"), _points(parity.accuracy_drop)] if known else []
    same = f"{parity.decisions - len(parity.flips):,} of {parity.decisions:,}"
    return [*figures, same, f"{parity.max_abs:.1e}", f"{parity.mean_abs:.1e}"]


def _points(drop: float | None) -> str:
    return "n/a" if drop is None else f"{round(-100 * drop, 2) + 0:+.2f}"  # + 0: never a "-0.00"


def _short(metric: str) -> str:
    return metric.rpartition(":")[2]


def _print_layers(name: str, found: LayerReport, *, to_stderr: bool) -> None:
    if found.unknown is not None:
        note(f"{name}: {found.finding}")
        return
    rows = [
        [
            layer.layer,
            layer.operator,
            _figure(layer.own_labels_changed, ".1%"),
            _figure(layer.own_sqnr_db, ".1f"),
            _figure(layer.own_weights_db, ".1f"),
            _figure(layer.own_input_db, ".1f"),
            _figure(layer.sqnr_db, ".1f"),
            _figure(layer.range_used, ".1%"),
            _figure(layer.clipped, ".2%"),
            _figure(layer.saturation_load, "d") + (f" of {layer.saturation_limit}" if layer.saturation_limit else ""),
        ]
        for layer in found.layers
    ]
    columns = [
        "",
        "operator",
        "labels",
        "alone, dB",
        "weights",
        "input",
        "so far, dB",
        "range used",
        "clipped",
        "pair load",
    ]
    print_table(f"{name}: error by layer, worst first, on {found.images:,} images", columns, rows, to_stderr=to_stderr)
    note(
        "labels: changed by this layer alone in int8; alone: signal to quantization noise of the answers then,\n"
        "and with its weights or its input alone; so far: of its output in the whole file"
    )
    note(found.finding)


def _figure(value: float | None, form: str) -> str:
    return "n/a" if value is None else format(value, form)


def _print_cpus(report: VerificationReport, *, to_stderr: bool) -> None:
    found = [(file, check) for file in report.files for check in file.cpus]
    if not found:
        return
    accurate = any(check.accuracy is not None for _, check in found)
    decided = any(check.labels_differ is not None for _, check in found)
    rows = []
    for file, check in found:
        same = None if check.labels_differ is None else check.images - check.labels_differ
        rows.append(
            [
                f"{file.name} on {check.where.cpu}",
                *([_figure(check.accuracy, ".2%")] if accurate else []),
                *(["n/a" if same is None else f"{same:,} of {check.images:,}"] if decided else []),
                f"{check.logits - check.logits_differ:,} of {check.logits:,}",
                f"{check.logits_max_abs:.1e}",
                f"{check.probabilities_max_abs:.1e}",
            ]
        )
    columns = ["", *(["accuracy"] if accurate else []), *(["labels as here"] if decided else [])]
    columns += (
        ["logits bit-equal", "max diff", "of probabilities"] if decided else ["bit-equal", "max diff", "of largest"]
    )
    print_table("On other CPUs (emulated), beside this machine", columns, rows, to_stderr=to_stderr)


def _print_flips(name: str, found: list[Flip], count: int, names: Sequence[str] | None, *, to_stderr: bool) -> None:
    surest = sorted(found, key=lambda flip: -flip.keras_margin)[:count]
    placed = any(flip.position is not None for flip in found)
    known = any(flip.true_label is not None for flip in found)

    def called(label: int | None) -> str:
        return "" if label is None else names[label] if names and label < len(names) else str(label)

    rows = [
        [
            f"#{flip.index}",
            *([str(flip.position)] if placed else []),
            *([called(flip.true_label)] if known else []),
            called(flip.keras_label),
            f"{flip.keras_margin:.3f}",
            called(flip.label),
            f"{flip.margin:.3f}",
        ]
        for flip in surest
    ]
    columns = ["row", *(["label"] if placed else []), *(["true class"] if known else [])]
    columns += ["Keras", "margin", "exported", "margin"]
    title = f"{name}: {len(found)} of its labels differ from Keras; where Keras was surest"
    print_table(title, columns, rows, to_stderr=to_stderr)


def summary(output: Path, manifest: Manifest, report: VerificationReport, timing: dict[str, Any]) -> dict[str, Any]:
    """What a whole run came to, as plain JSON values."""
    timed = {entry["name"]: entry["scenarios"]["single-stream"]["latency"] for entry in timing["files"]}
    return {
        "artifact": str(output),
        "keras_accuracy": report.keras_accuracy,
        "training": manifest.to_json()["training"],
        "files": {
            file.name: {
                **_merit(file.outputs[0]),
                "bytes": manifest.files[file.name].bytes,
                "latency_p50_us": timed[file.name]["p50_ns"] / 1000,
                "latency_p99_us": timed[file.name]["p99_ns"] / 1000,
            }
            for file in report.files
        },
        "host": timing["host"],
    }


def _merit(output: OutputReport) -> dict[str, Any]:
    """What an output is worth, in the figures of its task."""
    parity = output.parity
    if isinstance(parity, ValueParity):
        return {"relative_error": parity.worst_relative_error}
    return {"accuracy": parity.accuracy, "agreement": parity.agreement}


def print_summary(output: Path, manifest: Manifest, report: VerificationReport, timing: dict[str, Any]) -> None:
    """The end of a whole run: what each form of the model is worth, where it is and what to do next."""
    figures = summary(output, manifest, report, timing)
    keras_bytes = manifest.files["model.keras"].bytes
    values = report.reference[0].task == VALUES
    keras = "" if values else _figure(report.keras_accuracy, ".2%")
    rows = [["model.keras (Keras)", keras, f"{keras_bytes / 1000:,.0f} kB", "", ""]]
    for name, file in figures["files"].items():
        rows.append(
            [
                f"{name} ({manifest.files[name].kind})",
                _figure(file["relative_error"] if values else file["accuracy"], ".2%"),
                f"{file['bytes'] / 1000:,.0f} kB",
                f"{file['latency_p50_us']:.1f} us",
                f"{file['latency_p99_us']:.1f} us",
            ]
        )
    columns = ["", "relative error" if values else "test accuracy", "size", "one image, p50", "p99"]
    print_table(f"{output} on {timing['host']['cpu_model'] or 'this CPU'}, one thread", columns, rows)
    quoted = shlex.quote(str(output))
    print(f"Everything is in {output}. Next:\n    toolkit predict -m {quoted} {quoted}/samples/*.png")  # noqa: T201
