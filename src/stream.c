/* The live state of a batch of sequences, and all the scratch its steps need.
 *
 * A step is bound by latency when H is small: its new h must reach the next step without a detour. So there are two
 * copies of every h; each step reads one and writes the other, a layer reads the one the layer before just wrote, and
 * the caller's y is filled by a copy that nothing waits for. All rows are pointed at their places once, at creation.
 */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

enum { RUN_STEPS = 4096 }; /* a long run goes in pieces of this many steps, so that scratch is of fixed size */

struct gated_stream {
    const gated_model *model;
    int64_t batch;
    float *state;          /* h of all layers, then c, as gated_state_size() lays it out */
    float *other_h;        /* the second copy of the h part */
    size_t h_floats;
    int turn;              /* 0: the current h is in state, 1: in other_h */
    gated_row *rows;       /* [2 turns][L][cell, second product][N] */
    gated_workspace ws;
};

static gated_row *rows_of(const gated_stream *stream, int turn, int layer, int second)
{
    return stream->rows + (((size_t)turn * stream->model->num_layers + layer) * 2 + second) * stream->batch;
}

static float *h_of(const gated_stream *stream, int turn, int layer)
{
    return (turn ? stream->other_h : stream->state) + stream->model->layers[layer].scan[0].h_offset * stream->batch;
}

static void place_rows(gated_stream *stream, int turn, int layer)
{
    const gated_scan *scan = &stream->model->layers[layer].scan[0];
    const ptrdiff_t hidden = scan->hidden_size, output = scan->output_size;
    const float *x = layer > 0 ? h_of(stream, !turn, layer - 1) : NULL;
    const float *h = h_of(stream, turn, layer);
    float *new_h = h_of(stream, !turn, layer);
    float *c = scan->has_c ? stream->state + scan->c_offset * stream->batch : NULL;
    float *first = scan->second.kernel ? stream->ws.first_output : NULL;
    const int candidate = scan->second.panels.recurrent > 0;
    gated_row *cell = rows_of(stream, turn, layer, 0), *second = rows_of(stream, turn, layer, 1);
    for (int64_t n = 0; n < stream->batch; n++) {
        cell[n] = (gated_row){
            .x = x ? x + n * stream->model->layers[layer].input_size : NULL,
            .h = h + n * output,
            .previous = h + n * output,
            .c = c ? c + n * hidden : NULL,
            .y = first ? first + n * hidden : new_h + n * output,
        };
        second[n] = (gated_row){.x = cell[n].y, .y = new_h + n * output};
        if (candidate) {
            cell[n].c = first + (stream->batch + n) * hidden;
            second[n] = cell[n];
            second[n].h = cell[n].y;
            second[n].y = new_h + n * output;
        }
    }
}

static gated_status create(const gated_model *model, int64_t batch, gated_stream *stream)
{
    const gated_scan *first_with_c = NULL;
    for (int l = model->num_layers - 1; l >= 0; l--)
        if (model->layers[l].scan[0].has_c)
            first_with_c = &model->layers[l].scan[0];
    const size_t floats = gated_state_size(model, batch);
    stream->model = model;
    stream->batch = batch;
    stream->h_floats = first_with_c ? first_with_c->c_offset * batch : floats;
    stream->state = gated_allocate(floats + stream->h_floats);
    stream->rows = malloc(2 * 2 * sizeof(gated_row) * model->num_layers * batch);
    if (!stream->state || !stream->rows)
        return GATED_NO_MEMORY;
    memset(stream->state, 0, (floats + stream->h_floats) * sizeof(float));
    stream->other_h = stream->state + floats;
    gated_status status = gated_workspace_create(model, batch, RUN_STEPS, &stream->ws);
    for (int l = 0; l < model->num_layers && status == GATED_OK; l++) {
        place_rows(stream, 0, l);
        place_rows(stream, 1, l);
    }
    return status;
}

gated_status gated_stream_create(const gated_model *model, int64_t batch, gated_stream **created)
{
    if (batch < 1 || batch > INT32_MAX)
        return GATED_BAD_SIZE;
    if (model->reverse)
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
    gated_workspace_free(&stream->ws);
    free(stream->rows);
    free(stream->state);
    free(stream);
}

float *gated_stream_state(gated_stream *stream)
{
    if (stream->turn) {
        memcpy(stream->state, stream->other_h, stream->h_floats * sizeof(float));
        stream->turn = 0;
    }
    return stream->state;
}

static void place_input(const gated_stream *stream, const float *x, gated_row *rows)
{
    for (int64_t n = 0; n < stream->batch; n++)
        rows[n].x = x + n * stream->model->layers[0].input_size;
}

static void run_product(const gated_product *product, const gated_row *rows, const gated_stream *stream)
{
    product->kernel->step(&product->panels, rows, stream->batch, 0, product->panels.blocks, stream->turn);
}

void gated_stream_step(gated_stream *stream, const float *x, float *y)
{
    const gated_model *model = stream->model;
    const int turn = stream->turn, last = model->num_layers - 1;
    place_input(stream, x, rows_of(stream, turn, 0, 0));
    if (model->layers[0].scan[0].second.panels.recurrent > 0)
        place_input(stream, x, rows_of(stream, turn, 0, 1));
    for (int l = 0; l <= last; l++) {
        const gated_scan *scan = &model->layers[l].scan[0];
        run_product(&scan->cell, rows_of(stream, turn, l, 0), stream);
        if (scan->second.kernel)
            run_product(&scan->second, rows_of(stream, turn, l, 1), stream);
    }
    memcpy(y, h_of(stream, !turn, last), stream->batch * model->layers[last].output_size * sizeof(float));
    stream->turn = !turn;
}

void gated_stream_run(gated_stream *stream, int64_t steps, const float *x, ptrdiff_t x_time, ptrdiff_t x_row, float *y,
                      ptrdiff_t y_time, ptrdiff_t y_row)
{
    const gated_schedule schedule = {.batch = stream->batch, .seq_len = steps};
    const gated_sequence sequence = {
        .seq_len = steps, .batch = stream->batch, .state = gated_stream_state(stream),
        .x = x, .x_time = x_time, .x_row = x_row,
        .y = y, .y_time = y_time, .y_row = y_row,
    };
    gated_run_layers(stream->model, &sequence, &schedule, &stream->ws);
}
