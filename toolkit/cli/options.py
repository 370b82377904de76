"""Options that several commands share, so that each has one name and one help text."""

from pathlib import Path
from typing import Annotated

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
]

Json = Annotated[bool, typer.Option("--json", help="Machine output on stdout alone; people's output goes to stderr.")]
DataFolder = Annotated[
    Path | None,
    typer.Option("--data", help="Folder with the four Fashion-MNIST files.  [default: found or fetched]"),
]
Seed = Annotated[
    int | None,
    typer.Option(
        help="Same seed, same machine: same weights. By default that of --recipe MANIFEST, else 1.",
        min=0,
        max=2**32 - 1,
    ),
]
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
