"""What a model is exported with: what its file takes, and the rows that calibrate and test it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.data import CLASS_NAMES
from toolkit.datasets import Rows, read_rows
from toolkit.errors import DataError, UsageError
from toolkit.manifest_records import DataRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from toolkit.conversion.contract import FileInput, Scaling
    from toolkit.conversion.recipe import QuantizationRecipe
    from toolkit.data import FashionMnist
    from toolkit.keras_model import SourceModel
    from toolkit.progress import Note, Step

__all__ = [
    "Material",
    "OwnData",
    "RawInput",
    "divided",
    "fashion_rows",
    "gather",
    "is_fashion",
    "keras_rows",
    "scales_pixels",
    "to_file",
]

RANDOM_ROWS = 256
_FEW_UNITS = 16


@dataclass(frozen=True)
class RawInput:
    """What a person says of the file's float input.

    Attributes:
        dtype: "float32" for the Keras model's own input, "uint8" or "int8" for raw integers; None: what the model and
            the data suggest.
        scale, offset: how raw integers become what the Keras model takes; None: as the model and the data suggest.
    """

    dtype: str | None = None
    scale: float | None = None
    offset: float | None = None

    def __post_init__(self) -> None:
        if self.dtype not in (None, "float32", "uint8", "int8"):
            raise UsageError(f"--input is {self.dtype!r}, expected uint8, int8 or float32")
        for name, value in (("--input-scale", self.scale), ("--input-offset", self.offset)):
            if value is not None and not (isinstance(value, int | float | np.number) and np.isfinite(value)):
                raise UsageError(f"{name} is {value!r}, expected a finite number")
            if value is not None and self.dtype == "float32":
                raise UsageError(f"{name} does nothing with --input float32, which takes what the Keras model takes")
        if self.scale == 0:
            raise UsageError("--input-scale is 0, which would make all inputs the same; give another")
        if self.offset is not None and self.scale is None:
            raise UsageError("--input-offset does nothing without --input-scale; give both")


@dataclass(frozen=True, eq=False)
class OwnData:
    """A person's own rows, each a path or rows that were read already; None where there are none.

    Attributes:
        calibration: what static int8 takes its ranges from; of what the model was trained on.
        test: what the files are held against Keras on.
        class_names: of the classes.
        fashion: the folder of Fashion-MNIST, where the person named one.
    """

    calibration: Path | Rows | None = None
    test: Path | Rows | None = None
    class_names: tuple[str, ...] | None = None
    fashion: Path | None = None

    @property
    def given(self) -> bool:
        """There are rows."""
        return self.calibration is not None or self.test is not None


@dataclass(frozen=True, eq=False)
class Material:
    """Everything that an export needs beside the model.

    Attributes:
        inputs: what the file takes.
        test: rows as the file takes them.
        calibration: likewise; None where there are none.
        class_names: of the classes; None where nobody named them.
        record: for the manifest.
        random: the test rows are random, so labels mean nothing on them.
    """

    inputs: Sequence[FileInput]
    test: Rows
    calibration: Rows | None
    class_names: Sequence[str] | None
    record: DataRecord
    random: bool = False

    @property
    def labels(self) -> NDArray[Any] | None:
        """Classes of the calibration rows, shape (n,), where they are known."""
        known = self.calibration.targets.values() if self.calibration else ()
        return next((target for target in known if target.ndim == 1), None)


def is_fashion(source: SourceModel) -> bool:
    """A model of the form of Fashion-MNIST: 28x28 into ten classes."""
    if len(source.inputs) != 1 or len(source.outputs) != 1:
        return False
    given, answer = source.inputs[0].shape[1:], source.outputs[0].shape[1:]
    return given in ((28, 28), (28, 28, 1)) and answer == (10,) and source.inputs[0].dtype in ("float32", "uint8")


def fashion_rows(source: SourceModel, images: NDArray[np.uint8], labels: NDArray[np.uint8], what: str) -> Rows:
    """Images and labels of Fashion-MNIST as rows of a model of that form."""
    spec = source.inputs[0]
    shaped = images.reshape(len(images), *(size or 0 for size in spec.shape[1:]))
    return Rows({spec.name: shaped}, {source.outputs[0].name: labels.astype(np.int64)}, CLASS_NAMES, what)


def gather(
    source: SourceModel,
    own: OwnData,
    raw: RawInput,
    fashion: FashionMnist | None,
    recipe: QuantizationRecipe | None,
    note: Note,
    step: Step,
) -> Material:
    """What a model is exported with.

    Args:
        source: the model.
        own: rows of a person's own.
        raw: what the person says of the input.
        fashion: taken where there are no rows of one's own; None: random rows are, which is said.
        recipe: how the model will be quantized; says whether calibration rows are needed, and how many.
        note: told of what a person should know.
        step: told of how far the reading is.

    Raises:
        MissingError, DataError: the rows cannot be read, or do not fit the model.
        UsageError: there are none to calibrate on, or what was said of the input does not fit the model.
        ModelError: the model takes what no device could give.
    """
    from toolkit.conversion.contract import file_inputs

    file_inputs(source, None)  # what no device could be given is said before any rows are read
    calibration, test, class_names, raw = _rows(source, own, raw, fashion, recipe, note, step)
    if recipe is not None and recipe.method == "static" and calibration is None:
        raise UsageError(
            "static int8 takes the ranges of activations from data, and none was given: give --calibration FILE (some "
            "hundred rows of what the model was trained on: .npz, .npy, idx, a folder of images, a saved TensorFlow "
            "dataset), or --quantize dynamic, which needs none"
        )
    count = "" if test is None else f", {test.count:,} {'rows' if own.given else 'images'}"
    if test is None and calibration is not None:
        note(f"warning: no test rows were given: the files are verified on the calibration rows ({calibration.source})")
        test, count = calibration, f" (the calibration rows), {calibration.count:,} rows"
    inputs = file_inputs(source, _scaling(source, raw, [rows for rows in (calibration, test) if rows]))
    random = test is None
    if test is None:
        test = _random_rows(inputs)
        note(
            "warning: no test rows were given (--test), so the files are held against Keras on random numbers: that "
            "shows whether they compute the same, and says nothing of accuracy"
        )
    record = DataRecord(
        f"{test.source}{count}" if not random else f"{test.count} random rows",
        fashion is not None and not own.given,
        None if calibration is None else calibration.source,
    )
    chosen = None if calibration is None else to_file(_chosen(calibration, recipe), inputs)
    return Material(inputs, to_file(test, inputs), chosen, class_names, record, random)


def _rows(
    source: SourceModel,
    own: OwnData,
    raw: RawInput,
    fashion: FashionMnist | None,
    recipe: QuantizationRecipe | None,
    note: Note,
    step: Step,
) -> tuple[Rows | None, Rows | None, Sequence[str] | None, RawInput]:
    """Calibration and test rows, names of the classes, and what is known of the input with them."""
    if own.given or fashion is None:
        calibration = _read(own.calibration, source, "train", step)
        test = _read(own.test, source, "test", step)
        class_names: Sequence[str] | None = own.class_names
        for rows in (calibration, test):
            for line in rows.notes if rows else ():
                note(line)
            class_names = class_names or (rows.class_names if rows else None)
        return calibration, test, class_names, raw
    calibration = fashion_rows(source, fashion.train_images, fashion.train_labels, "Fashion-MNIST training images")
    test = fashion_rows(source, fashion.test_images, fashion.test_labels, "Fashion-MNIST test set")
    if raw.scale is None and source.inputs[0].dtype == "float32" and not scales_pixels(source):
        # Unless the model scales pixels itself, it was trained on pixels divided by 255.
        raw = RawInput(raw.dtype or "uint8", None if raw.dtype == "float32" else 1 / 255)
        if raw.dtype == "float32":
            calibration, test = divided(_chosen(calibration, recipe)), divided(test)
    return calibration, test, own.class_names or CLASS_NAMES, raw


def _read(rows: Path | Rows | None, source: SourceModel, part: str, step: Step) -> Rows | None:
    if isinstance(rows, Path):
        return read_rows(rows, source.inputs, source.outputs, part=part, step=step)
    return rows


def _chosen(rows: Rows, recipe: QuantizationRecipe | None) -> Rows:
    """A seeded choice of as many rows as calibration shall see, in their order."""
    if recipe is None or rows.count <= recipe.calibration_images:
        return rows
    order = np.random.default_rng(recipe.seed).permutation(rows.count)[: recipe.calibration_images]
    return rows.take(np.sort(order))


def divided(rows: Rows) -> Rows:
    """Pixels divided by 255, float32."""
    inputs = {name: array.astype(np.float32) / np.float32(255) for name, array in rows.inputs.items()}
    return dataclasses.replace(rows, inputs=inputs)


def _scaling(source: SourceModel, raw: RawInput, given: Sequence[Rows]) -> Scaling | None:
    """How the file's raw integers become floats, or None where it takes what the Keras model takes."""
    from toolkit.conversion.contract import Scaling

    if raw.dtype == "float32":
        return None
    if raw.scale is not None:
        return Scaling(raw.dtype or "uint8", raw.scale, raw.offset or 0.0)
    floats = [spec for spec in source.inputs if spec.dtype == "float32"]
    if _rescales(source):
        # Such a model takes pixels as they are; so can its file, unless the rows show that it is given other numbers.
        wanted = raw.dtype or "uint8"
        if raw.dtype is not None or all(_whole(rows.inputs[floats[0].name], wanted) for rows in given):
            return Scaling(wanted, 1.0, 0.0)
        return None
    if raw.dtype is not None and floats:
        raise UsageError(
            f"--input {raw.dtype} needs to know what the model '{source.name}' was trained on: give --input-scale "
            "(1/255 for pixels divided by 255) and, if it is not 0, --input-offset"
        )
    for spec in floats:
        for rows in given:
            if rows.inputs[spec.name].dtype == np.uint8:
                raise UsageError(
                    f"{rows.source} has uint8 for '{spec.name}', which takes float32: give --input-scale (1/255 for a "
                    "model trained on pixels divided by 255, 1 if it takes them as they are), or rows as the model "
                    "takes them"
                )
    return None


def scales_pixels(source: SourceModel) -> bool:
    """The model brings pixels of 0 to 255 to some few units itself.

    A Rescaling that multiplies by more than that wants pixels that were divided by 255 before.
    """
    found = _rescaling(source)
    return bool(found) and max(float(np.abs(layer.scale).max()) for layer in found) * 255 <= _FEW_UNITS


def _rescales(source: SourceModel) -> bool:
    """A Rescaling layer is the first thing that happens to the only float input."""
    return bool(_rescaling(source))


def _rescaling(source: SourceModel) -> list[Any]:
    """The Rescaling layers that take the only float input, if nothing else does."""
    model = source.keras
    if model is None or len(source.inputs) != 1 or source.inputs[0].dtype != "float32":
        return []
    import keras

    given = {id(tensor) for tensor in getattr(model, "inputs", None) or ()}
    users = [
        layer
        for layer in model.layers
        for node in getattr(layer, "_inbound_nodes", ())
        if any(id(tensor) in given for tensor in node.input_tensors)
    ]
    return users if all(isinstance(layer, keras.layers.Rescaling) for layer in users) else []


def _whole(array: NDArray[Any], dtype: str) -> bool:
    if array.dtype == dtype:
        return True
    limits = np.iinfo(dtype)
    low, high = array.min(), array.max()
    return bool(limits.min <= low and high <= limits.max and (array == np.rint(array)).all())


def to_file(rows: Rows, inputs: Sequence[FileInput]) -> Rows:
    """Rows as an exported file takes them.

    Raises:
        DataError: raw integers are wanted, and these are none.
    """
    taken: dict[str, NDArray[Any]] = {}
    for given in inputs:
        array = rows.inputs[given.name]
        if given.scaling is not None and not _whole(array, given.dtype):
            raise DataError(
                f"{rows.source} has {array.dtype} from {array.min():g} to {array.max():g} for '{given.name}', expected "
                f"raw values of {given.dtype}, since the file scales them itself; give them as they come from the "
                "sensor, or export with --input float32"
            )
        taken[given.name] = np.ascontiguousarray(array.astype(given.dtype, copy=False))
    return dataclasses.replace(rows, inputs=taken)


def _random_rows(inputs: Sequence[FileInput]) -> Rows:
    """Seeded random numbers for each input: floats from 0 to 1, raw integers of their range, other integers 0 or 1."""
    random = np.random.default_rng(0)
    batch = next((given.shape[0] for given in inputs if given.shape[0] is not None), None)
    count = RANDOM_ROWS if batch is None else max(1, RANDOM_ROWS // batch) * batch
    found: dict[str, NDArray[Any]] = {}
    for given in inputs:
        shape = (count, *(size or 16 for size in given.shape[1:]))
        dtype = np.dtype(given.dtype)
        if given.scaling is not None:
            limits = np.iinfo(dtype)
            found[given.name] = random.integers(limits.min, limits.max + 1, shape).astype(dtype)
        elif dtype.kind == "f":
            found[given.name] = random.random(shape, dtype=np.float32).astype(dtype)
        else:
            found[given.name] = random.integers(0, 2, shape).astype(dtype)
    return Rows(found, {}, None, "random rows")


def keras_rows(rows: Mapping[str, NDArray[Any]], inputs: Sequence[FileInput]) -> dict[str, NDArray[Any]]:
    """What the Keras model gets for rows that the file takes."""
    return {given.name: given.to_keras(rows[given.name]) for given in inputs}
