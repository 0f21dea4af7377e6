/* Canonical weights to panels: [G*H, K] row-major becomes [block][K][G][V], one linear stream per block of V units. */
#include "internal.h"

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

/* Blocks of one row taken at a time: as many as the registers hold while the weights fit L1, for the latencies then
 * overlap; beyond it few streams are read faster than many (LSTM, H = 64: 1.12 us with one, 1.25 with four). */
static int choose_group(const gated_kernels *table, const product_info *info, const gated_panels *p)
{
    const size_t weights = sizeof(float) * info->gates * ((size_t)p->inputs + p->recurrent) * p->units;
    const int in_registers = info->gates == 1 ? 8 : table->max_group;
    if (weights <= L1_BYTES)
        return in_registers;
    return info->gates == 1 ? 4 : table->stream_group;
}

/* The g-th set bit of a mask. */
static int accumulator(int feeds, int gate)
{
    for (int bit = 0;; bit++)
        if ((feeds >> bit & 1) && gate-- == 0)
            return bit;
}

static void pack_weight(float *panel, const float *weight, int gates, int units, int length, int lanes)
{
    for (int g = 0; g < gates; g++) {
        for (int u = 0; u < units; u++) {
            const float *from = weight + ((size_t)g * units + u) * length;
            float *to = panel + ((size_t)(u / lanes) * length * gates + g) * lanes + u % lanes;
            for (int k = 0; k < length; k++)
                to[(size_t)k * gates * lanes] = from[k];
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
    pack_weight(p->input, weights->weight_ih, gates, units, p->inputs, lanes);
    if (p->recurrent)
        pack_weight(p->hidden, weights->weight_hh, gates, units, p->recurrent, lanes);
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

void gated_pack(gated_arena *arena, const gated_unpacked *weights, gated_product *product)
{
    const product_info *info = product_of[weights->cell];
    const gated_kernels *table = choose_width(arena->tables, weights->units);
    const int lanes = table->lanes;
    gated_panels p = {.inputs = weights->inputs, .recurrent = weights->recurrent, .units = weights->units};
    p.blocks = (p.units + lanes - 1) / lanes;
    p.group = choose_group(table, info, &p);
    if (weights->options) {
        product->options = *weights->options;
        p.options = &product->options;
    }

    const size_t line = (size_t)p.blocks * lanes;
    const size_t hidden = line * info->gates * p.recurrent, input = line * info->gates * p.inputs;
    const size_t bias = line * ACCUMULATORS, peephole = weights->peephole ? line * PEEPHOLES : 0;
    const size_t floats = hidden + input + bias + peephole;
    float *memory = gated_take(arena, floats);
    if (memory) {
        p.hidden = memory;
        p.input = p.hidden + hidden;
        p.bias = p.input + input;
        p.peephole = peephole ? p.bias + bias : NULL;
    }
    if (memory && !arena->is_filled)
        fill(&p, weights, info, lanes);
    product->kernel = &table->cell[weights->cell];
    product->lanes = lanes;
    product->panels = p;
    product->bytes = floats * sizeof(float);
}
