"""``toolkit bench``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli import boards, options

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from toolkit.benchmarking.report import BenchReport, BenchSettings

    Table = Callable[[str, Sequence[str], Sequence[Sequence[str]]], None]


def bench(
    artifact: Annotated[
        Path | None,
        typer.Argument(help="Artifact folder or .onnx file.  [default: exported/mlp, else the reference]"),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A first look: 3 rounds of 1000 calls.")] = False,
    rounds: Annotated[int | None, typer.Option(help="Rounds; everything is timed in each.  [default: 10]")] = None,
    calls: Annotated[
        int | None, typer.Option(help="Single rows a round and file.  [default: 2000, fewer of a slow model]")
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads of one run; the thread sweep tries the others.")] = 1,
    size: Annotated[
        int | None, typer.Option(help="Size of free dimensions, such as a length.  [default: 64]", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Report to write.  [default: bench.json in the artifact]"),
    ] = None,
    on: boards.On = None,
    python: boards.Python = None,
    keep: boards.Keep = False,
    wheels: boards.Wheels = None,
    ssh_config: boards.SshConfig = None,
    json: options.Json = False,
) -> None:
    """Time a model on this machine: latency, throughput, threads, cold start, memory and size.

    Float32 and int8 are timed side by side in interleaved rounds, on random numbers in the range that the file names
    (else 0 to 1, or 0 to 255 for uint8). Every sample goes into the report, which for a lone NAME.onnx or
    a bundle is NAME.bench.json beside it. A "~" marks figures whose rounds disagree by more than 10 %.

    \b
    Example:
        toolkit bench exported/fashion-mnist --quick
        toolkit bench device --on ssh://pi@raspberrypi --on ssh://user@board:2222
    """
    if there := boards.there(on, python, keep=keep, wheels=wheels, ssh_config=ssh_config):
        given = boards.words(quick=quick, rounds=rounds, calls=calls, threads=threads, size=size)
        boards.bench_there(artifact, there, given, output=output, json=json)
        return
    from toolkit.benchmarking.report import run_bench
    from toolkit.cli.console import note, print_json, steps
    from toolkit.cli.defaults import default_artifact
    from toolkit.cli.outputs import checked_report
    from toolkit.predictor import model_files

    settings = _settings(quick, rounds, calls, threads, size)
    target = artifact or default_artifact()
    if artifact is None:
        note(f"Timing {target}")
    model_files(target)  # what is wrong with it should be said before what is wrong with the output
    place = checked_report(output or _default_output(target), "bench.json")
    with steps("Timing") as step:
        report = run_bench(target, settings, step)
    _write(report, place)
    if json:
        _shout_if_noisy(report, to_stderr=True)
        print_json(report.to_json(samples=False))
        return
    _render(report)
    note(f"Report, every sample included: {place}")


def _settings(quick: bool, rounds: int | None, calls: int | None, threads: int, size: int | None) -> "BenchSettings":
    from dataclasses import replace

    from toolkit.benchmarking.report import BenchSettings

    preset = BenchSettings.quick() if quick else BenchSettings()
    return replace(
        preset,
        rounds=preset.rounds if rounds is None else rounds,
        calls=calls,
        threads=threads,
        free_size=size,
    )


def _default_output(artifact: Path) -> Path:
    from toolkit.predictor import SUMS_NAME

    if not artifact.is_dir():
        return artifact.with_name(f"{artifact.stem}.bench.json")
    if not (artifact / SUMS_NAME).exists():
        return artifact / "bench.json"
    folder = artifact.resolve()  # of a bundle, in which nothing else belongs
    return folder.with_name(f"{folder.name}.bench.json")


def _write(report: "BenchReport", path: Path) -> None:
    import json

    from toolkit.publishing import write_atomic

    write_atomic(path, json.dumps(report.to_json(), separators=(",", ":"), allow_nan=False) + "\n")


def _render(report: "BenchReport") -> None:
    """The report as tables for people."""
    from toolkit.cli.console import print_table as table

    kinds = [file.kind for file in report.files]
    names = kinds if len(set(kinds)) == len(kinds) else [file.name for file in report.files]
    threads = f"{report.settings.threads} thread{'s' if report.settings.threads > 1 else ''}"
    typer.echo(f"Machine: {report.host.hardware_line()}")
    typer.echo(f"Software: {report.host.software_line()}")
    for given in report.files[0].inputs:
        shape = " x ".join(map(str, given.shape)) or "one number"
        notes = "".join(f"; {note}" for note in given.notes)
        typer.echo(
            f"Input '{given.name}': {given.dtype} of {shape}, seeded random {given.low:g} to {given.high:g}{notes}"
        )
    typer.echo()
    _latency_table(report, names, threads, table)
    table(
        f"Throughput of predict_batch in rows a second, by batch size ({threads})",
        ["batch size", *(f"{point.batch:,}" for point in report.files[0].throughput)],
        [
            [name, *(_mark(f"{t.images_per_second:,.0f}", t.noisy) for t in file.throughput)]
            for name, file in zip(names, report.files, strict=True)
        ],
    )
    _threads_table(report, names, table)
    _start_table(report, names, table)
    sizes = (f"{i.package} {_megabytes(i.size_bytes)}" for i in report.installed)
    typer.echo(f"Installed beside the model: {', '.join(sizes)}")
    compiled = report.files[0].cold_start.without_bytecode
    if compiled:
        typer.echo(f"Not cached as bytecode, so compiled in every cold start: {', '.join(compiled)}")
    _shout_if_noisy(report, to_stderr=False)


def _latency_table(report: "BenchReport", names: list[str], threads: str, table: "Table") -> None:
    first = report.files[0].latency
    base = next((f.latency.p50_ns for f in report.files if f.kind == "float32"), None)
    compare = base is not None and len(report.files) > 1
    columns = ["", "p50", "p90", "p99", "p99.9", "mean", "std", "min", "rounds differ by"]
    rows = []
    for name, file in zip(names, report.files, strict=True):
        t = file.latency
        times = (t.p90_ns, t.p99_ns, t.p999_ns, t.mean_ns, t.std_ns, t.min_ns)
        row = [name, _mark(_us(t.p50_ns), t.noisy), *(_us(value) for value in times), f"{t.spread:.1%}"]
        rows.append([*row, f"{base / t.p50_ns:.2f}x"] if base is not None and compare else row)
    title = (
        f"Latency of {report.files[0].call}, one row, in us ({threads}, {first.n:,} calls in "
        f"{report.settings.rounds} interleaved rounds, {first.warmup:,} warm-up calls discarded)"
    )
    table(title, [*columns, "speed vs float32"] if compare else columns, rows)


def _threads_table(report: "BenchReport", names: list[str], table: "Table") -> None:
    sweeps = [file.thread_sweep for file in report.files]
    if len(sweeps[0]) < 2:
        return
    columns = ["threads", *(f"{name}: {what}" for name in names for what in ("p50 in us", "rows/s"))]
    rows = []
    for points in zip(*sweeps, strict=True):
        row = [str(points[0].threads)]
        for point in points:
            row += [_mark(_us(point.latency.p50_ns), point.latency.noisy)]
            row += [_mark(f"{point.throughput.images_per_second:,.0f}", point.throughput.noisy)]
        rows.append(row)
    batch = sweeps[0][0].throughput.batch
    table(f"Thread sweep: p50 of one row, and throughput in batches of {batch}", columns, rows)


def _start_table(report: "BenchReport", names: list[str], table: "Table") -> None:
    starts = [file.cold_start for file in report.files]
    parts = (
        ("first answer after", [f"{s.total_ms:,.1f}" for s in starts]),
        ("  interpreter start", [f"{s.interpreter_ms:,.1f}" for s in starts]),
        ("  import numpy", [f"{s.numpy_import_ms:,.1f}" for s in starts]),
        ("  import predictor", [f"{s.predictor_import_ms:,.1f}" for s in starts]),
        ("  import onnxruntime", [f"{s.onnxruntime_import_ms:,.1f}" for s in starts]),
        ("  check and open file", [f"{s.session_open_ms:,.1f}" for s in starts]),
        ("  first row", [f"{s.first_run_ms:,.2f}" for s in starts]),
    )
    table(
        f"Cold start in ms: from a fresh process to its first answer (median of {starts[0].n}, files in page cache)",
        ["", *names],
        [[part, *values] for part, values in parts],
    )
    table(
        "Size and memory",
        ["", "file", "size", "peak memory, loaded", f"after {starts[0].work_calls:,} rows"],
        [
            [
                name,
                file.name,
                f"{file.size_bytes / 1000:,.0f} kB",
                _megabytes(file.cold_start.after_load_bytes),
                _megabytes(file.cold_start.after_work_bytes),
            ]
            for name, file in zip(names, report.files, strict=True)
        ],
    )


def _shout_if_noisy(report: "BenchReport", *, to_stderr: bool) -> None:
    """Loud where the headline is noisy; the other figures carry a mark."""
    noisy = [f"{file.name} by {file.latency.spread:.0%}" for file in report.files if file.latency.noisy]
    if noisy:
        text = (
            f"NOISY: between rounds, latency differs for {', '.join(noisy)}. Do not rely on these figures: "
            "stop other work on this machine and measure again."
        )
        typer.secho(text, fg="red", bold=True, err=to_stderr)
    if report.noisy_figures and not to_stderr:
        typer.echo("~ rounds differ by more than 10 %")


def _mark(text: str, noisy: bool) -> str:
    return f"~{text}" if noisy else text


def _us(nanoseconds: float) -> str:
    return f"{nanoseconds / 1000:,.1f}"


def _megabytes(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 1e6:,.1f} MB"
