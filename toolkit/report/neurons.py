"""Rows with their activated neurons: what every layer of a chain of dense layers makes of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit import golden
from toolkit.artifact import GOLDEN, ONNX
from toolkit.errors import ModelError
from toolkit.predictor import LOGITS, PROBABILITIES, read_checked
from toolkit.report.parts import ASIDE, Missing, not_exported
from toolkit.report.rows import KnownRows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from toolkit.artifact import Manifest
    from toolkit.report.network import NetworkFacts
    from toolkit.report.results import Answers

__all__ = ["NeuronFacts", "Sample", "find_neurons"]

_SAMPLES, _MISTAKES = 12, 2
_CELLS = 16_000
"""Neurons drawn in all: each is a square with its value, some 100 bytes of the page."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One row, and what every neuron makes of it.

    Attributes:
        row: which it is.
        title: its class, or which row it is.
        answer: what the model says; None where it has no classes.
        right: whether that is so; None where the right answer is not known.
        inputs: what comes in, flat, any dtype.
        picture: the same to look at, or None.
        layers: activations of each layer of neurons, float32 (neurons,); the last are the answers.
    """

    row: int
    title: str
    answer: str | None
    right: bool | None
    inputs: NDArray[Any] = field(repr=False, metadata=ASIDE)
    picture: NDArray[np.uint8] | None = field(repr=False, metadata=ASIDE)
    layers: tuple[NDArray[np.float32], ...] = field(repr=False, metadata=ASIDE)


@dataclass(frozen=True, eq=False)
class NeuronFacts:
    """Activations of a chain of dense layers.

    Attributes:
        file: that was run.
        names: of the layers of neurons, the answers last.
        answers: what the last layer's values are called: "probabilities", "logits" or the output's own name.
        class_names: of the last layer's neurons, or None.
        rows_of: what the rows are.
        samples: one at least.
    """

    file: str
    names: tuple[str, ...]
    answers: str
    class_names: tuple[str, ...] | None
    rows_of: str
    samples: tuple[Sample, ...]


def find_neurons(
    folder: Path,
    manifest: Manifest,
    place: str,
    network: NetworkFacts | Missing,
    rows: KnownRows | Missing,
    answers: Sequence[Answers],
) -> NeuronFacts | Missing:
    """A few rows and their activations, in the float32 file.

    Args:
        folder: the artifact.
        manifest: of the artifact.
        place: how commands call it.
        network: of the artifact.
        rows: test rows; where they are not known, those of golden.npz are taken.
        answers: of the files to the rows, the one that a predictor opens by default first.

    Raises:
        CorruptArtifactError: a file is not what the manifest says.
    """
    if ONNX not in manifest.files:
        return not_exported(place)
    if isinstance(network, Missing):
        return network
    if network.sizes is None:
        return Missing("Neurons are shown of chains of dense layers only, and this model is none.")
    taken, of = _chosen(folder, manifest, rows, answers, network.sizes)
    if taken is None:
        return Missing("There are no rows to show.", f"toolkit report {place} --test FILE")
    known, which = taken
    try:
        layers = _activations(folder, manifest, known, which, network.sizes[1:])
    except ModelError as error:
        return Missing(f"The layers of {ONNX} cannot be watched: {str(error).split(';')[0]}.")
    given = _answers_name(manifest)
    names = (
        tuple(manifest.class_names) if manifest.class_names and len(manifest.class_names) == network.sizes[-1] else None
    )
    samples = tuple(_sample(known, row, tuple(layer[at] for layer in layers), names) for at, row in enumerate(which))
    return NeuronFacts(ONNX, tuple(layer.name for layer in network.layers), given, names, of, samples)


def _chosen(
    folder: Path, manifest: Manifest, rows: KnownRows | Missing, answers: Sequence[Answers], sizes: Sequence[int]
) -> tuple[tuple[KnownRows, list[int]] | None, str]:
    """Rows and which of them; and what they are."""
    most = max(1, min(_SAMPLES, _CELLS // sum(sizes)))
    if not isinstance(rows, Missing):
        return (rows, _varied(rows, answers, most)), rows.source
    if GOLDEN in manifest.files:
        found = golden.load(read_checked(str(folder / GOLDEN), manifest.files[GOLDEN].sha256), str(folder / GOLDEN))
        what = "random rows" if found.random else "golden rows"
        names = tuple(manifest.class_names) if manifest.class_names else None
        return (KnownRows(found.inputs, None, names, what), list(range(min(most, len(found))))), f"{what} of {GOLDEN}"
    return None, ""


def _varied(rows: KnownRows, answers: Sequence[Answers], most: int) -> list[int]:
    """The first row of each class, and the mistakes that the model is surest of; or the first rows."""
    if rows.labels is None or not answers:
        return list(range(min(most, rows.count)))
    said = answers[0]
    wrong = np.flatnonzero(said.labels != rows.labels)
    surest = wrong[np.argsort(-said.confidences[wrong], kind="stable")][: min(_MISTAKES, most // 4)]
    _, first = np.unique(np.where(said.labels == rows.labels, rows.labels, -1), return_index=True)
    right = [int(row) for row in first if said.labels[row] == rows.labels[row]]
    return [*right[: most - len(surest)], *map(int, surest)] or list(range(min(most, rows.count)))


def _activations(
    folder: Path, manifest: Manifest, rows: KnownRows, which: Sequence[int], sizes: Sequence[int]
) -> list[NDArray[np.float32]]:
    """Each layer's values, (rows, neurons): what the next product takes, and for the last the answers.

    Raises:
        ModelError: the graph cannot be run so, or its products are not those of the chain.
    """
    import onnx

    from toolkit.conversion.divergence import all_tensors

    data = read_checked(str(folder / ONNX), manifest.files[ONNX].sha256)
    graph = onnx.load_from_string(data).graph
    stored = {tensor.name for tensor in graph.initializer}
    products = [n for n in graph.node if n.op_type in ("MatMul", "Gemm") and n.input[0] not in stored]
    outputs = [value.name for value in graph.output]
    last = PROBABILITIES if PROBABILITIES in outputs else outputs[0]
    names = [*(node.input[0] for node in products[1:]), last]
    batch = manifest.inputs[0].shape[0]
    if isinstance(batch, int) and batch != len(which):
        raise ModelError(f"it takes {batch} rows at a time")
    found = all_tensors(data, {name: array[list(which)] for name, array in rows.inputs.items()}).values
    layers = [found[name].reshape(len(which), -1).astype(np.float32) for name in names if name in found]
    if [layer.shape[1] for layer in layers] != list(sizes):
        raise ModelError("its products are not those of a chain of dense layers")
    return layers


def _answers_name(manifest: Manifest) -> str:
    """What the last layer gives, by the contract of the output: a softmax or sigmoid has values from 0 to 1."""
    given = {output.name: output for output in manifest.outputs}
    name = PROBABILITIES if PROBABILITIES in given else LOGITS if LOGITS in given else next(iter(given))
    return PROBABILITIES if given[name].range == [0.0, 1.0] else name


def _sample(
    rows: KnownRows, row: int, layers: tuple[NDArray[np.float32], ...], names: tuple[str, ...] | None
) -> Sample:
    label = int(layers[-1].argmax())
    return Sample(
        row=row,
        title=rows.title(row),
        answer=names[label] if names else None,
        right=None if rows.labels is None or names is None else bool(rows.labels[row] == label),
        inputs=next(iter(rows.inputs.values()))[row].reshape(-1),
        picture=rows.picture(row),
        layers=layers,
    )
