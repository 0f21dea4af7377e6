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

static gated_status create(const gated_model *model, int64_t batch, gated_stream *stream)
{
    enum { RUN_STEPS = 64 };
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
    gated_status status = gated_chain_create(model, 0, model->num_layers, batch, stream->step_by_step ? 1 : RUN_STEPS, 1,
                                             stream->state, &stream->chain);
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
    for (int l = 0; l < stream->model->num_layers; l++)
        if (stream->chain.memory[l].stepper)
            gated_stepper_settle(stream->chain.memory[l].stepper);
    return stream->state;
}

/* Row n of what a plain layer keeps: a pool [N, F], the steps before of a convolution [before, N, F]. */
static void forget_row(const gated_layer *layer, gated_memory *memory, int64_t batch, int64_t n)
{
    const size_t width = layer->input_size;
    const int64_t before = layer->kind == GATED_CONV ? gated_steps_before(layer) : 0;
    for (int64_t h = 0; h < before; h++)
        memset(memory->values + (h * batch + n) * width, 0, width * sizeof(float));
    if (gated_is_pool(layer->kind)) {
        memset(memory->values + n * width, 0, width * sizeof(float));
        memory->counts[n] = 0;
    }
}

void gated_stream_reset(gated_stream *stream, const unsigned char *rows)
{
    float *state = gated_stream_state(stream);
    for (int l = 0; l < stream->model->num_layers; l++) {
        const gated_model_layer *layer = &stream->model->layers[l];
        for (int64_t n = 0; n < stream->batch; n++) {
            if (rows && !rows[n])
                continue;
            if (layer->stack)
                gated_stack_set_row(layer->stack, state + layer->state_offset * stream->batch, NULL, stream->batch, n);
            forget_row(&layer->is, &stream->chain.memory[l], stream->batch, n);
        }
    }
}

gated_status gated_stream_step(gated_stream *stream, const void *x, float *y)
{
    if (stream->only) {
        gated_stepper_step(stream->only, x, y);
        return GATED_OK;
    }
    const ptrdiff_t width = stream->model->layers[0].is.input_size;
    const ptrdiff_t y_width = stream->model->layers[stream->model->num_layers - 1].is.output_size;
    return gated_stream_run(stream, 1, x, width * stream->batch, width, y, y_width * stream->batch, y_width);
}

gated_status gated_stream_run(gated_stream *stream, int64_t steps, const void *x, ptrdiff_t x_time, ptrdiff_t x_row,
                              float *y, ptrdiff_t y_time, ptrdiff_t y_row)
{
    if (stream->only) {
        gated_stepper_run(stream->only, steps, x, x_time, x_row, y, y_time, y_row);
        return GATED_OK;
    }
    const gated_layer *first = &stream->model->layers[0].is;
    if (first->kind == GATED_EMBEDDING && !gated_ids_in_range(first, x, steps, x_time, stream->batch, x_row))
        return GATED_BAD_INDEX;
    const int64_t chunk = stream->chain.chunk;
    for (int64_t t = 0; t < steps; t += chunk) {
        gated_span span = {.in = {(float *)x + t * x_time, x_time, x_row}, .out = {y + t * y_time, y_time, y_row},
                           .steps = steps - t < chunk ? steps - t : chunk, .batch = stream->batch};
        gated_status status = gated_chain_run(&stream->chain, &span, stream->masks, 0);
        if (status != GATED_OK)
            return status;
    }
    return GATED_OK;
}
