/* Layers of a model one after another, over one time axis: a piece of a sequence goes through all of them before the next
 * one starts, so that it stays in cache and scratch does not grow with T. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    BETWEEN_FLOATS = 64 << 10, /* of a piece: both buffers stay in a 1 MiB L2 */
    LEAST_STEPS = 8,
    MOST_STEPS = 128           /* as many as a stack computes ahead */
};

static int64_t clamp(int64_t x, int64_t low, int64_t high)
{
    return x < low ? low : x > high ? high : x;
}

static gated_memory *memory_of(const gated_chain *chain, int layer)
{
    return &chain->memory[layer - chain->first];
}

static int needs_whole_sequence(const gated_model_layer *layer)
{
    return layer->is.kind == GATED_STACK ? layer->stack->reverse
                                         : layer->is.kind == GATED_FLIP || layer->is.kind == GATED_FLIP_MASK;
}

static int64_t choose_chunk(const gated_chain *chain, int64_t widest, int64_t seq_len)
{
    for (int i = chain->first; i < chain->last; i++)
        if (needs_whole_sequence(&chain->model->layers[i]))
            return seq_len;
    const int64_t fit = BETWEEN_FLOATS / (widest * clamp(chain->batch, 1, INT32_MAX));
    return clamp(clamp(fit, LEAST_STEPS, MOST_STEPS), 1, clamp(seq_len, 1, INT32_MAX));
}

/* Floats that a layer keeps: see gated_memory. */
static size_t floats_of(const gated_chain *chain, const gated_model_layer *layer)
{
    if (layer->is.kind != GATED_STACK)
        return gated_plain_memory(&layer->is, chain->batch);
    if (chain->streaming == GATED_MEMBERS || (chain->streaming && !chain->model->makes_mask))
        return 0;
    return (chain->streaming ? layer->stack->state_per_row : (size_t)layer->is.output_size) * chain->batch;
}

static gated_status create_stack_memory(gated_chain *chain, const gated_model_layer *layer, gated_memory *memory)
{
    float *state = chain->state + layer->state_offset * chain->batch;
    if (chain->streaming == GATED_MEMBERS)
        return gated_ticker_create(layer->stack, chain->batch, state, &memory->ticker);
    if (chain->streaming)
        return gated_stepper_create(layer->stack, chain->batch, state, &memory->stepper);
    const gated_split split = gated_split_among(chain->team, layer->stack, chain->batch, chain->chunk);
    return gated_workspace_create(layer->stack, chain->batch, chain->chunk, &split, &memory->ws);
}

static gated_status share_out(gated_chain *chain, int64_t between)
{
    float *floats = chain->floats + 2 * between;
    gated_status status = GATED_OK;
    chain->between[0] = chain->floats;
    chain->between[1] = chain->floats + between;
    for (int i = chain->first; i < chain->last && status == GATED_OK; i++) {
        const gated_model_layer *layer = &chain->model->layers[i];
        gated_memory *memory = memory_of(chain, i);
        memory->values = floats;
        memory->counts = chain->integers + (i - chain->first) * chain->batch;
        floats += floats_of(chain, layer);
        if (layer->stack)
            status = create_stack_memory(chain, layer, memory);
    }
    return status;
}

gated_status gated_chain_create(const gated_model *model, int first, int last, int64_t batch, int64_t seq_len,
                                int streaming, float *state, gated_team *team, gated_chain *chain)
{
    *chain = (gated_chain){.model = model, .first = first, .last = last, .batch = batch, .streaming = streaming,
                           .team = team, .state = state};
    int64_t widest = 1;
    size_t kept = 0;
    for (int i = first; i < last; i++) {
        const gated_model_layer *layer = &model->layers[i];
        widest = layer->is.output_size > widest ? layer->is.output_size : widest;
        kept += floats_of(chain, layer);
    }
    chain->chunk = choose_chunk(chain, widest, seq_len);
    const size_t between = (size_t)chain->chunk * batch * widest;
    const size_t layers = last - first;
    chain->memory = calloc(layers, sizeof *chain->memory);
    chain->integers = calloc(layers * batch + 1, sizeof *chain->integers);
    chain->floats = gated_allocate(2 * between + kept + 1);
    gated_status status = GATED_NO_MEMORY;
    if (chain->memory && chain->integers && chain->floats) {
        memset(chain->floats + 2 * between, 0, kept * sizeof(float));
        status = share_out(chain, between);
    }
    if (status == GATED_OK && streaming)
        status = gated_kept_create(chain);
    if (status != GATED_OK)
        gated_chain_free(chain);
    return status;
}

void gated_chain_free(gated_chain *chain)
{
    for (int i = chain->first; chain->memory && i < chain->last; i++) {
        gated_workspace_free(&memory_of(chain, i)->ws);
        gated_stepper_free(memory_of(chain, i)->stepper);
        gated_ticker_free(memory_of(chain, i)->ticker);
    }
    free(chain->kept.arrays);
    free(chain->memory);
    free(chain->integers);
    free(chain->floats);
    *chain = (gated_chain){0};
}

static int any_dead(const gated_span *s)
{
    for (int64_t t = 0; s->live.base && t < s->steps; t++)
        for (int64_t n = 0; n < s->batch; n++)
            if (!s->live.base[t * s->live.time + n * s->live.row])
                return 1;
    return 0;
}

/* A row's h of the last layer of a stack, both directions. */
static void copy_h(const gated_model_layer *layer, const float *state, int64_t batch, int64_t n, float *to)
{
    const gated_stack_layer *top = &layer->stack->layers[layer->stack->num_layers - 1];
    for (int d = 0; d < top->num_directions; d++) {
        const gated_scan *scan = &top->scan[d];
        memcpy(to + d * scan->output_size, state + scan->h_offset * batch + n * scan->output_size,
               scan->output_size * sizeof *to);
    }
}

/* What a scan of the last layer repeats of row n before the first step that counts. */
static void begin_repeating(const gated_model_layer *layer, const gated_scan *scan, const gated_sequence *s, int64_t n,
                            float *before)
{
    const float *h = s->initial ? s->initial + scan->h_offset * s->batch + n * scan->output_size
                                : layer->stack->initial + scan->h_offset;
    if (layer->is.masked == GATED_REPEAT_INITIAL)
        memcpy(before, h, scan->output_size * sizeof *before);
    else
        memset(before, 0, scan->output_size * sizeof *before);
}

/* Keras: at a step that does not count, y is that of the step before in the order of processing. */
static void repeat_outputs(const gated_model_layer *layer, const gated_span *s, const gated_sequence *sequence,
                           float *previous)
{
    const gated_stack_layer *top = &layer->stack->layers[layer->stack->num_layers - 1];
    for (int d = 0; d < top->num_directions; d++) {
        const gated_scan *scan = &top->scan[d];
        const size_t offset = d * scan->output_size, bytes = scan->output_size * sizeof(float);
        for (int64_t i = 0; i < s->steps; i++) {
            const int64_t t = scan->reverse ? s->steps - 1 - i : i;
            for (int64_t n = 0; n < s->batch; n++) {
                float *y = s->out.base + t * s->out.time + n * s->out.row + offset;
                float *before = previous + n * top->output_size + offset;
                if (!scan->reverse && gated_resets_at(s, t, n))
                    begin_repeating(layer, scan, sequence, n, before);
                if (s->live.base[t * s->live.time + n * s->live.row])
                    memcpy(before, y, bytes);
                else
                    memcpy(y, before, bytes);
                if (scan->reverse && gated_resets_at(s, t, n))
                    begin_repeating(layer, scan, sequence, n, before);
            }
        }
    }
}

/* A layer's part of the trace. */
static gated_trace trace_of(const gated_chain *chain, int index, const gated_span *s)
{
    gated_trace trace = s->trace;
    for (int i = chain->first; i < index; i++)
        if (chain->model->layers[i].stack)
            gated_trace_skip(&trace, chain->model->layers[i].stack, s->batch);
    return trace;
}

static gated_status run_stack(const gated_chain *chain, int index, const gated_span *s, int is_first)
{
    const gated_model_layer *layer = &chain->model->layers[index];
    gated_memory *memory = memory_of(chain, index);
    float *state = chain->state + layer->state_offset * chain->batch;
    const gated_sequence sequence = {
        .seq_len = s->steps, .batch = s->batch, .state = state,
        .x = s->in.base, .x_time = s->in.time, .x_row = s->in.row,
        .y = s->out.base, .y_time = s->out.time, .y_row = s->out.row,
        .mask = s->live.base, .mask_time = s->live.time, .mask_row = s->live.row,
        .reset = s->reset.base, .reset_time = s->reset.time, .reset_row = s->reset.row,
        .initial = chain->initial ? chain->initial + layer->state_offset * chain->batch : NULL,
    };
    const gated_trace trace = trace_of(chain, index, s);
    for (int64_t n = 0; is_first && layer->is.masked == GATED_REPEAT_INITIAL && n < s->batch; n++)
        copy_h(layer, state, s->batch, n, memory->values + n * layer->is.output_size);
    gated_status status = gated_stack_run(layer->stack, &sequence, &trace, &memory->ws, chain->team);
    if (status == GATED_OK && s->live.base && layer->is.masked != GATED_ZERO)
        repeat_outputs(layer, s, &sequence, memory->values);
    return status;
}

static void step_all(gated_stepper *stepper, const gated_span *s)
{
    gated_stepper_run(stepper, s->steps, s->in.base, s->in.time, s->in.row, s->out.base, s->out.time, s->out.row);
}

/* y of a row for which a step does not count: zero or h, which is the output before. */
static void fill_dead_step(const gated_model_layer *layer, const gated_memory *memory, const float *state, int64_t batch,
                           int64_t n, float *y)
{
    memset(y, 0, layer->is.output_size * sizeof *y);
    if (layer->is.masked == GATED_REPEAT_INITIAL || (layer->is.masked == GATED_REPEAT_OUTPUT && memory->counts[n]))
        copy_h(layer, state, batch, n, y);
}

/* One step of which some rows do not count: their state comes back. */
static void step_some(const gated_model_layer *layer, const gated_span *s, gated_memory *memory, float *state)
{
    gated_stepper_settle(memory->stepper);
    memcpy(memory->values, state, layer->stack->state_per_row * s->batch * sizeof(float));
    step_all(memory->stepper, s);
    gated_stepper_settle(memory->stepper);
    for (int64_t n = 0; n < s->batch; n++) {
        float *y = s->out.base + n * s->out.row;
        if (s->live.base[n * s->live.row])
            continue;
        gated_stack_set_row(layer->stack, state, memory->values, s->batch, n);
        fill_dead_step(layer, memory, state, s->batch, n, y);
    }
}

/* In a stream that a mask is about, pieces are single steps. */
static void count_step(const gated_span *s, int64_t *counts)
{
    for (int64_t n = 0; n < s->batch; n++)
        counts[n] += !s->live.base || s->live.base[n * s->live.row];
}

static void step_stack(const gated_chain *chain, int index, const gated_span *s)
{
    const gated_model_layer *layer = &chain->model->layers[index];
    gated_memory *memory = memory_of(chain, index);
    const int contiguous = s->in.row == layer->is.input_size && s->out.row == layer->is.output_size;
    if (any_dead(s))
        step_some(layer, s, memory, chain->state + layer->state_offset * chain->batch);
    else if (s->steps == 1 && contiguous)
        gated_stepper_step(memory->stepper, s->in.base, s->out.base);
    else
        step_all(memory->stepper, s);
    if (chain->model->makes_mask)
        count_step(s, memory->counts);
}

/* One step of some members of a pool. */
static void tick_stack(const gated_chain *chain, int index, const gated_span *s)
{
    const gated_model_layer *layer = &chain->model->layers[index];
    const gated_memory *memory = memory_of(chain, index);
    const float *state = chain->state + layer->state_offset * chain->batch;
    gated_ticker_step(memory->ticker, s);
    for (int64_t n = 0; chain->model->makes_mask && n < s->batch; n++) {
        if (!s->live.base || s->live.base[n * s->live.row])
            memory->counts[s->members[n]]++;
        else
            fill_dead_step(layer, memory, state, chain->batch, s->members[n], s->out.base + n * s->out.row);
    }
}

/* From here on s->live may be written. */
static void claim_mask(gated_span *s, unsigned char *masks)
{
    if (s->live.base)
        return;
    memset(masks, 1, s->steps * s->batch);
    s->live = (gated_live){masks, s->batch, 1};
}

static void flip_live(gated_span *s)
{
    if (s->live.base)
        s->live.base += (s->steps - 1) * s->live.time;
    s->live.time = -s->live.time;
}

static void flip(gated_span *s)
{
    s->in.base += (s->steps - 1) * s->in.time;
    s->in.time = -s->in.time;
    flip_live(s);
}

/* Layers that only change how the numbers are looked at; gated_run repeats and reshapes what comes out of the chain. */
static int is_view(gated_kind kind)
{
    switch (kind) {
    case GATED_UNMASK:
    case GATED_FLIP:
    case GATED_FLIP_MASK:
    case GATED_REPEAT:
    case GATED_RESHAPE:
        return 1;
    default:
        return 0;
    }
}

static void change_view(gated_kind kind, gated_span *s)
{
    if (kind == GATED_UNMASK)
        s->live.base = NULL;
    else if (kind == GATED_FLIP)
        flip(s);
    else if (kind == GATED_FLIP_MASK)
        flip_live(s);
}

static gated_status run_layer(const gated_chain *chain, int index, const gated_span *s, int is_first)
{
    const gated_model_layer *layer = &chain->model->layers[index];
    gated_memory *memory = memory_of(chain, index);
    if (layer->stack && !chain->streaming)
        return run_stack(chain, index, s, is_first);
    if (layer->stack && s->members)
        tick_stack(chain, index, s);
    else if (layer->stack)
        step_stack(chain, index, s);
    else
        gated_plain_run(layer, s, memory);
    if (chain->streaming && gated_is_pool(layer->is.kind))
        gated_pooled(&layer->is, memory, s, s->out);
    return GATED_OK;
}

static int last_to_compute(const gated_chain *chain)
{
    int last = chain->last - 1;
    while (last >= chain->first && is_view(chain->model->layers[last].is.kind))
        last--;
    return last;
}

/* The result of layers that compute nothing. */
static void copy_steps(gated_span *s, gated_view to, int width)
{
    for (int64_t t = 0; t < s->steps; t++)
        for (int64_t n = 0; n < s->batch; n++)
            memcpy(to.base + t * to.time + n * to.row, s->in.base + t * s->in.time + n * s->in.row, width * sizeof(float));
    s->in = to;
}

gated_status gated_chain_run(gated_chain *chain, gated_span *span, unsigned char *masks, int is_first)
{
    const gated_view target = span->out;
    const int last = last_to_compute(chain);
    gated_status status = GATED_OK;
    int buffer = 0;
    for (int i = chain->first; i < chain->last && status == GATED_OK; i++) {
        const gated_layer *layer = &chain->model->layers[i].is;
        if (is_view(layer->kind)) {
            change_view(layer->kind, span);
            continue;
        }
        const ptrdiff_t width = layer->output_size;
        span->out = (gated_view){chain->between[buffer], width * span->batch, width};
        if (i == last && target.base)
            span->out = target;
        if (layer->kind == GATED_MASKING || (layer->kind == GATED_EMBEDDING && layer->flag))
            claim_mask(span, masks);
        status = run_layer(chain, i, span, is_first);
        if (gated_is_pool(layer->kind))
            span->live.base = NULL;
        span->in = span->out;
        buffer = !buffer;
    }
    if (last < chain->first && target.base)
        copy_steps(span, target, chain->model->layers[chain->first].is.input_size);
    return status;
}

static int overlap(const void *x, size_t x_bytes, const void *y, size_t y_bytes)
{
    const uintptr_t a = (uintptr_t)x, b = (uintptr_t)y;
    return a < b + y_bytes && b < a + x_bytes;
}

gated_status gated_chain_step(gated_chain *chain, const int32_t *members, int64_t batch, const void *x, float *y,
                              unsigned char *masks)
{
    const gated_model *model = chain->model;
    const ptrdiff_t width = model->layers[0].is.input_size;
    const ptrdiff_t y_width = model->layers[model->num_layers - 1].is.output_size;
    const gated_view out = {y, y_width * batch, y_width};
    gated_span span = {.in = {(float *)x, width * batch, width}, .steps = 1, .batch = batch, .members = members};
    if (!overlap(x, batch * width * sizeof *y, y, batch * y_width * sizeof *y))
        span.out = out;
    gated_status status = gated_chain_run(chain, &span, masks, 0);
    if (status != GATED_OK)
        return status;
    if (span.in.base != y)
        memmove(y, span.in.base, batch * y_width * sizeof *y);
    gated_clear_dead_steps(&span, out, (int)y_width);
    return GATED_OK;
}

void gated_clear_dead_steps(const gated_span *s, gated_view y, int width)
{
    for (int64_t t = 0; s->live.base && t < s->steps; t++)
        for (int64_t n = 0; n < s->batch; n++)
            if (!s->live.base[t * s->live.time + n * s->live.row])
                memset(y.base + t * y.time + n * y.row, 0, width * sizeof(float));
}

void gated_chain_settle(gated_chain *chain)
{
    for (int i = chain->first; i < chain->last; i++)
        if (memory_of(chain, i)->stepper)
            gated_stepper_settle(memory_of(chain, i)->stepper);
}

/* As many at once as write all scratch. A layer alone is not run in chunks. */
static int64_t steps_to_warm(const gated_chain *chain)
{
    const int is_alone = chain->last - chain->first == 1;
    return is_alone && chain->streaming == GATED_STREAM && chain->chunk > 1 ? MOST_STEPS : chain->chunk;
}

/* With room for a snapshot of every row, for x of one step and for y of them all. A stepper turns: two single steps
 * write both of its states. */
static void warm(gated_chain *chain, const int32_t *members, unsigned char *masks, unsigned char *rows, const float *x,
                 float *y)
{
    const size_t size = gated_snapshot_size(chain->model);
    const ptrdiff_t width = chain->model->layers[chain->first].is.input_size;
    const ptrdiff_t y_width = chain->model->layers[chain->last - 1].is.output_size;
    gated_span span = {.in = {(float *)x, 0, width}, .out = {y, y_width * chain->batch, y_width},
                       .steps = steps_to_warm(chain), .batch = chain->batch, .members = members};
    gated_chain_settle(chain);
    for (int64_t n = 0; n < chain->batch; n++)
        gated_row_save(chain, n, rows + n * size);
    for (int turn = 0; turn < 2; turn++)
        (void)gated_chain_step(chain, members, chain->batch, x, y, masks);
    (void)gated_chain_run(chain, &span, masks, 0);
    gated_chain_settle(chain);
    for (int64_t n = 0; n < chain->batch; n++)
        (void)gated_row_restore(chain, n, rows + n * size);
}

gated_status gated_chain_warm(gated_chain *chain, const int32_t *members, unsigned char *masks)
{
    const gated_model *model = chain->model;
    const size_t batch = chain->batch;
    unsigned char *rows = malloc(batch * gated_snapshot_size(model));
    float *x = calloc(batch * model->layers[0].is.input_size, sizeof *x);
    float *y = malloc(steps_to_warm(chain) * batch * model->layers[model->num_layers - 1].is.output_size * sizeof *y);
    const int is_complete = rows && x && y;
    if (is_complete)
        warm(chain, members, masks, rows, x, y);
    free(rows);
    free(x);
    free(y);
    return is_complete ? GATED_OK : GATED_NO_MEMORY;
}
