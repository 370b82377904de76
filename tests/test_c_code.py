"""The int8 model as C: the same bits as the runtime's, for every kind of chain, and everything else refused."""

from __future__ import annotations

import ctypes
import dataclasses
import re
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from tests.c_chains import WARNINGS, Library, int8_chain, runtime_answers, write_files
from tests.conftest import REFERENCE
from tests.small_graphs import TWO, write
from toolkit.c_code.chain import run
from toolkit.c_code.library import build_library
from toolkit.c_code.names import identifier, text
from toolkit.c_code.reading import read_chain
from toolkit.c_code.source import write_source
from toolkit.c_targets.interface import read_interface
from toolkit.errors import ModelError
from toolkit.native import open_library
from toolkit.predictor import Predictor
from toolkit.report.live import _labels

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from toolkit.data import FashionMnist

CHAINS: dict[str, dict[str, Any]] = {
    "uint8": {"sizes": (50, 30, 10)},
    "int8 input": {"sizes": (50, 30, 10), "dtype": "int8"},
    "float input": {"sizes": (50, 30, 10), "dtype": "float32"},
    "per channel": {"sizes": (50, 30, 10), "per_channel": True},
    "no activation": {"sizes": (50, 30, 10), "activation": ""},
    "a clip that the steps do not hold": {"sizes": (50, 30, 10), "activation": "Clip"},
    "an autoencoder": {"sizes": (40, 20, 4, 20, 40), "dtype": "float32", "end": None, "task": "values"},
    "one output": {"sizes": (20, 8, 1), "end": "Sigmoid", "task": "binary"},
    "one output that is always one half": {
        "sizes": (20, 8, 1),
        "end": "Sigmoid",
        "task": "binary",
        "change": {"layer_2/kernel": np.zeros((8, 1), np.float32), "layer_2/bias": np.zeros(1, np.float32)},
    },
    "one layer": {"sizes": (64, 5)},
    "several yes or no": {"sizes": (20, 8, 3), "end": "Sigmoid", "task": "multilabel"},
    "widths of whole vectors": {"sizes": (64, 128, 64)},
    "all weights zero": {"sizes": (30, 10, 4), "change": {"layer_1/kernel": np.zeros((30, 10), np.float32)}},
}


def bits(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    return np.ascontiguousarray(values).view(np.uint32)


@pytest.mark.parametrize("kind", CHAINS)
def test_c_gives_the_runtimes_bits(kind: str, tmp_path: Path) -> None:
    data, rows = int8_chain(tmp_path, **CHAINS[kind])
    expected = runtime_answers(data, rows)
    chain, source = write_files(data, tmp_path)
    assert np.array_equal(bits(run(chain, rows)), bits(expected))
    library = Library(tmp_path, source)
    assert np.array_equal(bits(library.answers(rows, chain.outputs)), bits(expected))
    assert np.array_equal(bits(library.answers(rows[:20], chain.outputs, offset=3)), bits(expected[:20]))
    if source.decides:
        labels = expected.argmax(axis=1) if chain.outputs > 1 else expected[:, 0] >= 0
        assert np.array_equal(library.labels(rows), labels)
        assert library.classify_in is not None
        room = np.empty(source.ram_bytes // 4, np.int32)
        told = [library.classify_in(room.ctypes.data_as(ctypes.c_void_p), row.tobytes()) for row in rows]
        assert np.array_equal(told, labels)


def test_exactly_one_half_is_a_yes_everywhere(tmp_path: Path) -> None:
    data, rows = int8_chain(tmp_path, **CHAINS["one output that is always one half"])
    chain, source = write_files(data, tmp_path)
    assert Library(tmp_path, source).labels(rows[:1]).tolist() == [1]
    assert Predictor(tmp_path / "model.int8.onnx").classify(rows[0]) == 1
    built = build_library(chain, "test-model", tmp_path, tmp_path / "native.so", rows, None)
    manifest: dict[str, Any] = {
        "native": {"machine": built.compiler.machine, "cpu_features": built.compiler.cpu_features},
        "inputs": [{"name": "x", "dtype": "uint8", "shape": [None, 20]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": [None, 1]}],
        "class_names": None,
    }
    answer = np.empty((1, 1), np.float32)
    session = open_library(str(built.path), manifest, chain.source_sha256)
    call, buffers, label, _kept = session.direct(rows[:1].copy(), answer)
    call(buffers, None)
    assert (answer.item(), label.item()) == (0.5, 1)
    assert read_interface(source.header).labels_of(np.zeros((1, 1), np.float32)).tolist() == [1]
    assert _labels(chain, np.zeros((1, 1), np.float32)) == [1]


@pytest.mark.parametrize("kind", ["uint8", "float input", "per channel", "a table"])
def test_the_header_says_how_many_bytes_the_constants_take(kind: str, tmp_path: Path) -> None:
    data, _ = int8_chain(tmp_path, (50, 30, 10))
    chain = read_chain(int8_chain(tmp_path, **CHAINS[kind])[0] if kind in CHAINS else data)
    if kind == "a table":
        chain = dataclasses.replace(chain, input_table=np.arange(256, dtype=np.uint8))
    source = write_source(chain, "test-model")
    sizes = {"int8_t": 1, "uint8_t": 1, "int32_t": 4, "float": 4}
    found = re.findall(r"^static const (\w+) (?!input_step)\w+(?:\[(\d+)\])?", source.code, re.MULTILINE)
    assert sum(sizes[of] * int(count or 1) for of, count in found) == source.flash_bytes


def test_the_reference_model_gives_the_runtimes_bits(fashion_mnist: FashionMnist, tmp_path: Path) -> None:
    data = (REFERENCE / "model.int8.onnx").read_bytes()
    images = fashion_mnist.test_images
    expected = runtime_answers(data, images)
    chain, source = write_files(data, tmp_path, "fashion-mnist")
    assert np.array_equal(bits(run(chain, images)), bits(expected))
    library = Library(tmp_path, source, "-O3", "-march=native")
    assert np.array_equal(bits(library.answers(images, 10)), bits(expected))
    assert np.array_equal(library.labels(images), expected.argmax(axis=1))
    assert (tmp_path / "model.so").stat().st_size <= 1.25 * 266_200


def test_the_runtimes_bits_are_compared_in_earnest(tmp_path: Path) -> None:
    data, rows = int8_chain(tmp_path, (50, 30, 10))
    chain, source = write_files(data, tmp_path)
    code = (tmp_path / "model.c").read_text()
    place = code.index("{", code.index("weights_1[")) + 1
    first = code[place : code.index(",", place)]
    (tmp_path / "model.c").write_text(code[:place] + f" {int(first) ^ 1}" + code[place + len(first) :])
    found = Library(tmp_path, source).answers(rows, chain.outputs)
    assert not np.array_equal(bits(found), bits(runtime_answers(data, rows)))


@pytest.mark.parametrize("kind", ["uint8", "float input", "a clip that the steps do not hold", "one output"])
def test_it_is_cplusplus_too(kind: str, tmp_path: Path) -> None:
    data, _ = int8_chain(tmp_path, **CHAINS[kind])
    write_files(data, tmp_path)
    for file in ("model.c", "main.c"):
        command = ["g++", "-x", "c++", *WARNINGS, "-c", str(tmp_path / file), "-o", str(tmp_path / "object.o")]
        subprocess.run(command, check=True)


@pytest.mark.parametrize("kind", ["uint8", "int8 input", "float input", "an autoencoder", "one output"])
def test_sanitizers_find_nothing_in_the_example(kind: str, tmp_path: Path) -> None:
    data, rows = int8_chain(tmp_path, **CHAINS[kind])
    chain, source = write_files(data, tmp_path)
    flags = f"CFLAGS={' '.join(WARNINGS)} -fsanitize=address,undefined -fno-sanitize-recover"
    subprocess.run(["make", "-s", "-f", "model.mk", "MODEL_CFLAGS=-O1", flags], cwd=tmp_path, check=True)
    (tmp_path / "row").write_bytes(rows[0].tobytes())
    done = subprocess.run([f"./{source.name}", "row"], cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()[-chain.outputs :]
    assert [float(line.split()[0]) for line in lines] == pytest.approx(runtime_answers(data, rows[:1])[0], abs=1e-6)


def test_the_example_takes_a_picture(tmp_path: Path, fashion_mnist: FashionMnist) -> None:
    _, source = write_files((REFERENCE / "model.int8.onnx").read_bytes(), tmp_path, "fashion-mnist")
    subprocess.run(["make", "-s", "-f", "model.mk", "MODEL_CFLAGS=-O2"], cwd=tmp_path, check=True)
    image = fashion_mnist.test_images[0].tobytes()
    said = []
    for file, content in {
        "row": image,
        "picture.pgm": b"P5\n# a comment\n28 28\n255\n" + image,
        "turned.pgm": b"P5 14 56 255\n" + image,
        "short": image[:-1],
    }.items():
        (tmp_path / file).write_bytes(content)
        done = subprocess.run([f"./{source.name}", file], cwd=tmp_path, capture_output=True, text=True, check=False)
        said.append((done.returncode, done.stdout.split("\n")[0]))
        assert done.returncode == 0 or "a PGM picture of 28 x 28" in done.stderr
    assert said == [(0, "Ankle boot"), (0, "Ankle boot"), (2, ""), (2, "")]


@pytest.mark.parametrize("flag", ["-ffast-math", "-Ofast", "-freciprocal-math", "-funsafe-math-optimizations"])
def test_fast_math_is_refused(flag: str, tmp_path: Path) -> None:
    write_files(int8_chain(tmp_path, (20, 8, 3))[0], tmp_path)
    command = ["gcc", flag, "-c", str(tmp_path / "model.c"), "-o", str(tmp_path / "object.o")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "compile without -ffast-math" in done.stderr


@pytest.mark.parametrize(
    ("chain", "operator"),
    [
        ({"activation": "Tanh"}, "Tanh"),
        ({"activation": "Sigmoid"}, "Sigmoid"),
        ({"end": "LogSoftmax"}, "LogSoftmax"),
    ],
)
def test_another_operator_is_named(chain: dict[str, Any], operator: str, tmp_path: Path) -> None:
    data, _ = int8_chain(tmp_path, (20, 8, 3), **chain)
    with pytest.raises(ModelError, match=rf"the operator {operator} .* does not fit.*export without --c"):
        read_chain(data)


def test_an_activation_behind_the_last_layer_is_named(tmp_path: Path) -> None:
    model = onnx.load_from_string(int8_chain(tmp_path, (20, 8, 3), end=None, task="values")[0])
    (last,) = [node for node in model.graph.node if "y" in node.output]
    last.output[:] = ["before"]
    model.graph.node.append(onnx.helper.make_node("Relu", ["before"], ["y"], name="rectified"))
    with pytest.raises(ModelError, match=r"the operator Relu \(rectified\) behind the last layer does not fit"):
        read_chain(model.SerializeToString())


def test_several_inputs_are_refused(tmp_path: Path) -> None:
    data = write(tmp_path / "two.onnx", TWO).read_bytes()
    with pytest.raises(ModelError, match="2 inputs and 2 outputs"):
        read_chain(data)


def test_a_float32_file_is_refused(tmp_path: Path) -> None:
    int8_chain(tmp_path, (20, 8, 3), dtype="float32")
    with pytest.raises(ModelError, match=r"the operator MatMul .* does not fit"):
        read_chain((tmp_path / "float32.onnx").read_bytes())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fashion-mnist", "fashion_mnist"),
        ("My Model (v2)", "my_model_v2"),
        ("3d", "model_3d"),
        ("double", "model_double"),
        ("---", "model"),
        ("größe", "gr_e"),
    ],
)
def test_any_name_becomes_one_that_c_takes(name: str, expected: str) -> None:
    assert identifier(name) == expected


def test_class_names_are_written_as_bytes() -> None:
    assert text('a "b" \\ é??') == '"a \\042b\\042 \\134 \\303\\251\\077\\077"'


def test_a_name_of_anybodys_stays_in_its_comment(tmp_path: Path) -> None:
    data, _ = int8_chain(tmp_path, (20, 8, 3))
    _, source = write_files(data, tmp_path, "größe */ int x; \ud800\n#error")
    assert Library(tmp_path, source).classify is not None
