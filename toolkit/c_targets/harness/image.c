/* A whole image for a Cortex-M, without a C library's start or files. By the debugger's semihosting it reads rows.bin and
 * writes answers.bin (behind each answer its label as an int32, if the model gives labels), and at the end counts.bin:
 * four uint32, see run(). Exit codes: 0 all is well, 2 a file cannot be read or written, 3 the processor faulted.
 */
#include "rows.h"

#define SYSTICK ((volatile uint32_t *)0xE000E010) /* control, reload, current: counts down, 24 bits */
#define CCR (*(volatile uint32_t *)0xE000ED14)
#define CPACR (*(volatile uint32_t *)0xE000ED88)
#define ROW (INPUTS * sizeof(VALUE))
#define GIVEN (OUTPUTS * sizeof(float))
#define PAINT 0xA5A5A5A5u

enum { OPEN = 0x01, WRITE = 0x05, READ = 0x06, EXIT = 0x20, APPLICATION_EXIT = 0x20026 };

/* From the linker script. */
extern uint32_t data_start[], data_end[], data_stored[], bss_start[], bss_end[], stack_top[];

static unsigned char row[ROW + 7], answer[GIVEN + 7];

static uint32_t ask(uint32_t what, const void *with)
{
    register uint32_t r0 __asm__("r0") = what;
    register const void *r1 __asm__("r1") = with;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static void leave(uint32_t code)
{
    const uint32_t with[] = {APPLICATION_EXIT, code};
    for (;;)
        ask(EXIT, with);
}

static uint32_t open(const char *name, uint32_t length, uint32_t mode)
{
    const uint32_t with[] = {(uint32_t)name, mode, length};
    const uint32_t file = ask(OPEN, with);
    if (file == UINT32_MAX)
        leave(2);
    return file;
}

/* Whether all bytes were read or written. */
static int moved(uint32_t what, uint32_t file, const void *bytes, uint32_t count)
{
    const uint32_t with[] = {file, (uint32_t)bytes, count};
    return ask(what, with) == 0;
}

static void run(void)
{
    const uint32_t rows = open("rows.bin", 8, 1), answers = open("answers.bin", 11, 5);
    const uint32_t counts = open("counts.bin", 10, 5);
    uint32_t *const frame = __builtin_frame_address(0), *lowest = bss_end;
    uint64_t ticks = 0;
    uint32_t calls = 0;

    /* The stack is painted, so that what the calls leave of it can be seen. */
    for (uint32_t *word = bss_end; word < frame - 64; word++)
        *word = PAINT;
    for (; moved(READ, rows, row + calls % 8, ROW); calls++) {
        unsigned char *const to = answer + calls % 8;
        const uint32_t begun = SYSTICK[2];
        ANSWER((const VALUE *)(const void *)(row + calls % 8), (float *)(void *)to);
        ticks += (begun - SYSTICK[2]) & 0xFFFFFF;
        if (!moved(WRITE, answers, to, GIVEN))
            leave(2);
#ifdef CLASSIFY
        const int32_t label = CLASSIFY((const VALUE *)(const void *)(row + calls % 8));
        if (!moved(WRITE, answers, &label, sizeof label))
            leave(2);
#endif
    }
    while (*lowest == PAINT)
        lowest++;
    const uint32_t found[] = {calls, (uint32_t)ticks, (uint32_t)(ticks >> 32), (uint32_t)(frame - lowest) * 4};
    if (!moved(WRITE, counts, found, sizeof found))
        leave(2);
    leave(0);
}

static void fault(void)
{
    leave(3);
}

void reset(void)
{
    for (uint32_t *to = data_start, *from = data_stored; to < data_end;)
        *to++ = *from++;
    for (uint32_t *to = bss_start; to < bss_end;)
        *to++ = 0;
#ifdef __ARM_FP
    CPACR |= 0xFu << 20; /* the floating-point unit is off at first */
    __asm__ volatile("dsb\n\tisb");
#endif
#ifndef __ARM_FEATURE_UNALIGNED
    CCR |= 1u << 3; /* what was compiled for a core that cannot do it faults if it tries */
#endif
    SYSTICK[1] = 0xFFFFFF;
    SYSTICK[2] = 0;
    SYSTICK[0] = 5; /* on, by the core's clock */
    run();
}

/* The stack's top, then where to begin, then every fault. */
__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    (const void *)stack_top, (const void *)reset, (const void *)fault, (const void *)fault,
    (const void *)fault,     (const void *)fault, (const void *)fault,
};
