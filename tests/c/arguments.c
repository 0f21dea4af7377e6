/* What callers in C get wrong, and what only they can do. Prints what is not as gated_c.h says. */
#include "gated_c.h"

#include <stdio.h>
#include <string.h>

enum { ROWS = 3, SIZE = 4, STEPS = 5 };

static float numbers[64];
static int wrong;

#define EXPECT(status, call)                                                                                              \
    do {                                                                                                                  \
        const int got = (int)(call);                                                                                      \
        if (got != (status)) {                                                                                            \
            fprintf(stderr, "line %d: expected %d, got %d\n", __LINE__, (int)(status), got);                              \
            wrong = 1;                                                                                                    \
        }                                                                                                                 \
    } while (0)

/* A step that writes where it reads is one that does not, also of layers that compute nothing. */
static void overlap(const gated_layer *layer, ptrdiff_t ahead)
{
    gated_model *model = NULL;
    gated_stream *apart = NULL, *over = NULL;
    EXPECT(GATED_OK, gated_model_create(layer, 1, 0, &model));
    EXPECT(GATED_OK, gated_stream_create(model, ROWS, &apart));
    EXPECT(GATED_OK, gated_stream_create(model, ROWS, &over));
    for (int t = 0; t < STEPS; t++) {
        float y[ROWS * SIZE], both[ROWS * SIZE + SIZE];
        memcpy(both, numbers + t, sizeof both);
        EXPECT(GATED_OK, gated_stream_step(apart, numbers + t, y));
        EXPECT(GATED_OK, gated_stream_step(over, both, both + ahead));
        EXPECT(0, memcmp(both + ahead, y, (size_t)ROWS * layer->output_size * sizeof *y));
    }
    gated_stream_free(apart);
    gated_stream_free(over);
    gated_model_free(model);
}

static void overlaps(void)
{
    const gated_layer layers[] = {
        {.kind = GATED_DENSE, .output_size = SIZE, .weight = numbers, .activation = {GATED_LINEAR, 0, 0}},
        {.kind = GATED_CONV, .output_size = SIZE, .weight = numbers, .count = 3, .dilation = 1},
        {.kind = GATED_LAYER_NORM, .output_size = SIZE, .value = 1},
        {.kind = GATED_LOG_SOFTMAX, .output_size = SIZE},
        {.kind = GATED_MERGE_MUL, .output_size = SIZE / 2},
        {.kind = GATED_UNMASK, .output_size = SIZE},
    };
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        gated_layer layer = layers[i];
        layer.input_size = SIZE;
        overlap(&layer, 0);
        overlap(&layer, 1);
    }
}

static gated_model *create(int is_repeated)
{
    const gated_weights weights = {.weight_ih = numbers, .weight_hh = numbers};
    const gated_recurrent recurrent = {
        .cell = GATED_RNN_TANH, .input_size = SIZE, .hidden_size = SIZE, .num_directions = 1, .weights = {weights}};
    const gated_layer layers[] = {
        {.kind = GATED_EMBEDDING, .input_size = 1, .output_size = SIZE, .count = 3, .weight = numbers, .flag = 1},
        {.kind = GATED_ELEMENTWISE, .input_size = SIZE, .output_size = SIZE, .activation = {GATED_TANH, 0, 0}},
        is_repeated ? (gated_layer){.kind = GATED_REPEAT, .input_size = SIZE, .output_size = SIZE, .count = 2}
                    : (gated_layer){.kind = GATED_STACK, .input_size = SIZE, .output_size = SIZE, .stack = &recurrent, .count = 1},
    };
    gated_model *model = NULL;
    EXPECT(GATED_OK, gated_model_create(layers, 3, 0, &model));
    return model;
}

/* Sizes below zero, and packed rows for a model that takes none: x_time, which they ignore, is not looked at. */
static void sizes(void)
{
    gated_model *model = create(0);
    gated_stream *stream = NULL;
    gated_pool *pool = NULL;
    const int32_t x[2] = {1, 2};
    const int64_t batch_sizes[] = {1, 1};
    float y[2 * SIZE] = {0}, state[SIZE] = {0};
    int64_t id = 0;
    const gated_sequence packed = {.seq_len = 2, .batch = 1, .x = x, .x_time = 1 << 28, .x_row = 1, .y = y, .y_row = SIZE,
                                   .state = state, .batch_sizes = batch_sizes};
    EXPECT(GATED_BAD_SIZE, gated_run(model, &packed));
    EXPECT(GATED_BAD_SIZE, gated_pool_create(model, INT64_MAX, &pool));
    EXPECT(GATED_BAD_SIZE, gated_stream_create(model, INT64_MAX, &stream));
    EXPECT(GATED_OK, gated_stream_create(model, 1, &stream));
    EXPECT(GATED_BAD_SIZE, gated_stream_run(stream, -1, x, 1, 1, y, SIZE, SIZE));
    EXPECT(GATED_OK, gated_pool_create(model, 1, &pool));
    EXPECT(GATED_OK, gated_pool_open(pool, &id));
    EXPECT(GATED_BAD_SIZE, gated_pool_step(pool, -1, &id, x, y));
    EXPECT(GATED_BAD_SIZE, gated_pool_fork(pool, -1, &id, &id));
    EXPECT(GATED_BAD_SIZE, gated_pool_reset(pool, -1, &id));
    EXPECT(GATED_BAD_SIZE, gated_pool_close(pool, INT64_MIN, &id));
    EXPECT(GATED_OK, gated_pool_step(pool, 0, NULL, NULL, NULL));
    EXPECT(1, gated_pool_count(pool));
    gated_pool_free(pool);
    gated_stream_free(stream);
    gated_model_free(model);
}

/* Id 0 does not count, but its repetitions do: they are numbers of the embedding, not what was in memory. */
static void repeated(void)
{
    gated_model *model = create(1);
    for (int turn = 0; turn < 2; turn++) {
        const int32_t x[ROWS] = {turn ? 1 : 2, 0, 2};
        float y[2 * ROWS * SIZE];
        const gated_sequence sequence = {.seq_len = 1, .batch = ROWS, .x = x, .x_row = 1, .y = y, .y_time = ROWS * SIZE,
                                         .y_row = SIZE, .state = numbers};
        EXPECT(GATED_OK, gated_run(model, &sequence));
        float expected[SIZE];
        const gated_activation tanh_of = {GATED_TANH, 0, 0};
        const gated_isa_info *isa = NULL;
        EXPECT(GATED_OK, gated_isa_chosen(&isa));
        EXPECT(GATED_OK, gated_activate(isa->name, &tanh_of, numbers, expected, SIZE));
        for (int t = 0; t < 2; t++)
            EXPECT(0, memcmp(y + (t * ROWS + 1) * SIZE, expected, sizeof expected));
    }
    gated_model_free(model);
}

int main(void)
{
    for (int i = 0; i < (int)(sizeof numbers / sizeof *numbers); i++)
        numbers[i] = (float)(i * 7 % 13) / 8 - 0.6f;
    overlaps();
    sizes();
    repeated();
    return wrong;
}
