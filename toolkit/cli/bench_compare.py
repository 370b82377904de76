"""``toolkit bench compare``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli import options
from toolkit.cli.bench import Calls, Quick, Size, Thorough, Threads, Timeout

if TYPE_CHECKING:
    from toolkit.benchmarking.compare import Comparison


def bench_compare(
    old: Annotated[Path, typer.Argument(help="A model, artifact, bundle, or a bench.json.")],
    new: Annotated[Path, typer.Argument(help="Another of these; or another bench.json.")],
    max_regression: Annotated[
        str, typer.Option(metavar="SHARE", help="Exit code 1 if the new one is slower by more, for certain.")
    ] = "5%",
    quick: Quick = False,
    thorough: Thorough = False,
    force: Annotated[
        bool, typer.Option("--force", help="Compare bench.json files of different machines all the same.")
    ] = False,
    rounds: Annotated[int | None, typer.Option(help="Each gives one ratio.  [default: 30]")] = None,
    calls: Calls = None,
    threads: Threads = None,
    size: Size = None,
    timeout: Timeout = None,
    json: options.Json = False,
) -> None:
    """Set two models side by side: faster, slower or no difference, with the ratio and its 99 % interval.

    Models are measured now, in interleaved rounds, each opened anew in every round: the surest way. Two bench.json
    files are compared by their rounds; what the machine did between them widens the interval. Files of the same kind
    (int8 with int8) belong together, else those that a predictor opens by default. What decides is the median of one
    row and of a batch.

    \b
    Example:
        toolkit bench compare exported/before exported/after --max-regression 3%
    """
    from toolkit.benchmarking.compare import compare_models, share_of
    from toolkit.benchmarking.compare_reports import compare_reports
    from toolkit.benchmarking.options import compare_settings
    from toolkit.cli.console import print_json, steps
    from toolkit.errors import GateError, UsageError

    most = share_of(max_regression)
    reports = [path.suffix == ".json" for path in (old, new)]
    if reports[0] != reports[1]:
        raise UsageError(f"{old} and {new} are a report and a model; give two of a kind")
    measured = {"rounds": rounds, "calls": calls, "threads": threads, "size": size, "timeout": timeout}
    if reports[0]:
        given = {**measured, "quick": quick or None, "thorough": thorough or None}
        if idle := [f"--{name}" for name, value in given.items() if value is not None]:
            raise UsageError(f"{', '.join(idle)} would do nothing: {old} and {new} are measured already; drop it")
        found = compare_reports(old, new, max_regression=most, force=force)
    else:
        if force:
            raise UsageError("--force would do nothing: both models are measured on this machine; drop it")
        settings = compare_settings(quick=quick, thorough=thorough, **measured)
        with steps("Comparing") as step:
            found = compare_models(old, new, settings, max_regression=most, step=step)
    if json:
        print_json(found.to_json())
    else:
        _render(found)
    if found.interrupted:
        raise KeyboardInterrupt
    if found.regressions:
        worst = max(found.regressions, key=lambda line: line.ratio.ratio)
        ratio = worst.ratio
        raise GateError(
            f"{new} is slower than {old}: {worst.file}, {worst.what} takes {ratio.ratio:.3f} times as long "
            f"({ratio.low:.3f} to {ratio.high:.3f}), {1 + most:.3g} allowed"
        )


def _render(found: "Comparison") -> None:
    from toolkit.cli.console import print_table

    how = "interleaved rounds" if found.paired else "rounds of two earlier runs"
    sure = found.lines[0].ratio
    rows = [
        [
            line.file,
            line.what,
            f"{line.old_ns / 1000:,.1f}",
            f"{line.new_ns / 1000:,.1f}",
            f"{line.ratio.ratio:.3f}",
            f"{line.ratio.low:.3f} to {line.ratio.high:.3f}",
            f"{line.ratio.verdict}{', TOO MUCH' if line.regressed(found.max_regression) else ''}",
        ]
        for line in found.lines
    ]
    columns = ["", "us", "old", "new", "new / old", f"{sure.confidence:.0%} interval", ""]
    print_table(f"{found.old} and {found.new}: {sure.rounds} {how}", columns, rows, left=2)
    for text in found.notes:
        typer.echo(f"note: {text}")
    if found.noise is None:
        return
    control = found.noise.control
    if control is not None:
        typer.echo(f"The same file opened twice: {control.ratio:.3f} ({control.low:.3f} to {control.high:.3f})")
    if found.noise.noisy:
        reasons = "; ".join(map(str, found.noise.reasons))
        typer.secho(f"THIS MACHINE WAS NOISY: {reasons}. The intervals are as wide as that makes them.", fg="red")
