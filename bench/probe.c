/* What one core can do at most: read from whatever cache holds the data, multiply and add in registers, and pass from one
 * h to the next. */

#include <stddef.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

typedef float vec __attribute__((vector_size(VECTOR_BYTES)));
typedef int ivec __attribute__((vector_size(VECTOR_BYTES)));

enum { LANES = VECTOR_BYTES / sizeof(float), READERS = 8 };

static volatile float sink, half = 0.5f;
static volatile int int_sink, two = 2;

/* `bytes`, a multiple of READERS vectors, so many times, forth and back: what was read last is read first. */
void probe_read(const void *data, size_t bytes, size_t times)
{
    const size_t turns = bytes / VECTOR_BYTES / READERS;
    for (size_t pass = 0; pass < times; pass++) {
        vec sum[READERS] = {{0}};
        for (size_t i = 0; i < turns; i++) {
            const vec *v = (const vec *)data + (pass % 2 ? turns - 1 - i : i) * READERS;
#pragma GCC unroll 8
            for (int j = 0; j < READERS; j++)
                sum[j] += v[j];
        }
        for (int j = 0; j < READERS; j++)
            sink = sum[j][0];
        __asm__ volatile("" ::: "memory");
    }
}

/* So many times CHAINS instructions in chains that do not wait for each other, of numbers that the compiler cannot know.
 * Each returns the multiply-adds of one instruction, 0 without it. */
size_t probe_float32(size_t times)
{
    vec chain[CHAINS], a = {0}, b = {0};
    a += half;
    b += half;
    for (int j = 0; j < CHAINS; j++)
        chain[j] = a * (float)j;
    for (size_t i = 0; i < times; i++)
#pragma GCC unroll 32
        for (int j = 0; j < CHAINS; j++)
            chain[j] = chain[j] * a + b;
    for (int j = 0; j < CHAINS; j++)
        sink = chain[j][0];
    return LANES;
}

#if defined(__AVX512BF16__)
enum { BFLOAT16_MACS = 32 };
typedef __m512 bfloat16_sum;
static bfloat16_sum bfloat16_dot(bfloat16_sum sum, ivec a)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)a);
}
#else
enum { BFLOAT16_MACS = 0 };
typedef vec bfloat16_sum;
static bfloat16_sum bfloat16_dot(bfloat16_sum sum, ivec a)
{
    return sum + (vec)a;
}
#endif

#if defined(__AVX512VNNI__)
enum { INT8_MACS = 64 };
static ivec int8_dot(ivec sum, ivec a)
{
    return (ivec)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)a, (__m512i)a);
}
#elif defined(__AVX2__) && VECTOR_BYTES == 32
enum { INT8_MACS = 16 };
static ivec int8_dot(ivec sum, ivec a)
{
    return sum + (ivec)_mm256_madd_epi16((__m256i)(a + sum), (__m256i)a);
}
#else
enum { INT8_MACS = 0 };
static ivec int8_dot(ivec sum, ivec a)
{
    return sum + a;
}
#endif

size_t probe_bfloat16(size_t times)
{
    ivec a = {0};
    bfloat16_sum chain[CHAINS];
    a += two;
    for (int j = 0; j < CHAINS; j++)
        chain[j] = (bfloat16_sum)(a * j);
    for (size_t i = 0; i < times; i++)
#pragma GCC unroll 32
        for (int j = 0; j < CHAINS; j++)
            chain[j] = bfloat16_dot(chain[j], a);
    for (int j = 0; j < CHAINS; j++)
        sink = chain[j][0];
    return BFLOAT16_MACS;
}

size_t probe_int8(size_t times)
{
    ivec chain[CHAINS], a = {0};
    a += two;
    for (int j = 0; j < CHAINS; j++)
        chain[j] = a * j;
    for (size_t i = 0; i < times; i++)
#pragma GCC unroll 32
        for (int j = 0; j < CHAINS; j++)
            chain[j] = int8_dot(chain[j], a);
    for (int j = 0; j < CHAINS; j++)
        int_sink = chain[j][0];
    return INT8_MACS;
}

/* e^x for small x, with few operations one after another. */
static vec exponential(vec x)
{
    const vec n = (x * 1.442695f + 12582912.0f) - 12582912.0f;
    const vec r = x - n * 0.6931472f, r2 = r * r;
    const vec low = (1.0f + r) + r2 * (0.5f + r * 0.1666667f), high = 0.04166667f + r * 0.008333333f + r2 * 0.001388889f;
    const vec power = low + (r2 * r2) * high;
    return (vec)((ivec)power + ((ivec)(n + 12582912.0f) << 23));
}

/* So many steps of the shortest cell: a multiply-add, a sigmoid, a multiply-add, a tanh and a product, each waiting for the
 * one before it. */
void probe_chain(size_t times)
{
    vec h = {0}, w = {0};
    w += half;
    for (size_t i = 0; i < times; i++) {
        const vec gate = 1.0f / (1.0f + exponential(h * w + w));
        const vec c = gate * w + w;
        h = gate * (1.0f - 2.0f / (1.0f + exponential(c + c)));
    }
    sink = h[0];
}
