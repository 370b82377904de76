"""The text of model.c."""

from __future__ import annotations

from string import Template
from typing import TYPE_CHECKING

import numpy as np

from toolkit import __version__
from toolkit.c_code.layout import ALIGNMENT, ROWS, number, up, wrapped
from toolkit.c_code.names import comment, text

if TYPE_CHECKING:
    from toolkit.c_code.chain import Dense, Requantization
    from toolkit.c_code.layout import Layout

__all__ = ["code_text"]

_PREAMBLE = Template("""\
/* $artifact: $title, in integers. Written by toolkit $version; do not edit.
 *
 * A layer takes uint8 values q that stand for scale * (q - zero_point), multiplies them with int8 weights and sums
 * in int32, exactly. Its bias holds the Keras layer's, in steps of the sums, less zero_point times the sum of the
 * row's weights, so that no zero point is left in the loop. A sum times its multiplier, rounded to the nearest whole
 * number (ties to even), is the next layer's input.
 */
#include "model.h"

#if defined(__FAST_MATH__) || defined(__RECIPROCAL_MATH__) || defined(__ASSOCIATIVE_MATH__)
#error "compile without -ffast-math (and -Ofast): they change how floats are rounded, and the answers with it"
#endif
#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ == 2 && (!defined(__STRICT_ANSI__) || defined(__cplusplus))
#error "compile C with -std=c99, or with -mfpmath=sse: else this compiler rounds floats where it likes"
#endif

/* The one function that is needed from outside: to the nearest whole number, ties to even. */
#ifndef MODEL_RINT
#include <math.h>
#define MODEL_RINT(x) rintf(x)
#endif

/* Lets whole vectors be loaded faster; nothing depends on it. */
#if defined(__GNUC__)
#define MODEL_ALIGNED __attribute__((aligned($alignment)))
#else
#define MODEL_ALIGNED
#endif

""")

_WEIGHTS = Template("""\
/* Layer $number, $layer: $inputs inputs, $outputs outputs.
 * Weights: a row an output, padded from $inputs to $width$padding. Weight step: $step. */
static const int8_t weights_$number[$count] MODEL_ALIGNED = {
$weights
};
static const int32_t bias_$number[$rows] MODEL_ALIGNED = {
$bias
};
/* $multiplied */
$multipliers

""")

_DENSE = """\
#ifndef MODEL_DENSE /* who has a faster one defines that, and `dense` with the same sums */
/* sums[row] = bias[row] + that row of weights times the input. Rows come in fours, so that each value of the input is
 * loaded once for four products. */
static void dense(int32_t *sums, const uint8_t *input, const int8_t *weights, const int32_t *bias, int rows,
                  int width)
{
    for (int row = 0; row < rows; row += 4) {
        const int8_t *w0 = weights + (long)row * width;
        const int8_t *w1 = w0 + width, *w2 = w1 + width, *w3 = w2 + width;
        int32_t s0 = bias[row], s1 = bias[row + 1], s2 = bias[row + 2], s3 = bias[row + 3];
        for (int i = 0; i < width; i++) {
            s0 += input[i] * w0[i];
            s1 += input[i] * w1[i];
            s2 += input[i] * w2[i];
            s3 += input[i] * w3[i];
        }
        sums[row] = s0;
        sums[row + 1] = s1;
        sums[row + 2] = s2;
        sums[row + 3] = s3;
    }
}
#endif

"""

_TO_UINT8 = """\
/* A value, in steps, to the uint8 that stands for it. What is no number becomes the least. */
static uint8_t to_uint8(float value, int zero_point)
{
    const float least = (float)-zero_point, most = (float)(255 - zero_point);
    value = value > least ? value : least;
    value = value < most ? value : most;
    return (uint8_t)((int)MODEL_RINT(value) + zero_point);
}

"""

_TAKE = Template("""\
    for (int i = 0; i < $inputs; i++)
        scratch->input[i] = $value;
""")

# Byte by byte, since a float that is not aligned must not be read as one.
_TAKE_FLOATS = Template("""\
    const unsigned char *bytes = (const unsigned char *)$input;
    for (int i = 0; i < $inputs; i++) {
        float value;
        unsigned char *to = (unsigned char *)&value;
        for (unsigned b = 0; b < sizeof value; b++)
            to[b] = bytes[(unsigned)i * sizeof value + b];
        scratch->input[i] = to_uint8(value / input_step, $zero);
    }
""")

_GIVE = Template("""\
    for (int i = 0; i < $outputs; i++) {
        const float value = $scaled;
        const unsigned char *from = (const unsigned char *)&value;
        unsigned char *to = (unsigned char *)($answer + i);
        for (unsigned b = 0; b < sizeof value; b++)
            to[b] = from[b];
    }
""")

_ON_STACK = Template("""\

void ${name}_$answer($arguments)
{
    struct ${name}_scratch scratch MODEL_ALIGNED;
    ${name}_${answer}_in(&scratch, $input, $answer);
}
""")

_CLASSIFY = Template("""\

int ${name}_classify_in(struct ${name}_scratch *scratch, const $input_type *$input)
{
    float $answer[$outputs];
    int best = 0;
    ${name}_${answer}_in(scratch, $input, $answer);
    for (int i = 1; i < $outputs; i++)
        if ($answer[i] > $answer[best])
            best = i;
    return best;
}
""")

_YES_OR_NO = Template("""\

int ${name}_classify_in(struct ${name}_scratch *scratch, const $input_type *$input)
{
    float $answer[1];
    ${name}_${answer}_in(scratch, $input, $answer);
    return $answer[0] >= $threshold;
}
""")

_CLASSIFY_ON_STACK = Template("""\

int ${name}_classify(const $input_type *$input)
{
    struct ${name}_scratch scratch MODEL_ALIGNED;
    return ${name}_classify_in(&scratch, $input);
}
""")


def code_text(layout: Layout) -> str:
    """The text of model.c for a chain."""
    chain = layout.chain
    parts = [
        _PREAMBLE.substitute(artifact=layout.artifact, title=layout.title, version=__version__, alignment=ALIGNMENT)
    ]
    if chain.class_names:
        names = wrapped(text(name) for name in chain.class_names)
        parts.append(f"const char *const {layout.name}_class_names[{layout.upper}_OUTPUTS] = {{\n{names}\n}};\n\n")
    if chain.input_dtype == "float32":
        parts.append(f"static const float input_step = {number(chain.input_scale)};\n\n")
    if chain.input_table is not None:
        table = wrapped(str(value) for value in chain.input_table)
        parts.append(
            f"/* What each byte of the input becomes. */\nstatic const uint8_t input_table[256] = {{\n{table}\n}};\n\n"
        )
    parts += [_constants(layout, at) for at in range(len(chain.layers))]
    parts.append(_DENSE)
    if chain.input_dtype == "float32" or len(chain.layers) > 1:
        parts.append(_TO_UINT8)
    parts.append(
        f"void {layout.name}_{layout.answer}_in(struct {layout.name}_scratch *scratch, {layout.arguments})\n{{\n"
    )
    parts.append(_take(layout))
    parts += [_layer(layout, at) for at in range(len(chain.layers))]
    parts.append("}\n")
    names_in_c = {
        "name": layout.name,
        "answer": layout.answer,
        "arguments": layout.arguments,
        "input": layout.input,
        "input_type": layout.input_type,
        "outputs": chain.outputs,
    }
    parts.append(_ON_STACK.substitute(names_in_c))
    if layout.decides and chain.task == "binary":
        # Without a sigmoid behind them the floats are probabilities.
        parts.append(_YES_OR_NO.substitute(names_in_c, threshold="0.0f" if chain.end else "0.5f"))
    elif layout.decides:
        parts.append(_CLASSIFY.substitute(names_in_c))
    if layout.decides:
        parts.append(_CLASSIFY_ON_STACK.substitute(names_in_c))
    return "".join(parts)


def _constants(layout: Layout, at: int) -> str:
    layer, width = layout.chain.layers[at], layout.widths[at]
    rows = up(layer.outputs, ROWS)
    weights = np.zeros((rows, width), np.int8)
    weights[: layer.outputs, : layer.inputs] = layer.weights
    bias = np.zeros(rows, np.int32)
    bias[: layer.outputs] = layer.bias
    multiplied = "input step * weight step"
    if layer.then is not None and not layer.then.two_steps:
        multiplied += f" / {number(layer.then.scale)}, the step of what it gives"
    added = rows - layer.outputs
    return _WEIGHTS.substitute(
        number=at + 1,
        layer=comment(layer.name),
        inputs=layer.inputs,
        outputs=layer.outputs,
        width=width,
        padding=f", and {added} empty row{'s' if added > 1 else ''}" if added else "",
        step=number(layer.weight_scales[0]) if len(layer.weight_scales) == 1 else "each output has its own",
        count=rows * width,
        weights="\n".join(wrapped(str(value) for value in row) for row in weights),
        rows=rows,
        bias=wrapped(str(value) for value in bias),
        multiplied=multiplied,
        multipliers=_multipliers(at, layer) + _bounds(at, layer.then),
    )


def _multipliers(at: int, layer: Dense) -> str:
    if len(layer.multipliers) == 1:
        return f"static const float multiplier_{at + 1} = {number(layer.multipliers[0])};"
    values = wrapped(number(value) for value in layer.multipliers)
    return f"static const float multipliers_{at + 1}[{layer.outputs}] = {{\n{values}\n}};"


def _bounds(at: int, then: Requantization | None) -> str:
    """What a layer that is quantized in two steps is held between and divided by.

    Named, since a constant in the middle of an expression may be taken in more bits than a float has.
    """
    if then is None or not then.two_steps:
        return ""
    values = {"least": then.floor, "most": then.ceiling, "step": then.scale}
    return "".join(
        f"\nstatic const float {name}_{at + 1} = {number(value)};"
        for name, value in values.items()
        if value is not None
    )


def _take(layout: Layout) -> str:
    chain, inputs = layout.chain, f"{layout.upper}_INPUTS"
    if chain.input_dtype == "float32":
        taken = _TAKE_FLOATS.substitute(input=layout.input, inputs=inputs, zero=chain.input_zero_point)
    elif chain.input_table is not None:
        byte = f"(uint8_t){layout.input}[i]" if chain.input_dtype == "int8" else f"{layout.input}[i]"
        taken = _TAKE.substitute(inputs=inputs, value=f"input_table[{byte}]")
    else:
        # int8 is taken as uint8 by the same steps, counted from 0.
        value = f"(uint8_t)({layout.input}[i] + 128)" if chain.input_dtype == "int8" else f"{layout.input}[i]"
        taken = _TAKE.substitute(inputs=inputs, value=value)
    return taken + _zeros("input", chain.inputs, layout.widths[0])


def _layer(layout: Layout, at: int) -> str:
    layer, width = layout.chain.layers[at], layout.widths[at]
    each = f"multipliers_{at + 1}[i]" if len(layer.multipliers) > 1 else f"multiplier_{at + 1}"
    scaled = f"(float)scratch->sums[i] * {each}"
    summed = (
        f"\n    /* Layer {at + 1}, {comment(layer.name)}. */\n"
        f"    dense(scratch->sums, scratch->{layout.buffer(at)}, weights_{at + 1}, bias_{at + 1}, "
        f"{up(layer.outputs, ROWS)}, {width});\n"
    )
    if layer.then is None:
        return summed + _GIVE.substitute(outputs=f"{layout.upper}_OUTPUTS", scaled=scaled, answer=layout.answer)
    target = layout.buffer(at + 1)
    body = _requantized(at, f"scratch->{target}[i]", scaled, layer.then)
    loop = f"    for (int i = 0; i < {layer.outputs}; i++) {{\n{body}    }}\n"
    return summed + loop + _zeros(target, layer.outputs, layout.widths[at + 1])


def _requantized(at: int, target: str, scaled: str, then: Requantization) -> str:
    if not then.two_steps:
        return f"        {target} = to_uint8({scaled}, {then.zero_point});\n"
    lines = [f"float value = {scaled};"]
    for bound, sign, name in ((then.floor, ">", "least"), (then.ceiling, "<", "most")):
        if bound is not None:
            lines.append(f"value = value {sign} {name}_{at + 1} ? value : {name}_{at + 1};")
    lines.append(f"{target} = to_uint8(value / step_{at + 1}, {then.zero_point});")
    return "".join(f"        {line}\n" for line in lines)


def _zeros(buffer: str, count: int, width: int) -> str:
    if count == width:
        return ""
    return f"    for (int i = {count}; i < {width}; i++)\n        scratch->{buffer}[i] = 0;\n"
