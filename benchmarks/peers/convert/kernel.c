/* The network of an int8 file and nothing else: what a call costs at least on this CPU.

   layers.h holds the file's numbers. Each row of weights belongs to one neuron and is padded with zeros to whole cache
   lines, as the activations are. Four neurons are summed side by side, so that each activation is read once for them;
   gcc makes dot products of 8-bit numbers of the inner loop where the CPU has them. All sums are 32-bit integers, so
   their order does not matter; what follows them is what onnxruntime does: times a scale, round to even, clamp.
*/
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "layers.h"

#define LINE 64

static inline __attribute__((always_inline)) void sums(const uint8_t *restrict x, const int8_t *restrict w,
                                                       const int32_t *restrict bias, int width, int rows,
                                                       int32_t *restrict to) {
    x = __builtin_assume_aligned(x, LINE);
    for (int row = 0; row < rows; row += 4) {
        const int8_t *restrict a = __builtin_assume_aligned(w + (long)row * width, LINE);
        const int8_t *restrict b = __builtin_assume_aligned(a + width, LINE);
        const int8_t *restrict c = __builtin_assume_aligned(b + width, LINE);
        const int8_t *restrict d = __builtin_assume_aligned(c + width, LINE);
        int32_t p = 0, q = 0, r = 0, s = 0;
        for (int i = 0; i < width; i++) {
            p += x[i] * a[i];
            q += x[i] * b[i];
            r += x[i] * c[i];
            s += x[i] * d[i];
        }
        to[row] = p + bias[row];
        to[row + 1] = q + bias[row + 1];
        to[row + 2] = r + bias[row + 2];
        to[row + 3] = s + bias[row + 3];
    }
}

static inline __attribute__((always_inline)) void rounded(const int32_t *restrict from, const float *restrict scale,
                                                          int count, uint8_t *restrict to) {
    for (int i = 0; i < count; i++) {
        float y = rintf((float)from[i] * scale[i]);
        to[i] = (uint8_t)(y < 0.0f ? 0.0f : y > 255.0f ? 255.0f : y);
    }
}

static inline __attribute__((always_inline)) void run(const uint8_t *image, float *restrict logits) {
    _Alignas(LINE) uint8_t x[WIDTH_1] = {0}, first[WIDTH_2] = {0}, second[WIDTH_3] = {0};
    _Alignas(LINE) int32_t total[ROWS_1];
    memcpy(x, image, INPUTS);
    sums(x, weights_1, bias_1, WIDTH_1, ROWS_1, total);
    rounded(total, scale_1, NEURONS_1, first);
    sums(first, weights_2, bias_2, WIDTH_2, ROWS_2, total);
    rounded(total, scale_2, NEURONS_2, second);
    sums(second, weights_3, bias_3, WIDTH_3, ROWS_3, total);
    for (int i = 0; i < NEURONS_3; i++) logits[i] = (float)total[i] * scale_3[i];
}

static inline int largest(const float *logits) {
    int at = 0;
    for (int i = 1; i < NEURONS_3; i++)
        if (logits[i] > logits[at]) at = i;
    return at;
}

/* The label of one raw image of INPUTS pixels. */
int classify(const uint8_t *image) {
    float logits[NEURONS_3];
    run(image, logits);
    return largest(logits);
}

/* The labels of n raw images, by as many threads as OpenMP was told. */
void classify_batch(const uint8_t *images, int64_t n, int64_t *labels) {
#pragma omp parallel for schedule(static) if (n > 8)
    for (int64_t i = 0; i < n; i++) labels[i] = classify(images + i * INPUTS);
}

/* What goes into the softmax, of n raw images. */
void all_logits(const uint8_t *images, int64_t n, float *logits) {
    for (int64_t i = 0; i < n; i++) run(images + i * INPUTS, logits + i * NEURONS_3);
}
