/* The steps of one direction of one layer around the kernels: ragged rows, resets, and products computed ahead. */
#include "scan.h"

#include <string.h>

enum {
    AHEAD_STEPS = 32,              /* steps whose input product is computed in one go */
    AHEAD_STEPS_BEYOND_L2 = 128,   /* the same for weights that do not stay in L2 */
    AHEAD_FLOATS = 512 << 10,      /* at most: 2 MiB */
    MOST_ROWS_AHEAD = 8,           /* of one step */
    L2_FLOATS = 192 << 10,         /* weights under 768 KiB stay in a 1 MiB L2 */
    L3_BYTES = 8 << 20
};

static int64_t sorted_row(const gated_scan_call *call, int64_t r)
{
    return call->rows.first + r * call->rows.stride;
}

static int64_t batch_row(const gated_scan_call *call, int64_t r)
{
    const int64_t sorted = sorted_row(call, r);
    return call->schedule->order ? call->schedule->order[sorted] : sorted;
}

/* Rows still live at step k, given that no more than `live` are. */
static int64_t live_rows(const gated_scan_call *call, int64_t k, int64_t live)
{
    while (live > 0 && gated_row_steps(call->schedule, sorted_row(call, live - 1)) <= k)
        live--;
    return live;
}

static float *place(const gated_scan_call *call, const gated_plane *plane, int64_t r, int64_t k)
{
    const gated_schedule *s = call->schedule;
    const int64_t sorted = sorted_row(call, r);
    if (plane->by_step)
        return plane->base + (k - call->first) * plane->time + sorted * plane->row;
    int64_t t = call->scan->reverse ? gated_row_steps(s, sorted) - 1 - k : k;
    if (s->times)
        t = s->times[sorted * s->seq_len + t];
    if (plane->start)
        return plane->base + (plane->start[t] + sorted) * plane->row;
    return plane->base + t * plane->time + batch_row(call, r) * plane->row;
}

/* The blocks of a product that are this thread's: thread 0 has the last ones, and one more if they do not come out even,
 * so that it is others who wait. */
static int share_of(const gated_scratch *scratch, const gated_product *product, int index)
{
    return (int)((int64_t)product->panels.blocks * (scratch->count - index) / scratch->count);
}

static int first_block(const gated_scratch *scratch, const gated_product *product)
{
    return share_of(scratch, product, scratch->index + 1);
}

static int last_block(const gated_scratch *scratch, const gated_product *product)
{
    return share_of(scratch, product, scratch->index);
}

/* All blocks of what came before are there; 0 if this thread is to go. */
static int meet(gated_scratch *scratch)
{
    if (scratch->count == 1)
        return 1;
    const gated_company company = gated_team_meet(scratch->team, scratch->index, scratch->count);
    if (company == GATED_ALONE)
        scratch->count = 1;
    scratch->is_dismissed = company == GATED_DISMISSED;
    return !scratch->is_dismissed;
}

/* Of how many of the next `left` steps the input product is worth computing in one go; 1 for none. With few rows a step
 * is bound by reading weights: the input weights are then read once for all these steps instead of once for each. From
 * four rows on the tiles are compute-bound either way. */
static int64_t steps_ahead(const gated_product *cell, int64_t live, int64_t left)
{
    const gated_panels *p = &cell->panels;
    const int most_rows = cell->bytes > L3_BYTES ? MOST_ROWS_AHEAD : 2;
    if (live < 1 || live > most_rows || p->units < 48 || p->inputs <= p->units / 8)
        return 1;
    const int64_t width = gated_product_width(cell);
    const int64_t most = p->inputs * width > L2_FLOATS ? AHEAD_STEPS_BEYOND_L2 : AHEAD_STEPS;
    return gated_clamp(AHEAD_FLOATS / (width * live), 1, gated_clamp(left, 1, most));
}

/* Input products of the live rows of steps k .. k + steps - 1, for the first or second product of the scan: of this thread's
 * blocks, which nobody else reads before they meet. */
static void compute_ahead(const gated_scan_call *call, int second, int64_t k, int64_t steps, int64_t live)
{
    const gated_product *product = second ? &call->scan->second : &call->scan->cell;
    const int64_t width = gated_product_width(product);
    gated_scratch *scratch = call->scratch;
    gated_row *row = scratch->ahead[second];
    float *result = scratch->product[second];
    char *narrow = scratch->narrow;
    for (int64_t i = 0; i < steps; i++) {
        live = live_rows(call, k + i, live);
        for (int64_t r = 0; r < live; r++, row++, result += width, narrow += scratch->narrow_bytes) {
            row->x = place(call, &call->in, r, k + i);
            row->product = result;
            row->narrow = narrow;
        }
    }
    const gated_row *rows = scratch->ahead[second];
    product->input_kernel->project(&product->panels, rows, row - rows, first_block(scratch, product),
                                   last_block(scratch, product));
}

/* The rows that write the scan's output. */
static gated_row *output_rows(const gated_scan_call *call)
{
    return call->scan->second.kernel ? call->scratch->second : call->scratch->rows;
}

static void start_rows(const gated_scan_call *call, int64_t live)
{
    const gated_scan *scan = call->scan;
    gated_scratch *scratch = call->scratch;
    for (int64_t r = 0; r < live; r++) {
        const int64_t n = batch_row(call, r);
        float *h = call->h + n * scan->output_size;
        scratch->rows[r] = (gated_row){.c = call->c ? call->c + n * scan->hidden_size : NULL, .y = h};
        if (!scan->second.kernel)
            continue;
        float *first = scratch->rows[r].y = scratch->first_output + r * scan->hidden_size;
        scratch->second[r] = (gated_row){.x = first, .y = h};
        if (gated_has_candidate(scan)) {
            float *z = scratch->rows[r].c = first + call->rows.count * scan->hidden_size;
            scratch->second[r] = (gated_row){.h = first, .c = z, .y = h};
        }
    }
    for (int64_t r = 0; r < live; r++)
        scratch->rows[r].narrow = scratch->second[r].narrow = scratch->narrow + r * scratch->narrow_bytes;
}

/* Which of this call's rows a sorted row is, or -1. */
static int64_t row_of(const gated_scan_call *call, int64_t sorted)
{
    const int64_t past = sorted - call->rows.first, r = past / call->rows.stride;
    return past < 0 || past % call->rows.stride || r >= call->rows.count ? -1 : r;
}

/* Rows that begin a new sequence with step k: from the initial state as at the first step. 0 if this thread is to go. */
static int reset_rows(const gated_scan_call *call, int64_t k)
{
    const gated_scan *scan = call->scan;
    const gated_sequence *s = call->sequence;
    const gated_resets *resets = call->resets;
    if (resets->start[k] == resets->start[k + 1])
        return 1;
    for (int64_t i = resets->start[k]; i < resets->start[k + 1]; i++) {
        const int64_t r = row_of(call, resets->rows[i]);
        if (r < 0)
            continue;
        const int64_t n = batch_row(call, r);
        output_rows(call)[r].y = call->h + n * scan->output_size;
        if (call->scratch->index == 0)
            gated_scan_set_row(call->stack, scan, s->state, s->initial, s->batch, n);
    }
    return meet(call->scratch);
}

/* Points every live row at step k: its new h goes straight to the output, where step k + 1 reads it back. `ahead` is the
 * index of the step's first row among those computed ahead, or -1. */
static void place_rows(const gated_scan_call *call, int64_t k, int64_t live, int64_t ahead)
{
    const gated_scratch *scratch = call->scratch;
    gated_row *rows = scratch->rows, *outputs = output_rows(call);
    const int candidate = gated_has_candidate(call->scan);
    for (int64_t r = 0; r < live; r++) {
        rows[r].h = rows[r].previous = outputs[r].y;
        outputs[r].y = place(call, &call->out, r, k);
        if (ahead < 0)
            rows[r].x = place(call, &call->in, r, k);
        else
            rows[r].product = scratch->ahead[0][ahead + r].product;
        if (candidate) {
            outputs[r].previous = rows[r].previous;
            outputs[r].x = rows[r].x;
            outputs[r].product = ahead < 0 ? NULL : scratch->ahead[1][ahead + r].product;
        }
    }
}

/* Gates go straight to their trace, r and z of a GRU that resets before by its first product and n by its second. */
static void place_trace(const gated_scan_call *call, int64_t k, int64_t live)
{
    gated_scratch *scratch = call->scratch;
    for (int64_t r = 0; r < live; r++) {
        scratch->rows[r].trace = place(call, &call->traces.gates, r, k);
        if (gated_has_candidate(call->scan))
            scratch->second[r].trace = scratch->rows[r].trace + 2 * call->scan->hidden_size;
    }
}

/* Of this thread's units. */
static void trace_c(const gated_scan_call *call, int64_t k, int64_t live)
{
    const gated_product *cell = &call->scan->cell;
    const int64_t first = (int64_t)first_block(call->scratch, cell) * cell->lanes;
    const int64_t last = (int64_t)last_block(call->scratch, cell) * cell->lanes, hidden = call->scan->hidden_size;
    const int64_t units = (last < hidden ? last : hidden) - first;
    for (int64_t r = 0; r < live && units > 0; r++)
        memcpy(place(call, &call->traces.c, r, k) + first, call->scratch->rows[r].c + first, units * sizeof(float));
}

/* h from the outputs of the last steps back into the state. No other thread of this scan looks there before it meets
 * thread 0 again: if there is more than one chunk, there is another layer between. */
static void save_rows(const gated_scan_call *call, int64_t live)
{
    const size_t size = call->scan->output_size;
    const gated_row *outputs = output_rows(call);
    for (int64_t r = 0; r < live && call->scratch->index == 0; r++)
        memcpy(call->h + batch_row(call, r) * size, outputs[r].y, size * sizeof(float));
}

static void run_product(const gated_scratch *scratch, const gated_product *product, const gated_row *rows, int64_t live)
{
    const gated_cell_kernel *kernel = product->kernel;
    (rows->trace ? kernel->step_traced : kernel->step)(&product->panels, rows, live, first_block(scratch, product),
                                                       last_block(scratch, product), scratch->backward);
}

/* What other threads have computed comes from their caches, better all of it at once than line by line. */
static void fetch_output(const gated_scan_call *call, int64_t live)
{
    enum { LINE = 16, MOST_LINES = 64 };
    const float *y = output_rows(call)->y;
    const int64_t floats = call->scan->output_size;
    for (int64_t i = 0; call->scratch->count > 1 && live == 1 && i < floats && i < MOST_LINES * LINE; i += LINE)
        __builtin_prefetch(y + i);
}

/* One step k. 0 if this thread is to go. */
static int advance(const gated_scan_call *call, int64_t k, int64_t live)
{
    gated_scratch *scratch = call->scratch;
    const gated_product *second = &call->scan->second;
    scratch->backward = !scratch->backward;
    run_product(scratch, &call->scan->cell, scratch->rows, live);
    if (call->traces.c.base)
        trace_c(call, k, live);
    if (second->kernel && !meet(scratch))
        return 0;
    if (second->kernel)
        run_product(scratch, second, scratch->second, live);
    if (!meet(scratch))
        return 0;
    fetch_output(call, live);
    return 1;
}

/* Steps k .. k + steps - 1; returns the rows live at the last of them, 0 if this thread is to go. */
static int64_t run_steps(const gated_scan_call *call, int64_t k, int64_t steps, int64_t live)
{
    int64_t ahead = steps > 1 || gated_projects_first(&call->scan->cell) ? 0 : -1;
    if (ahead == 0)
        compute_ahead(call, 0, k, steps, live);
    if (ahead == 0 && gated_has_candidate(call->scan))
        compute_ahead(call, 1, k, steps, live);
    for (int64_t i = 0; i < steps; i++) {
        live = live_rows(call, k + i, live);
        if (call->resets->start && !reset_rows(call, k + i))
            return 0;
        place_rows(call, k + i, live, ahead);
        if (call->traces.gates.base)
            place_trace(call, k + i, live);
        if (!advance(call, k + i, live))
            return 0;
        if (ahead >= 0)
            ahead += live;
    }
    for (int64_t r = 0; r < live; r++)
        call->scratch->rows[r].product = NULL;
    return live;
}

void gated_scan_run(const gated_scan_call *call)
{
    const int64_t started = live_rows(call, call->first, call->rows.count);
    int64_t live = started;
    start_rows(call, started);
    for (int64_t k = call->first; k < call->last && live > 0;) {
        const int64_t steps = steps_ahead(&call->scan->cell, live, call->last - k);
        live = run_steps(call, k, steps, live);
        k += steps;
    }
    if (!call->scratch->is_dismissed)
        save_rows(call, started);
}

static void grow_ahead(const gated_product *cell, int64_t rows, int64_t *most_rows, size_t *floats)
{
    const size_t wanted = rows * gated_product_width(cell);
    *most_rows = rows > *most_rows ? rows : *most_rows;
    *floats = wanted > *floats ? wanted : *floats;
}

void gated_scan_size(const gated_scan *scan, int64_t batch, int64_t seq_len, int64_t *rows, size_t *floats)
{
    for (int64_t live = 1; live <= gated_clamp(batch, 1, MOST_ROWS_AHEAD); live++) {
        const int64_t steps = steps_ahead(&scan->cell, live, seq_len);
        if (steps > 1)
            grow_ahead(&scan->cell, live * steps, rows, floats);
    }
    if (gated_projects_first(&scan->cell))
        grow_ahead(&scan->cell, batch, rows, floats);
}
