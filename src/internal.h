/* The structs behind gated_c.h.
 *
 *   gated_model            L layers, in order
 *     layer                D scans that read the same input and write side by side
 *       gated_scan         one direction: a cell, and for LSTMP and one GRU a second product of its output
 *         gated_panels     packed weights (kernels/kernels.h)
 *   gated_schedule         which rows are live at which step, for one call
 *   gated_workspace        scratch of one call or one stream
 */
#ifndef GATED_INTERNAL_H
#define GATED_INTERNAL_H

#include "gated_c.h"
#include "kernels/kernels.h"

typedef struct {
    const gated_cell_kernel *kernel;
    int lanes;
    gated_panels panels;
    gated_options options;
    float *memory;   /* owns all panels */
    size_t bytes;
} gated_product;

typedef struct {
    gated_product cell;
    gated_product second;      /* of the cell's output: the projection of LSTMP, or the candidate n of the GRU that resets
                                  before, whose own recurrent product it is; kernel == NULL: none */
    int reverse;
    int has_c;
    int hidden_size;           /* H */
    int output_size;           /* P or H: the width of h */
    size_t h_offset, c_offset; /* floats per row of the batch before this scan's block of the state */
} gated_scan;

typedef struct {
    int num_directions;
    int input_size;
    int output_size;     /* D * (P or H) */
    gated_scan scan[2];
} gated_model_layer;

struct gated_model {
    int num_layers;
    int reverse;             /* some direction of some layer is */
    size_t state_per_row;    /* floats */
    gated_model_layer layers[];
};

/* isa.c: the kernel tables of the chosen level, narrowest first, NULL-terminated. */
gated_status gated_chosen_tables(const gated_kernels *const **tables);

/* pack.c */
typedef struct {
    int cell;                /* GATED_KERNEL_* */
    int inputs, recurrent, units;
    const float *weight_ih, *weight_hh, *bias_ih, *bias_hh;
    const float *peephole;
    const gated_options *options;
} gated_dense;

gated_status gated_pack(const gated_kernels *const *tables, const gated_dense *dense, gated_product *product);
void gated_product_free(gated_product *product);

/* memory.c: 64-byte aligned floats, on huge pages where that pays; NULL if there is no memory. */
float *gated_allocate(size_t floats);

/* schedule.c: rows sorted by live steps, longest first, so that the live ones are always a prefix. */
typedef struct {
    int64_t batch;
    int64_t seq_len;
    int64_t *order;        /* [N] batch row of sorted row r; NULL: r itself */
    int64_t *steps;        /* [N] live steps of sorted row r, not rising; NULL: seq_len */
    int32_t *times;        /* [N][T] time of live step k of sorted row r; NULL: k itself */
    int64_t *packed_start; /* [T] row of a packed buffer at which step t begins; NULL: not packed */
} gated_schedule;

gated_status gated_schedule_create(const gated_sequence *sequence, gated_schedule *schedule);
void gated_schedule_free(gated_schedule *schedule);

/* run.c */
typedef struct {
    int64_t chunk;           /* steps of one layer before the next one takes over */
    int64_t ahead_rows;      /* capacity of `ahead` */
    size_t product_floats;   /* capacity of `product` */
    gated_row *rows;         /* [N] */
    gated_row *second;       /* [N], of the scan's second product */
    gated_row *ahead[2];     /* [ahead_rows] rows of several steps whose input product is computed in one go */
    float *product[2];       /* [product_floats] */
    float *first_output;     /* [N, max H], what the second product is of; then z of a GRU, alike */
    float *between[2];       /* [chunk or T, N, max output] output of a layer that is not the last */
    int backward;            /* direction of the next sweep through the blocks */
    void *memory;
    float *floats;
} gated_workspace;

gated_status gated_workspace_create(const gated_model *model, int64_t batch, int64_t seq_len, gated_workspace *ws);
void gated_workspace_free(gated_workspace *ws);
void gated_run_layers(const gated_model *model, const gated_sequence *sequence, const gated_schedule *schedule,
                      gated_workspace *ws);

#endif
