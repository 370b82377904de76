"""What was measured of time, and of the measuring itself."""

from __future__ import annotations

from benchmarks.readme_blocks.shared import RESULTS, interval, load, machine, table

__all__ = ["harness", "latency", "overhead"]


def latency() -> str:
    """The reference artifact through the predictor."""
    report = load(RESULTS / "bench.json")
    rows, names = [], {file["name"]: file["kind"] for file in report["files"]}
    for file in report["files"]:
        found = file["scenarios"]
        times, rate, best = (
            found["single-stream"]["latency"],
            found["fixed-rate"]["latency"],
            found["throughput"]["best"],
        )
        rows.append(
            [
                f"`{file['name']}`",
                *(f"{times[key] / 1000:.1f}" for key in ("p50_ns", "p90_ns", "p99_ns", "p999_ns")),
                f"{rate['p50_ns'] / 1000:.1f} / {rate['p99_ns'] / 1000:.1f}",
                f"{best['rows_per_second']:,.0f}",
                f"{found['cpu-time']['process_ns'] / 1000:.1f}",
                f"{found['cold-start']['total_ms']:.0f}",
                f"{found['memory']['work_bytes'] / 1e6:.0f}",
            ]
        )
    columns = [
        "one thread", "p50, us", "p90", "p99", "p99.9", "at a fixed rate, p50 / p99", "images/s, all cores",
        "CPU time, us", "cold start, ms", "peak memory, MB",
    ]  # fmt: skip
    first = report["files"][0]["scenarios"]
    spread = ", ".join(
        f"{f['scenarios']['single-stream']['latency']['spread']:.0%} ({f['kind']})" for f in report["files"]
    )
    ratios = "; ".join(
        f"{names[entry['file']]} takes {interval(entry['p50'])} of the time of {names[entry['base']]}"
        for entry in report["ratios"]
    )
    best, noise = first["throughput"]["best"], report["noise"]
    verdict = "; ".join(f"{r['what']} {r['measured']:.3g}" for r in noise["reasons"]) or "quiet enough"
    return (
        f"{table(columns, rows)}\n\n{machine(report['host'])}. "
        f"{first['single-stream']['latency']['n']:,} calls in {report['settings']['rounds']} interleaved rounds, "
        f"which differ by {spread}; {ratios}. The fixed rate is {first['fixed-rate']['rate']:,.0f} rows a second, "
        f"latency from when each was due. All cores: {best['way'].replace('-', ' ')}, batches of {best['batch']}. The "
        f"machine: {verdict}; the same file opened twice {interval(noise['control'])}."
    )


def harness() -> str:
    """What the benchmark itself adds, and how often it is wrong."""
    report = load(RESULTS / "harness.json")
    repeats, same, slowed = report["repeats"], report["same"], report["slowed"]
    rows = [
        [target["what"], f"{target['got']:g}", target["target"].replace(">=", "≥").replace("<=", "≤"),
         "yes" if target["met"] else "no"]
        for target in report["targets"]
    ]  # fmt: skip
    widths = sorted(entry["high"] - entry["low"] for entry in same)
    ratios = sorted(entry["ratio"] for entry in slowed)
    return (
        table([f"{repeats} repeats", "found", "target", "met"], rows)
        + f"\n\nIntervals cover 99 %; those of the same file are {widths[repeats // 2]:.3f} wide (median). The "
        f"predictor that waits 5 % of its own time took {ratios[0]:.3f} to {ratios[-1]:.3f} times as long.\n\n"
        f"{machine(report['host'])}."
    )


def overhead() -> str:
    """What the toolkit's own Python costs."""
    report = load(RESULTS / "overhead.json")
    one, start, imports = report["one_image"], report["start"], report["import"]
    rows = [[name, *(f"{v:.1f}" for v in figures.values())] for name, figures in one["ways"].items()]
    medians = start["median_ms"]
    return (
        table(["one raw image to its label, one thread", "p50, us", "p90", "p99"], rows)
        + f"\n\n- `classify` takes {one['classify_to_usual_way']:.2f} of the usual way (float32 file, "
        "division by 255 in numpy, `session.run`, argmax) "
        f"and {one['classify_to_bare_run']:.2f} of a bare `session.run` of the same int8 file.\n"
        f"- `toolkit --version` starts in {medians['toolkit --version']:.0f} ms and `--help` in "
        f'{medians["toolkit --help"]:.0f} ms; `python -c "import typer"` takes {medians["import typer"]:.0f} ms.\n'
        f"- `import toolkit.predictor` adds {imports['predictor_median_ms']:.1f} ms to importing numpy and onnxruntime."
        f"\n\n{machine(report['host'])}."
    )
