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

__all__ = ["Built", "build_library", "wrapper_text"]

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
# Documentation/arch/arm64/elf_hwcaps.rst).
_FEATURES = {
    "__SSE4_2__": "sse4_2", "__AVX__": "avx", "__AVX2__": "avx2", "__FMA__": "fma", "__F16C__": "f16c",
    "__BMI__": "bmi1", "__BMI2__": "bmi2", "__AVX512F__": "avx512f", "__AVX512BW__": "avx512bw",
    "__AVX512VL__": "avx512vl", "__AVX512DQ__": "avx512dq", "__AVX512CD__": "avx512cd",
    "__AVX512VNNI__": "avx512_vnni", "__AVXVNNI__": "avx_vnni", "__AVX512VBMI__": "avx512vbmi",
    "__AVX512VBMI2__": "avx512_vbmi2", "__AVX512IFMA__": "avx512ifma", "__AVX512BITALG__": "avx512_bitalg",
    "__AVX512VPOPCNTDQ__": "avx512_vpopcntdq", "__AVX512BF16__": "avx512_bf16", "__AVX512FP16__": "avx512_fp16",
    "__ARM_NEON": "asimd", "__ARM_FEATURE_DOTPROD": "asimddp", "__ARM_FEATURE_MATMUL_INT8": "i8mm",
    "__ARM_FEATURE_SVE": "sve", "__ARM_FEATURE_SVE2": "sve2", "__ARM_FEATURE_FP16_VECTOR_ARITHMETIC": "asimdhp",
    "__ARM_FEATURE_CRC32": "crc32", "__ARM_FEATURE_ATOMICS": "atomics", "__ARM_FEATURE_BF16": "bf16",
    "__ARM_FEATURE_QRDMX": "asimdrdm",
}  # fmt: skip
_MACHINES = {"__x86_64__": "x86_64", "__aarch64__": "aarch64", "__s390x__": "s390x"}
_GOLDEN_ROWS = 8
_SECONDS = 120


@dataclass(frozen=True)
class Built:
    """A library, and what must be known of it.

    Attributes:
        path: the file.
        compiler: its first line about itself.
        command: what was run, without the files.
        machine: for which it is, as ``uname -m`` says it.
        cpu_features: that its code may use, as /proc/cpuinfo calls them.
    """

    path: Path
    compiler: str
    command: str
    machine: str
    cpu_features: list[str]


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
        cc: the compiler with flags for its CPU, such as "aarch64-linux-gnu-gcc -mcpu=cortex-a72"; None: the one that is
            found here (the variable CC, cc, gcc or clang), for this very CPU.

    Raises:
        MissingError: there is no compiler.
        UsageError: it fails; with its first error.
    """
    command = _compiler(cc)
    about = _asked(command, "--version").splitlines()
    macros = {line.split()[1] for line in _asked(command, "-dM", "-E", "-x", "c", os.devnull).splitlines() if line}
    machine = next((name for macro, name in _MACHINES.items() if macro in macros), None)
    if machine is None:
        machine = _other_machine(macros)
    features = sorted(name for macro, name in _FEATURES.items() if macro in macros)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        wrapper, made = Path(scratch) / "native.c", Path(scratch) / "model.so"
        wrapper.write_text(wrapper_text(Layout(chain, artifact), rows), encoding="ascii")
        files = [str(wrapper), str(folder / "model.c"), "-I", str(folder), "-o", str(made), "-lm"]
        _run([*command, "-std=c99", "-fPIC", "-shared", "-s", *files])
        os.replace(made, target)  # noqa: PTH105 - a rename within one folder
    return Built(target, about[0] if about else command[0], shlex.join(command), machine, features)


def _compiler(cc: str | None) -> list[str]:
    if cc is not None:
        command = shlex.split(cc)
        if not command:
            raise UsageError("--cc is empty; give a compiler, such as --cc gcc")
        if shutil.which(command[0]) is None:
            raise MissingError(f"the compiler {command[0]} is not found; install it, or give another with --cc")
        return [command[0], "-O3", *command[1:]]
    named = shlex.split(os.environ.get("CC", ""))
    for candidate in ([named] if named else []) + [["cc"], ["gcc"], ["clang"]]:
        if shutil.which(candidate[0]):
            return [candidate[0], "-O3", "-march=native", *candidate[1:]]
    raise MissingError("no C compiler is found; install one (Debian: apt install gcc), or give one with --cc")


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


def _other_machine(macros: set[str]) -> str:
    if "__riscv" in macros:
        return "riscv64"
    return "armv7l" if "__arm__" in macros else "another machine"
