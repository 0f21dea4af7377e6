/* Steps of any rows of a stack: the members of a pool that tick, in any order.
 *
 * The state lies as a stream's does and stays where it is: at every step the rows at work are pointed at their places in
 * it. All units of a new h are computed from the old one, so it is written where the layer's output goes and moved in when
 * the layer is done; a stepper's second copy of h would double the memory that 10,000 members pull through the cache.
 */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

struct gated_ticker {
    const gated_stack *stack;
    int64_t batch;
    float *state;
    int32_t *at;           /* [N] row of the span of the k-th row at work */
    gated_row *rows;       /* [cell, second product][N] */
    float *first_output;   /* [N, max H], what a second product is of; then z of a GRU, alike */
    float *new_h;          /* [N, widest h], of layers that are not the last */
    float *floats;
};

static const gated_scan *scan_of(const gated_ticker *ticker, int layer)
{
    return &ticker->stack->layers[layer].scan[0];
}

static float *h_of(const gated_ticker *ticker, int layer, int64_t member)
{
    const gated_scan *scan = scan_of(ticker, layer);
    return ticker->state + scan->h_offset * ticker->batch + member * scan->output_size;
}

static float *c_of(const gated_ticker *ticker, int layer, int64_t member)
{
    const gated_scan *scan = scan_of(ticker, layer);
    return scan->has_c ? ticker->state + scan->c_offset * ticker->batch + member * scan->hidden_size : NULL;
}

static gated_status create(gated_ticker *ticker)
{
    const int last = ticker->stack->num_layers - 1;
    const size_t batch = ticker->batch;
    size_t widest_first = 0, widest_h = 0;
    for (int l = 0; l <= last; l++) {
        const gated_scan *scan = scan_of(ticker, l);
        if (scan->second.kernel && (size_t)scan->hidden_size > widest_first)
            widest_first = scan->hidden_size;
        if (l < last && (size_t)scan->output_size > widest_h)
            widest_h = scan->output_size;
    }
    ticker->at = malloc(batch * sizeof *ticker->at);
    ticker->rows = malloc(2 * batch * sizeof *ticker->rows);
    ticker->floats = gated_allocate(batch * (2 * widest_first + widest_h) + 1);
    if (!ticker->at || !ticker->rows || !ticker->floats)
        return GATED_NO_MEMORY;
    ticker->first_output = ticker->floats;
    ticker->new_h = ticker->floats + batch * 2 * widest_first;
    return GATED_OK;
}

gated_status gated_ticker_create(const gated_stack *stack, int64_t batch, float *state, gated_ticker **created)
{
    gated_ticker *ticker = calloc(1, sizeof *ticker);
    if (!ticker)
        return GATED_NO_MEMORY;
    ticker->stack = stack;
    ticker->batch = batch;
    ticker->state = state;
    gated_status status = create(ticker);
    if (status != GATED_OK) {
        gated_ticker_free(ticker);
        return status;
    }
    *created = ticker;
    return GATED_OK;
}

void gated_ticker_free(gated_ticker *ticker)
{
    if (!ticker)
        return;
    free(ticker->at);
    free(ticker->rows);
    free(ticker->floats);
    free(ticker);
}

/* Lists the rows that count in ticker->at and returns how many they are. */
static int64_t list_rows(gated_ticker *ticker, const gated_span *s)
{
    int64_t count = 0;
    for (int64_t n = 0; n < s->batch; n++)
        if (!s->live.base || s->live.base[n * s->live.row])
            ticker->at[count++] = (int32_t)n;
    return count;
}

/* Members of a large pool are rarely in cache: all of their lines are on the way before the first is needed. */
static void prefetch(const float *x, int floats)
{
    enum { LINE = 16 };
    for (int i = 0; i < floats; i += LINE)
        __builtin_prefetch(x + i, 1);
}

static void prefetch_layer(const gated_ticker *ticker, const gated_span *s, int64_t count, int layer)
{
    const gated_scan *scan = scan_of(ticker, layer);
    for (int64_t k = 0; k < count; k++) {
        const int64_t member = s->members[ticker->at[k]];
        prefetch(h_of(ticker, layer, member), scan->output_size);
        if (scan->has_c)
            prefetch(c_of(ticker, layer, member), scan->hidden_size);
    }
}

static void place_row(const gated_ticker *ticker, const gated_span *s, int layer, int64_t k)
{
    const gated_scan *scan = scan_of(ticker, layer);
    const int64_t n = ticker->at[k], member = s->members[n];
    gated_row *cell = &ticker->rows[k], *second = &ticker->rows[ticker->batch + k];
    float *h = h_of(ticker, layer, member), *first = ticker->first_output + k * scan->hidden_size;
    float *y = ticker->new_h + k * scan->output_size;
    if (layer == ticker->stack->num_layers - 1)
        y = s->out.base + n * s->out.row;
    *cell = (gated_row){
        .x = layer > 0 ? h_of(ticker, layer - 1, member) : s->in.base + n * s->in.row,
        .h = h,
        .previous = h,
        .c = c_of(ticker, layer, member),
        .y = scan->second.kernel ? first : y,
    };
    *second = (gated_row){.x = first, .y = y};
    if (scan->second.panels.recurrent > 0) { /* the candidate of a GRU */
        cell->c = first + ticker->batch * scan->hidden_size;
        *second = *cell;
        second->h = first;
        second->y = y;
    }
}

static void run_product(const gated_product *product, const gated_row *rows, int64_t count)
{
    product->kernel->step(&product->panels, rows, count, 0, product->panels.blocks, 0);
}

void gated_ticker_step(gated_ticker *ticker, const gated_span *s)
{
    const int64_t count = list_rows(ticker, s);
    for (int l = 0; l < ticker->stack->num_layers && count > 0; l++) {
        const gated_scan *scan = scan_of(ticker, l);
        gated_row *second = ticker->rows + ticker->batch, *last = scan->second.kernel ? second : ticker->rows;
        prefetch_layer(ticker, s, count, l);
        for (int64_t k = 0; k < count; k++)
            place_row(ticker, s, l, k);
        run_product(&scan->cell, ticker->rows, count);
        if (scan->second.kernel)
            run_product(&scan->second, second, count);
        for (int64_t k = 0; k < count; k++)
            memcpy(h_of(ticker, l, s->members[ticker->at[k]]), last[k].y, scan->output_size * sizeof(float));
    }
}
