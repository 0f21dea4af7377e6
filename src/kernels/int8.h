/* Products of 8-bit integers. A row of activations is rounded once a step, its sums with the weights are exact, and one
 * scale of the row and one of the unit make float32 of them: acc = fma(sum * scale of x, scale of W, acc).
 */
#ifndef GATED_INT8_H
#define GATED_INT8_H

#include "gemm.h"

#include <float.h>

/* Activations as row.narrow holds them. */
typedef struct {
    float scale;        /* NaN: some activation is not finite */
    float unused[15];   /* up to a cache line */
    unsigned char q[];  /* in words of 4, zeros behind the last; + DOT_OFFSET */
} int8_row;

/* The sums of one slice of units, of which each gate has its own. */
typedef struct {
    vi a, b, c, d;
} sums;

INLINE vi vi_load(const void *p)
{
    vi v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* As integers magnitudes are in the order of the floats, NaN above infinity. */
INLINE vi larger_magnitudes(vi magnitudes, vf v)
{
    const vi others = (vi)v & INT32_MAX;
    for (int i = 0; i < LANES; i++)
        magnitudes[i] = others[i] > magnitudes[i] ? others[i] : magnitudes[i];
    return magnitudes;
}

INLINE float largest_magnitude(const float *v, int length)
{
    vi largest = {0};
    for (; length >= LANES; length -= LANES, v += LANES)
        largest = larger_magnitudes(largest, vf_load(v));
    if (length > 0)
        largest = larger_magnitudes(largest, vf_load_part(v, length));
    int32_t bits = 0;
    for (int i = 0; i < LANES; i++)
        bits = largest[i] > bits ? largest[i] : bits;
    float magnitude;
    memcpy(&magnitude, &bits, sizeof magnitude);
    return magnitude;
}

/* Ties to even. NaN becomes any integer: its row's scale is NaN. */
INLINE void int8_round_slice(unsigned char *q, vf v, float inverse)
{
    const vf scaled = vf_max(vf_min(v * inverse, vf_set1(127.0f)), vf_set1(-127.0f));
    vi_store_bytes(q, (vi)(scaled + (ROUND + DOT_OFFSET)));
}

/* v [length] in multiples of limit / 127, or if limit is 0 of its largest magnitude / 127. */
INLINE void int8_round(int8_row *to, const float *v, int length, float limit)
{
    const float largest = largest_magnitude(v, length);
    const float scale = (limit > 0 ? limit : largest) / 127.0f;
    const float inverse = scale < FLT_MIN ? 0 : 1 / scale;
    unsigned char *q = to->q;
    to->scale = scale + (largest - largest);
    for (; length >= LANES; length -= LANES, v += LANES, q += LANES)
        int8_round_slice(q, vf_load(v), inverse);
    if (length > 0)
        int8_round_slice(q, vf_load_part(v, length), inverse);
}

INLINE sums sums_load(const float *p, int gate_count)
{
    sums s = {vi_load(p), {0}, {0}, {0}};
    if (gate_count > 1) s.b = vi_load(p + LANES);
    if (gate_count > 2) s.c = vi_load(p + 2 * LANES);
    if (gate_count > 3) s.d = vi_load(p + 3 * LANES);
    return s;
}

/* What sums begin with so that DOT_OFFSET cancels. */
INLINE sums sums_start(const float *offsets, int gate_count)
{
    return DOT_OFFSET ? sums_load(offsets, gate_count) : (sums){0};
}

INLINE void sums_dot(sums *sum, vu x, sums w, int gate_count)
{
    sum->a = vi_dot(sum->a, x, (vu)w.a);
    if (gate_count > 1) sum->b = vi_dot(sum->b, x, (vu)w.b);
    if (gate_count > 2) sum->c = vi_dot(sum->c, x, (vu)w.c);
    if (gate_count > 3) sum->d = vi_dot(sum->d, x, (vu)w.d);
}

INLINE void add_sum(vf *acc, vi sum, float scale, const float *scales)
{
    *acc = vf_fma(__builtin_convertvector(sum, vf) * scale, vf_load(scales), *acc);
}

/* The third of three gates is c or, in a recurrent product that is kept apart, d. */
INLINE void gates_add_sums(gates *acc, sums sum, float scale, const float *scales, int gate_count, int feeds)
{
    add_sum(&acc->a, sum.a, scale, scales);
    if (gate_count > 1) add_sum(&acc->b, sum.b, scale, scales + LANES);
    if (gate_count > 2) add_sum(feeds & 4 ? &acc->c : &acc->d, sum.c, scale, scales + 2 * LANES);
    if (gate_count > 3) add_sum(&acc->d, sum.d, scale, scales + 3 * LANES);
}

/* Behind a block's words of weights: scales [G][V], then offsets [G][V]. */
INLINE ptrdiff_t int8_scales(const product p)
{
    return (ptrdiff_t)((p.length + 3) / 4) * p.gates * LANES;
}

/* acc[r] += W x[r] for `rows` rows. */
INLINE void int8_rows(gates *acc, const int rows, const int8_row *const *x, const product p)
{
    const int8_row *x0 = 0, *x1 = 0, *x2 = 0, *x3 = 0, *x4 = 0, *x5 = 0, *x6 = 0, *x7 = 0;
    const float *w = p.weights, *scales = w + int8_scales(p);
    const sums start = sums_start(scales + p.gates * LANES, p.gates);
    sums sum[MAX_TILE];
#define START_ROW(r) x##r = x[r]; sum[r] = start
    EACH(rows, START_ROW);
    for (int k = 0; k < (p.length + 3) / 4; k++) {
        const sums v = sums_load(w, p.gates);
#define ROW_SUMS(r) sums_dot(&sum[r], (vu)vf_word(x##r->q + 4 * (ptrdiff_t)k), v, p.gates)
        EACH(rows, ROW_SUMS);
        w += p.gates * LANES;
    }
#define ADD_ROW(r) gates_add_sums(&acc[r], sum[r], x##r->scale, scales, p.gates, p.feeds)
    EACH(rows, ADD_ROW);
}

/* acc[b] += W_b x for `blocks` neighbouring blocks of one row. */
INLINE void int8_blocks(gates *acc, const int blocks, const int8_row *row, const product p)
{
    const float *w = p.weights, *scales = w + int8_scales(p);
    sums sum[MAX_TILE];
#define START_BLOCK(b) sum[b] = sums_start(scales + p.gates * LANES + (b) * p.stride, p.gates)
    EACH(blocks, START_BLOCK);
    for (int k = 0; k < (p.length + 3) / 4; k++) {
        const vu v = (vu)vf_word(row->q + 4 * (ptrdiff_t)k);
#define BLOCK_SUMS(b) sums_dot(&sum[b], v, sums_load(w + (b) * p.stride, p.gates), p.gates)
        EACH(blocks, BLOCK_SUMS);
        w += p.gates * LANES;
    }
#define ADD_BLOCK(b) gates_add_sums(&acc[b], sum[b], row->scale, scales + (b) * p.stride, p.gates, p.feeds)
    EACH(blocks, ADD_BLOCK);
}

/* A tile: so many rows of one block, or blocks of one row. */
typedef void int8_function(gates *acc, const int8_row *const *x, const product *p);

/* Sizes for all products of as many gates: int8_rows_4_6 is of 4 gates and 6 rows. */
#define INT8_SIZES(DO, gates)                                                                                          \
    DO(gates, 1) DO(gates, 2) DO(gates, 3) DO(gates, 4) DO(gates, 5) DO(gates, 6) DO(gates, 7) DO(gates, 8)

#define INT8_FUNCTIONS(gate_count, size)                                                                               \
    static void int8_rows_##gate_count##_##size(gates *acc, const int8_row *const *x, const product *p)                \
    {                                                                                                                  \
        if (gate_count == 1 || size <= ROWS)                                                                           \
            int8_rows(acc, size, x, (product){p->format, gate_count, p->feeds, p->length, p->weights, p->stride});     \
    }                                                                                                                  \
    static void int8_blocks_##gate_count##_##size(gates *acc, const int8_row *const *x, const product *p)              \
    {                                                                                                                  \
        if (gate_count == 1 || size <= MAX_GROUP)                                                                      \
            int8_blocks(acc, size, *x, (product){p->format, gate_count, p->feeds, p->length, p->weights, p->stride});  \
    }
INT8_SIZES(INT8_FUNCTIONS, 1)
INT8_SIZES(INT8_FUNCTIONS, 2)
INT8_SIZES(INT8_FUNCTIONS, 3)
INT8_SIZES(INT8_FUNCTIONS, 4)

#define INT8_ROWS(gate_count, size)   int8_rows_##gate_count##_##size,
#define INT8_BLOCKS(gate_count, size) int8_blocks_##gate_count##_##size,

/* [gates - 1][size - 1] */
static int8_function *const int8_row_tiles[][MAX_TILE] = {
    {INT8_SIZES(INT8_ROWS, 1)}, {INT8_SIZES(INT8_ROWS, 2)}, {INT8_SIZES(INT8_ROWS, 3)}, {INT8_SIZES(INT8_ROWS, 4)},
};

static int8_function *const int8_block_tiles[][MAX_TILE] = {
    {INT8_SIZES(INT8_BLOCKS, 1)}, {INT8_SIZES(INT8_BLOCKS, 2)}, {INT8_SIZES(INT8_BLOCKS, 3)}, {INT8_SIZES(INT8_BLOCKS, 4)},
};

/* acc += W x for `rows` rows of one block or `blocks` blocks of one row. */
INLINE void int8_accumulate(gates *acc, int rows, int blocks, const int8_row *const *x, const product p)
{
    if (rows > 1)
        int8_row_tiles[p.gates - 1][rows - 1](acc, x, &p);
    else
        int8_block_tiles[p.gates - 1][blocks - 1](acc, x, &p);
}

#endif
