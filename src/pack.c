/* Canonical weights to panels: [G*H, K] row-major becomes [block][K][G][V], one linear stream per block of V units. */
#include "internal.h"

#include <stdlib.h>
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

gated_status gated_pack(const gated_kernels *const *tables, const gated_unpacked *weights, gated_product *product)
{
    const product_info *info = product_of[weights->cell];
    const gated_kernels *table = choose_width(tables, weights->units);
    const int lanes = table->lanes, gates = info->gates, units = weights->units;
    gated_panels p = {.inputs = weights->inputs, .recurrent = weights->recurrent, .units = units};
    p.blocks = (units + lanes - 1) / lanes;
    p.group = choose_group(table, info, &p);

    const size_t line = (size_t)p.blocks * lanes;
    const size_t bias = line * ACCUMULATORS, input = line * gates * p.inputs, hidden = line * gates * p.recurrent;
    const size_t peephole = weights->peephole ? line * PEEPHOLES : 0, floats = bias + input + hidden + peephole;
    product->memory = gated_allocate(floats);
    if (!product->memory)
        return GATED_NO_MEMORY;
    memset(product->memory, 0, sizeof(float) * floats);
    p.hidden = product->memory;
    p.input = p.hidden + hidden;
    p.bias = p.input + input;
    pack_weight(p.input, weights->weight_ih, gates, units, p.inputs, lanes);
    if (p.recurrent)
        pack_weight(p.hidden, weights->weight_hh, gates, units, p.recurrent, lanes);
    pack_bias(p.bias, weights->bias_ih, info->input_feeds, gates, units, lanes);
    pack_bias(p.bias, weights->bias_hh, info->recurrent_feeds, gates, units, lanes);

    if (peephole) {
        p.peephole = p.bias + bias;
        pack_peephole(p.peephole, weights->peephole, units, lanes);
    }
    if (weights->options) {
        product->options = *weights->options;
        p.options = &product->options;
    }
    product->kernel = &table->cell[weights->cell];
    product->lanes = lanes;
    product->panels = p;
    product->bytes = sizeof(float) * floats;
    return GATED_OK;
}

void gated_product_free(gated_product *product)
{
    free(product->memory);
}
