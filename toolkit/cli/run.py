"""``toolkit run``."""

from toolkit.cli import option_values, options
from toolkit.cli.cpu_option import CpuImages, CpuNames, chosen_cpus
from toolkit.cli.defaults import OWN_RUN


def run(
    output: options.Output = None,
    data: options.DataFolder = None,
    recipe: options.RecipeName = "default",
    settings: options.Set = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    optimizer: options.Optimizer = None,
    learning_rate: options.LearningRate = None,
    hidden: options.Hidden = None,
    dropout: options.Dropout = None,
    l2: options.L2 = None,
    early_stopping: options.EarlyStopping = None,
    teacher: options.Teacher = None,
    quantization_aware: options.QuantizationAware = None,
    seed: options.Seed = None,
    seeds: options.Seeds = 1,
    resume: options.Resume = False,
    quantize: options.Quantize = None,
    per_channel: options.PerChannel = False,
    portable: options.Portable = True,
    reduce_range: options.ReduceRange = False,
    calibration_method: options.CalibrationMethod = None,
    percentile: options.Percentile = None,
    calibration_images: options.CalibrationImages = None,
    bias_correction: options.BiasCorrection = True,
    keep_float: options.KeepFloat = None,
    max_difference: options.MaxDifference = None,
    min_agreement: options.MinAgreement = None,
    max_accuracy_drop: options.MaxAccuracyDrop = None,
    c: options.WriteC = False,
    native: options.Native = False,
    cc: options.Compiler = None,
    keep_failed: options.KeepFailed = False,
    cpu: CpuNames = None,
    cpu_images: CpuImages = None,
    json: options.Json = False,
) -> None:
    """The whole line on real data: fetch, train, export, quantize, verify, time.

    The artifact is published when every gate holds, then timed on this machine. Without --quantize the smaller file is
    static int8, or what the recipe's quantization_aware names.

    \b
    Example:
        toolkit run --epochs 20 --output exported/quick
    """
    from toolkit.benchmarking.fresh import time_artifact
    from toolkit.cli.console import note, print_json, steps
    from toolkit.cli.recipe_tables import print_recipes
    from toolkit.cli.rendering import print_summary, print_verification, resumable, summary, training_progress

    if recipe == "list":
        print_recipes(as_json=json)
        return
    folder, gives = option_values.folder_and_output(output)
    folder = folder or OWN_RUN
    trained_by = option_values.recipe_from(
        recipe,
        settings,
        hidden,
        teacher,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer,
        learning_rate=learning_rate,
        dropout=dropout,
        l2=l2,
        early_stopping=early_stopping,
        quantization_aware=quantization_aware,
    )
    if quantize is None:
        quantize = "static" if trained_by.quantization_aware == "none" else trained_by.quantization_aware
    quantization = option_values.recipe_of_quantization(
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
        quantization,
        output=gives,
        limits=option_values.limits_from(max_difference, min_agreement, max_accuracy_drop),
        c=c,
        native=native,
        cc=cc,
        keep_failed=keep_failed,
        cpus=chosen_cpus(cpu, cpu_images),
    )
    from toolkit.data import load
    from toolkit.pipeline import FailedGatesError, TrainingPlan, run_line

    plan = TrainingPlan(trained_by, option_values.seeds_from(seed, seeds, recipe), resume)
    note("1/5 Data")
    images = load(data, note)
    note(f"    {images.source}: 55,000 training, 5,000 validation and 10,000 test images\n2/5 Training")
    try:
        with resumable(folder), training_progress() as on_epoch, steps("    ") as step:
            manifest, report = run_line(
                folder,
                plan,
                images,
                chosen,
                on_epoch,
                lambda text: note({"Exporting": "3/5 ", "Verifying": "4/5 "}.get(text.split()[0], "    ") + text),
                step,
            )
    except FailedGatesError as failure:
        print_verification(failure.report, to_stderr=True)
        raise
    note("5/5 Timing on this machine, in a fresh process")
    timing = time_artifact(folder)
    if json:
        print_json(summary(folder, manifest, report, timing))
    else:
        print_verification(report)
        print_summary(folder, manifest, report, timing)
