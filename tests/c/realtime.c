/* All that a warm stream and a warm pool do, under a kernel that kills the process at any system call but write and exit, and
 * without a page fault. Prints the faults. */
#define _GNU_SOURCE
#include "gated_c.h"

#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ROWS = 2, CAPACITY = 300, STEPS = 20000, ROUNDS = 10, INPUT = 5, HIDDEN = 200, OUTPUT = 3 };

static float numbers[4 * HIDDEN * HIDDEN];
static float x[CAPACITY * INPUT], y[CAPACITY * OUTPUT];
static int64_t ids[CAPACITY];
static unsigned char bytes[1 << 14];

static gated_model *create_model(void)
{
    const gated_weights weights = {.weight_ih = numbers, .weight_hh = numbers, .bias_ih = numbers};
    const gated_recurrent recurrent[] = {
        {.cell = GATED_LSTM, .input_size = INPUT, .hidden_size = 60, .num_directions = 1, .weights = {weights}},
        {.cell = GATED_GRU, .input_size = 60, .hidden_size = HIDDEN, .num_directions = 1, .weights = {weights}},
    };
    const gated_layer layers[] = {
        {.kind = GATED_STACK, .input_size = INPUT, .output_size = HIDDEN, .stack = recurrent, .count = 2},
        {.kind = GATED_CONV, .input_size = HIDDEN, .output_size = 8, .count = 3, .dilation = 2, .weight = numbers,
         .activation = {GATED_RELU, 0, 0}},
        {.kind = GATED_DENSE, .input_size = 8, .output_size = OUTPUT, .weight = numbers, .activation = {GATED_LINEAR, 0, 0}},
        {.kind = GATED_SOFTMAX, .input_size = OUTPUT, .output_size = OUTPUT},
    };
    gated_model *model = NULL;
    return gated_model_create(layers, 4, GATED_FLUSH_SUBNORMALS, &model) ? NULL : model;
}

static long page_faults(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt + usage.ru_majflt;
}

static int step(gated_stream *stream, int steps)
{
    for (int i = 0; i < steps; i++) {
        x[i % (ROWS * INPUT)] = (float)(i % 7) - 3;
        if (gated_stream_step(stream, x, y))
            return 1;
    }
    return 0;
}

/* All members that a pool has room for, half of them forks. */
static int live_once(gated_pool *pool, gated_stream *stream)
{
    int failed = 0;
    for (int i = 0; i < CAPACITY / 2; i++)
        failed |= gated_pool_open(pool, &ids[i]);
    failed |= gated_pool_fork(pool, CAPACITY / 2, ids, ids + CAPACITY / 2);
    failed |= gated_pool_step(pool, 7, ids, x, y);
    failed |= gated_pool_step(pool, CAPACITY, ids, x, y);
    failed |= gated_pool_save(pool, ids[1], bytes) || gated_stream_restore(stream, 1, bytes);
    failed |= gated_stream_save(stream, 0, bytes) || gated_pool_restore(pool, ids[2], bytes);
    failed |= gated_stream_run(stream, CAPACITY / ROWS, x, ROWS * INPUT, INPUT, y, ROWS * OUTPUT, OUTPUT);
    gated_stream_reset(stream, NULL);
    failed |= gated_pool_reset(pool, CAPACITY, ids);
    failed |= gated_pool_idle(pool, 0, ids) != CAPACITY;
    failed |= gated_pool_close(pool, CAPACITY, ids);
    return failed;
}

static int live(gated_pool *pool, gated_stream *stream)
{
    int failed = step(stream, STEPS);
    for (int i = 0; i < ROUNDS; i++)
        failed |= live_once(pool, stream);
    return failed;
}

int main(void)
{
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        numbers[i] = (float)(i % 13) / 100 - 0.06f;
    gated_model *model = create_model();
    gated_stream *stream = NULL;
    gated_pool *pool = NULL;
    if (!model || gated_stream_create(model, ROWS, &stream) || gated_stream_warm(stream)
        || gated_pool_create(model, CAPACITY, &pool) || gated_pool_warm(pool))
        return 2;
    for (int i = 0; i < CAPACITY; i++) /* the program's own pages, as below */
        ids[i] = 1;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = 1;
    for (int i = 0; i < CAPACITY * INPUT; i++)
        x[i] = 1;
    for (int i = 0; i < CAPACITY * OUTPUT; i++)
        y[i] = 1;
    page_faults(); /* so that its own pages are there */

    const long before = page_faults();
    const int failed = live(pool, stream);
    const long faults = page_faults() - before;
    printf("%ld page faults\n", faults);
    fflush(stdout);

    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT))
        return 3;
    const int failed_here = live(pool, stream);
    syscall(SYS_exit, failed || failed_here || faults); /* exit() makes other calls */
}
