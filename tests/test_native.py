"""The native backend: the same API and answers from a compiled library, and everything else refused in a line."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import platform
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.conftest import NAME_IN_C, REFERENCE, toolkit
from toolkit import predictor
from toolkit.c_code.layout import Layout
from toolkit.c_code.library import build_library, wrapper_text
from toolkit.c_code.reading import read_chain
from toolkit.errors import CorruptArtifactError, MissingError, UsageError
from toolkit.pipeline.c_files import build_native, write_c_files
from toolkit.predictor import Predictor, read_manifest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from toolkit.data import FashionMnist

# Some CPU that this one is not.
OTHER = "aarch64" if platform.machine() == "x86_64" else "x86_64"


def copied(in_c: Path, tmp_path: Path) -> Path:
    return shutil.copytree(in_c, tmp_path / "copy")


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def put_library(folder: Path, library: bytes) -> None:
    """Another library, with its hash in the manifest."""
    (folder / "model.so").write_bytes(library)
    digest = hashlib.sha256(library).hexdigest()
    change_manifest(folder, lambda manifest: manifest["files"]["model.so"].update(sha256=digest, bytes=len(library)))


def test_it_answers_as_onnxruntime_does(in_c: Path, fashion_mnist: FashionMnist) -> None:
    runtime, native = Predictor(in_c), Predictor(in_c, backend="native")
    assert (runtime.backend, native.backend) == ("onnxruntime", "native")
    images = fashion_mnist.test_images
    expected, found = runtime.predict_batch(images), native.predict_batch(images)
    assert np.array_equal(found.labels, expected.labels)
    assert np.abs(found.probabilities - expected.probabilities).max() < 1e-6
    assert [native.classify(image) for image in images[:500]] == expected.labels[:500].tolist()
    one, other = native.predict(images[3]), runtime.predict(images[3])
    assert (one.label, one.class_name, one.outputs.keys()) == (other.label, other.class_name, other.outputs.keys())
    assert native.predict_batch(images[:0]).outputs["probabilities"].shape == (0, 10)


def test_little_is_imported_and_onnxruntime_not(in_c: Path) -> None:
    program = (
        "import sys, numpy; before = set(sys.modules); from toolkit.predictor import Predictor;"
        f"Predictor({str(in_c)!r}, backend='native').classify(numpy.zeros((28, 28), numpy.uint8));"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    ours = {"toolkit", "toolkit.predictor", "toolkit.native"}
    assert ours <= set(done.stdout.split()) <= ours | {"__future__", "_json", "_sha256", "_sha2", "atexit"}


def test_a_bundle_takes_the_librarys_hash_once_and_refuses_another(
    in_c: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert toolkit("bundle", in_c, "-o", tmp_path / "device", "--native").code == 0
    library = (tmp_path / "device" / "model.so").read_bytes()
    taken: list[bytes] = []

    def told(data: bytes) -> str:
        taken.append(data)
        return hashlib.sha256(data).hexdigest()

    monkeypatch.setattr(predictor, "_sha256", told)
    assert Predictor(tmp_path / "device", backend="native").backend == "native"
    assert taken.count(library) == 1
    (tmp_path / "device" / "model.so").write_bytes(library[:-1] + b"?")
    with pytest.raises(CorruptArtifactError, match=r"model\.so was changed or damaged"):
        Predictor(tmp_path / "device", backend="native")


def test_the_manifest_is_read_once(in_c: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is part of every start on a device."""
    read: list[str] = []

    def told(folder: str) -> dict[str, Any]:
        read.append(folder)
        return read_manifest(folder)

    monkeypatch.setattr(predictor, "read_manifest", told)
    Predictor(in_c, backend="native")
    assert read == [str(in_c)]


def test_it_survives_pickling_forking_and_threads(in_c: Path, fashion_mnist: FashionMnist) -> None:
    from concurrent.futures import ThreadPoolExecutor

    native = Predictor(in_c, backend="native")
    images = fashion_mnist.test_images[:400]
    expected = [native.classify(image) for image in images]
    again = pickle.loads(pickle.dumps(native))  # noqa: S301 - written in the same line
    assert (again.backend, again.classify(images[0])) == ("native", expected[0])
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(native.classify, images)) == expected
    if (child := os.fork()) == 0:
        os._exit(native.classify(images[1]) != expected[1])
    assert os.waitpid(child, 0)[1] == 0
    native.close()
    with pytest.raises(UsageError, match="was closed"):
        native.classify(images[0])


def test_confidence_and_wrong_input_are_as_ever(in_c: Path) -> None:
    native = Predictor(in_c, backend="native", min_confidence=1.0)
    assert native.predict(np.zeros((28, 28), np.uint8)).class_name == "unsure"
    with pytest.raises(ValueError, match="expected uint8 of shape"):
        native.classify(np.zeros((27, 28), np.uint8))


def test_without_a_library(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"has no model\.so; make it with: toolkit export .* --native"):
        Predictor(REFERENCE, backend="native")
    assert Predictor(REFERENCE, backend="auto").backend == "onnxruntime"
    with pytest.raises(UsageError, match="backend is 'c', expected one of onnxruntime, native, auto"):
        Predictor(REFERENCE, backend="c")
    shutil.copyfile(REFERENCE / "model.int8.onnx", tmp_path / "alone.int8.onnx")
    with pytest.raises(MissingError, match=r"has no model\.so"):
        Predictor(tmp_path / "alone.int8.onnx", backend="native")


def test_without_native_py(in_c: Path, tmp_path: Path) -> None:
    """A bundle has it only where it has a library; predictor.py may be copied alone."""
    shutil.copyfile(predictor.__file__, tmp_path / "predictor.py")
    program = (
        "import sys; from predictor import MissingError, Predictor\n"
        "print(*[Predictor(folder, backend='auto').backend for folder in sys.argv[1:]])\n"
        "for folder in sys.argv[1:]:\n"
        "    try: Predictor(folder, backend='native')\n"
        "    except MissingError as error: print(error)\n"
    )
    command = [sys.executable, "-c", program, str(REFERENCE), str(in_c)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stderr == ""
    chosen, no_library, no_code = done.stdout.splitlines()
    assert chosen == "onnxruntime onnxruntime"
    assert "has no model.so; make it with: toolkit export" in no_library
    assert no_code.startswith("model.so needs native.py beside predictor.py (No module named 'native'); copy it")


def no_machine(manifest: dict[str, Any]) -> None:
    del manifest["native"]["machine"]


def no_features(manifest: dict[str, Any]) -> None:
    manifest["native"]["cpu_features"] = None


def no_outputs(manifest: dict[str, Any]) -> None:
    del manifest["outputs"]


def no_record(manifest: dict[str, Any]) -> None:
    manifest["files"]["model.so"] = "native"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (no_machine, r"does not say which CPUs .*model\.so is for; export it again with --native"),
        (no_features, r"does not say which CPUs .*model\.so is for"),
        (no_outputs, r"does not say what .*model\.so takes and gives"),
        (no_record, r"manifest\.json does not describe model\.so; export it again"),
    ],
)
def test_a_manifest_that_does_not_describe_the_library(
    in_c: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], says: str
) -> None:
    folder = copied(in_c, tmp_path)
    change_manifest(folder, change)
    with pytest.raises(CorruptArtifactError, match=says):
        Predictor(folder, backend="native")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"machine": OTHER}, f"built for {OTHER}, and this is {platform.machine()}"),
        ({"cpu_features": ["avx1024"]}, "built for a CPU with avx1024, which this one lacks"),
    ],
)
def test_a_library_for_another_cpu_is_not_loaded(in_c: Path, tmp_path: Path, change: dict[str, Any], says: str) -> None:
    folder = copied(in_c, tmp_path)
    change_manifest(folder, lambda manifest: manifest["native"].update(change))
    put_library(folder, b"not to be loaded")
    with pytest.raises(MissingError, match=says):
        Predictor(folder, backend="native")
    assert Predictor(folder, backend="auto").backend == "onnxruntime"


def test_a_changed_library_is_refused(in_c: Path, tmp_path: Path) -> None:
    folder = copied(in_c, tmp_path)
    library = bytearray((folder / "model.so").read_bytes())
    library[len(library) // 2] ^= 1
    (folder / "model.so").write_bytes(library)
    for backend in ("native", "auto"):
        with pytest.raises(CorruptArtifactError, match=r"model\.so was changed or damaged"):
            Predictor(folder, backend=backend)


def rebuilt(folder: Path, rows: np.ndarray, old: str, new: str) -> None:
    """The library with something else in model.c."""
    code = folder / "model.c"
    assert old in code.read_text()
    code.write_text(code.read_text().replace(old, new, 1))
    chain = read_chain((folder / "model.int8.onnx").read_bytes())
    build_library(chain, NAME_IN_C, folder, folder / "model.so", rows, None)
    put_library(folder, (folder / "model.so").read_bytes())


def test_a_library_that_answers_wrongly_fails_its_golden_vectors(
    in_c: Path, tmp_path: Path, fashion_mnist: FashionMnist
) -> None:
    folder = copied(in_c, tmp_path)
    rebuilt(folder, fashion_mnist.test_images, "s0 += input[i]", "s0 -= input[i]")
    with pytest.raises(CorruptArtifactError, match="gives 8 of its golden vectors another answer"):
        Predictor(folder, backend="native")
    assert Predictor(folder, backend="auto").backend == "onnxruntime"


def test_a_library_of_another_model_is_refused(in_c: Path, tmp_path: Path, fashion_mnist: FashionMnist) -> None:
    folder = copied(in_c, tmp_path)
    header = (folder / "model.h").read_text()
    digest = hashlib.sha256((folder / "model.int8.onnx").read_bytes()).hexdigest()
    (folder / "model.h").write_text(header.replace(digest, "0" * 64))
    rebuilt(folder, fashion_mnist.test_images, "static void dense", "static void dense")
    with pytest.raises(CorruptArtifactError, match="is of another model than the int8 file"):
        Predictor(folder, backend="native")


def test_something_that_is_no_library_is_refused(in_c: Path, tmp_path: Path) -> None:
    folder = copied(in_c, tmp_path)
    put_library(folder, b"no library")
    with pytest.raises(CorruptArtifactError, match="cannot be loaded"):
        Predictor(folder, backend="native")


@pytest.mark.parametrize(
    ("cc", "code", "says"),
    [
        ("gcc '-O2", 2, '--cc is "gcc \'-O2", which a shell would not take (No closing quotation)'),
        ("no-such-gcc -O2", 3, "the compiler no-such-gcc is not found"),
        ("gcc -mcpu=none", 2, "the compiler gcc failed"),
        ("false", 2, "the compiler false failed"),
        ("", 2, "--cc is empty"),
    ],
)
def test_a_compiler_that_is_missing_or_fails(in_c: Path, tmp_path: Path, cc: str, code: int, says: str) -> None:
    folder = copied(in_c, tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    done = toolkit("export", folder, "--quantize", "--native", "--cc", cc)
    assert done.code == code
    assert says in done.error_line
    assert "Asking Keras" not in done.err  # it is said before the work
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_a_run_asks_for_the_compiler_before_it_trains(tmp_path: Path) -> None:
    done = toolkit("run", "--output", tmp_path / "run", "--native", "--cc", "no-such-gcc")
    assert done.code == 3
    assert "the compiler no-such-gcc is not found" in done.error_line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [("*of->label = best;", "*of->label = best % 9;"), ("answer[i] /= sum;", "answer[i] /= 1.001f * sum;")],
)
def test_a_library_with_other_labels_or_probabilities_is_not_published(
    old: str, new: str, tmp_path: Path, fashion_mnist: FashionMnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolkit.c_code import library
    from toolkit.datasets import Rows
    from toolkit.errors import ModelError

    shutil.copyfile(REFERENCE / "model.int8.onnx", tmp_path / "model.int8.onnx")
    rows = Rows({"image": fashion_mnist.test_images[:100]}, {}, None, "rows")
    write_c_files(tmp_path, "model.int8.onnx", "x", rows, lambda _: None)
    right = library.wrapper_text

    def wrong(*given: Any) -> str:
        text = right(*given)
        assert old in text
        return text.replace(old, new)

    monkeypatch.setattr(library, "wrapper_text", wrong)
    with pytest.raises(ModelError, match=r"model\.so .* of 100 rows another label or probability than follows"):
        build_native(tmp_path, "model.int8.onnx", "x", rows, None, lambda _: None)


def test_a_library_that_differs_is_not_published(tmp_path: Path, fashion_mnist: FashionMnist) -> None:
    from toolkit.datasets import Rows
    from toolkit.errors import ModelError

    shutil.copyfile(REFERENCE / "model.int8.onnx", tmp_path / "model.int8.onnx")
    rows = Rows({"image": fashion_mnist.test_images[:100]}, {}, None, "rows")
    write_c_files(tmp_path, "model.int8.onnx", "x", rows, lambda _: None)
    code = tmp_path / "model.c"
    code.write_text(code.read_text().replace("s3 += input[i]", "s3 += 1 + input[i]"))
    with pytest.raises(ModelError, match=r"model\.so .* differs from model\.int8\.onnx on 100 of 100 rows"):
        build_native(tmp_path, "model.int8.onnx", "x", rows, None, lambda _: None)


def test_the_wrapper_is_plain_c_too(tmp_path: Path, fashion_mnist: FashionMnist, in_c: Path) -> None:
    chain = read_chain((in_c / "model.int8.onnx").read_bytes())
    (tmp_path / "native.c").write_text(wrapper_text(Layout(chain, NAME_IN_C), fashion_mnist.test_images))
    flags = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "-I", str(in_c)]
    subprocess.run(["gcc", *flags, "-c", str(tmp_path / "native.c"), "-o", str(tmp_path / "native.o")], check=True)
