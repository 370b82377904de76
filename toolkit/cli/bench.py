"""``toolkit bench``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.cli import boards, options

if TYPE_CHECKING:
    from toolkit.benchmarking.report import BenchReport

Quick = Annotated[bool, typer.Option("--quick", help="A first look: fewer scenarios and rounds.")]
Thorough = Annotated[bool, typer.Option("--thorough", help="Everything, and more rounds: some minutes.")]
Rounds = Annotated[int | None, typer.Option(help="Everything is measured once in each.  [default: 10]")]
Calls = Annotated[
    int | None, typer.Option(help="Single rows a round and file.  [default: 2000, fewer of a slow model]")
]
Threads = Annotated[int | None, typer.Option(help="Threads of one run; the sweep tries others.  [default: 1]")]
Size = Annotated[int | None, typer.Option(help="Of free dimensions, such as a length.  [default: 64]")]
Timeout = Annotated[
    float | None, typer.Option(help="Seconds after which a file that gives no sign counts as hanging.  [default: 60]")
]


def bench(
    artifact: Annotated[
        Path | None,
        typer.Argument(
            metavar="[ARTIFACT|BUNDLE|FILE.onnx]", help="What to measure.  [default: exported/mlp, else the reference]"
        ),
    ] = None,
    scenario: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Measure this alone (names below); repeatable.")
    ] = None,
    quick: Quick = False,
    thorough: Thorough = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Report to write.  [default: bench.json in the artifact]"),
    ] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the tables as Markdown.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write every figure, a line each.")] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png|FILE.svg", help="Also draw the latencies (extra 'train').")
    ] = None,
    save_settings: Annotated[
        bool,
        typer.Option(
            "--save-settings", help="Write the best settings for this machine into the artifact (settings.json)."
        ),
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option(help="Of the fixed-rate stream, rows a second.  [default: half of what the slowest file can do]"),
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Of the sustained run.  [default: 60]")] = None,
    rounds: Rounds = None,
    calls: Calls = None,
    threads: Threads = None,
    size: Size = None,
    timeout: Timeout = None,
    on: boards.On = None,
    python: boards.Python = None,
    keep: boards.Keep = False,
    wheels: boards.Wheels = None,
    ssh_config: boards.SshConfig = None,
    json: options.Json = False,
) -> None:
    """Measure a model on this machine; 'toolkit bench compare OLD NEW' sets two side by side.

    The files of an artifact are measured in interleaved rounds, each opened anew by a process of its own in each
    round, on random numbers in the range that the file names (else 0 to 1, or 0 to 255 for uint8). Every sample goes
    into the report, which for a lone NAME.onnx or a bundle is NAME.bench.json beside it. A "~" marks figures whose
    rounds differ by more than 10 %. A file that crashes or hangs is told, and the others go on (exit code 1). After
    Ctrl-C the report holds what was measured.

    \b
    Scenarios:
        single-stream  one row after the other: percentiles, histogram
        fixed-rate     rows at a given rate: latency from when each was due, late ones counted
        batches        rows a second by batch size
        throughput     rows a second with all cores, by processes, threads and the runtime's threads
        sustained      one row after the other for --seconds: drift and throttling (not in the default)
        cold-start     a fresh process to its first answer, part by part
        memory, cpu-time, energy, size
        sweep          threads, spinning, graph optimization, rows of a run: the best, and its gain

    \b
    Example:
        toolkit bench exported/fashion-mnist --quick --plot latency.svg
        toolkit bench device --on ssh://pi@raspberrypi --on ssh://user@board:2222
    """
    from toolkit.benchmarking.measure import run_bench
    from toolkit.benchmarking.options import bench_settings
    from toolkit.benchmarking.settings_file import SETTINGS_NAME, default_place
    from toolkit.cli.console import note, print_json, steps
    from toolkit.cli.defaults import default_artifact
    from toolkit.cli.outputs import checked_file, checked_report
    from toolkit.predictor import model_files

    settings = bench_settings(
        scenarios=scenario or (),
        quick=quick,
        thorough=thorough,
        save_settings=save_settings,
        plot=plot is not None,
        rounds=rounds,
        calls=calls,
        threads=threads,
        rate=rate,
        seconds=seconds,
        size=size,
        timeout=timeout,
    )
    target = artifact or default_artifact()
    if artifact is None:
        note(f"Timing {target}")
    if there := boards.there(on, python, keep=keep, wheels=wheels, ssh_config=ssh_config):
        how_long = {"rounds": rounds, "calls": calls, "rate": rate, "seconds": seconds, "timeout": timeout}
        given = boards.words(scenario=scenario, quick=quick, thorough=thorough, threads=threads, size=size, **how_long)
        pages = {"markdown": markdown, "csv": csv, "plot": plot}
        boards.bench_there(target, there, given, output, pages, save_settings=save_settings, json=json)
        return
    model_files(target)  # what is wrong with it should be said before what is wrong with the output
    place = checked_report(output or default_place(target, "bench.json"), "bench.json")
    pages = {
        "--markdown": checked_file(markdown, "--markdown", (".md", ".markdown")),
        "--csv": checked_file(csv, "--csv", (".csv",)),
        "--plot": checked_file(plot, "--plot", (".png", ".svg")),
    }
    if plot is not None:
        from toolkit.cli.bench_plot import check_matplotlib

        check_matplotlib()
    kept = default_place(target, SETTINGS_NAME) if save_settings else None
    with steps("Timing") as step:
        report = run_bench(target, settings, step)
    value = report.to_json()
    # People's output comes first: it is not lost where nothing can be written.
    _shout(value, to_stderr=json)
    if json:
        print_json(report.to_json(samples=False))
    else:
        print_report(value)
    _write(report, value, place, pages, kept)
    end_by(report, place)


def print_report(value: dict[str, Any]) -> None:
    """The tables of a report, see `BenchReport.to_json`."""
    from toolkit.benchmarking.tables import head_lines, noise_lines, tables_of
    from toolkit.cli.console import knows, print_table

    for line in head_lines(value):
        typer.echo(line)
    typer.echo()
    for table in tables_of(value, ascii_only=not knows("▁█")):
        print_table(table.title, table.columns, table.rows)
    for line in noise_lines(value):
        if not line.startswith(_LOUD):
            typer.echo(line)


def end_by(report: "BenchReport", place: Path) -> None:
    """End the command as its report says: well, interrupted, or with files that failed.

    Raises:
        KeyboardInterrupt: it was interrupted.
        ToolkitError: a file crashed or hung.
    """
    from toolkit.cli.console import note
    from toolkit.errors import ToolkitError

    if report.interrupted:
        note(f"Interrupted: {place} has what was measured until then")
        raise KeyboardInterrupt
    failed = [file.failed for file in report.files if file.failed]
    if failed:
        raise ToolkitError("; ".join(failed))
    note(f"Report, every sample included: {place}")


def _write(
    report: "BenchReport", value: dict[str, Any], place: Path, pages: dict[str, Path | None], kept: Path | None
) -> None:
    import json

    from toolkit.benchmarking.pages import as_csv, as_markdown
    from toolkit.benchmarking.settings_file import settings_text
    from toolkit.cli.bench_plot import draw_latency
    from toolkit.publishing import write_atomic

    write_atomic(place, json.dumps(value, separators=(",", ":"), allow_nan=False) + "\n")
    for option, path in pages.items():
        if path is None:
            continue
        if option == "--plot":
            write_atomic(path, draw_latency(value, path.suffix[1:].lower()))
        else:
            write_atomic(path, (as_markdown if option == "--markdown" else as_csv)(value))
    if kept is not None and not report.interrupted:
        write_atomic(kept, settings_text(report))


_LOUD = ("THIS MACHINE", "FAILED", "INTERRUPTED")


def _shout(value: dict[str, Any], *, to_stderr: bool) -> None:
    """Loud before the figures: whoever reads them has read this."""
    from toolkit.benchmarking.tables import noise_lines

    for line in noise_lines(value):
        if line.startswith(_LOUD):
            typer.secho(line, fg="red", bold=True, err=to_stderr)
