/* A stack over a sequence: layers, directions and threads around the scans. */
#include "scan.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    CACHE_LINE = 64,
    STEPS_BETWEEN_LAYERS = 64,     /* a layer runs this many steps while its weights are in cache */
    BETWEEN_FLOATS = 64 << 10,     /* and fewer when its output would leave L2 */
    LEAST_STEPS_BETWEEN = 8,
    RING = 3                       /* chunks that a lane may be ahead of the one above */
};

/* How far a scan has come that any thread may go on with. */
struct gated_lane {
    _Alignas(CACHE_LINE) atomic_llong state; /* twice the chunks that are done; odd: one more is being run */
};

/* A call of a stack, for all of its threads. */
typedef struct {
    const gated_stack *stack;
    const gated_sequence *sequence;
    const gated_schedule *schedule;
    const gated_trace *trace;
    gated_workspace *ws;
    gated_team *team;
    int64_t longest;         /* live steps of a row */
    int64_t chunks;          /* of a scan */
    atomic_int is_left;      /* to thread 0 */
} stack_call;

/* A plane [T, N, width] of a trace, from the piece's first step on; `offset` floats per step and row are before it. */
static gated_plane trace_plane(const gated_trace *trace, float *base, int64_t batch, size_t offset, size_t width)
{
    const ptrdiff_t time = batch * width;
    if (!base)
        return (gated_plane){0};
    return (gated_plane){base + offset * trace->seq_len * batch + trace->first * time, time, width, 0, NULL};
}

static gated_scan_traces traces_of(const gated_stack *stack, const gated_scan *scan, const gated_trace *trace, int64_t batch)
{
    const size_t hidden = scan->hidden_size, all_h = stack->state_per_row - stack->c_per_row;
    gated_scan_traces traces = {.gates = trace_plane(trace, trace->gates, batch, scan->gates_offset, scan->num_gates * hidden)};
    if (scan->has_c)
        traces.c = trace_plane(trace, trace->c, batch, scan->c_offset - all_h, hidden);
    return traces;
}

/* Output of layer l that is not the last: time-major rows, by step within a chunk or by time for the whole sequence. */
static gated_plane between(const stack_call *call, int l, int64_t chunk)
{
    const gated_stack *stack = call->stack;
    const gated_workspace *ws = call->ws;
    const ptrdiff_t width = stack->layers[l].output_size;
    const int64_t buffer = ws->lanes && !stack->reverse ? l * RING + chunk % RING : l & 1;
    return (gated_plane){ws->between + buffer * ws->between_floats, call->sequence->batch * width, width, !stack->reverse,
                         NULL};
}

static gated_plane input_of(const stack_call *call, int l, int64_t chunk)
{
    const gated_sequence *s = call->sequence;
    if (l > 0)
        return between(call, l - 1, chunk);
    return (gated_plane){(float *)s->x, s->x_time, s->x_row, 0, call->schedule->packed_start};
}

static gated_plane output_of(const stack_call *call, int l, int64_t chunk)
{
    const gated_sequence *s = call->sequence;
    if (l < call->stack->num_layers - 1)
        return between(call, l, chunk);
    return (gated_plane){s->y, s->y_time, s->y_row, 0, call->schedule->packed_start};
}

/* A chunk of steps of direction d of layer l. */
static void run_chunk(const stack_call *call, int l, int d, int64_t chunk, gated_scratch *scratch, gated_some_rows rows)
{
    const gated_stack *stack = call->stack;
    const gated_scan *scan = &stack->layers[l].scan[d];
    const gated_sequence *s = call->sequence;
    const int64_t first = chunk * call->ws->chunk;
    gated_scan_call scan_call = {
        .stack = stack, .scan = scan, .sequence = s, .schedule = call->schedule, .scratch = scratch, .rows = rows,
        .in = input_of(call, l, chunk), .out = output_of(call, l, chunk), .first = first,
        .last = call->longest - first < call->ws->chunk ? call->longest : first + call->ws->chunk,
        .h = s->state + scan->h_offset * s->batch,
        .c = scan->has_c ? s->state + scan->c_offset * s->batch : NULL,
        .traces = traces_of(stack, scan, call->trace, s->batch),
        .resets = &call->schedule->resets[scan->reverse],
    };
    scan_call.out.base += d * scan->output_size;
    gated_scan_run(&scan_call);
}

/* Unidirectional stacks go layer by layer through a chunk of steps, so that scratch does not grow with T. A reverse
 * direction starts at the end: there a layer must be complete before the next begins. */
static void run_layers(const stack_call *call, gated_scratch *scratch, gated_some_rows rows)
{
    for (int64_t chunk = 0; chunk < call->chunks; chunk++)
        for (int l = 0; l < call->stack->num_layers; l++)
            for (int d = 0; d < call->stack->layers[l].num_directions && !scratch->is_dismissed; d++)
                run_chunk(call, l, d, chunk, scratch, rows);
}

/* Thread `index` of `count`, with its share of the blocks of all scans. */
static void run_blocks(void *job, int index, int count)
{
    const stack_call *call = job;
    gated_scratch *scratch = &call->ws->threads[index];
    scratch->team = call->team;
    scratch->index = index;
    scratch->count = count;
    scratch->is_dismissed = 0;
    run_layers(call, scratch, (gated_some_rows){0, 1, call->sequence->batch});
}

/* With its share of the rows: neighbours, or if they are of different lengths, every count-th of the sorted ones. */
static void run_rows(void *job, int index, int count)
{
    const stack_call *call = job;
    const int64_t batch = call->sequence->batch, first = batch * index / count;
    const gated_some_rows neighbours = {first, 1, batch * (index + 1) / count - first};
    const gated_some_rows dealt = {index, count, (batch - index + count - 1) / count};
    run_layers(call, &call->ws->threads[index], call->schedule->steps ? dealt : neighbours);
}

/* Lanes: a scan each, of which any thread runs the next chunk when it is ready. So any number of layers keeps any number of
 * threads busy, and a thread that loses its CPU holds up one lane only. */

static gated_lane *lane_of(const stack_call *call, int l, int d)
{
    return &call->ws->lanes[2 * l + d];
}

/* Chunks that all directions of a layer have done. */
static int64_t chunks_done(const stack_call *call, int l)
{
    int64_t least = call->chunks;
    for (int d = 0; d < call->stack->layers[l].num_directions; d++) {
        const int64_t done = atomic_load_explicit(&lane_of(call, l, d)->state, memory_order_acquire) / 2;
        least = done < least ? done : least;
    }
    return least;
}

/* What it reads is there, and nobody needs what it overwrites any more. */
static int is_ready(const stack_call *call, int l, int64_t chunk)
{
    const int reverse = call->stack->reverse;
    if (l > 0 && chunks_done(call, l - 1) < (reverse ? call->chunks : chunk + 1))
        return 0;
    return reverse || l == call->stack->num_layers - 1 || chunks_done(call, l + 1) + RING > chunk;
}

/* A lane's next chunk. */
typedef struct {
    int l, d;
    int64_t chunk;
} lane_chunk;

static int claim(const stack_call *call, lane_chunk *next)
{
    atomic_llong *state = &lane_of(call, next->l, next->d)->state;
    long long was = atomic_load_explicit(state, memory_order_acquire);
    next->chunk = was / 2;
    return !(was & 1) && next->chunk < call->chunks && is_ready(call, next->l, next->chunk)
           && atomic_compare_exchange_strong_explicit(state, &was, was + 1, memory_order_acquire, memory_order_relaxed);
}

/* Claims a chunk of the highest lane that is ready: what has been computed goes on while it is in cache. 0 if none is. */
static int claim_any(const stack_call *call, lane_chunk *next)
{
    for (next->l = call->stack->num_layers - 1; next->l >= 0; next->l--)
        for (next->d = 0; next->d < call->stack->layers[next->l].num_directions; next->d++)
            if (claim(call, next))
                return 1;
    return 0;
}

static void run_claimed(const stack_call *call, const lane_chunk *next, gated_scratch *scratch)
{
    run_chunk(call, next->l, next->d, next->chunk, scratch, (gated_some_rows){0, 1, call->sequence->batch});
    atomic_fetch_add_explicit(&lane_of(call, next->l, next->d)->state, 1, memory_order_release);
}

static void run_lanes(void *job, int index, int count)
{
    stack_call *call = job;
    gated_wait wait = {call->team, index, 0};
    lane_chunk next;
    while (chunks_done(call, call->stack->num_layers - 1) < call->chunks) {
        if (index > 0 && atomic_load_explicit(&call->is_left, memory_order_relaxed))
            return;
        if (!claim_any(call, &next)) {
            gated_wait_pause(&wait);
            continue;
        }
        gated_wait_end(&wait);
        wait.looks = 0;
        run_claimed(call, &next, &call->ws->threads[index]);
        if (index == 0 && count > 1 && gated_team_breaks_up(call->team))
            atomic_store_explicit(&call->is_left, 1, memory_order_relaxed);
    }
    gated_wait_end(&wait);
}

static void run_threads(stack_call *call)
{
    gated_work *const works[] = {
        [GATED_ALONE_SPLIT] = run_blocks, [GATED_BLOCKS] = run_blocks, [GATED_ROWS] = run_rows, [GATED_LANES] = run_lanes};
    gated_workspace *ws = call->ws;
    call->longest = call->sequence->batch ? gated_row_steps(call->schedule, 0) : 0;
    call->chunks = (call->longest + ws->chunk - 1) / ws->chunk;
    atomic_init(&call->is_left, 0);
    for (int i = 0; ws->lanes && i < 2 * call->stack->num_layers; i++)
        atomic_store_explicit(&ws->lanes[i].state, 0, memory_order_relaxed);
    gated_team_do(call->team, ws->split.threads, works[ws->split.kind], call);
}

static void reset_ended_rows(const gated_stack *stack, const gated_sequence *s, const gated_schedule *schedule)
{
    for (int l = 0; schedule->resets[0].start && l < stack->num_layers; l++) {
        for (int d = 0; d < stack->layers[l].num_directions; d++) {
            const gated_scan *scan = &stack->layers[l].scan[d];
            const gated_resets *resets = &schedule->resets[scan->reverse];
            for (int64_t i = resets->start[s->seq_len]; i < resets->start[s->seq_len + 1]; i++) {
                const int64_t r = resets->rows[i], n = schedule->order ? schedule->order[r] : r;
                gated_scan_set_row(stack, scan, s->state, s->initial, s->batch, n);
            }
        }
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
            const gated_scan_traces planes = traces_of(stack, &stack->layers[l].scan[d], trace, s->batch);
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
                             gated_workspace *ws, gated_team *team)
{
    gated_schedule schedule;
    gated_status status = gated_schedule_create(s, 1 + stack->reverse, &schedule);
    if (status != GATED_OK)
        return status;
    if (schedule.steps)
        clear_trace(stack, s, trace);
    stack_call call = {
        .stack = stack, .sequence = s, .schedule = &schedule, .trace = trace, .ws = ws, .team = team};
    run_threads(&call);
    reset_ended_rows(stack, s, &schedule);
    clear_dead_steps(s, &schedule, gated_stack_output(stack));
    gated_schedule_free(&schedule);
    return GATED_OK;
}

/* Scratch */

/* Floats up to the end of a cache line. */
static size_t whole_lines(size_t floats)
{
    enum { LINE = CACHE_LINE / sizeof(float) };
    return (floats + LINE - 1) / LINE * LINE;
}

/* What the widest of a stack's scans need. */
typedef struct {
    int64_t between;         /* floats per row and step */
    int64_t first_output;    /* floats per row */
    int products;            /* that are computed ahead for one scan */
    int64_t ahead_rows;
    size_t product_floats;   /* of one */
    size_t narrow_bytes;     /* of a row */
    size_t narrow_floats;    /* of all rows of a kernel call */
} scratch_size;

static scratch_size size_of(const gated_stack *stack, int64_t batch, int64_t seq_len)
{
    scratch_size size = {.products = 1};
    for (int l = 0; l < stack->num_layers; l++) {
        const gated_stack_layer *layer = &stack->layers[l];
        const gated_scan *scan = &layer->scan[0];
        const int candidate = gated_has_candidate(scan);
        const int64_t first_output = scan->second.kernel ? scan->hidden_size * (candidate ? 2 : 1) : 0;
        if (l < stack->num_layers - 1 && layer->output_size > size.between)
            size.between = layer->output_size;
        if (first_output > size.first_output)
            size.first_output = first_output;
        if (candidate)
            size.products = 2;
        gated_scan_size(scan, batch, seq_len, &size.ahead_rows, &size.product_floats);
        const size_t narrow = gated_scan_narrow_bytes(scan);
        size.narrow_bytes = narrow > size.narrow_bytes ? narrow : size.narrow_bytes;
    }
    const int64_t most_rows = size.ahead_rows > batch ? size.ahead_rows : batch;
    size.narrow_floats = most_rows * size.narrow_bytes / sizeof(float);
    size.product_floats = whole_lines(size.product_floats);
    return size;
}

/* Steps of a chunk. */
static int64_t choose_chunk(const gated_stack *stack, const scratch_size *size, int64_t batch, int64_t seq_len,
                            const gated_split *split)
{
    const int64_t most = gated_clamp(seq_len, 1, INT32_MAX);
    const int64_t wanted = split->kind == GATED_LANES ? split->chunk : STEPS_BETWEEN_LAYERS;
    if (stack->reverse)
        return split->kind == GATED_LANES ? gated_clamp(wanted, 1, most) : most;
    if (stack->num_layers == 1)
        return most;
    const int64_t fit = BETWEEN_FLOATS / (size->between * gated_clamp(batch, 1, INT32_MAX));
    return gated_clamp(gated_clamp(fit, LEAST_STEPS_BETWEEN, wanted), 1, most);
}

static int count_buffers(const gated_stack *stack, const gated_split *split)
{
    const int layers = stack->num_layers - 1; /* whose output stays here */
    return split->kind == GATED_LANES && !stack->reverse ? layers * RING : layers > 2 ? 2 : layers;
}

/* Floats of a buffer that all threads with a share of the blocks have in common, and others have each. */
static size_t floats_in_common(const scratch_size *size, int64_t batch)
{
    return size->products * size->product_floats + whole_lines(size->first_output * batch);
}

/* Gives a thread the next `rows` and `floats`; `common` is as large as floats_in_common. */
static void share_out(gated_scratch *scratch, int64_t batch, const scratch_size *size, gated_row **rows, float **floats,
                      float *common)
{
    const size_t last = size->products - 1;
    *scratch = (gated_scratch){.count = 1, .narrow_bytes = size->narrow_bytes};
    scratch->rows = *rows;
    scratch->second = *rows + batch;
    scratch->ahead[0] = *rows + 2 * batch;
    scratch->ahead[1] = scratch->ahead[0] + last * size->ahead_rows;
    *rows = scratch->ahead[1] + size->ahead_rows;
    scratch->product[0] = common;
    scratch->product[1] = common + last * size->product_floats;
    scratch->first_output = common + size->products * size->product_floats;
    scratch->narrow = (char *)*floats;
    *floats += size->narrow_floats;
}

gated_status gated_workspace_create(const gated_stack *stack, int64_t batch, int64_t seq_len, const gated_split *split,
                                    gated_workspace *ws)
{
    *ws = (gated_workspace){.split = split ? *split : (gated_split){.threads = 1}};
    const gated_split *own = &ws->split;
    const int threads = own->threads;
    const scratch_size size = size_of(stack, batch, seq_len);
    ws->chunk = choose_chunk(stack, &size, batch, seq_len, own);
    ws->between_floats = size.between * batch * (stack->reverse ? gated_clamp(seq_len, 1, INT32_MAX) : ws->chunk);
    const size_t buffers = count_buffers(stack, own), lanes = own->kind == GATED_LANES ? 2 * stack->num_layers : 0;
    const size_t lane_floats = lanes * sizeof(gated_lane) / sizeof(float), common = floats_in_common(&size, batch);
    const size_t num_common = own->kind == GATED_BLOCKS ? 1 : threads;
    const size_t rows_each = 2 * batch + size.products * size.ahead_rows;
    ws->memory = malloc((rows_each * threads + 1) * sizeof(gated_row));
    ws->threads = malloc(threads * sizeof *ws->threads);
    ws->floats = gated_allocate(lane_floats + num_common * common + threads * size.narrow_floats
                                + buffers * ws->between_floats + 1);
    if (!ws->memory || !ws->threads || !ws->floats) {
        gated_workspace_free(ws);
        return GATED_NO_MEMORY;
    }
    gated_row *rows = ws->memory;
    float *in_common = ws->floats + lane_floats, *floats = in_common + num_common * common;
    ws->lanes = lanes ? (gated_lane *)ws->floats : NULL;
    for (int i = 0; i < threads; i++)
        share_out(&ws->threads[i], batch, &size, &rows, &floats, in_common + (num_common > 1 ? i * common : 0));
    ws->between = floats;
    return GATED_OK;
}

void gated_workspace_free(gated_workspace *ws)
{
    free(ws->memory);
    free(ws->threads);
    free(ws->floats);
    *ws = (gated_workspace){0};
}
