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

/* acc[r] += W x[r] for `rows` rows; w [length][G][V] is read once. */
INLINE void accumulate_rows(gates *acc, const int rows, const float *const *x, const float *w, int length, int gate_count,
                            const int feeds)
{
#define POINTER(r) x##r = x[r]
    const float *x0 = 0, *x1 = 0, *x2 = 0, *x3 = 0, *x4 = 0, *x5 = 0, *x6 = 0, *x7 = 0;
    EACH(rows, POINTER);
    for (int k = 0; k < length; k++) {
        gates v = gates_load(w, feeds);
        if (rows < ROWS)
            v = gates_held(v, feeds);
#define ROW_FMA(r) gates_fma(&acc[r], vf_set1(x##r[k]), v, feeds)
        EACH(rows, ROW_FMA);
        w += gate_count * LANES;
    }
}

/* acc[b] += W_b x for `blocks` neighbouring blocks of one row, `stride` floats apart. */
INLINE void accumulate_blocks(gates *acc, const int blocks, const float *x, const float *w, ptrdiff_t stride, int length,
                              int gate_count, const int feeds)
{
    for (int k = 0; k < length; k++) {
        vf v = vf_set1(x[k]);
#define BLOCK_FMA(b) gates_fma(&acc[b], v, gates_load(w + (b) * stride, feeds), feeds)
        EACH(blocks, BLOCK_FMA);
        w += gate_count * LANES;
    }
}

#endif
