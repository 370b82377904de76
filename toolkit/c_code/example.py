"""An example program around the model, and the lines of a Makefile that build it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toolkit.c_code.chain import Chain
    from toolkit.c_code.source import CSource

__all__ = ["main_c", "makefile"]

_PGM = """\
/* A picture in the binary PGM format ("P5"), as most programs for pictures write it: reads what is in front of the
 * pixels, and says whether it has the model's size. Anything else is taken for the row's bytes themselves. */
static int fits(FILE *file)
{
    int numbers[3] = {0, 0, 0}, found = 0;
    if (fgetc(file) != 'P' || fgetc(file) != '5') {
        rewind(file);
        return 1;
    }
    while (found < 3) { /* width, height, largest value; "#" begins a comment */
        int c = fgetc(file);
        if (c == EOF)
            return 0;
        if (c == '#')
            while (c != '\\n' && c != EOF)
                c = fgetc(file);
        else if (c >= '0' && c <= '9') {
            for (; c >= '0' && c <= '9' && numbers[found] < 10000; c = fgetc(file))
                numbers[found] = numbers[found] * 10 + c - '0';
            found++; /* the one white space behind it is read too */
        }
    }
    return numbers[0] == WIDTH && numbers[1] == HEIGHT && numbers[2] == 255;
}

"""


def main_c(chain: Chain, source: CSource) -> str:
    """Text of main.c: reads a row from a file, and prints what the model says of it."""
    name, upper = source.name, source.name.upper()
    picture = chain.input_dtype == "uint8" and len(chain.input_shape) >= 2 and chain.input_shape[2:] in ((), (1,))
    what = "picture" if picture else "row"
    usage = f"of {chain.inputs} values of {source.input_type}"
    if picture:
        usage += f", or a PGM picture of {chain.input_shape[1]} x {chain.input_shape[0]}"
    lines = [
        f"/* Reads a {what} from a file and prints what the model says of it:  ./{name} FILE",
        f" * FILE is the row's {chain.inputs} values as they lie in memory"
        + (", or a binary PGM of that size." if picture else "."),
        " */",
        "#include <stdio.h>",
        "",
        '#include "model.h"',
        "",
    ]
    text = "\n".join(lines) + "\n"
    if picture:
        height, width = chain.input_shape[:2]
        text += _PGM.replace("WIDTH", str(width)).replace("HEIGHT", str(height))
    body = [
        "int main(int argc, char **argv)",
        "{",
        f"    static {source.input_type} row[{upper}_INPUTS];",
        f"    float answer[{upper}_OUTPUTS];",
        '    FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;',
        f"    if (file == NULL{' || !fits(file)' if picture else ''} ||",
        f"        fread(row, sizeof row[0], {upper}_INPUTS, file) != {upper}_INPUTS) {{",
        f'        fprintf(stderr, "usage: %s FILE, {usage}\\n", argv[0]);',
        "        return 2;",
        "    }",
        "    fclose(file);",
        f"    {name}_{source.answer}(row, answer);",
    ]
    if chain.class_names:
        body.append(f'    printf("%s\\n", {name}_class_names[{name}_classify(row)]);')
    elif source.decides:
        body.append(f'    printf("%d\\n", {name}_classify(row));')
    body += [
        f"    for (int i = 0; i < {upper}_OUTPUTS; i++)",
        (
            f'        printf("%12.6f  %s\\n", (double)answer[i], {name}_class_names[i]);'
            if chain.class_names
            else '        printf("%12.6f\\n", (double)answer[i]);'
        ),
        "    return 0;",
        "}",
    ]
    return text + "\n".join(body) + "\n"


def makefile(source: CSource) -> str:
    """Text of model.mk, which ``make -f model.mk`` takes, or a Makefile of one's own includes."""
    name = source.name
    return f"""\
# make -f model.mk            builds ./{name}, which says what the model makes of a file
# make -f model.mk CC=aarch64-linux-gnu-gcc MODEL_CFLAGS="-O3 -mcpu=cortex-a72"    for another CPU
#
# -O3 and the CPU's name let the compiler use its vector instructions: on a small CPU that is most of the speed. Never
# -ffast-math or -Ofast, which change the answers; model.c refuses them.
MODEL_CFLAGS ?= -O3 -march=native

{name}: main.c model.c model.h
\t$(CC) -std=c99 $(MODEL_CFLAGS) $(CFLAGS) -o $@ main.c model.c $(LDFLAGS) -lm
"""
