/* A vector of LANES float32 values, in the compiler's own vector arithmetic: + - * / work on it as they are.
 *
 * Every operation is one IEEE operation per lane, so a lane's bits do not depend on LANES. The loops below become
 * single instructions with GCC and Clang at -O3 under the flags of each isa/ unit; tests/test_compilers.py sees to it that
 * none became a call of the math library.
 */
#ifndef GATED_VEC_H
#define GATED_VEC_H

#include <stdint.h>
#include <string.h>

#ifndef LANES
#error "a unit of src/isa/ defines LANES before it includes the kernels"
#endif

#define INLINE   static inline __attribute__((always_inline))
#ifdef __clang__
#define NOINLINE __attribute__((noinline))
#else
#define NOINLINE __attribute__((noinline, noclone))
#endif

typedef float   vf __attribute__((vector_size(LANES * 4)));
typedef int32_t vi __attribute__((vector_size(LANES * 4)));
typedef uint32_t vu __attribute__((vector_size(LANES * 4)));

/* x in every lane; x - 0 is x, signed zeros and NaN included. */
INLINE vf vf_set1(float x)
{
    return x - (vf){0};
}

INLINE vf vf_load(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* The 32 bits at p in every lane, whatever they are. */
INLINE vf vf_word(const void *p)
{
    uint32_t word;
    memcpy(&word, p, sizeof word);
    return (vf)(word | (vu){0});
}

INLINE void vf_store(float *p, vf v)
{
    memcpy(p, &v, sizeof v);
}

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define VF_FMA_IS_EXACT 1
#else
#define VF_FMA_IS_EXACT 0
#endif

/* a * b + c. Without an FMA instruction two roundings: a library fmaf would cost a hundred times more. */
INLINE vf vf_fma(vf a, vf b, vf c)
{
#if VF_FMA_IS_EXACT
    for (int i = 0; i < LANES; i++)
        c[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return c;
#else
    return a * b + c;
#endif
}

#include "../isa/idioms.h"

/* Per lane: yes where the mask is all ones, no where it is 0. Comparisons of vectors make such masks. */
INLINE vf vf_select(vi mask, vf yes, vf no)
{
    return (vf)((mask & (vi)yes) | (~mask & (vi)no));
}

INLINE vf vf_sqrt(vf x)
{
    for (int i = 0; i < LANES; i++)
        x[i] = __builtin_sqrtf(x[i]);
    return x;
}

INLINE vi vf_sign(vf x)
{
    return (vi)x & (vi)vf_set1(-0.0f);
}

/* The first n < LANES values, zeros behind. Halving sizes: no length-dependent library call, no masked store (which
 * AMD cores execute in microcode). */
INLINE vf vf_load_part(const float *p, int n)
{
    vf v = {0};
    float *to = (float *)&v;
#define PART(width)                                                                                                    \
    if (LANES > width && (n & width)) {                                                                                \
        memcpy(to, p, width * sizeof *p);                                                                              \
        to += width;                                                                                                   \
        p += width;                                                                                                    \
    }
    PART(8)
    PART(4)
    PART(2)
    PART(1)
#undef PART
    return v;
}

INLINE void vf_store_part(float *p, vf v, int n)
{
    const float *from = (const float *)&v;
#define PART(width)                                                                                                    \
    if (LANES > width && (n & width)) {                                                                                \
        memcpy(p, from, width * sizeof *p);                                                                            \
        from += width;                                                                                                 \
        p += width;                                                                                                    \
    }
    PART(8)
    PART(4)
    PART(2)
    PART(1)
#undef PART
}

#endif
