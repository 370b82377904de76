"""`toolkit verify-bundle`: every kind of damage to a folder, a zip file and a wheel is seen."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.conftest import REFERENCE, ROOT, toolkit
from toolkit.artifact import load_manifest
from toolkit.bundle import sums, wheel
from toolkit.bundle.verify import verify_bundle
from toolkit.errors import CorruptArtifactError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.conftest import Bundles

NAMES = [
    "LICENSE",
    "README.md",
    "SHA256SUMS",
    "golden.npz",
    "manifest.json",
    "model.int8.onnx",
    "predictor.py",
    "requirements.txt",
    "selftest.py",
]


@pytest.fixture
def device(bundles: Bundles, tmp_path: Path) -> Path:
    """A copy of the folder, to be changed."""
    return Path(shutil.copytree(bundles.folder, tmp_path / "device"))


def _refused(path: Path, *says: str) -> None:
    done = toolkit("verify-bundle", path)
    assert done.code == 4, done.err + done.out
    assert done.out == ""
    assert all(word in done.error_line for word in says), done.error_line


def _hash_anew(folder: Path) -> None:
    """SHA256SUMS for the files as they are, as somebody writes it who changed them on purpose."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    (folder / "SHA256SUMS").write_bytes(sums.write(files))


def _pack(path: Path, members: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def _unpack(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_each_form_is_sound(bundles: Bundles) -> None:
    for path, form, count in ((bundles.folder, "folder", 9), (bundles.zip, "zip", 9), (bundles.wheel, "wheel", 12)):
        done = toolkit("verify-bundle", path)
        assert done.code == 0, done.err
        assert done.err == ""
        assert f"{path}: sound, model.int8.onnx of fashion-mnist, {count} files" in done.out
        machine = toolkit("verify-bundle", path, "--json")
        said = json.loads(machine.out)
        assert (said["form"], said["signature"], said["notes"], len(said["files"])) == (form, "none", [], count)
        assert said["bundle"]["model"] == "model.int8.onnx"
        sha256 = load_manifest(bundles.folder).files["model.int8.onnx"].sha256
        assert said["files"]["model.int8.onnx"]["sha256"] == sha256


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "damage", ["flipped", "cut short", "empty", "removed", "a link out", "a link", "a folder", "a pipe"]
)
def test_a_damaged_file_is_seen(device: Path, tmp_path: Path, name: str, damage: str) -> None:
    path = device / name
    data = path.read_bytes()
    if damage == "flipped":
        half = len(data) // 2
        path.write_bytes(data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :])
    elif damage in ("cut short", "empty"):
        path.write_bytes(data[:-1] if damage == "cut short" else b"")
    else:
        path.unlink()
    if damage == "a link out":
        (tmp_path / "outside").write_bytes(data)
        path.symlink_to(tmp_path / "outside")
    elif damage == "a link":
        path.symlink_to("README.md" if name != "README.md" else "LICENSE")
    elif damage == "a folder":
        path.mkdir()
    elif damage == "a pipe":
        os.mkfifo(path)
    with pytest.raises(CorruptArtifactError, match=re.escape(name)):
        verify_bundle(device)
    if name == "predictor.py":  # each damage once by the command, which takes longer
        _refused(device, name)


@pytest.mark.parametrize(
    "name", ["notes.txt", ".hidden", "evil.py", "model.onnx", "model.ort", "MODEL_LICENCE", "folder"]
)
def test_a_file_that_does_not_belong_is_seen(device: Path, name: str) -> None:
    (device / name).mkdir() if name == "folder" else (device / name).write_text("import os")
    _refused(device, name, "does not belong")


@pytest.mark.parametrize("name", ["evil.py", "model.onnx", "numpy.py"])
def test_so_it_is_if_the_hashes_are_written_anew(device: Path, name: str) -> None:
    (device / name).write_text("import os")
    _hash_anew(device)
    _refused(device, name, "does not belong")


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [lines[1], lines[0], *lines[2:]],
        lambda lines: [lines[0], *lines],
        lambda lines: [lines[0].upper(), *lines[1:]],
        lambda lines: [lines[0].replace("  ", " "), *lines[1:]],
        lambda lines: [lines[0].replace("  ", " *"), *lines[1:]],
        lambda lines: [*lines, ""],
        lambda lines: [line + "\r" for line in lines],
        lambda lines: [f"{'0' * 64}  ../outside", *lines],
        lambda lines: [f"{'0' * 64}  /etc/passwd", *lines],
        lambda lines: [f"{'0' * 64}  .hidden", *lines],
        lambda lines: [lines[0][1:], *lines[1:]],
        lambda lines: [*lines, "\N{SNOWMAN}" * 70],
    ],
)
def test_the_list_of_hashes_is_read_strictly(device: Path, change: object) -> None:
    assert callable(change)
    lines = (device / "SHA256SUMS").read_text().splitlines()
    (device / "SHA256SUMS").write_text("\n".join([*change(lines), ""]), newline="")
    with pytest.raises(CorruptArtifactError, match="SHA256SUMS is damaged"):
        verify_bundle(device)


def test_the_list_of_hashes_must_be_text(device: Path) -> None:
    for data in (b"\xff\xfe\x00", (device / "SHA256SUMS").read_bytes()[:-1]):
        (device / "SHA256SUMS").write_bytes(data)
        _refused(device, "SHA256SUMS is damaged")


def test_the_manifest_of_another_model_is_seen(device: Path, tmp_path: Path) -> None:
    assert toolkit("bundle", REFERENCE, "-o", tmp_path / "other", "--kind", "float32").code == 0
    shutil.copy(tmp_path / "other" / "manifest.json", device)
    _refused(device, "manifest.json was changed")
    _hash_anew(device)
    _refused(device, "model.onnx is missing")
    manifest = load_manifest(tmp_path / "other")
    record = manifest.files["model.onnx"]
    assert manifest.bundle is not None
    dataclasses.replace(
        manifest,
        files={"golden.npz": manifest.files["golden.npz"], "model.int8.onnx": dataclasses.replace(record, kind="int8")},
        bundle=dataclasses.replace(manifest.bundle, model="model.int8.onnx"),
    ).write(device)
    _hash_anew(device)
    _refused(device, "describes another")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 99}, "format 99, this version reads"),
        ({"bundle": None}, "not that of a bundle"),
        ({"bundle": {"format": 2, "later": True}}, "bundle format 2, this version reads 1"),
        ({"bundle": {"format": 1}}, "incomplete"),
        ({"bundle": "yes"}, "incomplete"),
        ({"files": {}}, "not that of a bundle"),
        ({"name": None, "later": 1}, "unknown fields"),
    ],
)
def test_a_manifest_that_this_version_does_not_read(device: Path, change: dict[str, object], says: str) -> None:
    raw = json.loads((device / "manifest.json").read_text())
    (device / "manifest.json").write_text(json.dumps({**raw, **change}))
    _hash_anew(device)
    _refused(device, "manifest.json", says)


@pytest.mark.parametrize("text", ["[]", "{}", "null", "[" * 100_000, "{", ""])
def test_a_manifest_that_is_none(device: Path, text: str) -> None:
    (device / "manifest.json").write_text(text)
    _hash_anew(device)
    with pytest.raises(CorruptArtifactError, match=r"manifest\.json is missing or damaged"):
        verify_bundle(device)


def test_a_contradictory_manifest(device: Path) -> None:
    raw = json.loads((device / "manifest.json").read_text())
    for change in ({"onnxruntime": "1.0"}, {"target": "windows"}, {"exact": False}):
        (device / "manifest.json").write_text(json.dumps({**raw, "bundle": {**raw["bundle"], **change}}))
        _hash_anew(device)
        with pytest.raises(CorruptArtifactError):
            verify_bundle(device)


@pytest.mark.parametrize("kind", ["text", "of another file", "bomb"])
def test_golden_vectors_that_are_none(device: Path, kind: str) -> None:
    if kind == "text":
        data = b"golden"
    elif kind == "of another file":
        data = (REFERENCE / "golden.npz").read_bytes()
    else:
        packed = io.BytesIO()
        np.savez_compressed(packed, zeros=np.zeros(50_000_000, np.uint8))
        data = packed.getvalue()
    (device / "golden.npz").write_bytes(data)
    manifest = load_manifest(device)
    record = dataclasses.replace(manifest.files["golden.npz"], sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
    dataclasses.replace(manifest, files={**manifest.files, "golden.npz": record}).write(device)
    _hash_anew(device)
    _refused(device, "golden.npz")


@pytest.mark.parametrize("name", ["predictor.py", "selftest.py", "requirements.txt"])
def test_another_versions_files_are_a_note(device: Path, name: str) -> None:
    with (device / name).open("a") as file:
        file.write("# of another version\n")
    _hash_anew(device)
    done = toolkit("verify-bundle", device)
    assert done.code == 0, done.err
    assert f"note: {device}/{name} is not this toolkit version's" in done.err


def test_compiled_modules_are_a_note_and_nothing_else_is_let_through_with_them(device: Path) -> None:
    cache = device / "__pycache__"
    cache.mkdir()
    (cache / "predictor.cpython-311.pyc").write_bytes(b"compiled")
    done = toolkit("verify-bundle", device)
    assert done.code == 0, done.err
    assert "compiled modules, which nothing vouches for" in done.err
    (cache / "predictor.py").write_text("import os")
    _refused(device, "__pycache__", "does not belong")


def test_a_path_that_is_a_link_to_a_bundle_is_fine(bundles: Bundles, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(bundles.folder)
    assert toolkit("verify-bundle", tmp_path / "current").code == 0


def test_what_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("text")
    for path, code, says in (
        (REFERENCE, 2, "is no bundle"),
        (tmp_path, 2, "is no bundle"),
        (tmp_path / "text.txt", 2, "is no bundle"),
        (tmp_path / "nowhere", 3, "does not exist"),
        (tmp_path / "nowhere.zip", 3, "does not exist"),
    ):
        done = toolkit("verify-bundle", path)
        assert done.code == code
        assert says in done.error_line


@pytest.mark.parametrize("form", ["zip", "wheel"])
def test_a_damaged_archive_is_seen(bundles: Bundles, tmp_path: Path, form: str) -> None:
    """A flipped byte is seen, or lies where nothing is read from: then the files are those that were packed."""
    source = bundles.zip if form == "zip" else bundles.wheel
    data = source.read_bytes()
    path = tmp_path / source.name
    sound = verify_bundle(source)
    for cut in (0, 1, 100, len(data) // 2, len(data) - 30, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(CorruptArtifactError):
            verify_bundle(path)
    seen = 0
    for at in [*np.random.default_rng(1).integers(0, len(data), 60).tolist(), *range(len(data) - 60, len(data))]:
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x11]) + data[at + 1 :])
        try:
            assert verify_bundle(path).files == sound.files
        except CorruptArtifactError:
            seen += 1
    assert seen > 60
    path.write_bytes(data[:1000])
    _refused(path, path.name)


@pytest.mark.parametrize(
    "name",
    [
        "device/../../outside",
        "../outside",
        "/etc/cron.d/evil",
        "device/sub/README.md",
        "device\\README.md",
        "device/",
        "README.md",
        "other/README.md",
        "device/evil.py",
        "device/.",
        "device/README.md\0.txt",
    ],
)
def test_names_that_no_zip_file_of_ours_has(bundles: Bundles, tmp_path: Path, name: str) -> None:
    path = _pack(tmp_path / "device.zip", _unpack(bundles.zip))
    with zipfile.ZipFile(path, "a") as archive:
        entry = zipfile.ZipInfo("placeholder")
        entry.filename = entry.orig_filename = name
        archive.writestr(entry, b"evil")
    _refused(path, "device.zip")
    assert [each.name for each in tmp_path.iterdir()] == ["device.zip"]


@pytest.mark.parametrize("kind", ["twice", "link", "pipe", "bomb", "many", "encrypted", "way of packing", "empty"])
def test_tricks_that_no_zip_file_of_ours_has(bundles: Bundles, tmp_path: Path, kind: str) -> None:
    members = _unpack(bundles.zip)
    path = tmp_path / "device.zip"
    if kind in ("link", "pipe"):
        del members["device/README.md"]
    _pack(path, {} if kind == "empty" else members)
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")  # zipfile's own, on the second of a name
        if kind == "twice":
            archive.writestr("device/README.md", b"another")
        elif kind in ("link", "pipe"):
            entry = zipfile.ZipInfo("device/README.md")
            entry.external_attr = ((stat.S_IFLNK if kind == "link" else stat.S_IFIFO) | 0o644) << 16
            archive.writestr(entry, b"/etc/passwd")
        elif kind == "bomb":
            archive.writestr("device/MODEL_LICENCE", bytes(300_000_000), zipfile.ZIP_DEFLATED)
        elif kind == "many":
            for number in range(100):
                archive.writestr(f"device/{number}", b"")
        elif kind == "way of packing":
            archive.writestr("device/MODEL_LICENCE", b"a" * 1000, zipfile.ZIP_LZMA)
    if kind == "encrypted":
        data = bytearray(path.read_bytes())
        data[data.index(b"PK\1\2") + 8] |= 1
        path.write_bytes(data)
    _refused(path, "device.zip")


@pytest.mark.parametrize("name", ["device.zip", "device/README.md"])
def test_what_would_fill_the_memory_is_not_read(bundles: Bundles, tmp_path: Path, name: str) -> None:
    shutil.copytree(bundles.folder, tmp_path / "device")
    with (tmp_path / name).open("wb") as file:
        file.truncate(50_000_000_000)  # a hole: it takes no space
    with pytest.raises(CorruptArtifactError, match="has 50,000,000,000 bytes, expected"):
        verify_bundle(tmp_path / name.split("/", maxsplit=1)[0])


def test_a_zip_file_that_was_packed_again_is_the_same_bundle(bundles: Bundles, tmp_path: Path) -> None:
    path = tmp_path / "again.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in _unpack(bundles.zip).items():
            archive.writestr(name, data)
    assert verify_bundle(path).files == verify_bundle(bundles.folder).files


def _with_record(members: dict[str, bytes]) -> dict[str, bytes]:
    """A wheel's files with a RECORD that fits, as somebody writes it who changed them on purpose."""
    path = next(name for name in members if name.endswith("/RECORD"))
    rest = {name: data for name, data in members.items() if name != path}
    return {**rest, path: wheel.record(rest, path)}


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("record", "RECORD is not of these files"),
        ("scripts", "its .dist-info holds"),
        ("second package", "expected a package and its .dist-info"),
        ("module", "evil.py is a file that does not belong"),
        ("init", "__init__.py was changed"),
        ("no init", "__init__.py is missing"),
    ],
)
def test_a_wheel_that_was_tampered_with(bundles: Bundles, tmp_path: Path, kind: str, says: str) -> None:
    members = _unpack(bundles.wheel)
    about = next(name for name in members if name.endswith("/RECORD")).removesuffix("/RECORD")
    if kind == "record":
        members[f"{about}/RECORD"] = members[f"{about}/RECORD"].replace(
            b"fashion_mnist_model/LICENSE", b"fashion_mnist_model/LICENCE"
        )
    elif kind == "scripts":
        members[f"{about}/entry_points.txt"] = b"[console_scripts]\nls = evil:main\n"
    elif kind == "second package":
        members["numpy/__init__.py"] = b"import os\n"
    elif kind == "module":
        members["fashion_mnist_model/evil.py"] = b"import os\n"
    elif kind == "init":
        members["fashion_mnist_model/__init__.py"] += b"import os\n"
    else:
        del members["fashion_mnist_model/__init__.py"]
    _refused(_pack(tmp_path / bundles.wheel.name, members if kind == "record" else _with_record(members)), says)


def test_a_wheel_that_asks_for_more_is_a_note(bundles: Bundles, tmp_path: Path) -> None:
    members = _unpack(bundles.wheel)
    metadata = next(name for name in members if name.endswith("/METADATA"))
    members[metadata] = members[metadata].replace(
        b"Requires-Dist: numpy\n", b"Requires-Dist: numpy\nRequires-Dist: evil\n"
    )
    done = toolkit("verify-bundle", _pack(tmp_path / bundles.wheel.name, _with_record(members)))
    assert done.code == 0, done.err
    assert "METADATA, " in done.err
    assert "not built as this toolkit version builds it" in done.err


def test_an_installed_package_is_a_bundle_too(bundles: Bundles, tmp_path: Path) -> None:
    with zipfile.ZipFile(bundles.wheel) as archive:
        archive.extractall(tmp_path)
    done = toolkit("verify-bundle", tmp_path / "fashion_mnist_model")
    assert done.code == 0, done.err
    assert done.err == ""
    (tmp_path / "fashion_mnist_model" / "__init__.py").unlink()
    _refused(tmp_path / "fashion_mnist_model", "__init__.py is missing")


def test_verifying_imports_neither_the_bundles_code_nor_a_runtime(bundles: Bundles, tmp_path: Path) -> None:
    device = Path(shutil.copytree(bundles.folder, tmp_path / "device"))
    for name in ("predictor.py", "selftest.py"):
        with (device / name).open("a") as file:
            file.write(f"\nopen({str(tmp_path / 'ran')!r}, 'w')\n")
    _hash_anew(device)
    script = f"""
import sys
from pathlib import Path
from toolkit.bundle.verify import verify_bundle
verify_bundle(Path({str(device)!r}))
print(sorted({{"onnxruntime", "tensorflow", "keras", "onnx", "typer", "rich", "model_signing"}} & {{*sys.modules}}))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert not (tmp_path / "ran").exists()
