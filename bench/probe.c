/* What one core can do at most: reads of weights from whatever cache holds them, and multiply-adds in registers. */

#include <stddef.h>

typedef float vec __attribute__((vector_size(VECTOR_BYTES)));

enum { LANES = VECTOR_BYTES / sizeof(float), READERS = 8 };

static volatile float sink, half = 0.5f;

/* `count` floats, a multiple of READERS vectors. */
static void read_floats(const float *data, size_t count)
{
    const vec *v = (const vec *)data;
    vec sum[READERS] = {{0}};
    for (size_t i = 0; i < count / LANES; i += READERS)
#pragma GCC unroll 8
        for (int j = 0; j < READERS; j++)
            sum[j] += v[i + j];
    for (int j = 0; j < READERS; j++)
        sink = sum[j][0];
}

/* In CHAINS chains that do not wait for each other, of numbers that the compiler cannot know. */
static void multiply_add(size_t macs)
{
    vec chain[CHAINS], a = {0}, b = {0};
    a += half;
    b += half;
    for (int j = 0; j < CHAINS; j++)
        chain[j] = a * (float)j;
    for (size_t i = 0; i < macs / (CHAINS * LANES); i++)
#pragma GCC unroll 32
        for (int j = 0; j < CHAINS; j++)
            chain[j] = chain[j] * a + b;
    for (int j = 0; j < CHAINS; j++)
        sink = chain[j][0];
}

void probe_step(const float *data, size_t count, size_t macs, size_t times)
{
    for (size_t i = 0; i < times; i++) {
        if (count)
            read_floats(data, count);
        if (macs)
            multiply_add(macs);
        __asm__ volatile("" ::: "memory");
    }
}
