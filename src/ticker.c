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
    int backward;          /* direction of the next sweep through the weights: the last of them are in cache */
    int32_t *at;           /* [N] row of the span of the k-th row at work */
    gated_row *rows;       /* [cell, second product][N] */
    float *first_output;   /* [N, max H], what a second product is of; then z of a GRU, alike */
    float *new_h;          /* [N, widest h], of layers that are not the last */
    float *product[2];     /* [N, widest], input products that are computed first */
    size_t product_floats; /* per row */
    char *narrow;          /* [N, most that a product needs] */
    size_t narrow_bytes;
    float *floats;
};

static const gated_scan *scan_of(const gated_ticker *ticker, int layer)
{
    return &ticker->stack->layers[layer].scan[0];
}

static float *h_of(const gated_ticker *ticker, int layer)
{
    return ticker->state + scan_of(ticker, layer)->h_offset * ticker->batch;
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
        if (gated_projects_first(&scan->cell) && (size_t)gated_product_width(&scan->cell) > ticker->product_floats)
            ticker->product_floats = gated_product_width(&scan->cell);
        if (gated_scan_narrow_bytes(scan) > ticker->narrow_bytes)
            ticker->narrow_bytes = gated_scan_narrow_bytes(scan);
    }
    ticker->at = malloc(batch * sizeof *ticker->at);
    ticker->rows = malloc(2 * batch * sizeof *ticker->rows);
    const size_t narrow_floats = ticker->narrow_bytes / sizeof(float);
    ticker->floats = gated_allocate(batch * (narrow_floats + 2 * (ticker->product_floats + widest_first) + widest_h) + 1);
    if (!ticker->at || !ticker->rows || !ticker->floats)
        return GATED_NO_MEMORY;
    ticker->narrow = (char *)ticker->floats;
    ticker->product[0] = ticker->floats + batch * narrow_floats;
    ticker->product[1] = ticker->product[0] + batch * ticker->product_floats;
    ticker->first_output = ticker->product[1] + batch * ticker->product_floats;
    ticker->new_h = ticker->first_output + batch * 2 * widest_first;
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
static void prefetch(const float *x, ptrdiff_t floats)
{
    enum { LINE = 16 };
    for (ptrdiff_t i = 0; i < floats; i += LINE)
        __builtin_prefetch(x + i, 1);
}

static void place_rows(const gated_ticker *ticker, const gated_span *s, int layer, int64_t count)
{
    const gated_scan *scan = scan_of(ticker, layer);
    const ptrdiff_t hidden = scan->hidden_size, output = scan->output_size;
    const int is_last = layer == ticker->stack->num_layers - 1;
    float *h = h_of(ticker, layer), *below = layer > 0 ? h_of(ticker, layer - 1) : NULL;
    float *c = scan->has_c ? ticker->state + scan->c_offset * ticker->batch : NULL;
    const ptrdiff_t inputs = ticker->stack->layers[layer].input_size;
    for (int64_t k = 0; k < count; k++) {
        const int64_t n = ticker->at[k], m = s->members[n];
        ticker->rows[k] = (gated_row){
            .x = below ? below + m * inputs : s->in.base + n * s->in.row,
            .h = h + m * output,
            .previous = h + m * output,
            .c = c ? c + m * hidden : NULL,
            .y = is_last ? s->out.base + n * s->out.row : ticker->new_h + k * output,
        };
        prefetch(h + m * output, output);
        if (c)
            prefetch(c + m * hidden, hidden);
    }
}

/* A second product takes over y; the first one writes what it is of. */
static void place_second_rows(const gated_ticker *ticker, const gated_scan *scan, int64_t count)
{
    for (int64_t k = 0; k < count; k++) {
        gated_row *cell = &ticker->rows[k], *second = &ticker->rows[ticker->batch + k];
        float *first = ticker->first_output + k * scan->hidden_size;
        *second = (gated_row){.x = first, .y = cell->y};
        if (scan->second.panels.recurrent > 0) { /* the candidate of a GRU */
            cell->c = first + ticker->batch * scan->hidden_size;
            *second = *cell;
            second->h = first;
        }
        cell->y = first;
    }
}

static void place_scratch(const gated_ticker *ticker, const gated_product *product, int second, int64_t count)
{
    gated_row *rows = ticker->rows + second * ticker->batch;
    for (int64_t k = 0; k < count; k++) {
        rows[k].narrow = ticker->narrow + k * ticker->narrow_bytes;
        if (gated_projects_first(product))
            rows[k].product = ticker->product[second] + k * ticker->product_floats;
    }
}

static void move_in(const gated_ticker *ticker, const gated_span *s, int layer, const gated_row *rows, int64_t count)
{
    const ptrdiff_t output = scan_of(ticker, layer)->output_size;
    float *h = h_of(ticker, layer);
    for (int64_t k = 0; k < count; k++)
        memcpy(h + s->members[ticker->at[k]] * output, rows[k].y, output * sizeof *h);
}

void gated_ticker_step(gated_ticker *ticker, const gated_span *s)
{
    const int64_t count = list_rows(ticker, s);
    const gated_row *second = ticker->rows + ticker->batch;
    ticker->backward = !ticker->backward;
    for (int l = 0; l < ticker->stack->num_layers && count > 0; l++) {
        const gated_scan *scan = scan_of(ticker, l);
        place_rows(ticker, s, l, count);
        if (scan->second.kernel)
            place_second_rows(ticker, scan, count);
        place_scratch(ticker, &scan->cell, 0, count);
        place_scratch(ticker, &scan->second, 1, count);
        gated_product_step(&scan->cell, ticker->rows, count, ticker->backward);
        if (scan->second.kernel)
            gated_product_step(&scan->second, second, count, ticker->backward);
        move_in(ticker, s, l, scan->second.kernel ? second : ticker->rows, count);
    }
}
