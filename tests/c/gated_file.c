/* Opens a .gated file, runs it over float32 or int32 x [T, N, C] from stdin and writes y and then the state, for
 * tests/test_gated_file.py: whole sequences from a zero state, or a stream step by step. Or prints what the model
 * takes and gives. */
#include "gated_c.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static float *room(size_t floats)
{
    return calloc(floats + 1, sizeof(float));
}

static gated_status run(const gated_model *model, const gated_model_info *info, int64_t steps, int64_t batch)
{
    const int64_t y_steps = info->output_steps ? info->output_steps : steps;
    const size_t in = (size_t)steps * batch * info->input_size, out = (size_t)y_steps * batch * info->output_size;
    const size_t state_size = gated_state_size(model, batch);
    float *x = room(in), *y = room(out), *state = room(state_size);
    if (fread(x, sizeof *x, in, stdin) != in)
        exit(2);
    gated_state_init(model, batch, state);
    const gated_sequence sequence = {.seq_len = steps, .batch = batch, .state = state,
                                     .x = x, .x_time = batch * info->input_size, .x_row = info->input_size,
                                     .y = y, .y_time = batch * info->output_size, .y_row = info->output_size};
    const gated_status status = gated_run(model, &sequence);
    if (status == GATED_OK) {
        fwrite(y, sizeof *y, out, stdout);
        fwrite(state, sizeof *state, state_size, stdout);
    }
    free(x), free(y), free(state);
    return status;
}

static gated_status stream(const gated_model *model, const gated_model_info *info, int64_t steps, int64_t batch)
{
    const size_t in = (size_t)batch * info->input_size, out = (size_t)batch * info->output_size;
    gated_stream *stream;
    gated_status status = gated_stream_create(model, batch, &stream);
    if (status != GATED_OK)
        return status;
    float *x = room(in), *y = room(out);
    for (int64_t t = 0; t < steps && status == GATED_OK; t++) {
        if (fread(x, sizeof *x, in, stdin) != in)
            exit(2);
        status = gated_stream_step(stream, x, y);
        fwrite(y, sizeof *y, out, stdout);
    }
    fwrite(gated_stream_state(stream), sizeof(float), gated_state_size(model, batch), stdout);
    free(x), free(y);
    gated_stream_free(stream);
    return status;
}

int main(int argc, char **argv)
{
    gated_model *model;
    gated_model_info info;
    if (argc < 3)
        return 2;
    gated_status status = gated_model_open(argv[2], &model);
    if (status != GATED_OK) {
        fprintf(stderr, "%s: %s", gated_status_string(status), status == GATED_NO_FILE ? strerror(errno) : "");
        return 1;
    }
    gated_model_describe(model, &info);
    if (!strcmp(argv[1], "describe"))
        printf("%d %d %d %d %d %d %d", info.input_size, info.output_size, info.takes_ids, info.gives_vector,
               info.streamable, (int)info.input_steps, (int)info.output_steps);
    else if (!strcmp(argv[1], "run"))
        status = run(model, &info, atol(argv[3]), atol(argv[4]));
    else
        status = stream(model, &info, atol(argv[3]), atol(argv[4]));
    gated_model_free(model);
    return status != GATED_OK;
}
