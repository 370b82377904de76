"""``toolkit predict``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from toolkit.cli.answer_tables import SHOWN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from toolkit.feeding import Given
    from toolkit.predictor import PredictionBatch, Predictor


def predict(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", help="PNG, JPEG, .npy, .npz or idx files; - reads standard input."),
    ] = None,
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
    min_confidence: Annotated[
        float | None,
        typer.Option(
            "--min-confidence",
            metavar="P",
            min=0,
            max=1,
            help="Answer 'unsure' (label -1) where the best class has less probability, 0 to 1.",
        ),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="In place of FILE: a folder of pictures, or one .npy, .npz or idx file, of any number of rows.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="With --batch: where each row's answer goes, as .csv, .jsonl or .npy (labels; -1 unsure, -2 none).",
        ),
    ] = None,
    top: Annotated[int | None, typer.Option(help="Show this many classes a row.  [default: 1]", min=1)] = None,
    show_all: Annotated[
        bool, typer.Option("--all", help=f"A line for each row, however many; else {SHOWN} and a summary.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line for each row, with all outputs by name.")
    ] = False,
) -> None:
    """Say what the model makes of pictures or of rows of numbers.

    Rows come as .npz with an array for each input, or as .npy or idx for a model of one. A picture is turned upright,
    laid on white, made grey or RGB and resized as the model takes it; for Fashion-MNIST models it is also inverted if
    its border is bright, and centred on black. A note on stderr says so. Standard input may be any of the file kinds,
    or 784 bytes an image for 28x28 models. Models without class names show their outputs. A file that cannot be read
    is reported and the others go on; the exit code is then that of the first error.

    With --batch rows are read, answered and written some at a time, so memory does not grow with their number. The
    pictures of a folder and its sub-folders come sorted by name, and one that cannot be read keeps its place.

    \b
    Example:
        toolkit predict exported/fashion-mnist/samples/*.png --top 3
        toolkit predict --batch photos --min-confidence 0.6 -o answers.csv
    """
    files = files or []
    _check_options(files, batch, output, top, show_all=show_all, json=json)
    if model is None:
        from toolkit.cli.defaults import default_artifact

        model = default_artifact()
    from toolkit.predictor import Predictor, RuntimeSettings

    settings = RuntimeSettings(threads=threads)
    predictor = Predictor(model, kind=kind, settings=settings, min_confidence=min_confidence)
    if batch is not None:
        from toolkit.cli.predict_batch import predict_batch

        raise typer.Exit(predict_batch(predictor, batch, output, json=json))
    if top is not None:
        _check_top(predictor, top)
    failures: list[int] = []
    answers = _answers(predictor, files, failures)
    if json:
        for file, found in answers:
            _print_lines(file, found)
    else:
        from toolkit.cli.answer_tables import print_classes, print_outputs

        if predictor.class_names is None:
            print_outputs(predictor, answers, show_all=show_all)
        else:
            print_classes(predictor, predictor.class_names, answers, top or 1, show_all=show_all)
    if failures:
        raise typer.Exit(failures[0])


def _check_options(
    files: list[str], batch: str | None, output: Path | None, top: int | None, *, show_all: bool, json: bool
) -> None:
    from toolkit.errors import UsageError

    if batch is None and not files:
        raise UsageError("got no FILE; name pictures or files of rows, or a folder of any size with --batch")
    if batch is not None and files:
        raise UsageError(f"got {files[0]} besides --batch {batch}, which stands alone; drop one of them")
    if batch == "-":
        raise UsageError("--batch reads no standard input; name a file or folder, or drop --batch")
    if output is not None and batch is None:
        raise UsageError("--output goes with --batch; name the file or folder there, or take --json > FILE")
    if batch is not None and (show_all or top is not None):
        raise UsageError("--all and --top do nothing with --batch; take --json or --output for each row")
    if json and show_all:
        raise UsageError("--all does nothing with --json, which always gives every image; drop one of them")
    if json and top is not None:
        raise UsageError("--top does nothing with --json, which gives all probabilities; drop one of them")
    if files.count("-") > 1:
        raise UsageError("standard input (-) is named twice, but can be read once; name it once")


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
    from toolkit.cli.console import note
    from toolkit.errors import InputError, ToolkitError
    from toolkit.feeding import read_given
    from toolkit.streaming.answers import check_finite

    for path in paths:
        try:
            file = read_given(path, predictor, _standard_input() if path == "-" else None)
        except ToolkitError as error:
            note(f"error: {error}")
            failures.append(error.exit_code)
            continue
        for line in file.notes:
            note(line)
        try:
            batch = predictor.predict_batch(file.rows)
        except InputError as error:
            note(f"error: {file.name}: {error}")
            failures.append(error.exit_code)
            continue
        check_finite(predictor, batch)
        yield file, batch


def _standard_input() -> bytes:
    from toolkit.errors import UsageError
    from toolkit.images import MAX_BYTES

    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("- reads from standard input, which is a terminal; pipe a file into it")
    return sys.stdin.buffer.read(MAX_BYTES + 1)


def _print_lines(file: "Given", batch: "PredictionBatch") -> None:
    from toolkit.streaming.answers import Answered
    from toolkit.streaming.writing import json_lines

    sys.stdout.writelines(json_lines(Answered([file.name] * len(batch), range(len(batch)), batch, {})))
    sys.stdout.flush()  # whoever reads the pipe can work on this file while the next is read
