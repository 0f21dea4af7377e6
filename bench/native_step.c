/* One step in C, batch 1, one input: nanoseconds for the small sizes that audio plug-ins run.
 *
 *   cc -O2 -Igated_c/include bench/native_step.c <objects of src/ and src/isa/> -o step && ./step
 *
 * `python -m bench --suite native` builds and runs it. Prints cell, hidden_size and the median of 101 samples.
 */
#define _POSIX_C_SOURCE 199309L /* clock_gettime */
#include "gated_c.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { SAMPLES = 101, STEPS = 4000, MAX_HIDDEN = 64 };

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    const double p = *(const double *)a, q = *(const double *)b;
    return (p > q) - (p < q);
}

static double median_step(gated_stream *stream, float *x, float *y)
{
    double sample[SAMPLES];
    for (int i = 0; i < SAMPLES; i++) {
        const double start = seconds();
        for (int k = 0; k < STEPS; k++) {
            *x = (float)(k & 15) * 0.1f;
            gated_stream_step(stream, x, y);
        }
        sample[i] = (seconds() - start) / STEPS * 1e9;
    }
    qsort(sample, SAMPLES, sizeof *sample, ascending);
    return sample[SAMPLES / 2];
}

int main(void)
{
    static float weights[4 * MAX_HIDDEN * MAX_HIDDEN], x, y[MAX_HIDDEN];
    static const int sizes[] = {8, 16, 20, 24, 32, 40, 64};
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++)
        weights[i] = (float)rand() / (float)RAND_MAX * 0.2f - 0.1f;
    for (int cell = GATED_LSTM; cell <= GATED_GRU; cell++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            const gated_recurrent recurrent = {
                .cell = (gated_cell)cell, .input_size = 1, .hidden_size = sizes[i], .num_directions = 1,
                .weights = {{.weight_ih = weights, .weight_hh = weights, .bias_ih = weights, .bias_hh = weights}}};
            const gated_layer layer = {.kind = GATED_STACK, .input_size = 1, .output_size = sizes[i], .stack = &recurrent,
                                       .count = 1};
            gated_model *model;
            gated_stream *stream;
            if (gated_model_create(&layer, 1, 0, &model) || gated_stream_create(model, 1, &stream))
                return 1;
            printf("%s %d %.1f\n", cell == GATED_LSTM ? "lstm" : "gru", sizes[i], median_step(stream, &x, y));
            gated_stream_free(stream);
            gated_model_free(model);
        }
    }
    return 0;
}
