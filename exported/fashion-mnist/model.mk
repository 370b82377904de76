# make -f model.mk            builds ./fashion_mnist, which says what the model makes of a file
# make -f model.mk CC=aarch64-linux-gnu-gcc MODEL_CFLAGS="-O3 -mcpu=cortex-a72"    for another CPU
#
# -O3 and the CPU's name let the compiler use its vector instructions: on a small CPU that is most of the speed. Never
# -ffast-math or -Ofast, which change the answers; model.c refuses them.
MODEL_CFLAGS ?= -O3 -march=native

fashion_mnist: main.c model.c model.h
	$(CC) -std=c99 $(MODEL_CFLAGS) $(CFLAGS) -o $@ main.c model.c $(LDFLAGS) -lm
