"""The int8 model's C as WebAssembly: its bits, and what is said where it cannot be made or run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.conftest import REFERENCE
from tests.looks import CHROMIUM, needs_browser
from tests.wasm import built, needs_clang, needs_node, reference_chain, reference_wasm
from toolkit.c_code.chain import Chain, Dense, Requantization, run
from toolkit.c_code.source import write_source
from toolkit.c_wasm.build import build_wasm, c_name
from toolkit.c_wasm.chromium import run_in_chromium
from toolkit.c_wasm.node import run_in_node
from toolkit.errors import InputError, MissingError, ModelError, ToolkitError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from toolkit.data import FashionMnist

FORMS = pytest.mark.parametrize("simd", [True, False], ids=["vectors", "plain"])


def same_bits(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def one_line(error: ToolkitError) -> str:
    text = str(error)
    assert "\n" not in text
    return text


@needs_clang
@needs_node
@FORMS
def test_it_gives_the_bits_of_the_integers(fashion_mnist: FashionMnist, simd: bool) -> None:
    rows = fashion_mnist.test_images[:300]
    wasm = reference_wasm(simd=simd)
    assert same_bits(run_in_node(wasm, rows, 10).values, run(reference_chain(), rows))
    assert len(wasm) < 320_000


@needs_clang
@needs_node
@pytest.mark.slow
@FORMS
def test_it_gives_the_bits_of_the_runtime_on_all_test_rows(fashion_mnist: FashionMnist, simd: bool) -> None:
    import onnxruntime

    from toolkit.conversion.logits import with_logits

    copy = with_logits((REFERENCE / "model.int8.onnx").read_bytes(), "model.int8.onnx")
    session = onnxruntime.InferenceSession(copy.data, providers=["CPUExecutionProvider"])
    expected = session.run([copy.output], {"image": fashion_mnist.test_images})[0]
    assert len(expected) == 10_000
    assert same_bits(run_in_node(reference_wasm(simd=simd), fashion_mnist.test_images, 10).values, expected)


def chain_of(dtype: str, *, one_scale: bool, two_steps: bool, end: str | None, seed: int = 0) -> Chain:
    """A small chain with numbers of all sorts: 70 inputs, 9 neurons, 3 answers."""
    random = np.random.default_rng(seed)

    def dense(name: str, inputs: int, outputs: int, then: Requantization | None) -> Dense:
        count = 1 if one_scale else outputs
        return Dense(
            name=name,
            weights=random.integers(-127, 128, (outputs, inputs), dtype=np.int8),
            bias=random.integers(-5_000, 5_000, outputs, dtype=np.int32),
            weight_scales=np.full(count, 0.01, np.float32),
            input_scale=np.float32(0.02),
            multipliers=random.uniform(0.001, 0.01, count).astype(np.float32),
            then=then,
        )

    bounds = (np.float32(0), np.float32(6)) if two_steps else (None, None)
    then = Requantization(np.float32(0.03), 3, two_steps, *bounds)
    layers = (dense("first", 70, 9, then), dense("last", 9, 3, None))
    return Chain(dtype, (7, 10), np.float32(0.02), 5, layers, "classification", end, ("a", "b", "c"), "0" * 64)


@needs_clang
@needs_node
@FORMS
@pytest.mark.parametrize("dtype", ["uint8", "int8", "float32"])
@pytest.mark.parametrize(("one_scale", "two_steps"), [(True, False), (False, True)])
def test_other_chains(dtype: str, simd: bool, one_scale: bool, two_steps: bool) -> None:
    chain = chain_of(dtype, one_scale=one_scale, two_steps=two_steps, end="Softmax")
    random = np.random.default_rng(1)
    whole = random.integers(0, 256, (50, 7, 10)).astype(np.uint8)
    rows: NDArray[Any] = (
        random.normal(0, 3, (50, 7, 10)).astype(np.float32) if dtype == "float32" else whole.view(dtype)
    )
    assert same_bits(run_in_node(built(chain, simd=simd), rows, 3).values, run(chain, rows))


@needs_clang
@needs_node
def test_a_changed_weight_is_seen(fashion_mnist: FashionMnist) -> None:
    wasm = bytearray(reference_wasm(simd=True))
    chain = reference_chain()
    row = chain.layers[2].weights[0].tobytes()
    wasm[wasm.index(row) + 7] ^= 0x40
    rows = fashion_mnist.test_images[:100]
    found, expected = run_in_node(bytes(wasm), rows, 10).values, run(chain, rows)
    assert not same_bits(found, expected)
    assert same_bits(found[:, 1:], expected[:, 1:])  # it is the first answer's weight


@needs_clang
@needs_node
@pytest.mark.parametrize(("size", "outputs"), [(783, 10), (784, 9)])
def test_rows_and_answers_of_another_size_are_refused(size: int, outputs: int) -> None:
    with pytest.raises(
        InputError, match=f"takes rows of 784 bytes and gives 10 values, got rows of {size} bytes"
    ) as found:
        run_in_node(reference_wasm(simd=True), np.zeros((2, size), np.uint8), outputs)
    one_line(found.value)


@needs_clang
@needs_node
def test_no_rows_and_no_module() -> None:
    assert run_in_node(reference_wasm(simd=True), np.zeros((0, 28, 28), np.uint8), 10).values.shape == (0, 10)
    with pytest.raises(ModelError, match="node cannot run the WebAssembly module") as found:
        run_in_node(reference_wasm(simd=True)[:-100], np.zeros((1, 28, 28), np.uint8), 10)
    one_line(found.value)


def test_without_tools_one_line_names_the_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    source = write_source(reference_chain(), "model")
    with pytest.raises(MissingError, match=r"clang and wasm-ld .*apt-get install clang lld") as found:
        build_wasm(source.code, source.header, source.name, tmp_path)
    one_line(found.value)
    with pytest.raises(MissingError, match="apt-get install nodejs") as found:
        run_in_node(b"", np.zeros((1, 1), np.uint8), 1)
    one_line(found.value)
    assert list(tmp_path.iterdir()) == []


@needs_clang
def test_what_the_compiler_refuses_is_said_in_its_words(tmp_path: Path) -> None:
    source = write_source(reference_chain(), "model")
    with pytest.raises(ModelError, match=r"clang cannot compile model\.c to WebAssembly: .*not today") as found:
        build_wasm(f"{source.code}\n#error not today\n", source.header, source.name, tmp_path)
    one_line(found.value)


@needs_clang
def test_files_of_somebody_else_are_refused(tmp_path: Path) -> None:
    source = write_source(reference_chain(), "model")
    assert (c_name(source.header), c_name("int main(void);")) == (source.name, None)
    with pytest.raises(ModelError, match="declares no function that runs a model, expected model_logits_in"):
        build_wasm(source.code, "int main(void);", "model", tmp_path)
    with pytest.raises(ModelError, match=f"declares {source.name}, expected other_logits_in"):
        build_wasm(source.code, source.header, "other", tmp_path)


@needs_clang
@needs_browser
def test_chromium_gives_the_bits_and_labels_too(fashion_mnist: FashionMnist) -> None:
    rows = fashion_mnist.test_images[:300]
    assert CHROMIUM is not None
    found = run_in_chromium(CHROMIUM, reference_wasm(simd=True), rows, 10)
    assert same_bits(found.values, run(reference_chain(), rows))
    assert found.labels is None  # only a module that is asked for it exports them


@needs_clang
@needs_browser
def test_what_chromium_cannot_run_is_one_line() -> None:
    assert CHROMIUM is not None
    with pytest.raises(InputError, match="takes rows of 784 bytes and gives 10 values, got rows of 783 bytes") as found:
        run_in_chromium(CHROMIUM, reference_wasm(simd=True), np.zeros((2, 783), np.uint8), 10)
    one_line(found.value)
    with pytest.raises(ModelError, match=r"cannot run the WebAssembly module: it says 'CompileError") as refused:
        run_in_chromium(CHROMIUM, reference_wasm(simd=True)[:-100], np.zeros((1, 784), np.uint8), 10)
    one_line(refused.value)
    with pytest.raises(ModelError, match="/no/browser cannot be run here"):
        run_in_chromium("/no/browser", b"", np.zeros((1, 784), np.uint8), 10)
