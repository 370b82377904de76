"""The int8 model as the page itself runs it: WebAssembly made of its C, and test pictures to begin with."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from toolkit import golden
from toolkit.artifact import GOLDEN, ONNX, QUANTIZED
from toolkit.c_wasm.build import INSTALL, build_wasm, c_name
from toolkit.errors import MissingError, ModelError
from toolkit.predictor import read_checked
from toolkit.report.parts import ASIDE, Missing, not_exported, not_quantized
from toolkit.report.rows import KnownRows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from toolkit.artifact import Manifest
    from toolkit.c_code.chain import Chain
    from toolkit.report.results import Answers

__all__ = ["LiveFacts", "LiveLayer", "LiveRow", "Modules", "find_live"]

_INT8 = QUANTIZED["int8"]
_TIMES = " \N{MULTIPLICATION SIGN} "
_C, _H = "model.c", "model.h"

_PICTURES, _MISTAKES = 60, 12
_PIXELS = 200_000  # of all pictures together: a third more in the page, since they are written in base64
_SIDE = 128  # of a picture: a larger one cannot be drawn in, pixel by pixel
_WEIGHTS = 1_000_000  # a byte each; a third more in the page


@dataclass(frozen=True)
class Modules:
    """Two WebAssembly modules that differ in their beginning alone: the code, with and without vectors.

    Attributes:
        simd: beginning of the one for browsers with vectors.
        plain: of the one for all others.
        rest: what follows either: the weights.
    """

    simd: bytes = field(repr=False)
    plain: bytes = field(repr=False)
    rest: bytes = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of the module with vectors."""
        return len(self.simd) + len(self.rest)


@dataclass(frozen=True)
class LiveLayer:
    """A hidden layer: its name and neurons; one that is `q` in the module is worth ``scale * (q - zero_point)``."""

    name: str
    neurons: int
    scale: float
    zero_point: int


@dataclass(frozen=True)
class LiveRow:
    """A test row to begin with: which it is, what it is called, and whether the file says its class right, if known."""

    row: int
    title: str
    label: int | None
    right: bool | None


@dataclass(frozen=True, eq=False)
class LiveFacts:
    """What the page needs to run the model.

    Attributes:
        file: whose arithmetic it is.
        bytes: of the module.
        height, width: of a picture.
        layers: the hidden ones.
        outputs: how many values the model answers.
        end: "Softmax", "Sigmoid" or None: what makes the answers of the last layer's values. A classifier without
            one gives logits, of which the page makes probabilities too.
        class_names: one an output, or None.
        rows: to begin with; may be empty.
        modules: the model.
        pictures: the rows, uint8 (n, height, width).
        logits: what onnxruntime computes for these, in front of a softmax or sigmoid, float32 (n, outputs).
    """

    file: str
    bytes: int
    height: int
    width: int
    layers: tuple[LiveLayer, ...]
    outputs: int
    end: str | None
    class_names: tuple[str, ...] | None
    rows: tuple[LiveRow, ...]
    modules: Modules = field(repr=False, metadata=ASIDE)
    pictures: NDArray[np.uint8] = field(repr=False, metadata=ASIDE)
    logits: NDArray[np.float32] = field(repr=False, metadata=ASIDE)


def find_live(
    folder: Path, manifest: Manifest, place: str, rows: KnownRows | Missing, answers: Sequence[Answers]
) -> LiveFacts | Missing:
    """The int8 file as the page can run it.

    Args:
        folder: the artifact.
        manifest: of the artifact.
        place: how commands call it.
        rows: test rows; where they are not known, those of golden.npz are taken.
        answers: of the files to the rows, the one that a predictor opens by default first.

    Raises:
        CorruptArtifactError: a file is not what the manifest says.
    """
    data = _int8(folder, manifest, place)
    if isinstance(data, Missing):
        return data
    chain = _chain(data)
    if isinstance(chain, Missing):
        return chain
    shape = chain.input_shape[:2]
    modules = _modules(folder, manifest, place, chain)
    if isinstance(modules, Missing):
        return modules
    known, which = _chosen(folder, manifest, rows, answers)
    which = which[: _PIXELS // chain.inputs]
    if known is None:
        pictures = np.zeros((0, *shape), np.uint8)
    else:
        pictures = next(iter(known.inputs.values()))[which].reshape(-1, *shape)
    logits = np.zeros((0, chain.outputs), np.float32)
    if len(pictures):
        from toolkit.conversion.logits import logits_of

        shaped = pictures.reshape(len(pictures), *chain.input_shape)
        logits = logits_of(data, _INT8, {manifest.inputs[0].name: shaped})
    said = _labels(chain, logits)
    titles = () if known is None else tuple(_row(known, row, said[at]) for at, row in enumerate(which))
    names = chain.class_names or tuple(manifest.class_names or ())
    return LiveFacts(
        file=_INT8,
        bytes=modules.size,
        height=shape[0],
        width=shape[1],
        layers=tuple(
            LiveLayer(each.name, each.outputs, float(each.then.scale), each.then.zero_point)
            for each in chain.layers
            if each.then is not None
        ),
        outputs=chain.outputs,
        end=chain.end or ("Softmax" if chain.task == "classification" else None),
        class_names=names if len(names) == chain.outputs else None,
        rows=titles,
        modules=modules,
        pictures=pictures,
        logits=logits,
    )


def _int8(folder: Path, manifest: Manifest, place: str) -> bytes | Missing:
    """The int8 file."""
    if ONNX not in manifest.files:
        return not_exported(place)
    if not set(QUANTIZED.values()) & manifest.files.keys():
        return not_quantized(manifest, place)
    if _INT8 not in manifest.files:
        return Missing("The live panel runs int8 files alone.")
    return read_checked(str(folder / _INT8), manifest.files[_INT8].sha256)


def _chain(data: bytes) -> Chain | Missing:
    """What the file computes, if it takes pictures to draw in."""
    from toolkit.c_code.reading import read_chain

    try:
        chain = read_chain(data)
    except ModelError as error:
        why = str(error).split(";")[0]
        return Missing(f"The live panel runs chains of dense layers in 8 bits, and {_INT8} is none: {why}.")
    shape = chain.input_shape
    grey = len(shape) == 2 or (len(shape) == 3 and shape[2] == 1)
    if chain.input_dtype != "uint8" or not grey or max(shape[:2]) > _SIDE:
        given = _TIMES.join(map(str, shape))
        return Missing(
            f"The live panel is for grey pictures (uint8) of at most {_SIDE}{_TIMES}{_SIDE} pixels, and {_INT8} takes "
            f"{given} values of {chain.input_dtype}."
        )
    weights = sum(layer.weights.size for layer in chain.layers)
    if weights > _WEIGHTS:
        return Missing(f"The live panel is for models of {_WEIGHTS:,} weights at most, and {_INT8} has {weights:,}.")
    return chain


def _modules(folder: Path, manifest: Manifest, place: str, chain: Chain) -> Modules | Missing:
    """Both modules, made of the artifact's own C where it has some."""
    code, header, name = _source(folder, manifest, chain)
    try:
        simd, plain = (_built(code, header, name, simd=simd) for simd in (True, False))
    except (MissingError, ModelError) as error:
        why = str(error).split(";")[0]
        return Missing(f"There is no live panel: {why}.", f"{INSTALL} && toolkit report {place}")
    backwards = zip(reversed(simd), reversed(plain), strict=False)
    same = next((at for at, (one, other) in enumerate(backwards) if one != other), len(plain))
    return Modules(simd[: len(simd) - same], plain[: len(plain) - same], simd[len(simd) - same :])


def _built(code: str, header: str, name: str, *, simd: bool) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return build_wasm(code, header, name, Path(folder), simd=simd)


def _source(folder: Path, manifest: Manifest, chain: Chain) -> tuple[str, str, str]:
    """Text of model.c and of model.h, and the name in them."""
    from toolkit.c_code.source import write_source

    if all(file in manifest.files and manifest.files[file].kind == "c" for file in (_C, _H)):
        code, header = (
            read_checked(str(folder / file), manifest.files[file].sha256).decode(errors="replace") for file in (_C, _H)
        )
        name = c_name(header)
        # C that was made of another file would compute something else.
        if name is not None and chain.source_sha256 in header:
            return code, header, name
    source = write_source(chain, manifest.name)
    return source.code, source.header, source.name


def _chosen(
    folder: Path, manifest: Manifest, rows: KnownRows | Missing, answers: Sequence[Answers]
) -> tuple[KnownRows | None, list[int]]:
    """Rows, and which of them: some of each class and the surest mistakes, or the first ones."""
    if isinstance(rows, Missing):
        if GOLDEN not in manifest.files:
            return None, []
        found = golden.load(read_checked(str(folder / GOLDEN), manifest.files[GOLDEN].sha256), str(folder / GOLDEN))
        known = KnownRows(found.inputs, None, None, GOLDEN)
        return known, list(range(min(_PICTURES, known.count)))
    if rows.labels is None:
        return rows, list(range(min(_PICTURES, rows.count)))
    classes = np.unique(rows.labels)
    each = max(1, _PICTURES // len(classes))
    which = [int(row) for label in classes for row in np.flatnonzero(rows.labels == label)[:each]][:_PICTURES]
    if answers:
        wrong = np.flatnonzero(answers[0].labels != rows.labels)
        surest = wrong[np.argsort(-answers[0].confidences[wrong], kind="stable")][:_MISTAKES]
        which += [int(row) for row in surest if row not in which]
    return rows, which


def _labels(chain: Chain, logits: NDArray[np.float32]) -> list[int]:
    """What the file says to each row."""
    if chain.outputs > 1:
        return [int(label) for label in logits.argmax(axis=1)]
    return [int(value >= (0 if chain.end else 0.5)) for value in logits[:, 0]]


def _row(known: KnownRows, row: int, said: int) -> LiveRow:
    label = None if known.labels is None else int(known.labels[row])
    return LiveRow(row, known.title(row), label, None if label is None else said == label)
