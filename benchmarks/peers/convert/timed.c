/* How long each call of classify() takes, with nothing of Python around it. It stands in a file of its own, so that no
   compiler can pull the function into the loop; the clock's own time is in every sample. */
#define _POSIX_C_SOURCE 199309L
#include <stdint.h>
#include <time.h>

int classify(const uint8_t *image);

static int64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (int64_t)at.tv_sec * 1000000000 + at.tv_nsec;
}

/* Nanoseconds of a call for each of n images that lie `step` bytes apart. */
void time_each(const uint8_t *images, int64_t n, int64_t step, int64_t *nanoseconds) {
    volatile int label;
    for (int64_t i = 0; i < n; i++) {
        int64_t start = now();
        label = classify(images + i * step);
        nanoseconds[i] = now() - start;
    }
    (void)label;
}
