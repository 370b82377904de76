"""``toolkit tune``."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.cli import options, own_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from toolkit.data import FashionMnist
    from toolkit.tuning.tune import TuneReport


def tune(
    model: Annotated[
        Path | None,
        typer.Argument(help="Artifact folder, or .keras or .h5 file.  [default: exported/mlp, else the reference]"),
    ] = None,
    objective: Annotated[
        str, typer.Option(metavar="latency|size", help="What the winner should be best at.")
    ] = "latency",
    max_accuracy_drop: Annotated[
        float, typer.Option(help="Budget: most accuracy lost on the validation images (0.005 is half a point).")
    ] = 0.005,
    min_agreement: Annotated[float, typer.Option(help="Budget: least share of labels equal to Keras'.")] = 0.98,
    keep_float: options.KeepFloat = None,
    portable: Annotated[
        bool,
        typer.Option(
            "--portable/--no-portable",
            help="Only what answers alike on every CPU, or plain scales, int4 and float16 too.",
        ),
    ] = True,
    calibration_images: options.CalibrationImages = None,
    rounds: Annotated[int | None, typer.Option(help="Interleaved rounds of timing.  [default: 15]")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Report to write.  [default: tune.json in the artifact]"),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Export the winner, verified on the test images before it is published.")
    ] = False,
    custom: options.Custom = None,
    unsafe: options.Unsafe = False,
    calibration: own_model.Calibration = None,
    validation: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Rows with labels to choose by; keep the test rows for verify."),
    ] = None,
    input_scale: own_model.InputScale = None,
    input_offset: own_model.InputOffset = None,
    data: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Choose a quantization by measurement on this machine; the answer may be to keep float32.

    Float32, int8 (static and dynamic, per tensor and per channel, three calibration methods, portable, 7-bit and plain
    scales), int4 and float16 are made of the model, judged on the validation images and timed in turn. Those within
    the budget compete; what measurement cannot tell apart is settled by agreement with Keras. "*" marks the Pareto
    front of agreement, size and p50.

    \b
    Example:
        toolkit tune exported/mlp --max-accuracy-drop 0.002 --apply
    """
    import dataclasses
    import functools

    from toolkit.cli.console import note, print_json, steps
    from toolkit.cli.defaults import default_artifact
    from toolkit.cli.outputs import checked_report
    from toolkit.errors import UsageError
    from toolkit.tuning.choose import Budget

    budget = Budget(max_accuracy_drop, min_agreement, objective, portable)
    source = model or default_artifact()
    if model is None:
        note(f"Tuning {source}")
    from toolkit.data import load
    from toolkit.tuning.tune import TuneSettings
    from toolkit.tuning.tune import tune as run_tune

    given: dict[str, Any] = {"calibration_images": calibration_images, "rounds": rounds}
    settings = dataclasses.replace(
        TuneSettings(
            budget=budget,
            keep_float=tuple(keep_float or ()),
            data=own_model.own_data(calibration, validation, None, data),
            raw=own_model.raw_input(None, input_scale, input_offset),
            custom=tuple(custom or ()),
            unsafe=unsafe,
        ),
        **{name: value for name, value in given.items() if value is not None},
    )
    place = checked_report(output or _default_output(source), "tune.json")
    images = functools.cache(lambda: load(data, note))
    if apply and settings.data.given:
        raise UsageError("--apply verifies on test rows, which tune does not have; export with what it says instead")
    with steps("Tuning") as step:
        report = run_tune(source, images, settings, note, step)
    if json:
        print_json(report.to_json())
    else:
        _render(report)
    _write(report, place)
    note(f"Report: {place}")
    if apply:
        _apply(source, report, images)
        _write(report, place)  # again: publishing left it out, as it leaves out all that is not its own
    elif not json:
        command = ["toolkit", "export", str(source), *(report.chosen.recipe.options() if report.chosen.recipe else [])]
        if settings.data.given:
            static = report.chosen.recipe is not None and report.chosen.recipe.method == "static"
            command += [f"--calibration={calibration}"] if static and calibration else []
            command += [f"--input-scale={input_scale}"] if input_scale else []
            command += [f"--input-offset={input_offset}"] if input_offset else []
            typer.echo(f"Next: {shlex.join(command)} --test FILE   (rows that tune has not seen)")
        else:
            typer.echo(f"Next: {shlex.join(command)}   (or the same toolkit tune with --apply)")


def _default_output(source: Path) -> Path:
    return source / "tune.json" if source.is_dir() else source.with_name(f"{source.stem}.tune.json")


def _write(report: "TuneReport", path: Path) -> None:
    import json

    from toolkit.publishing import write_atomic

    write_atomic(path, json.dumps(report.to_json(), indent=1, allow_nan=False) + "\n")


def _render(report: "TuneReport") -> None:
    from toolkit.cli.console import print_table

    base = next(one for one in report.measured if one.recipe is None)
    rows = []
    for i, one in enumerate(report.measured):
        rows.append(
            [
                f"{'>' if i == report.choice.index else ' '}{'*' if i in report.pareto else ' '} {one.title}",
                f"{-100 * one.accuracy_drop + 0:+.2f}",
                f"{one.agreement:.2%}",
                f"{one.bytes / 1000:,.0f}",
                f"{one.p50_ns / 1000:.1f}",
                f"{one.p99_ns / 1000:.1f}",
                f"{one.p50_ns / base.p50_ns:.2f}",
                f"{one.cold_start_ms:.0f}",
            ]
        )
    columns = ["", "points", "agree", "kB", "p50", "p99", "ratio", "start"]
    typer.echo(f"Machine: {report.host.hardware_line()}")
    title = (
        f"{report.model}: {len(rows)} forms on {report.data}, {report.keras_accuracy:.2%} right by Keras; points of "
        "accuracy and agreement against Keras, p50 and p99 of one image in us, ratio to float32, cold start in ms"
    )
    print_table(title, columns, rows, fold_first=True)
    for i, why in report.choice.refused.items():
        typer.echo(f"out: {report.measured[i].title} ({why})")
    for failed in report.failed:
        typer.echo(f"could not be made: {failed.title} ({failed.reason})")
    typer.echo(f"Chosen: {report.choice.reason}")


def _apply(source: Path, report: "TuneReport", images: "Callable[[], FashionMnist]") -> None:
    from toolkit.cli.console import note, steps
    from toolkit.cli.rendering import print_verification
    from toolkit.pipeline import ExportOptions, FailedGatesError, RawInput, contract_of, export_artifact, export_target
    from toolkit.verification.gates import Limits

    budget = report.settings.budget
    limits = Limits()  # of float32, where that was chosen
    if report.chosen.recipe is not None:
        limits = Limits(int8_min_agreement=budget.min_agreement, int8_max_accuracy_drop=budget.max_accuracy_drop)
    settings = report.settings
    input_dtype, output = contract_of(source)  # as the artifact was exported before
    chosen = ExportOptions(
        report.chosen.recipe,
        raw=RawInput("float32" if input_dtype == "float32" else None),
        output=output,
        limits=limits,
        custom=settings.custom,
        unsafe=settings.unsafe,
    )
    try:
        with steps("Verifying") as step:
            _, verification = export_artifact(source, None, images, chosen, note, step)
    except FailedGatesError as failure:
        print_verification(failure.report, to_stderr=True)
        raise
    print_verification(verification, to_stderr=True)
    note(f"Published {export_target(source, None)}: {report.chosen.title}")
