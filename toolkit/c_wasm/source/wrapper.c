/* model.c as WebAssembly: where its input, its answer and its layers are, and a call that takes nothing.
 *
 * MODEL_SCRATCH, MODEL_RUN and MODEL_LAYERS come from model.h, MODEL_INPUT_TYPE, MODEL_INPUTS and MODEL_OUTPUTS too.
 * MODEL_CLASSIFY, where it is given, is the function that says a label; it has its scratch on the stack.
 */
#ifdef __wasm_simd128__
#include "dense_simd.c"
#endif
#include "model.c"

#define EXPORTED(name) __attribute__((export_name(#name))) name

static MODEL_SCRATCH scratch MODEL_ALIGNED;
static MODEL_INPUT_TYPE row[MODEL_INPUTS] MODEL_ALIGNED;
static float answer[MODEL_OUTPUTS] MODEL_ALIGNED;

void *EXPORTED(input)(void)
{
    return row;
}

unsigned EXPORTED(input_bytes)(void)
{
    return sizeof row;
}

float *EXPORTED(output)(void)
{
    return answer;
}

unsigned EXPORTED(outputs)(void)
{
    return MODEL_OUTPUTS;
}

/* What layer `at` gave in the last run, as uint8; 0 is the input. */
uint8_t *EXPORTED(layer)(int at)
{
    uint8_t *const layers[] = {MODEL_LAYERS};
    return layers[at];
}

void EXPORTED(run)(void)
{
    MODEL_RUN(&scratch, row, answer);
}

#ifdef MODEL_CLASSIFY
int EXPORTED(label)(void)
{
    return MODEL_CLASSIFY(row);
}
#endif

/* Compilers call these where they see a loop that is one of them, and here is no C library that has them. */
void *memset(void *to, int value, unsigned long count)
{
    unsigned char *bytes = to;
    while (count--)
        *bytes++ = (unsigned char)value;
    return to;
}

void *memcpy(void *to, const void *from, unsigned long count)
{
    unsigned char *bytes = to;
    const unsigned char *read = from;
    while (count--)
        *bytes++ = *read++;
    return to;
}
