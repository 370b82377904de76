"""The C code on targets: compiled, really run there, and held against the int8 file's bits."""

from __future__ import annotations

import dataclasses
import io
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.c_chains import WARNINGS, int8_chain, runtime_answers, write_files
from tests.c_tools import REQUIRED, ready_or_skip, tools_or_skip
from tests.conftest import REFERENCE
from toolkit.c_targets import instructions
from toolkit.c_targets.building import build
from toolkit.c_targets.check import check_code, ready
from toolkit.c_targets.edges import edge_rows
from toolkit.c_targets.interface import read_interface
from toolkit.c_targets.programs import answers_from, run_program, stored
from toolkit.c_targets.table import TARGETS, Chosen, choose
from toolkit.c_wasm.build import _OPTIONS
from toolkit.conversion.logits import logits_of
from toolkit.errors import MissingError, ModelError, UsageError
from toolkit.progress import silent_step

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from toolkit.c_targets.interface import Interface
    from toolkit.data import FashionMnist
    from toolkit.verification.c_targets import CTargetCheck

QUICK = [
    "gcc-O0",
    "gcc-O2",
    "gcc-O3-native",
    "clang-O2",
    "tcc",
    "aarch64",
    "s390x",
    "cortex-m0",
    "cortex-m4",
    "wasm-simd",
]
COMPILERS = ["gcc-O2", "clang-O2"]
# What C code is written for: bytes and floats in, one multiplier or many, one rounding or two, logits or values.
CHAINS: dict[str, dict[str, Any]] = {
    "bytes": {"sizes": (50, 30, 10)},
    "signed bytes, a scale an output": {"sizes": (50, 30, 10), "dtype": "int8", "per_channel": True},
    "floats and values": {"sizes": (40, 20, 4, 40), "dtype": "float32", "end": None, "task": "values"},
    "two roundings": {"sizes": (50, 30, 10), "dtype": "float32", "activation": "Clip"},
}


@pytest.fixture(scope="module", params=CHAINS)
def chain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, Any, Any]:
    """Texts of model.c and model.h, rows, and what the runtime answers to them."""
    folder = tmp_path_factory.mktemp("chain")
    data, rows = int8_chain(folder, **CHAINS[request.param])
    _, source = write_files(data, folder)
    return source.code, source.header, rows, runtime_answers(data, rows)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Texts of model.c and model.h of the reference model."""
    folder = tmp_path_factory.mktemp("reference")
    _, source = write_files((REFERENCE / "model.int8.onnx").read_bytes(), folder, "fashion-mnist")
    return source.code, source.header


def on(name: str, code: str, header: str, rows: NDArray[Any], expected: NDArray[np.float32]) -> CTargetCheck:
    (check,) = check_code(code, header, rows, expected, ready_or_skip(name), silent_step)
    return check


def changed(code: str, before: str, step: Callable[[int], int] | None = None) -> str:
    """The code with another first value behind some words."""
    place = code.index("{", code.index(before)) + 1
    first = code[place : code.index(",", place)]
    return code[:place] + f" {step(int(first)) if step else int(first) ^ 1}" + code[place + len(first) :]


# really compiled and really run


@pytest.mark.parametrize("name", QUICK)
def test_a_target_gives_the_files_bits(name: str, chain: tuple[str, str, Any, Any]) -> None:
    code, header, rows, expected = chain
    check = on(name, code, header, rows, expected)
    assert (check.verdict, check.reason) == ("passed", None)
    assert (check.rows, check.unanswered, check.logits_differ) == (len(rows), 0, 0)
    assert check.logits == expected.size
    decides = "_classify(" in header
    assert (check.labels, check.labels_differ) == (len(rows) if decides else 0, 0)
    assert check.made.compile_seconds is not None
    assert check.made.text is not None
    assert check.made.text > 1000


@pytest.mark.parametrize("name", QUICK)
def test_a_target_shows_a_weight_that_is_another(name: str, chain: tuple[str, str, Any, Any]) -> None:
    code, header, rows, expected = chain
    check = on(name, changed(code, "weights_1["), header, rows, expected)
    assert check.verdict == "failed"
    assert check.logits_differ > 0
    assert check.logits_max_abs > 0
    assert check.labels_differ == 0  # they are the largest of what this code gives
    assert [gate.passed for gate in check.gates][:2] == [True, False]


@pytest.mark.parametrize("name", ["gcc-O2", "s390x", "cortex-m0", "wasm-simd", "wasm-chromium"])
def test_a_target_shows_a_label_that_is_not_the_largest_logits(
    name: str, reference: tuple[str, str], fashion_mnist: FashionMnist
) -> None:
    code, header = reference
    images = fashion_mnist.test_images[:40]
    expected = logits_of((REFERENCE / "model.int8.onnx").read_bytes(), "int8", {"image": images})
    before = "if (logits[i] > logits[best])"
    assert before in code
    check = on(name, code.replace(before, "if (logits[i] < logits[best])"), header, images, expected)
    assert (check.verdict, check.logits_differ, check.labels, check.labels_differ) == ("failed", 0, 40, 40)
    assert [gate.passed for gate in check.gates] == [True, True, False]


@pytest.mark.parametrize("name", ["gcc-O2", "wasm"])
def test_one_answer_is_yes_or_no(name: str, tmp_path: Path) -> None:
    data, rows = int8_chain(tmp_path, (50, 30, 1), end="Sigmoid", task="binary")
    _, source = write_files(data, tmp_path)
    code, expected = source.code, runtime_answers(data, rows)
    check = on(name, code, source.header, rows, expected)
    assert (check.verdict, check.labels, check.labels_differ) == ("passed", len(rows), 0)
    before = "return logits[0] >= 0.0f;"
    assert before in code
    check = on(name, code.replace(before, "return logits[0] < 0.0f;"), source.header, rows, expected)
    assert (check.verdict, check.labels_differ) == ("failed", len(rows))


@pytest.mark.slow
@pytest.mark.parametrize("name", [target.name for target in TARGETS])
def test_every_target_gives_the_files_bits_on_the_whole_test_set(
    name: str, reference: tuple[str, str], fashion_mnist: FashionMnist
) -> None:
    images = fashion_mnist.test_images
    expected = logits_of((REFERENCE / "model.int8.onnx").read_bytes(), "int8", {"image": images})
    check = on(name, *reference, images, expected)
    assert (check.verdict, check.logits, check.logits_differ) == ("passed", 100_000, 0)


def test_what_an_image_for_a_microcontroller_takes(reference: tuple[str, str], fashion_mnist: FashionMnist) -> None:
    images = fashion_mnist.test_images[:20]
    expected = logits_of((REFERENCE / "model.int8.onnx").read_bytes(), "int8", {"image": images})
    check = on("cortex-m3", *reference, images, expected)
    found = check.footprint
    assert check.verdict == "passed"
    assert found.flash is not None
    assert found.ram is not None
    assert found.stack is not None
    assert found.instructions is not None
    # 284,796 bytes of constants and 2,480 of scratch are known; what is around them is little.
    assert 284_796 < found.flash < 284_796 + 8_000
    assert 2_480 < found.stack < 2_480 + 600
    assert found.stack + 784 + 40 <= found.ram < found.stack + 1_200
    # 266,200 products, some instructions each.
    assert 266_200 < found.instructions < 10 * 266_200


@pytest.mark.parametrize("name", ["gcc-O0", "tcc", "aarch64", "i686", "s390x"])
def test_instructions_are_counted_alike_every_time(name: str, chain: tuple[str, str, Any, Any]) -> None:
    code, header, rows, expected = chain
    first, again = (on(name, code, header, rows[:3], expected[:3]).footprint for _ in range(2))
    if name in ("gcc-O0", "tcc") and first.instructions is None and not REQUIRED:
        pytest.skip("valgrind is not installed")
    assert first == again
    assert first.instructions is not None
    assert first.not_counted is None
    assert 1_000 < first.instructions < 1_000_000


def test_what_is_not_counted_has_its_reason(
    reference: tuple[str, str], fashion_mnist: FashionMnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = fashion_mnist.test_images[:2]
    expected = logits_of((REFERENCE / "model.int8.onnx").read_bytes(), "int8", {"image": images})
    monkeypatch.setattr(instructions, "SECONDS", 0.001)
    found = on("aarch64", *reference, images, expected).footprint
    assert found.instructions is None
    assert "did not end well within 0.001 s" in str(found.not_counted)
    tools = ready_or_skip("gcc-O2")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    (check,) = check_code(*reference, images, expected, tools, silent_step)
    assert (check.footprint.instructions, check.footprint.not_counted) == (None, "valgrind is not installed")


def test_lines_of_a_log_are_counted_where_pieces_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    log = b"Trace 0: x\nTrace 1: y Trace \nLinking TBs\n\nTrace 2: z\nTrac"
    for size in range(1, len(log) + 1):
        monkeypatch.setattr(instructions, "PIECE", size)
        assert instructions._traces(io.BytesIO(log)) == 3


@pytest.mark.parametrize(
    "name",
    [
        *(each for each in QUICK if each != "s390x"),
        "powerpc",
        "s390x",
        "i686",
    ],
)
def test_floats_at_the_edges_of_rounding_become_the_same_steps(name: str, tmp_path: Path) -> None:
    data, rows = int8_chain(tmp_path, (50, 30, 10), dtype="float32", activation="Clip")
    edges = edge_rows(data, rows)
    assert edges.shape == (256, 50)
    _, source = write_files(data, tmp_path)
    check = on(name, source.code, source.header, edges, runtime_answers(data, edges))
    assert (check.verdict, check.reason) == ("passed", None)


def test_a_compiler_that_divides_otherwise_is_found_at_the_edges(tmp_path: Path) -> None:
    data, rows = int8_chain(tmp_path, (50, 30, 10), dtype="float32", activation="Clip")
    _, source = write_files(data, tmp_path)
    divided = re.compile(r"to_uint8\(value / ([^,]+), ")
    assert divided.search(source.code)
    code = divided.sub(r"to_uint8(value * (1.0f / \1), ", source.code)
    for given, differ in ((rows, False), (edge_rows(data, rows), True)):
        check = on("gcc-O2", code, source.header, given, runtime_answers(data, given))
        assert (check.logits_differ > 0) == differ


def test_integers_have_no_edges(tmp_path: Path) -> None:
    data, rows = int8_chain(tmp_path, (50, 30, 10))
    assert edge_rows(data, rows).shape == (0, 50)


# what a compiler or a program does wrong is a row, and its words are in it


@pytest.mark.parametrize("name", [*COMPILERS, "wasm"])
def test_code_that_does_not_compile_is_told_by_its_first_error(name: str, reference: tuple[str, str]) -> None:
    code, header = reference
    rows, expected = np.zeros((2, 784), np.uint8), np.zeros((2, 10), np.float32)
    check = on(name, code + "\n#error is broken\n", header, rows, expected)
    assert (check.verdict, check.unanswered, check.logits) == ("failed", 2, 0)
    assert check.reason is not None
    assert "is broken" in check.reason
    assert "\n" not in check.reason
    assert [gate.passed for gate in check.gates] == [False, True]


@pytest.mark.parametrize(("name", "how"), [("gcc-O2", "by SIG"), ("aarch64", "by SIG"), ("cortex-m3", "faulted")])
def test_code_that_crashes_is_told(name: str, how: str, reference: tuple[str, str]) -> None:
    code, header = reference
    place = code.index("{", code.index("void fashion_mnist_logits(")) + 1
    rows, expected = np.zeros((3, 784), np.uint8), np.zeros((3, 10), np.float32)
    check = on(name, f"{code[:place]} __builtin_trap(); {code[place:]}", header, rows, expected)
    assert (check.verdict, check.unanswered) == ("failed", 3)
    assert check.reason is not None
    assert how in check.reason
    assert "after 0 rows" in check.reason


def test_a_processor_that_cannot_read_unaligned_words_is_played_as_one(reference: tuple[str, str]) -> None:
    code, header = reference
    place = code.index("{", code.index("void fashion_mnist_logits(")) + 1
    read = 'uint32_t found; __asm__ volatile("ldr %0, [%1]" : "=r"(found) : "r"(image)); *logits = (float)found;'
    rows, expected = np.zeros((3, 784), np.uint8), np.zeros((3, 10), np.float32)
    reasons = [
        on(name, f"{code[:place]} {read} {code[place:]}", header, rows, expected).reason
        for name in ("cortex-m0", "cortex-m3")
    ]
    assert reasons[0] is not None
    assert "faulted" in reasons[0]
    assert reasons[1] is None


# the code itself, as compilers with all their warnings and sanitizers see it


@pytest.mark.parametrize("name", COMPILERS)
@pytest.mark.parametrize("language", [["-std=c99"], ["-x", "c++", "-std=c++17"]])
def test_compilers_have_nothing_to_say(
    name: str, language: list[str], chain: tuple[str, str, Any, Any], tmp_path: Path
) -> None:
    compiler = tools_or_skip(name).compiler
    (tmp_path / "model.c").write_text(chain[0])
    (tmp_path / "model.h").write_text(chain[1])
    command = [compiler, *language, "-O2", *WARNINGS, "-c", "model.c", "-o", "model.o"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", COMPILERS)
@pytest.mark.parametrize("flag", ["-ffast-math", "-Ofast"])
def test_fast_math_is_refused(name: str, flag: str, chain: tuple[str, str, Any, Any], tmp_path: Path) -> None:
    compiler = tools_or_skip(name).compiler
    (tmp_path / "model.c").write_text(chain[0])
    (tmp_path / "model.h").write_text(chain[1])
    command = [compiler, flag, "-c", "model.c", "-o", "model.o"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "compile without -ffast-math" in done.stderr


def _links(compiler: str, flags: tuple[str, ...], folder: Path) -> bool:
    (folder / "nothing.c").write_text("int main(void) { return 0; }\n")
    command = [compiler, *flags, "nothing.c", "-o", "nothing"]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0


def sanitized(name: str, code: str, header: str, rows: NDArray[Any], folder: Path) -> tuple[NDArray[np.float32], str]:
    """Answers of a program under both sanitizers, rows and answers at all eight alignments; or their complaint."""
    tools = tools_or_skip(name)
    flags = ("-std=c99", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    tools = dataclasses.replace(tools, target=dataclasses.replace(tools.target, flags=flags))
    if name.startswith("clang") and not REQUIRED and not _links(tools.compiler, flags, folder):
        pytest.skip("clang's sanitizers are not installed (libclang-rt-14-dev)")
    interface = read_interface(header)
    built = build(tools, code, header, interface, folder)
    try:
        return run_program(tools, built, interface, rows.reshape(len(rows), -1)).values, ""
    except ModelError as error:
        return np.empty(0, np.float32), str(error)


@pytest.mark.parametrize("name", COMPILERS)
def test_sanitizers_find_nothing(name: str, chain: tuple[str, str, Any, Any], tmp_path: Path) -> None:
    code, header, rows, expected = chain
    found, complaint = sanitized(name, code, header, rows, tmp_path)
    assert complaint == ""
    assert len(found) == 400
    assert np.array_equal(found.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("name", COMPILERS)
@pytest.mark.parametrize("behind", [0, 8])
def test_sanitizers_would_find_a_read_too_far(name: str, behind: int, chain: Any, tmp_path: Path) -> None:
    code, header, rows, _ = chain
    interface = read_interface(header)
    value = f"image[{interface.inputs + behind}]" if "image" in header else f"input[{interface.inputs + behind}]"
    given = "values" if interface.function.endswith("values") else "logits"
    start = code.index("{", code.index(f"void {interface.function}(")) + 1
    broken = f"{code[:start]} volatile float more = (float){value}; (void)more; (void){given}; {code[start:]}"
    _, complaint = sanitized(name, broken, header, rows, tmp_path)
    assert "it ended" in complaint


# names, tools, forms


def test_names_choose_targets() -> None:
    assert choose([]).targets == ()
    assert choose(["all"]) == Chosen(TARGETS, frozenset())
    assert [target.name for target in choose(["S390X", "gcc-o2", "s390x"]).targets] == ["gcc-O2", "s390x"]
    assert choose(["all", "wasm"]).named == {"wasm"}
    assert {target.kind for target in choose(["here"]).targets} == {"native"}
    with pytest.raises(UsageError, match=r"--c is 'vax', expected one of gcc-O0, .*, wasm-chromium, here or all"):
        choose(["vax"])


def test_what_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gcc = tools_or_skip("gcc-O2")
    for program in ("gcc", "as", "ld", "collect2", "size"):
        found = subprocess.run(["which", program], capture_output=True, text=True, check=False).stdout.strip()
        if found:
            (tmp_path / program).symlink_to(found)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "cache"))
    rows = {target.name: each for target, each in ready(choose(["all"]))}
    assert getattr(rows["gcc-O2"], "version", None) == gcc.version
    assert rows["clang-O2"] == "--c clang-O2 needs clang, which is not on this system; install the package clang"
    assert "install the package gcc-s390x-linux-gnu" in str(rows["s390x"])
    with pytest.raises(MissingError, match="aarch64-linux-gnu-gcc, which is not on this system; install the package"):
        ready(choose(["all", "aarch64"]))
    with pytest.raises(MissingError, match="cannot be run for any of 4 targets"):
        ready(Chosen(choose(["here"]).targets[3:], frozenset()))


def test_a_target_that_is_not_here_is_a_row_and_no_failure(reference: tuple[str, str]) -> None:
    (target,) = choose(["riscv64"]).targets
    rows, expected = np.zeros((2, 784), np.uint8), np.zeros((2, 10), np.float32)
    (check,) = check_code(*reference, rows, expected, [(target, "--c riscv64 needs a compiler")], silent_step)
    assert (check.verdict, check.reason, check.gates) == ("not run", "--c riscv64 needs a compiler", [])


def test_a_compiler_without_its_c_library_is_no_fault_of_the_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tools_or_skip("gcc-O2")
    fake = tmp_path / "gcc"
    fake.write_text("#!/bin/sh\necho 'probe.c:1:10: fatal error: math.h: No such file or directory' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(MissingError, match=r"gcc cannot make a program here \(probe.c:1:10: fatal error: math.h"):
        ready(choose(["gcc-O2"]))


def test_what_the_table_says_of_webassembly_is_what_compiles_it() -> None:
    for target in TARGETS:
        if target.kind == "wasm":
            assert set(target.flags) - {"-msimd128"} <= {*_OPTIONS}


def test_another_header_is_refused(reference: tuple[str, str]) -> None:
    code, header = reference
    rows, expected = np.zeros((2, 10), np.uint8), np.zeros((2, 10), np.float32)
    with pytest.raises(ModelError, match="takes 784 values of uint8, the rows have 10 of uint8"):
        check_code(code, header, rows, expected, [], silent_step)
    with pytest.raises(ModelError, match=r"model.h is none that this version writes; export it again with --c"):
        read_interface(header.replace("_OUTPUTS 10", "_RESULTS 10"))
    interface = read_interface(header)
    assert (interface.function, interface.value, interface.inputs, interface.outputs) == (
        "fashion_mnist_logits",
        "uint8_t",
        784,
        10,
    )


@pytest.fixture
def two_floats(reference: tuple[str, str]) -> Interface:
    return dataclasses.replace(read_interface(reference[1]), value="float", inputs=1, outputs=2, classify=None)


def test_bytes_are_in_the_targets_order(two_floats: Interface) -> None:
    rows = np.array([[1.5], [-2]], np.float32)
    assert stored(rows, ">") == bytes.fromhex("3fc00000 c0000000")
    assert stored(rows, "<") == bytes.fromhex("0000c03f 000000c0")
    # a signalling NaN keeps its bits, whose order alone is turned
    big = bytes.fromhex("7fa00001 3fc00000")
    assert answers_from(big, 1, two_floats, ">").values.view(np.uint32).tolist() == [[0x7FA00001, 0x3FC00000]]
    labelled = dataclasses.replace(two_floats, classify="a_classify")
    values, labels = answers_from((big + bytes([0, 0, 0, 1])) * 2, 2, labelled, ">")
    assert values.view(np.uint32).tolist() == [[0x7FA00001, 0x3FC00000]] * 2
    assert labels is not None
    assert labels.tolist() == [1, 1]
    with pytest.raises(ModelError, match="it gave 8 bytes of answers, expected 16"):
        answers_from(big, 2, two_floats, ">")
