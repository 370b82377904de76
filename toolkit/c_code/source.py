"""Writes a chain down as C99: model.h and model.c, for a person to read and a compiler to vectorize."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toolkit import __version__
from toolkit.c_code.names import identifier, text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from toolkit.c_code.chain import Chain, Dense, Requantization

__all__ = ["CSource", "write_source"]

ALIGNMENT = 64
"""Bytes: rows of weights are padded to it, so that the widest registers of today load them whole, with no rest."""

ROWS = 4
"""Rows of weights that are summed side by side: each value of the input is then loaded once for four."""

_LINE = 110
_TYPES = {"uint8": "uint8_t", "int8": "int8_t", "float32": "float"}


@dataclass(frozen=True)
class CSource:
    """The files, and what they need.

    Attributes:
        name: what every C name begins with.
        header: text of model.h.
        code: text of model.c.
        flash_bytes: constants: weights with their padding, biases, multipliers.
        ram_bytes: what a call needs beside its arguments.
    """

    name: str
    header: str
    code: str
    flash_bytes: int
    ram_bytes: int


def write_source(chain: Chain, name: str) -> CSource:
    """A chain as C.

    Args:
        chain: what to compute.
        name: of the artifact; what C names allow of it begins every name.
    """
    return _Writer(chain, identifier(name)).source(name)


def _up(count: int, to: int) -> int:
    return -(-count // to) * to


def number(value: np.float32) -> str:
    """A float32 that reads back as the same bits."""
    shortest = np.format_float_scientific(value, unique=True, trim="0")
    return f"{shortest}f"


class _Writer:
    def __init__(self, chain: Chain, prefix: str) -> None:
        self.chain, self.prefix, self.upper = chain, prefix, prefix.upper()
        self.decides = chain.task in ("classification", "binary") and (chain.outputs > 1 or chain.task == "binary")
        self.answer = "logits" if chain.end or chain.task == "classification" else "values"
        self.input_type = _TYPES[chain.input_dtype]
        # One buffer for each layer's input, padded as the rows of its weights are.
        self.padded = [_up(layer.inputs, ALIGNMENT) for layer in chain.layers]
        self.sums = max(_up(layer.outputs, ROWS) for layer in chain.layers)

    def source(self, artifact: str) -> CSource:
        layers = list(enumerate(self.chain.layers))
        flash = sum(
            _up(layer.outputs, ROWS) * (self.padded[at] + 4) + 4 * len(layer.multipliers) for at, layer in layers
        )
        ram = sum(self.padded) + 4 * self.sums
        return CSource(self.prefix, self.header(artifact, flash, ram), self.code(artifact), flash, ram)

    # ---- model.h

    def header(self, artifact: str, flash: int, ram: int) -> str:
        c, p, u = self.chain, self.prefix, self.upper
        shape = " x ".join(str(size) for size in c.input_shape) or "1"
        taken = (
            "as the model takes them, which are quantized here"
            if c.input_dtype == "float32"
            else f"the model's own units are {number(c.input_scale)} * (value - {self.input_zero})"
        )
        behind = {
            "Softmax": "the values in front of the softmax: their order is that of the probabilities",
            "Sigmoid": "the values in front of the sigmoid: above 0 is a probability above one half",
            None: "the model's answers",
        }[c.end]
        lines = [
            f"/* {artifact}: {self.title}, in integers. Written by toolkit {__version__}; do not edit.",
            " *",
            " * Every call gives the same bits as the int8 ONNX file that this was made from, on every CPU and with every",
            " * compiler that keeps to IEEE 754 (no -ffast-math). Functions keep nothing between calls and may run in",
            " * several threads at once. No pointer may be NULL; none has to be aligned.",
            f" * Flash: {flash:,} bytes of constants and the code. RAM: {ram:,} bytes, see struct {p}_scratch.",
            " */",
            f"#ifndef {u}_MODEL_H",
            f"#define {u}_MODEL_H",
            "",
            "#include <stdint.h>",
            "",
            f'#define {u}_TOOLKIT_VERSION "{__version__}"',
            "/* Of the bytes of the int8 ONNX file. */",
            f'#define {u}_SOURCE_SHA256 "{c.source_sha256}"',
            f"#define {u}_INPUTS {c.inputs} /* {shape} values of {self.input_type}; {taken} */",
            f"#define {u}_OUTPUTS {c.outputs}",
            f"#define {u}_CONSTANT_BYTES {flash}",
            f"#define {u}_SCRATCH_BYTES {ram}",
            "",
            "#ifdef __cplusplus",
            'extern "C" {',
            "#endif",
            "",
            *self.names_declared(),
            "/* Room for one call. Each layer's input stays in it until the next one: what a unit of hidden layer 1 gave is",
            *(f" * {line}" for line in self.scratch_note()),
            " */",
            f"struct {p}_scratch {{",
            f"    int32_t sums[{self.sums}];",
            *(
                f"    uint8_t {self.buffer(at)}[{size}]; /* {layer.inputs} values, the rest 0 */"
                for at, (size, layer) in enumerate(zip(self.padded, c.layers, strict=True))
            ),
            "};",
            "",
            f"/* One row to {u}_OUTPUTS floats: {behind}. */",
            f"void {p}_{self.answer}({self.arguments()});",
            "",
            f"/* The same, in room of yours: for small stacks. {u}_SCRATCH_BYTES bytes; nothing has to be set in it. */",
            f"void {p}_{self.answer}_in(struct {p}_scratch *scratch, {self.arguments()});",
        ]
        if self.decides:
            lines += [
                "",
                f"/* {self.decision_note()} */",
                f"int {p}_classify(const {self.input_type} *{self.input_name});",
            ]
        lines += ["", "#ifdef __cplusplus", "}", "#endif", "", f"#endif /* {u}_MODEL_H */", ""]
        return "\n".join(lines)

    @property
    def title(self) -> str:
        sizes = [self.chain.inputs, *(layer.outputs for layer in self.chain.layers)]
        return "dense layers " + "-".join(str(size) for size in sizes)

    @property
    def input_zero(self) -> int:
        return self.chain.input_zero_point - (128 if self.chain.input_dtype == "int8" else 0)

    @property
    def input_name(self) -> str:
        return "image" if len(self.chain.input_shape) > 1 else "input"

    def arguments(self) -> str:
        return f"const {self.input_type} *{self.input_name}, float *{self.answer}"

    def buffer(self, at: int) -> str:
        return f"hidden_{at}" if at else "input"

    def scratch_note(self) -> list[str]:
        if len(self.chain.layers) == 1:
            return ["not there: the model has one layer."]
        then = self.chain.layers[0].then
        assert then is not None
        return [f"{number(then.scale)} * (hidden_1[unit] - {then.zero_point}), in the Keras layer's units."]

    def names_declared(self) -> list[str]:
        if not self.chain.class_names:
            return []
        return [f"extern const char *const {self.prefix}_class_names[{self.upper}_OUTPUTS];", ""]

    def decision_note(self) -> str:
        if self.chain.task == "binary":
            return "1 if the answer is yes, else 0."
        return "The class of the largest logit, 0 to OUTPUTS - 1; the first of equal ones."

    # ---- model.c

    def code(self, artifact: str) -> str:
        c, p = self.chain, self.prefix
        lines = [
            f"/* {artifact}: {self.title}, in integers. Written by toolkit {__version__}; do not edit.",
            " *",
            " * A layer takes uint8 values q of real value scale * (q - zero_point), multiplies them with int8 weights and",
            " * sums in int32, exactly. Its bias holds the Keras layer's, in the sums' steps, less zero_point times the sum",
            " * of the row's weights, so that no zero point is left in the loop. A sum times its multiplier, rounded to the",
            " * nearest whole number (ties to even), is the next layer's input.",
            " */",
            '#include "model.h"',
            "",
            "#if defined(__FAST_MATH__)",
            '#error "compile without -ffast-math (-Ofast): it changes how floats are rounded, and the answers with it"',
            "#endif",
            "",
            "/* The one function that is needed from outside: round to nearest, ties to even. */",
            "#ifndef MODEL_RINT",
            "#include <math.h>",
            "#define MODEL_RINT(x) rintf(x)",
            "#endif",
            "",
            "/* Speeds up whole vectors; nothing depends on it. */",
            "#if defined(__GNUC__)",
            f"#define MODEL_ALIGNED __attribute__((aligned({ALIGNMENT})))",
            "#else",
            "#define MODEL_ALIGNED",
            "#endif",
            "",
        ]
        if c.class_names:
            names = ", ".join(text(name) for name in c.class_names)
            lines += [
                f"const char *const {p}_class_names[{self.upper}_OUTPUTS] = {{",
                *_wrapped(names.split(", ")),
                "};",
                "",
            ]
        for at, layer in enumerate(c.layers):
            lines += self.constants(at, layer)
        lines += self.helpers()
        lines += self.functions()
        return "\n".join(lines) + "\n"

    def constants(self, at: int, layer: Dense) -> list[str]:
        rows, width = _up(layer.outputs, ROWS), self.padded[at]
        weights = np.zeros((rows, width), np.int8)
        weights[: layer.outputs, : layer.inputs] = layer.weights
        bias = np.zeros(rows, np.int32)
        bias[: layer.outputs] = layer.bias
        scales = number(layer.weight_scales[0]) if len(layer.weight_scales) == 1 else "one an output"
        lines = [
            f"/* Layer {at + 1}, {layer.name}: {layer.inputs} inputs, {layer.outputs} outputs. Input step "
            f"{number(layer.input_scale)}, weight step {scales}.",
            f" * Weights: one row an output, padded from {layer.inputs} to {width}; {rows - layer.outputs} rows of padding. */",
            f"static const int8_t weights_{at + 1}[{rows * width}] MODEL_ALIGNED = {{",
        ]
        for row in weights:
            lines += _wrapped(str(value) for value in row)
        lines += ["};", f"static const int32_t bias_{at + 1}[{rows}] MODEL_ALIGNED = {{"]
        lines += _wrapped(str(value) for value in bias)
        of = "input step * weight step"
        if layer.then is not None and not layer.then.two_steps:
            of += f" / {number(layer.then.scale)}, the step of what it gives"
        lines += [
            "};",
            f"/* {of}. */",
            *self.multipliers(at, layer),
            "",
        ]
        return lines

    def multipliers(self, at: int, layer: Dense) -> list[str]:
        if len(layer.multipliers) == 1:
            return [f"static const float multiplier_{at + 1} = {number(layer.multipliers[0])};"]
        return [
            f"static const float multipliers_{at + 1}[{layer.outputs}] = {{",
            *_wrapped(number(value) for value in layer.multipliers),
            "};",
        ]

    def helpers(self) -> list[str]:
        lines = [
            "/* sums[r] = bias[r] + row r of weights * input; width is a multiple of the padding, rows of four. */",
            "static void dense(int32_t *sums, const uint8_t *input, const int8_t *weights, const int32_t *bias, int rows,",
            "                  int width)",
            "{",
            "    for (int row = 0; row < rows; row += 4) {",
            "        const int8_t *w0 = weights + (long)row * width;",
            "        const int8_t *w1 = w0 + width, *w2 = w1 + width, *w3 = w2 + width;",
            "        int32_t s0 = bias[row], s1 = bias[row + 1], s2 = bias[row + 2], s3 = bias[row + 3];",
            "        for (int i = 0; i < width; i++) {",
            "            s0 += input[i] * w0[i];",
            "            s1 += input[i] * w1[i];",
            "            s2 += input[i] * w2[i];",
            "            s3 += input[i] * w3[i];",
            "        }",
            "        sums[row] = s0;",
            "        sums[row + 1] = s1;",
            "        sums[row + 2] = s2;",
            "        sums[row + 3] = s3;",
            "    }",
            "}",
            "",
        ]
        if self.chain.input_dtype == "float32" or any(layer.then for layer in self.chain.layers):
            lines += [
                "/* value, in steps, to the uint8 that stands for it. What is no number becomes the least. */",
                "static uint8_t to_uint8(float value, int zero_point)",
                "{",
                "    const float least = (float)-zero_point, most = (float)(255 - zero_point);",
                "    value = value > least ? value : least;",
                "    value = value < most ? value : most;",
                "    return (uint8_t)((int)MODEL_RINT(value) + zero_point);",
                "}",
                "",
            ]
        return lines

    def functions(self) -> list[str]:
        c, p = self.chain, self.prefix
        head = f"void {p}_{self.answer}_in(struct {p}_scratch *scratch, {self.arguments()})"
        lines = [head, "{", *self.take_input()]
        for at, layer in enumerate(c.layers):
            lines += self.layer(at, layer)
        lines += [
            "}",
            "",
            f"void {p}_{self.answer}({self.arguments()})",
            "{",
            f"    struct {p}_scratch scratch MODEL_ALIGNED;",
            f"    {p}_{self.answer}_in(&scratch, {self.input_name}, {self.answer});",
            "}",
        ]
        if self.decides:
            lines += ["", f"int {p}_classify(const {self.input_type} *{self.input_name})", "{"]
            lines += [
                f"    float logits[{self.upper}_OUTPUTS];",
                f"    {p}_{self.answer}({self.input_name}, logits);",
            ]
            if c.task == "binary" and c.outputs == 1:
                lines += ["    return logits[0] > 0;", "}"]
            else:
                lines += [
                    "    int best = 0;",
                    f"    for (int i = 1; i < {self.upper}_OUTPUTS; i++)",
                    "        if (logits[i] > logits[best])",
                    "            best = i;",
                    "    return best;",
                    "}",
                ]
        return lines

    def take_input(self) -> list[str]:
        c, u = self.chain, self.upper
        lines = []
        if c.input_dtype == "float32":
            lines += [
                "    /* Byte by byte, since a float that is not aligned must not be read as one. */",
                f"    const unsigned char *bytes = (const unsigned char *){self.input_name};",
                f"    for (int i = 0; i < {u}_INPUTS; i++) {{",
                "        float value;",
                "        unsigned char *to = (unsigned char *)&value;",
                "        for (unsigned b = 0; b < sizeof value; b++)",
                "            to[b] = bytes[(unsigned)i * sizeof value + b];",
                f"        scratch->input[i] = to_uint8(value / {number(c.input_scale)}, {c.input_zero_point});",
                "    }",
            ]
        else:
            value = f"{self.input_name}[i]"
            if c.input_dtype == "int8":
                lines.append("    /* The same steps, from 0: 128 more than int8 has. */")
                value = f"(uint8_t)({value} + 128)"
            lines += [f"    for (int i = 0; i < {u}_INPUTS; i++)", f"        scratch->input[i] = {value};"]
        if self.padded[0] > c.inputs:
            lines += [
                f"    for (int i = {u}_INPUTS; i < {self.padded[0]}; i++)",
                "        scratch->input[i] = 0;",
            ]
        return lines

    def layer(self, at: int, layer: Dense) -> list[str]:
        number_, rows = at + 1, _up(layer.outputs, ROWS)
        each = f"multipliers_{number_}[i]" if len(layer.multipliers) > 1 else f"multiplier_{number_}"
        lines = [
            "",
            f"    /* Layer {number_}, {layer.name}. */",
            f"    dense(scratch->sums, scratch->{self.buffer(at)}, weights_{number_}, bias_{number_}, {rows}, "
            f"{self.padded[at]});",
        ]
        scaled = f"(float)scratch->sums[i] * {each}"
        if layer.then is None:
            return lines + self.give(layer, scaled)
        target, width = f"scratch->{self.buffer(at + 1)}[i]", self.padded[at + 1]
        lines += [
            f"    for (int i = 0; i < {layer.outputs}; i++) {{",
            *self.requantized(target, scaled, layer.then),
            "    }",
        ]
        if width > layer.outputs:
            lines += [f"    for (int i = {layer.outputs}; i < {width}; i++)", f"        {target} = 0;"]
        return lines

    def requantized(self, target: str, scaled: str, then: Requantization) -> list[str]:
        if not then.two_steps:
            return [f"        {target} = to_uint8({scaled}, {then.zero_point});"]
        lines = [f"        float value = {scaled};"]
        for bound, sign in ((then.floor, ">"), (then.ceiling, "<")):
            if bound is not None:
                lines.append(f"        value = value {sign} {number(bound)} ? value : {number(bound)};")
        lines.append(f"        {target} = to_uint8(value / {number(then.scale)}, {then.zero_point});")
        return [f"        {line.strip()}" for line in lines]

    def give(self, layer: Dense, scaled: str) -> list[str]:
        return [
            f"    for (int i = 0; i < {layer.outputs}; i++) {{",
            f"        const float value = {scaled};",
            "        const unsigned char *from = (const unsigned char *)&value;",
            f"        unsigned char *to = (unsigned char *)({self.answer} + i);",
            "        for (unsigned b = 0; b < sizeof value; b++)",
            "            to[b] = from[b];",
            "    }",
        ]


def _wrapped(values: Iterable[str]) -> list[str]:
    """Values with commas, in lines of a readable length."""
    lines, line = [], "   "
    for value in values:
        if len(line) + len(value) + 2 > _LINE:
            lines.append(line)
            line = "   "
        line += f" {value},"
    return [*lines, line]
