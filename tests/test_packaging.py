"""The built wheel in an empty environment with the core dependencies alone, and who may import whom."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import REFERENCE, ROOT
from tests.environments import core_environment, pip_install
from toolkit import __version__

GOLDEN = Path(__file__).parent / "golden" / "keras.npz"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy without the virtual environment, so that only what git would ship can get in."""
    source = tmp_path_factory.mktemp("source") / "copy"
    source.mkdir()
    for name in ("toolkit", "pyproject.toml", "README.md", "LICENSE"):
        path = ROOT / name
        shutil.copytree(path, source / name) if path.is_dir() else shutil.copy(path, source)
    target = tmp_path_factory.mktemp("wheel")
    command = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(target), str(source)]
    subprocess.run([sys.executable, *command], check=True, timeout=120)
    return next(target.glob("*.whl"))


@pytest.fixture(scope="module")
def device(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new virtual environment with the core lock and the wheel; its folder of programs."""
    folder = tmp_path_factory.mktemp("device") / "environment"
    python = core_environment(folder)
    pip_install(python, "--no-deps", str(wheel))
    return folder / "bin"


def _run(device: Path, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return subprocess.run(
        [str(device / command[0]), *command[1:]],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"toolkit", f"toolkit-{__version__}.dist-info"}
    assert {
        "toolkit/py.typed",
        "toolkit/bundle/device.lock.json",
        "toolkit/report/style/page.css",
        "toolkit/c_wasm/source/page.js",
        "toolkit/c_wasm/source/wrapper.c",
    } <= set(names)
    assert not [name for name in names if name.endswith((".onnx", ".keras", ".pyc"))]


def test_the_predictor_runs_on_the_core_dependencies(device: Path, tmp_path: Path) -> None:
    script = f"""
import json, sys
import numpy as np
from toolkit.predictor import Predictor
golden = np.load({str(GOLDEN)!r})
labels = Predictor({str(REFERENCE)!r}).predict_batch(golden["images"]).labels
print(json.dumps([labels.tolist(), golden["probabilities"].argmax(axis=1).tolist(), sorted(sys.modules)]))
"""
    done = _run(device, "python", "-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    labels, expected, modules = json.loads(done.stdout)
    assert labels == expected
    heavy = {"tensorflow", "keras", "tf2onnx", "onnx", "typer", "rich", "PIL", "matplotlib", "toolkit.errors"}
    assert not heavy & set(modules)


def test_predict_and_bench_run_there_and_train_says_what_is_missing(device: Path, tmp_path: Path) -> None:
    script = f"import numpy as np; np.save('images.npy', np.load({str(GOLDEN)!r})['images'])"
    assert _run(device, "python", "-c", script, cwd=tmp_path).returncode == 0
    predicted = _run(device, "toolkit", "predict", "-m", str(REFERENCE), "--json", "images.npy", cwd=tmp_path)
    assert predicted.returncode == 0, predicted.stderr
    assert len(predicted.stdout.splitlines()) == 20
    arguments = ["bench", str(REFERENCE), "--quick", "--json", "-o", str(tmp_path / "bench.json")]
    timed = _run(device, "toolkit", *arguments, cwd=tmp_path)
    assert timed.returncode == 0, timed.stderr
    assert {file["kind"] for file in json.loads(timed.stdout)["files"]} == {"float32", "int8"}
    for arguments in (["train", "-o", "new"], ["export", str(REFERENCE), "-o", "new"], ["verify", str(REFERENCE)]):
        refused = _run(device, "toolkit", *arguments, cwd=tmp_path)
        assert refused.returncode == 3, refused.stderr
        (line,) = [line for line in refused.stderr.splitlines() if line.startswith("error:")]
        assert "the extra 'train'" in line
        assert "Traceback" not in refused.stderr
    picture = _run(
        device, "toolkit", "predict", "-m", str(REFERENCE), str(REFERENCE / "samples/0-t-shirt-top.png"), cwd=tmp_path
    )
    assert picture.returncode == 3
    assert "the extra 'images'" in picture.stderr
    assert not (tmp_path / "new").exists()


def test_bundles_are_made_there_too(device: Path, tmp_path: Path) -> None:
    made = _run(device, "toolkit", "bundle", str(REFERENCE), "-o", "bundle", "--zip", "--wheel", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "bundle" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    (wheel,) = tmp_path.glob("*.whl")
    for path in ("bundle", "bundle.zip", wheel.name):
        checked = _run(device, "toolkit", "verify-bundle", path, cwd=tmp_path)
        assert checked.returncode == 0, checked.stderr
        assert checked.stderr == ""
    tested = _run(device, "python", "bundle/predictor.py", "--selftest", cwd=tmp_path)
    assert tested.returncode == 0, tested.stderr
    other = _run(device, "toolkit", "bundle", str(REFERENCE), "-o", "ort", "--format", "ort", cwd=tmp_path)
    assert other.returncode == 0, other.stderr
    (tmp_path / "key.pem").write_text("a key")
    signed = _run(device, "toolkit", "bundle", str(REFERENCE), "-o", "signed", "--sign", "key.pem", cwd=tmp_path)
    assert signed.returncode == 3
    assert "the extra 'sign'" in signed.stderr
    assert not (tmp_path / "signed").exists()


def test_import_boundaries_go_red(tmp_path: Path) -> None:
    """A copy in which the predictor imports keras, and one in which a stage imports another, break the contracts."""
    linter = Path(sys.executable).parent / "lint-imports"
    for number, (file, line) in enumerate(
        [
            ("predictor.py", "def lazily() -> None:\n    import keras\n"),
            ("benchmarking/latency.py", "import toolkit.training.recipes\n"),
            ("data.py", "import toolkit.cli.console\n"),
            ("bundle/make.py", "def lazily() -> None:\n    import typer\n"),
        ]
    ):
        copy = tmp_path / str(number)
        shutil.copytree(ROOT / "toolkit", copy / "toolkit")
        shutil.copy(ROOT / "pyproject.toml", copy)
        with (copy / "toolkit" / file).open("a") as source:
            source.write("\n" + line)
        environment = {**os.environ, "PYTHONPATH": str(copy)}
        command = [str(linter), "--no-cache"]
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "BROKEN" in done.stdout


def test_locks_have_hashes_and_name_no_registry() -> None:
    for name in ("requirements.lock", "requirements-core.lock"):
        text = (ROOT / name).read_text()
        assert "http" not in text
        assert "--index-url" not in text
        requirements = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
        assert all(line.rstrip(" \\").partition("==")[2] for line in requirements)
        assert text.count("--hash=sha256:") >= len(requirements)


def test_the_core_lock_is_part_of_the_whole_lock() -> None:
    def pins(name: str) -> set[str]:
        lines = (ROOT / name).read_text().splitlines()
        # Without extras: pip wants them in a lock with hashes, and one lock may need one that the other does not.
        return {re.sub(r"\[.*?\]", "", line.split(" ")[0]) for line in lines if line and line[0].isalpha()}

    assert pins("requirements-core.lock") <= pins("requirements.lock")
