"""benchmarks/DEVICE.md, from benchmarks/results/device.json."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.device.common import FOLDER, LEAST, NATIVE, NUMPY
from benchmarks.device.common import LITERT as LEAST_LITERT

if TYPE_CHECKING:
    from collections.abc import Callable

    Table = Callable[[list[str], list[list[str]]], str]

__all__ = ["device_page", "summary"]

LITERT = "LiteRT, int8, uint8 in and out"

TITLE = """# What the device side costs

Written by `make device` and `make readme`. Everything that is compared ran in turn in one run; a ratio is the median
over the rounds, with its 95 % interval. What misses its target, and what another runtime does better, stays here."""

WHY_LITERT = """Ours looks at what it was given (type, dtype, shape), copies it, runs and takes the largest. LiteRT's
rows are the fastest way that its public interface offers: allocated once, one thread, XNNPACK, `set_tensor` or views,
`invoke`, `get_tensor`, argmax; its files take one image at a time, ours any number. *Alone* is the runtime's own run,
with nothing copied and nothing looked at."""


def device_page(report: dict[str, Any], machine: str, table: Table) -> str:
    """The whole page.

    Args:
        report: of `python -m benchmarks.device`.
        machine: a line that names it.
        table: makes a table of columns and rows.
    """
    sections = [TITLE + _caution(report), _targets(report, table), _one_image(report["one_image"], table)]
    sections += [_cold_start(report["cold_start"], table), _memory(report["memory"], table)]
    sections += [_idle(report["idle"], table), _settings(report["settings"], table)]
    sections += [_sizes(report["sizes"], table), _litert(report, table)]
    return "\n\n".join([*sections, f"{machine}."]) + "\n"


def summary(report: dict[str, Any]) -> str:
    """Some lines for the README."""
    one, start, litert = report["one_image"], report["cold_start"], report["litert"]
    entries = _all_targets(report)
    missed = [entry["what"] for entry in entries if not entry["met"]]
    peak = start["peak_bytes"]
    best, ours = litert["rows"][LITERT], litert["rows"]["toolkit, int8"]
    more = peak["predictor, folder"] - peak["least script"]
    verdict = f"{len(entries) - len(missed)} of {len(entries)} targets are met"
    bound, run = (one["ratios"][f"classify / {base}"] for base in ("bound runtime", "session.run, our options"))
    return (
        f"- One raw image to its label: {_interval(bound)} of the bare runtime with bound buffers, {_interval(run)} of "
        "a plain `session.run`.\n"
        "- A fresh process gives its first answer in "
        f"{_interval(start['processes']['predictor, folder']['first_answer'])} of the time that the least script takes "
        f"(import, open, run), every hash checked, with {_megabytes(more)} more memory at its peak.\n"
        f"- Waiting takes {report['idle']['processes']['ours (defaults)']['idle_cpu_us']:.0f} us of CPU time in "
        f"{report['idle']['seconds']:g} s.\n"
        f"- Beside LiteRT's int8 of the same model: p50 {ours['ways']['classify']['p50_us']:.1f} us against "
        f"{best['ways'][best['best']]['p50_us']:.1f}, as LiteRT's call is shorter; {ours['labels_as_keras']:,} of "
        f"{litert['images']:,} labels as Keras against {best['labels_as_keras']:,}. LiteRT's first answer comes in "
        f"{_interval(start['processes']['least script, LiteRT']['first_answer'])} of the least script's time, with "
        f"{_megabytes(peak['least script'] - peak['least script, LiteRT'])} less memory.\n"
        f"{_native_line(start)}\n"
        f"{verdict}{': missed are ' + '; '.join(missed) if missed else ''}."
    )


def _native_line(start: dict[str, Any]) -> str:
    beside = start.get("compared", {}).get(f"{NATIVE} / {LEAST_LITERT}")
    if not beside:
        return ""
    peak = start["peak_bytes"]
    return (
        f"- The native backend's first answer comes in {_interval(beside['first_answer'])} of LiteRT's time, with "
        f"{_megabytes(peak[NATIVE])} at its peak against {_megabytes(peak[LEAST_LITERT])}; numpy alone takes "
        f"{_megabytes(peak[NUMPY])}.\n"
    )


def _caution(report: dict[str, Any]) -> str:
    return "\n\n**A quick run: too few rounds to conclude anything.**" if report["quick"] else ""


def _all_targets(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry for part in report.values() if isinstance(part, dict) for entry in part.get("targets", [])]


def _targets(report: dict[str, Any], table: Table) -> str:
    rows = []
    for entry in _all_targets(report):
        got = _interval(entry | {"ratio": entry["got"]}) if "low" in entry else _plain(entry["got"])
        unit = f" {entry['unit']}" if entry["unit"] else ""
        verdict = "met" if entry["met"] else "**missed**"
        rows.append([entry["what"], f"{got}{unit}", f"{entry['most']:,g}{unit}", verdict])
    return "## Targets\n\n" + table(["", "measured", "at most", ""], rows)


def _plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _interval(found: dict[str, float]) -> str:
    return f"{found['ratio']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.1f} MB"


def _times(found: dict[str, float]) -> list[str]:
    return [f"{found[key]:.2f}" for key in ("p50_us", "p90_us", "p99_us")]


def _one_image(part: dict[str, Any], table: Table) -> str:
    names = {
        "bound runtime": "`run_with_iobinding` alone: nothing copied, no label taken",
        "inner call": "the runtime's C++ under it, with RunOptions made once: what the predictor calls",
        "session.run, our options": "`session.run`, our options",
        "session.run, default options": "`session.run`, default options",
    }
    bases = list(names)
    rows = [
        [
            names.get(name, f"`{name}`"),
            *_times(found),
            *(_interval(ratio) if (ratio := part["ratios"].get(f"{name} / {base}")) else "" for base in bases),
        ]
        for name, found in part["ways"].items()
    ]
    columns = ["", "p50, us", "p90", "p99", "of the bound runtime", "of its C++"]
    columns += ["of `session.run`, our options", "default options"]
    at_once = part["threads_at_once"]
    return (
        "## One raw image to its label\n\n"
        f"The same int8 file, one process, {part['rounds']} rounds of {part['calls']:,} calls in short turns, every "
        f"session opened anew in each round.\n\n{table(columns, rows)}\n\n"
        f"{at_once['threads']} threads at once, one predictor, {at_once['calls']:,} calls: {at_once['labels_differ']} "
        "labels are not those of one thread alone."
    )


def _cold_start(part: dict[str, Any], table: Table) -> str:
    rows = [
        [
            name,
            f"{found['first_answer']['median_ms']:.0f}",
            _interval(found["first_answer"]),
            f"{found['exit']['median_ms']:.0f}",
            _interval(found["exit"]),
            f"{found['cpu']['median_ms']:.0f}",
            _interval(found["cpu"]),
            _megabytes(part["peak_bytes"][name]),
        ]
        for name, found in part["processes"].items()
    ]
    columns = ["", "first answer, ms", "ratio", "exit, ms", "ratio", "CPU time, ms", "ratio", "peak memory"]
    steps = ["interpreter", "numpy", "predictor", "onnxruntime", "reading and checks", "session", "first run"]
    whose = ["", "", "ours", "the runtime's", "ours", "the runtime's", "both"]
    timed = part["parts_ms"]
    shown = [
        [step, whose_is, *(f"{found[step]:.1f}" if step in found else "-" for found in timed.values())]
        for step, whose_is in zip(steps, whose, strict=True)
    ]
    return (
        f"## Cold start\n\n{part['starts']} fresh processes of each, in turn; files in the page cache, bytecode "
        "cached, Python with numpy and onnxruntime and nothing else. The least script imports numpy and onnxruntime, "
        f"opens the file with default options, runs once, takes the largest. *Folder* is a bundle: every hash is "
        "checked. *Lone file* has no manifest beside it. The first answer is the moment when the process writes its "
        f"label into a pipe; peak memory is VmHWM then.\n\n{table(columns, rows)}\n\n{_native_start(part)}"
        "Where the time goes (medians of "
        f"processes with a clock in them):\n\n{table(['ms', 'whose', *timed], shown)}"
    )


def _native_start(part: dict[str, Any]) -> str:
    """What of the native backend's start is not its own."""
    if NATIVE not in part["processes"]:
        return ""
    peak, times = part["peak_bytes"], {name: found["first_answer"] for name, found in part["processes"].items()}
    beside = part["compared"].get(f"{NATIVE} / {LEAST_LITERT}")
    litert = (
        f" Its first answer takes {_interval(beside['first_answer'])} of the least LiteRT script's time, its peak "
        f"memory {peak[NATIVE] / peak[LEAST_LITERT]:.2f} of that one's."
        if beside
        else ""
    )
    return (
        f"*{NATIVE}* opens a bundle of the same file with its compiled model, in Python with numpy and nothing else, "
        f"every hash checked and the library's golden vectors run.{litert} What is left is numpy: *{NUMPY}* imports "
        f"it and makes one array, in {times[NUMPY]['median_ms']:.0f} of the {times[NATIVE]['median_ms']:.0f} ms and "
        f"{_megabytes(peak[NUMPY])} of the {_megabytes(peak[NATIVE])}.\n\n"
    )


def _memory(part: dict[str, Any], table: Table) -> str:
    rows = [
        [f"`{way}`", f"{found['resident_bytes']:,}", f"{found['blocks']:,}", f"{found['traced_bytes']:,}"]
        for way, found in part["ways"].items()
    ]
    batches = part["batches"]
    grown = [
        [name, _megabytes(found["growth_bytes"]), _megabytes(found["peak_growth_bytes"])]
        for name, found in batches["processes"].items()
    ]
    columns = [f"growth over {part['calls']:,} calls", "resident, bytes", "Python's blocks", "tracemalloc, bytes"]
    return (
        f"## Memory\n\n{table(columns, rows)}\n\n(tracemalloc over {part['traced_calls']:,} calls.)\n\n"
        f"Batches of random sizes, the same for all ({batches['batches']:,} of 1 to {batches['largest']:,} rows):\n\n"
        + table(["", "resident memory grew by", "at its peak by"], grown)
    )


def _idle(part: dict[str, Any], table: Table) -> str:
    rows = [
        [
            name,
            f"{found['idle_cpu_us']:,.0f}",
            f"{found['wake_ups']:,}",
            f"{found['paced_cpu_us_a_call']:,.0f}",
            str(found["threads"]),
        ]
        for name, found in part["processes"].items()
    ]
    columns = ["", "CPU time, us", "wake-ups", f"CPU time a call, {part['pause_ms']:g} ms apart, us", "threads"]
    return (
        f"## Waiting\n\nA process with its model open, left alone for {part['seconds']:g} s after some calls; and "
        f"{part['paced_calls']} calls with pauses, where spinning shows (it goes on for some milliseconds after a "
        f"run). One of the threads is numpy's.\n\n{table(columns, rows)}"
    )


def _settings(part: dict[str, Any], table: Table) -> str:
    rows = [
        [
            f"`{name}`" if name not in ("ours (defaults)", "onnxruntime, default options") else name,
            *_times(found),
            _interval(found["latency_ratio"]),
            f"{found['cpu_us_a_call']:.1f}",
            f"{found['open_ms']:.1f}",
            _interval(found["open_ratio"]),
        ]
        for name, found in part.items()
    ]
    columns = ["", "p50, us", "p90", "p99", "ratio", "CPU time a call, us", "open, ms", "ratio"]
    return (
        "## Each of RuntimeSettings\n\n`classify` in a process each, taking turns; onnxruntime's row is `session.run`. "
        f"Opening is that of a `Predictor` (or a bare session) from the page cache.\n\n{table(columns, rows)}"
    )


def _sizes(part: dict[str, Any], table: Table) -> str:
    rows = [[name, f"{found['bytes']:,}", f"{found['beside_the_model']:,}"] for name, found in part["files"].items()]
    return f"## Sizes\n\nOf the int8 file's bundle.\n\n{table(['', 'bytes', 'of them beside the model'], rows)}"


def _litert(report: dict[str, Any], table: Table) -> str:
    part = report["litert"]
    rows = []
    for name, row in part["rows"].items():
        best = row["ways"][row["best"]]
        alone = row["ways"].get("runtime alone")
        ratio = part["ratios"].get(f"toolkit, int8 / {name}")
        rows.append(
            [
                name,
                *_times(best),
                f"{alone['p50_us']:.2f}" if alone else "",
                _interval(ratio) if ratio else "",
                f"{row['accuracy']:.2%}",
                f"{row['labels_as_keras']:,}",
                f"{row['bytes']:,}",
                row["best"],
            ]
        )
    columns = [
        "one raw image to its label", "p50, us", "p90", "p99", "alone, p50", "ours, int8 / this", "accuracy",
        f"labels as Keras of {part['images']:,}", "file, bytes", "fastest way",
    ]  # fmt: skip
    forms = "; ".join(f"*{name}*: {what}" for name, what in part["forms"].items())
    start = report["cold_start"]
    names = [name for name in (LEAST, FOLDER, NATIVE, LEAST_LITERT, NUMPY) if name in start["processes"]]
    starts = [
        [name, f"{start['processes'][name]['first_answer']['median_ms']:.0f}", _megabytes(start["peak_bytes"][name])]
        for name in names
    ]
    return (
        f"## Beside LiteRT\n\nThe same Keras model through TensorFlow's converter ({forms}), with batch 1 and the "
        "scaling in the graph, run by `ai-edge-litert`; each runtime in an environment with numpy and nothing else "
        f"that it does not require. Two long-lived processes take turns: {part['rounds']} rounds of {part['calls']:,} "
        f"calls.\n\n{table(columns, rows)}\n\n{WHY_LITERT}\n\n{_why(part)}\n\n"
        f"{table(['cold start', 'first answer, ms', 'peak memory'], starts)}\n\n{_installed(part, table)}"
    )


def _why(part: dict[str, Any]) -> str:
    fixed = {name: found["p50_us"] for name, found in part["fixed"].items()}
    int8 = [part["rows"][name]["ways"]["runtime alone"]["p50_us"] for name in ("onnxruntime, int8", LITERT)]
    return (
        f"With int8 the runtimes alone take {int8[0]:.1f} us (onnxruntime) and {int8[1]:.1f} us (LiteRT), a ratio of "
        f"{_interval(part['ratios']['the runtimes alone, int8'])}. The same graph with {part['neurons']} neurons a "
        f"layer, so with next to no arithmetic, takes {fixed['onnxruntime']:.1f} us and {fixed['LiteRT']:.1f} us: that "
        "is the path of a call through each runtime, and what is left is arithmetic."
    )


def _installed(part: dict[str, Any], table: Table) -> str:
    rows = []
    for name, packages in part["installed"].items():
        numpy = sum(entry["bytes"] for entry in packages if entry["package"] == "numpy")
        rest = [entry for entry in packages if entry["package"] != "numpy"]
        versions = ", ".join(f"{entry['package']} {entry['version']}" for entry in rest)
        rows.append([name, _megabytes(sum(entry["bytes"] for entry in rest)), _megabytes(numpy), versions])
    return table(["installed, with bytecode", "runtime and what it requires", "numpy", "packages"], rows)
