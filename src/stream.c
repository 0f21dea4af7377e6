/* Live streams: the state of a model for a batch of sequences, and all the scratch their steps need. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

struct gated_stream {
    const gated_model *model;
    int64_t batch;
    int step_by_step;        /* a pool or a mask looks at each step */
    gated_stepper *only;     /* of a model that is a single stack; owned by the chain */
    float *state;
    unsigned char *masks;    /* [N] */
    gated_chain chain;
};

enum { RUN_STEPS = 64 };

static gated_status create(const gated_model *model, int64_t batch, gated_stream *stream)
{
    const size_t floats = gated_state_size(model, batch);
    stream->model = model;
    stream->batch = batch;
    stream->step_by_step = model->makes_mask;
    for (int l = 0; l < model->num_layers; l++)
        stream->step_by_step |= gated_is_pool(model->layers[l].is.kind);
    stream->state = gated_allocate(floats + 1);
    stream->masks = malloc(batch);
    if (!stream->state || !stream->masks)
        return GATED_NO_MEMORY;
    gated_state_init(model, batch, stream->state);
    gated_status status = gated_chain_create(model, 0, model->num_layers, batch, stream->step_by_step ? 1 : RUN_STEPS,
                                             GATED_STREAM, stream->state, NULL, &stream->chain);
    if (status == GATED_OK && model->num_layers == 1)
        stream->only = stream->chain.memory[0].stepper;
    return status;
}

gated_status gated_stream_create(const gated_model *model, int64_t batch, gated_stream **created)
{
    if (batch < 1 || batch > INT32_MAX)
        return GATED_BAD_SIZE;
    if (!model->streamable)
        return GATED_NOT_STREAMABLE;
    if (gated_check_scratch(model, batch, RUN_STEPS) != GATED_OK)
        return GATED_NO_MEMORY;
    gated_stream *stream = calloc(1, sizeof *stream);
    if (!stream)
        return GATED_NO_MEMORY;
    gated_status status = create(model, batch, stream);
    if (status != GATED_OK) {
        gated_stream_free(stream);
        return status;
    }
    *created = stream;
    return GATED_OK;
}

void gated_stream_free(gated_stream *stream)
{
    if (!stream)
        return;
    gated_chain_free(&stream->chain);
    free(stream->masks);
    free(stream->state);
    free(stream);
}

float *gated_stream_state(gated_stream *stream)
{
    gated_chain_settle(&stream->chain);
    return stream->state;
}

void gated_stream_reset(gated_stream *stream, const unsigned char *rows)
{
    gated_chain_settle(&stream->chain);
    for (int64_t n = 0; n < stream->batch; n++)
        if (!rows || rows[n])
            gated_row_reset(&stream->chain, n);
}

gated_status gated_stream_save(gated_stream *stream, int64_t row, void *bytes)
{
    if (row < 0 || row >= stream->batch)
        return GATED_BAD_SIZE;
    gated_chain_settle(&stream->chain);
    gated_row_save(&stream->chain, row, bytes);
    return GATED_OK;
}

gated_status gated_stream_restore(gated_stream *stream, int64_t row, const void *bytes)
{
    if (row < 0 || row >= stream->batch)
        return GATED_BAD_SIZE;
    gated_chain_settle(&stream->chain);
    return gated_row_restore(&stream->chain, row, bytes);
}

static gated_status run(gated_stream *stream, int64_t steps, const void *x, ptrdiff_t x_time, ptrdiff_t x_row, float *y,
                        ptrdiff_t y_time, ptrdiff_t y_row)
{
    if (steps < 0)
        return GATED_BAD_SIZE;
    if (stream->only) {
        gated_stepper_run(stream->only, steps, x, x_time, x_row, y, y_time, y_row);
        return GATED_OK;
    }
    const gated_layer *first = &stream->model->layers[0].is;
    if (first->kind == GATED_EMBEDDING && !gated_ids_in_range(first, x, steps, x_time, stream->batch, x_row))
        return GATED_BAD_INDEX;
    const int64_t chunk = stream->chain.chunk;
    const int y_width = stream->model->layers[stream->model->num_layers - 1].is.output_size;
    for (int64_t t = 0; t < steps; t += chunk) {
        gated_span span = {.in = {(float *)x + t * x_time, x_time, x_row}, .out = {y + t * y_time, y_time, y_row},
                           .steps = steps - t < chunk ? steps - t : chunk, .batch = stream->batch};
        const gated_view target = span.out;
        gated_status status = gated_chain_run(&stream->chain, &span, stream->masks, 0);
        if (status != GATED_OK)
            return status;
        gated_clear_dead_steps(&span, target, y_width);
    }
    return GATED_OK;
}

static gated_status step(gated_stream *stream, const void *x, float *y)
{
    if (stream->only) {
        gated_stepper_step(stream->only, x, y);
        return GATED_OK;
    }
    const gated_layer *first = &stream->model->layers[0].is;
    if (first->kind == GATED_EMBEDDING && !gated_ids_in_range(first, x, 1, 1, stream->batch, 1))
        return GATED_BAD_INDEX;
    return gated_chain_step(&stream->chain, NULL, stream->batch, x, y, stream->masks);
}

gated_status gated_stream_step(gated_stream *stream, const void *x, float *y)
{
    const uint64_t mode = gated_enter(stream->model);
    gated_status status = step(stream, x, y);
    gated_leave(stream->model, mode);
    return status;
}

gated_status gated_stream_run(gated_stream *stream, int64_t steps, const void *x, ptrdiff_t x_time, ptrdiff_t x_row,
                              float *y, ptrdiff_t y_time, ptrdiff_t y_row)
{
    const uint64_t mode = gated_enter(stream->model);
    gated_status status = run(stream, steps, x, x_time, x_row, y, y_time, y_row);
    gated_leave(stream->model, mode);
    return status;
}

gated_status gated_stream_warm(gated_stream *stream)
{
    const uint64_t mode = gated_enter(stream->model);
    gated_status status = gated_chain_warm(&stream->chain, NULL, stream->masks);
    gated_leave(stream->model, mode);
    return status;
}
