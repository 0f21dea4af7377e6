/* tanh and sigmoid within 3 ulp on all of float32, from fma, *, +, one true division and integer exponents only: the
 * same bits on every ISA that has FMA. tests/test_activations.py measures the bound.
 *
 * Both rest on exp(y) = 2^n (1 + q(r)), y = n ln2 + r, |r| <= ln2 / 2, with q(r) = expm1(r).
 */
#ifndef GATED_ACTIVATION_H
#define GATED_ACTIVATION_H

#include "vec.h"

/* Adding 1.5 * 2^23 rounds to an integer, which then stands in the low mantissa bits. */
#define ROUND 12582912.0f

/* n as float; its integer is (vi)(n + ROUND). NaN stays NaN. */
INLINE vf exponent_of(vf y)
{
    return vf_fma(y, vf_set1(0x1.715476p+0f), vf_set1(ROUND)); /* log2(e) */
}

/* 2^n from an integer -126 <= n <= 127. */
INLINE vf pow2(vi n)
{
    return (vf)((vu)(n + 127) << 23);
}

/* expm1 on |r| <= ln2 / 2, relative error 1.4e-8: minimax of (expm1(r) - r) / r^2, weighted by |r|, in float32. */
INLINE vf expm1_reduced(vf r)
{
    vf r2 = r * r;
    vf low  = vf_fma(r, vf_set1(0x1.5554aep-3f), vf_set1(0.5f));
    vf high = vf_fma(r, vf_set1(0x1.12288p-7f), vf_set1(0x1.555486p-5f));
    high = vf_fma(r2, vf_set1(0x1.6d99bep-10f), high);
    return vf_fma(r2, vf_fma(r2, high, low), r);
}

/* 1 / (1 + exp(-x)) = 2^-m / (2^-m + 2^(n-m) (1 + q)): the exponent is split, m = n / 2, so that neither side overflows
 * and the subnormal tail below x = -87 comes from one rounding. n reaches 150, so ln2 comes in two
 * parts, the first so short that its product is exact without FMA as well. */
INLINE vf sigmoid(vf x)
{
    vf y = vf_max(vf_min(-x, vf_set1(104.0f)), vf_set1(-104.0f));
    vf t = exponent_of(y);
    vf n = t - ROUND;
    vf r = vf_fma(n, vf_set1(-0x1.63p-1f), y);
    vf q = expm1_reduced(vf_fma(n, vf_set1(0x1.bd0106p-13f), r));
    vi k = (vi)t - (vi)vf_set1(ROUND);
    vi m = k >> 1;
    vf one = pow2(-m), scale = pow2(k - m);
    return one / vf_fma(q, scale, one + scale);
}

/* sign(x) e / (e + 2), e = expm1(2 |x|) = 2^n q + (2^n - 1), which keeps small x exact. From |x| = 9.02 on the result
 * is 1; ln2 in one part is enough up to there. */
INLINE vf vtanh(vf x)
{
    vi sign = vf_sign(x);
    vf y = (vf)((vi)x ^ sign);
    y = vf_min(y + y, vf_set1(20.0f));
    vf t = exponent_of(y);
    vf n = t - ROUND;
    vf q = expm1_reduced(vf_fma(n, vf_set1(-0x1.62e43p-1f), y));
    vf scale = pow2((vi)t - (vi)vf_set1(ROUND));
    vf e = vf_fma(q, scale, scale - 1.0f) / vf_fma(q, scale, scale + 1.0f);
    return (vf)((vi)e | sign);
}

#endif
