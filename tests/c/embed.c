/* A program that uses the library, as C99, C11 and C++: a GRU, step by step and in one go, with equal bits. */
#include <gated_c.h>

#include <stdio.h>
#include <string.h>

enum { INPUTS = 3, UNITS = 5, STEPS = 7 };

static float weight_ih[3 * UNITS * INPUTS], weight_hh[3 * UNITS * UNITS], bias_ih[3 * UNITS];

static void fill(float *values, int count, int seed)
{
    int i;
    for (i = 0; i < count; i++)
        values[i] = (float)((i * 37 + seed) % 19 - 9) / 16.0f;
}

static gated_status create(gated_model **model)
{
    gated_recurrent gru;
    gated_layer layer;
    memset(&gru, 0, sizeof gru);
    memset(&layer, 0, sizeof layer);
    gru.cell = GATED_GRU;
    gru.input_size = INPUTS;
    gru.hidden_size = UNITS;
    gru.num_directions = 1;
    gru.weights[0].weight_ih = weight_ih;
    gru.weights[0].weight_hh = weight_hh;
    gru.weights[0].bias_ih = bias_ih;
    layer.kind = GATED_STACK;
    layer.input_size = INPUTS;
    layer.output_size = UNITS;
    layer.stack = &gru;
    layer.count = 1;
    return gated_model_create(&layer, 1, model);
}

static gated_status run(const gated_model *model, const float *x, float *y)
{
    float state[UNITS] = {0};
    gated_sequence sequence;
    memset(&sequence, 0, sizeof sequence);
    sequence.seq_len = STEPS;
    sequence.batch = 1;
    sequence.x = x;
    sequence.x_time = sequence.x_row = INPUTS;
    sequence.y = y;
    sequence.y_time = sequence.y_row = UNITS;
    sequence.state = state;
    return gated_run(model, &sequence);
}

static gated_status step(const gated_model *model, const float *x, float *y)
{
    gated_stream *stream = NULL;
    gated_status status = gated_stream_create(model, 1, &stream);
    int t;
    for (t = 0; t < STEPS && status == GATED_OK; t++)
        status = gated_stream_step(stream, x + t * INPUTS, y + t * UNITS);
    gated_stream_free(stream);
    return status;
}

int main(void)
{
    float x[STEPS * INPUTS], whole[STEPS * UNITS], steps[STEPS * UNITS];
    gated_model *model = NULL;
    gated_status status;
    if (gated_abi_version() != GATED_ABI_VERSION)
        return 1;
    fill(weight_ih, 3 * UNITS * INPUTS, 1);
    fill(weight_hh, 3 * UNITS * UNITS, 2);
    fill(bias_ih, 3 * UNITS, 3);
    fill(x, STEPS * INPUTS, 4);
    status = create(&model);
    if (status == GATED_OK)
        status = run(model, x, whole);
    if (status == GATED_OK)
        status = step(model, x, steps);
    gated_model_free(model);
    puts(gated_status_string(status));
    return status != GATED_OK || whole[STEPS * UNITS - 1] == 0.0f || memcmp(whole, steps, sizeof whole) != 0;
}
