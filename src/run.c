/* gated_run: a model over whole sequences, phase by phase. A phase is a run of layers over one time axis; it ends with a
 * pool, a repeat or a reshape, whose result is the next phase's input. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

#define LEAST_WORK 30e3 /* ns of a call for which it pays to ask for CPUs, which takes 600 */

/* What goes from phase to phase. */
typedef struct {
    const gated_model *model;
    gated_team *team;
    float *state;
    const float *initial;
    gated_view x, y;         /* y: of the whole model */
    int64_t steps, batch;    /* of x */
    gated_live live;
    gated_marks reset;
    gated_trace trace;       /* of the phase */
    unsigned char *masks;    /* [steps, N], or NULL if nothing can make a step not count; owned */
    float *result;           /* of the phase before, where x is; owned */
} gated_pass;

static int ends_phase(gated_kind kind)
{
    return gated_is_pool(kind) || kind == GATED_REPEAT || kind == GATED_RESHAPE;
}

static int phase_end(const gated_model *model, int first)
{
    int last = first;
    while (last < model->num_layers - 1 && !ends_phase(model->layers[last].is.kind))
        last++;
    return last + 1;
}

static void copy_rows(gated_view from, gated_view to, int64_t steps, int64_t batch, int width)
{
    for (int64_t t = 0; t < steps; t++)
        for (int64_t n = 0; n < batch; n++)
            memcpy(to.base + t * to.time + n * to.row, from.base + t * from.time + n * from.row, width * sizeof(float));
}

/* The numbers of a row one after another: step by step as they are, to be read as other steps of another width. */
static gated_view by_row(float *base, int64_t steps, int width)
{
    return (gated_view){base, width, steps * width};
}

/* The pieces of a sequence through the layers of a phase, each copied on from where the chain leaves it. */
static gated_status run_pieces(const gated_pass *pass, gated_chain *chain, gated_view target, int is_end)
{
    const int width = pass->model->layers[chain->last - 1].is.input_size;
    const int y_width = pass->model->layers[chain->last - 1].is.output_size;
    for (int64_t t = 0; t < pass->steps; t += chain->chunk) {
        const int64_t steps = pass->steps - t < chain->chunk ? pass->steps - t : chain->chunk;
        gated_span span = {.in = pass->x, .live = pass->live, .reset = pass->reset, .trace = pass->trace,
                           .steps = steps, .batch = pass->batch};
        gated_view to = target;
        span.in.base += t * span.in.time;
        if (to.base)
            to.base += t * to.time;
        if (span.live.base)
            span.live.base += t * span.live.time;
        if (span.reset.base)
            span.reset.base += t * span.reset.time;
        span.trace.first = t;
        if (is_end)
            span.out = to;
        gated_status status = gated_chain_run(chain, &span, pass->masks ? pass->masks + t * pass->batch : NULL, t == 0);
        if (status != GATED_OK)
            return status;
        if (!is_end && to.base)
            copy_rows(span.in, to, steps, pass->batch, width);
        if (is_end)
            gated_clear_dead_steps(&span, to, y_width);
    }
    return GATED_OK;
}

/* Layers first .. last - 1, the last of which ends the phase or the model. */
static gated_status run_phase(gated_pass *pass, int first, int last)
{
    const gated_layer *end = &pass->model->layers[last - 1].is;
    const int is_pool = gated_is_pool(end->kind), is_end = !ends_phase(end->kind);
    float *result = gated_allocate((is_end ? 0 : is_pool ? 1 : pass->steps) * (size_t)pass->batch * end->input_size + 1);
    gated_chain chain;
    gated_status status = GATED_NO_MEMORY;
    if (result)
        status = gated_chain_create(pass->model, first, last, pass->batch, pass->steps, GATED_ONE_CALL, pass->state, pass->team,
                                    &chain);
    if (status != GATED_OK) {
        free(result);
        return status;
    }
    chain.initial = pass->initial;
    pass->trace.seq_len = pass->steps;
    const gated_view vector = by_row(result, 1, end->input_size);
    const gated_view target = is_end ? pass->y : is_pool ? (gated_view){0} : by_row(result, pass->steps, end->input_size);
    status = run_pieces(pass, &chain, target, is_end);
    if (status == GATED_OK && is_pool)
        gated_pooled(end, &chain.memory[last - 1 - first], &(gated_span){.batch = pass->batch}, vector);
    gated_chain_free(&chain);
    for (int l = first; l < last; l++)
        if (pass->model->layers[l].stack)
            gated_trace_skip(&pass->trace, pass->model->layers[l].stack, pass->batch);

    free(pass->result);
    pass->result = result;
    pass->live = (gated_live){0};
    if (is_end)
        return status;
    pass->steps = gated_steps_after(end, pass->steps);
    pass->x = end->kind == GATED_RESHAPE ? by_row(result, end->count, end->output_size)
                                         : (gated_view){result, 0, end->output_size};
    return status;
}

/* The caller's lengths or mask as a mask of our own, which layers may write to. */
static void fill_masks(gated_pass *pass, const gated_sequence *s)
{
    for (int64_t t = 0; t < s->seq_len; t++)
        for (int64_t n = 0; n < s->batch; n++)
            pass->masks[t * s->batch + n] =
                s->lengths ? t < s->lengths[n] : s->mask[t * s->mask_time + n * s->mask_row] != 0;
    pass->live = (gated_live){pass->masks, s->batch, 1};
}

static gated_status run_phases(gated_pass *pass, const gated_sequence *s)
{
    const gated_model *model = pass->model;
    const int is_ragged = s->lengths || s->mask;
    gated_status status = GATED_OK;
    for (int first = 0, last; first < model->num_layers && status == GATED_OK; first = last) {
        last = phase_end(model, first);
        free(pass->masks);
        pass->masks = NULL;
        if (model->makes_mask || (is_ragged && first == 0)) {
            pass->masks = malloc(pass->steps * pass->batch + 1);
            if (!pass->masks)
                return GATED_NO_MEMORY;
        }
        if (is_ragged && first == 0)
            fill_masks(pass, s);
        status = run_phase(pass, first, last);
    }
    const gated_layer *end = &model->layers[model->num_layers - 1].is;
    if (status == GATED_OK && ends_phase(end->kind))
        copy_rows(pass->x, pass->y, pass->steps, pass->batch, end->output_size);
    return status;
}

static gated_status run_stack(const gated_stack *stack, const gated_sequence *s, gated_team *team)
{
    gated_workspace ws;
    const gated_split split = gated_split_among(team, stack, s->batch, s->seq_len);
    gated_status status = gated_workspace_create(stack, s->batch, s->seq_len, &split, &ws);
    if (status != GATED_OK)
        return status;
    const gated_trace trace = {.c = s->trace_c, .gates = s->trace_gates, .seq_len = s->seq_len};
    status = gated_stack_run(stack, s, &trace, &ws, team);
    gated_workspace_free(&ws);
    return status;
}

/* A pool, a flip, ...: of steps before and after a reset they make one result. */
static int is_resettable(const gated_model *model)
{
    for (int l = 0; l < model->num_layers; l++) {
        const gated_kind kind = model->layers[l].is.kind;
        if (ends_phase(kind) || kind == GATED_FLIP || kind == GATED_FLIP_MASK)
            return 0;
    }
    return 1;
}

/* What packed sequences are for. */
static int is_bare_stack(const gated_model *model)
{
    return model->num_layers == 1 && model->layers[0].stack && model->layers[0].is.masked == GATED_ZERO;
}

static gated_status check(const gated_model *model, const gated_sequence *s)
{
    const gated_model_layer *first = &model->layers[0];
    gated_status status = gated_check_sequence(s);
    if (status == GATED_OK)
        status = gated_check_scratch(model, s->batch, s->seq_len);
    if (status != GATED_OK)
        return status;
    if (s->threads < 0 || (s->batch_sizes && !is_bare_stack(model)))
        return GATED_BAD_SIZE;
    if (model->input_steps && s->seq_len != model->input_steps)
        return GATED_BAD_LENGTH;
    if (first->is.kind == GATED_EMBEDDING
        && !gated_ids_in_range(&first->is, s->x, s->seq_len, s->x_time, s->batch, s->x_row))
        return GATED_BAD_INDEX;
    return s->reset && !is_resettable(model) ? GATED_NOT_RESETTABLE : GATED_OK;
}

/* A call, on its team. */
typedef struct {
    const gated_model *model;
    const gated_sequence *sequence;
    gated_status status;
} model_call;

static void run(void *arg, gated_team *team)
{
    model_call *call = arg;
    const gated_model *model = call->model;
    const gated_sequence *s = call->sequence;
    if (is_bare_stack(model)) {
        call->status = run_stack(model->layers[0].stack, s, team);
        return;
    }
    gated_pass pass = {.model = model, .team = team, .state = s->state, .initial = s->initial, .steps = s->seq_len,
                       .batch = s->batch, .x = {(float *)s->x, s->x_time, s->x_row}, .y = {s->y, s->y_time, s->y_row},
                       .reset = {s->reset, s->reset_time, s->reset_row},
                       .trace = {.c = s->trace_c, .gates = s->trace_gates}};
    call->status = run_phases(&pass, s);
    free(pass.result);
    free(pass.masks);
}

/* As many threads as pay. Short calls do not even ask for the time. */
static void run_on_best(model_call *call)
{
    const gated_sequence *s = call->sequence;
    const double alone = gated_split_alone(call->model, s->batch, s->seq_len);
    if (alone < LEAST_WORK) {
        run(call, NULL);
        return;
    }
    gated_team_count_calls(1);
    gated_team_run(gated_split_threads(call->model, s->batch, s->seq_len, alone), 1, run, call);
    gated_team_count_calls(-1);
}

gated_status gated_run(const gated_model *model, const gated_sequence *s)
{
    model_call call = {model, s, check(model, s)};
    if (call.status != GATED_OK)
        return call.status;
    const uint64_t mode = gated_enter(model);
    if (s->threads == 0)
        run_on_best(&call);
    else
        gated_team_run(s->threads, 0, run, &call);
    gated_leave(model, mode);
    return call.status;
}
