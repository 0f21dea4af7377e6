/* The contract between the engine and the kernels: what an ISA unit exports and the data it works on.
 *
 * Shape letters: T time, N batch, C input features, H hidden units, G gates, V lanes.
 */
#ifndef GATED_KERNELS_H
#define GATED_KERNELS_H

#include "gated_c.h"

#include <stddef.h>

enum {
#define FORMAT(name, per_word, extra, narrows) GATED_FORMAT_##name,
#include "../format.def"
#undef FORMAT
    GATED_NUM_FORMATS
};

/* What format.def says. */
typedef struct {
    int per_word, extra, narrows;
} gated_format;

static inline gated_format gated_format_of(int format)
{
    static const gated_format formats[] = {
#define FORMAT(name, per_word, extra, narrows) {per_word, extra, narrows},
#include "../format.def"
#undef FORMAT
    };
    return formats[format];
}

/* 32-bit words of a row of `length` weights. */
static inline int gated_format_words(int format, int length)
{
    const gated_format f = gated_format_of(format);
    return length ? (length - 1) / f.per_word + 1 + f.extra : 0;
}

/* Bytes of `length` values of x or h in row.narrow: whole vectors, and a line before them for what belongs to all. */
static inline size_t gated_narrow_part(int format, int length)
{
    enum { LINE = 64 };
    const gated_format f = gated_format_of(format);
    return f.narrows ? LINE + ((size_t)length * 4 / f.per_word + LINE) / LINE * LINE : 0;
}

/* Weights of one product pair as the kernels read them: hidden units in blocks of V (the last one padded with zeros),
 * each block one linear stream. pack.c writes them. */
typedef struct {
    int inputs;      /* C, length of the input product */
    int recurrent;   /* length of the recurrent product: H, or the projected size */
    int units;       /* H */
    int blocks;      /* ceil(H / V) */
    int group;       /* blocks taken at a time when there is one row */
    float *bias;     /* [blocks][4][V], one per accumulator */
    float *peephole; /* [blocks][3][V], of i f o; NULL without */
    const gated_options *options; /* of a general cell */
    int input_format, hidden_format; /* GATED_FORMAT_* */
    float input_limit, hidden_limit; /* of |x| and |h|, for formats that need one; 0: that of the row */
    void *input;     /* [blocks][words of C][G][V] */
    void *hidden;    /* [blocks][words of recurrent][G][V] */
} gated_panels;

/* One row of the batch at one time step. */
typedef struct {
    const float *x;  /* [C] */
    const float *h;  /* [recurrent], what the recurrent product is of; never y itself */
    const float *previous; /* [H], h of the step before, for cells that read it */
    float *c;        /* [H], updated in place; NULL if the cell has none */
    float *y;        /* [H], the new h */
    float *product;  /* [blocks][G][V], bias + input product if computed before; else NULL */
    void *narrow;    /* gated_narrow_bytes() of scratch, for the length of a call: x, then h, as products take them */
    float *trace;    /* [G][H], where step_traced puts the gates behind their activations; NULL without */
} gated_row;

typedef struct {
    int gates;
    /* One time step of `count` rows for blocks first <= b < last, from the last block down if `backward`. */
    void (*step)(const gated_panels *panels, const gated_row *rows, ptrdiff_t count, int first, int last, int backward);
    /* The same bits, and the gates of every row into row.trace. */
    void (*step_traced)(const gated_panels *panels, const gated_row *rows, ptrdiff_t count, int first, int last,
                        int backward);
    /* bias + input product of `count` rows into row.product, for the same blocks. Rows may be of different times. The
     * input's format is this kernel's; where the hidden one is another, step takes row.product. */
    void (*project)(const gated_panels *panels, const gated_row *rows, ptrdiff_t count, int first, int last);
} gated_cell_kernel;

/* Pre-activations of `count` rows and `blocks` blocks from `block` on, acc [count][blocks] in the table's vectors, to
 * their new state. */
typedef void gated_finish(const void *acc, const gated_row *rows, int count, const gated_panels *panels, int block,
                          int blocks);

enum {
#define PRODUCT(name, gates, input_feeds, recurrent_feeds) GATED_GATES_##name = gates,
#include "../product.def"
#undef PRODUCT
};

enum {
#define CELL(name, product, has_c, reads_h) GATED_KERNEL_##name,
#include "../cell.def"
#undef CELL
    GATED_NUM_CELLS
};

typedef struct {
    const char *table;  /* name of the unit, as in isa.def */
    int lanes;          /* V */
    int exact;          /* products are fused (FMA): the bits are those of every other exact table */
    int max_group;      /* most blocks that one row can take at a time in registers, with 4 accumulators each */
    int stream_group;   /* blocks at a time that read weights from beyond L1 fastest */
    const gated_cell_kernel *cell[GATED_NUM_FORMATS]; /* [GATED_NUM_CELLS] each; NULL: the table has no such kernels */
    gated_finish *finish[GATED_NUM_CELLS][2]; /* without and with a trace */
    void (*activate)(const gated_activation *activation, const float *x, float *y, ptrdiff_t n);
} gated_kernels;

#endif
