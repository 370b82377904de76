/* The functions of kernel.c around the code that `toolkit export --c` wrote, so that both are called alike. */
#include "model.h"

/* The label of one raw image. */
int classify(const uint8_t *image) { return CLASSIFY(image); }

/* The labels of n raw images, by as many threads as OpenMP was told. */
void classify_batch(const uint8_t *images, int64_t n, int64_t *labels) {
#pragma omp parallel for schedule(static) if (n > 8)
    for (int64_t i = 0; i < n; i++) labels[i] = CLASSIFY(images + i * PIXELS);
}
