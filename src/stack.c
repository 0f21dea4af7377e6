/* A stack: layers validated, their weights packed, their place in the state fixed. */
#include "internal.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SIZE = 1 << 24 }; /* of any layer dimension: keeps every product of sizes within 64 bits */

/* What runs a public cell: kernels for PyTorch's form of it and for its form with options. */
typedef struct {
    int plain, general;
} cell_kernels;

enum { NONE = -1 };

static const cell_kernels kernels_of[] = {
    [GATED_LSTM] = {GATED_KERNEL_lstm, GATED_KERNEL_lstm_general},
    [GATED_GRU] = {GATED_KERNEL_gru, GATED_KERNEL_gru_general},
    [GATED_RNN_TANH] = {GATED_KERNEL_rnn_tanh, NONE},
    [GATED_RNN_RELU] = {GATED_KERNEL_rnn_relu, NONE},
    [GATED_GRU_RESET_BEFORE] = {GATED_KERNEL_gru_gates, GATED_KERNEL_gru_gates},
    [GATED_RNN] = {NONE, GATED_KERNEL_rnn_general},
};

enum { NUM_CELLS = sizeof kernels_of / sizeof *kernels_of };

static const gated_options default_options = {.activation = {{GATED_SIGMOID, 0, 0}, {GATED_TANH, 0, 0}, {GATED_TANH, 0, 0}}};

int gated_cell_gates(gated_cell cell)
{
    switch (cell) {
    case GATED_LSTM:             return 4;
    case GATED_GRU:
    case GATED_GRU_RESET_BEFORE: return 3;
    default:                     return 1;
    }
}

int gated_cell_has_c(gated_cell cell)
{
    return cell == GATED_LSTM;
}

static int layer_output(const gated_recurrent *layer)
{
    return layer->num_directions * (layer->proj_size ? layer->proj_size : layer->hidden_size);
}

static int in_range(int size, int least)
{
    return size >= least && size <= MAX_SIZE;
}

static int options_known(const gated_options *options)
{
    for (int i = 0; i < 3; i++)
        if ((unsigned)options->activation[i].function > GATED_SQUAREPLUS)
            return 0;
    return 1;
}

static int weights_complete(const gated_recurrent *layer)
{
    for (int d = 0; d < layer->num_directions; d++) {
        const gated_weights *w = &layer->weights[d];
        const cell_kernels kernels = kernels_of[layer->cell];
        if (!w->weight_ih || !w->weight_hh || (layer->proj_size != 0) != (w->weight_hr != NULL))
            return 0;
        if ((w->options ? kernels.general : kernels.plain) == NONE || (w->options && !options_known(w->options)))
            return 0;
        if (w->peephole && (layer->cell != GATED_LSTM || !w->options))
            return 0;
        if (w->initial_c && !gated_cell_has_c(layer->cell))
            return 0;
        if (!(w->h_limit >= 0 && w->h_limit <= FLT_MAX))
            return 0;
    }
    return 1;
}

/* Sums of so many products of 8-bit integers fit in 32 bits. */
static int fits_int8(const gated_recurrent *layer, unsigned flags)
{
    const int longest = INT32_MAX / (127 * 127);
    const int is_input_int8 = !(flags & (GATED_INPUTS_FLOAT32 | GATED_INPUTS_BFLOAT16));
    return layer->hidden_size <= longest && layer->proj_size <= longest
           && (layer->input_size <= longest || !is_input_int8);
}

static gated_status check(const gated_recurrent *layers, int num_layers, unsigned flags)
{
    if (num_layers < 1)
        return GATED_BAD_SIZE;
    for (int l = 0; l < num_layers; l++) {
        const gated_recurrent *layer = &layers[l];
        if ((unsigned)layer->cell >= NUM_CELLS || !in_range(layer->input_size, 1) || !in_range(layer->hidden_size, 1)
            || !in_range(layer->proj_size, 0) || (layer->num_directions != 1 && layer->num_directions != 2)
            || (layer->proj_size && layer->cell != GATED_LSTM) || (layer->reverse && layer->num_directions == 2)
            || !weights_complete(layer))
            return GATED_BAD_SIZE;
        if (flags & GATED_INT8 && !fits_int8(layer, flags))
            return GATED_BAD_SIZE;
        if (l > 0 && layer->input_size != layer_output(&layers[l - 1]))
            return GATED_BAD_SIZE;
    }
    return GATED_OK;
}

/* Whether an activation's results are in -1..1. */
static int is_bounded(const gated_activation *activation)
{
    switch (activation->function) {
    case GATED_SIGMOID:
    case GATED_TANH:
    case GATED_HARD_SIGMOID:
    case GATED_SOFTSIGN:
    case GATED_HARD_TANH:
        return 1;
    case GATED_SCALED_TANH:
        return activation->alpha >= -1 && activation->alpha <= 1;
    default:
        return 0;
    }
}

static int is_fraction(const gated_activation *activation)
{
    return activation->function == GATED_SIGMOID || activation->function == GATED_HARD_SIGMOID;
}

/* What |h| of a cell, before a projection, cannot exceed, given that it does not at the start; 0 if nothing is known. */
static float cell_limit(const gated_recurrent *layer, const gated_options *options)
{
    const gated_activation *active = (options ? options : &default_options)->activation;
    switch (layer->cell) {
    case GATED_LSTM: /* o * act(c) */
        return is_bounded(&active[0]) && is_bounded(&active[2]);
    case GATED_GRU:
    case GATED_GRU_RESET_BEFORE: /* between n and the h before */
        return is_fraction(&active[0]) && is_bounded(&active[1]);
    case GATED_RNN:
        return is_bounded(&active[0]);
    default:
        return layer->cell == GATED_RNN_TANH;
    }
}

static float h_limit(const gated_recurrent *layer, const gated_weights *weights)
{
    if (weights->h_limit > 0)
        return weights->h_limit;
    return layer->proj_size ? 0 : cell_limit(layer, weights->options);
}

/* r and z in one product; n, which needs r * h of all units, in a second. */
static void pack_reset_before(gated_arena *arena, const gated_unpacked *gru, gated_scan *scan)
{
    const size_t input = (size_t)2 * gru->units * gru->inputs, hidden = (size_t)2 * gru->units * gru->recurrent;
    const size_t bias = (size_t)2 * gru->units;
    gated_unpacked candidate = *gru;
    candidate.cell = GATED_KERNEL_gru_candidate;
    if (!is_bounded(&gru->options->activation[0]))
        candidate.hidden_limit = 0; /* that of r * h */
    candidate.weight_ih += input;
    candidate.weight_hh += hidden;
    if (candidate.bias_ih)
        candidate.bias_ih += bias;
    if (candidate.bias_hh)
        candidate.bias_hh += bias;
    gated_pack(arena, gru, &scan->cell);
    gated_pack(arena, &candidate, &scan->second);
}

/* What the flags of a model make of the weights of its stacks. */
static void choose_formats(const gated_arena *arena, gated_unpacked *weights)
{
    const unsigned flags = arena->flags;
    const int dot = flags & GATED_BFLOAT16_DOT && arena->tables->of[GATED_FORMAT_bfloat16_dot][0];
    if (flags & GATED_BFLOAT16)
        weights->input_format = weights->hidden_format = dot ? GATED_FORMAT_bfloat16_dot : GATED_FORMAT_bfloat16;
    if (flags & GATED_INT8) {
        weights->hidden_format = GATED_FORMAT_int8;
        weights->input_format = flags & GATED_INPUTS_FLOAT32    ? GATED_FORMAT_float32
                                : flags & GATED_INPUTS_BFLOAT16 ? GATED_FORMAT_bfloat16
                                                                : GATED_FORMAT_int8;
    }
}

static void create_scan(const gated_recurrent *layer, int direction, gated_scan *scan)
{
    scan->reverse = direction == 1 || layer->reverse;
    scan->has_c = gated_cell_has_c(layer->cell);
    scan->num_gates = gated_cell_gates(layer->cell);
    scan->hidden_size = layer->hidden_size;
    scan->output_size = layer->proj_size ? layer->proj_size : layer->hidden_size;
}

static void pack_scan(gated_arena *arena, const gated_recurrent *layer, int direction, gated_scan *scan)
{
    const gated_weights *w = &layer->weights[direction];
    const cell_kernels kernels = kernels_of[layer->cell];
    gated_unpacked cell = {
        .cell = w->options ? kernels.general : kernels.plain, .inputs = layer->input_size, .recurrent = scan->output_size,
        .units = layer->hidden_size, .weight_ih = w->weight_ih, .weight_hh = w->weight_hh, .bias_ih = w->bias_ih,
        .bias_hh = w->bias_hh, .peephole = w->peephole, .options = w->options, .hidden_limit = h_limit(layer, w)};
    choose_formats(arena, &cell);
    if (layer->cell == GATED_GRU_RESET_BEFORE) {
        cell.options = w->options ? w->options : &default_options;
        pack_reset_before(arena, &cell, scan);
        return;
    }
    gated_pack(arena, &cell, &scan->cell);
    if (!layer->proj_size)
        return;
    const gated_unpacked projection = {
        .cell = GATED_KERNEL_linear, .inputs = layer->hidden_size, .units = layer->proj_size, .weight_ih = w->weight_hr,
        .input_format = cell.hidden_format, .hidden_format = cell.hidden_format,
        .input_limit = cell_limit(layer, w->options)};
    gated_pack(arena, &projection, &scan->second);
}

/* All h come before all c, so that a stack's h is one array [L*D, N, P or H], as PyTorch has it. */
static void place_state(gated_stack *stack, const gated_recurrent *layers)
{
    size_t at = 0, gates = 0;
    for (int c = 0; c < 2; c++) {
        for (int l = 0; l < stack->num_layers; l++) {
            for (int d = 0; d < layers[l].num_directions; d++) {
                gated_scan *scan = &stack->layers[l].scan[d];
                if (c == 0) {
                    scan->h_offset = at;
                    at += scan->output_size;
                    scan->gates_offset = gates;
                    gates += (size_t)scan->num_gates * scan->hidden_size;
                } else if (scan->has_c) {
                    scan->c_offset = at;
                    at += scan->hidden_size;
                    stack->c_per_row += scan->hidden_size;
                }
            }
        }
    }
    stack->state_per_row = at;
    stack->gates_per_row = gates;
}

static gated_status copy_initial_state(gated_stack *stack, const gated_recurrent *layers)
{
    stack->initial = calloc(stack->state_per_row, sizeof *stack->initial);
    if (!stack->initial)
        return GATED_NO_MEMORY;
    for (int l = 0; l < stack->num_layers; l++) {
        for (int d = 0; d < layers[l].num_directions; d++) {
            const gated_scan *scan = &stack->layers[l].scan[d];
            const gated_weights *w = &layers[l].weights[d];
            if (w->initial_h)
                memcpy(stack->initial + scan->h_offset, w->initial_h, scan->output_size * sizeof(float));
            if (w->initial_c)
                memcpy(stack->initial + scan->c_offset, w->initial_c, scan->hidden_size * sizeof(float));
        }
    }
    return GATED_OK;
}

gated_status gated_stack_create(const gated_recurrent *layers, int num_layers, unsigned flags, gated_stack **created)
{
    gated_status status = check(layers, num_layers, flags);
    if (status != GATED_OK)
        return status;

    gated_stack *stack = calloc(1, sizeof *stack + num_layers * sizeof *stack->layers);
    if (!stack)
        return GATED_NO_MEMORY;
    stack->num_layers = num_layers;
    for (int l = 0; l < num_layers; l++) {
        gated_stack_layer *layer = &stack->layers[l];
        layer->num_directions = layers[l].num_directions;
        layer->input_size = layers[l].input_size;
        layer->output_size = layer_output(&layers[l]);
        stack->reverse |= layer->num_directions == 2 || layers[l].reverse;
        for (int d = 0; d < layer->num_directions; d++)
            create_scan(&layers[l], d, &layer->scan[d]);
    }
    place_state(stack, layers);
    status = copy_initial_state(stack, layers);
    if (status != GATED_OK) {
        gated_stack_free(stack);
        return status;
    }
    *created = stack;
    return GATED_OK;
}

void gated_stack_pack(gated_stack *stack, const gated_recurrent *layers, gated_arena *arena)
{
    for (int l = 0; l < stack->num_layers; l++)
        for (int d = 0; d < layers[l].num_directions; d++)
            pack_scan(arena, &layers[l], d, &stack->layers[l].scan[d]);
}

void gated_stack_free(gated_stack *stack)
{
    if (stack)
        free(stack->initial);
    free(stack);
}

int gated_stack_output(const gated_stack *stack)
{
    return stack->layers[stack->num_layers - 1].output_size;
}

void gated_scan_set_row(const gated_stack *stack, const gated_scan *scan, float *state, const float *from, int64_t batch,
                        int64_t n)
{
    const size_t h = scan->output_size, c = scan->hidden_size;
    const int64_t rows = from ? batch : 1, row = from ? n : 0;
    from = from ? from : stack->initial;
    memcpy(state + scan->h_offset * batch + n * h, from + scan->h_offset * rows + row * h, h * sizeof *state);
    if (scan->has_c)
        memcpy(state + scan->c_offset * batch + n * c, from + scan->c_offset * rows + row * c, c * sizeof *state);
}

void gated_stack_set_row(const gated_stack *stack, float *state, const float *from, int64_t batch, int64_t n)
{
    for (int l = 0; l < stack->num_layers; l++)
        for (int d = 0; d < stack->layers[l].num_directions; d++)
            gated_scan_set_row(stack, &stack->layers[l].scan[d], state, from, batch, n);
}
