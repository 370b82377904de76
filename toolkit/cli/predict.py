"""``toolkit predict``."""

import json as json_text
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from toolkit.images import ImageFile
    from toolkit.predictor import PredictionBatch, Predictor

SHOWN = 20  # rows of the table, before a summary says the rest
NAME_WIDTH = 40  # of a file in the table: the end of a longer path, so that the other columns have room
AT_ONCE = 2_000  # images in one run of the model: bounds the memory that a long file takes


def predict(
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE", help="PNG, JPEG, .npy or idx files; - reads standard input."),
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
    top: Annotated[int | None, typer.Option(help="Show this many classes an image.  [default: 1]", min=1)] = None,
    show_all: Annotated[
        bool, typer.Option("--all", help=f"A row for each image, however many; else {SHOWN} and a summary.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line for each image, with all probabilities (and logits).")
    ] = False,
) -> None:
    """Say what is in the images.

    A 28x28 grey picture is taken as it is. Any other is turned upright, laid on white, made grey, inverted if its
    border is bright, and fitted into 28x28; a note on stderr says so. Standard input may be any of the file
    kinds, or raw pixels: 784 bytes an image. A file that cannot be read is reported and the others go on; the
    exit code is then that of the first error.

    \b
    Example:
        toolkit predict exported/fashion-mnist/samples/*.png --top 3
    """
    from toolkit.errors import UsageError

    if json and show_all:
        raise UsageError("--all does nothing with --json, which always gives every image; drop one of them")
    if json and top is not None:
        raise UsageError("--top does nothing with --json, which gives all probabilities; drop one of them")
    if images.count("-") > 1:
        raise UsageError("standard input (-) is named twice, but can be read once; name it once")
    if model is None:
        from toolkit.cli.defaults import default_artifact

        model = default_artifact()
    predictor = _open(model, kind, threads)
    if top is not None and top > predictor.classes:
        raise UsageError(f"--top is {top}, but the model knows {predictor.classes} classes; give at most that")
    failures: list[int] = []
    answers = _answers(predictor, images, failures)
    if json:
        for file, batch in answers:
            _print_lines(file, batch)
    else:
        _print_people(predictor, answers, top or 1, show_all=show_all)
    if failures:
        raise typer.Exit(failures[0])


def _open(model: Path, kind: str | None, threads: int) -> "Predictor":
    from toolkit.errors import ModelError
    from toolkit.predictor import Predictor

    predictor = Predictor(model, kind=kind, threads=threads)
    if predictor.input_dtype != "uint8" or predictor.input_shape != (28, 28):
        raise ModelError(
            f"{predictor.file.path} takes {predictor.input_dtype} of shape (n, "
            f"{', '.join(map(str, predictor.input_shape))}), expected uint8 pixels (n, 28, 28); "
            "export it with --input uint8"
        )
    return predictor


def _answers(
    predictor: "Predictor", paths: list[str], failures: list[int]
) -> "Iterator[tuple[ImageFile, PredictionBatch]]":
    """Each readable file with its predictions; of the others the error line is printed and the code kept."""
    import numpy as np

    from toolkit.cli.console import note
    from toolkit.errors import ModelError, ToolkitError
    from toolkit.images import read_images
    from toolkit.predictor import PredictionBatch

    for path in paths:
        try:
            file = read_images(path, _standard_input() if path == "-" else None)
        except ToolkitError as error:
            note(f"error: {error}")
            failures.append(error.exit_code)
            continue
        for line in file.notes:
            note(line)
        parts = [
            predictor.predict_batch(file.images[start : start + AT_ONCE])
            for start in range(0, max(len(file.images), 1), AT_ONCE)
        ]
        batch = PredictionBatch.joined(parts)
        if not np.isfinite(batch.probabilities).all():
            raise ModelError(f"{predictor.file.path} answers with NaN; the model is broken: export it again")
        yield file, batch


def _standard_input() -> bytes:
    from toolkit.errors import UsageError
    from toolkit.images import MAX_BYTES

    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("- reads an image from standard input, which is a terminal; pipe a file into it")
    return sys.stdin.buffer.read(MAX_BYTES + 1)


def _print_lines(file: "ImageFile", batch: "PredictionBatch") -> None:
    for index, answer in enumerate(batch):
        line = {
            "file": file.name,
            "index": index,
            "label": answer.label,
            "class_name": answer.class_name,
            "probability": answer.probability,
            "probabilities": answer.probabilities.tolist(),
        }
        if answer.logits is not None:
            line["logits"] = answer.logits.tolist()
        sys.stdout.write(json_text.dumps(line, allow_nan=False) + "\n")
    sys.stdout.flush()  # whoever reads the pipe can work on this file while the next is read


def _shown(name: str) -> str:
    """A file's name for the table: its end if it is long, and nothing in it that stdout or rich would trip over."""
    encoding = sys.stdout.encoding or "utf-8"
    name = name.encode(encoding, "backslashreplace").decode(encoding)
    return name if len(name) <= NAME_WIDTH else f"...{name[3 - NAME_WIDTH :]}"


def _print_people(
    predictor: "Predictor",
    answers: "Iterator[tuple[ImageFile, PredictionBatch]]",
    top: int,
    *,
    show_all: bool,
) -> None:
    import numpy as np

    from toolkit.cli.console import print_table

    names = predictor.class_names or tuple(f"class {label}" for label in range(predictor.classes))
    rows: list[list[str]] = []
    found: list[PredictionBatch] = []
    for file, batch in answers:
        found.append(batch)
        wanted = len(batch) if show_all else max(0, SHOWN - len(rows))
        for name, answer in zip(file.names[:wanted], batch, strict=False):
            order = np.argsort(-answer.probabilities, kind="stable")[1:top]
            others = ", ".join(f"{names[label]} {answer.probabilities[label]:.4f}" for label in order)
            shown = _shown(name)
            row = [shown, str(answer.label), names[answer.label], f"{answer.probability:.4f}"]
            rows.append([*row, others] if top > 1 else row)
    if not found:
        return  # each file's error is said
    columns = ["file", "label", "class", "probability", *(["then"] if top > 1 else [])]
    title = f"{predictor.file.path} ({predictor.file.kind})"
    total = sum(map(len, found))
    print_table(title, columns, rows)
    if total <= len(rows):
        return
    probabilities = np.concatenate([batch.probabilities for batch in found])
    labels, best = probabilities.argmax(axis=1), probabilities.max(axis=1)
    summary = [
        [names[label], f"{chosen.sum():,}", f"{chosen.mean():.1%}", f"{best[chosen].mean():.4f}"]
        for label in range(predictor.classes)
        if (chosen := labels == label).any()
    ]
    typer.echo(f"... and {total - len(rows):,} more images (--all shows each, --json gives each as a line)\n")
    print_table(
        f"All {total:,} images",
        ("class", "images", "share", "mean probability"),
        summary,
    )
