"""Options on a model and data of one's own."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from toolkit.pipeline import OwnData, RawInput

__all__ = [
    "Calibration",
    "Classes",
    "InputOffset",
    "InputScale",
    "MaxMetricChange",
    "MaxRelativeError",
    "Metrics",
    "Tasks",
    "TestRows",
    "number",
    "own_data",
    "raw_input",
    "tasks_from",
]

_ROWS = ".npz, .npy, idx, a folder of images by class, or a saved TensorFlow dataset"

Calibration = Annotated[
    Path | None,
    typer.Option(metavar="DATA", help=f"Rows of what the model was trained on, for static int8: {_ROWS}."),
]
TestRows = Annotated[
    Path | None,
    typer.Option("--test", metavar="DATA", help=f"Rows to verify on, with or without the right answers: {_ROWS}."),
]
Classes = Annotated[
    Path | None, typer.Option(metavar="NAMES.txt", help="Names of the classes, one a line; predictions then have them.")
]
Tasks = Annotated[
    list[str] | None,
    typer.Option(
        "--task",
        metavar="[OUTPUT=]TASK",
        help="What an output is, if not what it looks like: classification, binary, multilabel or values; repeatable.",
    ),
]
Metrics = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        metavar="[OUTPUT=]NAME",
        help="Also judge by mae, mse, rmse, r2, or MODULE:FUNCTION of your own, of (targets, answers[, inputs]); "
        "repeatable.",
    ),
]
InputScale = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBER",
        help="The file takes raw integers, and the model gets them times this, such as 1/127.5.",
    ),
]
InputOffset = Annotated[str | None, typer.Option(metavar="NUMBER", help="... and plus this, such as -1.")]
MaxRelativeError = Annotated[
    float | None,
    typer.Option(help="Gate, int8, outputs that are values: largest relative error to Keras.  [default: 0.1]"),
]
MaxMetricChange = Annotated[
    float | None, typer.Option(help="Gate: most that a metric may change for the worse, as a share.  [default: 0.05]")
]


def number(text: str | None, option: str) -> float | None:
    """A number or a fraction, such as 1/255.

    Raises:
        UsageError: it is neither.
    """
    from toolkit.errors import UsageError

    if text is None:
        return None
    try:
        above, slash, below = text.partition("/")
        return float(above) / float(below) if slash else float(text)
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(f"{option} is {text!r}, expected a number or a fraction such as 1/255") from error


def raw_input(dtype: str | None, scale: str | None, offset: str | None) -> "RawInput":
    """What the options say of the file's input.

    Raises:
        UsageError: a value that makes no sense, or an option that would do nothing.
    """
    from toolkit.pipeline import RawInput

    return RawInput(dtype, number(scale, "--input-scale"), number(offset, "--input-offset"))


def own_data(calibration: Path | None, test: Path | None, classes: Path | None, fashion: Path | None) -> "OwnData":
    """The rows that the options name.

    Raises:
        UsageError: an option that would do nothing.
    """
    from toolkit.datasets import read_class_names
    from toolkit.errors import UsageError
    from toolkit.pipeline import OwnData

    if fashion is not None and (calibration or test):
        raise UsageError("--data names Fashion-MNIST, which is not used with --calibration or --test; drop it")
    return OwnData(calibration, test, None if classes is None else read_class_names(classes), fashion)


def tasks_from(texts: list[str] | None) -> dict[str, str]:
    """Tasks by output name; "" stands for all that are not named.

    Raises:
        UsageError: one output is named twice.
    """
    from toolkit.errors import UsageError

    found: dict[str, Any] = {}
    for text in texts or []:
        output, _, task = text.rpartition("=")
        if output in found:
            raise UsageError(f"--task is given twice for {output or 'all outputs'}; drop one of them")
        found[output] = task
    return found
