/* Which rows are live at which step. Rows are sorted by their number of live steps, so that the live rows of any step
 * are a prefix and a ragged batch costs what its live steps cost. */
#include "internal.h"

#include <stdlib.h>

typedef struct {
    int64_t steps, row;
} row_steps;

static int longest_first(const void *a, const void *b)
{
    const row_steps *p = a, *q = b;
    if (p->steps != q->steps)
        return p->steps < q->steps ? 1 : -1;
    return p->row < q->row ? -1 : p->row > q->row;
}

static int64_t masked_steps(const gated_sequence *s, int64_t row, int *has_holes)
{
    int64_t count = 0;
    for (int64_t t = 0; t < s->seq_len; t++) {
        const int counts = s->mask[t * s->mask_time + row * s->mask_row] != 0;
        *has_holes |= counts && count < t;
        count += counts;
    }
    return count;
}

static gated_status sort_rows(const gated_sequence *s, gated_schedule *schedule, int *has_holes)
{
    const int64_t n = s->batch;
    row_steps *rows = malloc((n + 1) * sizeof *rows);
    schedule->order = malloc((n + 1) * sizeof *schedule->order);
    schedule->steps = malloc((n + 1) * sizeof *schedule->steps);
    if (!rows || !schedule->order || !schedule->steps) {
        free(rows);
        return GATED_NO_MEMORY;
    }
    for (int64_t i = 0; i < n; i++)
        rows[i] = (row_steps){s->lengths ? s->lengths[i] : masked_steps(s, i, has_holes), i};
    qsort(rows, n, sizeof *rows, longest_first);
    for (int64_t r = 0; r < n; r++) {
        schedule->order[r] = rows[r].row;
        schedule->steps[r] = rows[r].steps;
    }
    free(rows);
    return GATED_OK;
}

static gated_status list_times(const gated_sequence *s, gated_schedule *schedule)
{
    schedule->times = malloc((s->batch * s->seq_len + 1) * sizeof *schedule->times);
    if (!schedule->times)
        return GATED_NO_MEMORY;
    for (int64_t r = 0; r < s->batch; r++) {
        int32_t *times = schedule->times + r * s->seq_len;
        for (int64_t t = 0; t < s->seq_len; t++)
            if (s->mask[t * s->mask_time + schedule->order[r] * s->mask_row])
                *times++ = (int32_t)t;
    }
    return GATED_OK;
}

/* Packed rows are sorted already: row r lives for as many steps as have more than r rows. */
static gated_status schedule_packed(const gated_sequence *s, gated_schedule *schedule)
{
    schedule->steps = malloc((s->batch + 1) * sizeof *schedule->steps);
    schedule->packed_start = malloc((s->seq_len + 1) * sizeof *schedule->packed_start);
    if (!schedule->steps || !schedule->packed_start)
        return GATED_NO_MEMORY;
    int64_t start = 0, live = s->batch;
    for (int64_t t = 0; t < s->seq_len; t++) {
        while (live > s->batch_sizes[t])
            schedule->steps[--live] = t;
        schedule->packed_start[t] = start;
        start += s->batch_sizes[t];
    }
    while (live > 0)
        schedule->steps[--live] = s->seq_len;
    return GATED_OK;
}

/* Live steps of sorted row r before time t, at least `known` of them. */
static int64_t steps_before(const gated_schedule *schedule, int64_t r, int64_t t, int64_t known)
{
    const int64_t steps = schedule->steps ? schedule->steps[r] : schedule->seq_len;
    if (!schedule->times)
        return t < steps ? t : steps;
    while (known < steps && schedule->times[r * schedule->seq_len + known] < t)
        known++;
    return known;
}

/* A counting sort in two passes: without rows it counts. */
static void add_reset(gated_resets *resets, int64_t k, int64_t row)
{
    if (resets->rows)
        resets->rows[resets->start[k + 1]++] = row;
    else
        resets->start[k + 2]++;
}

/* A reset at step 0 is none of a reverse direction: there is no step before, to which it would come. */
static void add_resets(const gated_sequence *s, gated_schedule *schedule)
{
    for (int64_t r = 0; r < s->batch; r++) {
        const unsigned char *reset = s->reset + (schedule->order ? schedule->order[r] : r) * s->reset_row;
        const int64_t steps = schedule->steps ? schedule->steps[r] : s->seq_len;
        int64_t before = 0;
        for (int64_t t = 0; t < s->seq_len; t++) {
            if (!reset[t * s->reset_time])
                continue;
            before = steps_before(schedule, r, t, before);
            add_reset(&schedule->resets[0], before < steps ? before : s->seq_len, r);
            if (t > 0)
                add_reset(&schedule->resets[1], before > 0 ? steps - before : s->seq_len, r);
        }
    }
}

static gated_status list_resets(const gated_sequence *s, gated_schedule *schedule)
{
    for (int d = 0; d < 2; d++) {
        schedule->resets[d].start = calloc(s->seq_len + 3, sizeof(int64_t));
        if (!schedule->resets[d].start)
            return GATED_NO_MEMORY;
    }
    add_resets(s, schedule);
    for (int d = 0; d < 2; d++) {
        gated_resets *resets = &schedule->resets[d];
        for (int64_t k = 0; k < s->seq_len + 2; k++)
            resets->start[k + 1] += resets->start[k];
        resets->rows = malloc((resets->start[s->seq_len + 2] + 1) * sizeof *resets->rows);
        if (!resets->rows)
            return GATED_NO_MEMORY;
    }
    add_resets(s, schedule);
    return GATED_OK;
}

gated_status gated_check_sequence(const gated_sequence *s)
{
    if (s->seq_len < 0 || s->batch < 0 || s->seq_len > INT32_MAX || s->batch > INT32_MAX)
        return GATED_BAD_SIZE;
    if ((s->lengths != NULL) + (s->mask != NULL) + (s->batch_sizes != NULL) > 1)
        return GATED_BAD_SIZE;
    if (s->batch_sizes && s->seq_len > 0 && s->batch_sizes[0] != s->batch)
        return GATED_BAD_LENGTH;
    for (int64_t i = 0; s->lengths && i < s->batch; i++)
        if (s->lengths[i] < 0 || s->lengths[i] > s->seq_len)
            return GATED_BAD_LENGTH;
    for (int64_t t = 0; s->batch_sizes && t < s->seq_len; t++)
        if (s->batch_sizes[t] < 0 || s->batch_sizes[t] > (t ? s->batch_sizes[t - 1] : s->batch))
            return GATED_BAD_LENGTH;
    return GATED_OK;
}

gated_status gated_schedule_create(const gated_sequence *s, gated_schedule *schedule)
{
    *schedule = (gated_schedule){.batch = s->batch, .seq_len = s->seq_len};
    gated_status status = GATED_OK;
    int has_holes = 0; /* a mask without is but lengths */
    if (s->batch_sizes)
        status = schedule_packed(s, schedule);
    else if (status == GATED_OK && (s->lengths || s->mask))
        status = sort_rows(s, schedule, &has_holes);
    if (status == GATED_OK && has_holes)
        status = list_times(s, schedule);
    if (status == GATED_OK && s->reset)
        status = list_resets(s, schedule);
    if (status != GATED_OK)
        gated_schedule_free(schedule);
    return status;
}

void gated_schedule_free(gated_schedule *schedule)
{
    free(schedule->order);
    free(schedule->steps);
    free(schedule->times);
    free(schedule->packed_start);
    for (int d = 0; d < 2; d++) {
        free(schedule->resets[d].start);
        free(schedule->resets[d].rows);
    }
    *schedule = (gated_schedule){0};
}
