/* The kernels of one FORMAT of weights. body.h includes this for each of those that a unit has. */
#define OF_FORMAT(name) CONCAT(name##_, FORMAT)

/* What a constant rules out is inlined before it is: 64 tiles that are never used took 30 s of GCC. */
#ifdef TILES_OUT_OF_LINE
#define ROWS_TILE(n)                                                                                                   \
    (void)project;                                                                                                     \
    int8_tile(&t, p, rows, n, block, 1, finish);
#define GROUP_TILE(n)                                                                                                  \
    (void)most;                                                                                                        \
    int8_tile(&t, p, row, 1, block, n, finish);
#else
#define TILE(r)                                                                                                        \
    if ((r) <= most) {                                                                                                 \
        if (project) project_rows(t, r, p, rows, block);                                                               \
        else step_rows(t, r, p, rows, block, finish);                                                                  \
    }
#define GROUP(b)                                                                                                       \
    if ((b) <= most) step_blocks(t, b, p, row, block, finish)
#define ROWS_TILE(n)  SWITCH_TILE(n, TILE)
#define GROUP_TILE(n) SWITCH_TILE(n, GROUP)
#endif

/* One block, all rows, in balanced tiles: 7 rows go 4 + 3, not 6 + 1, for a tile of one row is bound by its loads. Fewer
 * gates leave registers for more rows. Without `finish` only the input products are computed. */
INLINE void OF_FORMAT(each_tile)(const product_traits t, const gated_panels *p, const gated_row *rows, ptrdiff_t count,
                                 int block, gated_finish *finish, const int project)
{
    const int most = t.gates == 1 ? MAX_TILE : ROWS;
    for (ptrdiff_t tiles = (count + most - 1) / most; tiles > 0; tiles--) {
        const int n = (int)((count + tiles - 1) / tiles);
        ROWS_TILE(n)
        rows += n;
        count -= n;
    }
}

INLINE void OF_FORMAT(step_one)(const product_traits t, const gated_panels *p, const gated_row *row, int first,
                                int last, int backward, gated_finish *finish)
{
    const int most = t.gates == 1 ? MAX_TILE : MAX_GROUP;
    for (int left = last - first; left > 0;) {
        const int groups = (left + p->group - 1) / p->group;
        const int n = (left + groups - 1) / groups;
        const int block = backward ? first + left - n : last - left;
        GROUP_TILE(n)
        left -= n;
    }
}

/* Per product, shared by its cells: the tiles of all sizes. */
#define PRODUCT(name, gate_count, input_feeds, recurrent_feeds)                                                        \
    static const product_traits OF_FORMAT(name) = {gate_count, input_feeds, recurrent_feeds,                           \
                                                   CONCAT(GATED_FORMAT_, FORMAT)};                                     \
    static NOINLINE void OF_FORMAT(step_##name)(const gated_panels *p, const gated_row *rows, ptrdiff_t count,         \
                                                int first, int last, int backward, gated_finish *finish)               \
    {                                                                                                                  \
        if (count == 1) {                                                                                              \
            OF_FORMAT(step_one)(OF_FORMAT(name), p, rows, first, last, backward, finish);                                         \
            return;                                                                                                    \
        }                                                                                                              \
        for (int i = 0; i < last - first; i++)                                                                         \
            OF_FORMAT(each_tile)(OF_FORMAT(name), p, rows, count, backward ? last - 1 - i : first + i, finish, 0);     \
    }                                                                                                                  \
    static void OF_FORMAT(project_##name)(const gated_panels *p, const gated_row *rows, ptrdiff_t count, int first,    \
                                          int last)                                                                    \
    {                                                                                                                  \
        narrow_rows(OF_FORMAT(name), p, rows, count, 1);                                                               \
        for (int block = first; block < last; block++)                                                                 \
            OF_FORMAT(each_tile)(OF_FORMAT(name), p, rows, count, block, 0, 1);                                        \
    }
#include "../product.def"
#undef PRODUCT

/* One row of one whole block is bound by latency: there everything stays in registers. */
#if HAS_OWN_CELLS && !defined(TILES_OUT_OF_LINE)
#define STEP_WHOLE_BLOCK(name, product)                                                                                \
    if (count == 1 && p->units == LANES && first < last) {                                                             \
        gates acc;                                                                                                     \
        sum_blocks(OF_FORMAT(product), 1, p, rows, 0, &acc);                                                           \
        finish_slice(name##_cell, acc, rows, p, 0, 0);                                                                 \
        return;                                                                                                        \
    }
#else
#define STEP_WHOLE_BLOCK(name, product)
#endif

/* Per cell. */
#define CELL(name, product, has_c, reads_h)                                                                            \
    static void OF_FORMAT(step_cell_##name)(const gated_panels *p, const gated_row *rows, ptrdiff_t count, int first,  \
                                            int last, int backward)                                                    \
    {                                                                                                                  \
        narrow_rows(OF_FORMAT(product), p, rows, count, 0);                                                            \
        STEP_WHOLE_BLOCK(name, product)                                                                                \
        OF_FORMAT(step_##product)(p, rows, count, first, last, backward, FINISH(name));                                \
    }                                                                                                                  \
    static void OF_FORMAT(step_traced_##name)(const gated_panels *p, const gated_row *rows, ptrdiff_t count,           \
                                              int first, int last, int backward)                                       \
    {                                                                                                                  \
        narrow_rows(OF_FORMAT(product), p, rows, count, 0);                                                            \
        OF_FORMAT(step_##product)(p, rows, count, first, last, backward, FINISH_TRACED(name));                         \
    }
#include "../cell.def"
#undef CELL

static const gated_cell_kernel OF_FORMAT(kernels)[GATED_NUM_CELLS] = {
#define CELL(name, product, has_c, reads_h)                                                                            \
    {GATED_GATES_##product, OF_FORMAT(step_cell_##name), OF_FORMAT(step_traced_##name), OF_FORMAT(project_##product)},
#include "../cell.def"
#undef CELL
};

#undef OF_FORMAT
#undef STEP_WHOLE_BLOCK
#undef ROWS_TILE
#undef GROUP_TILE
#undef TILE
#undef GROUP
