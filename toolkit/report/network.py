"""The network: its layers, what they hold and compute, and the graph that the diagram is drawn from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.artifact import KERAS, ONNX
from toolkit.errors import ToolkitError
from toolkit.inspection import inspect_path
from toolkit.inspection.graph import DENSE, FUNCTION, chain
from toolkit.inspection.neurons import as_columns
from toolkit.inspection.onnx_files import inspect_onnx
from toolkit.predictor import model_files
from toolkit.report.parts import ASIDE, Missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.artifact import Manifest
    from toolkit.inspection import KerasFacts, Layer, OnnxFacts, SavedModelFacts
    from toolkit.inspection.graph import Graph

__all__ = ["LayerFacts", "NetworkFacts", "describe_network"]


@dataclass(frozen=True)
class LayerFacts:
    """One layer, or one operator: numbers stored, and multiply-adds for one row (None where they are not known)."""

    name: str
    type: str
    output: tuple[int | str | None, ...] | None
    parameters: int
    multiply_adds: int | None


@dataclass(frozen=True, eq=False)
class NetworkFacts:
    """What the model computes.

    Attributes:
        file: that was looked into.
        sizes: values that come in, and neurons of each layer, of a chain of dense layers; None for any other model.
        layers: those that multiply or hold parameters.
        parameters, multiply_adds: of all of them; see `toolkit.inspection.facts`.
        row: what the multiply-adds are for.
        graph: for the diagram.
    """

    file: str
    sizes: tuple[int, ...] | None
    layers: tuple[LayerFacts, ...]
    parameters: int
    multiply_adds: int | None
    row: str
    graph: Graph = field(repr=False, metadata=ASIDE)


def describe_network(folder: Path, manifest: Manifest, place: str) -> NetworkFacts | Missing:
    """The network of an artifact: of its float32 file, or, where nothing was exported yet, of its Keras model.

    Raises:
        MissingError: onnx or Keras is not installed.
        CorruptArtifactError: a file is not what the manifest says.
    """
    files = [file for file in model_files(folder) if Path(file.path).name == ONNX] if ONNX in manifest.files else []
    if files:
        return _facts(inspect_onnx(files[0]))
    if KERAS not in manifest.files:
        return Missing("There is neither an exported file nor a Keras model to look into.", f"toolkit export {place}")
    try:
        return _facts(inspect_path(folder).files[-1])
    except ToolkitError as error:
        if error.exit_code != 2:  # not installed, or damaged
            raise
        return Missing(
            f"The Keras model was not opened: {str(error).split(';')[0]}.", f"toolkit export {place} --quantize"
        )


def _facts(found: KerasFacts | SavedModelFacts | OnnxFacts) -> NetworkFacts:
    columns = as_columns(found.graph)
    if columns is None:
        layers = tuple(
            LayerFacts(each.name, each.type, each.output, each.parameters, each.multiply_adds)
            for each in found.layers
            if each.parameters or each.multiply_adds != 0
        )
    else:
        layers = _dense_layers(found.graph, found.layers)
    return NetworkFacts(
        file=Path(found.file).name,
        sizes=None if columns is None else tuple(column.count for column in columns),
        layers=layers,
        parameters=found.parameters,
        multiply_adds=found.multiply_adds,
        row=getattr(found, "row", "one row"),
        graph=found.graph,
    )


def _dense_layers(graph: Graph, layers: Sequence[Layer]) -> tuple[LayerFacts, ...]:
    """The layers of a chain, each with the operators that belong to it: its bias and its activation."""
    work = [each.multiply_adds for each in layers if each.multiply_adds != 0]
    found: list[LayerFacts] = []
    for node in chain(graph) or ():
        if node.role == DENSE:
            kind = "dense" + (f", {node.activation}" if node.activation else "")
            found.append(
                LayerFacts(node.name, kind, ("batch", *(node.output or ())), node.parameters, work[len(found)])
            )
        elif found:
            last = found[-1]
            kind = f"{last.type}, {node.activation}" if node.role == FUNCTION else last.type
            found[-1] = LayerFacts(last.name, kind, last.output, last.parameters + node.parameters, last.multiply_adds)
    return tuple(found)
