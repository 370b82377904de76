"""Signatures as OpenSSF model signing has them, made and verified offline with an elliptic curve key.

The work is `model-signing`'s own (the extra 'sign'), so its command line verifies what is signed here::

    model_signing verify key device --signature device/model.sig --public_key key.pub

What is signed is a statement of the sha256 of every file (in-toto, in a DSSE envelope, in a Sigstore bundle;
https://github.com/ossf/model-signing-spec). Copies in private folders are signed and verified, so that what was looked
at is what the signature is about. A signature has random bits: two of the same files differ.
"""

from __future__ import annotations

import base64
import contextlib
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.bundle.layout import CACHE, SIGNATURE
from toolkit.errors import CorruptArtifactError, MissingError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["check_key", "sign", "sign_file", "verify", "verify_file"]

_PRIVATE = "an elliptic curve private key in PEM, not encrypted (openssl ecparam -name prime256v1 -genkey -noout)"
_PUBLIC = "an elliptic curve public key in PEM (openssl ec -in KEY -pubout)"


def check_key(key: Path, *, public: bool = False) -> None:
    """A key that signs (or verifies), known before the work.

    Raises:
        MissingError: it is not there, or model-signing is not installed.
        UsageError: it is no such key, or is encrypted.
    """
    (_verifier if public else _signer)(key)


def sign(files: Mapping[str, bytes], name: str, key: Path) -> bytes:
    """The signature of a bundle's files: what ``model.sig`` holds.

    Args:
        files: bytes by name.
        name: what the statement calls them; nothing depends on it.
        key: see `check_key`.
    """
    signer = _signer(key)
    with _folder(files, name) as folder, _quiet():
        return _signed(signer, folder, ignored=(SIGNATURE, CACHE))


def sign_file(data: bytes, name: str, key: Path) -> bytes:
    """The signature of one file, to be kept beside it."""
    signer = _signer(key)
    with _folder({name: data}, "file") as folder, _quiet():
        return _signed(signer, folder / name, ignored=())


def verify(files: Mapping[str, bytes], signature: bytes, key: Path, shown: object) -> None:
    """A signature is this key's, of these very files, and leaves none of them out.

    Args:
        files: bytes by name.
        signature: what ``model.sig`` holds.
        key: the public one.
        shown: how errors call the bundle.

    Raises:
        CorruptArtifactError: it is not.
        MissingError, UsageError: see `check_key`.
    """
    verifier = _verifier(key)
    with _folder(files, "bundle") as folder:
        _verified(verifier, folder, signature, key, shown)
    if left_out := sorted(files.keys() - _names_in(signature)):
        raise CorruptArtifactError(
            f"{shown}: the signature says nothing of {', '.join(left_out)}; sign all of it: toolkit bundle --sign"
        )


def verify_file(data: bytes, name: str, signature: bytes, key: Path, shown: object) -> None:
    """The same of one file."""
    verifier = _verifier(key)
    with _folder({name: data}, "file") as folder:
        _verified(verifier, folder / name, signature, key, shown)


def _signer(key: Path) -> Any:
    """A configuration of model-signing that signs with a key."""
    data = _read(key, _PRIVATE)
    config = _library("signing").Config()
    if b"ENCRYPTED" in data:
        raise UsageError(f"{key} is an encrypted key, expected {_PRIVATE}")
    try:
        return config.use_elliptic_key_signer(private_key=key)
    except Exception as error:  # of cryptography's many; none is about anything but the key
        raise UsageError(f"{key} is no key to sign with, expected {_PRIVATE}") from error


def _verifier(key: Path) -> Any:
    _read(key, _PUBLIC)
    config = _library("verifying").Config()
    try:
        return config.use_elliptic_key_verifier(public_key=key)
    except Exception as error:  # the same
        raise UsageError(f"{key} is no key to verify with, expected {_PUBLIC}") from error


def _read(key: Path, expected: str) -> bytes:
    try:
        return key.read_bytes()
    except FileNotFoundError as error:
        raise MissingError(f"{key} does not exist; give {expected}") from error
    except OSError as error:
        raise UsageError(f"cannot read {key}: {error.strerror}; give {expected}") from error


def _library(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"model_signing.{module}")
    except ImportError as error:
        raise MissingError(
            f"signatures need model-signing ({error}); install the extra 'sign': pip install '.[sign]' in the project"
        ) from error


def _signed(signer: Any, path: Path, ignored: tuple[str, ...]) -> bytes:
    hashing = _library("hashing").Config()
    hashing.set_ignored_paths(paths=ignored, ignore_git_paths=False)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / SIGNATURE
        signer.set_hashing_config(hashing).sign(path, place)
        return place.read_bytes()


def _verified(verifier: Any, path: Path, signature: bytes, key: Path, shown: object) -> None:
    with tempfile.TemporaryDirectory() as scratch, _quiet():
        place = Path(scratch) / SIGNATURE
        place.write_bytes(signature)
        try:
            verifier.verify(path, place)
        except Exception as error:  # model-signing, pydantic and cryptography each have their own
            what = "the signature is of another key" if "Key mismatch" in str(error) else "it was changed after signing"
            raise CorruptArtifactError(
                f"{shown} is not what the owner of {key} signed: {what}; do not use it, or give the right key"
            ) from error


def _names_in(signature: bytes) -> set[str]:
    """The files that a verified signature is about."""
    payload = json.loads(base64.b64decode(json.loads(signature)["dsseEnvelope"]["payload"]))
    return {resource["name"] for resource in payload["predicate"]["resources"]}


@contextlib.contextmanager
def _folder(files: Mapping[str, bytes], name: str) -> Iterator[Path]:
    """A private folder with these files and nothing else."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / (name.replace("/", "-").strip(".") or "bundle")
        folder.mkdir()
        for each, data in files.items():
            (folder / each).write_bytes(data)
        yield folder


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What model-signing prints goes to stderr: stdout is the command's."""
    with contextlib.redirect_stdout(sys.stderr):
        yield
