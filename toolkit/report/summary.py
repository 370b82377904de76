"""What stands on top of a report: what the artifact is, the verdict, and the figures that matter most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.report.parts import Missing
from toolkit.report.report import Tile
from toolkit.report.words import kilobytes, listed, microseconds, percent, points

if TYPE_CHECKING:
    from toolkit.artifact import Manifest
    from toolkit.report.bench import BenchFacts
    from toolkit.report.export import ExportFacts, FileFacts
    from toolkit.report.network import NetworkFacts

__all__ = ["lead_of", "tiles_of", "verdict_of"]


def lead_of(manifest: Manifest, network: NetworkFacts | Missing, export: ExportFacts) -> str:
    """What it is, in a sentence or two."""
    if isinstance(network, Missing):
        said = "A model"
    elif network.sizes is not None:
        layers = len(network.sizes) - 1
        chain = "-".join(str(size) for size in network.sizes)
        said = f"A chain of {layers} dense layer{'s' if layers > 1 else ''} ({chain})"
        said += f" with {network.parameters:,} parameters"
    else:
        said = f"A model of {network.parameters:,} parameters"
    if manifest.training is not None:
        said += f", trained on {manifest.training.data.partition(',')[0]}"
    elif manifest.conversion is not None:
        said += f", made with {manifest.conversion.source}"
    kinds = [file.kind for file in export.files if file.name.endswith(".onnx")]
    return f"{said}. " + (f"Exported to ONNX as {listed(kinds)}." if kinds else "Not exported yet.")


def verdict_of(export: ExportFacts) -> tuple[bool | None, str]:
    """Whether all gates held (None: not known), and that in words."""
    gates = [gate for file in export.files for gate in file.gates]
    if export.passed is None:
        return None, "Verdicts not known" if any(file.outputs for file in export.files) else "Not verified"
    failed = sum(not gate.passed for gate in gates)
    if failed:
        return False, f"{failed} of {len(gates)} gates failed"
    return True, f"All {len(gates)} gates held"


def tiles_of(export: ExportFacts, bench: BenchFacts | Missing, place: str) -> tuple[Tile, ...]:
    """Accuracy, agreement, size and latency."""
    exported = [file for file in export.files if file.name.endswith(".onnx")]
    tiles = _accuracy(exported) + _agreement(exported)
    sizes = {file.kind: kilobytes(file.bytes) for file in export.files}
    smallest = min(exported, key=lambda file: file.bytes, default=None)
    if smallest is not None:
        others = [f"{_named(kind)} {size}" for kind, size in sizes.items() if kind != smallest.kind]
        tiles.append(Tile(f"Size, {smallest.kind}", sizes[smallest.kind], ", ".join(others)))
        tiles.append(_latency(bench, place))
    return tuple(tiles)


def _named(kind: str) -> str:
    return {"keras": "Keras", "saved_model": "SavedModel"}.get(kind, kind)


def _accuracy(exported: list[FileFacts]) -> list[Tile]:
    known = [(file.kind, each) for file in exported for each in file.outputs[:1] if each["accuracy"] is not None]
    if not known:
        return []
    _, first = known[0]
    rows = f"{first['rows']:,} test rows"
    tiles = [Tile("Accuracy, Keras", percent(first["keras_accuracy"]), rows)]
    for kind, each in known:
        lost = each["accuracy"] - each["keras_accuracy"]
        tiles.append(Tile(f"Accuracy, {kind}", percent(each["accuracy"]), f"{points(lost)} points to Keras"))
    return tiles


def _agreement(exported: list[FileFacts]) -> list[Tile]:
    """How alike the last (the quantized) file answers."""
    found = [(file.kind, each) for file in exported for each in file.outputs[:1]]
    if not found:
        return []
    kind, each = next((pair for pair in found if pair[0] != "float32"), found[-1])
    if each["agreement"] is not None:
        same = round(each["agreement"] * each["rows"])
        return [Tile(f"Labels as Keras, {kind}", percent(each["agreement"]), f"{same:,} of {each['rows']:,}")]
    if each["relative_error"] is not None:
        return [Tile(f"Relative error, {kind}", percent(each["relative_error"]), f"{each['rows']:,} rows")]
    return []


def _latency(bench: BenchFacts | Missing, place: str) -> Tile:
    timed = [] if isinstance(bench, Missing) else [file for file in bench.files if file.p50_us is not None]
    if not timed:
        return Tile("Latency, one row", "not timed", f"toolkit bench {place}")
    first, *others = timed
    said = [f"{file.kind} {microseconds(file.p50_us)}" for file in others]
    return Tile(f"Latency, {first.kind}", microseconds(first.p50_us), ", ".join(["p50 of one row", *said]))
