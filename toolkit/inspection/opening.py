"""Inspecting a path: what stands there, and who looks at it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.artifact import KERAS, check_files, load_manifest
from toolkit.errors import MissingError, ModelError, ToolkitError, UsageError
from toolkit.inspection.facts import ArtifactFacts, Inspection, KerasFacts, SavedModelFacts, Tensor
from toolkit.inspection.keras_models import inspect_keras
from toolkit.inspection.onnx_files import inspect_onnx
from toolkit.inspection.saved_models import inspect_saved_model
from toolkit.keras_model import open_model
from toolkit.predictor import MANIFEST_NAME, model_files
from toolkit.progress import silent_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.artifact import Manifest
    from toolkit.progress import Step

__all__ = ["inspect_path"]

_WANTED = "give a .keras, .h5 or .onnx file, a SavedModel, or an artifact folder"
_KERAS_STARTS = (b"PK\x03\x04", b"PK\x05\x06", b"\x89HDF\r\n\x1a\n")


def inspect_path(
    path: Path, *, custom: Sequence[str] = (), unsafe: bool = False, step: Step = silent_step
) -> Inspection:
    """Everything that a model's files say of themselves. No code that they bring is run unless that is asked for.

    Args:
        path: a ``.keras``, ``.h5`` or ``.onnx`` file (told apart by content), a SavedModel, or an artifact folder.
        custom: ``module:name`` of each class or function of the person's own that a Keras model needs.
        unsafe: run Lambda layers and other code in a Keras file.
        step: told of each file.

    Raises:
        MissingError: nothing is there, or onnx or Keras is not installed.
        ModelError: it is no model.
        CorruptArtifactError: a file of an artifact is not the one that its manifest describes.
        UsageError: custom or unsafe for what they do nothing for; a file that may not be read.
    """
    keras = tuple(custom), unsafe
    if path.is_dir():
        if (path / "saved_model.pb").is_file() or not (path / MANIFEST_NAME).is_file():
            step(0, 1, f"opening {path}")
            return Inspection(str(path), (_keras(path, *keras),))
        return _artifact(path, *keras, step)
    if not path.exists():
        raise MissingError(f"{path} does not exist; {_WANTED}")
    if not path.is_file():
        raise ModelError(f"{path} is no regular file; {_WANTED}")
    step(0, 1, f"opening {path.name}")
    if _start(path).startswith(_KERAS_STARTS):
        return Inspection(str(path), (_keras(path, *keras),))
    (file,) = model_files(path)
    try:
        found = inspect_onnx(file)
    except ModelError as error:
        if path.suffix == ".onnx":
            raise
        # Whatever it is, its name does not claim that it is ONNX; what Keras' side says of it is more to the point.
        try:
            open_model(path)
        except ToolkitError as better:
            said = str(better).split(";", 1)[0].replace("no Keras model", "no model")
            raise ModelError(f"{said}; {_WANTED}") from error
        raise
    _refuse_idle(path, *keras)
    return Inspection(str(path), (found,))


def _refuse_idle(path: Path, custom: tuple[str, ...], unsafe: bool) -> None:
    if idle := [name for name, given in (("--custom", custom), ("--unsafe", unsafe)) if given]:
        raise UsageError(f"{' and '.join(idle)} would do nothing for {path}, which holds no Keras model; leave it out")


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(64)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; check its permissions") from error


def _keras(path: Path, custom: tuple[str, ...], unsafe: bool) -> KerasFacts | SavedModelFacts:
    source = open_model(path, custom=custom, unsafe=unsafe)
    if source.kind == "saved_model":
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        return inspect_saved_model(source, str(path), size)
    return inspect_keras(source, str(path), path.stat().st_size)


def _artifact(folder: Path, custom: tuple[str, ...], unsafe: bool, step: Step) -> Inspection:
    manifest = load_manifest(folder)
    check_files(folder, manifest)
    onnx_files = model_files(folder) if any(name.endswith(".onnx") for name in manifest.files) else []
    keras = KERAS in manifest.files
    if not keras:
        _refuse_idle(folder, custom, unsafe)
    total = len(onnx_files) + keras
    found: list[Any] = []
    for file in onnx_files:
        step(len(found), total, Path(file.path).name)
        found.append(inspect_onnx(file))
    if keras:
        step(len(found), total, KERAS)
        found.append(_keras(folder / KERAS, custom, unsafe))
    return Inspection(str(folder), tuple(found), _in_short(manifest))


def _in_short(manifest: Manifest) -> ArtifactFacts:
    quantization = None
    if manifest.quantization is not None:
        quantization = {key: value for key, value in manifest.quantization.recipe.items() if value is not None}
    return ArtifactFacts(
        name=manifest.name,
        versions=manifest.versions,
        class_names=None if manifest.class_names is None else tuple(manifest.class_names),
        files={name: record.bytes for name, record in manifest.files.items()},
        inputs=_tensors(manifest.inputs),
        outputs=_tensors(manifest.outputs),
        quantization=quantization,
        conversion=None if manifest.conversion is None else dataclasses.asdict(manifest.conversion),
        parity={name: [dataclasses.asdict(row) for row in rows] for name, rows in manifest.parity.items()},
        cpus=tuple(dict.fromkeys(row.cpu for rows in manifest.cpus.values() for row in rows)),
    )


def _tensors(contract: Sequence[Any]) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(
            entry.name,
            tuple(entry.shape),
            entry.dtype,
            None if entry.range is None else (entry.range[0], entry.range[1]),
            getattr(entry, "task", None),
        )
        for entry in contract
    )
