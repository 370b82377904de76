"""Signed bundles: OpenSSF model signing, offline, held by its own command line too."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.conftest import REFERENCE, ROOT, toolkit
from toolkit.bundle import signing, sums
from toolkit.errors import CorruptArtifactError, UsageError

if TYPE_CHECKING:
    from tests.conftest import Bundles

PEM, PLAIN = serialization.Encoding.PEM, serialization.NoEncryption()


@dataclass(frozen=True)
class Keys:
    """Files with keys of every kind."""

    private: Path
    public: Path
    other: Path
    encrypted: Path
    rsa: Path
    ed25519: Path
    curve: Path
    text: Path


def _public(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    place = tmp_path_factory.mktemp("keys")
    mine, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
    pkcs8 = serialization.PrivateFormat.PKCS8
    data = {
        "private": mine.private_bytes(
            PEM, serialization.PrivateFormat.TraditionalOpenSSL, PLAIN
        ),  # as openssl writes it
        "public": _public(mine),
        "other": _public(other),
        "encrypted": mine.private_bytes(PEM, pkcs8, serialization.BestAvailableEncryption(b"secret")),
        "rsa": rsa.generate_private_key(65537, 2048).private_bytes(PEM, pkcs8, PLAIN),
        "ed25519": ed25519.Ed25519PrivateKey.generate().private_bytes(PEM, pkcs8, PLAIN),
        "curve": ec.generate_private_key(ec.SECP256K1()).private_bytes(PEM, pkcs8, PLAIN),
        "text": b"no key\n",
    }
    for name, content in data.items():
        (place / name).write_bytes(content)
    return Keys(**{name: place / name for name in data})


@dataclass(frozen=True)
class Signed:
    """A signed bundle in its three forms."""

    folder: Path
    zip: Path
    wheel: Path


@pytest.fixture(scope="module")
def signed(keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Signed:
    place = tmp_path_factory.mktemp("signed")
    done = toolkit("bundle", REFERENCE, "-o", place / "device", "--zip", "--wheel", "--sign", keys.private)
    assert done.code == 0, done.err
    assert "model.sig" in done.out
    return Signed(place / "device", place / "device.zip", next(place.glob("*.whl")))


def _model_signing(folder: Path, signature: Path, key: Path) -> subprocess.CompletedProcess[str]:
    """That project's own command."""
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(folder)]
    options = ["--signature", str(signature), "--public_key", str(key)]
    return subprocess.run([*command, *options], capture_output=True, text=True, check=False)


def _hash_anew(folder: Path) -> None:
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    (folder / "SHA256SUMS").write_bytes(sums.write(files))


def _refused(path: Path, key: Path, *says: str) -> None:
    done = toolkit("verify-bundle", path, "--key", key)
    assert done.code == 4, done.err + done.out
    assert all(word in done.error_line for word in says), done.error_line


def test_each_form_is_signed(signed: Signed, keys: Keys) -> None:
    for path in (signed.folder, signed.zip, signed.wheel):
        done = toolkit("verify-bundle", path, "--key", keys.public)
        assert done.code == 0, done.err
        assert f"signed by the owner of {keys.public}" in done.out
        said = json.loads(toolkit("verify-bundle", path, "--key", keys.public, "--json").out)
        assert said["signature"] == "valid"
        assert json.loads(toolkit("verify-bundle", path, "--json").out)["signature"] == "not checked"


def test_model_signings_own_command_says_the_same(signed: Signed, keys: Keys, tmp_path: Path) -> None:
    device = Path(shutil.copytree(signed.folder, tmp_path / "elsewhere"))
    cache = device / "__pycache__"
    cache.mkdir()  # as on a device that has used it
    (cache / "predictor.cpython-311.pyc").write_bytes(b"compiled")
    done = _model_signing(device, device / "model.sig", keys.public)
    assert done.returncode == 0, done.stderr
    assert "Verification succeeded" in done.stdout
    assert _model_signing(device, device / "model.sig", keys.other).returncode == 1
    (device / "README.md").write_text("changed")
    assert _model_signing(device, device / "model.sig", keys.public).returncode == 1
    beside = signed.wheel.with_name(f"{signed.wheel.name}.sig")
    assert _model_signing(signed.wheel, beside, keys.public).returncode == 0


def test_the_readme_says_how_it_is_verified(signed: Signed, keys: Keys) -> None:
    text = (signed.folder / "README.md").read_text()
    (line,) = [part for part in text.split("`") if part.startswith("model_signing ")]
    command = line.replace("KEY.pub", str(keys.public)).replace("model_signing", "-m model_signing", 1)
    done = subprocess.run([sys.executable, *command.split()], cwd=signed.folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_everything_but_the_signature_is_the_same_bytes_again(signed: Signed, keys: Keys, tmp_path: Path) -> None:
    assert toolkit("bundle", REFERENCE, "-o", tmp_path / "device", "--sign", keys.private).code == 0
    for path in signed.folder.iterdir():
        assert ((tmp_path / "device" / path.name).read_bytes() == path.read_bytes()) == (path.name != "model.sig")


def test_what_was_changed_after_signing_is_seen(signed: Signed, keys: Keys, tmp_path: Path) -> None:
    """By whoever wrote the hashes anew, too."""
    device = Path(shutil.copytree(signed.folder, tmp_path / "device"))
    with (device / "predictor.py").open("a") as file:
        file.write("import os\n")
    _refused(device, keys.public, "predictor.py was changed")
    _hash_anew(device)
    assert toolkit("verify-bundle", device).code == 0  # hashes alone cannot tell
    _refused(device, keys.public, "it was changed after signing")
    path = tmp_path / "device.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for each in device.iterdir():
            archive.writestr(f"device/{each.name}", each.read_bytes())
    _refused(path, keys.public, "it was changed after signing")
    copy = Path(shutil.copy(signed.wheel, tmp_path))
    (tmp_path / f"{copy.name}.sig").write_bytes((device / "model.sig").read_bytes())
    _refused(copy, keys.public, "it was changed after signing")


def test_another_key_or_no_signature(signed: Signed, bundles: Bundles, keys: Keys) -> None:
    for path in (signed.folder, signed.zip, signed.wheel):
        _refused(path, keys.other, "the signature is of another key")
    for path in (bundles.folder, bundles.zip, bundles.wheel):
        _refused(path, keys.public, "is not signed")


@pytest.mark.parametrize("kind", ["cut short", "text", "empty", "json", "another's", "flipped"])
def test_a_damaged_signature(signed: Signed, keys: Keys, tmp_path: Path, kind: str) -> None:
    device = Path(shutil.copytree(signed.folder, tmp_path / "device"))
    whole = (device / "model.sig").read_bytes()
    parsed = json.loads(whole)
    signature = parsed["dsseEnvelope"]["signatures"][0]
    signature["sig"] = signature["sig"][:20] + ("A" if signature["sig"][20] != "A" else "B") + signature["sig"][21:]
    other = signing.sign({"README.md": b""}, "other", keys.private)
    damaged = {
        "cut short": whole[:-9],
        "text": b"signed",
        "empty": b"",
        "json": b"{}",
        "another's": other,
        "flipped": json.dumps(parsed).encode(),
    }
    (device / "model.sig").write_bytes(damaged[kind])
    _refused(device, keys.public, "is not what the owner of")


def test_a_signature_that_leaves_something_out(signed: Signed, keys: Keys) -> None:
    """Its owner signed with other ignored paths than we do."""
    theirs: Any = importlib.import_module("model_signing.signing")
    hashing: Any = importlib.import_module("model_signing.hashing")
    files = {path.name: path.read_bytes() for path in signed.folder.iterdir() if path.name != "model.sig"}
    config = theirs.Config().use_elliptic_key_signer(private_key=keys.private)
    config.set_hashing_config(hashing.Config().set_ignored_paths(paths=["model.sig", "predictor.py"]))
    place = signed.folder.parent / "partial.sig"
    config.sign(signed.folder, place)
    with pytest.raises(CorruptArtifactError, match=r"says nothing of predictor\.py"):
        signing.verify(files, place.read_bytes(), keys.public, "device")


@pytest.mark.parametrize("kind", ["encrypted", "rsa", "ed25519", "curve", "text", "public"])
def test_keys_that_do_not_sign(keys: Keys, tmp_path: Path, kind: str) -> None:
    done = toolkit("bundle", REFERENCE, "-o", tmp_path / "device", "--sign", getattr(keys, kind))
    assert done.code == 2
    assert "expected an elliptic curve private key in PEM, not encrypted" in done.error_line
    assert ("is an encrypted key" in done.error_line) == (kind == "encrypted")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["private", "rsa", "text"])
def test_keys_that_do_not_verify(signed: Signed, keys: Keys, kind: str) -> None:
    done = toolkit("verify-bundle", signed.folder, "--key", getattr(keys, kind))
    assert done.code == 2
    assert "expected an elliptic curve public key in PEM" in done.error_line


def test_keys_that_are_not_there(signed: Signed, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere.pem"
    for command in (
        ("bundle", REFERENCE, "-o", tmp_path / "device", "--sign", nowhere),
        ("verify-bundle", signed.folder, "--key", nowhere),
    ):
        done = toolkit(*command)
        assert done.code == 3
        assert "nowhere.pem does not exist" in done.error_line
    with pytest.raises(UsageError, match="Is a directory"):
        signing.check_key(tmp_path)


def test_without_model_signing_it_is_said_what_to_install(signed: Signed, keys: Keys, tmp_path: Path) -> None:
    """A module of its name that cannot be imported stands in for its absence."""
    (tmp_path / "model_signing.py").write_text("raise ImportError('not installed')")
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    for command in (
        ("bundle", REFERENCE, "-o", tmp_path / "device", "--sign", keys.private),
        ("verify-bundle", signed.folder, "--key", keys.public),
    ):
        done = toolkit(*command, env=environment)
        assert done.code == 3
        assert "the extra 'sign'" in done.error_line
    assert toolkit("verify-bundle", signed.folder, env=environment).code == 0
    assert not (tmp_path / "device").exists()


def test_no_connection_is_opened(signed: Signed, keys: Keys) -> None:
    """With an audit hook that ends the process at the first socket."""
    script = f"""
import os, sys
from pathlib import Path
sys.addaudithook(lambda event, _: os._exit(9) if event in ("socket.connect", "socket.getaddrinfo") else None)
from toolkit.bundle import signing
files = {{path.name: path.read_bytes() for path in Path({str(signed.folder)!r}).iterdir() if path.name != "model.sig"}}
signature = signing.sign(files, "name", Path({str(keys.private)!r}))
signing.verify(files, signature, Path({str(keys.public)!r}), "here")
print("done")
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_stdout_is_the_commands_own(signed: Signed, keys: Keys) -> None:
    """model-signing prints a warning about signatures of its earlier versions, which have no hint of the key."""
    parsed = json.loads((signed.folder / "model.sig").read_text())
    del parsed["verificationMaterial"]["publicKey"]["hint"]
    older = signed.folder.parent / "older"
    shutil.copytree(signed.folder, older)
    (older / "model.sig").write_text(json.dumps(parsed))
    done = toolkit("verify-bundle", older, "--key", keys.public, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["signature"] == "valid"
    assert "WARNING" in done.err
