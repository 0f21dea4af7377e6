/* The kernels of one FORMAT of weights. body.h includes this for each of those that a unit has. */
#define OF_FORMAT(name) CONCAT(name##_, FORMAT)

/* Per product, shared by its cells: the tiles of all sizes. */
#define PRODUCT(name, gate_count, input_feeds, recurrent_feeds)                                                        \
    static const product_traits OF_FORMAT(name) = {gate_count, input_feeds, recurrent_feeds,                           \
                                                   CONCAT(GATED_FORMAT_, FORMAT)};                                     \
    static NOINLINE void OF_FORMAT(step_##name)(const gated_panels *p, const gated_row *rows, ptrdiff_t count,         \
                                                int first, int last, int backward, gated_finish *finish)               \
    {                                                                                                                  \
        if (count == 1) {                                                                                              \
            step_one(OF_FORMAT(name), p, rows, first, last, backward, finish);                                         \
            return;                                                                                                    \
        }                                                                                                              \
        for (int i = 0; i < last - first; i++)                                                                         \
            each_tile(OF_FORMAT(name), p, rows, count, backward ? last - 1 - i : first + i, finish, 0);                \
    }                                                                                                                  \
    static void OF_FORMAT(project_##name)(const gated_panels *p, const gated_row *rows, ptrdiff_t count, int first,    \
                                          int last)                                                                    \
    {                                                                                                                  \
        narrow_rows(OF_FORMAT(name), p, rows, count, 1);                                                               \
        for (int block = first; block < last; block++)                                                                 \
            each_tile(OF_FORMAT(name), p, rows, count, block, 0, 1);                                                   \
    }
#include "../product.def"
#undef PRODUCT

/* Per cell. One row of one whole block is bound by latency: there everything stays in registers. */
#define CELL(name, product, has_c, reads_h)                                                                            \
    static void OF_FORMAT(step_cell_##name)(const gated_panels *p, const gated_row *rows, ptrdiff_t count, int first,  \
                                            int last, int backward)                                                    \
    {                                                                                                                  \
        narrow_rows(OF_FORMAT(product), p, rows, count, 0);                                                            \
        if (HAS_OWN_CELLS && !is_out_of_line(OF_FORMAT(product)) && count == 1 && p->units == LANES && first < last) {                                        \
            gates acc;                                                                                                 \
            sum_blocks(OF_FORMAT(product), 1, p, rows, 0, &acc);                                                       \
            finish_slice(name##_cell, acc, rows, p, 0, 0);                                                             \
            return;                                                                                                    \
        }                                                                                                              \
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
