"""The C model as a shared library for one kind of CPU: what is compiled besides, and the compiler."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.c_code.chain import run
from toolkit.c_code.layout import Layout, number, wrapped
from toolkit.errors import MissingError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toolkit.c_code.chain import Chain

__all__ = ["Built", "Compiler", "build_library", "find_compiler", "wrapper_text"]

_WRAPPER = Template("""\
/* What the predictor's native backend calls, beside model.c. */
#include <math.h>

#include "model.h"

#define ROWS $rows

/* Of the int8 ONNX file. */
const char toolkit_native_source[] = ${upper}_SOURCE_SHA256;

/* Rows, and the bits of what the ONNX file answers to them. */
static const $input_type golden_rows[ROWS * ${upper}_INPUTS] = {
$golden_rows
};
static const uint32_t golden_bits[ROWS * ${upper}_OUTPUTS] = {
$golden_bits
};

/* How many golden rows get another answer. */
int toolkit_native_check(void)
{
    int wrong = 0;
    for (int row = 0; row < ROWS; row++) {
        union {
            float value;
            uint32_t bits;
        } found;
        float answer[${upper}_OUTPUTS];
        int same = 1;
        ${name}_$answer(golden_rows + row * ${upper}_INPUTS, answer);
        for (int i = 0; i < ${upper}_OUTPUTS; i++) {
            found.value = answer[i];
            same &= found.bits == golden_bits[row * ${upper}_OUTPUTS + i];
        }
        wrong += !same;
    }
    return wrong;
}

void toolkit_native_logits(const $input_type *row, float *answer)
{
    ${name}_$answer(row, answer);
}

/* What the ONNX file gives. */
void toolkit_native_run(const $input_type *row, float *answer)
{
    ${name}_$answer(row, answer);
$end}

/* The same for a thread's own buffers, with the label of a classifier. */
struct toolkit_native_buffers {
    const $input_type *row;
    float *answer;
    int32_t *label;
};

void toolkit_native_call(const struct toolkit_native_buffers *of, const void *unused)
{
    const float *answer = of->answer;
    (void)unused;
    toolkit_native_run(of->row, of->answer);
$label}
""")

_LARGEST = """\
    int best = 0;
    for (int i = 1; i < OUTPUTS; i++)
        best = answer[i] > answer[best] ? i : best;
    *of->label = best;
"""
_YES = "    *of->label = answer[0] >= 0.5f;\n"

_ENDS = {
    "Softmax": """\
    float largest = answer[0], sum = 0;
    for (int i = 1; i < OUTPUTS; i++)
        largest = answer[i] > largest ? answer[i] : largest;
    for (int i = 0; i < OUTPUTS; i++)
        sum += answer[i] = expf(answer[i] - largest);
    for (int i = 0; i < OUTPUTS; i++)
        answer[i] /= sum;
""",
    "Sigmoid": """\
    for (int i = 0; i < OUTPUTS; i++)
        answer[i] = 1 / (1 + expf(-answer[i]));
""",
    None: "",
}

# What a compiler says it may use, and what Linux calls that in /proc/cpuinfo (arch/x86/include/asm/cpufeatures.h,
# Documentation/arch/arm64/elf_hwcaps.rst, arch/arm/kernel/setup.c).
_X86 = {
    "__SSE3__": "pni", "__SSSE3__": "ssse3", "__SSE4_1__": "sse4_1", "__SSE4_2__": "sse4_2", "__SSE4A__": "sse4a",
    "__POPCNT__": "popcnt", "__LZCNT__": "abm", "__MOVBE__": "movbe", "__GFNI__": "gfni", "__APX_F__": "apx",
    "__AVX__": "avx", "__AVX2__": "avx2", "__FMA__": "fma", "__FMA4__": "fma4", "__XOP__": "xop", "__F16C__": "f16c",
    "__BMI__": "bmi1", "__BMI2__": "bmi2", "__TBM__": "tbm", "__AVX512F__": "avx512f", "__AVX512BW__": "avx512bw",
    "__AVX512VL__": "avx512vl", "__AVX512DQ__": "avx512dq", "__AVX512CD__": "avx512cd",
    "__AVX512VNNI__": "avx512_vnni", "__AVXVNNI__": "avx_vnni", "__AVX512VBMI__": "avx512vbmi",
    "__AVX512VBMI2__": "avx512_vbmi2", "__AVX512IFMA__": "avx512ifma", "__AVX512BITALG__": "avx512_bitalg",
    "__AVX512VPOPCNTDQ__": "avx512_vpopcntdq", "__AVX512BF16__": "avx512_bf16", "__AVX512FP16__": "avx512_fp16",
}  # fmt: skip
_ARM = {
    "__ARM_FEATURE_DOTPROD": "asimddp", "__ARM_FEATURE_MATMUL_INT8": "i8mm",
    "__ARM_FEATURE_FP16_VECTOR_ARITHMETIC": "asimdhp", "__ARM_FEATURE_CRC32": "crc32",
}  # fmt: skip
_AARCH64 = {
    **_ARM, "__ARM_NEON": "asimd", "__ARM_FEATURE_SVE": "sve", "__ARM_FEATURE_SVE2": "sve2",
    "__ARM_FEATURE_SVE_MATMUL_INT8": "svei8mm", "__ARM_FEATURE_ATOMICS": "atomics", "__ARM_FEATURE_BF16": "bf16",
    "__ARM_FEATURE_QRDMX": "asimdrdm", "__ARM_FEATURE_MOPS": "mops",
}  # fmt: skip
_ARM32 = {**_ARM, "__ARM_NEON": "neon", "__ARM_FEATURE_FMA": "vfpv4", "__ARM_FEATURE_IDIV": "idiva"}
# By what uname calls a machine: the macro that tells it, and its features; without these a device could not check
# what a library takes, so it may take no more than the compiler's default.
_MACHINES: dict[str, tuple[str, dict[str, str] | None]] = {
    "x86_64": ("__x86_64__", _X86), "aarch64": ("__aarch64__", _AARCH64), "armv7l": ("__arm__", _ARM32),
    "riscv64": ("__riscv", None), "s390x": ("__s390x__", None),
}  # fmt: skip
# Vectors that Linux does not name, so that they are not used.
_UNNAMED = {
    "__AVXVNNIINT8__": "-mno-avxvnniint8",
    "__AVXVNNIINT16__": "-mno-avxvnniint16",
    "__AVXIFMA__": "-mno-avxifma",
}
_GOLDEN_ROWS = 8
_SECONDS = 120


@dataclass(frozen=True)
class Compiler:
    """A compiler that works, with its flags.

    Attributes:
        about: its first line about itself.
        command: what is run, without the files.
        machine: for which it compiles, as ``uname -m`` says it.
        cpu_features: that its code may use, as /proc/cpuinfo calls them.
    """

    about: str
    command: tuple[str, ...]
    machine: str
    cpu_features: list[str]

    @property
    def text(self) -> str:
        """The command as a shell takes it."""
        return shlex.join(self.command)


@dataclass(frozen=True)
class Built:
    """A library, and what it was made with."""

    path: Path
    compiler: Compiler


def wrapper_text(layout: Layout, rows: NDArray[Any]) -> str:
    """The C file that makes model.c a library for the predictor.

    Args:
        layout: of the chain.
        rows: (n, ...) of its input type; the first few become golden vectors.
    """
    chain = layout.chain
    taken = rows[:_GOLDEN_ROWS].reshape(min(len(rows), _GOLDEN_ROWS), -1)
    bits = run(chain, taken).view(np.uint32)
    values = (number(value) if chain.input_dtype == "float32" else str(value) for value in taken.reshape(-1))
    names = {
        "rows": len(taken),
        "name": layout.name,
        "upper": layout.upper,
        "answer": layout.answer,
        "input_type": layout.input_type,
    }
    label = (_YES if chain.task == "binary" else _LARGEST) if layout.decides else "    (void)answer;\n"
    return _WRAPPER.substitute(
        names,
        golden_rows=wrapped(values),
        golden_bits=wrapped(f"{value}u" for value in bits.reshape(-1)),
        end=_ENDS[chain.end].replace("OUTPUTS", f"{layout.upper}_OUTPUTS"),
        label=label.replace("OUTPUTS", f"{layout.upper}_OUTPUTS"),
    )


def build_library(chain: Chain, artifact: str, folder: Path, target: Path, rows: NDArray[Any], cc: str | None) -> Built:
    """Compile a chain's C into a shared library.

    Args:
        chain: the model.
        artifact: its name, from which the C names follow.
        folder: that holds its model.c and model.h.
        target: the file to write.
        rows: see `wrapper_text`.
        cc: see `find_compiler`.

    Raises:
        MissingError, UsageError: see `find_compiler`.
    """
    compiler = find_compiler(cc)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        wrapper, made = Path(scratch) / "native.c", Path(scratch) / "model.so"
        wrapper.write_text(wrapper_text(Layout(chain, artifact), rows), encoding="ascii")
        files = [str(wrapper), str(folder / "model.c"), "-I", str(folder), "-o", str(made), "-lm"]
        _run([*compiler.command, "-std=c99", "-fPIC", "-shared", "-s", *files])
        os.replace(made, target)  # noqa: PTH105 - a rename within one folder
    return Built(target, compiler)


def find_compiler(cc: str | None) -> Compiler:
    """The compiler for a library, once it took its flags.

    Args:
        cc: with flags for its CPU, such as "aarch64-linux-gnu-gcc -mcpu=cortex-a72"; None: the one that is found here
            (the variable CC, cc, gcc or clang), for this very CPU.

    Raises:
        MissingError: there is none.
        UsageError: it fails (with its first error), or is for a machine that could not check what the code takes.
    """
    words, flags = _compiler(cc)
    command = [*words, "-O3", *flags]
    about = _asked(command, "--version").splitlines()
    macros = _macros(command)
    machine = next((name for name, (macro, _) in _MACHINES.items() if macro in macros), None)
    if machine is None or (machine == "riscv64" and macros.get("__riscv_xlen") != "64"):
        raise UsageError(
            f"{shlex.join(command)} compiles for a machine that is not known here, expected one of "
            f"{', '.join(_MACHINES)}; give such a compiler with --cc"
        )
    known = _MACHINES[machine][1]
    if known is None and macros != _macros([*words, "-O3"]):
        raise UsageError(
            f"no {machine} could check that it has what {shlex.join(flags)} allows the compiler; give --cc "
            f"{shlex.quote(shlex.join(words))} alone"
        )
    command += [flag for macro, flag in _UNNAMED.items() if macro in macros]
    features = sorted(name for macro, name in (known or {}).items() if macro in macros)
    return Compiler(about[0] if about else command[0], tuple(command), machine, features)


def _compiler(cc: str | None) -> tuple[list[str], list[str]]:
    """A compiler's words, which may begin with another program's (ccache gcc), and its flags."""
    if cc is not None:
        command = _split(cc, "--cc")
        if not command:
            raise UsageError("--cc is empty; give a compiler, such as --cc gcc")
        if shutil.which(command[0]) is None:
            raise MissingError(f"the compiler {command[0]} is not found; install it, or give another with --cc")
        return _parted(command)
    named = _split(os.environ.get("CC", ""), "the variable CC")
    for candidate in ([named] if named else []) + [["cc"], ["gcc"], ["clang"]]:
        if shutil.which(candidate[0]):
            words, flags = _parted(candidate)
            known = _MACHINES.get(os.uname().machine, ("", None))[1]
            return words, [*(["-march=native"] if known else []), *flags]
    raise MissingError("no C compiler is found; install one (Debian: apt install gcc), or give one with --cc")


def _split(text: str, name: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{name} is {text!r}, which a shell would not take ({error}); close the quotes") from error


def _parted(command: list[str]) -> tuple[list[str], list[str]]:
    at = next((at for at, word in enumerate(command) if word.startswith("-")), len(command))
    return command[: max(at, 1)], command[max(at, 1) :]


def _macros(command: list[str]) -> dict[str, str]:
    """What a compiler defines by itself."""
    lines = [line.split(None, 2) for line in _asked(command, "-dM", "-E", "-x", "c", os.devnull).splitlines()]
    return {words[1]: words[2] if len(words) > 2 else "" for words in lines if len(words) > 1}


def _asked(command: list[str], *options: str) -> str:
    return _run([*command, *options])


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"the compiler {command[0]} could not be run ({error}); give another with --cc") from error
    if done.returncode:
        lines = done.stderr.splitlines()
        first = next((line for line in lines if "error" in line), lines[0] if lines else f"exit code {done.returncode}")
        raise UsageError(f"the compiler {command[0]} failed: {' '.join(first.split())[:300]}; give another with --cc")
    return done.stdout
