/* Register tiles: acc += W v for a few rows or a few blocks at a time, k in order, one fma per product.
 *
 * Rows and blocks are compile-time constants at every call, so each tile becomes straight code whose accumulators
 * stay in registers: that is why they are spelled out instead of looped over. Knows nothing of cells.
 */
#ifndef GATED_GEMM_H
#define GATED_GEMM_H

#include "cells.h"
#include "kernels.h"

/* Most rows in a tile and most blocks in a group. */
#define MAX_TILE 8

#define EACH(n, DO)                                                                                                    \
    do {                                                                                                               \
        if ((n) > 0) { DO(0); }                                                                                        \
        if ((n) > 1) { DO(1); }                                                                                        \
        if ((n) > 2) { DO(2); }                                                                                        \
        if ((n) > 3) { DO(3); }                                                                                        \
        if ((n) > 4) { DO(4); }                                                                                        \
        if ((n) > 5) { DO(5); }                                                                                        \
        if ((n) > 6) { DO(6); }                                                                                        \
        if ((n) > 7) { DO(7); }                                                                                        \
    } while (0)

/* Accumulators in the mask `feeds`, from consecutive vectors at p. */
INLINE gates gates_load(const float *p, int feeds)
{
    gates w = {0};
    if (feeds & 1) { w.a = vf_load(p); p += LANES; }
    if (feeds & 2) { w.b = vf_load(p); p += LANES; }
    if (feeds & 4) { w.c = vf_load(p); p += LANES; }
    if (feeds & 8) { w.d = vf_load(p); }
    return w;
}

INLINE void gates_store(float *p, gates g, int feeds)
{
    if (feeds & 1) { vf_store(p, g.a); p += LANES; }
    if (feeds & 2) { vf_store(p, g.b); p += LANES; }
    if (feeds & 4) { vf_store(p, g.c); p += LANES; }
    if (feeds & 8) { vf_store(p, g.d); }
}

INLINE gates gates_held(gates g, int feeds)
{
    if (feeds & 1) g.a = vf_held(g.a);
    if (feeds & 2) g.b = vf_held(g.b);
    if (feeds & 4) g.c = vf_held(g.c);
    if (feeds & 8) g.d = vf_held(g.d);
    return g;
}

INLINE void gates_fma(gates *acc, vf x, gates w, int feeds)
{
    if (feeds & 1) acc->a = vf_fma(w.a, x, acc->a);
    if (feeds & 2) acc->b = vf_fma(w.b, x, acc->b);
    if (feeds & 4) acc->c = vf_fma(w.c, x, acc->c);
    if (feeds & 8) acc->d = vf_fma(w.d, x, acc->d);
}

/* One of the two products of a step, as a panel holds its weights. */
typedef struct {
    int format, gates, feeds; /* constants */
    int length;               /* K */
    const float *weights;     /* [words of K][G][V] of the first block */
    ptrdiff_t stride;         /* from one block to the next */
} product;

/* acc[r] += W x[r] for `rows` rows; weights are read once. */
INLINE void float32_rows(gates *acc, const int rows, const float *const *x, const product p)
{
#define POINTER(r) x##r = x[r]
    const float *x0 = 0, *x1 = 0, *x2 = 0, *x3 = 0, *x4 = 0, *x5 = 0, *x6 = 0, *x7 = 0;
    const float *w = p.weights;
    EACH(rows, POINTER);
    for (int k = 0; k < p.length; k++) {
        gates v = gates_load(w, p.feeds);
        if (rows < ROWS)
            v = gates_held(v, p.feeds);
#define ROW_FMA(r) gates_fma(&acc[r], vf_set1(x##r[k]), v, p.feeds)
        EACH(rows, ROW_FMA);
        w += p.gates * LANES;
    }
}

/* acc[b] += W_b x for `blocks` neighbouring blocks of one row. */
INLINE void float32_blocks(gates *acc, const int blocks, const float *x, const product p)
{
    const float *w = p.weights;
    for (int k = 0; k < p.length; k++) {
        vf v = vf_set1(x[k]);
#define BLOCK_FMA(b) gates_fma(&acc[b], v, gates_load(w + (b) * p.stride, p.feeds), p.feeds)
        EACH(blocks, BLOCK_FMA);
        w += p.gates * LANES;
    }
}

/* The first and the second of pairs of bfloat16, which are the upper halves of float32. */
INLINE vf low_half(vf pairs)
{
    return (vf)((vu)pairs << 16);
}

INLINE vf high_half(vf pairs)
{
    return (vf)((vu)pairs & 0xffff0000u);
}

/* acc[r] += W x[r] of one k, of pairs of it: gate by gate, so that few halves are in registers at a time. */
#define PAIR_FMA(gate, r) acc[r].gate = vf_fma(v, vf_set1(x##r[k]), acc[r].gate)
#define PAIR_FMA_A(r) PAIR_FMA(a, r)
#define PAIR_FMA_B(r) PAIR_FMA(b, r)
#define PAIR_FMA_C(r) PAIR_FMA(c, r)
#define PAIR_FMA_D(r) PAIR_FMA(d, r)
#define PAIRS_FMA(half)                                                                                                \
    do {                                                                                                               \
        if (p.feeds & 1) { const vf v = half(pairs.a); EACH(rows, PAIR_FMA_A); }                                       \
        if (p.feeds & 2) { const vf v = half(pairs.b); EACH(rows, PAIR_FMA_B); }                                       \
        if (p.feeds & 4) { const vf v = half(pairs.c); EACH(rows, PAIR_FMA_C); }                                       \
        if (p.feeds & 8) { const vf v = half(pairs.d); EACH(rows, PAIR_FMA_D); }                                       \
    } while (0)

/* The same with weights in pairs; x has no second element to the last of an odd length. */
INLINE void bfloat16_rows(gates *acc, const int rows, const float *const *x, const product p)
{
    const float *x0 = 0, *x1 = 0, *x2 = 0, *x3 = 0, *x4 = 0, *x5 = 0, *x6 = 0, *x7 = 0;
    const float *w = p.weights;
    EACH(rows, POINTER);
    for (int k = 0; k < p.length; k++) {
        gates pairs = gates_load(w, p.feeds);
        if (rows < ROWS)
            pairs = gates_held(pairs, p.feeds);
        PAIRS_FMA(low_half);
        if (++k == p.length)
            break;
        if (rows >= ROWS)
            pairs = gates_load(w = other_pointer(w), p.feeds);
        PAIRS_FMA(high_half);
        w += p.gates * LANES;
    }
}

/* acc[b] += W_b x of one k, of pairs of it. */
INLINE void pair_fma(gates *acc, vf x, gates pairs, vf (*half)(vf), int feeds)
{
    if (feeds & 1) acc->a = vf_fma(half(pairs.a), x, acc->a);
    if (feeds & 2) acc->b = vf_fma(half(pairs.b), x, acc->b);
    if (feeds & 4) acc->c = vf_fma(half(pairs.c), x, acc->c);
    if (feeds & 8) acc->d = vf_fma(half(pairs.d), x, acc->d);
}

INLINE void bfloat16_blocks(gates *acc, const int blocks, const float *x, const product p)
{
    const float *w = p.weights;
    for (int k = 0; k < p.length; k++) {
        vf v = vf_set1(x[k]);
#define BLOCK_LOW(b) pair_fma(&acc[b], v, gates_load(w + (b) * p.stride, p.feeds), low_half, p.feeds)
        EACH(blocks, BLOCK_LOW);
        if (++k == p.length)
            break;
        v = vf_set1(x[k]);
        if (blocks > 2)
            w = other_pointer(w);
#define BLOCK_HIGH(b) pair_fma(&acc[b], v, gates_load(w + (b) * p.stride, p.feeds), high_half, p.feeds)
        EACH(blocks, BLOCK_HIGH);
        w += p.gates * LANES;
    }
}

#ifdef HAS_BFLOAT16_DOT
/* Pairs of weights and pairs of x, as vf_to_bfloat16 makes them. */
INLINE void gates_dot(gates *acc, vf x, gates w, int feeds)
{
    if (feeds & 1) acc->a = vf_dot(w.a, x, acc->a);
    if (feeds & 2) acc->b = vf_dot(w.b, x, acc->b);
    if (feeds & 4) acc->c = vf_dot(w.c, x, acc->c);
    if (feeds & 8) acc->d = vf_dot(w.d, x, acc->d);
}

INLINE void dot_rows(gates *acc, const int rows, const float *const *x, const product p)
{
    const float *x0 = 0, *x1 = 0, *x2 = 0, *x3 = 0, *x4 = 0, *x5 = 0, *x6 = 0, *x7 = 0;
    const float *w = p.weights;
    const int words = gated_format_words(p.format, p.length);
    EACH(rows, POINTER);
    for (int k = 0; k < words; k++) {
        gates v = gates_load(w, p.feeds);
        if (rows < ROWS)
            v = gates_held(v, p.feeds);
#define ROW_DOT(r) gates_dot(&acc[r], vf_word(x##r + k), v, p.feeds)
        EACH(rows, ROW_DOT);
        w += p.gates * LANES;
    }
}

INLINE void dot_blocks(gates *acc, const int blocks, const float *x, const product p)
{
    const float *w = p.weights;
    const int words = gated_format_words(p.format, p.length);
    for (int k = 0; k < words; k++) {
        const vf v = vf_word(x + k);
#define BLOCK_DOT(b) gates_dot(&acc[b], v, gates_load(w + (b) * p.stride, p.feeds), p.feeds)
        EACH(blocks, BLOCK_DOT);
        w += p.gates * LANES;
    }
}
#endif

INLINE void accumulate_rows(gates *acc, const int rows, const float *const *x, const product p)
{
    switch (p.format) {
    case GATED_FORMAT_float32:  float32_rows(acc, rows, x, p); break;
    case GATED_FORMAT_bfloat16: bfloat16_rows(acc, rows, x, p); break;
#ifdef HAS_BFLOAT16_DOT
    case GATED_FORMAT_bfloat16_dot: dot_rows(acc, rows, x, p); break;
#endif
    }
}

INLINE void accumulate_blocks(gates *acc, const int blocks, const float *x, const product p)
{
    switch (p.format) {
    case GATED_FORMAT_float32:  float32_blocks(acc, blocks, x, p); break;
    case GATED_FORMAT_bfloat16: bfloat16_blocks(acc, blocks, x, p); break;
#ifdef HAS_BFLOAT16_DOT
    case GATED_FORMAT_bfloat16_dot: dot_blocks(acc, blocks, x, p); break;
#endif
    }
}

#endif
