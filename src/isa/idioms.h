/* The few things that compilers do not make of the portable code in kernels/vec.h by themselves. */
#ifndef GATED_IDIOMS_H
#define GATED_IDIOMS_H

/* v, kept in a register. GCC folds a load into every fma that uses it: three rows would read each weight three times. */
INLINE vf vf_held(vf v)
{
#if defined(__AVX512F__)
    __asm__("" : "+v"(v));
#elif defined(__SSE2__)
    __asm__("" : "+x"(v));
#elif defined(__aarch64__)
    __asm__("" : "+w"(v));
#endif
    return v;
}

/* p, of which the compiler does not know that it is p: what is read from it is read again, not kept in a register that the
 * accumulators of a tile need. */
INLINE const float *other_pointer(const float *p)
{
    __asm__("" : "+r"(p));
    return p;
}

/* The smaller or larger of x and a limit, NaN staying NaN. From a lane loop GCC makes a compare into a mask register and
 * a blend, which adds 20 cycles to the latency of an LSTM step. x86's min returns its second operand if either is NaN:
 * the conditional of the loops below.
 */

#if defined(__SSE2__)
#include <immintrin.h>
#if LANES == 16
#define vf_min(x, limit) ((vf)_mm512_min_ps((__m512)(limit), (__m512)(x)))
#define vf_max(x, limit) ((vf)_mm512_max_ps((__m512)(limit), (__m512)(x)))
#elif LANES == 8
#define vf_min(x, limit) ((vf)_mm256_min_ps((__m256)(limit), (__m256)(x)))
#define vf_max(x, limit) ((vf)_mm256_max_ps((__m256)(limit), (__m256)(x)))
#else
#define vf_min(x, limit) ((vf)_mm_min_ps((__m128)(limit), (__m128)(x)))
#define vf_max(x, limit) ((vf)_mm_max_ps((__m128)(limit), (__m128)(x)))
#endif
#ifdef __AVX512BF16__
/* acc + w0 x0 + w1 x1 of the pairs of bfloat16 in every lane, rounded as the CPU does it. */
INLINE vf vf_dot(vf w, vf x, vf acc)
{
#if LANES == 16
    return (vf)_mm512_dpbf16_ps((__m512)acc, (__m512bh)w, (__m512bh)x);
#else
    return (vf)_mm256_dpbf16_ps((__m256)acc, (__m256bh)w, (__m256bh)x);
#endif
}

/* LANES values of bfloat16 to p, rounded to nearest even. */
INLINE void vf_to_bfloat16(void *p, vf x)
{
#if LANES == 16
    const __m256bh narrow = _mm512_cvtneps_pbh((__m512)x);
#else
    const __m128bh narrow = _mm256_cvtneps_pbh((__m256)x);
#endif
    memcpy(p, &narrow, sizeof narrow);
}
#endif
#else
INLINE vf vf_min(vf x, vf limit)
{
    for (int i = 0; i < LANES; i++)
        x[i] = limit[i] < x[i] ? limit[i] : x[i];
    return x;
}

INLINE vf vf_max(vf x, vf limit)
{
    for (int i = 0; i < LANES; i++)
        x[i] = limit[i] > x[i] ? limit[i] : x[i];
    return x;
}
#endif

#endif
