"""The export: files side by side, verdicts, flips, error by layer, other CPUs, timings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.report.charts import latency_chart
from toolkit.report.markup import Child, Html, code, paragraph, table, tag
from toolkit.report.parts import Missing, not_exported
from toolkit.report.sections.common import cards, figure, part, row_card, section, without
from toolkit.report.words import DASH, kilobytes, percent, points, same_bits
from toolkit.report.words import figure as number

if TYPE_CHECKING:
    from toolkit.report.bench import BenchFacts
    from toolkit.report.export import ExportFacts, FileFacts, Flip, FlipFacts
    from toolkit.report.report import Report
    from toolkit.verification.layers import LayerReport

__all__ = ["show"]

_FIRST = ("Single stream", "Cold start", "What it costs")
"""Tables of a benchmark that are not folded away."""


def show(report: Report) -> Html:
    """Everything about the exported files."""
    facts = report.export
    exported = [file for file in facts.files if file.name.endswith(".onnx")]
    if not exported:
        return section(
            "export",
            "Export",
            without(not_exported(report.place)),
        )
    return section(
        "export",
        "Export",
        _files(facts),
        _gates(facts, exported),
        [without(missing) for missing in facts.absent],
        _flips(report) if any(file.kind not in ("float32", "keras", "saved_model") for file in facts.files) else None,
        _layers(report) if any(file.kind == "int8" for file in exported) else None,
        _cpus(report),
        _c_targets(report),
        _bench(report.bench),
    )


def _files(facts: ExportFacts) -> Html:
    rows: list[list[Child]] = []
    columns = [
        "file",
        "size",
        "accuracy",
        "points to Keras",
        "labels as Keras",
        "largest difference",
        "onnxruntime from",
    ]
    several = any(len(file.outputs) > 1 for file in facts.files)
    keras = next((each["keras_accuracy"] for file in facts.files for each in file.outputs), None)
    for file in facts.files:
        size, floor = kilobytes(file.bytes), file.onnxruntime or ""
        if not file.outputs:
            rows.append([file.name, size, "" if keras is None else percent(keras), "", "", "", floor])
        for at, each in enumerate(file.outputs):
            name = f"{file.name}: {each['output']}" if several else file.name
            known = each["accuracy"] is not None
            same = DASH
            if each["agreement"] is not None:
                same = percent(each["agreement"])
            elif each["relative_error"] is not None:
                same = f"off by {percent(each['relative_error'])}"
            rows.append(
                [
                    name,
                    size if at == 0 else "",
                    percent(each["accuracy"]),
                    points(each["accuracy"] - each["keras_accuracy"]) if known else DASH,
                    same,
                    number(each["max_abs"]),
                    floor if at == 0 else "",
                ]
            )
    said = f"Verified on {facts.test}. " if facts.test else ""
    if facts.quantization:
        said += f"Quantization: {facts.quantization}."
    return part("Files", paragraph(said) if said else None, table("Files side by side", columns, rows))


def _gates(facts: ExportFacts, exported: list[FileFacts]) -> Child:
    if facts.unverified is not None:
        return part("Verdicts", without(facts.unverified))
    tables = []
    for file in exported:
        failed = [gate for gate in file.gates if not gate.passed]
        rows = [
            [
                gate.name,
                number(gate.found),
                number(gate.limit),
                tag("span", "held", class_="good") if gate.passed else tag("span", "FAILED", class_="bad"),
            ]
            for gate in file.gates
        ]
        told = (
            f"{file.name}: {len(file.gates)} gates held"
            if not failed
            else f"{file.name}: {len(failed)} of {len(file.gates)} gates FAILED"
        )
        inside = table(f"Gates of {file.name}", ["gate", "found", "limit", "verdict"], rows)
        tables.append(tag("details", tag("summary", told), inside, open=bool(failed)))
    return part(
        "Verdicts",
        paragraph("A gate is a figure with a limit. A file is published only if all of its gates hold."),
        tables,
    )


def _flips(report: Report) -> Html:
    facts = report.flips
    if isinstance(facts, Missing):
        return part("Flips", without(facts))
    said = f"{facts.total:,} of {facts.rows:,} rows get another label from {facts.file} than from {facts.reference}."
    if facts.better is not None and facts.worse is not None and facts.total:
        neither = facts.total - facts.better - facts.worse
        said += f" Of these {facts.better:,} are right now and were not, {facts.worse:,} were right and are not"
        said += f", {neither:,} are wrong either way." if neither else "."
    shown = [_flip_card(report, facts, each) for each in facts.shown]
    if facts.total > len(shown):
        said += f" The first {len(shown)} are shown."
    return part("Flips", paragraph(said), cards(shown, "Rows with another label") if shown else None)


def _flip_card(report: Report, facts: FlipFacts, flip: Flip) -> Html:
    names = facts.class_names
    sure = "" if flip.reference_confidence is None else f" {percent(flip.reference_confidence, 1)}"

    def answer(label: int) -> Html:
        kind = None if flip.true is None else "good" if label == flip.true else "bad"
        return tag("b", names[label], class_=kind)

    lines: list[Child] = [
        [f"{facts.reference} ", answer(flip.reference), sure],
        [f"{_kind(facts)} ", answer(flip.found), f" {percent(flip.confidence, 1)}"],
    ]
    if flip.true is not None and flip.true not in (flip.reference, flip.found):
        lines.append(["is ", tag("b", names[flip.true])])
    said = f"{facts.reference}: {names[flip.reference]}, {facts.file}: {names[flip.found]}"
    return row_card(report.pictures.get(flip.row), said, lines, flip.row)


def _kind(facts: FlipFacts) -> str:
    return facts.file.removesuffix(".onnx").rpartition(".")[2]


def _layers(report: Report) -> Html:
    found = report.layers
    if isinstance(found, Missing):
        return part("Error by layer", without(found))
    rows = [
        [
            each.layer,
            DASH if each.own_labels_changed is None else percent(each.own_labels_changed),
            _db(each.own_sqnr_db),
            _db(each.own_weights_db),
            _db(each.own_input_db),
            _db(each.sqnr_db),
            percent(each.range_used, 0),
            percent(each.clipped),
            DASH
            if each.saturation_load is None or each.saturation_limit is None
            else f"{each.saturation_load} of {each.saturation_limit}",
        ]
        for each in found.layers
    ]
    columns = [
        "layer",
        "labels changed",
        "alone, dB",
        "its weights",
        "its input",
        "in the file, dB",
        "range used",
        "clipped",
        "saturation load",
    ]
    return part(
        "Error by layer",
        paragraph(_layers_said(found)),
        table("Error by layer, worst first", columns, rows),
    )


def _layers_said(found: LayerReport) -> str:
    whole = (
        "" if found.output_sqnr_db is None else f" The whole file has {_db(found.output_sqnr_db)} dB at its answers."
    )
    return (
        f"On {found.images:,} test rows, worst first: labels that change, and signal to quantization noise of the "
        "answers, when this layer alone is in 8 bits and all others are in float (with its weights alone, with its "
        f"input alone); then that of its own output in the file.{whole}"
    )


def _db(value: float | None) -> str:
    return DASH if value is None else "exact" if value == float("inf") else f"{value:.1f}"


def _cpus(report: Report) -> Html:
    found = report.cpus
    if isinstance(found, Missing):
        return part("Other CPUs", without(found))
    rows = [
        [
            each.file,
            f"{each.cpu} ({each.architecture})",
            tag("span", each.verdict, class_="bad" if each.labels_differ else "good"),
            DASH if each.labels_differ is None else f"{each.labels_differ:,} of {each.rows:,}",
            f"{each.logits_differ:,}",
            number(each.probabilities_max_abs),
            percent(each.accuracy),
        ]
        for each in found
    ]
    by = ", ".join(dict.fromkeys(each.emulator for each in found))
    columns = ["file", "CPU", "verdict", "labels that differ", "values that differ", "largest difference", "accuracy"]
    return part(
        "Other CPUs",
        paragraph(
            f"The same files and rows on CPUs emulated by {by}, beside the machine that verified them. Values are "
            "those in front of the last softmax, compared bit for bit (of int8 files all, of others those of the first "
            "1,000 rows); the largest difference is of what comes out behind it."
        ),
        table("Verdicts by CPU", columns, rows, left=3),
    )


def _c_targets(report: Report) -> Child:
    if not report.c_targets:
        return None
    rows = [
        [
            each.target,
            f"{each.compiler} {each.flags}",
            each.machine if each.machine == each.runs_on else f"{each.machine}, {each.runs_on}",
            tag("span", same_bits(each), class_="bad" if each.logits_differ else "good"),
            f"{each.rows:,}",
            number(each.logits_max_abs),
            *(DASH if value is None else f"{value:,}" for value in (each.instructions, each.flash, each.ram)),
        ]
        for each in report.c_targets
    ]
    columns = ["target", "compiler", "runs on", "verdict", "rows", "largest difference", "instructions an inference"]
    return part(
        "The model in C",
        paragraph(
            "model.c compiled for other processors and run there or under emulation. What it gives in front of the "
            "last softmax is compared with the int8 file's, bit for bit. Flash and RAM, in bytes, are those of a whole "
            "image for a microcontroller."
        ),
        table("Verdicts by target of the C code", [*columns, "flash", "RAM"], rows, left=4),
    )


def _bench(facts: BenchFacts | Missing) -> Html:
    if isinstance(facts, Missing):
        return part("Latency and footprint", without(facts))
    drawn = [
        figure(latency_chart(file), f"{file.name}: how often which time occurred, up to p99.9.")
        for file in facts.files
        if file.counts
    ]
    others = [each for each in facts.tables if not each[0].startswith(_FIRST)]
    loud = [line for line in facts.noise if facts.noisy or line.startswith(("FAILED", "INTERRUPTED"))]
    return part(
        "Latency and footprint",
        [paragraph(line, class_="missing") for line in loud],
        tag("div", drawn, class_="charts") if drawn else None,
        [_bench_table(*each) for each in facts.tables if each[0].startswith(_FIRST)],
        tag("details", tag("summary", "All other figures"), [_bench_table(*each) for each in others])
        if others
        else None,
        tag("ul", [tag("li", line) for line in facts.heads], class_="faint"),
        [paragraph(line, class_="faint") for line in facts.noise if line not in loud],
        paragraph("Every sample is in ", code("bench.json"), f", measured {facts.created}.", class_="faint"),
    )


def _bench_table(title: str, heads: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> Html:
    kept = [at for at, head in enumerate(heads) if head != "distribution"]  # drawn above
    return table(title, [heads[at] for at in kept], [[row[at] for at in kept] for row in rows])
