"""Options that several commands share, so that each has one name and one help text."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = [
    "BatchSize",
    "BiasCorrection",
    "CalibrationImages",
    "CalibrationMethod",
    "Custom",
    "DataFolder",
    "Dropout",
    "EarlyStopping",
    "Epochs",
    "Hidden",
    "InputDtype",
    "Json",
    "KeepFailed",
    "KeepFloat",
    "L2",
    "LearningRate",
    "MaxAccuracyDrop",
    "MaxDifference",
    "MinAgreement",
    "Optimizer",
    "Output",
    "PerChannel",
    "Percentile",
    "Portable",
    "QuantizationAware",
    "Quantize",
    "RecipeName",
    "ReduceRange",
    "Resume",
    "SaveTeachers",
    "Seed",
    "Seeds",
    "Set",
    "Show",
    "Teacher",
    "Unsafe",
    "export_options_from",
    "folder_and_output",
    "limits_from",
    "recipe_from",
    "recipe_of_quantization",
    "seeds_from",
]

_OUTPUTS = ("probabilities", "logits", "both")

Json = Annotated[bool, typer.Option("--json", help="Machine output on stdout alone; people's output goes to stderr.")]
DataFolder = Annotated[
    Path | None,
    typer.Option("--data", help="Folder with the four Fashion-MNIST files.  [default: found or fetched]"),
]
Seed = Annotated[int, typer.Option(help="Same seed, same machine: same weights.", min=0, max=2**32 - 1)]
Seeds = Annotated[
    int, typer.Option(help="Train with so many seeds from --seed on; the best on validation is taken.", min=1, max=100)
]
RecipeName = Annotated[
    str,
    typer.Option(
        "--recipe",
        metavar="NAME|list|MANIFEST",
        help="How to train: a named recipe, or that of an artifact, by its manifest.json. list: show the names.",
    ),
]
Show = Annotated[bool, typer.Option("--show", help="Print the recipe with all its settings, and train nothing.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Another value for any field of the recipe (--show lists them); repeatable.",
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with this artifact's interrupted training: the same weights result.")
]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training images.  [default: the recipe's]")]
BatchSize = Annotated[int | None, typer.Option(help="Images a step.  [default: the recipe's]")]
Optimizer = Annotated[
    str | None, typer.Option(help="sgd (as in the notebook), adam, adamw or muon.  [default: the recipe's]")
]
LearningRate = Annotated[float | None, typer.Option(help="At its highest.  [default: the recipe's]")]
Hidden = Annotated[str | None, typer.Option(help="Neurons of each hidden layer.  [default: 300,100]")]
Dropout = Annotated[
    float | None, typer.Option(help="Share of hidden outputs dropped in training.  [default: the recipe's]")
]
L2 = Annotated[float | None, typer.Option("--l2", help="L2 penalty on hidden weights.  [default: the recipe's]")]
EarlyStopping = Annotated[
    int | None,
    typer.Option(
        help="Stop after this many epochs without a better validation loss; 0: never.  [default: the recipe's]"
    ),
]
Teacher = Annotated[
    list[str] | None,
    typer.Option(
        "--teacher",
        metavar="FILE",
        help="Learn from this .keras model too, instead of teachers trained for it; repeatable.",
    ),
]
QuantizationAware = Annotated[
    str | None,
    typer.Option(
        "--quantization-aware",
        metavar="int4|none",
        help="At the end, train on with weights rounded as an int4 file's, and save these.  [default: the recipe's]",
    ),
]
SaveTeachers = Annotated[
    Path | None,
    typer.Option("--save-teachers", metavar="FOLDER", help="Keep the teachers that were trained, for --teacher."),
]
MaxDifference = Annotated[
    float | None,
    typer.Option(
        help="Gate, float32: largest difference to Keras, of values as a share of the largest.  "
        "[default: 1e-05, of values 1e-04]"
    ),
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
        metavar="[static|dynamic|int4|float16]",
        help="Also write a smaller file: int8, static (calibrated, the default) or dynamic; int4 weights; float16. "
        "none: float32 alone.",
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
ReduceRange = Annotated[
    bool, typer.Option("--reduce-range", help="7-bit weights, the usual cure against saturation, instead of portable.")
]
CalibrationMethod = Annotated[
    str | None,
    typer.Option(
        metavar="minmax|entropy|percentile",
        help="How static ranges follow from what calibration sees.  [default: minmax]",
    ),
]
Percentile = Annotated[
    float | None, typer.Option(help="Percentage of values inside the range, for percentile.  [default: 99.99]")
]
BiasCorrection = Annotated[
    bool,
    typer.Option(
        "--bias-correction/--no-bias-correction",
        help="Take back in each bias what rounding the weights does to the layer's output on average (static int8).",
    ),
]
KeepFloat = Annotated[
    list[str] | None,
    typer.Option("--keep-float", "--exclude", metavar="LAYER", help="Leave this Keras layer in float; repeatable."),
]
Output = Annotated[
    list[str] | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FOLDER|logits|probabilities|both",
        help="Artifact folder to write; or what the model shall give; or both options (a folder of such a name: "
        "./both).",
    ),
]
CalibrationImages = Annotated[
    int | None, typer.Option(help="Training images that static calibration sees.  [default: 2000]")
]
InputDtype = Annotated[
    str | None,
    typer.Option(
        "--input",
        metavar="uint8|int8|float32",
        help="Raw integers that the file scales itself, or the Keras model's own input.  [default: raw pixels where "
        "the scale is known]",
    ),
]
Custom = Annotated[
    list[str] | None,
    typer.Option(
        "--custom",
        metavar="MODULE:NAME",
        help="A layer class or function of your own that the model needs, from this folder or the environment; "
        "repeatable.",
    ),
]
Unsafe = Annotated[
    bool, typer.Option("--unsafe", help="Run code that the model's file brings, such as Lambda layers. Trust it first.")
]
WriteC = Annotated[
    bool,
    typer.Option(
        "--c", help="Also write the int8 model as C99 (model.c, model.h), which needs no runtime: the same bits."
    ),
]
Native = Annotated[
    bool,
    typer.Option(
        "--native", help="Also compile it, with --c, into a library for Predictor(backend='native') on this CPU."
    ),
]
Compiler = Annotated[
    str | None,
    typer.Option(
        "--cc",
        metavar="COMMAND",
        help="The compiler for --native and its flags, such as 'aarch64-linux-gnu-gcc -mcpu=cortex-a72'.  [default: "
        "the one found here, for this very CPU]",
    ),
]
KeepFailed = Annotated[bool, typer.Option("--keep-failed", help="Keep what failed a gate beside, as NAME.failed.")]


def recipe_from(
    name: str, settings: list[str] | None, hidden: str | None, teacher: list[str] | None, **given: Any
) -> Any:
    """The recipe that the command line asks for.

    Args:
        name: of a recipe, or a manifest's path.
        settings: what ``--set`` was given.
        hidden: layer sizes with commas.
        teacher: files of teachers.
        **given: further fields; None leaves one as it is.

    Raises:
        UsageError: a setting that makes no sense.
        MissingError: there is no such file.
    """
    from toolkit.errors import MissingError, UsageError
    from toolkit.training.recipe_files import find_recipe, set_fields

    sizes = None
    if hidden is not None:
        try:
            sizes = tuple(int(part) for part in hidden.split(","))
        except ValueError as error:
            raise UsageError(f"--hidden is {hidden!r}, expected layer sizes with commas, such as 300,100") from error
    files = tuple(teacher) if teacher else None
    recipe = find_recipe(name).override(hidden=sizes, teacher_files=files, **given)
    recipe = set_fields(recipe, settings or ())
    for file in recipe.teacher_files:
        if not Path(file).exists():
            raise MissingError(f"the teacher {file} does not exist; give a .keras file that does")
    return recipe


def seeds_from(seed: int, count: int) -> tuple[int, ...]:
    """As many seeds, from the first on.

    Raises:
        UsageError: they would be larger than a seed may be.
    """
    from toolkit.errors import UsageError

    if seed + count > 2**32:
        raise UsageError(f"--seeds {count} from --seed {seed} on goes beyond {2**32 - 1}; begin with a smaller seed")
    return tuple(range(seed, seed + count))


def limits_from(
    max_difference: float | None,
    min_agreement: float | None,
    max_accuracy_drop: float | None,
    max_relative_error: float | None = None,
    max_metric_change: float | None = None,
) -> Any:
    """The gates' limits, with what the command line gives instead of the defaults.

    Raises:
        UsageError: a limit that is no share.
    """
    from toolkit.verification.gates import Limits

    given = {
        "float32_max_abs": max_difference,
        "float32_values": max_difference,
        "int8_min_agreement": min_agreement,
        "int8_max_accuracy_drop": max_accuracy_drop,
        "int8_max_relative_error": max_relative_error,
        "max_metric_change": max_metric_change,
    }
    return dataclasses.replace(Limits(), **{name: value for name, value in given.items() if value is not None})


def recipe_of_quantization(
    quantize: str | None,
    *,
    per_channel: bool,
    portable: bool,
    reduce_range: bool,
    calibration_method: str | None,
    percentile: float | None,
    calibration_images: int | None,
    keep_float: list[str] | None,
    bias_correction: bool = True,
) -> Any:
    """The quantization recipe that the command line asks for, or None.

    Raises:
        UsageError: a value that makes no sense, or an option that would do nothing.
    """
    from toolkit.conversion.recipe import METHODS, QuantizationRecipe
    from toolkit.errors import UsageError

    if quantize == "none":
        quantize = None
    if quantize not in (None, *METHODS):
        raise UsageError(f"--quantize is {quantize!r}, expected one of {', '.join(METHODS)}, none")
    given = {
        "--per-channel": per_channel,
        "--no-portable": not portable,
        "--reduce-range": reduce_range,
        "--calibration-method": calibration_method is not None,
        "--percentile": percentile is not None,
        "--calibration-images": calibration_images is not None,
        "--no-bias-correction": not bias_correction,
        "--keep-float": bool(keep_float),
    }
    calibrated = {"--calibration-method", "--percentile", "--calibration-images", "--no-bias-correction"}
    does_nothing = {
        None: set(given),
        "dynamic": calibrated,
        "int4": set(given) - {"--keep-float"},
        "float16": set(given) - {"--keep-float"},
    }.get(quantize, set())
    if idle := [name for name, is_given in given.items() if is_given and name in does_nothing]:
        if quantize is None:
            raise UsageError(f"without --quantize, {', '.join(idle)} would do nothing; add --quantize, or drop it")
        raise UsageError(f"with --quantize={quantize}, {', '.join(idle)} would do nothing; drop it")
    if percentile is not None and calibration_method != "percentile":
        raise UsageError("--percentile does nothing without --calibration-method percentile; add it, or drop this")
    if reduce_range and not portable:
        raise UsageError("--no-portable does nothing with --reduce-range, whose weights cannot saturate; drop it")
    if quantize is None:
        return None
    settings: dict[str, Any] = {
        "calibration": calibration_method,
        "percentile": percentile,
        "calibration_images": calibration_images,
        "keep_float": tuple(dict.fromkeys(keep_float)) if keep_float else None,
    }
    return QuantizationRecipe(
        method=quantize,
        per_channel=per_channel,
        portable=portable and not reduce_range,
        reduce_range=reduce_range,
        bias_correction=bias_correction,
        **{name: value for name, value in settings.items() if value is not None},
    )


def folder_and_output(values: list[str] | None) -> tuple[Path | None, str]:
    """What ``--output`` was given: the artifact folder, and what the model shall give.

    Raises:
        UsageError: two of a kind.
    """
    from toolkit.errors import UsageError

    words = [value for value in values or [] if value in _OUTPUTS]
    folders = [value for value in values or [] if value not in _OUTPUTS]
    if len(words) > 1 or len(folders) > 1:
        twice = words if len(words) > 1 else folders
        raise UsageError(
            f"--output is given as {' and '.join(twice)}; give one folder, and one of {', '.join(_OUTPUTS)}"
        )
    return (Path(folders[0]) if folders else None), (words[0] if words else _OUTPUTS[0])


def export_options_from(
    quantization: Any,
    *,
    output: str,
    limits: Any,
    raw: Any = None,
    data: Any = None,
    tasks: dict[str, str] | None = None,
    metrics: Any = (),
    c: bool = False,
    native: bool = False,
    cc: str | None = None,
    keep_failed: bool = False,
    cpus: Any = None,
    custom: list[str] | None = None,
    unsafe: bool = False,
) -> Any:
    """What to export, as the command line gives it.

    Raises:
        UsageError: an option that would do nothing.
    """
    from toolkit.errors import UsageError
    from toolkit.other_cpus import OtherCpus
    from toolkit.pipeline import ExportOptions, OwnData, RawInput

    of_int8 = ("int8_min_agreement", "int8_max_accuracy_drop", "int8_max_relative_error")
    idle = [name for name in of_int8 if getattr(limits, name) != getattr(type(limits)(), name)]
    if quantization is None and idle:
        names = ", ".join("--" + name.removeprefix("int8_").replace("_", "-") for name in idle)
        raise UsageError(f"without --quantize, {names} would do nothing; add --quantize, or drop it")
    return ExportOptions(
        quantization,
        raw=raw or RawInput(),
        output=output,
        data=data or OwnData(),
        tasks=tasks or {},
        metrics=tuple(metrics),
        limits=limits,
        c=c,
        native=native,
        cc=cc,
        keep_failed=keep_failed,
        cpus=cpus or OtherCpus(),
        custom=tuple(custom or ()),
        unsafe=unsafe,
    )
