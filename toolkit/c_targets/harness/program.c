/* Rows from stdin, answers to stdout, both byte for byte as this machine has them in memory. */
#include <stdio.h>

#include "rows.h"

#define ROW (INPUTS * sizeof(VALUE))
#define GIVEN (OUTPUTS * sizeof(float))

/* Each row lies otherwise than the one before, since nothing has to be aligned. */
static unsigned char row[ROW + 7], answer[GIVEN + 7];

int main(void)
{
    for (unsigned at = 0; fread(row + at, ROW, 1, stdin) == 1; at = (at + 1) % 8) {
        ANSWER((const VALUE *)(const void *)(row + at), (float *)(void *)(answer + at));
        if (fwrite(answer + at, GIVEN, 1, stdout) != 1)
            return 2;
    }
    return ferror(stdin) || fflush(stdout) ? 2 : 0;
}
