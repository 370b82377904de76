"""The text of model.h."""

from __future__ import annotations

from string import Template
from typing import TYPE_CHECKING

from toolkit import __version__
from toolkit.c_code.layout import number

if TYPE_CHECKING:
    from toolkit.c_code.layout import Layout

__all__ = ["header_text"]

_HEADER = Template("""\
/* $artifact: $title, in integers. Written by toolkit $version; do not edit.
 *
 * Every call gives the same bits as the int8 ONNX file that this was made from, on every CPU and with every
 * compiler that keeps to IEEE 754 (so no -ffast-math, nor a part of it; clang does not let model.c refuse
 * -funsafe-math-optimizations, -freciprocal-math and -fassociative-math where they are given alone: do not). Functions
 * keep nothing between calls, and may run in several threads at once. No pointer may be NULL; rows and answers may lie
 * at any address, a scratch where its struct may.
 *
 * Flash: $flash_said bytes of constants, and the code. RAM: $ram_said bytes a call, see struct ${name}_scratch.
 */
#ifndef ${upper}_MODEL_H
#define ${upper}_MODEL_H

#include <stdint.h>

#define ${upper}_TOOLKIT_VERSION "$version"
/* Of the bytes of the int8 ONNX file. */
#define ${upper}_SOURCE_SHA256 "$sha256"
/* $taken */
#define ${upper}_INPUTS $inputs
#define ${upper}_OUTPUTS $outputs
#define ${upper}_CONSTANT_BYTES $flash
#define ${upper}_SCRATCH_BYTES $ram

#ifdef __cplusplus
extern "C" {
#endif
$class_names
/* Room for one call; nothing has to be set in it. Behind a layer's values are zeros, up to the width of its rows of
 * weights. What a unit gave stays readable after the call. */
struct ${name}_scratch {
    int32_t sums[$sums];
$buffers
};

/* One row to ${upper}_OUTPUTS floats: $behind. */
void ${name}_$answer($arguments);

/* The same in room of yours, where the stack is small. */
void ${name}_${answer}_in(struct ${name}_scratch *scratch, $arguments);
$classify
#ifdef __cplusplus
}
#endif

#endif /* ${upper}_MODEL_H */
""")

_BEHIND = {
    "Softmax": "the values in front of the softmax, whose order is that of the probabilities",
    "Sigmoid": "the values in front of the sigmoid; 0 or more is a probability of one half or more",
    None: "the model's answers",
}
_DECISIONS = {
    "classification": "The class of the largest logit, 0 to OUTPUTS - 1; the first of equal ones.",
    "binary": "1 for yes (a probability of one half or more), 0 for no.",
}


def header_text(layout: Layout) -> str:
    """The text of model.h for a chain."""
    chain = layout.chain
    names = (
        f"\nextern const char *const {layout.name}_class_names[{layout.upper}_OUTPUTS];\n" if chain.class_names else ""
    )
    classify = ""
    if layout.decides:
        given = f"const {layout.input_type} *{layout.input}"
        classify = (
            f"\n/* {_DECISIONS[chain.task]} */\nint {layout.name}_classify({given});\n"
            f"\n/* The same in room of yours. */\n"
            f"int {layout.name}_classify_in(struct {layout.name}_scratch *scratch, {given});\n"
        )
    return _HEADER.substitute(
        artifact=layout.artifact,
        title=layout.title,
        version=__version__,
        name=layout.name,
        upper=layout.upper,
        flash=layout.flash_bytes,
        flash_said=f"{layout.flash_bytes:,}",
        ram=layout.ram_bytes,
        ram_said=f"{layout.ram_bytes:,}",
        sha256=chain.source_sha256,
        taken=_taken(layout),
        inputs=chain.inputs,
        outputs=chain.outputs,
        class_names=names,
        sums=layout.sums,
        buffers="\n".join(_buffer(layout, at) for at in range(len(chain.layers))),
        behind=_BEHIND[chain.end],
        answer=layout.answer,
        arguments=layout.arguments,
        classify=classify,
    )


def _taken(layout: Layout) -> str:
    chain = layout.chain
    shape = " x ".join(str(size) for size in chain.input_shape)
    if chain.input_dtype == "float32":
        return f"{shape} values of float, as the Keras model takes them; they are quantized here."
    if chain.input_table is not None:
        return f"{shape} values of {layout.input_type}, which are scaled as the int8 ONNX file does."
    zero = chain.input_zero_point - (128 if chain.input_dtype == "int8" else 0)
    return (
        f"{shape} values of {layout.input_type}; a value is {number(chain.input_scale)} * (it - {zero}) to the model."
    )


def _buffer(layout: Layout, at: int) -> str:
    layer, width = layout.chain.layers[at], layout.widths[at]
    zero = layout.chain.input_zero_point
    if at and (then := layout.chain.layers[at - 1].then) is not None:
        zero = then.zero_point
    unit = f"{number(layer.input_scale)} * (it - {zero}) each"
    return f"    uint8_t {layout.buffer(at)}[{width}]; /* {layer.inputs} values, {unit} */"
