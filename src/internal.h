/* The structs behind gated_c.h.
 *
 *   gated_model            a chain of layers: stacks, and plain layers around them
 *   gated_chain            scratch of some of them, for one call or one stream
 *
 *   gated_stack            L recurrent layers, in order
 *     layer                D scans that read the same input and write side by side
 *       gated_scan         one direction: a cell, and for LSTMP and one GRU a second product of its output
 *         gated_panels     packed weights (kernels/kernels.h)
 *   gated_schedule         which rows are live at which step, for one call
 *   gated_workspace        scratch of one call or one stream
 *   gated_stepper          the live state of a stack
 *   gated_ticker           the same, for rows that tick when they like: the members of a pool
 */
#ifndef GATED_INTERNAL_H
#define GATED_INTERNAL_H

#include "gated_c.h"
#include "isa/float_mode.h"
#include "kernels/kernels.h"
#include "mapping.h"
#include "team.h"

typedef struct {
    const gated_cell_kernel *kernel;       /* of the hidden format */
    const gated_cell_kernel *input_kernel; /* whose project computes the input product; another one if that has to be
                                              computed before each step: its weights are of another format */
    int lanes;
    gated_panels panels;
    size_t bytes;    /* of the panels */
    gated_options options;
} gated_product;

typedef struct {
    gated_product cell;
    gated_product second;      /* of the cell's output: the projection of LSTMP, or the candidate n of the GRU that resets
                                  before, whose own recurrent product it is; kernel == NULL: none */
    int reverse;
    int has_c;
    int num_gates;             /* G */
    int hidden_size;           /* H */
    int output_size;           /* P or H: the width of h */
    size_t h_offset, c_offset; /* floats per row of the batch before this scan's block of the state */
    size_t gates_offset;       /* the same in a trace of all gates */
} gated_scan;

typedef struct {
    int num_directions;
    int input_size;
    int output_size;     /* D * (P or H) */
    gated_scan scan[2];
} gated_stack_layer;

typedef struct {
    int num_layers;
    int reverse;             /* some direction of some layer is */
    size_t state_per_row;    /* floats */
    size_t c_per_row;        /* floats of it that are c, the last ones */
    size_t gates_per_row;    /* floats of all gates at one step */
    float *initial;          /* [state_per_row], of one row */
    gated_stack_layer layers[];
} gated_stack;

typedef struct {
    gated_layer is;          /* what gated_model_create was told; weight and bias are in the arena, or NULL if packed */
    gated_stack *stack;      /* of GATED_STACK */
    gated_product product;   /* of GATED_DENSE and GATED_CONV */
    const gated_kernels *table; /* for what is not packed */
    size_t state_offset;     /* floats per row of the batch before this stack's state */
    int dead_steps_matter;   /* what it gives at steps that do not count is looked at later */
} gated_model_layer;

struct gated_model {
    int num_layers;
    unsigned flags;
    int streamable;
    int makes_mask;          /* some layer decides which steps count */
    size_t state_per_row;    /* floats */
    double widest;           /* of all that scratch holds a row and step of, in floats */
    double kept;             /* floats per row, however many steps there are */
    int most_steps;          /* of a sequence that a layer makes */
    int64_t input_steps, output_steps; /* see gated_model_info */
    uint64_t structure;      /* hash of what a snapshot depends on: everything but the weights */
    const float *packed;     /* the arena of all weights, on a multiple of GATED_PACKED_ALIGNMENT bytes */
    size_t packed_floats;
    float *memory;           /* owns the arena; NULL: it is the caller's, or in `file` */
    gated_mapping file;      /* owned */
    gated_model_layer layers[];
};

/* The floating-point mode that a model wants, for the length of a call: gated_leave takes what gated_enter gave. */
static inline uint64_t gated_enter(const gated_model *model)
{
    if (!(model->flags & GATED_FLUSH_SUBNORMALS))
        return 0;
    const uint64_t mode = float_mode();
    set_float_mode(mode | FLUSH_SUBNORMALS);
    return mode;
}

static inline void gated_leave(const gated_model *model, uint64_t mode)
{
    if (model->flags & GATED_FLUSH_SUBNORMALS)
        set_float_mode(mode);
}

/* model.c: GATED_NO_MEMORY if scratch for so many rows and steps is beyond counting. */
gated_status gated_check_scratch(const gated_model *model, int64_t batch, int64_t seq_len);

enum {
    GATED_NUM_TABLES = 0
#define ISA(table, level, lanes, needs) + 1
#include "isa.def"
#undef ISA
};

/* The kernel tables of a level that have a format, narrowest first, NULL-terminated. */
typedef struct {
    const gated_kernels *of[GATED_NUM_FORMATS][GATED_NUM_TABLES + 1];
} gated_tables;

/* isa.c: those of the chosen level. */
gated_status gated_chosen_tables(const gated_tables **tables);

/* pack.c */
typedef struct {
    int cell;                /* GATED_KERNEL_* */
    int inputs, recurrent, units;
    const float *weight_ih, *weight_hh, *bias_ih, *bias_hh;
    const float *peephole;
    const gated_options *options;
    int input_format, hidden_format; /* GATED_FORMAT_*: of weight_ih and weight_hh, which are rounded to it */
    float input_limit, hidden_limit; /* of |x| and |h|, as far as something is known of them; else 0 */
} gated_unpacked;

/* All weights of a model, as the kernels read them. A model is gone through twice: to count its floats, then to place and
 * fill them. What the result looks like is GATED_PACKING. */
typedef struct {
    const gated_tables *tables;
    unsigned flags;          /* of the model */
    float *floats;           /* NULL while they are counted */
    size_t count;            /* so far */
    int is_filled;           /* before: nothing is written */
} gated_arena;

/* The next floats, from a cache line on; NULL while they are counted. */
float *gated_take(gated_arena *arena, size_t floats);

/* The same with what is in them, which may be nothing. */
const float *gated_take_copy(gated_arena *arena, const float *from, size_t floats);

void gated_pack(gated_arena *arena, const gated_unpacked *weights, gated_product *product);

/* Of row.narrow, a multiple of GATED_PACKED_ALIGNMENT. */
size_t gated_narrow_bytes(const gated_product *product);

/* The same for all products of a scan. */
static inline size_t gated_scan_narrow_bytes(const gated_scan *scan)
{
    const size_t cell = gated_narrow_bytes(&scan->cell), second = scan->second.kernel ? gated_narrow_bytes(&scan->second) : 0;
    return cell > second ? cell : second;
}

static inline int gated_projects_first(const gated_product *product)
{
    return product->input_kernel != product->kernel;
}

/* Floats of the input product of one row: [blocks][G][V]. */
static inline int64_t gated_product_width(const gated_product *product)
{
    return (int64_t)product->panels.blocks * product->lanes * product->kernel->gates;
}

static inline void gated_project(const gated_product *product, const gated_row *rows, int64_t count)
{
    product->input_kernel->project(&product->panels, rows, count, 0, product->panels.blocks);
}

/* One time step; a product that projects first does so into row.product. */
static inline void gated_product_step(const gated_product *product, const gated_row *rows, int64_t count, int backward)
{
    if (gated_projects_first(product))
        gated_project(product, rows, count);
    product->kernel->step(&product->panels, rows, count, 0, product->panels.blocks, backward);
}

/* memory.c: 64-byte aligned floats, on huge pages where that pays; NULL if there is no memory. */
float *gated_allocate(size_t floats);

/* schedule.c: rows sorted by live steps, longest first, so that the live ones are always a prefix. */

/* Sorted rows that return to their initial state: rows[start[k]] .. rows[start[k + 1] - 1] before their live step k, in the
 * order of processing, and those of k = T after their last one. */
typedef struct {
    int64_t *start; /* [T + 3]; NULL: no resets */
    int64_t *rows;
} gated_resets;

typedef struct {
    int64_t batch;
    int64_t seq_len;
    int64_t *order;        /* [N] batch row of sorted row r; NULL: r itself */
    int64_t *steps;        /* [N] live steps of sorted row r, not rising; NULL: seq_len */
    int32_t *times;        /* [N][T] time of live step k of sorted row r; NULL: k itself */
    int64_t *packed_start; /* [T] row of a packed buffer at which step t begins; NULL: not packed */
    gated_resets resets[2]; /* forward; reverse, of 2 directions */
} gated_schedule;

gated_status gated_check_sequence(const gated_sequence *sequence);
gated_status gated_schedule_create(const gated_sequence *sequence, int directions, gated_schedule *schedule);
void gated_schedule_free(gated_schedule *schedule);

/* stack.c */
gated_status gated_stack_create(const gated_recurrent *layers, int num_layers, unsigned flags, gated_stack **stack);
void gated_stack_pack(gated_stack *stack, const gated_recurrent *layers, gated_arena *arena);
void gated_stack_free(gated_stack *stack);
int gated_stack_output(const gated_stack *stack);

/* The state of row n, of one scan or all, becomes that of another state of the same batch, or the initial one if `from` is
 * NULL. */
void gated_scan_set_row(const gated_stack *stack, const gated_scan *scan, float *state, const float *from, int64_t batch,
                        int64_t n);
void gated_stack_set_row(const gated_stack *stack, float *state, const float *from, int64_t batch, int64_t n);

/* split.c: how the work of a stack goes to threads. */
enum {
    GATED_ALONE_SPLIT,
    GATED_BLOCKS,            /* hidden units of every scan; the threads meet at every step */
    GATED_ROWS,              /* of the batch */
    GATED_LANES              /* scans: layers in a wavefront of chunks, and directions beside each other */
};

typedef struct {
    int kind;
    int threads;
    int64_t chunk;           /* steps of GATED_LANES */
    double alone, together;  /* ns, on one thread and on these */
} gated_split;

/* The best on up to `threads`; if `is_told`, on as many as there is work for, whether it pays or not. */
gated_split gated_split_choose(const gated_stack *stack, int64_t batch, int64_t seq_len, int threads, int is_told);

/* The same for a team that is there; NULL is one thread. */
gated_split gated_split_among(const gated_team *team, const gated_stack *stack, int64_t batch, int64_t seq_len);

/* Of a whole call: ns on one thread; and how many pay, given that, 1 for none but the caller's. */
double gated_split_alone(const gated_model *model, int64_t batch, int64_t seq_len);
int gated_split_threads(const gated_model *model, int64_t batch, int64_t seq_len, double alone);

/* scan.c: what one thread needs for one scan at a time. */
typedef struct {
    gated_row *rows;         /* [N] */
    gated_row *second;       /* [N], of the scan's second product */
    gated_row *ahead[2];     /* rows of several steps whose input product is computed in one go */
    float *product[2];
    char *narrow;            /* [most rows of one kernel call][narrow_bytes] */
    size_t narrow_bytes;     /* the most that a product needs */
    float *first_output;     /* [N, max H], what the second product is of; then z of a GRU, alike */
    int backward;            /* direction of the next sweep through the blocks */
    gated_team *team;
    int index, count;        /* the thread's share of the blocks */
    int is_dismissed;        /* thread 0 does the rest */
} gated_scratch;

/* layers.c */
typedef struct gated_lane gated_lane;

typedef struct {
    gated_split split;
    int64_t chunk;           /* steps of one layer before the next one takes over */
    gated_scratch *threads;  /* [split.threads] */
    gated_lane *lanes;       /* of GATED_LANES, one per scan */
    float *between;          /* buffers [chunk or T, N, max output] of the outputs of layers that are not the last: two that
                                take turns, or of GATED_LANES a ring for each layer */
    size_t between_floats;   /* of a buffer */
    void *memory;
    float *floats;
} gated_workspace;

/* `split`: NULL for one thread. */
gated_status gated_workspace_create(const gated_stack *stack, int64_t batch, int64_t seq_len, const gated_split *split,
                                    gated_workspace *ws);
void gated_workspace_free(gated_workspace *ws);

/* Where c [T, N, H] and gates [T, N, G, H] of scan after scan go, for one piece of a sequence. */
typedef struct {
    float *c, *gates;        /* NULL: nowhere */
    int64_t seq_len;         /* T of the whole sequence */
    int64_t first;           /* its step with which the piece begins */
} gated_trace;

/* To behind what a stack takes of a trace. */
void gated_trace_skip(gated_trace *trace, const gated_stack *stack, int64_t batch);

/* Of at most the seq_len of the workspace. The sequence's own traces are not looked at. */
gated_status gated_stack_run(const gated_stack *stack, const gated_sequence *sequence, const gated_trace *trace,
                             gated_workspace *ws, gated_team *team);

/* stepper.c: `state` [state_per_row * batch] is the caller's, and holds the current state after gated_stepper_settle. */
typedef struct gated_stepper gated_stepper;

gated_status gated_stepper_create(const gated_stack *stack, int64_t batch, float *state, gated_stepper **stepper);
void gated_stepper_free(gated_stepper *stepper);
void gated_stepper_settle(gated_stepper *stepper);
void gated_stepper_step(gated_stepper *stepper, const float *x, float *y);
void gated_stepper_run(gated_stepper *stepper, int64_t steps, const float *x, ptrdiff_t x_time, ptrdiff_t x_row, float *y,
                       ptrdiff_t y_time, ptrdiff_t y_row);

/* Rows of a sequence: base + time * t + row * n, in floats; and which of them count, base NULL for all. */
typedef struct {
    float *base;
    ptrdiff_t time, row;
} gated_view;

typedef struct {
    unsigned char *base;
    ptrdiff_t time, row;
} gated_live;

typedef struct {
    const unsigned char *base;
    ptrdiff_t time, row;
} gated_marks;

/* One piece of a sequence, on its way through a layer. */
typedef struct {
    gated_view in, out;
    gated_live live;
    gated_marks reset;       /* steps with which a new sequence begins; base NULL for none */
    gated_trace trace;       /* of the chain's first stack */
    int64_t steps, batch;
    const int32_t *members;  /* [batch] row of memory that row n goes on with; NULL: n itself */
} gated_span;

/* ticker.c: `state` as of a stepper, always current. */
typedef struct gated_ticker gated_ticker;

gated_status gated_ticker_create(const gated_stack *stack, int64_t batch, float *state, gated_ticker **ticker);
void gated_ticker_free(gated_ticker *ticker);

/* One step of some members, of those rows of the span that count; out must not overlap in. */
void gated_ticker_step(gated_ticker *ticker, const gated_span *span);

/* Whether a new sequence begins with step t of row n. */
static inline int gated_resets_at(const gated_span *s, int64_t t, int64_t n)
{
    return s->reset.base && s->reset.base[t * s->reset.time + n * s->reset.row];
}

/* What a layer keeps from one piece of a sequence to the next, and for one. */
typedef struct {
    gated_workspace ws;      /* of a stack */
    gated_stepper *stepper;  /* of a stack in a stream */
    gated_ticker *ticker;    /* of a stack in a pool of members */
    float *values;           /* pool: [N, F]; convolution: windows, and the steps before; stack: its last output [N, F], in a
                                stream its state before a step */
    int64_t *counts;         /* [N] steps so far that count: of a pool, and in a stream of a stack; convolution: the first of
                                the steps before that are another sequence's */
} gated_memory;

/* plain.c */
int gated_ids_in_range(const gated_layer *embedding, const int32_t *ids, int64_t steps, ptrdiff_t time, int64_t batch,
                       ptrdiff_t row);
int64_t gated_steps_before(const gated_layer *conv);
float *gated_conv_history(const gated_layer *conv, const gated_memory *memory); /* [N, steps before, input] */
int gated_is_pool(gated_kind kind);
int64_t gated_steps_after(const gated_layer *layer, int64_t steps);
size_t gated_plain_memory(const gated_layer *layer, int64_t batch);
void gated_plain_run(const gated_model_layer *layer, const gated_span *span, gated_memory *memory);
void gated_pooled(const gated_layer *layer, const gated_memory *memory, const gated_span *span, gated_view out);

/* An array [N] of what each row of a chain keeps. */
typedef struct {
    unsigned char *base;
    size_t bytes;            /* of a row */
} gated_kept_array;

typedef struct {
    gated_kept_array *arrays;
    int states;              /* so many of them are of the state, the first */
    int count;
} gated_kept;

/* chain.c: layers first .. last - 1 of a model, over one time axis. */
enum { GATED_ONE_CALL, GATED_STREAM, GATED_MEMBERS };

typedef struct {
    const gated_model *model;
    int first, last;
    int64_t batch;
    int64_t chunk;           /* steps that `between` holds */
    int streaming;           /* what the chain is for: GATED_ONE_CALL, a GATED_STREAM, or GATED_MEMBERS of a pool */
    gated_team *team;        /* NULL: the calling thread */
    float *state;            /* of the model */
    const float *initial;    /* of the model, to which resets return; NULL for its own */
    gated_memory *memory;    /* [last - first] */
    gated_kept kept;         /* unless for one call */
    float *between[2];       /* [chunk, N, widest] */
    float *floats;
    int64_t *integers;
} gated_chain;

/* `team`: that runs it for one call; else NULL. */
gated_status gated_chain_create(const gated_model *model, int first, int last, int64_t batch, int64_t seq_len,
                                int streaming, float *state, gated_team *team, gated_chain *chain);
void gated_chain_free(gated_chain *chain);

/* A piece of a sequence; in a stream at most the chunk, and one step if a mask or pool is about. span->out is where the
 * last layer that computes something writes; `masks` [steps, N] is for layers that decide which steps count. On return
 * span->in is the result and span->live what counts of it. */
gated_status gated_chain_run(gated_chain *chain, gated_span *span, unsigned char *masks, int is_first);

/* One step of a stream, or of some members of a pool: x [N, C] to y [N, F], contiguous; they may overlap. */
gated_status gated_chain_step(gated_chain *chain, const int32_t *members, int64_t batch, const void *x, float *y,
                              unsigned char *masks);

/* A stream's state becomes current, as a pool's always is. */
void gated_chain_settle(gated_chain *chain);

/* Reads all weights and writes all scratch of a stream, or of a pool of which these are all rows; the rows stay as they
 * are. */
gated_status gated_chain_warm(gated_chain *chain, const int32_t *members, unsigned char *masks);

/* y [steps, N, width] becomes 0 at the steps that do not count. */
void gated_clear_dead_steps(const gated_span *span, gated_view y, int width);

/* snapshot.c: all that the chain of a whole model keeps of row n; the state must be settled. */
uint64_t gated_structure(const gated_layer *layers, int num_layers);
gated_status gated_kept_create(gated_chain *chain);
void gated_row_reset(const gated_chain *chain, int64_t n);
void gated_row_copy(const gated_chain *chain, int64_t from, int64_t to);
void gated_row_save(const gated_chain *chain, int64_t n, void *bytes);
gated_status gated_row_restore(const gated_chain *chain, int64_t n, const void *bytes);

#endif
