/* Rows from stdin, answers to stdout, both byte for byte as this machine has them in memory; with an argument, each
 * answer with the label that the model's other function gives, an int32, behind it.
 */
#include <stdio.h>

#include "rows.h"

#define ROW (INPUTS * sizeof(VALUE))
#define GIVEN (OUTPUTS * sizeof(float))

/* Each row lies otherwise than the one before, since nothing has to be aligned. */
static unsigned char row[ROW + 7], answer[GIVEN + 7];

int main(int count, char **arguments)
{
    (void)arguments;
    for (unsigned at = 0; fread(row + at, ROW, 1, stdin) == 1; at = (at + 1) % 8) {
        ANSWER((const VALUE *)(const void *)(row + at), (float *)(void *)(answer + at));
        if (fwrite(answer + at, GIVEN, 1, stdout) != 1)
            return 2;
#ifdef CLASSIFY
        if (count > 1) {
            const int32_t label = CLASSIFY((const VALUE *)(const void *)(row + at));
            if (fwrite(&label, sizeof label, 1, stdout) != 1)
                return 2;
        }
#else
        (void)count;
#endif
    }
    return ferror(stdin) || fflush(stdout) ? 2 : 0;
}
