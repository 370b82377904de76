/* model.c's `dense` with WebAssembly's vectors. The bits are the same, since the sums are whole numbers.
 *
 * Compilers turn the loop of model.c into code that is no faster than without vectors: they do not find the one
 * instruction that it takes, which multiplies eight pairs of 16 bits and adds the products by twos.
 */
#include <stdint.h>
#include <wasm_simd128.h>

#define MODEL_DENSE dense
#define ADD_PRODUCTS(sum, row)                                                                    \
    sum = wasm_i32x4_add(sum, wasm_i32x4_dot_i16x8(low, wasm_i16x8_load8x8((row) + i)));          \
    sum = wasm_i32x4_add(sum, wasm_i32x4_dot_i16x8(high, wasm_i16x8_load8x8((row) + i + 8)))

/* Four sums of four numbers each: of a, of b, of c, of d. */
static inline v128_t totals(v128_t a, v128_t b, v128_t c, v128_t d)
{
    const v128_t ab = wasm_i32x4_add(wasm_i32x4_shuffle(a, b, 0, 4, 1, 5), wasm_i32x4_shuffle(a, b, 2, 6, 3, 7));
    const v128_t cd = wasm_i32x4_add(wasm_i32x4_shuffle(c, d, 0, 4, 1, 5), wasm_i32x4_shuffle(c, d, 2, 6, 3, 7));
    return wasm_i32x4_add(wasm_i32x4_shuffle(ab, cd, 0, 1, 4, 5), wasm_i32x4_shuffle(ab, cd, 2, 3, 6, 7));
}

static void dense(int32_t *sums, const uint8_t *input, const int8_t *weights, const int32_t *bias, int rows,
                  int width)
{
    for (int row = 0; row < rows; row += 4) {
        const int8_t *w0 = weights + (long)row * width;
        const int8_t *w1 = w0 + width, *w2 = w1 + width, *w3 = w2 + width;
        v128_t s0 = wasm_i32x4_splat(0), s1 = s0, s2 = s0, s3 = s0;
        for (int i = 0; i < width; i += 16) {
            const v128_t low = wasm_u16x8_load8x8(input + i), high = wasm_u16x8_load8x8(input + i + 8);
            ADD_PRODUCTS(s0, w0);
            ADD_PRODUCTS(s1, w1);
            ADD_PRODUCTS(s2, w2);
            ADD_PRODUCTS(s3, w3);
        }
        wasm_v128_store(sums + row, wasm_i32x4_add(wasm_v128_load(bias + row), totals(s0, s1, s2, s3)));
    }
}
