"""`toolkit bundle`: what is in a bundle, that it is the same bytes each time, and in whose place it never gets."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.conftest import REFERENCE, ROOT, TOOLKIT, toolkit
from toolkit import golden
from toolkit.artifact import load_manifest
from toolkit.bundle import readme
from toolkit.bundle.folder import publish
from toolkit.bundle.layout import belongs
from toolkit.bundle.verify import verify_bundle
from toolkit.errors import UsageError
from toolkit.manifest_records import ParityRecord, TensorContract
from toolkit.predictor import Predictor

if TYPE_CHECKING:
    from tests.conftest import Bundles

NAMES = {
    "LICENSE",
    "README.md",
    "SHA256SUMS",
    "golden.npz",
    "manifest.json",
    "model.int8.onnx",
    "predictor.py",
    "requirements.txt",
    "selftest.py",
}


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _copy(artifact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(artifact, tmp_path / "artifact"))


def _rewrite(artifact: Path, name: str, data: bytes) -> None:
    """Change a file and describe it in the manifest as if it had always been so."""
    (artifact / name).write_bytes(data)
    manifest = load_manifest(artifact)
    record = dataclasses.replace(manifest.files[name], sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
    dataclasses.replace(manifest, files={**manifest.files, name: record}).write(artifact)


def test_what_a_bundle_holds(bundles: Bundles) -> None:
    files = _bytes(bundles.folder)
    assert files.keys() == NAMES
    assert all(belongs(name) for name in files)
    assert files["model.int8.onnx"] == (REFERENCE / "model.int8.onnx").read_bytes()
    assert files["predictor.py"] == (ROOT / "toolkit/predictor.py").read_bytes()
    ours = (ROOT / "toolkit/selftest.py").read_text().splitlines()
    changed = [pair for pair in zip(ours, files["selftest.py"].decode().splitlines(), strict=True) if len({*pair}) > 1]
    assert [tuple(map(str.strip, pair)) for pair in changed] == [
        ("from toolkit import predictor as device", "import predictor as device")
    ]
    assert files["LICENSE"] == (ROOT / "LICENSE").read_bytes()
    done = subprocess.run(
        ["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=bundles.folder, capture_output=True, check=True
    )
    assert done.stdout.count(b": OK") == len(NAMES) - 1


def test_its_manifest_is_an_artifacts_without_what_is_not_there(bundles: Bundles) -> None:
    whole, manifest = load_manifest(REFERENCE), load_manifest(bundles.folder)
    assert manifest.files.keys() == {"model.int8.onnx", "golden.npz"}
    assert manifest.files["model.int8.onnx"] == whole.files["model.int8.onnx"]
    assert (manifest.name, manifest.inputs, manifest.outputs) == (whole.name, whole.inputs, whole.outputs)
    assert (manifest.class_names, manifest.versions) == (whole.class_names, whole.versions)
    assert manifest.quantization == whole.quantization
    assert manifest.parity == {"model.int8.onnx": whole.parity["model.int8.onnx"]}
    assert manifest.training is None
    bundle = manifest.bundle
    assert bundle is not None
    assert (bundle.format, bundle.model, bundle.target, bundle.python) == (1, "model.int8.onnx", "linux", "3.9")
    assert bundle.onnxruntime == whole.files["model.int8.onnx"].onnxruntime
    assert bundle.exact
    assert {"x86_64", "aarch64"} == bundle.cpu_features.keys()
    assert "sse4_2" in bundle.cpu_features["x86_64"]


def test_the_overhead_is_small(bundles: Bundles) -> None:
    files = _bytes(bundles.folder)
    assert sum(map(len, files.values())) - len(files["model.int8.onnx"]) < 150_000


def test_the_readme_fits_a_screen_and_says_what_counts(bundles: Bundles) -> None:
    text = (bundles.folder / "README.md").read_text()
    assert len(text.splitlines()) <= 45
    manifest = load_manifest(bundles.folder)
    for said in (
        manifest.files["model.int8.onnx"].sha256,
        "pip install --require-hashes -r requirements.txt",
        "python predictor.py --selftest",
        "uint8 of shape (batch, 28, 28), values from 0 to 255",
        "0 T-shirt/top, 1 Trouser",
        "glibc 2.",
        f"onnxruntime {manifest.files['model.int8.onnx'].onnxruntime} or newer",
        "'numpy<2'",
        "sha256sum -c SHA256SUMS",
    ):
        assert said in text, said
    assert "model_signing" not in text


def test_the_readmes_program_runs(bundles: Bundles) -> None:
    text = (bundles.folder / "README.md").read_text()
    program = text.split("```python\n")[1].split("```")[0]
    script = f"import numpy\nrow = numpy.zeros((28, 28), numpy.uint8)\n{program}"
    environment = {**os.environ, "PYTHONPATH": str(bundles.folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=bundles.folder, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() in (load_manifest(bundles.folder).class_names or ())


def test_the_readme_of_other_kinds_of_models(bundles: Bundles) -> None:
    manifest = load_manifest(bundles.folder)
    many = dataclasses.replace(manifest, class_names=[str(number) for number in range(1000)])
    assert "- Classes: 0 to 999\n" in readme.text(many)
    assert "11 l ... 26 in all\n" in readme.text(dataclasses.replace(manifest, class_names=[*ascii_lowercase]))
    values = dataclasses.replace(
        manifest,
        class_names=None,
        inputs=[
            TensorContract("image", "float32", ["batch", 8, "width", 3], None),
            TensorContract("my rows", "int64", ["batch", 5], [0, 9]),
        ],
        outputs=[TensorContract("brightness", "float32", ["batch", 1], None, "values")],
        parity={"model.int8.onnx": [ParityRecord("brightness", "values", 10, 1, 1, relative_error=0.012)]},
    )
    text = readme.text(values)
    assert "relative error 1.20%" in text
    assert "`my rows`: int64 of shape (batch, 5), values from 0 to 9\n" in text
    program = text.split("```python\n")[1].split("```")[0]
    compile(program, "README", "exec")
    assert "predictor.predict({'image': row1, 'my rows': row2}).outputs['brightness']" in program
    assert "float32 of shape (8, width, 3); int64 of shape (5,)" in program


def test_the_other_commands_take_it_and_leave_nothing_in_it(bundles: Bundles, tmp_path: Path) -> None:
    images = np.load(ROOT / "tests/golden/keras.npz")["images"]
    assert (
        Predictor(bundles.folder).predict_batch(images).labels == Predictor(REFERENCE).predict_batch(images).labels
    ).all()
    folder = Path(shutil.copytree(bundles.folder, tmp_path / "device"))
    for arguments in (
        ("predict", "-m", folder, REFERENCE / "samples" / "0-t-shirt-top.png"),
        ("inspect", folder),
        ("bench", folder, "--quick"),
    ):
        done = toolkit(*arguments)
        assert done.code == 0, done.err
    assert (tmp_path / "device.bench.json").is_file()
    assert _bytes(folder).keys() == NAMES
    for command in ("verify", "export", "tune"):
        refused = toolkit(command, folder)
        assert refused.code == 2
        assert "is a bundle" in refused.error_line
    assert toolkit("bundle", folder, "-o", tmp_path / "again").code == 2
    assert _bytes(folder) == _bytes(bundles.folder)


def test_the_same_bytes_each_time(bundles: Bundles, tmp_path: Path) -> None:
    """In other processes, folders, time zones, years and modes."""
    faketime = ["faketime", "2031-05-06"] if shutil.which("faketime") else []
    for seed, umask in (("1", "077"), ("2", "000")):
        place = tmp_path / seed
        place.mkdir()
        command = [*faketime, "sh", "-c", f'umask {umask}; exec "$0" "$@"', str(TOOLKIT), "bundle", str(REFERENCE)]
        environment = {"PYTHONHASHSEED": seed, "TZ": "Asia/Tokyo", "SOURCE_DATE_EPOCH": seed, "LC_ALL": "C"}
        subprocess.run(
            [*command, "-o", "device", "--zip", "--wheel"],
            cwd=place,
            env={**os.environ, **environment},
            capture_output=True,
            check=True,
        )
        assert _bytes(place / "device") == _bytes(bundles.folder)
        assert (place / "device.zip").read_bytes() == bundles.zip.read_bytes()
        assert (place / bundles.wheel.name).read_bytes() == bundles.wheel.read_bytes()
    for archive in (bundles.zip, bundles.wheel):
        assert {entry.date_time for entry in zipfile.ZipFile(archive).infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_the_zip_file_is_the_folder(bundles: Bundles) -> None:
    with zipfile.ZipFile(bundles.zip) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            f"device/{name}": data for name, data in _bytes(bundles.folder).items()
        }


def test_kinds_targets_and_licences(tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("do what you like")
    options = ("--kind", "float32", "--target", "linux-aarch64", "--licence", mine, "--json")
    done = toolkit("bundle", REFERENCE, "-o", tmp_path / "device", *options)
    assert done.code == 0, done.err
    said = json.loads(done.out)
    assert said["bytes"] == sum(path.stat().st_size for path in (tmp_path / "device").iterdir())
    assert {Path(file["path"]).name for file in said["files"]} == NAMES - {"model.int8.onnx"} | {
        "model.onnx",
        "MODEL_LICENCE",
    }
    assert (tmp_path / "device/MODEL_LICENCE").read_text() == mine.read_text()
    manifest = load_manifest(tmp_path / "device")
    bundle = manifest.bundle
    assert bundle is not None
    assert (bundle.model, bundle.target, bundle.exact) == ("model.onnx", "linux-aarch64", False)
    assert bundle.cpu_features.keys() == {"aarch64"}
    assert manifest.quantization is None
    pins = (tmp_path / "device/requirements.txt").read_text()
    assert pins.count("--hash=") < _pins_of_both(tmp_path).count("--hash=")
    readme = (tmp_path / "device/README.md").read_text()
    assert "MODEL_LICENCE" in readme
    assert "x86-64" not in readme
    assert verify_bundle(tmp_path / "device").signature == "none"


def _pins_of_both(tmp_path: Path) -> str:
    assert toolkit("bundle", REFERENCE, "-o", tmp_path / "both").code == 0
    return (tmp_path / "both/requirements.txt").read_text()


def test_people_are_told_what_is_in_it_and_what_comes_next(tmp_path: Path) -> None:
    done = toolkit("bundle", REFERENCE, "-o", tmp_path / "my device", "--zip")
    assert done.code == 0, done.err
    assert all(name in done.out for name in {*NAMES, "my device.zip", "rows with the right answers"})
    assert f"toolkit verify-bundle '{tmp_path}/my device'" in done.out
    assert "pip install --require-hashes -r requirements.txt" in done.out


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (("--kind", "float16"), 2, "has no float16 model, only int8, float32"),
        (("--kind", "int7"), 2, "--kind"),
        (("--target", "windows"), 2, "--target"),
        (("--format", "tflite"), 2, "--format"),
        (("--licence", "nowhere.txt"), 3, "nowhere.txt does not exist"),
        (("--licence", "."), 2, "cannot read"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, options: tuple[str, ...], code: int, says: str) -> None:
    done = toolkit("bundle", REFERENCE, "-o", tmp_path / "device", *options)
    assert done.code == code
    assert says in done.error_line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["model.int8.onnx", "golden.npz", "manifest.json"])
def test_a_damaged_artifact_makes_no_bundle(tmp_path: Path, name: str) -> None:
    artifact = _copy(REFERENCE, tmp_path)
    data = bytearray((artifact / name).read_bytes())
    data[len(data) // 2] ^= 0x80
    (artifact / name).write_bytes(data)
    done = toolkit("bundle", artifact, "-o", tmp_path / "device")
    assert done.code == 4
    assert name in done.error_line
    assert [path.name for path in tmp_path.iterdir()] == ["artifact"]


def test_an_artifact_without_golden_vectors_is_to_be_exported_again(tmp_path: Path) -> None:
    artifact = _copy(REFERENCE, tmp_path)
    manifest = load_manifest(artifact)
    files = {name: record for name, record in manifest.files.items() if name != "golden.npz"}
    dataclasses.replace(manifest, files=files).write(artifact)
    done = toolkit("bundle", artifact, "-o", tmp_path / "device")
    assert done.code == 3
    assert f"export it again: toolkit export {artifact} --quantize=static" in done.error_line
    assert not (tmp_path / "device").exists()


def test_a_model_that_does_not_open_is_not_published(tmp_path: Path) -> None:
    """It has the hash that the manifest says, and is an ONNX file, but of operators that no runtime has."""
    import onnx

    artifact = _copy(REFERENCE, tmp_path)
    model = onnx.load(artifact / "model.int8.onnx")
    model.opset_import[0].version = 9999
    _rewrite(artifact, "model.int8.onnx", model.SerializeToString())
    earlier = toolkit("bundle", REFERENCE, "-o", tmp_path / "device")
    assert earlier.code == 0
    whole = _bytes(tmp_path / "device")
    done = toolkit("bundle", artifact, "-o", tmp_path / "device", "--zip")
    assert done.code == 2
    assert f"{tmp_path}/device/model.int8.onnx cannot be run by onnxruntime" in done.error_line
    assert _bytes(tmp_path / "device") == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artifact", "device"]


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_a_bundle_that_fails_its_own_self_test_is_not_published(tmp_path: Path, kind: str) -> None:
    artifact = _copy(REFERENCE, tmp_path)
    vectors = golden.load((artifact / "golden.npz").read_bytes(), "golden.npz")
    assert vectors.labels is not None
    wrong = dataclasses.replace(vectors, labels=(vectors.labels + 1) % 10)
    _rewrite(artifact, "golden.npz", golden.dump(wrong))
    done = toolkit("bundle", artifact, "-o", tmp_path / "device", "--kind", kind)
    assert done.code == 1
    assert "does not pass its own self-test here" in done.error_line
    assert "labels are not Keras'" in done.error_line
    assert [path.name for path in tmp_path.iterdir()] == ["artifact"]


def test_onnxruntimes_own_format(tmp_path: Path) -> None:
    """No output can be added to such a file, so its outputs are compared, within what a softmax rounds."""
    for kind, name in (("int8", "model.int8.ort"), ("float32", "model.ort")):
        device = tmp_path / kind
        done = toolkit("bundle", REFERENCE, "-o", device, "--kind", kind, "--format", "ort")
        assert done.code == 0, done.err
        assert {path.name for path in device.iterdir()} == NAMES - {"model.int8.onnx"} | {
            name,
            "required_operators.config",
        }
        manifest = verify_bundle(device).manifest
        assert manifest.bundle is not None
        assert (manifest.bundle.model, manifest.bundle.exact, manifest.bundle.onnxruntime) == (name, False, "1.16")
        assert manifest.parity.keys() == {name}
        vectors = golden.load((device / "golden.npz").read_bytes(), "golden.npz").files[name]
        assert vectors.tensors == {"probabilities": "probabilities"}
        assert vectors.tolerance == 1e-5
        images = np.load(ROOT / "tests/golden/keras.npz")["images"]
        labels = Predictor(REFERENCE, kind=kind).predict_batch(images).labels
        assert (Predictor(device).predict_batch(images).labels == labels).all()
        assert toolkit("inspect", device).code == 0


def test_an_earlier_bundle_is_replaced_as_a_whole(tmp_path: Path) -> None:
    device = tmp_path / "device"
    device.mkdir()
    assert toolkit("bundle", REFERENCE, "-o", device, "--kind", "float32", "--zip").code == 0
    cache = device / "__pycache__"
    cache.mkdir()
    (cache / "predictor.cpython-311.pyc").write_bytes(b"compiled")
    assert toolkit("bundle", REFERENCE, "-o", device, "--zip").code == 0
    assert _bytes(device).keys() == NAMES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["device", "device.zip"]
    assert verify_bundle(tmp_path / "device.zip").manifest.bundle == load_manifest(device).bundle


@pytest.mark.parametrize("name", ["notes.txt", "predictor.py.orig", "__pycache__/mine.txt", "link", "folder/kept.txt"])
def test_a_bundle_with_a_persons_file_in_it_stays(bundles: Bundles, tmp_path: Path, name: str) -> None:
    device = Path(shutil.copytree(bundles.folder, tmp_path / "device"))
    (device / name).parent.mkdir(exist_ok=True)
    if name == "link":
        (device / name).symlink_to("README.md")
    else:
        (device / name).write_text("mine")
    done = toolkit("bundle", REFERENCE, "-o", device, "--kind", "float32")
    assert done.code == 2
    assert name.split("/", maxsplit=1)[0] in done.error_line
    assert (device / name).exists()
    assert (device / "model.int8.onnx").exists()


def test_a_persons_file_that_comes_at_the_last_moment_stays(bundles: Bundles, tmp_path: Path) -> None:
    device = Path(shutil.copytree(bundles.folder, tmp_path / "device"))

    def late(_: Path) -> None:
        (device / "notes.txt").write_text("mine")

    with pytest.raises(UsageError, match=r"notes.txt in it is none of its files"):
        publish(device, {"manifest.json": b"{}"}, {tmp_path / "device.zip": b"new"}, late)
    assert (device / "notes.txt").read_text() == "mine"
    assert _bytes(device).keys() == NAMES | {"notes.txt"}
    assert [path.name for path in tmp_path.iterdir()] == ["device"]


def test_nothing_else_gives_way(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"miaow")
    (tmp_path / "file").write_bytes(b"mine")
    artifact = _copy(REFERENCE, tmp_path)
    for place, says in (
        ("photos", "neither empty nor an earlier bundle"),
        ("file", "is a file"),
        ("artifact", "is an artifact"),
    ):
        done = toolkit("bundle", REFERENCE, "-o", tmp_path / place)
        assert done.code == 2
        assert says in done.error_line
    assert (tmp_path / "photos" / "cat.jpg").read_bytes() == b"miaow"
    assert (tmp_path / "file").read_bytes() == b"mine"
    assert _bytes_below(artifact) == _bytes_below(REFERENCE)


def _bytes_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["photos", "text", "folder", "link"])
def test_a_persons_zip_file_is_not_replaced(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "photos.zip"
    if kind == "folder":
        place.mkdir()
    elif kind == "link":
        place.symlink_to("nowhere")
    elif kind == "text":
        place.write_text("mine")
    else:
        with zipfile.ZipFile(place, "w") as archive:
            archive.writestr("photos/cat.jpg", b"miaow")
    done = toolkit("bundle", REFERENCE, "-o", tmp_path / "photos", "--zip")
    assert done.code == 2
    assert "photos.zip is there and is no bundle" in done.error_line
    assert [path.name for path in tmp_path.iterdir()] == ["photos.zip"]


def test_an_export_does_not_replace_a_bundle(bundles: Bundles) -> None:
    done = toolkit("export", REFERENCE, "-o", bundles.folder)
    assert done.code == 2
    assert "is a bundle for a device, which no artifact replaces" in done.error_line
    assert _bytes(bundles.folder).keys() == NAMES


@pytest.mark.parametrize("options", [(), ("--zip",), ("--wheel",)])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, options: tuple[str, ...]) -> None:
    """A file size limit stands in for the full disk; the kernel answers the write with an error all the same."""
    assert toolkit("bundle", REFERENCE, "-o", tmp_path / "old" / "device", *options).code == 0
    earlier = _bytes_below(tmp_path / "old")
    for place in ("old", "new"):
        command = 'ulimit -f 200; exec "$0" "$@"'
        arguments = [
            str(TOOLKIT),
            "bundle",
            str(REFERENCE),
            "--kind",
            "float32",
            "-o",
            str(tmp_path / place / "device"),
        ]
        done = subprocess.run(
            ["bash", "-c", command, *arguments, *options], capture_output=True, text=True, check=False
        )
        assert done.returncode == 3, done.stderr
        assert "what was there before is untouched" in done.stderr
        assert "Traceback" not in done.stderr
    assert _bytes_below(tmp_path / "old") == earlier
    assert _bytes_below(tmp_path / "new") == {}


def test_kill_at_any_moment_leaves_whole_files(tmp_path: Path) -> None:
    target = tmp_path / "device"
    script = f"""
from pathlib import Path
from toolkit.bundle.make import BundleOptions, make_bundle
while True:
    for kind in ("int8", "float32"):
        make_bundle(Path({str(REFERENCE)!r}), Path({str(target)!r}), BundleOptions(kind=kind, zip=True))
        print(flush=True)
"""
    seen = set()
    for attempt in range(6):
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.02 * attempt)
            process.send_signal(signal.SIGKILL)
        for path in (target, tmp_path / "device.zip"):
            bundle = verify_bundle(path).manifest.bundle
            assert bundle is not None
            seen.add(bundle.model)
    assert toolkit("bundle", REFERENCE, "-o", target, "--zip").code == 0
    assert verify_bundle(target).files == verify_bundle(tmp_path / "device.zip").files
    assert sorted(path.name for path in tmp_path.iterdir()) == ["device", "device.zip"]
