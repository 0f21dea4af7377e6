/* A stack over a sequence: time, layers, directions and ragged rows around the kernels. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    STEPS_BETWEEN_LAYERS = 64,     /* a layer runs this many steps while its weights are in cache */
    BETWEEN_FLOATS = 64 << 10,     /* and fewer when its output would leave L2 */
    LEAST_STEPS_BETWEEN = 8,
    AHEAD_STEPS = 32,              /* steps whose input product is computed in one go */
    AHEAD_STEPS_BEYOND_L2 = 128,   /* the same for weights that do not stay in L2 */
    AHEAD_FLOATS = 512 << 10,      /* at most: 2 MiB */
    MOST_ROWS_AHEAD = 8,           /* of one step */
    L2_FLOATS = 192 << 10,         /* weights under 768 KiB stay in a 1 MiB L2 */
    L3_BYTES = 8 << 20
};

/* Where a scan finds or puts a row: base + time * t + row * n, in floats. */
typedef struct {
    float *base;
    ptrdiff_t time, row;
    int by_step;             /* buffers between layers of one chunk are indexed by step, not by time */
    const int64_t *start;    /* packed: base + (start[t] + sorted row) * row */
} view;

/* Where a scan's c and gates go; base NULL: nowhere. */
typedef struct {
    view c, gates;
} scan_traces;

/* The steps first <= k < last of one direction of one layer. */
typedef struct {
    const gated_stack *stack;
    const gated_scan *scan;
    const gated_sequence *sequence;
    const gated_schedule *schedule;
    gated_workspace *ws;
    view in, out;
    scan_traces traces;
    const gated_resets *resets;
    float *h, *c;            /* this scan's state: [N, P or H], [N, H] */
    int64_t first, last;
} scan_call;

static int64_t row_steps(const gated_schedule *s, int64_t r)
{
    return s->steps ? s->steps[r] : s->seq_len;
}

static int64_t batch_row(const gated_schedule *s, int64_t r)
{
    return s->order ? s->order[r] : r;
}

/* Rows still live at step k, given that no more than `live` are. */
static int64_t live_rows(const gated_schedule *s, int64_t k, int64_t live)
{
    while (live > 0 && row_steps(s, live - 1) <= k)
        live--;
    return live;
}

static float *place(const scan_call *call, const view *v, int64_t r, int64_t k)
{
    const gated_schedule *s = call->schedule;
    if (v->by_step)
        return v->base + (k - call->first) * v->time + r * v->row;
    int64_t t = call->scan->reverse ? row_steps(s, r) - 1 - k : k;
    if (s->times)
        t = s->times[r * s->seq_len + t];
    if (v->start)
        return v->base + (v->start[t] + r) * v->row;
    return v->base + t * v->time + batch_row(s, r) * v->row;
}

static int sweep(gated_workspace *ws)
{
    ws->backward = !ws->backward;
    return ws->backward;
}

static int64_t clamp(int64_t x, int64_t low, int64_t high)
{
    return x < low ? low : x > high ? high : x;
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
    return clamp(AHEAD_FLOATS / (width * live), 1, clamp(left, 1, most));
}

/* Input products of the live rows of steps k .. k + steps - 1, for the first or second product of the scan. */
static void compute_ahead(const scan_call *call, int second, int64_t k, int64_t steps, int64_t live)
{
    const gated_product *product = second ? &call->scan->second : &call->scan->cell;
    const int64_t width = gated_product_width(product);
    gated_row *row = call->ws->ahead[second];
    float *result = call->ws->product[second];
    char *narrow = call->ws->narrow;
    for (int64_t i = 0; i < steps; i++) {
        live = live_rows(call->schedule, k + i, live);
        for (int64_t r = 0; r < live; r++, row++, result += width, narrow += call->ws->narrow_bytes) {
            row->x = place(call, &call->in, r, k + i);
            row->product = result;
            row->narrow = narrow;
        }
    }
    const gated_row *rows = call->ws->ahead[second];
    gated_project(product, rows, row - rows);
}

/* The second product of a GRU that resets before is a gate of it, with its own input product. */
static int has_candidate(const gated_scan *scan)
{
    return scan->second.panels.recurrent > 0;
}

/* The rows that write the scan's output. */
static gated_row *output_rows(const scan_call *call)
{
    return call->scan->second.kernel ? call->ws->second : call->ws->rows;
}

static void start_rows(const scan_call *call, int64_t live)
{
    const gated_scan *scan = call->scan;
    gated_workspace *ws = call->ws;
    for (int64_t r = 0; r < live; r++) {
        const int64_t n = batch_row(call->schedule, r);
        float *h = call->h + n * scan->output_size;
        ws->rows[r] = (gated_row){.c = call->c ? call->c + n * scan->hidden_size : NULL, .y = h};
        if (!scan->second.kernel)
            continue;
        float *first = ws->rows[r].y = ws->first_output + r * scan->hidden_size;
        ws->second[r] = (gated_row){.x = first, .y = h};
        if (has_candidate(scan)) {
            float *z = ws->rows[r].c = first + call->schedule->batch * scan->hidden_size;
            ws->second[r] = (gated_row){.h = first, .c = z, .y = h};
        }
    }
    for (int64_t r = 0; r < live; r++)
        ws->rows[r].narrow = ws->second[r].narrow = ws->narrow + r * ws->narrow_bytes;
}

/* Rows that begin a new sequence with step k: from the initial state as at the first step. */
static void reset_rows(const scan_call *call, int64_t k)
{
    const gated_scan *scan = call->scan;
    const gated_sequence *s = call->sequence;
    const gated_resets *resets = call->resets;
    for (int64_t i = resets->start[k]; i < resets->start[k + 1]; i++) {
        const int64_t r = resets->rows[i], n = batch_row(call->schedule, r);
        gated_scan_set_row(call->stack, scan, s->state, s->initial, s->batch, n);
        output_rows(call)[r].y = call->h + n * scan->output_size;
    }
}

static void reset_ended_rows(const gated_stack *stack, const gated_sequence *s, const gated_schedule *schedule)
{
    for (int l = 0; schedule->resets[0].start && l < stack->num_layers; l++) {
        for (int d = 0; d < stack->layers[l].num_directions; d++) {
            const gated_scan *scan = &stack->layers[l].scan[d];
            const gated_resets *resets = &schedule->resets[scan->reverse];
            for (int64_t i = resets->start[s->seq_len]; i < resets->start[s->seq_len + 1]; i++)
                gated_scan_set_row(stack, scan, s->state, s->initial, s->batch, batch_row(schedule, resets->rows[i]));
        }
    }
}

/* Points every live row at step k: its new h goes straight to the output, where step k + 1 reads it back. `ahead` is the
 * index of the step's first row among those computed ahead, or -1. */
static void place_rows(const scan_call *call, int64_t k, int64_t live, int64_t ahead)
{
    gated_workspace *ws = call->ws;
    gated_row *rows = ws->rows, *outputs = output_rows(call);
    const int candidate = has_candidate(call->scan);
    for (int64_t r = 0; r < live; r++) {
        rows[r].h = rows[r].previous = outputs[r].y;
        outputs[r].y = place(call, &call->out, r, k);
        if (ahead < 0)
            rows[r].x = place(call, &call->in, r, k);
        else
            rows[r].product = ws->ahead[0][ahead + r].product;
        if (candidate) {
            outputs[r].previous = rows[r].previous;
            outputs[r].x = rows[r].x;
            outputs[r].product = ahead < 0 ? NULL : ws->ahead[1][ahead + r].product;
        }
    }
}

/* Gates go straight to their trace, r and z of a GRU that resets before by its first product and n by its second. */
static void place_trace(const scan_call *call, int64_t k, int64_t live)
{
    gated_workspace *ws = call->ws;
    for (int64_t r = 0; r < live; r++) {
        ws->rows[r].trace = place(call, &call->traces.gates, r, k);
        if (has_candidate(call->scan))
            ws->second[r].trace = ws->rows[r].trace + 2 * call->scan->hidden_size;
    }
}

static void trace_c(const scan_call *call, int64_t k, int64_t live)
{
    for (int64_t r = 0; r < live; r++)
        memcpy(place(call, &call->traces.c, r, k), call->ws->rows[r].c, call->scan->hidden_size * sizeof(float));
}

/* h from the outputs of the last steps back into the state. */
static void save_rows(const scan_call *call, int64_t live)
{
    const size_t size = call->scan->output_size;
    const gated_row *outputs = output_rows(call);
    for (int64_t r = 0; r < live; r++)
        memcpy(call->h + batch_row(call->schedule, r) * size, outputs[r].y, size * sizeof(float));
}

static void run_product(const gated_product *product, const gated_row *rows, int64_t live, int backward)
{
    const gated_cell_kernel *kernel = product->kernel;
    (rows->trace ? kernel->step_traced : kernel->step)(&product->panels, rows, live, 0, product->panels.blocks, backward);
}

static void advance(const scan_call *call, int64_t live)
{
    const int backward = sweep(call->ws);
    run_product(&call->scan->cell, call->ws->rows, live, backward);
    if (call->scan->second.kernel)
        run_product(&call->scan->second, call->ws->second, live, backward);
}

/* Steps k .. k + steps - 1; returns the rows live at the last of them. */
static int64_t run_steps(const scan_call *call, int64_t k, int64_t steps, int64_t live)
{
    int64_t ahead = steps > 1 || gated_projects_first(&call->scan->cell) ? 0 : -1;
    if (ahead == 0)
        compute_ahead(call, 0, k, steps, live);
    if (ahead == 0 && has_candidate(call->scan))
        compute_ahead(call, 1, k, steps, live);
    for (int64_t i = 0; i < steps; i++) {
        live = live_rows(call->schedule, k + i, live);
        if (call->resets->start)
            reset_rows(call, k + i);
        place_rows(call, k + i, live, ahead);
        if (call->traces.gates.base)
            place_trace(call, k + i, live);
        advance(call, live);
        if (call->traces.c.base)
            trace_c(call, k + i, live);
        if (ahead >= 0)
            ahead += live;
    }
    for (int64_t r = 0; r < live; r++)
        call->ws->rows[r].product = NULL;
    return live;
}

static void run_scan(const scan_call *call)
{
    const int64_t started = live_rows(call->schedule, call->first, call->schedule->batch);
    int64_t live = started;
    start_rows(call, started);
    for (int64_t k = call->first; k < call->last && live > 0;) {
        const int64_t steps = steps_ahead(&call->scan->cell, live, call->last - k);
        live = run_steps(call, k, steps, live);
        k += steps;
    }
    save_rows(call, started);
}

/* A plane [T, N, width] of a trace, from the piece's first step on; `offset` floats per step and row are before it. */
static view trace_plane(const gated_trace *trace, float *base, int64_t batch, size_t offset, size_t width)
{
    const ptrdiff_t time = batch * width;
    if (!base)
        return (view){0};
    return (view){base + offset * trace->seq_len * batch + trace->first * time, time, width, 0, NULL};
}

static scan_traces traces_of(const gated_stack *stack, const gated_scan *scan, const gated_trace *trace, int64_t batch)
{
    const size_t hidden = scan->hidden_size, all_h = stack->state_per_row - stack->c_per_row;
    scan_traces traces = {.gates = trace_plane(trace, trace->gates, batch, scan->gates_offset, scan->num_gates * hidden)};
    if (scan->has_c)
        traces.c = trace_plane(trace, trace->c, batch, scan->c_offset - all_h, hidden);
    return traces;
}

static void run_layer(const gated_stack *stack, int l, const scan_call *like, const gated_trace *trace, view in, view out)
{
    const gated_stack_layer *layer = &stack->layers[l];
    const gated_sequence *s = like->sequence;
    for (int d = 0; d < layer->num_directions; d++) {
        const gated_scan *scan = &layer->scan[d];
        scan_call call = *like;
        call.scan = scan;
        call.in = in;
        call.out = out;
        call.out.base += d * scan->output_size;
        call.h = s->state + scan->h_offset * s->batch;
        if (scan->has_c)
            call.c = s->state + scan->c_offset * s->batch;
        call.traces = traces_of(stack, scan, trace, s->batch);
        call.resets = &like->schedule->resets[scan->reverse];
        run_scan(&call);
    }
}

/* Output of layer l that is not the last: time-major rows, by step within a chunk or by time for the whole sequence. */
static view between(const gated_stack *stack, const gated_schedule *s, const gated_workspace *ws, int l)
{
    const ptrdiff_t width = stack->layers[l].output_size;
    return (view){ws->between[l & 1], s->batch * width, width, !stack->reverse, NULL};
}

/* Unidirectional stacks go layer by layer through a chunk of steps, so that scratch does not grow with T. A reverse
 * direction starts at the end: there a layer must be complete before the next begins. */
static void run_layers(const gated_stack *stack, const gated_sequence *s, const gated_schedule *schedule,
                       const gated_trace *trace, gated_workspace *ws)
{
    const view x = {(float *)s->x, s->x_time, s->x_row, 0, schedule->packed_start};
    const view y = {s->y, s->y_time, s->y_row, 0, schedule->packed_start};
    const int last_layer = stack->num_layers - 1;
    const int64_t longest = s->batch ? row_steps(schedule, 0) : 0;
    for (int64_t first = 0; first < longest; first += ws->chunk) {
        const int64_t last = first + ws->chunk < longest ? first + ws->chunk : longest;
        const scan_call call = {.stack = stack, .sequence = s, .schedule = schedule, .ws = ws, .first = first, .last = last};
        for (int l = 0; l <= last_layer; l++)
            run_layer(stack, l, &call, trace, l == 0 ? x : between(stack, schedule, ws, l - 1),
                      l == last_layer ? y : between(stack, schedule, ws, l));
    }
}

static void clear_dead_steps(const gated_sequence *s, const gated_schedule *schedule, int width)
{
    if (!schedule->order)
        return;
    for (int64_t r = 0; r < s->batch; r++) {
        const int64_t n = schedule->order[r], steps = schedule->steps[r];
        float *y = s->y + n * s->y_row;
        int64_t k = schedule->times ? 0 : steps;
        for (int64_t t = k; t < s->seq_len; t++) {
            if (schedule->times && k < steps && schedule->times[r * s->seq_len + k] == t)
                k++;
            else
                memset(y + t * s->y_time, 0, width * sizeof(float));
        }
    }
}

/* All of a ragged piece's planes: what is live is written next. */
static void clear_trace(const gated_stack *stack, const gated_sequence *s, const gated_trace *trace)
{
    for (int l = 0; l < stack->num_layers; l++) {
        for (int d = 0; d < stack->layers[l].num_directions; d++) {
            const scan_traces planes = traces_of(stack, &stack->layers[l].scan[d], trace, s->batch);
            if (planes.c.base)
                memset(planes.c.base, 0, s->seq_len * planes.c.time * sizeof(float));
            if (planes.gates.base)
                memset(planes.gates.base, 0, s->seq_len * planes.gates.time * sizeof(float));
        }
    }
}

void gated_trace_skip(gated_trace *trace, const gated_stack *stack, int64_t batch)
{
    if (trace->c)
        trace->c += stack->c_per_row * trace->seq_len * batch;
    if (trace->gates)
        trace->gates += stack->gates_per_row * trace->seq_len * batch;
}

gated_status gated_stack_run(const gated_stack *stack, const gated_sequence *s, const gated_trace *trace,
                             gated_workspace *ws)
{
    gated_schedule schedule;
    gated_status status = gated_schedule_create(s, 1 + stack->reverse, &schedule);
    if (status != GATED_OK)
        return status;
    if (schedule.steps)
        clear_trace(stack, s, trace);
    run_layers(stack, s, &schedule, trace, ws);
    reset_ended_rows(stack, s, &schedule);
    clear_dead_steps(s, &schedule, gated_stack_output(stack));
    gated_schedule_free(&schedule);
    return GATED_OK;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static void grow_ahead(const gated_product *cell, int64_t rows, gated_workspace *ws)
{
    ws->ahead_rows = larger(ws->ahead_rows, rows);
    ws->product_floats = larger(ws->product_floats, rows * gated_product_width(cell));
}

/* Rows and floats of the largest input product that is computed ahead, for any number of live rows. */
static void size_ahead(const gated_product *cell, int64_t batch, int64_t seq_len, gated_workspace *ws)
{
    for (int64_t live = 1; live <= clamp(batch, 1, MOST_ROWS_AHEAD); live++) {
        const int64_t rows = live * steps_ahead(cell, live, seq_len);
        if (rows > live)
            grow_ahead(cell, rows, ws);
    }
    if (gated_projects_first(cell))
        grow_ahead(cell, batch, ws);
}

gated_status gated_workspace_create(const gated_stack *stack, int64_t batch, int64_t seq_len, gated_workspace *ws)
{
    int64_t widest_output = 0, first_output = 0;
    int products = 1;
    *ws = (gated_workspace){.chunk = clamp(seq_len, 1, INT32_MAX)};
    for (int l = 0; l < stack->num_layers; l++) {
        const gated_stack_layer *layer = &stack->layers[l];
        const gated_scan *scan = &layer->scan[0];
        if (l < stack->num_layers - 1)
            widest_output = larger(widest_output, layer->output_size);
        if (scan->second.kernel)
            first_output = larger(first_output, scan->hidden_size * (has_candidate(scan) ? 2 : 1));
        if (has_candidate(scan))
            products = 2;
        size_ahead(&scan->cell, batch, seq_len, ws);
        ws->narrow_bytes = larger(ws->narrow_bytes, gated_scan_narrow_bytes(scan));
    }
    if (stack->num_layers > 1 && !stack->reverse) {
        const int64_t fit = BETWEEN_FLOATS / (widest_output * clamp(batch, 1, INT32_MAX));
        ws->chunk = clamp(clamp(fit, LEAST_STEPS_BETWEEN, STEPS_BETWEEN_LAYERS), 1, ws->chunk);
    }
    const int64_t between = widest_output * batch * ws->chunk;
    const int buffers = stack->num_layers > 2 ? 2 : 1;
    ws->memory = malloc((2 * batch + products * ws->ahead_rows + 1) * sizeof(gated_row));
    const int64_t narrow_floats = larger(batch, ws->ahead_rows) * (ws->narrow_bytes / sizeof(float));
    ws->floats = gated_allocate(narrow_floats + products * ws->product_floats + first_output * batch + buffers * between
                                + 1);
    if (!ws->memory || !ws->floats) {
        gated_workspace_free(ws);
        return GATED_NO_MEMORY;
    }
    ws->rows = ws->memory;
    ws->second = ws->rows + batch;
    ws->ahead[0] = ws->second + batch;
    ws->ahead[1] = ws->ahead[0] + (products - 1) * ws->ahead_rows;
    ws->narrow = (char *)ws->floats;
    ws->product[0] = ws->floats + narrow_floats;
    ws->product[1] = ws->product[0] + (products - 1) * ws->product_floats;
    ws->first_output = ws->product[1] + ws->product_floats;
    ws->between[0] = ws->first_output + first_output * batch;
    ws->between[1] = ws->between[0] + between * (buffers - 1);
    return GATED_OK;
}

void gated_workspace_free(gated_workspace *ws)
{
    free(ws->memory);
    free(ws->floats);
    *ws = (gated_workspace){0};
}
