/* fashion-mnist: dense layers 784-300-100-10, in integers. Written by toolkit 0.1.0; do not edit.
 *
 * Every call gives the same bits as the int8 ONNX file that this was made from, on every CPU and with every
 * compiler that keeps to IEEE 754 (so no -ffast-math, nor a part of it). Functions keep nothing between calls, and
 * may run in several threads at once. No pointer may be NULL; none has to be aligned.
 *
 * Flash: 285,992 bytes of constants, and the code. RAM: 2,480 bytes a call, see struct fashion_mnist_scratch.
 */
#ifndef FASHION_MNIST_MODEL_H
#define FASHION_MNIST_MODEL_H

#include <stdint.h>

#define FASHION_MNIST_TOOLKIT_VERSION "0.1.0"
/* Of the bytes of the int8 ONNX file. */
#define FASHION_MNIST_SOURCE_SHA256 "f44bb01b4fc5b5167642103f0d96f23d8f5da717759a4059bd55df18132a376a"
/* 28 x 28 values of uint8_t; a value is 3.921569e-03f * (it - 0) to the model. */
#define FASHION_MNIST_INPUTS 784
#define FASHION_MNIST_OUTPUTS 10
#define FASHION_MNIST_CONSTANT_BYTES 285992
#define FASHION_MNIST_SCRATCH_BYTES 2480

#ifdef __cplusplus
extern "C" {
#endif

extern const char *const fashion_mnist_class_names[FASHION_MNIST_OUTPUTS];

/* Room for one call; nothing has to be set in it. Behind a layer's values are zeros, up to the width of its rows of
 * weights. What a unit gave stays readable after the call. */
struct fashion_mnist_scratch {
    int32_t sums[300];
    uint8_t input[832]; /* 784 values, 3.921569e-03f * (it - 0) each */
    uint8_t hidden_1[320]; /* 300 values, 3.3563863e-02f * (it - 0) each */
    uint8_t hidden_2[128]; /* 100 values, 3.569457e-02f * (it - 0) each */
};

/* One row to FASHION_MNIST_OUTPUTS floats: the values in front of the softmax, whose order is that of the probabilities. */
void fashion_mnist_logits(const uint8_t *image, float *logits);

/* The same in room of yours, where the stack is small. */
void fashion_mnist_logits_in(struct fashion_mnist_scratch *scratch, const uint8_t *image, float *logits);

/* The class of the largest logit, 0 to OUTPUTS - 1; the first of equal ones. */
int fashion_mnist_classify(const uint8_t *image);

#ifdef __cplusplus
}
#endif

#endif /* FASHION_MNIST_MODEL_H */
