"""The exported files beside the model that they were made from: figures, verdicts, rows that are labelled otherwise."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.artifact import GOLDEN, KERAS, KERAS_H5, ONNX, PARITY, QUANTIZED, SAVED_MODEL
from toolkit.errors import CorruptArtifactError, UsageError
from toolkit.report.parts import Missing, is_own, not_exported, not_quantized, read_json
from toolkit.verification.report import FORMAT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from toolkit.artifact import Manifest
    from toolkit.manifest_records import FileRecord
    from toolkit.report.results import Answers
    from toolkit.report.rows import KnownRows

__all__ = [
    "CpuFacts",
    "ExportFacts",
    "FileFacts",
    "Flip",
    "FlipFacts",
    "GateFacts",
    "describe_cpus",
    "describe_export",
    "find_flips",
    "read_parity",
]

FLIPS = 24
"""Shown, of the rows that are labelled otherwise."""


@dataclass(frozen=True)
class GateFacts:
    """One verdict of parity.json: what was measured (None: no number), the limit, and whether it held."""

    name: str
    found: float | None
    limit: float
    passed: bool


@dataclass(frozen=True)
class FileFacts:
    """One model file.

    Attributes:
        name, kind, bytes: as the manifest has them; a SavedModel is one entry.
        onnxruntime: the lowest that runs it; None for the source model.
        opset: that it needs; None likewise.
        outputs: what verification found, an entry an output, as `toolkit.manifest_records.ParityRecord` has it.
        gates: the verdicts; empty where parity.json does not have them.
    """

    name: str
    kind: str
    bytes: int
    onnxruntime: str | None
    opset: int | None
    outputs: tuple[dict[str, Any], ...]
    gates: tuple[GateFacts, ...]


@dataclass(frozen=True)
class ExportFacts:
    """The exported files beside the model that they were made from.

    Attributes:
        files: the source model first.
        test: the rows that they were verified on, in a phrase; None where that is not known.
        unverified: why the verdicts are not here, and the command; None: they are.
        quantization: the recipe in a few words; None without a quantized file.
        absent: files that a whole export has and this artifact does not.
    """

    files: tuple[FileFacts, ...]
    test: str | None
    unverified: Missing | None
    quantization: str | None
    absent: tuple[Missing, ...]

    @property
    def passed(self) -> bool | None:
        """Every gate held; None where the verdicts are not here."""
        gates = [gate for file in self.files for gate in file.gates]
        return None if self.unverified or not gates else all(gate.passed for gate in gates)


@dataclass(frozen=True)
class Flip:
    """A row that two label differently; classes by number, with the probability that each gives its own answer.

    Attributes:
        row: which it is.
        true: its class; None where that is not known.
        reference, found: what the reference and the file say.
        reference_confidence: None where only the label is known.
        confidence: of the file.
    """

    row: int
    true: int | None
    reference: int
    found: int
    reference_confidence: float | None
    confidence: float


@dataclass(frozen=True)
class FlipFacts:
    """Rows that a quantized file labels otherwise.

    Attributes:
        file: the quantized one.
        reference: "Keras", or the float32 file where Keras' labels are not known.
        class_names: one a class.
        rows: compared.
        total: how many differ.
        better, worse: of these, how many only the file gets right, and only the reference; None without right answers.
        shown: the first of them.
    """

    file: str
    reference: str
    class_names: tuple[str, ...]
    rows: int
    total: int
    better: int | None
    worse: int | None
    shown: tuple[Flip, ...]


@dataclass(frozen=True)
class CpuFacts:
    """What another CPU made of one file, beside the machine that verified it.

    See `toolkit.manifest_records.CpuRecord`.
    """

    file: str
    kind: str
    cpu: str
    architecture: str
    emulator: str
    rows: int
    labels_differ: int | None
    logits_differ: int
    probabilities_max_abs: float
    accuracy: float | None

    @property
    def verdict(self) -> str:
        """In a few words."""
        if self.labels_differ:
            return f"{self.labels_differ:,} labels differ"
        if self.kind == "int8" and self.logits_differ == 0:  # of other kinds some rows' values are compared, not all
            return "the same bits"
        return "the same labels" if self.labels_differ == 0 else "values differ"


def read_parity(folder: Path, manifest: Manifest, place: str) -> dict[str, Any] | Missing:
    """What the last verification found, if it is about these very files.

    Raises:
        CorruptArtifactError: parity.json is damaged.
    """
    again = f"toolkit verify {place}"
    if is_own(manifest):
        again += " --test FILE"
    path = folder / PARITY
    found = read_json(path, again)
    if ONNX not in manifest.files:
        return not_exported(place)
    if found is None:
        return Missing(f"There is no {PARITY}, so the verdicts of the verification are not known.", again)
    if found.get("format") != FORMAT:
        return Missing(f"{PARITY} is of format {found.get('format')!r}, this version reads {FORMAT}.", again)
    try:
        about = {str(file["name"]): file["sha256"] for file in found["files"]}
        for file in found["files"]:
            [_gate(gate) for gate in file["gates"]]
            [output["parity"]["n"] for output in file["outputs"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise CorruptArtifactError(
            f"{path} is incomplete ({error!r}); remove it, or write it again with: {again}"
        ) from error
    expected = {name: record.sha256 for name, record in manifest.files.items() if name.endswith(".onnx")}
    if about != expected:
        return Missing(f"{PARITY} is about other files than these, so it is not used.", again)
    return found


def _gate(gate: dict[str, Any]) -> GateFacts:
    found = gate["found"]
    return GateFacts(
        str(gate["name"]), None if found is None else float(found), float(gate["limit"]), bool(gate["passed"])
    )


def describe_export(manifest: Manifest, place: str, parity: dict[str, Any] | Missing) -> ExportFacts:
    """The files with their figures and verdicts.

    Args:
        manifest: of the artifact.
        place: how commands call it.
        parity: see `read_parity`.
    """
    gates = {} if isinstance(parity, Missing) else {file["name"]: file["gates"] for file in parity["files"]}
    sources = {name: record for name, record in manifest.files.items() if record.kind in ("keras", SAVED_MODEL)}
    files = []
    if sources:
        name = SAVED_MODEL if len(sources) > 1 else next(iter(sources))
        kind = next(iter(sources.values())).kind
        files.append(FileFacts(name, kind, sum(record.bytes for record in sources.values()), None, None, (), ()))
    for name, record in manifest.files.items():
        if name.endswith(".onnx"):
            outputs = tuple(dataclasses.asdict(row) for row in manifest.parity.get(name, []))
            verdicts = tuple(_gate(gate) for gate in gates.get(name, []))
            files.append(
                FileFacts(name, record.kind, record.bytes, record.onnxruntime, record.opset, outputs, verdicts)
            )
    recipe = manifest.quantization.recipe if manifest.quantization else None
    return ExportFacts(
        files=tuple(files),
        test=manifest.data.test if manifest.data else None,
        unverified=parity if isinstance(parity, Missing) else None,
        quantization=None if recipe is None else _title(recipe) + _finer(manifest),
        absent=tuple(_absent(manifest.files, manifest, place)),
    )


def _title(recipe: dict[str, Any]) -> str:
    from toolkit.conversion.recipe import QuantizationRecipe

    try:
        return QuantizationRecipe(**{**recipe, "keep_float": tuple(recipe.get("keep_float", ()))}).title
    except (TypeError, UsageError):  # of another version
        return str(recipe.get("method", "quantized"))


def _absent(files: dict[str, FileRecord], manifest: Manifest, place: str) -> list[Missing]:
    """Only of an artifact that was exported: else one sentence says it all."""
    if ONNX not in files:
        return []
    found = []
    if not {KERAS, KERAS_H5, f"{SAVED_MODEL}/saved_model.pb"} & files.keys():
        found.append(Missing("The model that the files were made from is not here, so they cannot be verified again."))
    if not set(QUANTIZED.values()) & files.keys():
        found.append(not_quantized(manifest, place))
    if GOLDEN not in files:
        again = not_quantized(manifest, place).command
        found.append(Missing(f"There is no {GOLDEN}, by which a device would test itself.", again))
    return found


def find_flips(
    manifest: Manifest,
    place: str,
    parity: dict[str, Any] | Missing,
    rows: KnownRows | Missing,
    answers: Sequence[Answers],
) -> FlipFacts | Missing:
    """Rows that the quantized file labels otherwise than Keras, or, where that is not known, than the float32 file.

    Keras is not asked: a float32 file gives Keras' label wherever parity.json does not say otherwise.

    Args:
        manifest: of the artifact.
        place: how commands call it.
        parity: see `read_parity`.
        rows: that were asked.
        answers: to these.
    """
    if ONNX not in manifest.files:
        return not_exported(place)
    if not set(QUANTIZED.values()) & manifest.files.keys():
        return not_quantized(manifest, place)
    if isinstance(rows, Missing):
        return rows
    exact = next((each for each in answers if each.kind == "float32"), None)
    said = next((each for each in answers if each.kind != "float32"), None)
    if exact is None or said is None:
        return Missing("The files give no classes, so there are no labels to count.")
    reference, name, corrected = exact.labels, exact.file, None
    if not isinstance(parity, Missing):
        corrected = _keras_labels(parity, rows, exact)
    if corrected is not None:
        reference, name = corrected, "Keras"
    differ = np.flatnonzero(said.labels != reference)
    # Of Keras' own answers only the labels are known; its probabilities are the float32 file's but for rounding.
    known = reference == exact.labels
    better = worse = None
    if rows.labels is not None:
        better = int((said.labels[differ] == rows.labels[differ]).sum())
        worse = int((reference[differ] == rows.labels[differ]).sum())
    return FlipFacts(
        file=said.file,
        reference=name,
        class_names=said.class_names,
        rows=rows.count,
        total=len(differ),
        better=better,
        worse=worse,
        shown=tuple(
            Flip(
                int(row),
                None if rows.labels is None else int(rows.labels[row]),
                int(reference[row]),
                int(said.labels[row]),
                float(exact.confidences[row]) if known[row] else None,
                float(said.confidences[row]),
            )
            for row in differ[:FLIPS]
        ),
    )


def _keras_labels(parity: dict[str, Any], rows: KnownRows, exact: Answers) -> Any:
    """Keras' label of each row, int64 (n,); None where parity.json is not about these rows."""
    try:
        file = next(file for file in parity["files"] if file["kind"] == "float32")
        found = next(output["parity"] for output in file["outputs"] if "flips" in output["parity"])
        same = str(parity["data"]).startswith(rows.source) and found["n"] == rows.count
        if not same:
            return None
        labels = exact.labels.copy()
        for flip in found["flips"]:
            labels[flip["index"]] = flip["keras_label"]
    except (StopIteration, KeyError, TypeError, IndexError):
        return None
    return labels


def describe_cpus(manifest: Manifest, place: str) -> tuple[CpuFacts, ...] | Missing:
    """What other CPUs made of the files."""
    again = f"toolkit verify {place} --cpu all"
    if is_own(manifest):
        again += " --test FILE"
    found = tuple(
        CpuFacts(
            name,
            manifest.files[name].kind,
            row.cpu,
            row.architecture,
            row.emulator,
            row.images,
            row.labels_differ,
            row.logits_differ,
            row.probabilities_max_abs,
            row.accuracy,
        )
        for name, records in manifest.cpus.items()
        if name in manifest.files
        for row in records
    )
    if found:
        return found
    if ONNX not in manifest.files:
        return not_exported(place)
    return Missing("The files did not run on other CPUs yet.", again)


def _finer(manifest: Manifest) -> str:
    """Which layers' weights have a scale a channel though the recipe does not ask that of all, in a phrase."""
    facts = manifest.quantization
    if facts is None or facts.recipe.get("per_channel"):
        return ""
    finer = [
        name.removesuffix("/kernel")
        for name, tensor in facts.tensors.items()
        if name.endswith("/kernel") and isinstance(tensor.get("scale"), list)
    ]
    if not finer:
        return ""
    return f", with a scale a channel in {' and '.join(finer) if len(finer) <= 8 else f'{len(finer)} layers'}"
