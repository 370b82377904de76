"""The folder that stages share, and its manifest: the one source of truth about what is in it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any

from toolkit import __version__
from toolkit.errors import CorruptArtifactError, MissingError, UsageError
from toolkit.manifest_records import (
    BundleRecord,
    ConversionRecord,
    CpuRecord,
    CTargetRecord,
    DataRecord,
    FileRecord,
    NativeRecord,
    ParityRecord,
    QuantizationRecord,
    SeedRecord,
    TensorContract,
    TrainingRecord,
)
from toolkit.native import LIBRARY
from toolkit.predictor import BUNDLE_FORMAT, MANIFEST_FORMAT, MANIFEST_NAME, read_checked, read_manifest

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "C_FILES",
    "GOLDEN",
    "HISTORY",
    "KERAS",
    "KERAS_H5",
    "KINDS",
    "MANIFEST_NAME",
    "ONNX",
    "ORT_FILES",
    "PARITY",
    "QUANTIZED",
    "SAVED_MODEL",
    "Manifest",
    "check_files",
    "kind_of",
    "load_manifest",
    "manifest_from",
    "sha256_of",
    "versions",
]

KERAS, HISTORY, ONNX, PARITY = "model.keras", "history.csv", "model.onnx", "parity.json"

GOLDEN = "golden.npz"
"""Rows with the right answers (see `toolkit.golden`); artifacts of earlier versions have none."""

QUANTIZED = {kind: f"model.{kind}.onnx" for kind in ("int8", "int4", "float16")}
"""The file of each quantized kind; an artifact has one at most."""

ORT_FILES = {"model.ort": "float32", **{f"model.{kind}.ort": kind for kind in QUANTIZED}}
"""The same models in onnxruntime's own format, which only a bundle holds."""

C_FILES = ("model.c", "model.h", "main.c", "model.mk")
"""The int8 model as C, and an example around it; see `toolkit.c_code`."""

KERAS_H5, SAVED_MODEL = "model.h5", "saved_model"
"""An older file that Keras 3 cannot write anew; a SavedModel, which is a folder."""

KINDS = {
    KERAS: "keras",
    KERAS_H5: "keras",
    HISTORY: "history",
    GOLDEN: "golden",
    ONNX: "float32",
    **dict.fromkeys(C_FILES, "c"),
    LIBRARY: "native",
    **{name: kind for kind, name in QUANTIZED.items()},
}
"""What each file of an artifact is: the name decides which gates a model must pass, not what a manifest claims."""


def kind_of(name: str) -> str | None:
    """What a file of an artifact is, by its name below the folder; None for a name that none has."""
    parts = name.split("/")
    if parts[0] == SAVED_MODEL and len(parts) > 1 and not {"", ".", ".."} & {*parts} and "\\" not in name:
        return SAVED_MODEL
    return KINDS.get(name, ORT_FILES.get(name))


@dataclass(frozen=True)
class Manifest:
    """manifest.json as a value. Sections that a stage has not written yet are None or empty."""

    name: str
    versions: dict[str, str]
    files: dict[str, FileRecord] = field(default_factory=dict)
    inputs: list[TensorContract] = field(default_factory=list)
    outputs: list[TensorContract] = field(default_factory=list)
    class_names: list[str] | None = None
    training: TrainingRecord | None = None
    conversion: ConversionRecord | None = None
    data: DataRecord | None = None
    quantization: QuantizationRecord | None = None
    parity: dict[str, list[ParityRecord]] = field(default_factory=dict)
    cpus: dict[str, list[CpuRecord]] = field(default_factory=dict)
    c_targets: list[CTargetRecord] = field(default_factory=list)
    native: NativeRecord | None = None
    bundle: BundleRecord | None = None
    format: int = MANIFEST_FORMAT

    @property
    def source_sha256(self) -> str:
        """The hash of what the model was opened from."""
        return next(record.sha256 for record in self.files.values() if record.kind in ("keras", SAVED_MODEL))

    def to_json(self) -> dict[str, Any]:
        """The manifest as plain JSON values."""
        return dataclasses.asdict(self)

    def text(self) -> str:
        """What manifest.json holds."""
        return json.dumps(self.to_json(), indent=2, allow_nan=False) + "\n"

    def write(self, folder: Path) -> None:
        """Write manifest.json into a staging folder."""
        (folder / MANIFEST_NAME).write_text(self.text(), encoding="utf-8")


def load_manifest(folder: Path) -> Manifest:
    """The manifest of an artifact folder.

    Raises:
        MissingError: there is no such folder.
        ModelError: it is no artifact.
        CorruptArtifactError: its manifest is damaged or of another format.
    """
    if folder.is_file():
        raise UsageError(f"{folder} is a file, expected an artifact folder; give the folder that it is in")
    if not folder.is_dir():
        raise MissingError(f"{folder} does not exist; make it with: toolkit run --output {folder}")
    return manifest_from(read_manifest(str(folder)), folder / MANIFEST_NAME)


def manifest_from(raw: dict[str, Any], path: object) -> Manifest:
    """The manifest that plain JSON values describe.

    Args:
        raw: as `toolkit.predictor.read_manifest` gives it.
        path: how errors call the file.

    Raises:
        CorruptArtifactError: a section is missing, unknown or of another form, or a file is not what its name says.
    """
    bundle = raw.get("bundle")
    if isinstance(bundle, dict) and bundle.get("format") != BUNDLE_FORMAT:
        raise CorruptArtifactError(
            f"{path} has bundle format {bundle.get('format')!r}, this version reads {BUNDLE_FORMAT}; make the bundle "
            "again, or use the toolkit version that wrote it"
        )
    try:
        manifest = Manifest(
            **{
                **raw,
                "files": {name: FileRecord(**entry) for name, entry in raw["files"].items()},
                "inputs": [TensorContract(**entry) for entry in raw["inputs"]],
                "outputs": [TensorContract(**entry) for entry in raw["outputs"]],
                "training": raw["training"] and _training_from(raw["training"]),
                "conversion": raw["conversion"] and ConversionRecord(**raw["conversion"]),
                "data": raw["data"] and DataRecord(**raw["data"]),
                "quantization": raw["quantization"] and QuantizationRecord(**raw["quantization"]),
                "parity": {name: [ParityRecord(**row) for row in rows] for name, rows in raw["parity"].items()},
                "cpus": {name: [CpuRecord(**row) for row in rows] for name, rows in raw["cpus"].items()},
                # Manifests of earlier versions have none.
                "c_targets": [CTargetRecord(**row) for row in raw.get("c_targets", ())],
                "native": raw.get("native") and NativeRecord(**raw["native"]),
                "bundle": bundle and BundleRecord(**bundle),
            }
        )
    except (TypeError, KeyError, AttributeError) as error:
        raise CorruptArtifactError(
            f"{path} is incomplete or has unknown fields ({error}); copy or export it again"
        ) from error
    for name, record in manifest.files.items():
        if kind_of(name) != record.kind:
            raise CorruptArtifactError(
                f"{path} calls {name!r} {record.kind!r}, expected one of "
                f"{', '.join(f'{n} ({k})' for n, k in KINDS.items())}; copy or export it again"
            )
    return manifest


def _training_from(raw: dict[str, Any]) -> TrainingRecord:
    return TrainingRecord(**{**raw, "seeds": [SeedRecord(**entry) for entry in raw.get("seeds", ())]})


def check_files(folder: Path, manifest: Manifest) -> None:
    """Every file that the manifest names is there and is the one it describes.

    Raises:
        CorruptArtifactError: naming the first file that is not.
    """
    for name, record in manifest.files.items():
        read_checked(str(folder / name), record.sha256)


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """Versions of everything that has a say in what an artifact is; what is not installed is left out."""
    found = {"toolkit": __version__, "python": platform.python_version()}
    for name in ("numpy", "keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
