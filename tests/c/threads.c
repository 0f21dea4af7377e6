/* Threads share two models, each with streams, pools and runs of its own, and make and free models meanwhile: every result
 * must have the bits of one thread alone. With the argument "teams" every run is on two threads of its own; with "shared" two
 * threads step one stream, which is not allowed, for a sanitizer to notice. Prints what differed. */
#define _POSIX_C_SOURCE 200809L
#include "gated_c.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 4, ROUNDS = 5, STEPS = 12, ROWS = 3, INPUTS = 6, HIDDEN = 33, OUTPUTS = 7, NUMBERS = 4 * HIDDEN * 2 * HIDDEN };

typedef struct {
    gated_model *chain, *both;     /* a chain that streams, and two directions */
    float x[STEPS][ROWS][INPUTS];
    float y_chain[STEPS][ROWS][OUTPUTS], y_both[STEPS][ROWS][2 * HIDDEN]; /* what one thread makes of it */
} shared_work;

static float numbers[NUMBERS];
static shared_work work;
static int threads_of_run = 1;

static gated_status create_chain(gated_model **model)
{
    const gated_weights weights = {.weight_ih = numbers, .weight_hh = numbers + 1, .bias_ih = numbers, .bias_hh = numbers};
    const gated_recurrent stack[] = {
        {.cell = GATED_LSTM, .input_size = 5, .hidden_size = HIDDEN, .num_directions = 1, .weights = {weights}},
        {.cell = GATED_GRU, .input_size = HIDDEN, .hidden_size = 20, .num_directions = 1, .weights = {weights}},
        {.cell = GATED_GRU_RESET_BEFORE, .input_size = 20, .hidden_size = 9, .num_directions = 1, .weights = {weights}},
    };
    const gated_layer layers[] = {
        {.kind = GATED_CONV, .input_size = INPUTS, .output_size = 5, .count = 3, .dilation = 2, .weight = numbers,
         .activation = {GATED_TANH, 0, 0}},
        {.kind = GATED_STACK, .input_size = 5, .output_size = 9, .stack = stack, .count = 3},
        {.kind = GATED_LAYER_NORM, .input_size = 9, .output_size = 9, .weight = numbers, .value = 1e-3f},
        {.kind = GATED_DENSE, .input_size = 9, .output_size = OUTPUTS, .weight = numbers, .activation = {GATED_GELU, 0, 0}},
    };
    return gated_model_create(layers, 4, GATED_FLUSH_SUBNORMALS, model);
}

static gated_status create_both(gated_model **model)
{
    const gated_weights weights = {.weight_ih = numbers, .weight_hh = numbers + 1, .bias_ih = numbers};
    const gated_recurrent stack[] = {
        {.cell = GATED_LSTM, .input_size = INPUTS, .hidden_size = HIDDEN, .num_directions = 2, .weights = {weights, weights}},
        {.cell = GATED_LSTM, .input_size = 2 * HIDDEN, .hidden_size = HIDDEN, .num_directions = 2,
         .weights = {weights, weights}},
    };
    const gated_layer layers[] = {
        {.kind = GATED_STACK, .input_size = INPUTS, .output_size = 2 * HIDDEN, .stack = stack, .count = 2}};
    return gated_model_create(layers, 1, 0, model);
}

static gated_status run(const gated_model *model, int width, float *y)
{
    const size_t size = gated_state_size(model, ROWS);
    float *state = calloc(size, sizeof *state);
    const gated_sequence sequence = {
        .threads = threads_of_run, .seq_len = STEPS, .batch = ROWS, .x = work.x, .x_time = ROWS * INPUTS, .x_row = INPUTS, .y = y,
        .y_time = (ptrdiff_t)ROWS * width, .y_row = width, .state = state};
    const gated_status status = gated_run(model, &sequence);
    free(state);
    return status;
}

static int run_both(const gated_model *model)
{
    float y[STEPS][ROWS][2 * HIDDEN];
    return run(model, 2 * HIDDEN, &y[0][0][0]) || memcmp(y, work.y_both, sizeof y);
}

static int run_chain(const gated_model *model)
{
    float y[STEPS][ROWS][OUTPUTS];
    return run(model, OUTPUTS, &y[0][0][0]) || memcmp(y, work.y_chain, sizeof y);
}

/* Half of the steps one by one, half in one go, from a stream that goes on where another was. */
static int stream_chain(const gated_model *model)
{
    enum { HALF = STEPS / 2 };
    float y[STEPS][ROWS][OUTPUTS];
    unsigned char *bytes = malloc(gated_snapshot_size(model));
    gated_stream *first = NULL, *second = NULL;
    int failed = gated_stream_create(model, ROWS, &first) || gated_stream_create(model, ROWS, &second)
                 || gated_stream_warm(second);
    for (int t = 0; t < HALF && !failed; t++)
        failed = gated_stream_step(first, work.x[t], y[t][0]) != GATED_OK;
    for (int n = 0; n < ROWS && !failed; n++)
        failed = gated_stream_save(first, n, bytes) || gated_stream_restore(second, n, bytes);
    failed = failed || gated_stream_run(second, HALF, work.x[HALF], ROWS * INPUTS, INPUTS, y[HALF][0], ROWS * OUTPUTS, OUTPUTS);
    gated_stream_free(first);
    gated_stream_free(second);
    free(bytes);
    return failed || memcmp(y, work.y_chain, sizeof y);
}

static int pool_chain(const gated_model *model)
{
    float y[STEPS][ROWS][OUTPUTS];
    int64_t ids[ROWS];
    gated_pool *pool = NULL;
    int failed = gated_pool_create(model, ROWS, &pool) != GATED_OK;
    for (int n = 0; n < ROWS && !failed; n++)
        failed = gated_pool_open(pool, &ids[n]) != GATED_OK;
    for (int t = 0; t < STEPS && !failed; t++)
        failed = gated_pool_step(pool, 1, ids, work.x[t][0], y[t][0])
                 || gated_pool_step(pool, ROWS - 1, ids + 1, work.x[t][1], y[t][1]);
    gated_pool_free(pool);
    return failed || memcmp(y, work.y_chain, sizeof y);
}

static int own_model(const gated_model *unused)
{
    gated_model *model;
    (void)unused;
    if (create_chain(&model))
        return 1;
    const int failed = run_chain(model);
    gated_model_free(model);
    return failed;
}

/* Each thread begins with another kind of work. */
static void *take_part(void *number)
{
    static const struct {
        const char *name;
        int (*work)(const gated_model *model);
        gated_model **model;
    } kinds[] = {{"run, two directions", run_both, &work.both}, {"run", run_chain, &work.chain},
                 {"stream", stream_chain, &work.chain}, {"pool", pool_chain, &work.chain}, {"model", own_model, &work.chain}};
    enum { KINDS = sizeof kinds / sizeof *kinds };
    const int first = *(const int *)number;
    for (int i = first; i < first + ROUNDS * KINDS; i++)
        if (kinds[i % KINDS].work(*kinds[i % KINDS].model))
            return (void *)kinds[i % KINDS].name;
    return NULL;
}

static void *step_shared(void *stream)
{
    float y[ROWS][OUTPUTS];
    for (int t = 0; t < STEPS; t++)
        gated_stream_step(stream, work.x[t], y[0]);
    return NULL;
}

/* Whether some thread found a difference. */
static int in_threads(void *(*function)(void *), void *const *arguments)
{
    pthread_t threads[THREADS];
    int failed = 0;
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, function, arguments[i]))
            exit(2);
    for (int i = 0; i < THREADS; i++) {
        void *differed;
        pthread_join(threads[i], &differed);
        if (differed)
            printf("thread %d: %s: other bits than alone\n", i, (const char *)differed);
        failed |= differed != NULL;
    }
    return failed;
}

static int share_stream(void)
{
    gated_stream *stream;
    if (gated_stream_create(work.chain, ROWS, &stream))
        return 1;
    void *const arguments[THREADS] = {stream, stream, stream, stream};
    in_threads(step_shared, arguments);
    gated_stream_free(stream);
    return 0;
}

int main(int argc, char **argv)
{
    int order[THREADS];
    void *arguments[THREADS];
    for (int i = 0; i < NUMBERS; i++)
        numbers[i] = (float)(i * 7919 % 1009) / 1009 - 0.5f;
    memcpy(work.x, numbers + 3, sizeof work.x);
    if (create_chain(&work.chain) || create_both(&work.both) || run(work.chain, OUTPUTS, &work.y_chain[0][0][0])
        || run(work.both, 2 * HIDDEN, &work.y_both[0][0][0]))
        return 2;
    threads_of_run = argc > 1 && !strcmp(argv[1], "teams") ? 2 : 1;
    for (int i = 0; i < THREADS; i++) {
        order[i] = i;
        arguments[i] = &order[i];
    }
    const int failed = argc > 1 && !strcmp(argv[1], "shared") ? share_stream() : in_threads(take_part, arguments);
    gated_model_free(work.chain);
    gated_model_free(work.both);
    return failed;
}
