/* The layers around the recurrent ones, row by row. Sums run in one fixed order and nothing is contracted, so their bits
 * are the same everywhere; products and activations are the kernels'. */
#include "internal.h"

#include <math.h>
#include <string.h>

enum {
    TILE_ROWS = 64, /* of a product at a time */
    PARTS = 16      /* partial sums: what the widest vector adds at once, added up as a tree on every machine */
};

static const float *in_row(const gated_span *s, int64_t t, int64_t n)
{
    return s->in.base + t * s->in.time + n * s->in.row;
}

/* The row of memory that row n of a span goes on with. */
static int64_t member(const gated_span *s, int64_t n)
{
    return s->members ? s->members[n] : n;
}

static float *out_row(const gated_span *s, int64_t t, int64_t n)
{
    return s->out.base + t * s->out.time + n * s->out.row;
}

static unsigned char *live_at(const gated_span *s, int64_t t, int64_t n)
{
    return s->live.base + t * s->live.time + n * s->live.row;
}

static int counts(const gated_span *s, int64_t t, int64_t n)
{
    return !s->live.base || *live_at(s, t, n);
}

/* Sums */

static float add_up(float *part)
{
    for (int width = PARTS / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++)
            part[i] += part[i + width];
    return part[0];
}

static float sum(const float *x, int n)
{
    float part[PARTS] = {0};
    int i = 0;
    for (; i + PARTS <= n; i += PARTS)
        for (int j = 0; j < PARTS; j++)
            part[j] += x[i + j];
    for (int j = 0; i + j < n; j++)
        part[j] += x[i + j];
    return add_up(part);
}

static float sum_of_squares(const float *x, int n, float mean)
{
    float part[PARTS] = {0};
    int i = 0;
    for (; i + PARTS <= n; i += PARTS)
        for (int j = 0; j < PARTS; j++)
            part[j] += (x[i + j] - mean) * (x[i + j] - mean);
    for (int j = 0; i + j < n; j++)
        part[j] += (x[i + j] - mean) * (x[i + j] - mean);
    return add_up(part);
}

static float largest(const float *x, int n)
{
    float most = x[0];
    for (int i = 1; i < n; i++)
        most = x[i] > most || x[i] != x[i] ? x[i] : most;
    return most;
}

/* log(x) for x >= 1, within 1e-9: k ln2 + 2 atanh(s), s = (m - 1) / (m + 1) <= 1/3. The math library's differs from
 * machine to machine. */
static double log_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (bits >= 0x7f800000)
        return x;
    const int exponent = (int)(bits >> 23) - 127;
    bits = (bits & 0x007fffff) | 0x3f800000;
    memcpy(&x, &bits, sizeof x);
    const double s = ((double)x - 1) / ((double)x + 1), s2 = s * s;
    double series = 0;
    for (int k = 17; k > 0; k -= 2)
        series = series * s2 + 1.0 / k;
    return exponent * 0.6931471805599453 + 2 * s * series;
}

/* One row of one step. */

typedef void row_function(const gated_model_layer *layer, const float *x, float *y);

static void embedding(const gated_model_layer *layer, const float *x, float *y)
{
    int32_t id;
    memcpy(&id, x, sizeof id);
    memcpy(y, layer->is.weight + (ptrdiff_t)id * layer->is.output_size, layer->is.output_size * sizeof *y);
}

static void elementwise(const gated_model_layer *layer, const float *x, float *y)
{
    layer->table->activate(&layer->is.activation, x, y, layer->is.output_size);
}

static void affine(const gated_model_layer *layer, const float *x, float *y)
{
    for (int i = 0; i < layer->is.output_size; i++)
        y[i] = x[i] * layer->is.weight[i] + layer->is.bias[i];
}

static void layer_norm(const gated_model_layer *layer, const float *x, float *y)
{
    const int n = layer->is.output_size;
    const float mean = sum(x, n) / (float)n;
    const float scale = 1.0f / sqrtf(sum_of_squares(x, n, mean) / (float)n + layer->is.value);
    for (int i = 0; i < n; i++)
        y[i] = (x[i] - mean) * scale;
    for (int i = 0; layer->is.weight && i < n; i++)
        y[i] *= layer->is.weight[i];
    for (int i = 0; layer->is.bias && i < n; i++)
        y[i] += layer->is.bias[i];
}

/* exp(x - max) */
static void exponentials(const gated_model_layer *layer, const float *x, float *y)
{
    static const gated_activation exponential = {GATED_EXPONENTIAL, 0, 0};
    const float most = largest(x, layer->is.output_size);
    for (int i = 0; i < layer->is.output_size; i++)
        y[i] = x[i] - most;
    layer->table->activate(&exponential, y, y, layer->is.output_size);
}

static void softmax(const gated_model_layer *layer, const float *x, float *y)
{
    exponentials(layer, x, y);
    const float total = sum(y, layer->is.output_size);
    for (int i = 0; i < layer->is.output_size; i++)
        y[i] /= total;
}

static void log_softmax(const gated_model_layer *layer, const float *x, float *y)
{
    const float most = largest(x, layer->is.output_size);
    exponentials(layer, x, y);
    const double log_total = log_of(sum(y, layer->is.output_size));
    for (int i = 0; i < layer->is.output_size; i++)
        y[i] = (float)((double)x[i] - most - log_total);
}

static void merge_sum(const gated_model_layer *layer, const float *x, float *y)
{
    for (int i = 0; i < layer->is.output_size; i++)
        y[i] = x[i] + x[i + layer->is.output_size];
}

static void merge_mul(const gated_model_layer *layer, const float *x, float *y)
{
    for (int i = 0; i < layer->is.output_size; i++)
        y[i] = x[i] * x[i + layer->is.output_size];
}

static void merge_ave(const gated_model_layer *layer, const float *x, float *y)
{
    for (int i = 0; i < layer->is.output_size; i++)
        y[i] = (x[i] + x[i + layer->is.output_size]) * 0.5f;
}

static void slice(const gated_model_layer *layer, const float *x, float *y)
{
    memcpy(y, x + layer->is.count, layer->is.output_size * sizeof *y);
}

static row_function *const row_functions[] = {
    [GATED_EMBEDDING] = embedding,
    [GATED_ELEMENTWISE] = elementwise,
    [GATED_SCALE] = affine,
    [GATED_LAYER_NORM] = layer_norm,
    [GATED_SOFTMAX] = softmax,
    [GATED_LOG_SOFTMAX] = log_softmax,
    [GATED_MERGE_SUM] = merge_sum,
    [GATED_MERGE_MUL] = merge_mul,
    [GATED_MERGE_AVE] = merge_ave,
    [GATED_SLICE] = slice,
};

static void run_rows(const gated_model_layer *layer, const gated_span *s)
{
    row_function *function = row_functions[layer->is.kind];
    for (int64_t t = 0; t < s->steps; t++)
        for (int64_t n = 0; n < s->batch; n++)
            if (layer->dead_steps_matter || counts(s, t, n))
                function(layer, in_row(s, t, n), out_row(s, t, n));
}

int gated_ids_in_range(const gated_layer *embedding, const int32_t *ids, int64_t steps, ptrdiff_t time, int64_t batch,
                       ptrdiff_t row)
{
    for (int64_t t = 0; t < steps; t++)
        for (int64_t n = 0; n < batch; n++)
            if (ids[t * time + n * row] < 0 || ids[t * time + n * row] >= embedding->count)
                return 0;
    return 1;
}

static void embed(const gated_model_layer *layer, const gated_span *s)
{
    for (int64_t t = 0; layer->is.flag && t < s->steps; t++) {
        for (int64_t n = 0; n < s->batch; n++) {
            int32_t id;
            memcpy(&id, in_row(s, t, n), sizeof id);
            *live_at(s, t, n) &= id != 0;
        }
    }
    run_rows(layer, s);
}

static void mask_steps(const gated_layer *layer, const gated_span *s)
{
    for (int64_t t = 0; t < s->steps; t++) {
        for (int64_t n = 0; n < s->batch; n++) {
            const float *x = in_row(s, t, n);
            int differs = 0;
            for (int i = 0; i < layer->input_size; i++)
                differs |= x[i] != layer->value;
            *live_at(s, t, n) &= differs;
            if (*live_at(s, t, n))
                memcpy(out_row(s, t, n), x, layer->input_size * sizeof *x);
            else
                memset(out_row(s, t, n), 0, layer->input_size * sizeof *x);
        }
    }
}

/* Products */

static void multiply(const gated_product *product, const gated_row *rows, int count)
{
    if (count > 0)
        product->kernel->step(&product->panels, rows, count, 0, product->panels.blocks, 0);
}

static void dense(const gated_model_layer *layer, const gated_span *s)
{
    gated_row rows[TILE_ROWS];
    int count = 0;
    for (int64_t t = 0; t < s->steps; t++) {
        for (int64_t n = 0; n < s->batch; n++) {
            if (!layer->dead_steps_matter && !counts(s, t, n))
                continue;
            rows[count++] = (gated_row){.x = in_row(s, t, n), .y = out_row(s, t, n)};
            if (count == TILE_ROWS) {
                multiply(&layer->product, rows, count);
                count = 0;
            }
        }
    }
    multiply(&layer->product, rows, count);
}

int64_t gated_steps_before(const gated_layer *conv)
{
    return (int64_t)(conv->count - 1) * conv->dilation;
}

float *gated_conv_history(const gated_layer *conv, const gated_memory *memory)
{
    return memory->values + (ptrdiff_t)TILE_ROWS * conv->count * conv->input_size;
}

/* The inputs of all taps of a step, side by side; steps before this piece come from `history` [before, input]. The first
 * `foreign` of all these steps are zeros. */
static void gather_taps(const gated_layer *conv, const gated_span *s, const float *history, int64_t foreign, int64_t t,
                        int64_t n, float *window)
{
    const size_t bytes = conv->input_size * sizeof *window;
    const int64_t before = gated_steps_before(conv);
    for (int k = 0; k < conv->count; k++, window += conv->input_size) {
        const int64_t at = t - before + (int64_t)k * conv->dilation;
        if (at + before < foreign)
            memset(window, 0, bytes);
        else
            memcpy(window, at >= 0 ? in_row(s, at, n) : history + (at + before) * conv->input_size, bytes);
    }
}

static void remember_steps(const gated_layer *conv, const gated_span *s, int64_t n, float *history)
{
    const int64_t before = gated_steps_before(conv), row = conv->input_size;
    for (int64_t h = 0; h < before; h++) {
        const int64_t at = h + s->steps - before;
        memmove(history + h * row, at >= 0 ? in_row(s, at, n) : history + (h + s->steps) * row, row * sizeof *history);
    }
}

static void convolve(const gated_model_layer *layer, const gated_span *s, gated_memory *memory)
{
    const gated_layer *conv = &layer->is;
    const ptrdiff_t width = (ptrdiff_t)conv->count * conv->input_size;
    const int64_t before = gated_steps_before(conv), kept = before * conv->input_size;
    float *windows = memory->values, *history = gated_conv_history(conv, memory);
    gated_row rows[TILE_ROWS];
    int count = 0;
    for (int64_t t = 0; t < s->steps; t++) {
        for (int64_t n = 0; n < s->batch; n++) {
            const int64_t m = member(s, n);
            float *window = windows + count * width;
            if (gated_resets_at(s, t, n))
                memory->counts[m] = before + t;
            gather_taps(conv, s, history + m * kept, memory->counts[m], t, n, window);
            rows[count++] = (gated_row){.x = window, .y = out_row(s, t, n)};
            if (count == TILE_ROWS) {
                multiply(&layer->product, rows, count);
                count = 0;
            }
        }
    }
    multiply(&layer->product, rows, count);
    for (int64_t n = 0; n < s->batch; n++) {
        int64_t *foreign = &memory->counts[member(s, n)];
        remember_steps(conv, s, n, history + member(s, n) * kept);
        *foreign = *foreign > s->steps ? *foreign - s->steps : 0;
    }
}

/* Pools */

int gated_is_pool(gated_kind kind)
{
    return kind >= GATED_POOL_LAST && kind <= GATED_POOL_FINAL;
}

int64_t gated_steps_after(const gated_layer *layer, int64_t steps)
{
    if (gated_is_pool(layer->kind))
        return 1;
    return layer->kind == GATED_REPEAT || layer->kind == GATED_RESHAPE ? layer->count : steps;
}

static void take_into_pool(const gated_layer *pool, const float *x, float *values, int is_first)
{
    const int n = pool->input_size, forward = pool->kind == GATED_POOL_FINAL ? n - pool->count : n;
    if (is_first) {
        memcpy(values, x, n * sizeof *x);
        return;
    }
    switch (pool->kind) {
    case GATED_POOL_MEAN:
        for (int i = 0; i < n; i++)
            values[i] += x[i];
        break;
    case GATED_POOL_MAX:
        for (int i = 0; i < n; i++)
            values[i] = x[i] > values[i] || x[i] != x[i] ? x[i] : values[i];
        break;
    case GATED_POOL_LAST:
    case GATED_POOL_FINAL:
        memcpy(values, x, forward * sizeof *x);
        break;
    default:
        break;
    }
}

static void pool(const gated_layer *layer, const gated_span *s, gated_memory *memory)
{
    for (int64_t t = 0; t < s->steps; t++)
        for (int64_t n = 0; n < s->batch; n++)
            if (counts(s, t, n))
                take_into_pool(layer, in_row(s, t, n), memory->values + member(s, n) * layer->input_size,
                               memory->counts[member(s, n)]++ == 0);
}

void gated_pooled(const gated_layer *layer, const gated_memory *memory, const gated_span *s, gated_view out)
{
    for (int64_t n = 0; n < s->batch; n++) {
        const int64_t m = member(s, n), steps = memory->counts[m];
        float *y = out.base + n * out.row;
        memcpy(y, memory->values + m * layer->input_size, layer->input_size * sizeof *y);
        for (int i = 0; layer->kind == GATED_POOL_MEAN && steps && i < layer->input_size; i++)
            y[i] /= (float)steps;
    }
}

size_t gated_plain_memory(const gated_layer *layer, int64_t batch)
{
    if (gated_is_pool(layer->kind))
        return (size_t)layer->input_size * batch;
    if (layer->kind == GATED_CONV)
        return (size_t)layer->input_size * (gated_steps_before(layer) * batch + (size_t)TILE_ROWS * layer->count);
    return 0;
}

void gated_plain_run(const gated_model_layer *layer, const gated_span *span, gated_memory *memory)
{
    switch (layer->is.kind) {
    case GATED_DENSE:
        dense(layer, span);
        break;
    case GATED_CONV:
        convolve(layer, span, memory);
        break;
    case GATED_EMBEDDING:
        embed(layer, span);
        break;
    case GATED_MASKING:
        mask_steps(&layer->is, span);
        break;
    default:
        if (gated_is_pool(layer->is.kind))
            pool(&layer->is, span, memory);
        else
            run_rows(layer, span);
    }
}
