/* Canonical weights to panels: [G*H, K] row-major becomes [block][words of K][G][V], one linear stream per block of V
 * units. */
#include "internal.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* What product.def says. */
typedef struct {
    int gates, input_feeds, recurrent_feeds;
} product_info;

#define PRODUCT(name, gates, input_feeds, recurrent_feeds)                                                             \
    static const product_info name = {gates, input_feeds, recurrent_feeds};
#include "product.def"
#undef PRODUCT

static const product_info *const product_of[] = {
#define CELL(name, product, has_c, reads_h) &product,
#include "cell.def"
#undef CELL
};

enum {
    ACCUMULATORS = 4,
    PEEPHOLES = 3,
    L1_BYTES = 30 << 10, /* of weights that mostly stay in a 32 KiB L1 */
    NARROW_UNITS = 128   /* from here on padding is under 6 % of the widest vector we have */
};

static size_t input_words(const gated_panels *p)
{
    return gated_format_words(p->input_format, p->inputs);
}

static size_t hidden_words(const gated_panels *p)
{
    return gated_format_words(p->hidden_format, p->recurrent);
}

/* The widest table whose padding costs nothing against the narrower ones. */
static const gated_kernels *choose_width(const gated_kernels *const *tables, int units)
{
    const gated_kernels *best = *tables;
    for (; *tables; tables++) {
        const int padded = (units + (*tables)->lanes - 1) / (*tables)->lanes * (*tables)->lanes;
        const int best_padded = (units + best->lanes - 1) / best->lanes * best->lanes;
        if (padded <= best_padded || units >= NARROW_UNITS)
            best = *tables;
    }
    return best;
}

/* Both products of a cell go into the same accumulators. */
static const gated_kernels *of_lanes(const gated_kernels *const *tables, int lanes)
{
    const gated_kernels *last = NULL;
    for (; *tables; tables++)
        if ((*tables)->lanes == lanes)
            last = *tables;
    return last;
}

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

/* Blocks of one row taken at a time: as many as the registers hold while the weights fit L1, for the latencies then
 * overlap; beyond it few streams are read faster than many (LSTM, H = 64: 1.12 us with one, 1.25 with four). Narrow
 * weights arrive faster than a few accumulators could take them. */
static int choose_group(const gated_kernels *table, const product_info *info, const gated_panels *p)
{
    const size_t weights = sizeof(float) * info->gates * (input_words(p) + hidden_words(p)) * p->units;
    const int in_registers = info->gates == 1 ? 8 : table->max_group;
    if (weights <= L1_BYTES)
        return in_registers;
    if (p->hidden_format != GATED_FORMAT_float32)
        return smaller(in_registers, (8 + info->gates - 1) / info->gates);
    return info->gates == 1 ? 4 : table->stream_group;
}

/* The g-th set bit of a mask. */
static int accumulator(int feeds, int gate)
{
    for (int bit = 0;; bit++)
        if ((feeds >> bit & 1) && gate-- == 0)
            return bit;
}

/* One row of weights [length] to words, `step` apart. */
typedef void round_row(const float *weight, int length, uint32_t *words, size_t step);

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void round_to_float32(const float *weight, int length, uint32_t *words, size_t step)
{
    for (int k = 0; k < length; k++)
        words[k * step] = bits_of(weight[k]);
}

/* To nearest even; a NaN keeps its upper bits and becomes quiet. */
static uint32_t bfloat16_of(float value)
{
    const uint32_t bits = bits_of(value);
    if (value != value)
        return bits >> 16 | 0x40;
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

static void round_to_bfloat16(const float *weight, int length, uint32_t *words, size_t step)
{
    for (int k = 0; k < length; k++)
        words[k / 2 * step] |= bfloat16_of(weight[k]) << k % 2 * 16;
}

/* The largest magnitude / 127, rounded up to a significand of 16 bits, so that its multiples are exact and rounding them
 * again changes nothing; 0 where it would be subnormal, NaN where a weight is not finite. */
static float int8_scale(const float *weight, int length)
{
    const uint64_t dropped = (1ull << 37) - 1; /* bits of a double beyond 16 */
    const double most = 0x1.0204p+121;         /* 127 times the next one is infinite */
    uint32_t largest = 0;
    for (int k = 0; k < length; k++) {
        const uint32_t magnitude = bits_of(weight[k]) & INT32_MAX; /* ordered like the floats, NaN last */
        largest = magnitude > largest ? magnitude : largest;
    }
    float magnitude;
    memcpy(&magnitude, &largest, sizeof magnitude);
    if (largest >= bits_of(INFINITY))
        return NAN;
    double scale = magnitude / 127.0;
    uint64_t bits;
    memcpy(&bits, &scale, sizeof bits);
    bits = (bits + dropped) & ~dropped;
    memcpy(&scale, &bits, sizeof scale);
    return scale < FLT_MIN ? 0 : (float)(scale < most ? scale : most);
}

/* Ties to even, for magnitudes below 2^22. */
static int nearest(float value)
{
    const float integers = 0x1.8p23f; /* so large that there are no fractions beside it */
    return (int)(value + integers - integers);
}

static void round_to_int8(const float *weight, int length, uint32_t *words, size_t step)
{
    const float scale = int8_scale(weight, length);
    uint32_t sum = 0;
    for (int k = 0; k < length && scale > 0; k++) {
        const int q = nearest(weight[k] / scale);
        ((signed char *)&words[k / 4 * step])[k % 4] = (signed char)q;
        sum += (uint32_t)q;
    }
    words += (length + 3) / 4 * step;
    words[0] = bits_of(scale);
    words[step] = -128 * sum;
}

static round_row *const round_row_to[GATED_NUM_FORMATS] = {
    [GATED_FORMAT_float32] = round_to_float32,
    [GATED_FORMAT_bfloat16] = round_to_bfloat16,
    [GATED_FORMAT_bfloat16_dot] = round_to_bfloat16,
    [GATED_FORMAT_int8] = round_to_int8,
};

static void pack_weight(uint32_t *panel, int format, const float *weight, int gates, int units, int length, int lanes)
{
    const size_t words = gated_format_words(format, length);
    for (int g = 0; g < gates; g++) {
        for (int u = 0; u < units; u++) {
            const float *from = weight + ((size_t)g * units + u) * length;
            uint32_t *to = panel + ((size_t)(u / lanes) * words * gates + g) * lanes + u % lanes;
            round_row_to[format](from, length, to, (size_t)gates * lanes);
        }
    }
}

static void pack_peephole(float *panel, const float *peephole, int units, int lanes)
{
    for (int g = 0; g < PEEPHOLES; g++)
        for (int u = 0; u < units; u++)
            panel[((size_t)(u / lanes) * PEEPHOLES + g) * lanes + u % lanes] = peephole[(size_t)g * units + u];
}

static void pack_bias(float *panel, const float *bias, int feeds, int gates, int units, int lanes)
{
    for (int g = 0; bias && g < gates; g++) {
        const int a = accumulator(feeds, g);
        for (int u = 0; u < units; u++)
            panel[((size_t)(u / lanes) * ACCUMULATORS + a) * lanes + u % lanes] += bias[(size_t)g * units + u];
    }
}

static void fill(const gated_panels *p, const gated_unpacked *weights, const product_info *info, int lanes)
{
    const int gates = info->gates, units = p->units;
    pack_weight(p->input, p->input_format, weights->weight_ih, gates, units, p->inputs, lanes);
    if (p->recurrent)
        pack_weight(p->hidden, p->hidden_format, weights->weight_hh, gates, units, p->recurrent, lanes);
    pack_bias(p->bias, weights->bias_ih, info->input_feeds, gates, units, lanes);
    pack_bias(p->bias, weights->bias_hh, info->recurrent_feeds, gates, units, lanes);
    if (p->peephole)
        pack_peephole(p->peephole, weights->peephole, units, lanes);
}

float *gated_take(gated_arena *arena, size_t floats)
{
    enum { LINE = GATED_PACKED_ALIGNMENT / sizeof(float) };
    float *taken = arena->floats ? arena->floats + arena->count : NULL;
    arena->count += (floats + LINE - 1) / LINE * LINE;
    return taken;
}

const float *gated_take_copy(gated_arena *arena, const float *from, size_t floats)
{
    if (!from)
        return NULL;
    float *taken = gated_take(arena, floats);
    if (taken && !arena->is_filled)
        memcpy(taken, from, floats * sizeof *from);
    return taken;
}

static size_t narrow_bytes(const gated_panels *p, int format)
{
    return gated_narrow_part(format, p->inputs) + gated_narrow_part(format, p->recurrent);
}

size_t gated_narrow_bytes(const gated_product *product)
{
    const gated_panels *p = &product->panels;
    const size_t input = narrow_bytes(p, p->input_format), hidden = narrow_bytes(p, p->hidden_format);
    return input > hidden ? input : hidden;
}

void gated_pack(gated_arena *arena, const gated_unpacked *weights, gated_product *product)
{
    const product_info *info = product_of[weights->cell];
    const gated_kernels *table = choose_width(arena->tables->of[weights->hidden_format], weights->units);
    const int lanes = table->lanes;
    gated_panels p = {.inputs = weights->inputs, .recurrent = weights->recurrent, .units = weights->units,
                      .input_format = weights->input_format, .hidden_format = weights->hidden_format,
                      .input_limit = weights->input_limit, .hidden_limit = weights->hidden_limit};
    p.blocks = (p.units + lanes - 1) / lanes;
    p.group = choose_group(table, info, &p);
    if (weights->options) {
        product->options = *weights->options;
        p.options = &product->options;
    }

    const size_t line = (size_t)p.blocks * lanes;
    const size_t hidden = line * info->gates * hidden_words(&p), input = line * info->gates * input_words(&p);
    const size_t bias = line * ACCUMULATORS, peephole = weights->peephole ? line * PEEPHOLES : 0;
    const size_t floats = hidden + input + bias + peephole;
    float *memory = gated_take(arena, floats);
    if (memory) {
        p.hidden = memory;
        p.input = memory + hidden;
        p.bias = memory + hidden + input;
        p.peephole = peephole ? p.bias + bias : NULL;
    }
    if (memory && !arena->is_filled)
        fill(&p, weights, info, lanes);
    product->kernel = &table->cell[p.hidden_format][weights->cell];
    product->input_kernel = &of_lanes(arena->tables->of[p.input_format], lanes)->cell[p.input_format][weights->cell];
    product->lanes = lanes;
    product->panels = p;
    product->bytes = floats * sizeof(float);
}
