/* Members of a pool open, tick in random subsets, fork, reset, move and close, each beside a stream of its own: every
 * output must have its bits. Arguments: members, ticks, seed. Prints what it did, or what differed. */
#include "gated_c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INPUTS = 6, WIDEST = 32, IDS = 40, STALE = 64 };

typedef struct {
    int64_t id;
    gated_stream *alone;
} member;

typedef struct {
    const char *name;
    gated_model *model;
    gated_pool *pool;
    int takes_ids, inputs, outputs;
    int64_t capacity, count;
    member *members;         /* [capacity], the open ones first */
    int64_t stale[STALE];    /* closed ids */
    int64_t closed, opened, forked, rows;
    int64_t *ids;            /* [capacity] of a tick */
    float *x, *y;            /* [capacity][inputs], [capacity][outputs] */
    unsigned char *bytes[2]; /* snapshots */
} soak;

static uint64_t seed;

static uint32_t random_bits(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33);
}

static int64_t below(int64_t n)
{
    return n > 0 ? random_bits() % n : 0;
}

static float *weights[64]; /* of the model that is being made */
static int num_weights;

static float *randoms(size_t count, float bound)
{
    float *values = weights[num_weights++] = malloc(count * sizeof *values);
    for (size_t i = 0; i < count; i++)
        values[i] = bound * ((float)random_bits() * 0x1p-30f - 1);
    return values;
}

static void free_weights(void)
{
    while (num_weights)
        free(weights[--num_weights]);
}

static void fail(const soak *s, const char *what, long tick)
{
    printf("%s: %s at tick %ld\n", s->name, what, tick);
    exit(1);
}

static gated_recurrent recurrent(gated_cell cell, int input, int hidden, int projection)
{
    const int gates = gated_cell_gates(cell), h = projection ? projection : hidden;
    return (gated_recurrent){
        .cell = cell, .input_size = input, .hidden_size = hidden, .proj_size = projection, .num_directions = 1,
        .weights[0] = {.weight_ih = randoms((size_t)gates * hidden * input, 0.6f),
                       .weight_hh = randoms((size_t)gates * hidden * h, 0.4f),
                       .bias_ih = randoms((size_t)gates * hidden, 0.5f),
                       .weight_hr = projection ? randoms((size_t)projection * hidden, 0.5f) : NULL}};
}

/* A chain with everything that a row can keep: convolution, masked steps, projections, a GRU of each kind. */
static gated_status create_chain(gated_model **model)
{
    const gated_recurrent stack[] = {recurrent(GATED_LSTM, 6, 9, 5), recurrent(GATED_GRU, 5, 20, 0),
                                     recurrent(GATED_GRU_RESET_BEFORE, 20, 17, 0)};
    const gated_layer layers[] = {
        {.kind = GATED_MASKING, .input_size = INPUTS, .output_size = INPUTS, .value = 0},
        {.kind = GATED_CONV, .input_size = INPUTS, .output_size = 6, .count = 3, .dilation = 2,
         .weight = randoms(6 * 3 * INPUTS, 1), .activation = {GATED_TANH, 0, 0}},
        {.kind = GATED_STACK, .input_size = 6, .output_size = 17, .stack = stack, .count = 3,
         .masked = GATED_REPEAT_OUTPUT},
        {.kind = GATED_LAYER_NORM, .input_size = 17, .output_size = 17, .value = 1e-3f},
        {.kind = GATED_DENSE, .input_size = 17, .output_size = 8, .weight = randoms(17 * 8, 1),
         .activation = {GATED_LINEAR, 0, 0}},
    };
    return gated_model_create(layers, 5, 0, model);
}

static gated_status create_embedding(gated_model **model)
{
    const gated_recurrent stack[] = {recurrent(GATED_LSTM, 7, 11, 0)};
    const gated_layer layers[] = {
        {.kind = GATED_EMBEDDING, .input_size = 1, .output_size = 7, .count = IDS, .weight = randoms(IDS * 7, 1), .flag = 1},
        {.kind = GATED_STACK, .input_size = 7, .output_size = 11, .stack = stack, .count = 1},
        {.kind = GATED_POOL_MEAN, .input_size = 11, .output_size = 11},
        {.kind = GATED_SOFTMAX, .input_size = 11, .output_size = 11},
    };
    return gated_model_create(layers, 4, 0, model);
}

static gated_status create_gru(gated_model **model)
{
    const gated_recurrent stack[] = {recurrent(GATED_GRU, INPUTS, WIDEST, 0)};
    const gated_layer layers[] = {
        {.kind = GATED_STACK, .input_size = INPUTS, .output_size = WIDEST, .stack = stack, .count = 1}};
    return gated_model_create(layers, 1, 0, model);
}

/* The row of a pool and the stream alone are the same bytes. */
static void expect_same_bytes(const soak *s, const member *m, long tick)
{
    if (gated_pool_save(s->pool, m->id, s->bytes[0]) || gated_stream_save(m->alone, 0, s->bytes[1]))
        fail(s, "no snapshot", tick);
    if (memcmp(s->bytes[0], s->bytes[1], gated_snapshot_size(s->model)))
        fail(s, "snapshots differ", tick);
}

static void open_one(soak *s, long tick)
{
    member *m = &s->members[s->count];
    if (gated_pool_open(s->pool, &m->id))
        fail(s, "cannot open", tick);
    gated_stream_reset(m->alone, NULL);
    s->count++;
    s->opened++;
}

static void fork_one(soak *s, long tick)
{
    member *from = &s->members[below(s->count)], *to = &s->members[s->count];
    if (gated_pool_fork(s->pool, 1, &from->id, &to->id) || gated_stream_save(from->alone, 0, s->bytes[0])
        || gated_stream_restore(to->alone, 0, s->bytes[0]))
        fail(s, "cannot fork", tick);
    s->count++;
    s->forked++;
}

static void close_one(soak *s, long tick)
{
    member *m = &s->members[below(s->count)], last = s->members[s->count - 1];
    if (gated_pool_close(s->pool, 1, &m->id))
        fail(s, "cannot close", tick);
    s->stale[s->closed++ % STALE] = m->id;
    s->members[--s->count] = *m;
    *m = last;
}

/* One goes on from where another is, through its stream. */
static void move_one(soak *s, long tick)
{
    member *from = &s->members[below(s->count)], *to = &s->members[below(s->count)];
    expect_same_bytes(s, from, tick);
    if (gated_pool_restore(s->pool, to->id, s->bytes[1]) || gated_stream_restore(to->alone, 0, s->bytes[0]))
        fail(s, "cannot restore", tick);
}

static void reset_one(soak *s, long tick)
{
    member *m = &s->members[below(s->count)];
    if (gated_pool_reset(s->pool, 1, &m->id))
        fail(s, "cannot reset", tick);
    gated_stream_reset(m->alone, NULL);
}

/* Calls that must be refused, and change nothing: what follows shows. */
static void misuse(soak *s, int64_t count, long tick)
{
    int64_t *last = &s->ids[count - 1], kept = *last, id;
    if (s->closed) {
        *last = s->stale[below(s->closed < STALE ? s->closed : STALE)];
        if (gated_pool_step(s->pool, count, s->ids, s->x, s->y) != GATED_UNKNOWN_ID
            || gated_pool_close(s->pool, count, s->ids) != GATED_UNKNOWN_ID
            || gated_pool_restore(s->pool, *last, s->bytes[0]) != GATED_UNKNOWN_ID)
            fail(s, "a closed id is known", tick);
    }
    if (count > 1) {
        *last = s->ids[0];
        if (gated_pool_step(s->pool, count, s->ids, s->x, s->y) != GATED_REPEATED_ID
            || gated_pool_reset(s->pool, count, s->ids) != GATED_REPEATED_ID)
            fail(s, "an id occurs twice", tick);
    }
    *last = kept;
    if (s->count == s->capacity && gated_pool_open(s->pool, &id) != GATED_POOL_FULL)
        fail(s, "more members than there are", tick);
    if (s->takes_ids) {
        const int32_t wrong = IDS;
        memcpy(&s->x[count - 1], &wrong, sizeof wrong);
        if (gated_pool_step(s->pool, count, s->ids, s->x, s->y) != GATED_BAD_INDEX)
            fail(s, "an id beyond the embedding", tick);
        memset(&s->x[count - 1], 0, sizeof wrong);
    }
}

static void change_members(soak *s, long tick)
{
    const int64_t room = s->capacity - s->count;
    const uint32_t what = random_bits() % 32;
    if (s->count == 0 || (what < 8 && room > 0))
        open_one(s, tick);
    else if (what < 12 && room > 0)
        fork_one(s, tick);
    else if (what < 20 && s->count > s->capacity - s->capacity / 8)
        close_one(s, tick);
    else if (what == 20)
        move_one(s, tick);
    else if (what == 21)
        reset_one(s, tick);
}

static void fill_inputs(soak *s, int64_t count)
{
    for (int64_t i = 0; i < count * s->inputs; i++) {
        const int32_t id = (int32_t)below(IDS);
        s->x[i] = (float)random_bits() * 0x1p-30f - 1;
        if (s->takes_ids)
            memcpy(&s->x[i], &id, sizeof id);
    }
    for (int64_t k = 0; k < count; k++)
        if (below(8) == 0) /* a step that does not count, where the model has such */
            memset(s->x + k * s->inputs, 0, s->inputs * sizeof *s->x);
}

static int64_t choose(soak *s, long tick)
{
    const int64_t most = tick % 20000 == 19999 ? s->count : tick % 100 == 99 ? 200 : 12;
    const int64_t wanted = 1 + below(most), count = wanted < s->count ? wanted : s->count;
    for (int64_t k = 0; k < count; k++) {
        const int64_t other = k + below(s->count - k);
        const member chosen = s->members[other];
        s->members[other] = s->members[k];
        s->members[k] = chosen;
        s->ids[k] = chosen.id;
    }
    return count;
}

static void tick_all(soak *s, long tick)
{
    const int64_t count = choose(s, tick);
    fill_inputs(s, count);
    if (tick % 16 == 0)
        misuse(s, count, tick);
    if (gated_pool_step(s->pool, count, s->ids, s->x, s->y))
        fail(s, "no step", tick);
    for (int64_t k = 0; k < count; k++) {
        float y[WIDEST];
        gated_stream_step(s->members[k].alone, s->x + k * s->inputs, y);
        if (memcmp(y, s->y + k * s->outputs, s->outputs * sizeof *y))
            fail(s, "other bits than alone", tick);
    }
    s->rows += count;
}

static void run(soak *s, long ticks)
{
    s->members = calloc(s->capacity, sizeof *s->members);
    s->ids = malloc(s->capacity * sizeof *s->ids);
    s->x = malloc(s->capacity * s->inputs * sizeof *s->x);
    s->y = malloc(s->capacity * s->outputs * sizeof *s->y);
    for (int i = 0; i < 2; i++)
        s->bytes[i] = malloc(gated_snapshot_size(s->model));
    if (gated_pool_create(s->model, s->capacity, &s->pool))
        fail(s, "no pool", 0);
    for (int64_t i = 0; i < s->capacity; i++)
        if (gated_stream_create(s->model, 1, &s->members[i].alone))
            fail(s, "no stream", 0);
    while (s->count < s->capacity - s->capacity / 16)
        open_one(s, 0);
    for (long tick = 0; tick < ticks; tick++) {
        change_members(s, tick);
        tick_all(s, tick);
        if (gated_pool_count(s->pool) != s->count)
            fail(s, "another count", tick);
    }
    for (int64_t i = 0; i < s->count; i++)
        expect_same_bytes(s, &s->members[i], ticks);
    if (gated_pool_idle(s->pool, 0, s->ids) != s->count)
        fail(s, "not all are idle for 0 s", ticks);
    printf("%s: %ld ticks, %lld steps, opened %lld, forked %lld, closed %lld\n", s->name, ticks, (long long)s->rows,
           (long long)s->opened, (long long)s->forked, (long long)s->closed);
    for (int64_t i = 0; i < s->capacity; i++)
        gated_stream_free(s->members[i].alone);
    gated_pool_free(s->pool);
    gated_model_free(s->model);
    free(s->members), free(s->ids), free(s->x), free(s->y), free(s->bytes[0]), free(s->bytes[1]);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    seed = strtoull(argv[3], NULL, 10);
    soak soaks[] = {{.name = "chain", .inputs = INPUTS, .outputs = 8},
                    {.name = "embedding", .takes_ids = 1, .inputs = 1, .outputs = 11},
                    {.name = "gru", .inputs = INPUTS, .outputs = WIDEST}};
    gated_status (*const create[])(gated_model **) = {create_chain, create_embedding, create_gru};
    for (int i = 0; i < 3; i++) {
        soaks[i].capacity = strtoll(argv[1], NULL, 10);
        if (create[i](&soaks[i].model))
            fail(&soaks[i], "no model", 0);
        free_weights();
        run(&soaks[i], strtol(argv[2], NULL, 10));
        fflush(stdout);
    }
    return 0;
}
