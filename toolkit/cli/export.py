"""``toolkit export``."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli import option_values, options, own_model
from toolkit.cli.cpu_option import CpuImages, CpuNames, chosen_cpus


def export(
    model: Annotated[
        Path | None,
        typer.Argument(
            help="Artifact folder, .keras or .h5 file, SavedModel folder.  [default: exported/mlp, else the reference]"
        ),
    ] = None,
    output: options.Output = None,
    quantize: options.Quantize = None,
    per_channel: options.PerChannel = False,
    portable: options.Portable = True,
    reduce_range: options.ReduceRange = False,
    calibration_method: options.CalibrationMethod = None,
    percentile: options.Percentile = None,
    calibration_images: options.CalibrationImages = None,
    bias_correction: options.BiasCorrection = True,
    keep_float: options.KeepFloat = None,
    calibration: own_model.Calibration = None,
    test: own_model.TestRows = None,
    classes: own_model.Classes = None,
    task: own_model.Tasks = None,
    metric: own_model.Metrics = None,
    input_dtype: options.InputDtype = None,
    input_scale: own_model.InputScale = None,
    input_offset: own_model.InputOffset = None,
    data: options.DataFolder = None,
    max_difference: options.MaxDifference = None,
    min_agreement: options.MinAgreement = None,
    max_accuracy_drop: options.MaxAccuracyDrop = None,
    max_relative_error: own_model.MaxRelativeError = None,
    max_metric_change: own_model.MaxMetricChange = None,
    c: options.WriteC = False,
    native: options.Native = False,
    cc: options.Compiler = None,
    keep_failed: options.KeepFailed = False,
    cpu: CpuNames = None,
    cpu_images: CpuImages = None,
    custom: options.Custom = None,
    unsafe: options.Unsafe = False,
    json: options.Json = False,
) -> None:
    """Export a Keras model to ONNX and verify it against Keras on the whole test set.

    It goes into the model's own folder (exported/NAME for NAME.keras), and is published only if every gate holds. A
    failed gate exits 1 and leaves what was there untouched.

    A model of your own brings its rows: --test to verify on, --calibration for static int8. A model that was trained
    here, or takes 28x28 and gives ten values, has Fashion-MNIST.

    \b
    Example:
        toolkit export exported/mlp --quantize
        toolkit export my.keras --quantize --calibration calib.npz --test test.npz
    """
    from toolkit.cli.console import note, print_json, steps
    from toolkit.cli.defaults import default_artifact
    from toolkit.cli.rendering import print_verification
    from toolkit.verification.metrics import metrics_from

    folder, gives = option_values.folder_and_output(output)
    recipe = option_values.recipe_of_quantization(
        quantize,
        per_channel=per_channel,
        portable=portable,
        reduce_range=reduce_range,
        calibration_method=calibration_method,
        percentile=percentile,
        calibration_images=calibration_images,
        keep_float=keep_float,
        bias_correction=bias_correction,
    )
    chosen = option_values.export_options_from(
        recipe,
        output=gives,
        limits=option_values.limits_from(
            max_difference, min_agreement, max_accuracy_drop, max_relative_error, max_metric_change
        ),
        raw=own_model.raw_input(input_dtype, input_scale, input_offset),
        data=own_model.own_data(calibration, test, classes, data),
        tasks=own_model.tasks_from(task),
        metrics=metrics_from(metric or []),
        c=c,
        native=native,
        cc=cc,
        keep_failed=keep_failed,
        cpus=chosen_cpus(cpu, cpu_images),
        custom=custom,
        unsafe=unsafe,
    )
    source = model or default_artifact()
    if model is None:
        note(f"Exporting {source}")
    from toolkit.data import load
    from toolkit.pipeline import FailedGatesError, export_artifact, export_target

    try:
        with steps("Verifying") as step:
            manifest, report = export_artifact(source, folder, lambda: load(data, note), chosen, note, step)
    except FailedGatesError as failure:
        print_verification(failure.report, to_stderr=True)
        raise
    folder = export_target(source, folder)
    if json:
        print_json({"artifact": str(folder), "manifest": manifest.to_json()})
        return
    print_verification(report)
    quoted = shlex.quote(str(folder))
    samples = sorted(path.suffix for path in (folder / "samples").iterdir())
    then = f"predict -m {quoted} {quoted}/samples/*{samples[0]}" if samples else f"bench {quoted}"
    print(f"Published {folder}: {', '.join(manifest.files)}\nNext: toolkit {then}")  # noqa: T201 - the command's output
