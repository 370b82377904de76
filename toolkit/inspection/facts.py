"""What an inspection finds, as values. The command line only shows them; `to_json` is the stable form of ``--json``.

Multiply-adds
    A multiply-add is one product added to a sum. Counted are those of dense and convolutional layers, recurrent ones,
    attention and other matrix products, for one row of input (batch 1). Not counted: the addition of a bias,
    activations, normalization, pooling, element by element arithmetic and tables that are looked up (embeddings).
    Convolutions count every position of their kernel, also those that fall on padding; transposed convolutions, every
    product that is made, also those that are cropped off. A layer that is called twice counts twice. Where a dimension
    besides the batch is free the number depends on the input: then it is unknown (None), and given for one position
    of the free dimension where the work of a layer is proportional to that.

Parameters
    Numbers that are stored and make up the model: each once, however often it is used. In an ONNX file: the constants
    of floating point type or quantized form with at least one dimension, without scales and zero points.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from toolkit.inspection.graph import Graph

__all__ = [
    "FORMAT",
    "ArtifactFacts",
    "Floor",
    "Inspection",
    "KerasFacts",
    "Layer",
    "OnnxFacts",
    "QuantizedLayer",
    "QuantizedTensor",
    "Saturation",
    "SavedModelFacts",
    "Shape",
    "Stored",
    "Tensor",
    "total_macs",
]

FORMAT = 1
"""Version of the form of ``--json``; a change that could break who reads it counts up."""

Shape = tuple[int | str | None, ...]
"""A number for a fixed dimension; a name, or None, for a free one."""


@dataclass(frozen=True)
class Tensor:
    """An input or output.

    Attributes:
        name: as the file has it.
        shape: with the batch.
        dtype: as numpy calls it.
        range: lowest and highest value where the file's contract says so.
        task: of an output, where the file's contract says so.
    """

    name: str
    shape: Shape
    dtype: str
    range: tuple[float, float] | None = None
    task: str | None = None


@dataclass(frozen=True)
class Layer:
    """One layer of a Keras model, or one operator of an ONNX graph or SavedModel.

    Attributes:
        name: those of nested models as OUTER/INNER.
        type: class of the layer, or name of the operator.
        output: shape with the batch (the first, if there are several); None where it is not known.
        parameters: stored numbers that are its own; those of a tensor used twice belong to the first.
        multiply_adds: for one row; None where they are not known.
        per_position: for one position of the free dimension, where that is what is known.
        calls: how often the model calls the layer.
    """

    name: str
    type: str
    output: Shape | None
    parameters: int
    multiply_adds: int | None
    per_position: int | None = None
    calls: int = 1


@dataclass(frozen=True)
class Stored:
    """What a file stores of one dtype: numbers, and the bytes that they take."""

    numbers: int
    bytes: int


@dataclass(frozen=True)
class KerasFacts:
    """A Keras model.

    Attributes:
        file: its path.
        name: the model's own.
        written_by: "Keras 3.15.1" and the like, as far as the file says.
        inputs, outputs: in the model's order.
        layers: in the order in which they are run.
        parameters, trainable: numbers stored, and how many of them training changes.
        multiply_adds: for one row; None where that of a layer is unknown.
        weights: stored numbers by dtype.
        file_bytes: size of the file.
        notes: what a person should know about how it was opened.
        graph: for the diagram.
    """

    file: str
    name: str
    written_by: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    layers: tuple[Layer, ...]
    parameters: int
    trainable: int
    multiply_adds: int | None
    weights: Mapping[str, Stored]
    file_bytes: int
    notes: tuple[str, ...]
    graph: Graph = field(repr=False, metadata={"json": False})
    type: str = "keras"


@dataclass(frozen=True)
class SavedModelFacts:
    """A SavedModel: as `KerasFacts`, with operators instead of layers.

    Attributes:
        operators: how often each occurs, functions written out in place; constants and what only hands on left out.
        layers: the operators that multiply or hold weights.
    """

    file: str
    name: str
    written_by: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    operators: Mapping[str, int]
    layers: tuple[Layer, ...]
    parameters: int
    multiply_adds: int | None
    weights: Mapping[str, Stored]
    file_bytes: int
    notes: tuple[str, ...]
    graph: Graph = field(repr=False, metadata={"json": False})
    type: str = "saved_model"


@dataclass(frozen=True)
class Floor:
    """The lowest onnxruntime for a file (see `toolkit.conversion.compatibility`).

    Attributes:
        version: the first release that loads it and answers as later ones do; None where that is not known.
        because: what decides, or why it is not known.
        source: where the table stands, and what was tried.
    """

    version: str | None
    because: str
    source: str


@dataclass(frozen=True)
class QuantizedTensor:
    """One quantized tensor of a layer.

    Attributes:
        tensor: its name in the file.
        role: "activation", "weights", "bias" or "output".
        dtype: of the quantized form, such as "int8" or "int4".
        scale: width of a step: one, or the least and the largest of several; None where it is computed at each run.
        scales: how many there are; None where they are computed at each run.
        zero_point: the quantized form of 0; None if there are several or it is computed at each run.
        axis: the dimension along which scales differ; None for one scale.
    """

    tensor: str
    role: str
    dtype: str
    scale: tuple[float | None, ...] | None
    scales: int | None
    zero_point: int | None
    axis: int | None


@dataclass(frozen=True)
class QuantizedLayer:
    """How one operator is quantized: the tensors that go into it, and what comes out where that is written down."""

    name: str
    type: str
    tensors: tuple[QuantizedTensor, ...]


@dataclass(frozen=True)
class Saturation:
    """Whether int8 sums can saturate on x86 without VNNI, in the graph as the runtime makes it.

    Attributes:
        can_saturate: None where not all is known: nothing that is known can, or the runtime does not open the file.
        layers: name, operator, shape, dtype, load and limit of each layer with 8-bit activations and weights.
        unread: weights and outputs of which it is not known.
        refused: why the installed runtime does not open the file; None if it does.
    """

    can_saturate: bool | None
    layers: tuple[Mapping[str, Any], ...]
    unread: tuple[str, ...]
    refused: str | None = None


@dataclass(frozen=True)
class OnnxFacts:
    """An ONNX file.

    Attributes:
        file: its path.
        kind: "float32", "float16", "int8 (static)", "int8 (dynamic)", "int4 weights" and the like, by what is in it.
        opsets: version by domain; "ai.onnx" is the standard's.
        ir_version: of the file format.
        producer: program and version that wrote it, as far as it says.
        metadata: what it says of itself, but for what has a place of its own here.
        class_names: where it says so.
        inputs, outputs: in the file's order.
        operators: how often each occurs; those of branches and loops too.
        layers: one an operator, in the file's order; those of branches and loops are not listed.
        parameters: see the module.
        multiply_adds: for one row (see `row`); None where that of an operator is unknown.
        row: what the multiply-adds are for: "one row", "one row of the fixed batch of 8" or "the whole input".
        weights: stored numbers by dtype, scales and shapes too.
        file_bytes: size of the file.
        onnxruntime: the lowest that loads it.
        quantized: how each layer is quantized; empty for a float file.
        saturation: see there.
        notes: what a person should know about it.
        graph: for the diagram.
    """

    file: str
    kind: str
    opsets: Mapping[str, int]
    ir_version: int
    producer: str
    metadata: Mapping[str, str]
    class_names: tuple[str, ...] | None
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    operators: Mapping[str, int]
    layers: tuple[Layer, ...]
    parameters: int
    multiply_adds: int | None
    row: str
    weights: Mapping[str, Stored]
    file_bytes: int
    onnxruntime: Floor
    quantized: tuple[QuantizedLayer, ...]
    saturation: Saturation
    notes: tuple[str, ...]
    graph: Graph = field(repr=False, metadata={"json": False})
    type: str = "onnx"


@dataclass(frozen=True)
class ArtifactFacts:
    """What the manifest of an artifact folder says, in short.

    Attributes:
        name: the artifact's.
        versions: of what made it.
        class_names: or None.
        files: size in bytes, by name.
        inputs, outputs: the contract.
        quantization: its method and settings that matter; None without a quantized file.
        conversion: source, route and what else the manifest says of the conversion; None without an ONNX file.
        parity: what verification found, by file, an entry an output.
        cpus: names of the other CPUs that files were verified on.
    """

    name: str
    versions: Mapping[str, str]
    class_names: tuple[str, ...] | None
    files: Mapping[str, int]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    quantization: Mapping[str, Any] | None
    conversion: Mapping[str, Any] | None
    parity: Mapping[str, Sequence[Mapping[str, Any]]]
    cpus: tuple[str, ...]


@dataclass(frozen=True)
class Inspection:
    """Everything about one path.

    Attributes:
        path: what was inspected.
        files: one a model; of an artifact, the quantized file first and the Keras model last.
        artifact: for an artifact folder.
    """

    path: str
    files: tuple[KerasFacts | SavedModelFacts | OnnxFacts, ...]
    artifact: ArtifactFacts | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: the attributes by their names, in lists where there are several."""
        return {
            "format": FORMAT,
            "path": self.path,
            "artifact": _plain(self.artifact),
            "files": [_plain(file) for file in self.files],
        }


def total_macs(layers: Sequence[Layer]) -> int | None:
    """The sum, or None where one is unknown."""
    counts = [layer.multiply_adds for layer in layers]
    return None if None in counts else sum(count for count in counts if count is not None)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        shown = [f for f in dataclasses.fields(value) if f.metadata.get("json", True)]
        return {f.name: _plain(getattr(value, f.name)) for f in shown}
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    # JSON has no word for these, and a scale that is none says enough.
    return None if isinstance(value, float) and not math.isfinite(value) else value
