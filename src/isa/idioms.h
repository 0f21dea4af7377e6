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

#if defined(__aarch64__)
#include <arm_neon.h>
#endif

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

/* The low byte of each lane, to memory. */
INLINE void vi_store_bytes(unsigned char *to, vi v)
{
#if defined(__AVX512VL__) && LANES == 16
    _mm_storeu_si128((__m128i_u *)to, _mm512_cvtepi32_epi8((__m512i)v));
#elif defined(__AVX512VL__) && LANES == 8
    _mm_storel_epi64((__m128i_u *)to, _mm256_cvtepi32_epi8((__m256i)v));
#elif defined(__AVX2__)
    const __m256i low = _mm256_shuffle_epi8((__m256i)v, _mm256_set1_epi32(0x0c080400));
    _mm_storel_epi64((__m128i_u *)to, _mm_unpacklo_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1)));
#else
    for (int i = 0; i < LANES; i++)
        to[i] = (unsigned char)v[i];
#endif
}

/* acc + the four products of signed bytes of x and w in each lane, which are in -127..127: exact. Where there is an
 * instruction for that it takes x as bytes of x + 128, and the sums are 128 w too large: DOT_OFFSET. */
#if defined(__AVX512VNNI__) && LANES == 16
#define DOT_OFFSET 128
#define vi_dot(acc, x, w) ((vi)_mm512_dpbusd_epi32((__m512i)(acc), (__m512i)(x), (__m512i)(w)))
#elif defined(__AVX512VNNI__)
#define DOT_OFFSET 128
#define vi_dot(acc, x, w) ((vi)_mm256_dpbusd_epi32((__m256i)(acc), (__m256i)(x), (__m256i)(w)))
#else
#define DOT_OFFSET 0
INLINE vi vi_dot(vi acc, vu x, vu w)
{
#if defined(__AVX512BW__) && LANES == 16
    const __mmask64 negative = _mm512_movepi8_mask((__m512i)x);
    const __m512i signed_w = _mm512_mask_sub_epi8((__m512i)w, negative, _mm512_setzero_si512(), (__m512i)w);
    const __m512i pairs = _mm512_maddubs_epi16(_mm512_abs_epi8((__m512i)x), signed_w);
    return acc + (vi)_mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
#elif defined(__AVX2__)
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8((__m256i)x), _mm256_sign_epi8((__m256i)w, (__m256i)x));
    return acc + (vi)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
#elif defined(__SSE2__)
    const __m128i even_x = _mm_srai_epi16(_mm_slli_epi16((__m128i)x, 8), 8), odd_x = _mm_srai_epi16((__m128i)x, 8);
    const __m128i even_w = _mm_srai_epi16(_mm_slli_epi16((__m128i)w, 8), 8), odd_w = _mm_srai_epi16((__m128i)w, 8);
    return acc + (vi)_mm_madd_epi16(even_x, even_w) + (vi)_mm_madd_epi16(odd_x, odd_w);
#elif defined(__aarch64__)
    const int8x16_t a = (int8x16_t)x, b = (int8x16_t)w;
    const int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(b)), high = vmull_high_s8(a, b);
    return (vi)vpadalq_s16((int32x4_t)acc, vpaddq_s16(low, high));
#else
    for (int bits = 24; bits >= 0; bits -= 8)
        acc += ((vi)(x << bits) >> 24) * ((vi)(w << bits) >> 24);
    return acc;
#endif
}
#endif

#endif
