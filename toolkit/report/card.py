"""The model card: Markdown with the front matter that the Hugging Face hub reads.

https://huggingface.co/docs/hub/model-cards describes its fields. JSON's strings and lists are YAML too, so names of
anybody's are written as these.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from toolkit.card_mark import CARD_MARK
from toolkit.inspection.svg import printable
from toolkit.report.parts import Missing
from toolkit.report.words import DASH, epochs_of, flat, kilobytes, microseconds, percent, points, same_bits, value_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.report.export import FileFacts
    from toolkit.report.report import Report
    from toolkit.report.results import ResultFacts

__all__ = ["model_card"]

_FASHION = "zalando-datasets/fashion_mnist"
_CLASSES, _PAIRS = 30, 5


def model_card(report: Report) -> str:
    """The card, front matter included. The same report is the same text."""
    parts = [
        _front_matter(report),
        f"# {_plain(report.name)}",
        _plain(report.lead),
        f"**{report.verdict}.**" + (f" {_plain(report.export.test)}." if report.export.test else ""),
        _use(report),
        _files(report),
        _network(report),
        _training(report),
        _results(report),
        _export(report),
        _limits(report),
        _provenance(report),
        CARD_MARK,
    ]
    lines = "\n\n".join(part for part in parts if part).split("\n")
    return "\n".join([*map(printable, lines), ""])


def _is_fashion(report: Report) -> bool:
    data, training = report.manifest.data, report.manifest.training
    return data.fashion_mnist if data is not None else training is not None and "Fashion-MNIST" in training.data


def _exported(report: Report) -> list[FileFacts]:
    return [file for file in report.export.files if file.name.endswith(".onnx")]


def _front_matter(report: Report) -> str:
    exported, fashion = _exported(report), _is_fashion(report)
    task = _hub_task(report)
    tags = [*(["onnx", "onnxruntime"] if exported else ["keras"]), *(file.kind for file in exported)]
    # The toolkit and Fashion-MNIST are MIT, so what the toolkit trains on it can be; of anything else only its maker
    # knows.
    licence = "mit" if fashion and report.manifest.training is not None else "unknown"
    lines = ["---", f"license: {licence}", f"library_name: {'onnx' if exported else 'keras'}"]
    if task != "other":
        lines.append(f"pipeline_tag: {task}")
    lines += ["tags:", *(f"- {tag}" for tag in dict.fromkeys(tags))]
    if fashion:
        lines += ["datasets:", f"- {_FASHION}"]
    if results := _model_index(report, exported, task, fashion=fashion):
        lines += [
            "metrics:",
            "- accuracy",
            "model-index:",
            f"- name: {_yaml(report.name)}",
            "  results:",
            *results,
        ]
    return "\n".join([*lines, "---"])


def _hub_task(report: Report) -> str:
    """What the hub calls it: by the form of a row, since the model itself does not say what its numbers are."""
    inputs, outputs = report.manifest.inputs, report.manifest.outputs
    if _is_fashion(report):
        return "image-classification"
    if not outputs or outputs[0].task != "classification" or len(inputs) != 1:
        return "other"
    shape = inputs[0].shape
    if len(shape) == 4 and shape[3] in (1, 3):
        return "image-classification"
    return "tabular-classification" if len(shape) == 2 else "other"


def _model_index(report: Report, exported: Sequence[FileFacts], task: str, *, fashion: bool) -> list[str]:
    lines = []
    name = "Fashion-MNIST" if fashion else (report.export.test or "")
    for file in exported:
        known = [each for each in file.outputs if each["accuracy"] is not None]
        if not known:
            continue
        lines += [
            "  - task:",
            f"      type: {task}",
            "    dataset:",
            f"      name: {_yaml(name)}",
            f"      type: {_FASHION if fashion else _yaml(name)}",
            "      split: test",
            "    metrics:",
        ]
        for each in known:
            lines += [
                "    - type: accuracy",
                f"      name: {_yaml(f'accuracy of {file.name}')}",
                f"      value: {each['accuracy']!r}",
            ]
    return lines


def _yaml(said: str) -> str:
    return json.dumps(said)


def _plain(said: object) -> str:
    """Text in which Markdown finds no marks of its own, on one line."""
    text = " ".join(str(said).split())
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|" else c for c in text)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    rule = [*["---"] * left, *["---:"] * (len(columns) - left)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (columns, rule, *rows))


def _use(report: Report) -> str:
    manifest = report.manifest
    if not _exported(report):
        return ""
    given = "; ".join(f"`{each.name}`: {each.dtype} {_sizes(each.shape)}" for each in manifest.inputs)
    gives = "; ".join(f"`{each.name}`: {each.dtype} {_sizes(each.shape)}" for each in manifest.outputs)
    wanted = ".class_name" if manifest.class_names else ".outputs"
    name = json.dumps(report.name).replace("`", "\\u0060")  # or it could end the block
    names = [each.name for each in manifest.inputs]
    row = "row" if len(names) == 1 else "{" + ", ".join(f'"{name}": row_{at}' for at, name in enumerate(names, 1)) + "}"
    return "\n".join(
        [
            "## Use",
            "",
            f"Takes {given}. Gives {gives}. Preprocessing is in the graph.",
            "",
            "```python",
            "from toolkit.predictor import Predictor",
            "",
            f"predictor = Predictor({name})  # this folder",
            f"print(predictor.predict({row}){wanted})",
            "```",
        ]
    )


def _sizes(shape: Sequence[str | int]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _files(report: Report) -> str:
    rows = []
    for file in report.export.files:
        first = next(iter(file.outputs), None)
        accuracy = same = lost = DASH
        if first is not None:
            accuracy = percent(first["accuracy"])
            same = percent(first["agreement"])
            if first["accuracy"] is not None:
                lost = points(first["accuracy"] - first["keras_accuracy"])
        rows.append([f"`{file.name}`", kilobytes(file.bytes), accuracy, lost, same, file.onnxruntime or DASH])
    if not rows:
        return ""
    columns = ["file", "size", "accuracy", "points to Keras", "labels as Keras", "onnxruntime from"]
    return f"## Files\n\n{_table(columns, rows)}"


def _network(report: Report) -> str:
    facts = report.network
    if isinstance(facts, Missing):
        return f"## Network\n\n{_missing(facts)}"
    work = DASH if facts.multiply_adds is None else f"{facts.multiply_adds:,}"
    shown = facts.layers[:_CLASSES]
    rows = [
        [
            _plain(layer.name),
            _plain(layer.type),
            f"{layer.parameters:,}",
            DASH if layer.multiply_adds is None else f"{layer.multiply_adds:,}",
        ]
        for layer in shown
    ]
    more = (
        f"\n\n{len(facts.layers) - len(shown):,} more layers are not shown." if len(facts.layers) > len(shown) else ""
    )
    return (
        f"## Network\n\n{facts.parameters:,} parameters, {work} multiply-adds for {facts.row}.\n\n"
        + _table(["layer", "type", "parameters", "multiply-adds"], rows, left=2)
        + more
    )


def _training(report: Report) -> str:
    record, facts = report.manifest.training, report.training
    said = []
    if record is not None:
        said.append(
            f"{_plain(record.data)}. {epochs_of(record)} in {record.seconds:,.0f} s, seed {record.seed}: "
            f"{percent(record.train_accuracy)} on the training images (running average), "
            f"{percent(record.validation_accuracy)} on the validation images."
        )
    if isinstance(facts, Missing):
        said.append(_missing(facts))
    else:
        told = f"The validation loss is least after epoch {facts.best_epoch} of {len(facts.epochs) - facts.finish}"
        if facts.overfits_from is not None:
            told += f", where the model starts to overfit: by the last epoch it rises by {percent(facts.rise, 1)}"
        said.append(f"{told}.")
    if record is not None:
        recipe = [f"| {_plain(key)} | {_plain(value_text(value))} |" for key, value in flat(record.recipe)]
        said.append("\n".join(["| recipe | |", "| --- | --- |", *recipe]))
    return "\n\n".join(["## Training", *said])


def _results(report: Report) -> str:
    facts = report.results
    if isinstance(facts, Missing):
        return f"## Results\n\n{_missing(facts)}"
    rows = [
        [_plain(each.name), percent(each.precision), percent(each.recall), percent(each.f1), f"{each.rows:,}"]
        for each in facts.classes[:_CLASSES]
    ]
    errors = ", ".join(f"{percent(curve.ece)} for `{curve.file}`" for curve in facts.calibration)
    return (
        f"## Results\n\n`{facts.file}` on {facts.rows:,} test rows: {percent(facts.accuracy)} right. Expected "
        f"calibration error: {errors}.\n\n{_table(['class', 'precision', 'recall', 'F1', 'rows'], rows)}"
    )


def _export(report: Report) -> str:
    if not _exported(report):
        return ""
    said = []
    if report.export.quantization:
        said.append(f"Quantization: {_plain(report.export.quantization)}.")
    flips = report.flips
    if not isinstance(flips, Missing):
        said.append(
            f"{flips.total:,} of {flips.rows:,} rows get another label from `{flips.file}` than from "
            f"{_plain(flips.reference)}."
        )
    if isinstance(report.cpus, Missing):
        said.append(_missing(report.cpus))
    else:
        rows = [[f"`{each.file}`", each.cpu, each.verdict, f"{each.rows:,}"] for each in report.cpus]
        said.append(_table(["on emulated CPUs", "CPU", "verdict", "rows"], rows, left=3))
    if report.c_targets:
        rows = [[f"`{each.target}`", each.machine, same_bits(each), f"{each.rows:,}"] for each in report.c_targets]
        said.append(_table(["the model in C", "runs on", "verdict", "rows"], rows, left=3))
    if isinstance(report.bench, Missing):
        said.append(_missing(report.bench))
    else:
        rows = [[f"`{file.name}`", microseconds(file.p50_us), microseconds(file.p99_us)] for file in report.bench.files]
        said.append(_table(["latency of one row", "p50", "p99"], rows))
        said += [
            _plain(line) for line in (*report.bench.heads[:2], *(report.bench.noise if report.bench.noisy else ()))
        ]
    return "\n\n".join(["## Export", *said])


def _limits(report: Report) -> str:
    said = []
    if not isinstance(report.results, Missing):
        said = [f"- {line}" for line in _confused(report.results)]
    if _is_fashion(report):
        said.append(
            "- It knows grey pictures of 28x28 pixels, bright on black and centred, as Fashion-MNIST has them; of "
            "anything else its answer means nothing."
        )
    return "\n".join(["## Limits", "", *said]) if said else ""


def _confused(facts: ResultFacts) -> list[str]:
    names = facts.class_names
    pairs = sorted(
        (-count, row, column)
        for row, counts in enumerate(facts.confusion)
        for column, count in enumerate(counts)
        if row != column and count
    )
    return [
        f"{_plain(names[row])} is said to be {_plain(names[column])} in {-count:,} of {facts.classes[row].rows:,} rows."
        for count, row, column in pairs[:_PAIRS]
    ]


def _provenance(report: Report) -> str:
    found = report.provenance
    versions = ", ".join(f"{_plain(name)} {_plain(version)}" for name, version in found.versions.items())
    hashes = "\n".join(f"| `{name}` | `{digest}` |" for name, (digest, _) in found.hashes.items())
    commands = "\n".join(["```", *found.commands, "```"]) if found.commands else ""
    return "\n\n".join(
        part
        for part in ("## Provenance", f"Made with {versions}.", commands, f"| file | sha256 |\n| --- | --- |\n{hashes}")
        if part
    )


def _missing(missing: Missing) -> str:
    advice = f" It comes with `{missing.command}`." if missing.command else ""
    return f"{_plain(missing.why)}{advice}"
