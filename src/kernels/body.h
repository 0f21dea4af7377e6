/* Everything a kernel table holds, compiled once per unit of src/isa/. The unit defines, before it includes this:
 *
 *   TABLE         the table's name, as in isa.def
 *   LANES         float32 values in a vector
 *   ROWS          rows of a register tile of 4 accumulators: about (registers - 4) / 4
 *   MAX_GROUP     blocks of one row that fit the registers, at most 5
 *   STREAM_GROUP  blocks of one row at a time when weights come from L2 or beyond
 *   HAS_FLOAT32, HAS_BFLOAT16, HAS_BFLOAT16_DOT, HAS_INT8: the formats of format.def whose kernels it holds
 *   CELLS_OF      a table of the same vectors and fewer instructions, whose cells and activations it uses; without it has
 *                 its own
 *
 * Only the table has external linkage: code built with one ISA's flags must not be reachable from another's.
 */
#include "gemm.h"

#ifdef HAS_INT8
#include "int8.h"
#endif

#define CONCAT_(a, b) a##b
#define CONCAT(a, b)  CONCAT_(a, b)
#define STRING_(a)    #a
#define STRING(a)     STRING_(a)

/* What product.def says, and a format; always a constant, so the code below specialises to it. */
typedef struct {
    int gates, input_feeds, recurrent_feeds, format;
} product_traits;

/* What cell.def says, likewise. */
typedef struct {
    int gates, has_c, reads_h;
    unit_state (*advance)(gates, unit_state, cell_extra);
} cell_traits;

INLINE int block_width(const gated_panels *p, int block)
{
    int left = p->units - block * LANES;
    return left < LANES ? left : LANES;
}

INLINE cell_extra extra_of(const gated_panels *p, int block)
{
    return (cell_extra){p->options, p->peephole ? p->peephole + (ptrdiff_t)block * 3 * LANES : NULL};
}

INLINE void trace_gate(float *to, vf active, int width)
{
    if (width == LANES) vf_store(to, active);
    else vf_store_part(to, active, width);
}

INLINE void trace_slice(const cell_traits cell, gates active, const gated_row *row, const gated_panels *p, ptrdiff_t at,
                        int width)
{
    float *trace = row->trace + at;
    trace_gate(trace, active.a, width);
    if (cell.gates > 1) trace_gate(trace + p->units, active.b, width);
    if (cell.gates > 2) trace_gate(trace + 2 * (ptrdiff_t)p->units, active.c, width);
    if (cell.gates > 3) trace_gate(trace + 3 * (ptrdiff_t)p->units, active.d, width);
}

/* Pre-activations to new state, for a whole slice of LANES units. */
INLINE void finish_slice(const cell_traits cell, gates acc, const gated_row *row, const gated_panels *p, int block,
                         const int traced)
{
    const ptrdiff_t at = (ptrdiff_t)block * LANES;
    unit_state s = {0};
    if (cell.reads_h) s.h = vf_load(row->previous + at);
    if (cell.has_c) s.c = vf_load(row->c + at);
    s = cell.advance(acc, s, extra_of(p, block));
    if (cell.has_c) vf_store(row->c + at, s.c);
    vf_store(row->y + at, s.h);
    if (traced) trace_slice(cell, s.active, row, p, at, LANES);
}

/* The same for the units of a slice that is not whole. */
INLINE void finish_part(const cell_traits cell, gates acc, const gated_row *row, const gated_panels *p, int block,
                        const int traced)
{
    const ptrdiff_t at = (ptrdiff_t)block * LANES;
    const int width = block_width(p, block);
    unit_state s = {0};
    if (cell.reads_h) s.h = vf_load_part(row->previous + at, width);
    if (cell.has_c) s.c = vf_load_part(row->c + at, width);
    s = cell.advance(acc, s, extra_of(p, block));
    if (cell.has_c) vf_store_part(row->c + at, s.c, width);
    vf_store_part(row->y + at, s.h, width);
    if (traced) trace_slice(cell, s.active, row, p, at, width);
}

INLINE void finish_tile(const cell_traits cell, const gates *acc, const gated_row *rows, int count,
                        const gated_panels *p, int block, int blocks, const int traced)
{
    for (int r = 0; r < count; r++) {
        for (int b = block; b < block + blocks; b++, acc++) {
            if (block_width(p, b) == LANES)
                finish_slice(cell, *acc, &rows[r], p, b, traced);
            else
                finish_part(cell, *acc, &rows[r], p, b, traced);
        }
    }
}

/* Accumulators at the start of the recurrent product: the bias, and what row.product already holds. */
INLINE gates resume(const product_traits t, gates bias, const float *product)
{
    gates held = gates_load(product, t.input_feeds);
    if (t.input_feeds & 1) bias.a = held.a;
    if (t.input_feeds & 2) bias.b = held.b;
    if (t.input_feeds & 4) bias.c = held.c;
    if (t.input_feeds & 8) bias.d = held.d;
    return bias;
}

INLINE product product_of(const product_traits t, const int feeds, const void *panel, int length, int block)
{
    const ptrdiff_t stride = (ptrdiff_t)gated_format_words(t.format, length) * t.gates * LANES;
    return (product){t.format, t.gates, feeds, length, (const float *)panel + block * stride, stride};
}

INLINE product input_product(const product_traits t, const gated_panels *p, int block)
{
    return product_of(t, t.input_feeds, p->input, p->inputs, block);
}

INLINE product recurrent_product(const product_traits t, const gated_panels *p, int block)
{
    return product_of(t, t.recurrent_feeds, p->hidden, p->recurrent, block);
}

/* What the products of a row are of. */
INLINE const float *input_of(const product_traits t, const gated_panels *p, const gated_row *row)
{
    return gated_narrow_part(t.format, p->inputs) ? row->narrow : row->x;
}

INLINE const float *recurrent_of(const product_traits t, const gated_panels *p, const gated_row *row)
{
    const size_t input = gated_narrow_part(t.format, p->inputs);
    return input ? (const float *)((const char *)row->narrow + input) : row->h;
}

#ifdef HAS_INT8
static NOINLINE void narrow(void *at, const float *from, int length, float limit)
{
    int8_round(at, from, length, limit);
}
#else
static NOINLINE void narrow(void *at, const float *from, int length, float limit)
{
    (void)limit;
    for (char *to = at; length > 0; length -= LANES, from += LANES, to += 2 * LANES)
        vf_to_bfloat16(to, length < LANES ? vf_load_part(from, length) : vf_load(from));
}
#endif

/* Before a step: x, unless its product is there, and h; before a projection only x. */
INLINE void narrow_rows(const product_traits t, const gated_panels *p, const gated_row *rows, ptrdiff_t count,
                        const int projects)
{
    for (ptrdiff_t i = 0; gated_narrow_part(t.format, 1) && i < count; i++) {
        char *to = rows[i].narrow;
        if (projects || !rows[i].product)
            narrow(to, rows[i].x, p->inputs, p->input_limit);
        if (!projects && p->recurrent)
            narrow(to + gated_narrow_part(t.format, p->inputs), rows[i].h, p->recurrent, p->hidden_limit);
    }
}

#ifdef HAS_INT8
/* `count` rows of one block, or `blocks` blocks of one row; without `finish` only their input products. The products are out
 * of line, so the accumulators are in memory and nothing needs to be a constant. */
static NOINLINE void int8_tile(const product_traits *t, const gated_panels *p, const gated_row *rows, int count, int block,
                               int blocks, gated_finish *finish)
{
    const int has_input = finish && rows->product;
    const ptrdiff_t width = t->gates * LANES;
    gates acc[MAX_TILE];
    const int8_row *x[MAX_TILE];

    for (int i = 0; i < count * blocks; i++) {
        const ptrdiff_t b = count > 1 ? block : block + i;
        acc[i] = gates_load(p->bias + b * 4 * LANES, 0x0f);
        if (has_input)
            acc[i] = resume(*t, acc[i], rows[count > 1 ? i : 0].product + b * width);
    }
    if (!has_input) {
        for (int r = 0; r < count; r++)
            x[r] = (const int8_row *)input_of(*t, p, &rows[r]);
        int8_accumulate(acc, count, blocks, x, input_product(*t, p, block));
    }
    if (!finish) {
        for (int r = 0; r < count; r++)
            gates_store(rows[r].product + block * width, acc[r], t->input_feeds);
        return;
    }
    if (p->recurrent) {
        for (int r = 0; r < count; r++)
            x[r] = (const int8_row *)recurrent_of(*t, p, &rows[r]);
        int8_accumulate(acc, count, blocks, x, recurrent_product(*t, p, block));
    }
    finish(acc, rows, count, p, block, blocks);
}
#endif

INLINE void step_rows(const product_traits t, const int rows, const gated_panels *p, const gated_row *row, int block,
                      gated_finish *finish)
{
    const gates bias = gates_load(p->bias + (ptrdiff_t)block * 4 * LANES, 0x0f);
    gates acc[MAX_TILE], done[MAX_TILE];
    const float *v[MAX_TILE];

    if (row[0].product) {
        const ptrdiff_t at = (ptrdiff_t)block * t.gates * LANES;
#define RESUME(r) acc[r] = resume(t, bias, row[r].product + at)
        EACH(rows, RESUME);
    } else {
#define BIAS(r) acc[r] = bias; v[r] = input_of(t, p, &row[r])
        EACH(rows, BIAS);
        accumulate_rows(acc, rows, v, input_product(t, p, block));
    }
#define HIDDEN(r) v[r] = recurrent_of(t, p, &row[r])
    EACH(rows, HIDDEN);
    accumulate_rows(acc, rows, v, recurrent_product(t, p, block));
    /* A copy: an array whose address escapes would be kept in memory throughout. */
#define DONE(i) done[i] = acc[i]
    EACH(rows, DONE);
    finish(done, row, rows, p, block, 1);
}

/* The pre-activations of `blocks` blocks of one row. */
INLINE void sum_blocks(const product_traits t, const int blocks, const gated_panels *p, const gated_row *row, int block,
                       gates *acc)
{
    const float *bias = p->bias + (ptrdiff_t)block * 4 * LANES;

    if (row->product) {
        const ptrdiff_t at = (ptrdiff_t)block * t.gates * LANES;
#define RESUME_BLOCK(b)                                                                                                \
    acc[b] = resume(t, gates_load(bias + (b) * 4 * LANES, 0x0f), row->product + at + (b) * t.gates * LANES)
        EACH(blocks, RESUME_BLOCK);
    } else {
#define BIAS_BLOCK(b) acc[b] = gates_load(bias + (b) * 4 * LANES, 0x0f)
        EACH(blocks, BIAS_BLOCK);
        accumulate_blocks(acc, blocks, input_of(t, p, row), input_product(t, p, block));
    }
    accumulate_blocks(acc, blocks, recurrent_of(t, p, row), recurrent_product(t, p, block));
}

INLINE void step_blocks(const product_traits t, const int blocks, const gated_panels *p, const gated_row *row, int block,
                        gated_finish *finish)
{
    gates acc[MAX_TILE], done[MAX_TILE];
    sum_blocks(t, blocks, p, row, block, acc);
    EACH(blocks, DONE);
    finish(done, row, 1, p, block, blocks);
}

INLINE void project_rows(const product_traits t, const int rows, const gated_panels *p, const gated_row *row, int block)
{
    const gates bias = gates_load(p->bias + (ptrdiff_t)block * 4 * LANES, 0x0f);
    const ptrdiff_t at = (ptrdiff_t)block * t.gates * LANES;
    gates acc[MAX_TILE];
    const float *v[MAX_TILE];

    EACH(rows, BIAS);
    accumulate_rows(acc, rows, v, input_product(t, p, block));
#define STORE(r) gates_store(row[r].product + at, acc[r], t.input_feeds)
    EACH(rows, STORE);
}

#define SWITCH_TILE(size, CALL)                                                                                        \
    switch (size) {                                                                                                    \
    case 1: CALL(1); break;                                                                                            \
    case 2: CALL(2); break;                                                                                            \
    case 3: CALL(3); break;                                                                                            \
    case 4: CALL(4); break;                                                                                            \
    case 5: CALL(5); break;                                                                                            \
    case 6: CALL(6); break;                                                                                            \
    case 7: CALL(7); break;                                                                                            \
    default: CALL(8); break;                                                                                           \
    }

#define CELL(name, product, has_c, reads_h)                                                                            \
    static const cell_traits name##_cell = {GATED_GATES_##product, has_c, reads_h, cell_##name};
#include "../cell.def"
#undef CELL

#ifdef CELLS_OF
#define HAS_OWN_CELLS 0
extern const gated_kernels CONCAT(gated_kernels_, CELLS_OF);
#define FINISH(name)        CONCAT(gated_kernels_, CELLS_OF).finish[GATED_KERNEL_##name][0]
#define FINISH_TRACED(name) CONCAT(gated_kernels_, CELLS_OF).finish[GATED_KERNEL_##name][1]
#else
#define HAS_OWN_CELLS 1
#define FINISH(name)        finish_##name
#define FINISH_TRACED(name) finish_traced_##name

/* Per cell: its way from pre-activations to state, without and with a trace. A call per tile: inlined per cell and tile
 * size this would be 90 % of the code. */
#define CELL(name, product, has_c, reads_h)                                                                            \
    static NOINLINE void finish_##name(const void *acc, const gated_row *rows, int count, const gated_panels *p,       \
                                       int block, int blocks)                                                          \
    {                                                                                                                  \
        finish_tile(name##_cell, acc, rows, count, p, block, blocks, 0);                                               \
    }                                                                                                                  \
    static NOINLINE void finish_traced_##name(const void *acc, const gated_row *rows, int count,                       \
                                              const gated_panels *p, int block, int blocks)                            \
    {                                                                                                                  \
        finish_tile(name##_cell, acc, rows, count, p, block, blocks, 1);                                               \
    }
#include "../cell.def"
#undef CELL
#endif

#ifdef HAS_FLOAT32
#define FORMAT float32
#include "format.h"
#undef FORMAT
#endif

#ifdef HAS_BFLOAT16
#define FORMAT bfloat16
#include "format.h"
#undef FORMAT
#endif

#ifdef HAS_BFLOAT16_DOT
#define FORMAT bfloat16_dot
#include "format.h"
#undef FORMAT
#endif

#ifdef HAS_INT8
#define FORMAT int8
#define TILES_OUT_OF_LINE
#include "format.h"
#undef TILES_OUT_OF_LINE
#undef FORMAT
#endif

#if HAS_OWN_CELLS
static void activate_array(const gated_activation *activation, const float *x, float *y, ptrdiff_t n)
{
    for (; n >= LANES; n -= LANES, x += LANES, y += LANES)
        vf_store(y, activate(activation, vf_load(x)));
    if (n > 0)
        vf_store_part(y, activate(activation, vf_load_part(x, (int)n)), (int)n);
}

#endif

const gated_kernels CONCAT(gated_kernels_, TABLE) = {
    .table = STRING(TABLE),
    .lanes = LANES,
    .exact = VF_FMA_IS_EXACT,
    .max_group = MAX_GROUP,
    .stream_group = STREAM_GROUP,
    .cell = {
#ifdef HAS_FLOAT32
        [GATED_FORMAT_float32] = kernels_float32,
#endif
#ifdef HAS_BFLOAT16
        [GATED_FORMAT_bfloat16] = kernels_bfloat16,
#endif
#ifdef HAS_INT8
        [GATED_FORMAT_int8] = kernels_int8,
#endif
#ifdef HAS_BFLOAT16_DOT
        [GATED_FORMAT_bfloat16_dot] = kernels_bfloat16_dot,
#endif
    },
#if HAS_OWN_CELLS
    .finish = {
#define CELL(name, product, has_c, reads_h) {finish_##name, finish_traced_##name},
#include "../cell.def"
#undef CELL
    },
    .activate = activate_array,
#endif
};
