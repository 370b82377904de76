"""What `toolkit inspect` shows to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.cli import console
from toolkit.inspection import KerasFacts, OnnxFacts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from toolkit.inspection import ArtifactFacts, Inspection, Layer, SavedModelFacts
    from toolkit.inspection.facts import QuantizedTensor, Shape, Tensor

__all__ = ["print_inspection"]

_STEPS = ("DequantizeLinear", "QuantizeLinear")


def _clean(said: str) -> str:
    """Names come from files of anybody: nothing that moves a terminal's cursor, or starts a line of its own."""
    return "".join(c if c.isprintable() else "\ufffd" for c in said)


def _note(said: str) -> None:
    console.note(_clean(said))


def _print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    console.print_table(_clean(title), columns, [[_clean(cell) for cell in row] for row in rows])


def _print_facts(title: str, kind: str, rows: Sequence[Sequence[str]]) -> None:
    """What is said of one thing: a word and its value in each line."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(kind, "", box=box.SIMPLE_HEAD)
    for word, value in rows:
        table.add_row(Text(_clean(word)), Text(_clean(value)))
    out = Console(highlight=False)
    if not out.is_terminal:
        out.width = 200  # as for the tables: in a pipe nothing should be folded to an imagined terminal
    out.print(Text(_clean(title), style="bold"))
    out.print(table)


def print_inspection(found: Inspection) -> None:
    """Tables on stdout; notes on stderr."""
    if found.artifact is not None:
        _print_artifact(found.path, found.artifact)
    for file in found.files:
        if isinstance(file, OnnxFacts):
            _print_onnx(file)
        else:
            _print_keras(file)


def _print_artifact(path: str, artifact: ArtifactFacts) -> None:
    rows = [
        ["name", artifact.name],
        ["files", ", ".join(f"{name} {_bytes(size)}" for name, size in artifact.files.items())],
        ["inputs", _tensors(artifact.inputs)],
        ["outputs", _tensors(artifact.outputs)],
    ]
    if artifact.class_names:
        rows.append(["classes", f"{len(artifact.class_names)}: {', '.join(artifact.class_names)}"])
    if artifact.quantization:
        rows.append(["quantization", ", ".join(f"{key} {value}" for key, value in artifact.quantization.items())])
    if artifact.conversion:
        rows.append(["converted", f"from {artifact.conversion['source']}, by {artifact.conversion['route']}"])
    for name, outputs in artifact.parity.items():
        for parity in outputs:
            known = ", ".join(f"{key} {_figure(value)}" for key, value in parity.items() if value is not None)
            rows.append(["parity", f"{name}: {known}"])
    if artifact.cpus:
        rows.append(["verified on", ", ".join(artifact.cpus)])
    rows.append(["made with", ", ".join(f"{name} {version}" for name, version in artifact.versions.items())])
    _print_facts(path, "artifact", rows)


def _figure(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _print_keras(file: KerasFacts | SavedModelFacts) -> None:
    for said in file.notes:
        _note(f"{file.file}: {said}")
    rows = [
        ["name", file.name],
        ["written by", file.written_by or "not said"],
        ["inputs", _tensors(file.inputs)],
        ["outputs", _tensors(file.outputs)],
        ["parameters", f"{file.parameters:,}"],
    ]
    if isinstance(file, KerasFacts):
        rows[-1][1] += f" ({file.trainable:,} trainable)"
    rows += [
        ["multiply-adds", _total(file.multiply_adds, file.layers, "one row")],
        ["weights", _stored(file)],
        ["file", _bytes(file.file_bytes)],
    ]
    if not isinstance(file, KerasFacts):
        rows.append(["operators", _counts(file.operators)])
    _print_facts(file.file, file.type.replace("_", " "), rows)
    if file.layers:
        shown = "layers" if isinstance(file, KerasFacts) else "operators that multiply or hold weights"
        _print_layers(shown, file.layers)


def _print_onnx(file: OnnxFacts) -> None:
    floor = file.onnxruntime
    lowest = f"from {floor.version}" if floor.version else "not known"
    rows = [
        ["kind", file.kind],
        ["opset", ", ".join(f"{domain} {version}" for domain, version in file.opsets.items())],
        ["IR version", str(file.ir_version)],
        ["onnxruntime", f"{lowest} ({floor.because})"],
        ["producer", file.producer or "not said"],
        ["inputs", _tensors(file.inputs)],
        ["outputs", _tensors(file.outputs)],
    ]
    if file.class_names:
        rows.append(["classes", f"{len(file.class_names)}: {', '.join(file.class_names)}"])
    rows += [[key, value if len(value) <= 100 else f"{value[:100]}…"] for key, value in file.metadata.items()]
    rows += [
        ["operators", _counts(file.operators)],
        ["parameters", f"{file.parameters:,}"],
        ["multiply-adds", _total(file.multiply_adds, file.layers, file.row)],
        ["weights", _stored(file)],
        ["file", _bytes(file.file_bytes)],
    ]
    _print_facts(file.file, "onnx", rows)
    _print_layers("operators", [layer for layer in file.layers if layer.type not in _STEPS])
    _print_quantized(file)
    _print_saturation(file)


def _print_layers(title: str, layers: Sequence[Layer]) -> None:
    rows = [
        [
            layer.name + (f" ({layer.calls} calls)" if layer.calls > 1 else ""),
            layer.type,
            _shape(layer.output),
            f"{layer.parameters:,}",
            _work(layer),
        ]
        for layer in layers
    ]
    _print_table(title, ["name", "type", "output", "parameters", "multiply-adds"], rows)


def _print_quantized(file: OnnxFacts) -> None:
    rows = []
    for layer in file.quantized:
        for tensor in layer.tensors:
            rows.append(  # noqa: PERF401 - two loops in a list are hard to read
                [
                    layer.name,
                    tensor.role,
                    tensor.dtype,
                    _scale(tensor),
                    "-" if tensor.zero_point is None else str(tensor.zero_point),
                    _granularity(tensor),
                ]
            )
    if rows:
        _print_table("quantization", ["layer", "tensor", "dtype", "scale", "zero point", "scales"], rows)


def _scale(tensor: QuantizedTensor) -> str:
    if tensor.scale is None:
        return "at each run" if tensor.role == "activation" else "not known"
    return " to ".join("not finite" if end is None else f"{end:.6g}" for end in tensor.scale)


def _granularity(tensor: QuantizedTensor) -> str:
    if tensor.scales is None or tensor.scales == 1:
        return "per tensor"
    return f"{tensor.scales:,} in blocks" if tensor.axis is None else f"{tensor.scales:,} along axis {tensor.axis}"


def _print_saturation(file: OnnxFacts) -> None:
    found = file.saturation
    for said in file.notes:
        _note(f"{file.file}: {said}")
    if found.unread:
        _note(
            f"{file.file}: how {', '.join(found.unread)} are used is not known here, so neither is whether they "
            "saturate"
        )
    if found.refused is not None or (found.unread and not found.layers):
        return
    if not found.layers:
        print(f"{file.file}: no layer with 8-bit activations and weights, so nothing can saturate\n")  # noqa: T201
        return
    rows = [
        [
            str(layer["layer"]),
            layer["operator"],
            " x ".join(map(str, layer["shape"])),
            layer["weights"],
            f"{layer['load']} of {layer['limit']}",
            f"by {layer['load'] / layer['limit'] - 1:.0%}" if layer["can_saturate"] else "no",
        ]
        for layer in found.layers
    ]
    columns = ["weights", "operator", "shape", "dtype", "load", "can saturate"]
    _print_table("saturation on x86 without VNNI", columns, rows)


def _total(count: int | None, layers: Iterable[Layer], row: str) -> str:
    if count is not None:
        return f"{count:,} for {row}"
    unknown = [layer for layer in layers if layer.multiply_adds is None]
    free = sum(layer.per_position is not None for layer in unknown)
    known = sum(layer.multiply_adds or 0 for layer in layers)
    why = f"{free} depend on a free dimension" if free else ""
    if len(unknown) > free:
        why = ", ".join(part for part in (why, f"{len(unknown) - free} are not known") if part)
    return f"not known: {why}; {known:,} in the others"


def _work(layer: Layer) -> str:
    if layer.multiply_adds is not None:
        return f"{layer.multiply_adds:,}"
    return f"{layer.per_position:,} a position" if layer.per_position is not None else "not known"


def _tensors(tensors: Iterable[Tensor]) -> str:
    return "; ".join(
        f"{t.name} {t.dtype} [{', '.join('?' if size is None else str(size) for size in t.shape)}]"
        + (f" from {t.range[0]:g} to {t.range[1]:g}" if t.range else "")
        + (f" ({t.task})" if t.task else "")
        for t in tensors
    )


def _shape(shape: Shape | None) -> str:
    return "not known" if shape is None else f"[{', '.join('?' if size is None else str(size) for size in shape)}]"


def _stored(file: KerasFacts | SavedModelFacts | OnnxFacts) -> str:
    total = sum(stored.bytes for stored in file.weights.values())
    each = ", ".join(f"{dtype} {stored.bytes:,}" for dtype, stored in file.weights.items())
    return f"{_bytes(total)}" + (f" ({each})" if len(file.weights) > 1 else f" ({each.split(' ')[0]})" if each else "")


def _bytes(count: int) -> str:
    return f"{count:,} bytes"


def _counts(operators: object) -> str:
    return ", ".join(f"{name} {count}" for name, count in dict(operators).items())  # type: ignore[call-overload]
