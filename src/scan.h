/* One scan: the steps of one direction of one layer. layers.c says which of them run when and on which thread, scan.c runs
 * one of them on rows and blocks of a thread. */
#ifndef GATED_SCAN_H
#define GATED_SCAN_H

#include "internal.h"

/* Where a scan finds or puts a row: base + time * t + row * n, in floats. */
typedef struct {
    float *base;
    ptrdiff_t time, row;
    int by_step;             /* buffers between layers of one chunk are indexed by step, not by time */
    const int64_t *start;    /* packed: base + (start[t] + sorted row) * row */
} gated_plane;

/* Where a scan's c and gates go; base NULL: nowhere. */
typedef struct {
    gated_plane c, gates;
} gated_scan_traces;

/* Sorted rows first, first + stride, ..., so many of them. */
typedef struct {
    int64_t first, stride, count;
} gated_some_rows;

/* The steps first <= k < last of one scan, of some rows; r counts these. */
typedef struct {
    const gated_stack *stack;
    const gated_scan *scan;
    const gated_sequence *sequence;
    const gated_schedule *schedule;
    gated_scratch *scratch;
    gated_plane in, out;
    gated_scan_traces traces;
    const gated_resets *resets;
    float *h, *c;            /* this scan's state: [N, P or H], [N, H] */
    gated_some_rows rows;
    int64_t first, last;
} gated_scan_call;

/* Returns early when the scratch's thread is dismissed. */
void gated_scan_run(const gated_scan_call *call);

/* Rows and floats of the largest input product that is computed ahead, for any number of up to `batch` live rows; no less
 * than what is there. */
void gated_scan_size(const gated_scan *scan, int64_t batch, int64_t seq_len, int64_t *rows, size_t *floats);

/* The second product of a GRU that resets before is a gate of it, with its own input product. */
static inline int gated_has_candidate(const gated_scan *scan)
{
    return scan->second.panels.recurrent > 0;
}

static inline int64_t gated_row_steps(const gated_schedule *s, int64_t sorted)
{
    return s->steps ? s->steps[sorted] : s->seq_len;
}

static inline int64_t gated_clamp(int64_t x, int64_t low, int64_t high)
{
    return x < low ? low : x > high ? high : x;
}

#endif
