"""What goes into a bundle, made in memory: the same artifact, options and toolkit give the same bytes.

Nothing in it says when or where it was made.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit import golden
from toolkit.artifact import C_FILES, GOLDEN, MANIFEST_NAME, Manifest, load_manifest
from toolkit.bundle import device_code, readme, requirements, sums
from toolkit.bundle.layout import (
    LICENCE,
    MODEL_LICENCE,
    NATIVE,
    OPERATORS,
    PREDICTOR,
    README,
    REQUIREMENTS,
    SELFTEST,
    SUMS,
)
from toolkit.errors import MissingError, UsageError
from toolkit.manifest_records import BundleRecord, FileRecord
from toolkit.native import LIBRARY
from toolkit.predictor import BUNDLE_FORMAT, model_files, read_checked

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FORMATS", "Contents", "gather"]

FORMATS = ("onnx", "ort")
"""Of the model file: ONNX, or onnxruntime's own, which builds of it without ONNX take."""

_LARGEST_TENSORS = 50  # quantized tensors whose scales are kept: of most models all, and about 10 kB


@dataclass(frozen=True)
class Contents:
    """A bundle in memory.

    Attributes:
        files: bytes by name, with SHA256SUMS.
        manifest: what its manifest.json says.
    """

    files: Mapping[str, bytes]
    manifest: Manifest


def gather(
    folder: Path,
    *,
    kind: str | None = None,
    target: str = "linux",
    form: str = "onnx",
    licence: Path | None = None,
    signed: bool = False,
    c: bool = False,
    native: bool = False,
) -> Contents:
    """Everything that a bundle of an artifact holds, each file of the artifact checked against its sha256.

    Args:
        folder: the artifact.
        kind: "int8", "int4", "float16" or "float32"; None: the quantized one where the artifact has it.
        target: see `toolkit.bundle.requirements.TARGETS`.
        form: of `FORMATS`.
        licence: the model's own.
        signed: the README says how the signature is verified.
        c: with the int8 model in C.
        native: with the int8 model compiled, and what the predictor takes to run it.

    Raises:
        UsageError: an unknown target, a kind that the artifact does not have, a bundle in place of an artifact, C
            beside another kind than int8, a library for another machine than the target or beside an .ort file.
        ModelError: the folder is no artifact.
        MissingError: the artifact has no golden vectors, no C or no library, or the licence is not there.
        CorruptArtifactError: a file is not what the manifest says.
    """
    if native and form == "ort":
        raise UsageError(
            "--native and --format ort do not go together: a library is opened beside the very ONNX file that it was "
            "made of; drop one of them"
        )
    pins = requirements.text(target)
    manifest = load_manifest(folder)
    if manifest.bundle is not None:
        raise UsageError(f"{folder} is a bundle already; give the artifact that it was made of, or copy it as it is")
    source = _chosen(folder, kind)
    if GOLDEN not in manifest.files:
        method = f" --quantize={manifest.quantization.recipe['method']}" if manifest.quantization else ""
        raise MissingError(
            f"{folder} has no {GOLDEN}, by which a device tests itself; export it again: toolkit export {folder}"
            + method
        )
    record = manifest.files[source]
    besides = _in_c(folder, manifest, record) if c else {}
    besides |= _compiled(folder, manifest, record, target) if native else {}
    model = read_checked(str(folder / source), record.sha256)
    vectors = golden.load(read_checked(str(folder / GOLDEN), manifest.files[GOLDEN].sha256), str(folder / GOLDEN))
    files: dict[str, bytes] = {}
    name = source
    if form == "ort":
        name = f"{source.removesuffix('.onnx')}.ort"
        record, model, files[OPERATORS] = _as_ort(record, model)
        vectors = golden.on_outputs(vectors, source, folder / source)  # no output can be added to that format
    files[name] = model
    files[GOLDEN] = golden.dump(golden.reduced(vectors, source, name))
    glibc, features = requirements.glibc(target), requirements.cpu_features(target)
    if record.onnxruntime is None:
        raise UsageError(f"{folder} does not say which onnxruntime runs {source}; export it again")
    bundle = BundleRecord(
        format=BUNDLE_FORMAT,
        model=name,
        target=target,
        python=requirements.PYTHON,
        onnxruntime=record.onnxruntime,
        glibc=glibc,
        cpu_features=features,
        exact=vectors.files[source].exact,
    )
    manifest = _reduced(
        manifest,
        bundle,
        source,
        {name: record, GOLDEN: _record("golden", files[GOLDEN]), **{each: manifest.files[each] for each in besides}},
    )
    files |= besides
    files |= {NATIVE: device_code.native()} if native else {}
    files[MANIFEST_NAME] = manifest.text().encode()
    files[PREDICTOR], files[SELFTEST] = device_code.predictor(), device_code.selftest()
    files[REQUIREMENTS] = pins.encode()
    files[LICENCE] = device_code.licence()
    if licence is not None:
        files[MODEL_LICENCE] = _licence(licence)
    files[README] = readme.text(manifest, licence=licence is not None, signed=signed).encode()
    files[SUMS] = sums.write(files)
    return Contents({each: files[each] for each in sorted(files)}, manifest)


def _chosen(folder: Path, kind: str | None) -> str:
    """The name of the one model file."""
    found = model_files(folder)
    chosen = [file for file in found if kind in (None, file.kind)]
    if not chosen:
        raise UsageError(
            f"{folder} has no {kind} model, only {', '.join(file.kind for file in found)}; choose of these"
        )
    return Path(chosen[0].path).name


def _in_c(folder: Path, manifest: Manifest, record: FileRecord) -> dict[str, bytes]:
    """The files of the model in C, by name."""
    if record.kind != "int8":
        raise UsageError(f"--c is for the int8 model, and {record.kind} goes into this bundle; drop --c, or --kind")
    if not set(C_FILES) <= manifest.files.keys():
        raise MissingError(f"{folder} has no {C_FILES[0]}; export it again: toolkit export {folder} --quantize --c")
    return {name: read_checked(str(folder / name), manifest.files[name].sha256) for name in C_FILES}


def _compiled(folder: Path, manifest: Manifest, record: FileRecord, target: str) -> dict[str, bytes]:
    """The library, by name."""
    if record.kind != "int8":
        raise UsageError(f"--native is for the int8 model, and {record.kind} goes into this bundle; drop one of them")
    if manifest.native is None or LIBRARY not in manifest.files:
        raise MissingError(f"{folder} has no {LIBRARY}; export it again: toolkit export {folder} --quantize --native")
    if (machine := manifest.native.machine) not in target and target != "linux":
        raise UsageError(
            f"{LIBRARY} is for {machine}, and the bundle for {target}; export with --cc and a compiler for that, or "
            "drop --native"
        )
    return {LIBRARY: read_checked(str(folder / LIBRARY), manifest.files[LIBRARY].sha256)}


def _as_ort(record: FileRecord, model: bytes) -> tuple[FileRecord, bytes, bytes]:
    """A model in onnxruntime's format: its record, its bytes, and the list of its operators."""
    try:
        from toolkit.conversion.ort_format import LOWEST_RUNTIME, to_ort
    except ImportError as error:
        raise MissingError(
            f"--format ort needs {error.name or 'more'} ({error}); install the extra 'train': pip install '.[train]' "
            "in the project"
        ) from error
    data, operators = to_ort(model)
    lowest = max(record.onnxruntime or LOWEST_RUNTIME, LOWEST_RUNTIME, key=_release)
    written = dataclasses.replace(_record(record.kind, data), opset=record.opset, ir_version=record.ir_version)
    return dataclasses.replace(written, onnxruntime=lowest), data, operators.encode()


def _release(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def _record(kind: str, data: bytes) -> FileRecord:
    return FileRecord(kind, hashlib.sha256(data).hexdigest(), len(data))


def _reduced(manifest: Manifest, bundle: BundleRecord, source: str, files: dict[str, FileRecord]) -> Manifest:
    """What the manifest says of one file; of training and of other files nothing."""
    quantization = manifest.quantization if files[bundle.model].kind != "float32" else None
    if quantization is not None and (len(quantization.tensors) > _LARGEST_TENSORS or bundle.model != source):
        quantization = dataclasses.replace(quantization, tensors={})
    return dataclasses.replace(
        manifest,
        files=files,
        training=None,
        quantization=quantization,
        parity={bundle.model: manifest.parity[source]} if source in manifest.parity else {},
        cpus={bundle.model: manifest.cpus[source]} if source in manifest.cpus else {},
        c_targets=manifest.c_targets if C_FILES[0] in files else [],
        native=manifest.native if LIBRARY in files else None,
        bundle=bundle,
    )


def _licence(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise MissingError(f"{path} does not exist; give the file of the model's licence") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; give the file of the model's licence") from error
