"""Options that several commands share, so that each has one name and one help text."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = [
    "BatchSize",
    "CalibrationImages",
    "DataFolder",
    "Dropout",
    "EarlyStopping",
    "Epochs",
    "Hidden",
    "InputDtype",
    "Json",
    "KeepFailed",
    "L2",
    "LearningRate",
    "MaxAccuracyDrop",
    "MaxDifference",
    "MinAgreement",
    "Optimizer",
    "PerChannel",
    "Portable",
    "Quantize",
    "Seed",
    "export_options_from",
    "limits_from",
    "recipe_from",
]

Json = Annotated[bool, typer.Option("--json", help="Machine output on stdout alone; people's output goes to stderr.")]
DataFolder = Annotated[
    Path | None,
    typer.Option("--data", help="Folder with the four Fashion-MNIST files.  [default: found or fetched]"),
]
Seed = Annotated[int, typer.Option(help="Same seed, same machine: same weights.", min=0, max=2**32 - 1)]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training images.  [default: 40]")]
BatchSize = Annotated[int | None, typer.Option(help="Images a step.  [default: 256]")]
Optimizer = Annotated[str | None, typer.Option(help="sgd (as in the notebook), adam or adamw.  [default: adamw]")]
LearningRate = Annotated[float | None, typer.Option(help="At the start, then down a cosine.  [default: 0.002]")]
Hidden = Annotated[str | None, typer.Option(help="Neurons of each hidden layer.  [default: 300,100]")]
Dropout = Annotated[float | None, typer.Option(help="Share of hidden outputs dropped in training.  [default: 0.3]")]
L2 = Annotated[float | None, typer.Option("--l2", help="L2 penalty on hidden weights.  [default: 0]")]
EarlyStopping = Annotated[
    int | None,
    typer.Option(help="Stop after this many epochs without a better validation loss; 0: never.  [default: 0]"),
]
MaxDifference = Annotated[
    float | None, typer.Option(help="Gate, float32: largest difference of a probability to Keras.  [default: 1e-05]")
]
MinAgreement = Annotated[
    float | None, typer.Option(help="Gate, int8: least share of labels equal to Keras'.  [default: 0.98]")
]
MaxAccuracyDrop = Annotated[
    float | None, typer.Option(help="Gate, int8: most accuracy lost (0.005 is half a point).  [default: 0.005]")
]
Quantize = Annotated[
    str | None,
    typer.Option(
        "--quantize",
        metavar="[static|dynamic]",
        help="Also write model.int8.onnx: static (calibrated, the default) or dynamic; none: float32 alone.",
    ),
]
PerChannel = Annotated[
    bool, typer.Option("--per-channel", help="One weight scale an output channel, in the int8 file.")
]
Portable = Annotated[
    bool,
    typer.Option(
        "--portable/--no-portable",
        help="Weight scales with which int8 sums are the same on every CPU, or the finest that 8 bits allow.",
    ),
]
CalibrationImages = Annotated[
    int | None, typer.Option(help="Training images that static calibration sees.  [default: 2000]")
]
InputDtype = Annotated[
    str, typer.Option("--input", metavar="uint8|float32", help="Raw pixels, or the Keras model's own input.")
]
KeepFailed = Annotated[bool, typer.Option("--keep-failed", help="Keep what failed a gate beside, as NAME.failed.")]


def recipe_from(hidden: str | None, **settings: Any) -> Any:
    """The default recipe with what the command line gives instead.

    Raises:
        UsageError: a setting that makes no sense.
    """
    from toolkit.errors import UsageError
    from toolkit.training.recipes import RECIPES

    sizes = None
    if hidden is not None:
        try:
            sizes = tuple(int(part) for part in hidden.split(","))
        except ValueError as error:
            raise UsageError(f"--hidden is {hidden!r}, expected layer sizes with commas, such as 300,100") from error
    return RECIPES["default"].override(hidden=sizes, **settings)


def limits_from(max_difference: float | None, min_agreement: float | None, max_accuracy_drop: float | None) -> Any:
    """The gates' limits, with what the command line gives instead of the defaults.

    Raises:
        UsageError: a limit that is no share.
    """
    from toolkit.verification.gates import Limits

    given = {
        "float32_max_abs": max_difference,
        "int8_min_agreement": min_agreement,
        "int8_max_accuracy_drop": max_accuracy_drop,
    }
    return dataclasses.replace(Limits(), **{name: value for name, value in given.items() if value is not None})


def export_options_from(
    quantize: str | None,
    *,
    per_channel: bool,
    portable: bool,
    calibration_images: int | None,
    input_dtype: str,
    max_difference: float | None,
    min_agreement: float | None,
    max_accuracy_drop: float | None,
    keep_failed: bool,
) -> Any:
    """What to export, as the command line gives it.

    Raises:
        UsageError: a value that makes no sense, or an option that would do nothing.
    """
    from toolkit.conversion.recipe import QuantizationRecipe
    from toolkit.errors import UsageError
    from toolkit.pipeline import ExportOptions

    if input_dtype not in ("uint8", "float32"):
        raise UsageError(f"--input is {input_dtype!r}, expected uint8 or float32")
    if quantize == "none":
        quantize = None
    idle = {
        "--per-channel": per_channel,
        "--no-portable": not portable,
        "--calibration-images": calibration_images is not None,
        "--min-agreement": min_agreement is not None,
        "--max-accuracy-drop": max_accuracy_drop is not None,
    }
    if quantize is None and any(idle.values()):
        names = ", ".join(name for name, given in idle.items() if given)
        raise UsageError(f"without --quantize, {names} would do nothing; add --quantize, or drop it")
    if quantize == "dynamic" and calibration_images is not None:
        raise UsageError("--calibration-images does nothing with --quantize dynamic, which needs no calibration")
    recipe = None
    if quantize is not None:
        recipe = QuantizationRecipe(method=quantize, per_channel=per_channel, portable=portable)
        if calibration_images is not None:
            recipe = dataclasses.replace(recipe, calibration_images=calibration_images)
    limits = limits_from(max_difference, min_agreement, max_accuracy_drop)
    return ExportOptions(recipe, input_dtype, limits, keep_failed)
