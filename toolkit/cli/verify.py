"""``toolkit verify``."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli import option_values, options, own_model
from toolkit.cli.c_option import CTargets, chosen_targets
from toolkit.cli.cpu_option import CpuImages, CpuNames, chosen_cpus

if TYPE_CHECKING:
    from toolkit.other_cpus import OtherCpus
    from toolkit.verification.report import VerificationReport


def verify(
    artifact: Annotated[
        Path | None, typer.Argument(help="Artifact folder.  [default: exported/mlp, else the reference]")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where the report goes.  [default: parity.json in the artifact]"),
    ] = None,
    test: own_model.TestRows = None,
    metric: own_model.Metrics = None,
    data: options.DataFolder = None,
    max_difference: options.MaxDifference = None,
    min_agreement: options.MinAgreement = None,
    max_accuracy_drop: options.MaxAccuracyDrop = None,
    max_relative_error: own_model.MaxRelativeError = None,
    max_metric_change: own_model.MaxMetricChange = None,
    flips: Annotated[int | None, typer.Option(help="How many flipped images to list.  [default: 10]", min=0)] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Show int8's error by layer, even if all is well.")] = False,
    cpu: CpuNames = None,
    cpu_images: CpuImages = None,
    c: CTargets = None,
    custom: options.Custom = None,
    unsafe: options.Unsafe = False,
    json: options.Json = False,
) -> None:
    """Hold the exported files against Keras on all 10,000 test images; exit 1 if a gate fails.

    float32 files must give every label that Keras gives, with probabilities that differ by rounding alone. int8 files
    are judged by label agreement and by accuracy lost. Batches of 1, 7 and 10,000 must give the same answers. If int8
    loses too much, its error by layer is shown, worst first, with what to try next.

    --cpu runs them on other CPUs too: every label must be the same there, and of int8 with constant scales every bit
    of the logits. It fetches what that takes, once. What all images gave goes into the manifest.

    --c compiles the C code for other targets and runs it there, under qemu where that is another machine: every bit of
    the logits must be that of the int8 file here. Compilers are Debian's; one that is missing is named.

    \b
    Example:
        toolkit verify exported/fashion-mnist --min-agreement 0.99 --cpu haswell --cpu cortex-a72
        toolkit verify exported/fashion-mnist --c gcc-O2 --c aarch64
    """
    from toolkit.artifact import QUANTIZED, load_manifest
    from toolkit.cli.console import note, print_json, steps
    from toolkit.cli.defaults import default_artifact
    from toolkit.cli.outputs import checked_report
    from toolkit.cli.rendering import print_verification
    from toolkit.errors import UsageError
    from toolkit.verification.metrics import metrics_from

    if data is not None and test is not None:
        raise UsageError("--data names Fashion-MNIST, which is not used with --test; drop it")
    if json and flips is not None:
        raise UsageError("--flips does nothing with --json, which always has every flipped image; drop one of them")
    cpus, targets = chosen_cpus(cpu, cpu_images), chosen_targets(c)
    limits = option_values.limits_from(
        max_difference, min_agreement, max_accuracy_drop, max_relative_error, max_metric_change
    )
    folder = artifact or default_artifact()
    if artifact is None:
        note(f"Verifying {folder}")
    from toolkit.data import load
    from toolkit.pipeline import (
        FailedGatesError,
        export_options,
        verify_artifact,
        write_parity,
    )

    manifest = load_manifest(folder)
    if not set(QUANTIZED.values()) & manifest.files.keys() and not (
        min_agreement is None and max_accuracy_drop is None
    ):
        raise UsageError(
            f"{folder} has no quantized model, so --min-agreement and --max-accuracy-drop do nothing; drop them"
        )
    if QUANTIZED["int8"] not in manifest.files and layers:
        raise UsageError(f"{folder} has no int8 model, so --layers does nothing; drop it")
    target = checked_report(output or folder / "parity.json", "parity.json")
    with steps("Verifying") as step:
        report = verify_artifact(
            folder,
            test,
            lambda: load(data, note),
            limits,
            note,
            step,
            cpus,
            c=targets,
            metrics=metrics_from(metric or []),
            layers=layers,
            custom=custom or (),
            unsafe=unsafe,
        )
    if json:
        print_json(report.to_json())
    else:
        print_verification(report, flips=10 if flips is None else flips)
    write_parity(report, target)  # after the figures were shown: a full disk must not hide them
    if output is None:
        _keep(folder, report, cpus)
    if not report.passed:
        options_again = export_options(folder, manifest, None if test is None else str(test))
        again = f"try: {shlex.join(['toolkit', 'export', str(folder), *options_again])}"
        raise FailedGatesError(report, f"see {target} for every flipped image", again)
    if not json:
        print(f"Report: {target}")  # noqa: T201 - the command's own output


def _keep(folder: Path, report: "VerificationReport", cpus: "OtherCpus") -> None:
    """What all rows gave on other CPUs and targets goes into the manifest."""
    from toolkit.pipeline import write_c_records, write_cpu_records

    whole = report.files[0].rows if report.files else 0
    if cpus.cpus and (cpus.images is None or cpus.images >= whole):
        write_cpu_records(folder, report)
    if report.c is not None:
        write_c_records(folder, report)
