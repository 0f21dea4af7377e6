/* All that a row keeps, and its snapshot: the same bytes wherever the row lives. After a header that says whose they are
 * and that they are whole come the state, laid out as by gated_state_size() of one row, then layer by layer the steps that
 * convolutions remember and what pools over time have come to. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    uint64_t magic;          /* also of the order of bytes and the version of the layout */
    uint64_t size;           /* of all */
    uint64_t structure;
    uint64_t checksum;       /* of the structure and what follows */
} header;

static const uint64_t MAGIC = 0x0001776f72646774; /* "tgdrow", version 1 */

/* Hashes: FNV-1a over words, folded so that every bit of the result depends on all before. */

static const uint64_t BASIS = 0xcbf29ce484222325;

static uint64_t mixed(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * 0x100000001b3;
    return hash ^ hash >> 32;
}

static uint64_t mixed_float(uint64_t hash, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return mixed(hash, bits);
}

static uint64_t mixed_activation(uint64_t hash, const gated_activation *a)
{
    return mixed_float(mixed_float(mixed(hash, a->function), a->alpha), a->beta);
}

static uint64_t mixed_options(uint64_t hash, const gated_options *options)
{
    if (!options)
        return mixed(hash, 0);
    for (int i = 0; i < 3; i++)
        hash = mixed_activation(hash, &options->activation[i]);
    hash = mixed_float(hash, options->clip);
    return mixed(mixed(hash, options->clip_output), options->input_forget);
}

static uint64_t mixed_recurrent(uint64_t hash, const gated_recurrent *layer)
{
    hash = mixed(mixed(hash, layer->cell), layer->input_size);
    hash = mixed(mixed(hash, layer->hidden_size), layer->proj_size);
    hash = mixed(mixed(hash, layer->num_directions), layer->reverse);
    for (int d = 0; d < layer->num_directions; d++)
        hash = mixed(mixed_options(hash, layer->weights[d].options), layer->weights[d].peephole != NULL);
    return hash;
}

uint64_t gated_structure(const gated_layer *layers, int num_layers)
{
    uint64_t hash = BASIS;
    for (int l = 0; l < num_layers; l++) {
        const gated_layer *layer = &layers[l];
        hash = mixed(mixed(mixed(hash, layer->kind), layer->input_size), layer->output_size);
        hash = mixed(mixed(mixed(hash, layer->count), layer->dilation), layer->flag);
        hash = mixed_float(mixed_activation(mixed(hash, layer->masked), &layer->activation), layer->value);
        for (int i = 0; layer->kind == GATED_STACK && i < layer->count; i++)
            hash = mixed_recurrent(hash, &layer->stack[i]);
    }
    return hash;
}

static uint64_t checksum(uint64_t structure, const unsigned char *bytes, size_t size)
{
    uint64_t hash = mixed(BASIS, structure), word;
    for (; size > 0; size -= sizeof word, bytes += sizeof word) {
        memcpy(&word, bytes, sizeof word);
        hash = mixed(hash, word);
    }
    return hash;
}

/* What a layer keeps beside its state: so many floats, then whether it counts steps, for what it gives depends on it. */

static size_t kept_floats(const gated_layer *layer)
{
    if (layer->kind == GATED_CONV)
        return (size_t)gated_steps_before(layer) * layer->input_size;
    return gated_is_pool(layer->kind) ? (size_t)layer->input_size : 0;
}

static int counts_steps(const gated_model *model, const gated_layer *layer)
{
    const int repeats = layer->kind == GATED_STACK && layer->masked == GATED_REPEAT_OUTPUT;
    return gated_is_pool(layer->kind) || (repeats && model->makes_mask);
}

static size_t payload_bytes(const gated_model *model)
{
    size_t bytes = model->state_per_row * sizeof(float);
    for (int l = 0; l < model->num_layers; l++)
        bytes += kept_floats(&model->layers[l].is) * sizeof(float)
                 + (counts_steps(model, &model->layers[l].is) ? sizeof(int64_t) : 0);
    return bytes;
}

size_t gated_snapshot_size(const gated_model *model)
{
    return sizeof(header) + (payload_bytes(model) + sizeof(uint64_t) - 1) / sizeof(uint64_t) * sizeof(uint64_t);
}

/* One more step must not overflow them. */
static int counts_in_range(const gated_model *model, const unsigned char *at)
{
    at += model->state_per_row * sizeof(float);
    for (int l = 0; l < model->num_layers; l++) {
        const gated_layer *layer = &model->layers[l].is;
        int64_t count = 0;
        at += kept_floats(layer) * sizeof(float);
        if (counts_steps(model, layer)) {
            memcpy(&count, at, sizeof count);
            at += sizeof count;
        }
        if (count < 0 || count > INT64_MAX / 2)
            return 0;
    }
    return 1;
}

gated_status gated_snapshot_check(const gated_model *model, const void *bytes, size_t size)
{
    const unsigned char *payload = (const unsigned char *)bytes + sizeof(header);
    header head;
    if (size < sizeof head || size % sizeof(uint64_t))
        return GATED_BAD_SNAPSHOT;
    memcpy(&head, bytes, sizeof head);
    if (head.magic != MAGIC)
        return GATED_BAD_SNAPSHOT;
    if (model && head.structure != model->structure)
        return GATED_FOREIGN_SNAPSHOT;
    if (head.size != size || head.checksum != checksum(head.structure, payload, size - sizeof head))
        return GATED_BAD_SNAPSHOT;
    if (model && (size != gated_snapshot_size(model) || !counts_in_range(model, payload)))
        return GATED_BAD_SNAPSHOT;
    return GATED_OK;
}

/* Arrays [N] of what the rows of a chain keep: those of the state, then the others. */

static void add_array(gated_kept *kept, void *base, size_t bytes)
{
    kept->arrays[kept->count++] = (gated_kept_array){base, bytes};
}

static void add_state(gated_kept *kept, const gated_stack *stack, float *state, int64_t batch)
{
    for (int l = 0; l < stack->num_layers; l++) {
        const gated_scan *scan = &stack->layers[l].scan[0];
        add_array(kept, state + scan->h_offset * batch, scan->output_size * sizeof *state);
    }
    for (int l = 0; l < stack->num_layers; l++) {
        const gated_scan *scan = &stack->layers[l].scan[0];
        if (scan->has_c)
            add_array(kept, state + scan->c_offset * batch, scan->hidden_size * sizeof *state);
    }
}

static void add_memory(gated_kept *kept, const gated_model *model, const gated_layer *layer, const gated_memory *memory)
{
    if (kept_floats(layer))
        add_array(kept, layer->kind == GATED_CONV ? gated_conv_history(layer, memory) : memory->values,
                  kept_floats(layer) * sizeof(float));
    if (counts_steps(model, layer))
        add_array(kept, memory->counts, sizeof *memory->counts);
}

gated_status gated_kept_create(gated_chain *chain)
{
    size_t most = 0;
    for (int l = 0; l < chain->model->num_layers; l++)
        most += 2 + (chain->model->layers[l].stack ? 2 * chain->model->layers[l].stack->num_layers : 0);
    gated_kept *kept = &chain->kept;
    kept->arrays = malloc(most * sizeof *kept->arrays);
    if (!kept->arrays)
        return GATED_NO_MEMORY;
    for (int l = 0; l < chain->model->num_layers; l++) {
        const gated_model_layer *layer = &chain->model->layers[l];
        if (layer->stack)
            add_state(kept, layer->stack, chain->state + layer->state_offset * chain->batch, chain->batch);
    }
    kept->states = kept->count;
    for (int l = 0; l < chain->model->num_layers; l++)
        add_memory(kept, chain->model, &chain->model->layers[l].is, &chain->memory[l]);
    return GATED_OK;
}

static unsigned char *place(const gated_kept_array *array, int64_t n)
{
    return array->base + n * array->bytes;
}

void gated_row_reset(const gated_chain *chain, int64_t n)
{
    const gated_kept *kept = &chain->kept;
    for (int l = 0; l < chain->model->num_layers; l++) {
        const gated_model_layer *layer = &chain->model->layers[l];
        if (layer->stack)
            gated_stack_set_row(layer->stack, chain->state + layer->state_offset * chain->batch, NULL, chain->batch, n);
    }
    for (int i = kept->states; i < kept->count; i++)
        memset(place(&kept->arrays[i], n), 0, kept->arrays[i].bytes);
}

void gated_row_copy(const gated_chain *chain, int64_t from, int64_t to)
{
    for (int i = 0; i < chain->kept.count; i++) {
        const gated_kept_array *array = &chain->kept.arrays[i];
        memcpy(place(array, to), place(array, from), array->bytes);
    }
}

void gated_row_save(const gated_chain *chain, int64_t n, void *bytes)
{
    const size_t size = gated_snapshot_size(chain->model);
    unsigned char *payload = (unsigned char *)bytes + sizeof(header), *at = payload;
    for (int i = 0; i < chain->kept.count; i++) {
        const gated_kept_array *array = &chain->kept.arrays[i];
        memcpy(at, place(array, n), array->bytes);
        at += array->bytes;
    }
    memset(at, 0, (unsigned char *)bytes + size - at);
    const uint64_t structure = chain->model->structure;
    const header head = {MAGIC, size, structure, checksum(structure, payload, size - sizeof head)};
    memcpy(bytes, &head, sizeof head);
}

gated_status gated_row_restore(const gated_chain *chain, int64_t n, const void *bytes)
{
    gated_status status = gated_snapshot_check(chain->model, bytes, gated_snapshot_size(chain->model));
    if (status != GATED_OK)
        return status;
    const unsigned char *at = (const unsigned char *)bytes + sizeof(header);
    for (int i = 0; i < chain->kept.count; i++) {
        const gated_kept_array *array = &chain->kept.arrays[i];
        memcpy(place(array, n), at, array->bytes);
        at += array->bytes;
    }
    return GATED_OK;
}
