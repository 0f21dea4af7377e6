/* Steps of a warm stream under a kernel that kills the process at any system call but write and exit, and without a page
 * fault. Prints the faults. */
#define _GNU_SOURCE
#include "gated_c.h"

#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ROWS = 2, STEPS = 20000, INPUT = 5, HIDDEN = 200, OUTPUT = 3 };

static float numbers[4 * HIDDEN * HIDDEN];
static float x[ROWS * INPUT], y[ROWS * OUTPUT];

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

int main(void)
{
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        numbers[i] = (float)(i % 13) / 100 - 0.06f;
    gated_model *model = create_model();
    gated_stream *stream = NULL;
    if (!model || gated_stream_create(model, ROWS, &stream) || gated_stream_warm(stream))
        return 2;
    page_faults(); /* so that its own pages are there */

    const long before = page_faults();
    const int failed = step(stream, STEPS);
    const long faults = page_faults() - before;
    printf("%ld page faults\n", faults);
    fflush(stdout);

    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT))
        return 3;
    const int failed_here = step(stream, STEPS);
    syscall(SYS_exit, failed || failed_here || faults); /* exit() makes other calls */
}
