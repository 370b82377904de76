"""benchmarks/RESULTS.md and its plots, from benchmarks/results/peers.json and mlperf.json."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.mlperf.page import mlperf_section, mlperf_summary
from benchmarks.peers.field import BY_HAND, FIELD, GENERATED, NATIVE, OURS
from benchmarks.peers.plots import Mark, dots
from benchmarks.peers.reasons import FIGURES, Figure, better, perhaps, reason

if TYPE_CHECKING:
    from collections.abc import Callable

    Table = Callable[[list[str], list[list[str]]], str]

__all__ = ["plots", "results_page", "summary"]

TITLE = """# Against others

Written by `make peers` and `make readme`. The same trained Keras model and the same 10,000 raw test images through
every runtime that could be had, each set up as its experts would (below). All ran in one run, in processes of their
own that took turns; a ratio is the median over the rounds of p50 by p50, with its 95 % interval. What a caller has to
do is in the time: scaling pixels where the file does not, taking the largest answer. Where others are better than ours,
that stays here, with the reason."""

SHORT = (
    OURS,
    NATIVE,
    "this toolkit, float32",
    "Keras, `predict`",
    "Keras, in `tf.function`",
    "onnxruntime, float32",
    "onnxruntime, static int8",
    "LiteRT, full int8",
    "OpenVINO, NNCF int8",
    "MNN, int8 weights",
    "ncnn, float16 weights",
    "tract, int8",
    "plain numpy, float32",
    GENERATED,
    BY_HAND,
)
"""The rows for the README: of most runtimes the best form."""

NOISY = 0.1


def results_page(report: dict[str, Any], mlperf: dict[str, Any], machine: str, table: Table) -> str:
    """The whole page.

    Args:
        report: of `python -m benchmarks.peers`.
        mlperf: of `python -m benchmarks.mlperf`.
        machine: a line that names it.
        table: makes a table of columns and rows.
    """
    sections = [TITLE + _caution(report)]
    for count in _counts(report):
        title = "One thread" if count == "1" else f"All cores ({count} threads)"
        sections.append(f"## {title}\n\n{_figures(report, count, table)}")
    sections.append(_notes(report))
    measured = {peer["name"] for peer in report["peers"]}
    if missing := [peer.name for peer in FIELD if peer.name not in measured]:
        sections.append(f"Not measured yet: {'; '.join(missing)}.")
    if report.get("targets"):
        sections.append(_targets(report, table))
    sections.append("![latency](plots/latency.svg)\n\n![throughput](plots/throughput.svg)\n\n![room](plots/room.svg)")
    sections += [_sizes(report, table), _lost(report), _settings(report), mlperf_section(mlperf, table)]
    return "\n\n".join([*sections, f"{machine}."]) + "\n"


def plots(report: dict[str, Any]) -> dict[str, str]:
    """SVG files by name."""
    counts, peers = _counts(report), _shown(report)
    series = ["one thread", "all cores"][: len(counts)]

    def marks(values: Callable[[dict[str, Any]], tuple[float, float] | None]) -> list[Mark]:
        found = []
        for peer in peers:
            entries = [peer["threads"].get(count, {}) for count in counts]
            per_count = [None if "p50_us" not in entry else values(entry) for entry in entries]
            found.append(Mark(peer["name"], per_count, ours=peer["name"] == OURS))
        return found

    def room(peer: dict[str, Any]) -> Mark:
        one = peer["threads"].get("1", {})
        sizes = [peer.get("installed_bytes"), one.get("peak_bytes")]
        return Mark(peer["name"], [(s / 1e6, s / 1e6) if s else None for s in sizes], ours=peer["name"] == OURS)

    return {
        "latency.svg": dots(
            "One raw image to its label: p50, with a line to p99",
            "us",
            series,
            marks(lambda e: (e["p50_us"], e["p99_us"])),
        ),
        "throughput.svg": dots(
            f"Images a second in batches of {report['batch']}",
            "images/s",
            series,
            marks(lambda e: (e["images_per_second"], e["images_per_second"])),
        ),
        "room.svg": dots(
            "What is installed, and peak memory at the first answer",
            "MB",
            ["installed", "peak memory"],
            [*map(room, peers)],
        ),
    }


def summary(report: dict[str, Any], mlperf: dict[str, Any], table: Table) -> str:
    """A short table and some lines for the README."""
    last = _counts(report)[-1]
    rows = []
    for peer in report["peers"]:
        one, all_cores = peer["threads"].get("1", {}), peer["threads"].get(last, {})
        if peer["name"] not in SHORT or "p50_us" not in one:
            continue
        rate = all_cores.get("images_per_second") or one["images_per_second"]
        rows.append(
            [
                f"**{peer['name']}**" if peer["name"] == OURS else peer["name"],
                f"{one['labels_as_keras']:,}",
                *(_digits(one[key]) for key in ("p50_us", "p99_us")),
                f"{rate:,.0f}",
                *(
                    [f"{one['first_answer_ms']:.0f}", f"{one['peak_bytes'] / 1e6:.0f}"]
                    if "peak_bytes" in one
                    else ["", ""]
                ),
                f"{peer['installed_bytes'] / 1e6:,.0f}",
            ]
        )
    columns = ["", f"labels as Keras, of {report['images']:,}", "p50, us", "p99", "images/s, all cores"]
    columns += ["first answer, ms", "peak, MB", "installed, MB"]
    ours = _ours(report)
    found = better(report["peers"], ours, FIGURES[0]) if ours else None
    faster = [f"{peer['name']} ({ratio:.2f})" for peer, ratio in found or []]
    lost = f"Faster for one image than ours, by ratio of p50: {', '.join(faster)}. " if faster else ""
    if unsure := _unsure(report, FIGURES[0]):
        lost += f"Perhaps too, as the interval holds 1: {unsure}. "
    return f"{table(columns, rows)}\n\n{lost}{_reached(report)}{mlperf_summary(mlperf)}{_caution(report)}"


def _caution(report: dict[str, Any]) -> str:
    ours = _ours(report)
    spread = max((entry.get("spread", 0.0) for entry in ours["threads"].values()), default=0.0) if ours else 0.0
    found = []
    if report["quick"]:
        found.append("A quick run: too few rounds to conclude anything.")
    if report["interrupted"]:
        found.append("The run was interrupted: figures are of fewer rounds.")
    if spread > NOISY:
        found.append(f"The machine was noisy: medians of our own rounds lie {spread:.0%} apart.")
    return "".join(f"\n\n**{text}**" for text in found)


def _ours(report: dict[str, Any]) -> dict[str, Any] | None:
    return next((peer for peer in report["peers"] if peer["name"] == OURS), None)


def _counts(report: dict[str, Any]) -> list[str]:
    return sorted({count for peer in report["peers"] for count in peer["threads"]}, key=int)


def _shown(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [peer for peer in report["peers"] if any("p50_us" in entry for entry in peer["threads"].values())]


def _digits(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _interval(found: dict[str, float]) -> str:
    digits = 2 if found["ratio"] < 10 else 0
    return f"{found['ratio']:,.{digits}f} ({found['low']:,.{digits}f} to {found['high']:,.{digits}f})"


def _figures(report: dict[str, Any], count: str, table: Table) -> str:
    rows = []
    columns = ["", "accuracy", "labels as Keras", "p50, us", "p99", "p50 / ours, one thread", "images/s"]
    columns += ["first answer, ms", "peak then, MB", "after work"]
    for peer in report["peers"]:
        entry = peer["threads"].get(count)
        if entry is None:
            continue
        name = f"**{peer['name']}**" if peer["name"] == OURS else peer["name"]
        if "p50_us" not in entry:
            rows.append([name, f"not measured: {_one_line(entry['failed'])}", *[""] * (len(columns) - 2)])
            continue
        started = "first_answer_ms" in entry
        rows.append(
            [
                name,
                f"{entry['accuracy']:.2%}",
                f"{entry['labels_as_keras']:,}",
                _digits(entry["p50_us"]),
                _digits(entry["p99_us"]),
                _interval(entry["ratio"]) if "ratio" in entry else "",
                f"{entry['images_per_second']:,.0f}",
                f"{entry['first_answer_ms']:.0f}" if started else "",
                f"{entry['peak_bytes'] / 1e6:.0f}" if started else "",
                f"{entry['worked_bytes'] / 1e6:.0f}" if started else "",
            ]
        )
    return table(columns, rows)


def _one_line(text: str | None) -> str:
    return " ".join((text or "it was not reached").replace("|", "/").removeprefix("not measured: ").split())


def _notes(report: dict[str, Any]) -> str:
    plan, notes = report["plan"], []
    for peer in report["peers"]:
        entries = peer["threads"].values()
        if differ := max((entry.get("batches_differ", 0) for entry in entries), default=0):
            notes.append(f"{peer['name']}: {differ:,} labels of a batch are not those of the same images one by one")
        if fewer := [e for e in entries if e.get("one_by_one", report["images"]) < report["images"]]:
            seen = min(entry["one_by_one"] for entry in fewer)
            notes.append(f"{peer['name']}: labels come from batches ({seen:,} images went one by one as well)")
    shown = "\n" * bool(notes) + "".join(f"\n- {note}" for note in notes)
    return (
        f"{plan['rounds']} rounds, in each up to {plan['calls']} images one by one and {plan['runs']} batches of "
        f"{report['batch']} ({plan['seconds']:g} s at most); fresh processes up to {plan['starts']} of each, files in "
        "the page cache, bytecode cached. *First answer* is from spawn to the label of one raw image; *peak* is VmHWM "
        f"then, and after 256 images and 10 batches. All of it took {sum(report['seconds'].values()) / 60:.0f} "
        f"minutes, of these {sum(report['conversion_seconds'].values()):.0f} s for conversions.{shown}"
    )


def _targets(report: dict[str, Any], table: Table) -> str:
    rows = []
    for entry in report["targets"]:
        got, verdict = ("not measured", "") if entry["met"] is None else (_interval(entry), _verdict(entry))
        rows.append([entry["what"], entry["base"], got, f"{entry['most']:g}", verdict])
    insides = {peer["name"]: peer["threads"]["1"].get("inside_p50_us") for peer in report["peers"]}
    told = [f"{name} {value:.2f} us" for name, value in insides.items() if value]
    alone = f"p50 timed in C: {', '.join(told)}. " if told else ""
    return (
        "## The model in C\n\nOne raw image to its label, one thread, against what it is to reach; of two bases the "
        f"faster one.\n\n{table(['', 'of the time of', 'ratio', 'at most', ''], rows)}\n\n{alone}"
        "The kernel by hand is for this one network; both are built by the same gcc with the same options."
    )


def _verdict(entry: dict[str, Any]) -> str:
    return "met" if entry["met"] else "**missed**"


def _reached(report: dict[str, Any]) -> str:
    """The targets of the model in C in a line."""
    told = [
        f"{entry['what']} {_interval(entry)} of {entry['base']} (at most {entry['most']:g}: {_verdict(entry)})"
        for entry in report.get("targets", [])
        if entry["met"] is not None
    ]
    return f"The model in C: {'; '.join(told)}. " if told else ""


def _sizes(report: dict[str, Any], table: Table) -> str:
    rows = []
    for peer in report["peers"]:
        if "installed_bytes" in peer:
            largest = sorted(peer["packages"], key=lambda entry: -entry["bytes"])[:3]
            named = ", ".join(f"{entry['package']} {entry['version']}" for entry in largest)
            rows.append(
                [
                    peer["name"],
                    f"{peer['file_bytes'] / 1000:,.0f}",
                    f"{peer['installed_bytes'] / 1e6:,.0f}",
                    f"{len(peer['packages'])}",
                    named,
                ]
            )
    return "## Size\n\n" + table(["", "file, kB", "installed, MB", "packages", "the largest"], rows)


def _lost(report: dict[str, Any]) -> str:
    ours = _ours(report)
    lines = []
    for figure in FIGURES if ours else ():
        assert ours is not None
        found = better(report["peers"], ours, figure)
        if unsure := _unsure(report, figure):
            lines.append(f"- {figure.name}, perhaps, as the interval holds 1: {unsure}.")
        if not found:
            lines.append(f"- {figure.name}: {'not measured' if found is None else 'nobody is better'}.")
            continue
        by_reason: dict[str, list[str]] = {}
        whole = [peer for peer, _ in found if _all_labels(figure, peer, report)]
        if whole:
            by_reason[reason(figure, "")] = [f"{len(whole)} forms with all {report['images']:,}"]
        for peer, ratio in found:
            if peer not in whole:
                named = f"{peer['name']} ({_how(figure, peer, ratio)})"
                by_reason.setdefault(reason(figure, peer["engine"]), []).append(named)
        told = "; ".join(f"{', '.join(names)}{f': {why}' if why else ''}" for why, names in by_reason.items())
        lines.append(f"- {figure.name}: {told}.")
    return "## Where others are better, and why\n\nBy ratio to this toolkit's int8 file, one thread.\n\n" + "\n".join(
        lines
    )


def _unsure(report: dict[str, Any], figure: Figure) -> str:
    found = perhaps(report["peers"], figure)
    return ", ".join(f"{peer['name']} ({ratio['ratio']:.2f}, up to {ratio['high']:.2f})" for peer, ratio in found)


def _all_labels(figure: Figure, peer: dict[str, Any], report: dict[str, Any]) -> bool:
    return figure.key == "labels_as_keras" and peer["threads"]["1"][figure.key] == report["images"]


def _how(figure: Figure, peer: dict[str, Any], ratio: float) -> str:
    found = peer["threads"].get("1", {})
    if figure.key == "labels_as_keras":
        return f"{found[figure.key]:,}"
    return f"{found[figure.key]:.2%}" if figure.key == "accuracy" else f"{ratio:.2f}"


def _settings(report: dict[str, Any]) -> str:
    lines = [f"- {peer['name']}: {peer['settings']}" for peer in report["peers"]]
    return "## How each was set up\n\n" + "\n".join(lines)
