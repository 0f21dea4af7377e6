/* Prints hashes per shape of everything a model computes, with and without resets and a trace, for tests/test_compilers.py
 * to compare between compilers and instruction sets. Uses integers to make its weights, so that they are the same everywhere. */
#include "gated_c.h"

#include <stdio.h>
#include <stdlib.h>

static uint32_t seed;

static float *randoms(size_t count, float bound)
{
    float *values = malloc((count + 1) * sizeof *values);
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        values[i] = bound * ((int32_t)(seed >> 8) - (1 << 23)) * 0x1p-23f;
    }
    return values;
}

static uint32_t hash(const float *values, size_t count)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < count * sizeof *values; i++)
        h = (h ^ ((const unsigned char *)values)[i]) * 16777619u;
    return h;
}

static void fail(const char *what, gated_status status)
{
    printf("%s: %s\n", what, gated_status_string(status));
    exit(1);
}

static void run(gated_cell cell, int general, int input, int hidden, int projection, int directions, int64_t batch,
                int64_t steps, unsigned flags)
{
    const gated_options options = {
        .activation = {{GATED_HARD_SIGMOID, 0.2f, 0.5f}, {GATED_MISH, 0, 0}, {GATED_GELU, 0, 0}}, .clip = 2};
    const int gates = gated_cell_gates(cell), h_size = projection ? projection : hidden;
    const float bound = 1.5f / (float)(1 + hidden / 8);
    seed = (uint32_t)(cell * 7919 + input * 131 + hidden);
    gated_recurrent layers[2] = {{.cell = cell, .input_size = input}, {.cell = cell, .input_size = directions * h_size}};
    for (int l = 0; l < 2; l++) {
        layers[l].hidden_size = hidden;
        layers[l].proj_size = projection;
        layers[l].num_directions = directions;
        for (int d = 0; d < directions; d++)
            layers[l].weights[d] = (gated_weights){
                .weight_ih = randoms((size_t)gates * hidden * layers[l].input_size, bound),
                .weight_hh = randoms((size_t)gates * hidden * h_size, bound),
                .bias_ih = randoms((size_t)gates * hidden, 1),
                .bias_hh = randoms((size_t)gates * hidden, 1),
                .weight_hr = projection ? randoms((size_t)projection * hidden, bound) : NULL,
                .peephole = cell == GATED_LSTM && general ? randoms((size_t)3 * hidden, 1) : NULL,
                .options = general ? &options : NULL,
                .initial_h = randoms(h_size, 1),
                .initial_c = cell == GATED_LSTM ? randoms(hidden, 1) : NULL};
    }
    const int out = directions * h_size;
    float *weight = randoms((size_t)out * out, bound), *bias = randoms(out, 1);
    const gated_layer chain[] = {
        {.kind = GATED_STACK, .input_size = input, .output_size = out, .stack = layers, .count = 2},
        {.kind = GATED_LAYER_NORM, .input_size = out, .output_size = out, .value = 1e-3f},
        {.kind = GATED_DENSE, .input_size = out, .output_size = out, .weight = weight, .bias = bias,
         .activation = {GATED_SELU, 0, 0}},
        {.kind = GATED_LOG_SOFTMAX, .input_size = out, .output_size = out},
        {.kind = GATED_SCALE, .input_size = out, .output_size = out, .weight = weight, .bias = bias},
        {.kind = GATED_SOFTMAX, .input_size = out, .output_size = out},
    };
    gated_model *model;
    gated_status status = gated_model_create(chain, general ? 6 : 1, flags, &model);
    if (status != GATED_OK)
        fail("model", status);
    const size_t state_size = gated_state_size(model, batch);
    float *x = randoms((size_t)steps * batch * input, 2), *y = randoms((size_t)steps * batch * out, 1);
    float *state = randoms(state_size, 1);
    gated_sequence sequence = {.seq_len = steps, .batch = batch, .x = x, .x_time = batch * input, .x_row = input,
                                     .y = y, .y_time = batch * out, .y_row = out, .state = state};
    status = gated_run(model, &sequence);
    if (status != GATED_OK)
        fail("run", status);
    printf("flags %u cell %d general %d input %d hidden %d projection %d directions %d batch %d: %08x %08x", flags,
           (int)cell, general, input, hidden, projection, directions, (int)batch,
           (unsigned)hash(y, (size_t)steps * batch * out), (unsigned)hash(state, state_size));

    const size_t c_size = gated_trace_c_size(model, steps, batch), gates_size = gated_trace_gates_size(model, steps, batch);
    float *trace_c = randoms(c_size, 1), *trace_gates = randoms(gates_size, 1);
    unsigned char *marks = malloc((size_t)(2 * steps * batch));
    for (int64_t i = 0; i < 2 * steps * batch; i++)
        marks[i] = (seed = seed * 1664525u + 1013904223u) >> 28 == 0;
    gated_state_init(model, batch, state);
    sequence.reset = marks;
    for (int64_t i = steps * batch; i < 2 * steps * batch; i++)
        marks[i] = !marks[i];
    sequence.mask = marks + steps * batch;
    sequence.reset_time = sequence.mask_time = batch;
    sequence.reset_row = sequence.mask_row = 1;
    sequence.trace_c = trace_c;
    sequence.trace_gates = trace_gates;
    status = gated_run(model, &sequence);
    if (status != GATED_OK)
        fail("run with resets", status);
    printf(" %08x %08x %08x %08x\n", (unsigned)hash(y, (size_t)steps * batch * out), (unsigned)hash(state, state_size),
           (unsigned)hash(trace_c, c_size), (unsigned)hash(trace_gates, gates_size));
    free(trace_c), free(trace_gates), free(marks);
    for (int l = 0; l < 2; l++)
        for (int d = 0; d < directions; d++) {
            const gated_weights *w = &layers[l].weights[d];
            free((void *)w->weight_ih), free((void *)w->weight_hh), free((void *)w->bias_ih);
            free((void *)w->bias_hh), free((void *)w->weight_hr), free((void *)w->peephole);
            free((void *)w->initial_h), free((void *)w->initial_c);
        }
    free(x), free(y), free(state), free(weight), free(bias);
    gated_model_free(model);
}

static void run_all(int input, int hidden, int directions, int64_t batch, unsigned flags)
{
    static const gated_cell general[] = {GATED_LSTM, GATED_GRU, GATED_GRU_RESET_BEFORE, GATED_RNN};
    for (int cell = GATED_LSTM; cell <= GATED_RNN_RELU; cell++)
        run((gated_cell)cell, 0, input, hidden, 0, directions, batch, 40, flags);
    for (int cell = 0; cell < 4; cell++)
        run(general[cell], 1, input, hidden, 0, directions, batch, 40, flags);
    if (hidden > 1)
        run(GATED_LSTM, 0, input, hidden, hidden / 2, directions, batch, 40, flags);
}

int main(void)
{
    static const int sizes[][2] = {{1, 1}, {1, 8}, {3, 16}, {20, 20}, {5, 33}, {40, 48}, {64, 64}, {60, 100}};
    static const unsigned formats[] = {0, GATED_BFLOAT16, GATED_INT8, GATED_INT8 | GATED_INPUTS_FLOAT32,
                                       GATED_INT8 | GATED_INPUTS_BFLOAT16};
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            for (int directions = 1; directions <= 2; directions++)
                for (int64_t batch = 1; batch <= 7; batch += 3)
                    run_all(sizes[i][0], sizes[i][1], directions, batch, formats[f]);
    return 0;
}
