"""`export --c` and `bundle --c` as a person runs them."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import toolkit

OTHER = "linux-aarch64" if platform.machine() == "x86_64" else "linux-x86_64"
FILES = {"model.c", "model.h", "main.c", "model.mk"}


def damage(path: Path) -> None:
    path.write_text(path.read_text() + "/* more */\n")


def test_the_files_are_there_with_their_hashes_and_compile(in_c: Path, tmp_path: Path) -> None:
    manifest = json.loads((in_c / "manifest.json").read_text())
    assert {name for name, record in manifest["files"].items() if record["kind"] == "c"} == FILES
    assert (
        f'SECOND_MODEL_SOURCE_SHA256 "{manifest["files"]["model.int8.onnx"]["sha256"]}"'
        in (in_c / "model.h").read_text()
    )
    for name in FILES:
        shutil.copyfile(in_c / name, tmp_path / name)
    subprocess.run(["make", "-s", "-f", "model.mk"], cwd=tmp_path, check=True)
    assert (tmp_path / "second_model").exists()


def test_an_export_without_it_takes_the_files_away(in_c: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(in_c, folder)
    assert toolkit("export", folder, "--quantize").code == 0
    assert not FILES & {path.name for path in folder.iterdir()}


def test_changed_c_is_found_by_verify(in_c: Path, tmp_path: Path) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(in_c, folder)
    damage(folder / "model.c")
    done = toolkit("verify", folder)
    assert done.code == 4
    assert "model.c" in done.error_line


def test_a_bundle_takes_it_along(in_c: Path, tmp_path: Path) -> None:
    done = toolkit("bundle", in_c, "-o", tmp_path / "device", "--c")
    assert done.code == 0, done.err
    assert {path.name for path in (tmp_path / "device").iterdir()} >= FILES
    assert "make -f model.mk" in (tmp_path / "device" / "README.md").read_text()
    assert toolkit("verify-bundle", tmp_path / "device").code == 0
    damage(tmp_path / "device" / "model.c")
    assert toolkit("verify-bundle", tmp_path / "device").code == 4


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("export", "--c"), "add --quantize"),
        (("export", "--c", "--quantize=dynamic"), "add --quantize"),
        (("bundle", "-o", "device", "--native", "--format=ort"), "--native and --format ort do not go together"),
        (("bundle", "-o", "device", "--c"), "has no model.c; export it again"),
        (("bundle", "-o", "device", "--c", "--kind=float32"), "--c is for the int8 model"),
    ],
)
def test_where_it_makes_no_sense(trained: Path, tmp_path: Path, command: tuple[str, ...], says: str) -> None:
    done = toolkit(command[0], trained, *command[1:], cwd=tmp_path)
    assert done.code in (2, 3)
    assert says in done.error_line
    assert not (tmp_path / "device").exists()


def test_a_model_that_is_no_chain_is_refused_by_its_operator(tmp_path: Path) -> None:
    import keras

    layers = keras.layers
    model = keras.Sequential(
        [layers.Input((8, 8, 1)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3, activation="softmax")]
    )
    model.save(tmp_path / "picture.keras")
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).random((50, 8, 8, 1), np.float32))
    given = ["--calibration", tmp_path / "rows.npy", "--output", tmp_path / "out"]
    done = toolkit("export", tmp_path / "picture.keras", "--quantize", "--c", *given)
    assert done.code == 2
    assert "does not fit: C code is written for chains of dense layers" in done.error_line
    assert not (tmp_path / "out").exists()


def test_an_autoencoder_has_values(tmp_path: Path) -> None:
    import keras

    layers = keras.layers
    coded = [
        layers.Dense(16, activation="relu"),
        layers.Dense(4, activation="relu"),
        layers.Dense(16, activation="relu"),
    ]
    model = keras.Sequential([layers.Input((32,)), *coded, layers.Dense(32)])
    model.save(tmp_path / "sound.keras")
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(0, 3, (200, 32)).astype(np.float32))
    given = ["--calibration", tmp_path / "rows.npy", "--max-relative-error", 1, "--output", tmp_path / "out"]
    done = toolkit("export", tmp_path / "sound.keras", "--quantize", "--c", *given)
    assert done.code == 0, done.err
    header = (tmp_path / "out" / "model.h").read_text()
    assert "void out_values(const float *input, float *values);" in header
    assert "classify" not in header


def test_a_bundle_takes_the_compiled_model_along(in_c: Path, tmp_path: Path) -> None:
    done = toolkit("bundle", in_c, "-o", tmp_path / "device", "--native", "--wheel")
    assert done.code == 0, done.err
    assert toolkit("verify-bundle", tmp_path / "device").code == 0
    assert 'backend="auto"' in (tmp_path / "device" / "README.md").read_text()
    program = (
        "import sys, numpy; from predictor import Predictor;"
        "found = Predictor('.', backend='native').classify(numpy.zeros((28, 28), numpy.uint8));"
        "print(type(found).__name__, 'onnxruntime' in sys.modules, 'toolkit' in sys.modules)"
    )
    # Isolated from this environment's own toolkit, but for numpy.
    site = str(Path(np.__file__).parents[1])
    lines = f"import sys; sys.path[:] = ['.', *[p for p in sys.path if 'site-packages' not in p], {site!r}]; {program}"
    said = subprocess.run(
        [sys.executable, "-I", "-c", lines], cwd=tmp_path / "device", capture_output=True, text=True, check=True
    )
    assert said.stdout == "int False False\n"
    refused = toolkit("bundle", in_c, "-o", tmp_path / "other", "--native", "--target", OTHER)
    assert refused.code == 2
    assert "export with --cc and a compiler for that" in refused.error_line
