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

/* expm1 on |r| <= ln2 / 2, relative error 1.7e-8: minimax of (expm1(r) - r) / r^2, weighted by |r|, in float32. */
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

/* sign(x) e / (e + 2), e = expm1(2 |x|) = 2^n q + (2^n - 1), which keeps small x exact. From |x| = 8.5 on the result
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

INLINE vf vabs(vf x)
{
    return (vf)((vi)x & ~(vi)vf_set1(-0.0f));
}

/* exp, from subnormal results at x < -87 to infinity at x > 88.7: two factors carry the exponent. */
INLINE vf vexp(vf x)
{
    vf y = vf_max(vf_min(x, vf_set1(89.0f)), vf_set1(-104.0f));
    vf t = exponent_of(y);
    vf n = t - ROUND;
    vf r = vf_fma(n, vf_set1(-0x1.63p-1f), y);
    vf q = expm1_reduced(vf_fma(n, vf_set1(0x1.bd0106p-13f), r));
    vi k = (vi)t - (vi)vf_set1(ROUND);
    vf first = pow2(k >> 1);
    return vf_fma(q, first, first) * pow2(k - (k >> 1));
}

/* exp(x) - 1 for x <= 0, exact near 0. */
INLINE vf vexpm1_negative(vf x)
{
    vf y = vf_max(x, vf_set1(-20.0f));
    vf t = exponent_of(y);
    vf q = expm1_reduced(vf_fma(t - ROUND, vf_set1(-0x1.62e43p-1f), y));
    vf scale = pow2((vi)t - (vi)vf_set1(ROUND));
    return vf_fma(q, scale, scale - 1.0f);
}

/* log(1 + z) for 0 <= z <= 1 as 2 atanh(s), s = z / (2 + z) <= 1/3: the odd series, its tail minimax in float32. */
INLINE vf vlog1p_unit(vf z)
{
    vf s = z / (z + 2.0f);
    vf s2 = s * s;
    vf p = vf_fma(s2, vf_set1(0x1.f1b2d6p-4f), vf_set1(0x1.b6d5acp-4f));
    p = vf_fma(s2, p, vf_set1(0x1.25097cp-3f));
    p = vf_fma(s2, p, vf_set1(0x1.9996a8p-3f));
    p = vf_fma(s2, p, vf_set1(0x1.555558p-2f));
    vf twice = s + s;
    return vf_fma(twice * s2, p, twice);
}

/* erfc(z) for z >= 0, absolute error below 2e-7: Abramowitz and Stegun 7.1.26. */
INLINE vf verfc_positive(vf z)
{
    vf t = 1.0f / vf_fma(z, vf_set1(0.3275911f), vf_set1(1.0f));
    vf p = vf_fma(t, vf_set1(1.061405429f), vf_set1(-1.453152027f));
    p = vf_fma(t, p, vf_set1(1.421413741f));
    p = vf_fma(t, p, vf_set1(-0.284496736f));
    p = vf_fma(t, p, vf_set1(0.254829592f));
    return t * p * vexp(-z * z);
}

/* The activations of activation.def. Definitions: ONNX operators LSTM, GRU, RNN and keras.activations. */

#define ACTIVATION_FUNCTION(name)                                                                                      \
    INLINE vf activation_##name(vf x, __attribute__((unused)) vf alpha, __attribute__((unused)) vf beta)

ACTIVATION_FUNCTION(sigmoid) { return sigmoid(x); }
ACTIVATION_FUNCTION(tanh) { return vtanh(x); }
ACTIVATION_FUNCTION(relu) { return vf_max(x, vf_set1(0.0f)); }
ACTIVATION_FUNCTION(linear) { return x; }
ACTIVATION_FUNCTION(affine) { return vf_fma(alpha, x, beta); }
ACTIVATION_FUNCTION(hard_sigmoid) { return vf_max(vf_min(vf_fma(alpha, x, beta), vf_set1(1.0f)), vf_set1(0.0f)); }
ACTIVATION_FUNCTION(leaky_relu) { return vf_select(x < 0.0f, alpha * x, x); }
ACTIVATION_FUNCTION(thresholded_relu) { return vf_select(x <= alpha, vf_set1(0.0f), x); }
ACTIVATION_FUNCTION(scaled_tanh) { return alpha * vtanh(beta * x); }
ACTIVATION_FUNCTION(elu) { return vf_select(x < 0.0f, alpha * vexpm1_negative(x), x); }
ACTIVATION_FUNCTION(selu)
{
    return vf_set1(1.05070098f) * vf_select(x < 0.0f, vf_set1(1.67326324f) * vexpm1_negative(x), x);
}
ACTIVATION_FUNCTION(celu) { return vf_select(x < 0.0f, alpha * vexpm1_negative(x / alpha), x); }
ACTIVATION_FUNCTION(softsign) { return x / (vabs(x) + 1.0f); }
ACTIVATION_FUNCTION(softplus) { return vf_max(x, vf_set1(0.0f)) + vlog1p_unit(vexp(-vabs(x))); }
ACTIVATION_FUNCTION(exponential) { return vexp(x); }
ACTIVATION_FUNCTION(silu) { return x * sigmoid(x); }
ACTIVATION_FUNCTION(hard_silu) { return x * activation_hard_sigmoid(x, vf_set1(1.0f / 6), vf_set1(0.5f)); }
ACTIVATION_FUNCTION(gelu)
{
    vf tail = verfc_positive(vabs(x) * 0.70710678f) * 0.5f;
    return x * vf_select(x < 0.0f, tail, 1.0f - tail);
}
ACTIVATION_FUNCTION(gelu_tanh)
{
    return x * sigmoid(vf_set1(1.59576912f) * vf_fma(vf_set1(0.044715f) * x, x * x, x));
}
/* tanh(log(1 + e)) = n / (n + 2), n = e (e + 2). */
ACTIVATION_FUNCTION(mish)
{
    vf e = vexp(vf_min(x, vf_set1(20.0f)));
    vf n = e * (e + 2.0f);
    return x * (n / (n + 2.0f));
}
ACTIVATION_FUNCTION(relu6) { return vf_max(vf_min(x, vf_set1(6.0f)), vf_set1(0.0f)); }
ACTIVATION_FUNCTION(hard_tanh) { return vf_max(vf_min(x, vf_set1(1.0f)), vf_set1(-1.0f)); }
ACTIVATION_FUNCTION(log_sigmoid) { return vf_min(x, vf_set1(0.0f)) - vlog1p_unit(vexp(-vabs(x))); }
ACTIVATION_FUNCTION(tanh_shrink) { return x - vtanh(x); }
ACTIVATION_FUNCTION(soft_shrink) { return x - vf_max(vf_min(x, alpha), -alpha); }
ACTIVATION_FUNCTION(hard_shrink) { return vf_select(vabs(x) <= alpha, vf_set1(0.0f), x); }
/* Below 0 as alpha / 4 over the other branch: no cancellation. */
ACTIVATION_FUNCTION(squareplus)
{
    vf s = (vabs(x) + vf_sqrt(vf_fma(x, x, alpha))) * 0.5f;
    return vf_select(x < 0.0f, alpha * 0.25f / s, s);
}

#endif
