"""An artifact made into a bundle: gathered, signed, packed, put to its own self-test, and only then published."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.bundle import archives, readme, signing, wheel
from toolkit.bundle.contents import Contents, gather
from toolkit.bundle.folder import check_beside, publish
from toolkit.bundle.layout import MODEL_LICENCE, PREDICTOR, README, SIGNATURE, SUMS, what_is
from toolkit.errors import CorruptArtifactError, GateError, UsageError
from toolkit.predictor import Predictor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from toolkit.artifact import Manifest

__all__ = ["BundleOptions", "Made", "MadeFile", "make_bundle"]


@dataclass(frozen=True)
class BundleOptions:
    """What to make.

    Attributes:
        kind, target, form, licence, c, native: see `toolkit.bundle.contents.gather`.
        zip: a zip file beside the folder, with the folder in it.
        wheel: a wheel beside the folder.
        key: the private key that signs.
    """

    kind: str | None = None
    target: str = "linux"
    form: str = "onnx"
    licence: Path | None = None
    zip: bool = False
    wheel: bool = False
    key: Path | None = None
    c: bool = False
    native: bool = False


@dataclass(frozen=True)
class MadeFile:
    """One file: where it is, how large, and what it is in a phrase."""

    path: Path
    sha256: str
    bytes: int
    what: str


@dataclass(frozen=True)
class Made:
    """What was published.

    Attributes:
        folder: the bundle.
        files: those in it, by name.
        beside: a zip file, a wheel, a wheel's signature.
        manifest: the bundle's.
    """

    folder: Path
    files: tuple[MadeFile, ...]
    beside: tuple[MadeFile, ...]
    manifest: Manifest

    @property
    def bytes(self) -> int:
        """Of the folder's files together."""
        return sum(file.bytes for file in self.files)

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        manifest = self.manifest.to_json()
        return {
            "folder": str(self.folder),
            "name": manifest["name"],
            "bundle": manifest["bundle"],
            "bytes": self.bytes,
            "files": [
                {"path": str(file.path), "sha256": file.sha256, "bytes": file.bytes, "what": file.what}
                for file in (*self.files, *self.beside)
            ],
        }


def make_bundle(artifact: Path, output: Path, options: BundleOptions) -> Made:
    """Make a bundle of an artifact; it is published if it passes its own self-test.

    The same artifact, options and toolkit give the same bytes, but for signatures.

    Args:
        artifact: the folder.
        output: the folder to write; an earlier bundle there is replaced.
        options: see there.

    Raises:
        UsageError: an option that makes no sense, or a place where something else is.
        MissingError: see `gather`; or model-signing is not installed.
        ModelError, CorruptArtifactError: see `gather`, and `toolkit.predictor.Predictor`.
        GateError: its self-test fails.
        StorageError: the disk is full or fails.
    """
    if options.key is not None:
        signing.check_key(options.key)
    contents = gather(
        artifact,
        kind=options.kind,
        target=options.target,
        form=options.form,
        licence=options.licence,
        signed=options.key is not None,
        c=options.c,
        native=options.native,
    )
    files = dict(contents.files)
    if options.key is not None:
        files[SIGNATURE] = signing.sign(files, contents.manifest.name, options.key)
    beside = _archives(output, contents, files, options)
    for path in beside:
        check_beside(path)
    publish(output, files, {path: data for path, (data, _) in beside.items()}, lambda folder: _try(folder, contents))
    return Made(
        output,
        tuple(_made(output / name, data, what_is(name)) for name, data in files.items()),
        tuple(_made(path, data, what) for path, (data, what) in beside.items()),
        contents.manifest,
    )


def _archives(
    output: Path, contents: Contents, files: Mapping[str, bytes], options: BundleOptions
) -> dict[Path, tuple[bytes, str]]:
    """What stands beside the folder: bytes and a phrase, by path."""
    folder, found = output.absolute(), {}
    if options.zip:
        if not folder.name:
            raise UsageError(f"{output} has no name that a zip file could have; choose another --output")
        found[output.parent / f"{folder.name}.zip"] = archives.write(files, folder.name), "the folder as one file"
    if options.wheel:
        name, data = _wheel(contents)
        found[output.parent / name] = data, "the same as a Python package: pip install"
        if options.key is not None:
            signature = signing.sign_file(data, name, options.key)
            found[output.parent / f"{name}.sig"] = signature, "the signature of the wheel"
    return found


def _wheel(contents: Contents) -> tuple[str, bytes]:
    """Its version ends in a hash of all that is in it, so that pip replaces an earlier model by another."""
    manifest = contents.manifest
    bundle = manifest.bundle
    assert bundle is not None  # gather makes no other
    version = f"{wheel.VERSION}+b{hashlib.sha256(contents.files[SUMS]).hexdigest()[:12]}"
    summary = f"The {manifest.files[bundle.model].kind} model {manifest.name}, with its runtime and a self-test"
    text = readme.text(manifest, licence=MODEL_LICENCE in contents.files, package=wheel.package_name(manifest.name))
    files = {**contents.files, README: text.encode()}
    return wheel.build(files, manifest.name, version, bundle.onnxruntime, summary)


def _try(folder: Path, contents: Contents) -> None:
    """A bundle that does not open, or fails its own self-test, must not be published."""
    bundle = contents.manifest.bundle
    assert bundle is not None  # the same
    with Predictor(folder) as predictor:
        if Path(predictor.file.path).name != bundle.model:
            raise CorruptArtifactError(f"{folder} opens {predictor.file.path}, expected {bundle.model}; report this")
    # As on the device, but for -B, which leaves no compiled modules behind.
    command = [sys.executable, "-B", PREDICTOR, "--selftest"]
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"
    }  # it imports its folder
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.split()).removeprefix("error: ") or f"exit code {done.returncode}"
        raise GateError(f"the bundle is not published, as it does not pass its own self-test here: {said[:600]}")


def _made(path: Path, data: bytes, what: str) -> MadeFile:
    return MadeFile(path, hashlib.sha256(data).hexdigest(), len(data), what)
