/* A model: a chain of layers, checked, copied and packed. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_SIZE = 1 << 24 };

#define MOST_FLOATS 0x1p50 /* of scratch of a thread: what is counted in 64 bits stays far from their end */

static int in_range(int size, int least)
{
    return size >= least && size <= MAX_SIZE;
}

static int is_activation(const gated_activation *activation)
{
    return (unsigned)activation->function <= GATED_SQUAREPLUS;
}

/* Whether the fields that a kind of layer uses make sense. */
static int is_sound(const gated_layer *layer, int is_first)
{
    const int in = layer->input_size, out = layer->output_size, count = layer->count;
    switch (layer->kind) {
    case GATED_STACK:
        return layer->stack && in_range(count, 1) && layer->stack->input_size == in
               && (unsigned)layer->masked <= GATED_REPEAT_INITIAL;
    case GATED_EMBEDDING:
        return is_first && in == 1 && count >= 1 && layer->weight;
    case GATED_DENSE:
        return layer->weight && is_activation(&layer->activation);
    case GATED_CONV:
        return layer->weight && is_activation(&layer->activation) && in_range(count, 1) && in_range(layer->dilation, 1)
               && (int64_t)count * in <= MAX_SIZE && (int64_t)(count - 1) * layer->dilation <= MAX_SIZE;
    case GATED_ELEMENTWISE:
        return in == out && is_activation(&layer->activation);
    case GATED_SCALE:
        return in == out && layer->weight && layer->bias;
    case GATED_LAYER_NORM:
        return in == out && layer->value >= 0;
    case GATED_MERGE_SUM:
    case GATED_MERGE_MUL:
    case GATED_MERGE_AVE:
        return in == 2 * out;
    case GATED_SLICE:
        return in_range(count, 0) && count + out <= in;
    case GATED_POOL_FINAL:
        return in == out && in_range(count, 0) && count <= in;
    case GATED_REPEAT:
        return in == out && in_range(count, 1);
    case GATED_RESHAPE:
        return in_range(count, 1);
    case GATED_SOFTMAX:
    case GATED_LOG_SOFTMAX:
    case GATED_MASKING:
    case GATED_UNMASK:
    case GATED_FLIP:
    case GATED_FLIP_MASK:
    case GATED_POOL_LAST:
    case GATED_POOL_FIRST:
    case GATED_POOL_MEAN:
    case GATED_POOL_MAX:
        return in == out;
    }
    return 0;
}

/* Nothing reads a sequence that is flipped by the last layer that looks at it. */
static int ends_flipped(const gated_layer *layers, int num_layers)
{
    for (int l = num_layers - 1; l >= 0; l--) {
        if (layers[l].kind == GATED_FLIP)
            return 1;
        if (layers[l].kind != GATED_UNMASK && layers[l].kind != GATED_FLIP_MASK)
            return 0;
    }
    return 0;
}

/* At most one width of the weights, and what refines it. */
static int are_flags_sound(unsigned flags)
{
    const unsigned inputs = flags & (GATED_INPUTS_FLOAT32 | GATED_INPUTS_BFLOAT16);
    if (flags & GATED_INT8)
        return !(flags & (GATED_BFLOAT16 | GATED_BFLOAT16_DOT)) && !(inputs & (inputs - 1));
    return !inputs && (flags & GATED_BFLOAT16 || !(flags & GATED_BFLOAT16_DOT));
}

static gated_status check(const gated_layer *layers, int num_layers, unsigned flags)
{
    if (num_layers < 1 || ends_flipped(layers, num_layers) || flags > GATED_ALL_FLAGS || !are_flags_sound(flags))
        return GATED_BAD_SIZE;
    for (int l = 0; l < num_layers; l++) {
        const gated_layer *layer = &layers[l];
        if (!in_range(layer->input_size, 1) || !in_range(layer->output_size, 1) || !is_sound(layer, l == 0))
            return GATED_BAD_SIZE;
        if (l > 0 && layer->input_size != layers[l - 1].output_size)
            return GATED_BAD_SIZE;
    }
    return GATED_OK;
}

/* A product is a cell without recurrence. */
static void pack_product(gated_arena *arena, const gated_layer *is, gated_product *product)
{
    const gated_options options = {.activation = {is->activation}};
    const int is_linear = is->activation.function == GATED_LINEAR;
    const gated_unpacked weights = {
        .cell = is_linear ? GATED_KERNEL_linear : GATED_KERNEL_rnn_general,
        .inputs = is->kind == GATED_CONV ? is->count * is->input_size : is->input_size, .units = is->output_size,
        .weight_ih = is->weight, .bias_ih = is->bias, .options = is_linear ? NULL : &options};
    gated_pack(arena, &weights, product);
}

static void pack_layer(gated_arena *arena, const gated_layer *from, gated_model_layer *layer)
{
    const size_t rows = from->kind == GATED_EMBEDDING ? from->count : 1;
    switch (from->kind) {
    case GATED_STACK:
        gated_stack_pack(layer->stack, from->stack, arena);
        break;
    case GATED_DENSE:
    case GATED_CONV:
        pack_product(arena, from, &layer->product);
        break;
    default:
        layer->is.weight = gated_take_copy(arena, from->weight, rows * from->output_size);
        layer->is.bias = gated_take_copy(arena, from->bias, from->output_size);
    }
}

static void pack_layers(gated_arena *arena, const gated_layer *layers, gated_model *model)
{
    arena->count = 0;
    for (int l = 0; l < model->num_layers; l++)
        pack_layer(arena, &layers[l], &model->layers[l]);
}

/* Into memory of the model's own, or what was packed before: GATED_BAD_SIZE if that cannot be these layers'. */
static gated_status pack(const gated_tables *tables, const gated_layer *layers, const gated_packed *given,
                         gated_model *model)
{
    gated_arena arena = {.tables = tables, .flags = model->flags, .is_filled = given != NULL};
    pack_layers(&arena, layers, model);
    if (given && (given->floats != arena.count || (uintptr_t)given->data % GATED_PACKED_ALIGNMENT != 0))
        return GATED_BAD_SIZE;
    if (!given)
        model->memory = gated_allocate(arena.count);
    if (!given && !model->memory)
        return GATED_NO_MEMORY;
    if (!given)
        memset(model->memory, 0, arena.count * sizeof(float));
    arena.floats = given ? (float *)given->data : model->memory; /* a filled arena is not written */
    pack_layers(&arena, layers, model);
    model->packed = arena.floats;
    model->packed_floats = arena.count;
    return GATED_OK;
}

static gated_status create_stack(unsigned flags, gated_model_layer *layer)
{
    gated_status status = gated_stack_create(layer->is.stack, layer->is.count, flags, &layer->stack);
    if (status == GATED_OK && gated_stack_output(layer->stack) != layer->is.output_size)
        return GATED_BAD_SIZE;
    return status;
}

static gated_status create_layer(const gated_tables *tables, unsigned flags, gated_model_layer *layer)
{
    for (const gated_kernels *const *widest = tables->of[GATED_FORMAT_float32]; *widest; widest++)
        layer->table = *widest;
    gated_status status = layer->is.kind == GATED_STACK ? create_stack(flags, layer) : GATED_OK;
    layer->is.stack = NULL;
    layer->is.weight = layer->is.bias = NULL;
    return status;
}

static int is_streamable(const gated_model_layer *layer)
{
    switch (layer->is.kind) {
    case GATED_STACK:
        return !layer->stack->reverse;
    case GATED_FLIP:
    case GATED_FLIP_MASK:
    case GATED_REPEAT:
    case GATED_RESHAPE:
        return 0;
    default:
        return 1;
    }
}

static int makes_mask(const gated_layer *layer)
{
    return layer->kind == GATED_MASKING || (layer->kind == GATED_EMBEDDING && layer->flag);
}

/* From the last layer to the first: what those behind look at. */
static void find_dead_steps_that_matter(gated_model *model)
{
    int matter = 0;
    for (int l = model->num_layers - 1; l >= 0; l--) {
        const gated_kind kind = model->layers[l].is.kind;
        model->layers[l].dead_steps_matter = matter;
        if (kind == GATED_UNMASK || kind == GATED_FLIP_MASK || kind == GATED_REPEAT || kind == GATED_RESHAPE
            || kind == GATED_CONV)
            matter = 1; /* what did not count may count again, or is beside what does */
        else if (gated_is_pool(kind) || kind == GATED_STACK)
            matter = 0;
    }
}

static void widen(gated_model *model, double width)
{
    model->widest = width > model->widest ? width : model->widest;
}

/* What the scratch of a call grows with. */
static void measure(gated_model *model, const gated_model_layer *layer)
{
    const gated_layer *is = &layer->is;
    widen(model, is->input_size);
    widen(model, is->output_size);
    for (int l = 0; layer->stack && l < layer->stack->num_layers; l++) {
        widen(model, layer->stack->layers[l].output_size);
        widen(model, 2.0 * layer->stack->layers[l].scan[0].hidden_size);
        model->kept += 4.0 * layer->stack->layers[l].output_size;
    }
    if (is->kind == GATED_CONV)
        model->kept += (double)is->input_size * gated_steps_before(is);
    if (is->kind == GATED_REPEAT || is->kind == GATED_RESHAPE)
        model->most_steps = is->count > model->most_steps ? is->count : model->most_steps;
}

gated_status gated_check_scratch(const gated_model *model, int64_t batch, int64_t seq_len)
{
    const double steps = seq_len > model->most_steps ? seq_len : model->most_steps;
    const double floats = (steps + 1) * batch * model->widest * 4 + model->kept * batch;
    return floats < MOST_FLOATS ? GATED_OK : GATED_NO_MEMORY;
}

/* A reshape takes so many numbers, a repeat a vector: what the steps before them must be. */
static gated_status count_steps(gated_model *model)
{
    int64_t steps = 0; /* as many as x has */
    for (int l = 0; l < model->num_layers; l++) {
        const gated_layer *layer = &model->layers[l].is;
        if (gated_is_pool(layer->kind))
            steps = 1;
        if (layer->kind != GATED_REPEAT && layer->kind != GATED_RESHAPE)
            continue;
        const int64_t in = layer->input_size;
        const int64_t numbers = layer->kind == GATED_REPEAT ? in : (int64_t)layer->count * layer->output_size;
        if (steps == 0)
            model->input_steps = steps = numbers / in;
        if (steps * in != numbers)
            return GATED_BAD_SIZE;
        steps = layer->count;
    }
    model->output_steps = steps;
    return GATED_OK;
}

static gated_status describe(gated_model *model)
{
    model->streamable = 1;
    for (int l = 0; l < model->num_layers; l++) {
        gated_model_layer *layer = &model->layers[l];
        model->streamable &= is_streamable(layer);
        model->makes_mask |= makes_mask(&layer->is);
        measure(model, layer);
        layer->state_offset = model->state_per_row;
        if (layer->stack)
            model->state_per_row += layer->stack->state_per_row;
    }
    find_dead_steps_that_matter(model);
    return count_steps(model);
}

gated_status gated_model_create_packed(const gated_layer *layers, int num_layers, unsigned flags,
                                       const gated_packed *packed, gated_model **created)
{
    const gated_tables *tables = NULL;
    gated_status status = check(layers, num_layers, flags);
    if (status == GATED_OK)
        status = gated_chosen_tables(&tables);
    if (status != GATED_OK)
        return status;

    gated_model *model = calloc(1, sizeof *model + num_layers * sizeof *model->layers);
    if (!model)
        return GATED_NO_MEMORY;
    model->num_layers = num_layers;
    model->flags = flags;
    for (int l = 0; l < num_layers && status == GATED_OK; l++) {
        model->layers[l].is = layers[l];
        status = create_layer(tables, flags, &model->layers[l]);
    }
    if (status == GATED_OK)
        status = pack(tables, layers, packed, model);
    if (status == GATED_OK)
        status = describe(model);
    if (status != GATED_OK) {
        gated_model_free(model);
        return status;
    }
    model->structure = gated_structure(layers, num_layers);
    *created = model;
    return GATED_OK;
}

gated_status gated_model_create(const gated_layer *layers, int num_layers, unsigned flags, gated_model **model)
{
    return gated_model_create_packed(layers, num_layers, flags, NULL, model);
}

void gated_model_free(gated_model *model)
{
    if (!model)
        return;
    for (int l = 0; l < model->num_layers; l++)
        gated_stack_free(model->layers[l].stack);
    free(model->memory);
    gated_unmap_file(&model->file);
    free(model);
}

void gated_model_describe(const gated_model *model, gated_model_info *info)
{
    const gated_layer *first = &model->layers[0].is, *last = &model->layers[model->num_layers - 1].is;
    *info = (gated_model_info){
        .input_size = first->input_size,
        .output_size = last->output_size,
        .takes_ids = first->kind == GATED_EMBEDDING ? first->count : 0,
        .gives_vector = model->output_steps == 1,
        .streamable = model->streamable,
        .input_steps = model->input_steps,
        .output_steps = model->output_steps,
    };
}

size_t gated_model_bytes(const gated_model *model)
{
    return model->packed_floats * sizeof(float);
}

void gated_model_packed(const gated_model *model, gated_packed *packed)
{
    *packed = (gated_packed){model->packed, model->packed_floats};
}

size_t gated_state_size(const gated_model *model, int64_t batch)
{
    return model->state_per_row * (size_t)batch;
}

void gated_state_init(const gated_model *model, int64_t batch, float *state)
{
    for (int l = 0; l < model->num_layers; l++) {
        const gated_model_layer *layer = &model->layers[l];
        for (int64_t n = 0; layer->stack && n < batch; n++)
            gated_stack_set_row(layer->stack, state + layer->state_offset * batch, NULL, batch, n);
    }
}

/* Steps and rows of every stack times what one of them takes: c's, or all gates. */
static size_t trace_size(const gated_model *model, int64_t seq_len, int64_t batch, int gates)
{
    size_t floats = 0;
    for (int l = 0; l < model->num_layers; l++) {
        const gated_model_layer *layer = &model->layers[l];
        if (layer->stack)
            floats += (gates ? layer->stack->gates_per_row : layer->stack->c_per_row) * (size_t)(seq_len * batch);
        seq_len = gated_steps_after(&layer->is, seq_len);
    }
    return floats;
}

size_t gated_trace_c_size(const gated_model *model, int64_t seq_len, int64_t batch)
{
    return trace_size(model, seq_len, batch, 0);
}

size_t gated_trace_gates_size(const gated_model *model, int64_t seq_len, int64_t batch)
{
    return trace_size(model, seq_len, batch, 1);
}
