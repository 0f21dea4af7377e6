/* Pools: which row of a chain is whose. An id is a row and its generation, which changes with every owner:
 * (generation << 32) | row. Generations are 1..INT32_MAX, and rows are taken in turns, so that an id comes back after two
 * billion owners of its row. */
#define _POSIX_C_SOURCE 200809L
#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROW_BITS = 32, CLOSED = -1 };

static const int64_t NS = 1000000000;

typedef struct {
    int64_t id;              /* or CLOSED */
    int64_t next_id;         /* when it is opened */
    uint64_t call;           /* the last that named it */
    int64_t ticked;          /* ns, when it last did, or was opened */
} member;

struct gated_pool {
    const gated_model *model;
    int64_t capacity, count;
    member *members;         /* [capacity] */
    int32_t *closed;         /* [capacity] a ring of rows, the one closed first at `first_closed` */
    int64_t first_closed;
    int32_t *rows;           /* [capacity] of the ids of a call */
    uint64_t calls;
    float *state;
    unsigned char *masks;    /* [capacity] */
    gated_chain chain;
};

/* Linux has a clock that is read without a system call on every machine, to the last tick of the timer. */
static int64_t now(void)
{
#if defined(__linux__)
    const clockid_t clock = CLOCK_MONOTONIC_COARSE;
#else
    const clockid_t clock = CLOCK_MONOTONIC;
#endif
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * NS + time.tv_nsec;
}

/* Somewhere else in every pool, so that the ids of one are unknown to another. */
static int64_t first_generation(const gated_pool *pool)
{
    const uint64_t mixed = ((uint64_t)(uintptr_t)pool ^ (uint64_t)now()) * 0x9e3779b97f4a7c15;
    return (int64_t)(mixed >> ROW_BITS) % INT32_MAX + 1;
}

static gated_status create(const gated_model *model, int64_t capacity, gated_pool *pool)
{
    const size_t floats = gated_state_size(model, capacity);
    pool->model = model;
    pool->capacity = capacity;
    pool->members = calloc(capacity, sizeof *pool->members);
    pool->closed = malloc(capacity * sizeof *pool->closed);
    pool->rows = malloc(capacity * sizeof *pool->rows);
    pool->masks = malloc(capacity);
    pool->state = gated_allocate(floats + 1);
    if (!pool->members || !pool->closed || !pool->rows || !pool->masks || !pool->state)
        return GATED_NO_MEMORY;
    memset(pool->state, 0, floats * sizeof(float));
    const int64_t generation = first_generation(pool);
    for (int64_t row = 0; row < capacity; row++) {
        pool->members[row].id = CLOSED;
        pool->members[row].next_id = generation << ROW_BITS | row;
        pool->closed[row] = (int32_t)row;
    }
    return gated_chain_create(model, 0, model->num_layers, capacity, 1, GATED_MEMBERS, pool->state, NULL, &pool->chain);
}

gated_status gated_pool_create(const gated_model *model, int64_t capacity, gated_pool **created)
{
    if (capacity < 1 || capacity > INT32_MAX)
        return GATED_BAD_SIZE;
    if (!model->streamable)
        return GATED_NOT_STREAMABLE;
    if (gated_check_scratch(model, capacity, 1) != GATED_OK)
        return GATED_NO_MEMORY;
    gated_pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return GATED_NO_MEMORY;
    gated_status status = create(model, capacity, pool);
    if (status != GATED_OK) {
        gated_pool_free(pool);
        return status;
    }
    *created = pool;
    return GATED_OK;
}

void gated_pool_free(gated_pool *pool)
{
    if (!pool)
        return;
    gated_chain_free(&pool->chain);
    free(pool->members);
    free(pool->closed);
    free(pool->rows);
    free(pool->masks);
    free(pool->state);
    free(pool);
}

gated_status gated_pool_warm(gated_pool *pool)
{
    for (int64_t row = 0; row < pool->capacity; row++)
        pool->rows[row] = (int32_t)row;
    const uint64_t mode = gated_enter(pool->model);
    gated_status status = gated_chain_warm(&pool->chain, pool->rows, pool->masks);
    gated_leave(pool->model, mode);
    return status;
}

int64_t gated_pool_count(const gated_pool *pool)
{
    return pool->count;
}

/* The row of an open member, or CLOSED. */
static int64_t find(const gated_pool *pool, int64_t id)
{
    const int64_t row = (uint32_t)id;
    return row < pool->capacity && pool->members[row].id == id ? row : CLOSED;
}

int gated_pool_has(const gated_pool *pool, int64_t id)
{
    return find(pool, id) != CLOSED;
}

/* Fills pool->rows. More ids than there are members cannot all be different. */
static gated_status find_all(gated_pool *pool, int64_t count, const int64_t *ids)
{
    if (count < 0)
        return GATED_BAD_SIZE;
    pool->calls++;
    for (int64_t i = 0; i < count; i++) {
        const int64_t row = find(pool, ids[i]);
        if (row == CLOSED)
            return GATED_UNKNOWN_ID;
        if (pool->members[row].call == pool->calls)
            return GATED_REPEATED_ID;
        pool->members[row].call = pool->calls;
        pool->rows[i] = (int32_t)row;
    }
    return GATED_OK;
}

/* The row that was closed first, now open. */
static int64_t take_row(gated_pool *pool)
{
    const int64_t row = pool->closed[pool->first_closed];
    pool->first_closed = (pool->first_closed + 1) % pool->capacity;
    pool->count++;
    pool->members[row].id = pool->members[row].next_id;
    pool->members[row].ticked = now();
    return row;
}

static void give_row_back(gated_pool *pool, int64_t row)
{
    member *m = &pool->members[row];
    const int64_t generation = (m->id >> ROW_BITS) % INT32_MAX + 1;
    m->id = CLOSED;
    m->next_id = generation << ROW_BITS | row;
    pool->closed[(pool->first_closed + pool->capacity - pool->count) % pool->capacity] = (int32_t)row;
    pool->count--;
}

gated_status gated_pool_open(gated_pool *pool, int64_t *id)
{
    if (pool->count == pool->capacity)
        return GATED_POOL_FULL;
    const int64_t row = take_row(pool);
    gated_row_reset(&pool->chain, row);
    *id = pool->members[row].id;
    return GATED_OK;
}

gated_status gated_pool_fork(gated_pool *pool, int64_t count, const int64_t *ids, int64_t *forks)
{
    if (count < 0)
        return GATED_BAD_SIZE;
    for (int64_t i = 0; i < count; i++)
        if (!gated_pool_has(pool, ids[i]))
            return GATED_UNKNOWN_ID;
    if (count > pool->capacity - pool->count)
        return GATED_POOL_FULL;
    for (int64_t i = 0; i < count; i++) {
        const int64_t row = take_row(pool);
        gated_row_copy(&pool->chain, find(pool, ids[i]), row);
        forks[i] = pool->members[row].id;
    }
    return GATED_OK;
}

gated_status gated_pool_close(gated_pool *pool, int64_t count, const int64_t *ids)
{
    gated_status status = find_all(pool, count, ids);
    for (int64_t i = 0; i < count && status == GATED_OK; i++)
        give_row_back(pool, pool->rows[i]);
    return status;
}

gated_status gated_pool_reset(gated_pool *pool, int64_t count, const int64_t *ids)
{
    gated_status status = find_all(pool, count, ids);
    for (int64_t i = 0; i < count && status == GATED_OK; i++)
        gated_row_reset(&pool->chain, pool->rows[i]);
    return status;
}

gated_status gated_pool_step(gated_pool *pool, int64_t count, const int64_t *ids, const void *x, float *y)
{
    const gated_layer *first = &pool->model->layers[0].is;
    gated_status status = find_all(pool, count, ids);
    if (status != GATED_OK || count == 0)
        return status;
    if (first->kind == GATED_EMBEDDING && !gated_ids_in_range(first, x, 1, 1, count, 1))
        return GATED_BAD_INDEX;
    const int64_t time = now();
    for (int64_t i = 0; i < count; i++)
        pool->members[pool->rows[i]].ticked = time;
    const uint64_t mode = gated_enter(pool->model);
    status = gated_chain_step(&pool->chain, pool->rows, count, x, y, pool->masks);
    gated_leave(pool->model, mode);
    return status;
}

int64_t gated_pool_idle(const gated_pool *pool, double seconds, int64_t *ids)
{
    const int64_t time = now();
    int64_t count = 0;
    for (int64_t row = 0; row < pool->capacity; row++)
        if (pool->members[row].id != CLOSED && (double)(time - pool->members[row].ticked) >= seconds * (double)NS)
            ids[count++] = pool->members[row].id;
    return count;
}

gated_status gated_pool_save(gated_pool *pool, int64_t id, void *bytes)
{
    const int64_t row = find(pool, id);
    if (row == CLOSED)
        return GATED_UNKNOWN_ID;
    gated_row_save(&pool->chain, row, bytes);
    return GATED_OK;
}

gated_status gated_pool_restore(gated_pool *pool, int64_t id, const void *bytes)
{
    const int64_t row = find(pool, id);
    return row == CLOSED ? GATED_UNKNOWN_ID : gated_row_restore(&pool->chain, row, bytes);
}
