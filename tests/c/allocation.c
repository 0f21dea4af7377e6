/* Counts allocations of the steps and runs of a stream, and of all that a pool does. Linked with --wrap, so that every call of the core comes by here. */
#include "gated_c.h"

#include <stdio.h>
#include <stdlib.h>

static long calls;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void __wrap_free(void *memory);

void *__wrap_malloc(size_t size)
{
    calls++;
    return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    calls++;
    return __real_calloc(count, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    calls++;
    return __real_aligned_alloc(alignment, size);
}

void __wrap_free(void *memory)
{
    calls++;
    __real_free(memory);
}

static float zeros[1 << 16];

/* Two members, their forks, and each once with a step that counts and one that does not. */
static void use_pool(gated_pool *pool, gated_stream *stream, const float *x, float *y)
{
    static unsigned char bytes[1 << 14];
    int64_t ids[5];
    gated_pool_open(pool, &ids[0]);
    gated_pool_open(pool, &ids[1]);
    gated_pool_fork(pool, 2, ids, ids + 2);
    for (int i = 0; i < 1000; i++)
        gated_pool_step(pool, 3, ids + i % 2, x, y);
    gated_stream_save(stream, 0, bytes);
    gated_pool_restore(pool, ids[0], bytes);
    gated_pool_save(pool, ids[1], bytes);
    gated_stream_restore(stream, 2, bytes);
    gated_pool_reset(pool, 2, ids);
    gated_pool_close(pool, 2, ids);
    gated_pool_idle(pool, 0, ids);
}

int main(void)
{
    const gated_weights weights = {.weight_ih = zeros, .weight_hh = zeros, .bias_ih = zeros, .bias_hh = zeros};
    gated_recurrent recurrent[] = {
        {.cell = GATED_LSTM, .input_size = 5, .hidden_size = 60},
        {.cell = GATED_LSTM, .input_size = 60, .hidden_size = 50, .proj_size = 20},
        {.cell = GATED_GRU, .input_size = 20, .hidden_size = 64},
        {.cell = GATED_GRU_RESET_BEFORE, .input_size = 64, .hidden_size = 64},
    };
    for (int i = 0; i < 4; i++) {
        recurrent[i].num_directions = 1;
        recurrent[i].weights[0] = weights;
    }
    recurrent[1].weights[0].weight_hr = zeros;
    const gated_layer layers[] = {
        {.kind = GATED_CONV, .input_size = 5, .output_size = 5, .count = 3, .dilation = 2, .weight = zeros,
         .activation = {GATED_TANH, 0, 0}},
        {.kind = GATED_MASKING, .input_size = 5, .output_size = 5, .value = 1},
        {.kind = GATED_STACK, .input_size = 5, .output_size = 64, .stack = recurrent, .count = 4},
        {.kind = GATED_POOL_MEAN, .input_size = 64, .output_size = 64},
        {.kind = GATED_DENSE, .input_size = 64, .output_size = 64, .weight = zeros, .activation = {GATED_LINEAR, 0, 0}},
        {.kind = GATED_SOFTMAX, .input_size = 64, .output_size = 64},
    };
    gated_model *model;
    gated_stream *stream;
    gated_pool *pool;
    if (gated_model_create(layers, 6, 0, &model) || gated_stream_create(model, 3, &stream)
        || gated_pool_create(model, 5, &pool))
        return 1;
    static float x[100 * 3 * 5], y[100 * 3 * 64];
    const long created = calls;
    for (int i = 0; i < 1000; i++)
        gated_stream_step(stream, x, y);
    gated_stream_run(stream, 100, x, 15, 5, y, 192, 64);
    x[7] = 1;
    gated_stream_step(stream, x, y);
    gated_stream_state(stream);
    gated_stream_reset(stream, NULL);
    use_pool(pool, stream, x, y);
    const long after = calls;
    gated_pool_free(pool);
    gated_stream_free(stream);
    gated_model_free(model);
    printf("%ld before, %ld during\n", created, after - created);
    return created == 0 || after != created;
}
