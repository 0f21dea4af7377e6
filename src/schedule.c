/* Which rows are live at which step. Rows are sorted by their number of live steps, so that the live rows of any step
 * are a prefix and a ragged batch costs what its live steps cost. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

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

/* A step of a batch row that begins a new sequence. */
typedef struct {
    int32_t time, row;
} flag;

/* The first of flags i .. count - 1 that is set, or count. Few are, so eight zeros side by side are taken at once. */
static int64_t next_flag(const unsigned char *flags, ptrdiff_t stride, int64_t i, int64_t count)
{
    for (uint64_t eight; stride == 1 && i + 8 <= count; i += 8) {
        memcpy(&eight, flags + i, sizeof eight);
        if (eight)
            break;
    }
    while (i < count && !flags[i * stride])
        i++;
    return i;
}

static gated_status append_flag(flag **flags, int64_t *count, flag added)
{
    const int64_t n = *count;
    if ((n & (n - 1)) == 0) { /* full: it holds a power of two */
        flag *more = realloc(*flags, (n ? 2 * n : 1) * sizeof *more);
        if (!more)
            return GATED_NO_MEMORY;
        *flags = more;
    }
    (*flags)[(*count)++] = added;
    return GATED_OK;
}

/* In lines along the axis whose flags are neighbours in memory. */
static gated_status find_flags(const gated_sequence *s, flag **flags, int64_t *count)
{
    const int by_row = s->reset_time == 1;
    const int64_t lines = by_row ? s->batch : s->seq_len, length = by_row ? s->seq_len : s->batch;
    const ptrdiff_t to_line = by_row ? s->reset_row : s->reset_time, to_next = by_row ? s->reset_time : s->reset_row;
    for (int64_t l = 0; l < lines; l++) {
        const unsigned char *line = s->reset + l * to_line;
        for (int64_t i = -1; (i = next_flag(line, to_next, i + 1, length)) < length;) {
            const flag found = {(int32_t)(by_row ? i : l), (int32_t)(by_row ? l : i)};
            if (append_flag(flags, count, found) != GATED_OK)
                return GATED_NO_MEMORY;
        }
    }
    return GATED_OK;
}

/* Live steps of sorted row r before time t. */
static int64_t steps_before(const gated_schedule *schedule, int64_t r, int64_t t)
{
    int64_t low = 0, high = schedule->steps ? schedule->steps[r] : schedule->seq_len;
    if (!schedule->times)
        return t < high ? t : high;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (schedule->times[r * schedule->seq_len + middle] < t)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
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
static void add_resets(gated_schedule *schedule, int directions, const flag *flags, int64_t count, const int64_t *sorted)
{
    for (int64_t i = 0; i < count; i++) {
        const int64_t r = sorted ? sorted[flags[i].row] : flags[i].row;
        const int64_t steps = schedule->steps ? schedule->steps[r] : schedule->seq_len;
        const int64_t before = steps_before(schedule, r, flags[i].time);
        add_reset(&schedule->resets[0], before < steps ? before : schedule->seq_len, r);
        if (directions == 2 && flags[i].time > 0)
            add_reset(&schedule->resets[1], before > 0 ? steps - before : schedule->seq_len, r);
    }
}

static gated_status sort_resets(gated_schedule *schedule, int directions, const flag *flags, int64_t count,
                                const int64_t *sorted)
{
    const int64_t ends = schedule->seq_len + 2;
    for (int d = 0; d < directions; d++) {
        schedule->resets[d].start = calloc(ends + 1, sizeof(int64_t));
        if (!schedule->resets[d].start)
            return GATED_NO_MEMORY;
    }
    add_resets(schedule, directions, flags, count, sorted);
    for (int d = 0; d < directions; d++) {
        gated_resets *resets = &schedule->resets[d];
        for (int64_t k = 0; k < ends; k++)
            resets->start[k + 1] += resets->start[k];
        resets->rows = malloc(count * sizeof *resets->rows);
        if (!resets->rows)
            return GATED_NO_MEMORY;
    }
    add_resets(schedule, directions, flags, count, sorted);
    return GATED_OK;
}

/* The inverse of the order. */
static int64_t *sorted_rows(const gated_schedule *schedule)
{
    int64_t *sorted = malloc(schedule->batch * sizeof *sorted);
    for (int64_t r = 0; sorted && r < schedule->batch; r++)
        sorted[schedule->order[r]] = r;
    return sorted;
}

static gated_status list_resets(const gated_sequence *s, int directions, gated_schedule *schedule)
{
    flag *flags = NULL;
    int64_t count = 0, *sorted = NULL;
    gated_status status = find_flags(s, &flags, &count);
    if (status == GATED_OK && count > 0 && schedule->order) {
        sorted = sorted_rows(schedule);
        status = sorted ? GATED_OK : GATED_NO_MEMORY;
    }
    if (status == GATED_OK && count > 0)
        status = sort_resets(schedule, directions, flags, count, sorted);
    free(sorted);
    free(flags);
    return status;
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

gated_status gated_schedule_create(const gated_sequence *s, int directions, gated_schedule *schedule)
{
    *schedule = (gated_schedule){.batch = s->batch, .seq_len = s->seq_len};
    gated_status status = GATED_OK;
    int has_holes = 0; /* a mask without is but lengths */
    if (s->batch_sizes)
        status = schedule_packed(s, schedule);
    else if (s->lengths || s->mask)
        status = sort_rows(s, schedule, &has_holes);
    if (status == GATED_OK && has_holes)
        status = list_times(s, schedule);
    if (status == GATED_OK && s->reset)
        status = list_resets(s, directions, schedule);
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
