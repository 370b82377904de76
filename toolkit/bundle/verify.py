"""A bundle checked from the outside: every byte against its hash, and its parts against each other.

Nothing of the bundle is run; whether it answers as it should on a device is for its self-test to say.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolkit import golden
from toolkit.artifact import GOLDEN, MANIFEST_NAME, Manifest, manifest_from
from toolkit.bundle import archives, device_code, requirements, signing, sums, wheel
from toolkit.bundle.layout import (
    CACHE,
    MODEL_LICENCE,
    NATIVE,
    PACKAGE,
    PREDICTOR,
    REQUIREMENTS,
    SELFTEST,
    SUMS,
    further,
    needed,
)
from toolkit.bundle.reading import Found, read_found
from toolkit.errors import CorruptArtifactError, ToolkitError
from toolkit.predictor import MANIFEST_FORMAT

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["BundleCheck", "verify_bundle"]


@dataclass(frozen=True)
class BundleCheck:
    """A sound bundle.

    Attributes:
        path: of the folder, zip file or wheel.
        form: "folder", "zip" or "wheel".
        manifest: its own.
        files: sha256 and size of each file, by name.
        signature: "valid", "not checked" (no key was given) or "none".
        notes: what a person should know all the same.
    """

    path: str
    form: str
    manifest: Manifest
    files: dict[str, tuple[str, int]]
    signature: str
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        manifest = self.manifest.to_json()
        return {
            "path": self.path,
            "form": self.form,
            "name": manifest["name"],
            "bundle": manifest["bundle"],
            "files": {name: {"sha256": sha256, "bytes": size} for name, (sha256, size) in self.files.items()},
            "signature": self.signature,
            "notes": list(self.notes),
        }


def verify_bundle(path: Path, key: Path | None = None) -> BundleCheck:
    """Hold a bundle against its own hashes, its manifest, and the owner's signature.

    Args:
        path: a folder, .zip or .whl that ``toolkit bundle`` made.
        key: the owner's public key; the bundle must be signed with the private one then.

    Raises:
        MissingError: nothing is there; or model-signing, which a signature needs, is not installed.
        UsageError: it is no bundle; or the key is none.
        CorruptArtifactError: a file is damaged, missing, changed or does not belong; or the signature does not hold.
    """
    if key is not None:
        signing.check_key(key, public=True)
    found = read_found(path)
    hashes = _check_sums(found)
    manifest = _check_manifest(found, hashes)
    _check_golden(found, manifest)
    notes = _notes(found, manifest)
    if found.form == "wheel":
        notes += _check_wheel(found, manifest)
    return BundleCheck(
        str(path),
        found.form,
        manifest,
        {name: (hashlib.sha256(data).hexdigest(), len(data)) for name, data in sorted(found.files.items())},
        _check_signature(found, key),
        tuple(notes),
    )


def _check_sums(found: Found) -> dict[str, str]:
    if SUMS not in found.files:
        raise CorruptArtifactError(f"{found.shown(SUMS)} is missing; copy the bundle again as a whole")
    hashes = sums.read(found.files[SUMS], found.shown(SUMS))
    for name, sha256 in hashes.items():
        if name not in found.files:
            raise CorruptArtifactError(f"{found.shown(name)} is missing; copy the bundle again as a whole")
        if hashlib.sha256(found.files[name]).hexdigest() != sha256:
            raise CorruptArtifactError(
                f"{found.shown(name)} was changed or damaged: its sha256 is not that of {SUMS}; copy the bundle again "
                "as a whole"
            )
    for name in sorted(found.files.keys() - hashes.keys() - {SUMS}):
        raise CorruptArtifactError(f"{found.shown(name)} is a file that does not belong: {SUMS} has no line of it")
    return hashes


def _check_manifest(found: Found, hashes: dict[str, str]) -> Manifest:
    shown = found.shown(MANIFEST_NAME)
    try:
        raw = json.loads(found.files.get(MANIFEST_NAME, b""))
        form = raw["format"]
    except (ValueError, RecursionError, TypeError, KeyError) as error:
        raise CorruptArtifactError(f"{shown} is missing or damaged; copy the bundle again as a whole") from error
    if form != MANIFEST_FORMAT:
        raise CorruptArtifactError(
            f"{shown} has format {form!r}, this version reads {MANIFEST_FORMAT}; use the toolkit version that wrote it"
        )
    manifest = manifest_from(raw, shown)
    bundle = manifest.bundle
    besides = further(manifest.files)
    if bundle is None or manifest.files.keys() != {bundle.model, GOLDEN, *besides} - {NATIVE}:
        raise CorruptArtifactError(f"{shown} is not that of a bundle of one model; copy the bundle again as a whole")
    package = PACKAGE if found.form == "wheel" or PACKAGE[0] in hashes else ()
    whole = (*needed(bundle.model), *package, *besides)
    if missing := [name for name in whole if name not in hashes]:
        raise CorruptArtifactError(f"{found.shown(missing[0])} is missing; copy the bundle again as a whole")
    if strange := sorted(hashes.keys() - {*whole, MODEL_LICENCE}):
        raise CorruptArtifactError(
            f"{found.shown(strange[0])} is a file that does not belong to a bundle of {bundle.model}"
        )
    for name, record in manifest.files.items():
        if record.sha256 != hashes[name] or record.bytes != len(found.files[name]):
            raise CorruptArtifactError(
                f"{shown} describes another {name}: sha256 {record.sha256[:12]}, here is {hashes[name][:12]}; copy the "
                "bundle again as a whole"
            )
    if bundle.onnxruntime != manifest.files[bundle.model].onnxruntime or bundle.target not in requirements.TARGETS:
        raise CorruptArtifactError(f"{shown} contradicts itself, or has an unknown target; make the bundle again")
    return manifest


def _check_golden(found: Found, manifest: Manifest) -> None:
    shown, bundle = found.shown(GOLDEN), manifest.bundle
    assert bundle is not None  # _check_manifest saw to it
    archives.check_sizes(found.files[GOLDEN], shown)
    vectors = golden.load(found.files[GOLDEN], shown)
    if vectors.files.keys() != {bundle.model} or vectors.files[bundle.model].exact != bundle.exact:
        raise CorruptArtifactError(f"{shown} has no answers of {bundle.model}; copy the bundle again as a whole")


def _notes(found: Found, manifest: Manifest) -> list[str]:
    """Where it differs from what this version of the toolkit would write: its hashes are right all the same."""
    bundle = manifest.bundle
    assert bundle is not None  # the same
    package = found.top if PACKAGE[0] in found.files else None
    ours = {
        PREDICTOR: device_code.predictor(),
        SELFTEST: device_code.selftest(package),
        REQUIREMENTS: requirements.text(bundle.target).encode(),
    }
    notes = [
        f"{found.shown(name)} is not this toolkit version's: another version wrote it, or somebody who wrote the "
        "hashes anew, which only a signature would tell"
        for name, data in ours.items()
        if found.files[name] != data
    ]
    if found.caches:
        notes.append(
            f"{found.shown(CACHE)} holds compiled modules, which nothing vouches for; remove it if others can write "
            "there"
        )
    return notes


def _check_wheel(found: Found, manifest: Manifest) -> list[str]:
    """RECORD says what is there, and the whole is what would be built of the bundle today; if not, a note."""
    about = next(name for name in archives.read(found.data, found.path) if name.endswith("/RECORD"))
    folder = about.removesuffix("/RECORD")
    members = {f"{found.top}/{name}": data for name, data in found.files.items()}
    members |= {f"{folder}/{name}": data for name, data in found.about.items() if name != "RECORD"}
    listed, here = (sorted(text.split(b"\n")) for text in (found.about["RECORD"], wheel.record(members, about)))
    if listed != here:
        raise CorruptArtifactError(f"{found.path}: its RECORD is not of these files; copy it again as a whole")
    package = f"from {found.top} import predictor as device\n".encode()
    contents = {name: data for name, data in found.files.items() if name not in (*PACKAGE, SUMS)}
    contents[SELFTEST] = contents[SELFTEST].replace(package, b"import predictor as device\n")
    try:
        fields = dict(line.split(": ", 1) for line in found.about["METADATA"].decode().split("\n\n")[0].splitlines())
        floor = manifest.files[manifest.bundle.model].onnxruntime if manifest.bundle else None
        _, again = wheel.build(contents, manifest.name, fields["Version"], floor, fields["Summary"])
    except (ToolkitError, ValueError, KeyError):
        again = b""
    if again == found.data:
        return []
    return [f"{found.path} is not built as this toolkit version builds it: {_difference(found, again)}"]


def _difference(found: Found, again: bytes) -> str:
    here, ours = archives.read(found.data, found.path), archives.read(again, found.path) if again else {}
    names = sorted(name for name in here.keys() | ours.keys() if here.get(name) != ours.get(name))
    return f"{', '.join(names)} differ" if names else "the same files, packed otherwise"


def _check_signature(found: Found, key: Path | None) -> str:
    if key is None:
        return "none" if found.signature is None else "not checked"
    if found.signature is None:
        raise CorruptArtifactError(f"{found.path} is not signed; make it again with: toolkit bundle --sign KEY")
    if found.form == "wheel":
        signing.verify_file(found.data, found.path.name, found.signature, key, found.path)
    else:
        signing.verify(found.files, found.signature, key, found.path)
    return "valid"
