/* The live state of a batch of sequences, and all the scratch its steps need. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

enum { RUN_STEPS = 4096 }; /* a long run goes in pieces of this many steps, so that scratch is of fixed size */

struct gated_stream {
    const gated_model *model;
    int64_t batch;
    float *state;
    gated_workspace ws;
};

gated_status gated_stream_create(const gated_model *model, int64_t batch, gated_stream **created)
{
    if (batch < 1 || batch > INT32_MAX)
        return GATED_BAD_SIZE;
    if (model->bidirectional)
        return GATED_NOT_STREAMABLE;
    gated_stream *stream = calloc(1, sizeof *stream);
    if (!stream)
        return GATED_NO_MEMORY;
    stream->model = model;
    stream->batch = batch;
    stream->state = gated_allocate(gated_state_size(model, batch));
    gated_status status = stream->state ? gated_workspace_create(model, batch, RUN_STEPS, &stream->ws) : GATED_NO_MEMORY;
    if (status != GATED_OK) {
        gated_stream_free(stream);
        return status;
    }
    memset(stream->state, 0, sizeof(float) * gated_state_size(model, batch));
    *created = stream;
    return GATED_OK;
}

void gated_stream_free(gated_stream *stream)
{
    if (!stream)
        return;
    gated_workspace_free(&stream->ws);
    free(stream->state);
    free(stream);
}

float *gated_stream_state(gated_stream *stream)
{
    return stream->state;
}

void gated_stream_run(gated_stream *stream, int64_t steps, const float *x, ptrdiff_t x_time, ptrdiff_t x_row, float *y,
                      ptrdiff_t y_time, ptrdiff_t y_row)
{
    const gated_schedule schedule = {.batch = stream->batch, .seq_len = steps};
    const gated_sequence sequence = {
        .seq_len = steps, .batch = stream->batch, .state = stream->state,
        .x = x, .x_time = x_time, .x_row = x_row,
        .y = y, .y_time = y_time, .y_row = y_row,
    };
    gated_run_layers(stream->model, &sequence, &schedule, &stream->ws);
}

void gated_stream_step(gated_stream *stream, const float *x, float *y)
{
    const gated_model *model = stream->model;
    const ptrdiff_t in = model->layers[0].input_size, out = model->layers[model->num_layers - 1].output_size;
    gated_stream_run(stream, 1, x, in * stream->batch, in, y, out * stream->batch, out);
}
