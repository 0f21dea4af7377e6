/* Everything a kernel table holds, compiled once per unit of src/isa/. The unit defines, before it includes this:
 *
 *   TABLE         the table's name, as in isa.def
 *   LANES         float32 values in a vector
 *   ROWS          rows of a register tile of 4 accumulators: about (registers - 4) / 4
 *   MAX_GROUP     blocks of one row that fit the registers, at most 5
 *   STREAM_GROUP  blocks of one row at a time when weights come from L2 or beyond
 *
 * Only the table has external linkage: code built with one ISA's flags must not be reachable from another's.
 */
#include "gemm.h"

#define CONCAT_(a, b) a##b
#define CONCAT(a, b)  CONCAT_(a, b)
#define STRING_(a)    #a
#define STRING(a)     STRING_(a)

/* What cell.def says of a cell; always a constant, so the code below specialises to it. */
typedef struct {
    int gates, input_feeds, recurrent_feeds, has_c, reads_h;
    unit_state (*advance)(gates, unit_state, cell_extra);
    void (*finish)(const gates *acc, const gated_row *rows, int count, const gated_panels *p, int block);
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

/* Pre-activations to new state, for a whole slice of LANES units. */
INLINE void finish_slice(const cell_traits cell, gates acc, const gated_row *row, const gated_panels *p, int block)
{
    const ptrdiff_t at = (ptrdiff_t)block * LANES;
    unit_state s = {0};
    if (cell.reads_h) s.h = vf_load(row->previous + at);
    if (cell.has_c) s.c = vf_load(row->c + at);
    s = cell.advance(acc, s, extra_of(p, block));
    if (cell.has_c) vf_store(row->c + at, s.c);
    vf_store(row->y + at, s.h);
}

/* The same for the units of a slice that is not whole. */
INLINE void finish_part(const cell_traits cell, gates acc, const gated_row *row, const gated_panels *p, int block)
{
    const ptrdiff_t at = (ptrdiff_t)block * LANES;
    const int width = block_width(p, block);
    unit_state s = {0};
    if (cell.reads_h) s.h = vf_load_part(row->previous + at, width);
    if (cell.has_c) s.c = vf_load_part(row->c + at, width);
    s = cell.advance(acc, s, extra_of(p, block));
    if (cell.has_c) vf_store_part(row->c + at, s.c, width);
    vf_store_part(row->y + at, s.h, width);
}

/* A tile's rows after one another, out of line: inlined per row and tile size it would be 90 % of the code. */
INLINE void finish_rows(const cell_traits cell, const gates *acc, const gated_row *rows, int count,
                        const gated_panels *p, int block)
{
    if (block_width(p, block) == LANES) {
        for (int r = 0; r < count; r++)
            finish_slice(cell, acc[r], &rows[r], p, block);
    } else {
        for (int r = 0; r < count; r++)
            finish_part(cell, acc[r], &rows[r], p, block);
    }
}

/* Accumulators at the start of the recurrent product: the bias, and what row.product already holds. */
INLINE gates resume(const cell_traits cell, gates bias, const float *product)
{
    gates held = gates_load(product, cell.input_feeds);
    if (cell.input_feeds & 1) bias.a = held.a;
    if (cell.input_feeds & 2) bias.b = held.b;
    if (cell.input_feeds & 4) bias.c = held.c;
    if (cell.input_feeds & 8) bias.d = held.d;
    return bias;
}

INLINE void step_rows(const cell_traits cell, const int rows, const gated_panels *p, const gated_row *row, int block)
{
    const gates bias = gates_load(p->bias + (ptrdiff_t)block * 4 * LANES, 0x0f);
    gates acc[MAX_TILE], done[MAX_TILE];
    const float *v[MAX_TILE];

    if (row[0].product) {
        const ptrdiff_t at = (ptrdiff_t)block * cell.gates * LANES;
#define RESUME(r) acc[r] = resume(cell, bias, row[r].product + at)
        EACH(rows, RESUME);
    } else {
#define BIAS(r) acc[r] = bias; v[r] = row[r].x
        EACH(rows, BIAS);
        accumulate_rows(acc, rows, v, p->input + (ptrdiff_t)block * p->inputs * cell.gates * LANES, p->inputs,
                        cell.gates, cell.input_feeds);
    }
    if (cell.recurrent_feeds) {
#define HIDDEN(r) v[r] = row[r].h
        EACH(rows, HIDDEN);
        accumulate_rows(acc, rows, v, p->hidden + (ptrdiff_t)block * p->recurrent * cell.gates * LANES, p->recurrent,
                        cell.gates, cell.recurrent_feeds);
    }
    /* A copy: an array whose address escapes would be kept in memory throughout. */
#define DONE(r) done[r] = acc[r]
    EACH(rows, DONE);
    cell.finish(done, row, rows, p, block);
}

INLINE void step_blocks(const cell_traits cell, const int blocks, const gated_panels *p, const gated_row *row, int block)
{
    const float *bias = p->bias + (ptrdiff_t)block * 4 * LANES;
    gates acc[MAX_TILE];

    if (row->product) {
        const ptrdiff_t at = (ptrdiff_t)block * cell.gates * LANES;
#define RESUME_BLOCK(b)                                                                                                \
    acc[b] = resume(cell, gates_load(bias + (b) * 4 * LANES, 0x0f), row->product + at + (b) * cell.gates * LANES)
        EACH(blocks, RESUME_BLOCK);
    } else {
        const ptrdiff_t stride = (ptrdiff_t)p->inputs * cell.gates * LANES;
#define BIAS_BLOCK(b) acc[b] = gates_load(bias + (b) * 4 * LANES, 0x0f)
        EACH(blocks, BIAS_BLOCK);
        accumulate_blocks(acc, blocks, row->x, p->input + block * stride, stride, p->inputs, cell.gates,
                          cell.input_feeds);
    }
    if (cell.recurrent_feeds) {
        const ptrdiff_t stride = (ptrdiff_t)p->recurrent * cell.gates * LANES;
        accumulate_blocks(acc, blocks, row->h, p->hidden + block * stride, stride, p->recurrent, cell.gates,
                          cell.recurrent_feeds);
    }
    const int whole = block_width(p, block + blocks - 1) == LANES;
#define FINISH_BLOCK(b)                                                                                                \
    if ((b) < blocks - 1 || whole) finish_slice(cell, acc[b], row, p, block + (b))
    EACH(blocks, FINISH_BLOCK);
    if (!whole) {
        const gates last = acc[blocks - 1];
        cell.finish(&last, row, 1, p, block + blocks - 1);
    }
}

INLINE void project_rows(const cell_traits cell, const int rows, const gated_panels *p, const gated_row *row, int block)
{
    const gates bias = gates_load(p->bias + (ptrdiff_t)block * 4 * LANES, 0x0f);
    const ptrdiff_t at = (ptrdiff_t)block * cell.gates * LANES;
    gates acc[MAX_TILE];
    const float *v[MAX_TILE];

    EACH(rows, BIAS);
    accumulate_rows(acc, rows, v, p->input + block * (ptrdiff_t)p->inputs * cell.gates * LANES, p->inputs, cell.gates,
                    cell.input_feeds);
#define STORE(r) gates_store(row[r].product + at, acc[r], cell.input_feeds)
    EACH(rows, STORE);
}

/* Rows of a tile: fewer accumulators a row leave room for more rows. */
INLINE int tile_rows(const cell_traits cell)
{
    return cell.gates == 1 ? MAX_TILE : ROWS;
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

/* One block, all rows, in balanced tiles: 7 rows go 4 + 3, not 6 + 1, for a tile of one row is bound by its loads. */
INLINE void each_tile(const cell_traits cell, const gated_panels *p, const gated_row *rows, ptrdiff_t count, int block,
                      const int project)
{
    const int most = tile_rows(cell);
    for (ptrdiff_t tiles = (count + most - 1) / most; tiles > 0; tiles--) {
        const int n = (int)((count + tiles - 1) / tiles);
#define TILE(r)                                                                                                        \
    if ((r) <= most) {                                                                                                 \
        if (project) project_rows(cell, r, p, rows, block);                                                            \
        else step_rows(cell, r, p, rows, block);                                                                       \
    }
        SWITCH_TILE(n, TILE)
        rows += n;
        count -= n;
    }
}

INLINE void step_one(const cell_traits cell, const gated_panels *p, const gated_row *row, int first, int last, int backward)
{
    const int most = cell.gates == 1 ? MAX_TILE : MAX_GROUP;
    for (int left = last - first; left > 0;) {
        const int groups = (left + p->group - 1) / p->group;
        const int n = (left + groups - 1) / groups;
        const int block = backward ? first + left - n : last - left;
#define GROUP(b)                                                                                                       \
    if ((b) <= most) step_blocks(cell, b, p, row, block)
        SWITCH_TILE(n, GROUP)
        left -= n;
    }
}

INLINE void step_any(const cell_traits cell, const gated_panels *p, const gated_row *rows, ptrdiff_t count, int first,
                     int last, int backward)
{
    if (count == 1) {
        step_one(cell, p, rows, first, last, backward);
        return;
    }
    for (int i = 0; i < last - first; i++)
        each_tile(cell, p, rows, count, backward ? last - 1 - i : first + i, 0);
}

#define CELL(name, gate_count, input_feeds, recurrent_feeds, has_c, reads_h)                                                \
    static NOINLINE void finish_##name(const gates *acc, const gated_row *rows, int count, const gated_panels *p,   \
                                       int block);                                                                     \
    static const cell_traits name##_traits = {gate_count, input_feeds, recurrent_feeds, has_c,                            \
                                              reads_h, cell_##name, finish_##name};                                    \
    static void finish_##name(const gates *acc, const gated_row *rows, int count, const gated_panels *p, int block) \
    {                                                                                                                  \
        finish_rows(name##_traits, acc, rows, count, p, block);                                                        \
    }                                                                                                                  \
    static void step_##name(const gated_panels *p, const gated_row *rows, ptrdiff_t count, int first, int last,        \
                            int backward)                                                                              \
    {                                                                                                                  \
        step_any(name##_traits, p, rows, count, first, last, backward);                                                \
    }                                                                                                                  \
    static void project_##name(const gated_panels *p, const gated_row *rows, ptrdiff_t count, int first, int last)     \
    {                                                                                                                  \
        for (int block = first; block < last; block++)                                                                 \
            each_tile(name##_traits, p, rows, count, block, 1);                                                        \
    }
#include "../cell.def"
#undef CELL

static void activate_array(const gated_activation *activation, const float *x, float *y, ptrdiff_t n)
{
    for (; n >= LANES; n -= LANES, x += LANES, y += LANES)
        vf_store(y, activate(activation, vf_load(x)));
    if (n > 0)
        vf_store_part(y, activate(activation, vf_load_part(x, (int)n)), (int)n);
}

const gated_kernels CONCAT(gated_kernels_, TABLE) = {
    .table = STRING(TABLE),
    .lanes = LANES,
    .exact = VF_FMA_IS_EXACT,
    .max_group = MAX_GROUP,
    .stream_group = STREAM_GROUP,
    .cell = {
#define CELL(name, gate_count, input_feeds, recurrent_feeds, has_c, reads_h) {gate_count, step_##name, project_##name},
#include "../cell.def"
#undef CELL
    },
    .activate = activate_array,
};
