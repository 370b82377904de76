/* Reads a picture from a file and prints what the model says of it:  ./fashion_mnist FILE
 * FILE is the row's 784 values as they lie in memory, or a binary PGM of that size.
 */
#include <stdio.h>

#include "model.h"

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
            while (c != '\n' && c != EOF)
                c = fgetc(file);
        else if (c >= '0' && c <= '9') {
            for (; c >= '0' && c <= '9' && numbers[found] < 10000; c = fgetc(file))
                numbers[found] = numbers[found] * 10 + c - '0';
            found++; /* the one white space behind it is read too */
        }
    }
    return numbers[0] == 28 && numbers[1] == 28 && numbers[2] == 255;
}

int main(int argc, char **argv)
{
    static uint8_t row[FASHION_MNIST_INPUTS];
    float answer[FASHION_MNIST_OUTPUTS];
    FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
    if (file == NULL || !fits(file) ||
        fread(row, sizeof row[0], FASHION_MNIST_INPUTS, file) != FASHION_MNIST_INPUTS) {
        fprintf(stderr, "usage: %s FILE, of 784 values of uint8_t, or a PGM picture of 28 x 28\n", argv[0]);
        return 2;
    }
    fclose(file);
    fashion_mnist_logits(row, answer);
    printf("%s\n", fashion_mnist_class_names[fashion_mnist_classify(row)]);
    for (int i = 0; i < FASHION_MNIST_OUTPUTS; i++)
        printf("%12.6f  %s\n", (double)answer[i], fashion_mnist_class_names[i]);
    return 0;
}
