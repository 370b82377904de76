"""``toolkit predict``."""

import json as json_text
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from toolkit.feeding import Given
    from toolkit.predictor import PredictionBatch, Predictor

SHOWN = 20  # rows of the table, before a summary says the rest
NAME_WIDTH = 40  # of a file in the table: the end of a longer path, so that the other columns have room
AT_ONCE = 2_000  # rows in one run of the model, and their bytes: bounds the memory that a long file takes
BYTES_AT_ONCE = 64_000_000
FIRST_VALUES = 4  # of an output in the table


def predict(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE", help="PNG, JPEG, .npy, .npz or (28x28 pixels) idx files; - reads standard input."
        ),
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            "--model", "-m", help="Artifact folder or .onnx file.  [default: exported/mlp, else the reference]"
        ),
    ] = None,
    kind: Annotated[
        Literal["int8", "int4", "float16", "float32"] | None,
        typer.Option(help="Which model of the artifact.  [default: the quantized one if it is there]"),
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads that one run may use.", min=1)] = 1,
    top: Annotated[int | None, typer.Option(help="Show this many classes a row.  [default: 1]", min=1)] = None,
    show_all: Annotated[
        bool, typer.Option("--all", help=f"A line for each row, however many; else {SHOWN} and a summary.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line for each row, with all outputs by name.")
    ] = False,
) -> None:
    """Say what the model makes of pictures or of rows of numbers.

    Rows come as .npz with an array for each input, or as .npy for a model of one. A picture is turned upright, laid on
    white, made grey or RGB and resized as the model takes it; for Fashion-MNIST models it is also inverted if its
    border is bright, and centred on black. A note on stderr says so. Standard input may be any of the file kinds, or
    784 bytes an image for 28x28 models. Models without class names show their outputs. A file that cannot be read is
    reported and the others go on; the exit code is then that of the first error.

    \b
    Example:
        toolkit predict exported/fashion-mnist/samples/*.png --top 3
    """
    from toolkit.errors import UsageError

    if json and show_all:
        raise UsageError("--all does nothing with --json, which always gives every image; drop one of them")
    if json and top is not None:
        raise UsageError("--top does nothing with --json, which gives all probabilities; drop one of them")
    if files.count("-") > 1:
        raise UsageError("standard input (-) is named twice, but can be read once; name it once")
    if model is None:
        from toolkit.cli.defaults import default_artifact

        model = default_artifact()
    from toolkit.predictor import Predictor, RuntimeSettings

    predictor = Predictor(model, kind=kind, settings=RuntimeSettings(threads=threads))
    if top is not None:
        _check_top(predictor, top)
    failures: list[int] = []
    answers = _answers(predictor, files, failures)
    if json:
        for file, batch in answers:
            _print_lines(file, batch)
    elif predictor.class_names is None:
        _print_outputs(predictor, answers, show_all=show_all)
    else:
        _print_people(predictor, predictor.class_names, answers, top or 1, show_all=show_all)
    if failures:
        raise typer.Exit(failures[0])


def _check_top(predictor: "Predictor", top: int) -> None:
    from toolkit.errors import UsageError

    if predictor.class_names is None:
        raise UsageError(
            f"--top ranks classes, but {predictor.file.path} names none (it gives "
            f"{', '.join(predictor.output_names)}); drop it, or export a classifier with --classes"
        )
    if top > len(predictor.class_names):
        raise UsageError(f"--top is {top}, but the model knows {len(predictor.class_names)} classes; give at most that")


def _answers(
    predictor: "Predictor", paths: list[str], failures: list[int]
) -> "Iterator[tuple[Given, PredictionBatch]]":
    """Each readable file with its predictions; of the others the error line is printed and the code kept."""
    import numpy as np

    from toolkit.cli.console import note
    from toolkit.errors import InputError, ModelError, ToolkitError
    from toolkit.feeding import read_given
    from toolkit.predictor import PredictionBatch

    for path in paths:
        try:
            file = read_given(path, predictor, _standard_input() if path == "-" else None)
        except ToolkitError as error:
            note(f"error: {error}")
            failures.append(error.exit_code)
            continue
        for line in file.notes:
            note(line)
        row_bytes = sum(array.nbytes for array in file.rows.values()) // max(file.count, 1)
        step = max(1, min(AT_ONCE, BYTES_AT_ONCE // max(row_bytes, 1)))
        try:
            parts = [
                predictor.predict_batch({name: array[start : start + step] for name, array in file.rows.items()})
                for start in range(0, max(file.count, 1), step)
            ]
        except InputError as error:
            note(f"error: {file.name}: {error}")
            failures.append(error.exit_code)
            continue
        batch = PredictionBatch.joined(parts)
        for array in batch.outputs.values():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise ModelError(
                    f"{predictor.file.path} answers with NaN or infinity; the model is broken: export it again"
                )
        yield file, batch


def _standard_input() -> bytes:
    from toolkit.errors import UsageError
    from toolkit.images import MAX_BYTES

    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("- reads from standard input, which is a terminal; pipe a file into it")
    return sys.stdin.buffer.read(MAX_BYTES + 1)


def _print_lines(file: "Given", batch: "PredictionBatch") -> None:
    for index, answer in enumerate(batch):
        line = {
            "file": file.name,
            "index": index,
            "label": answer.label,
            "class_name": answer.class_name,
            "confidence": answer.confidence,
            "margin": answer.margin,
            "probabilities": None if answer.label is None else answer.probabilities.tolist(),
        }
        if answer.logits is not None:
            line["logits"] = answer.logits.tolist()
        line["outputs"] = {name: array.tolist() for name, array in answer.outputs.items()}
        sys.stdout.write(json_text.dumps(line, allow_nan=False) + "\n")
    sys.stdout.flush()  # whoever reads the pipe can work on this file while the next is read


def _shown(name: str) -> str:
    """A file's name for the table: its end if it is long, and nothing in it that stdout or rich would trip over."""
    encoding = sys.stdout.encoding or "utf-8"
    name = name.encode(encoding, "backslashreplace").decode(encoding)
    return name if len(name) <= NAME_WIDTH else f"...{name[3 - NAME_WIDTH :]}"


def _print_people(
    predictor: "Predictor",
    names: tuple[str, ...],
    answers: "Iterator[tuple[Given, PredictionBatch]]",
    top: int,
    *,
    show_all: bool,
) -> None:
    import numpy as np

    from toolkit.cli.console import print_table

    rows: list[list[str]] = []
    found: list[PredictionBatch] = []
    for file, batch in answers:
        found.append(batch)
        wanted = len(batch) if show_all else max(0, SHOWN - len(rows))
        for name, answer in zip(file.names[:wanted], batch, strict=False):
            order = np.argsort(-answer.probabilities, kind="stable")[1:top]
            others = ", ".join(f"{names[label]} {answer.probabilities[label]:.4f}" for label in order)
            shown = _shown(name)
            row = [shown, str(answer.label), names[answer.label], f"{answer.confidence:.4f}"]
            rows.append([*row, others] if top > 1 else row)
    if not found:
        return  # each file's error is said
    columns = ["file", "label", "class", "confidence", *(["then"] if top > 1 else [])]
    title = f"{predictor.file.path} ({predictor.file.kind})"
    total = sum(map(len, found))
    print_table(title, columns, rows)
    if total <= len(rows):
        return
    probabilities = np.concatenate([batch.probabilities for batch in found])
    labels, best = probabilities.argmax(axis=1), probabilities.max(axis=1)
    summary = [
        [names[label], f"{chosen.sum():,}", f"{chosen.mean():.1%}", f"{best[chosen].mean():.4f}"]
        for label in range(len(names))
        if (chosen := labels == label).any()
    ]
    typer.echo(f"... and {total - len(rows):,} more rows (--all shows each, --json gives each as a line)\n")
    print_table(
        f"All {total:,} rows",
        ("class", "rows", "share", "mean confidence"),
        summary,
    )


def _print_outputs(
    predictor: "Predictor", answers: "Iterator[tuple[Given, PredictionBatch]]", *, show_all: bool
) -> None:
    """What a model without classes says: each output of each row."""
    from toolkit.cli.console import print_table

    lines: list[list[str]] = []
    shown = total = 0
    for file, batch in answers:
        wanted = len(batch) if show_all else min(len(batch), max(0, SHOWN - shown))
        for name, answer in zip(file.names[:wanted], batch, strict=False):
            lines += [[_shown(name), output, *_described(array)] for output, array in answer.outputs.items()]
        shown, total = shown + wanted, total + len(batch)
    if total:
        columns = ("file", "output", "shape", "first values", "lowest", "highest")
        print_table(f"{predictor.file.path} ({predictor.file.kind})", columns, lines)
    if total > shown:
        typer.echo(f"... and {total - shown:,} more rows (--all shows each, --json gives each as a line)")


def _described(array: "NDArray[Any]") -> list[str]:
    shape = " x ".join(map(str, array.shape)) or "one number"
    if array.size == 0:
        return [shape, "none", "", ""]
    values = [f"{value:.6g}" for value in array.reshape(-1)[:FIRST_VALUES].astype(float)]
    more = ", ..." if array.size > FIRST_VALUES else ""
    return [shape, ", ".join(values) + more, f"{float(array.min()):.6g}", f"{float(array.max()):.6g}"]
