/* .gated files to models: what gated_core says of each layer, and its weights from among the tensors. */
#include "file.h"
#include "internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    LEAST_LAYER = 40, /* characters: {"kind":"flip","input_size":1,"output_size":1} has a few more */
    MOST_NAME = 64    /* and of 2147483647.weight_peephole_l2147483647_reverse.scale */
};

typedef struct {
    gated_tensor_file tensors;
    char *text;                    /* of metadata, without its escapes */
    gated_layer *layers;
    gated_options (*options)[2];   /* of each layer, by direction */
    int num_layers;
    gated_recurrent *recurrent;    /* of all stacks, one behind the other */
    int num_recurrent, max_recurrent;
    uint32_t flags;
    gated_packed packed;           /* all weights, if the file has them as they are needed */
    int no_memory;
    int is_newer;                  /* something is named that this build does not know */
} gated_reader;

/* A tensor of exactly that shape; each is taken once, so that a model is no larger than its file. */
static gated_tensor *take(gated_reader *reader, gated_text name, const int64_t *shape, int axes)
{
    gated_tensor *tensor = gated_find_tensor(&reader->tensors, name);
    if (!tensor || tensor->taken || tensor->axes != axes || memcmp(tensor->shape, shape, axes * sizeof *shape) != 0)
        return NULL;
    tensor->taken = 1;
    return tensor;
}

static const float *take_tensor(gated_reader *reader, gated_text name, const int64_t *shape, int axes)
{
    const gated_tensor *tensor = take(reader, name, shape, axes);
    return tensor && tensor->dtype == GATED_F32 ? tensor->data : NULL;
}

static void append(char *name, size_t *length, const char *word)
{
    while (*word)
        name[(*length)++] = *word++;
}

static void append_number(char *name, size_t *length, int number)
{
    char digits[12];
    int at = sizeof digits;
    digits[--at] = 0;
    do
        digits[--at] = (char)('0' + number % 10);
    while (number /= 10);
    append(name, length, digits + at);
}

static void expand_bfloat16(const uint16_t *from, int64_t size, float *to)
{
    for (int64_t i = 0; i < size; i++) {
        const uint32_t bits = (uint32_t)from[i] << 16;
        memcpy(to + i, &bits, sizeof bits);
    }
}

static void expand_int8(const int8_t *from, const float *scale, int64_t rows, int64_t columns, float *to)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < columns; k++)
            to[r * columns + k] = (float)from[r * columns + k] * scale[r];
}

/* The numbers of a matrix of any type. What is packed already is not expanded: nothing reads it. */
static const float *expand(gated_reader *reader, gated_tensor *tensor, const float *scale)
{
    if (tensor->dtype == GATED_F32)
        return tensor->data;
    if (reader->packed.data)
        return reader->packed.data;
    tensor->expanded = malloc((size_t)tensor->size * sizeof *tensor->expanded + !tensor->size);
    reader->no_memory |= !tensor->expanded;
    if (tensor->expanded && tensor->dtype == GATED_BF16)
        expand_bfloat16(tensor->data, tensor->size, tensor->expanded);
    else if (tensor->expanded)
        expand_int8(tensor->data, scale, tensor->shape[0], tensor->shape[1], tensor->expanded);
    return tensor->expanded;
}

/* Where a weight of a stack belongs. */
typedef struct {
    int stack, layer, direction;
} gated_place;

/* <stack>.<word>_l<layer>[_reverse]; returns how long it is. */
static size_t name_weight(gated_place place, const char *word, char *name)
{
    size_t length = 0;
    append_number(name, &length, place.stack);
    append(name, &length, ".");
    append(name, &length, word);
    append(name, &length, "_l");
    append_number(name, &length, place.layer);
    append(name, &length, place.direction ? "_reverse" : "");
    return length;
}

/* [size]. NULL is noted in *missing. */
static const float *take_vector(gated_reader *reader, gated_place place, const char *word, int64_t size, int *missing)
{
    char name[MOST_NAME];
    const size_t length = name_weight(place, word, name);
    const float *data = take_tensor(reader, (gated_text){name, length}, &size, 1);
    *missing |= !data;
    return data;
}

/* [rows, columns], of 8-bit integers with a scale for each row beside them. NULL is noted in *missing. */
static const float *take_matrix(gated_reader *reader, gated_place place, const char *word, int64_t rows,
                                int64_t columns, int *missing)
{
    const int64_t shape[] = {rows, columns};
    char name[MOST_NAME];
    const float *data = NULL, *scale = NULL;
    size_t length = name_weight(place, word, name);
    gated_tensor *tensor = take(reader, (gated_text){name, length}, shape, 2);
    const int is_scaled = tensor && tensor->dtype == GATED_I8;
    append(name, &length, ".scale");
    if (is_scaled)
        scale = take_tensor(reader, (gated_text){name, length}, shape, 1);
    if (tensor && !is_scaled == !scale)
        data = expand(reader, tensor, scale);
    *missing |= !data;
    return data;
}

/* Every weight that one direction of one recurrent layer can have. */
static int read_weights(gated_reader *reader, gated_place place, const gated_words *w, gated_recurrent *layer)
{
    const int64_t hidden = layer->hidden_size, rows = gated_cell_gates(layer->cell) * hidden;
    const int64_t h_size = layer->proj_size ? layer->proj_size : hidden;
    gated_weights *weights = &layer->weights[place.direction];
    int missing = 0, may_miss = 0;
    weights->weight_ih = take_matrix(reader, place, "weight_ih", rows, layer->input_size, &missing);
    weights->weight_hh = take_matrix(reader, place, "weight_hh", rows, h_size, &missing);
    if (w->biases) {
        weights->bias_ih = take_vector(reader, place, "bias_ih", rows, &missing);
        weights->bias_hh = take_vector(reader, place, "bias_hh", rows, &missing);
    }
    if (layer->proj_size)
        weights->weight_hr = take_matrix(reader, place, "weight_hr", h_size, hidden, &missing);
    if (w->peepholes)
        weights->peephole = take_vector(reader, place, "weight_peephole", 3 * hidden, &missing);
    weights->initial_h = take_vector(reader, place, "initial_h", h_size, &may_miss);
    if (gated_cell_has_c(layer->cell))
        weights->initial_c = take_vector(reader, place, "initial_c", hidden, &may_miss);
    if (w->num_options) {
        reader->options[place.stack][place.direction] = w->options[place.direction];
        weights->options = &reader->options[place.stack][place.direction];
    }
    return !missing && gated_words_h_limit(w, place.layer, place.direction, &weights->h_limit);
}

static int read_stack(gated_reader *reader, int index, const gated_words *w)
{
    gated_recurrent *stack = reader->recurrent + reader->num_recurrent;
    const int count = w->layer.count, directions = w->recurrent.num_directions;
    if (count > reader->max_recurrent - reader->num_recurrent)
        return 0;
    reader->num_recurrent += count;
    reader->layers[index].stack = stack;
    for (int l = 0; l < count; l++) {
        stack[l] = w->recurrent;
        stack[l].input_size = l == 0 ? w->layer.input_size : w->layer.output_size;
        for (int d = 0; d < directions; d++)
            if (!read_weights(reader, (gated_place){index, l, d}, w, &stack[l]))
                return 0;
    }
    return 1;
}

/* Of the weight of a plain layer; returns how many axes, 0 for none. */
static int weight_shape(const gated_layer *layer, int64_t shape[GATED_MAX_AXES])
{
    const int64_t in = layer->input_size, out = layer->output_size, count = layer->count;
    switch (layer->kind) {
    case GATED_EMBEDDING:
        memcpy(shape, (int64_t[]){count, out}, 2 * sizeof *shape);
        return 2;
    case GATED_DENSE:
        memcpy(shape, (int64_t[]){out, in}, 2 * sizeof *shape);
        return 2;
    case GATED_CONV:
        memcpy(shape, (int64_t[]){out, count, in}, 3 * sizeof *shape);
        return 3;
    case GATED_SCALE:
    case GATED_LAYER_NORM:
        shape[0] = out;
        return 1;
    default:
        return 0;
    }
}

static int read_plain(gated_reader *reader, int index, const gated_words *w)
{
    gated_layer *layer = &reader->layers[index];
    int64_t shape[GATED_MAX_AXES];
    const int64_t features = layer->output_size;
    const int axes = weight_shape(layer, shape);
    if (w->weight.at)
        layer->weight = axes ? take_tensor(reader, w->weight, shape, axes) : NULL;
    if (w->bias.at)
        layer->bias = axes ? take_tensor(reader, w->bias, &features, 1) : NULL;
    return !w->weight.at == !layer->weight && !w->bias.at == !layer->bias;
}

/* Files */

static int read_layer(gated_json *json, gated_reader *reader)
{
    const gated_words w = gated_words_read(json, &reader->is_newer);
    const int index = reader->num_layers++;
    if (json->broken || reader->is_newer)
        return 0;
    reader->layers[index] = w.layer;
    return w.layer.kind == GATED_STACK ? read_stack(reader, index, &w) : read_plain(reader, index, &w);
}

static const char golden[] = "golden.", packed[] = "packed.";

static int begins_with(gated_text name, const char *prefix)
{
    const size_t length = strlen(prefix);
    return name.length > length && !memcmp(name.at, prefix, length);
}

static int all_taken(const gated_tensor_file *file)
{
    for (int i = 0; i < file->num_tensors; i++) {
        const gated_tensor *tensor = &file->tensors[i];
        if (!tensor->taken && !begins_with(tensor->name, golden) && !begins_with(tensor->name, packed))
            return 0;
    }
    return 1;
}

/* Weights packed as the chosen instruction set wants them, where it can read them, or NULL. Another program that copied the
 * file may have moved them. */
static gated_packed find_packed(const gated_tensor_file *file)
{
    const gated_packed none = {0};
    const gated_isa_info *isa;
    char version[12] = {0}, name[64];
    size_t digits = 0, length = 0;
    append_number(version, &digits, GATED_PACKING);
    if (!file->packing.at || !gated_text_is(file->packing, version) || gated_isa_chosen(&isa) != GATED_OK)
        return none;
    append(name, &length, packed);
    append(name, &length, isa->name);
    const gated_tensor *tensor = gated_find_tensor(file, (gated_text){name, length});
    if (!tensor || tensor->dtype != GATED_F32 || (uintptr_t)tensor->data % GATED_PACKED_ALIGNMENT != 0)
        return none;
    return (gated_packed){tensor->data, (size_t)tensor->size};
}

static gated_status read_layers(gated_reader *reader, size_t length)
{
    gated_json json = {reader->text, reader->text + length, 0};
    reader->layers = calloc(length / LEAST_LAYER + 1, sizeof *reader->layers);
    reader->options = calloc(length / LEAST_LAYER + 1, sizeof *reader->options);
    reader->max_recurrent = reader->tensors.num_tensors / 2; /* each has at least two */
    reader->recurrent = calloc((size_t)reader->max_recurrent + 1, sizeof *reader->recurrent);
    if (!reader->layers || !reader->options || !reader->recurrent)
        return GATED_NO_MEMORY;
    gated_json_open(&json, '[');
    for (int first = 1; gated_json_more(&json, ']', first); first = 0)
        json.broken |= !read_layer(&json, reader);
    gated_json_end(&json);
    if (reader->no_memory)
        return GATED_NO_MEMORY;
    if (reader->is_newer)
        return GATED_UNSUPPORTED_FILE;
    return json.broken || !all_taken(&reader->tensors) ? GATED_BAD_FILE : GATED_OK;
}

/* The text of a metadata entry to reader->text; goes into the checksum, too. */
static ptrdiff_t read_text(gated_reader *reader, gated_text entry, const gated_crc32_tables *tables, uint32_t *crc)
{
    const ptrdiff_t length = entry.at ? gated_text_unescape(entry, reader->text) : -1;
    if (length >= 0)
        *crc = gated_crc32(tables, *crc, reader->text, length);
    return length;
}

/* Leaves the text of the layers in reader->text and returns its length, or -1 for a broken file. */
static ptrdiff_t check_sum(gated_reader *reader)
{
    const gated_tensor_file *file = &reader->tensors;
    gated_crc32_tables tables;
    uint32_t crc = 0, expected;
    gated_crc32_prepare(&tables);
    const int is_described = read_text(reader, file->layers, &tables, &crc) >= 0;
    const ptrdiff_t length = read_text(reader, file->core, &tables, &crc);
    if (!is_described || length < 0 || !file->checksum.at || !gated_text_bits(file->checksum, &expected)
        || !file->flags.at || !gated_text_bits(file->flags, &reader->flags))
        return -1;
    crc = gated_crc32(&tables, crc, file->flags.at, file->flags.length);
    if (file->packing.at)
        crc = gated_crc32(&tables, crc, file->packing.at, file->packing.length);
    for (int i = 0; i < file->num_tensors; i++) {
        const gated_tensor *tensor = &file->tensors[i];
        crc = gated_crc32(&tables, crc, tensor->data, (size_t)tensor->size * gated_dtype_bytes(tensor->dtype));
    }
    return crc == expected ? length : -1;
}

static gated_status read_file(gated_reader *reader, const unsigned char *bytes, size_t size)
{
    gated_tensor_file *file = &reader->tensors;
    gated_status status = gated_tensor_file_read(bytes, size, file);
    if (file->version.at && !gated_text_is(file->version, "1"))
        return GATED_UNSUPPORTED_FILE;
    if (status != GATED_OK || !file->version.at)
        return status == GATED_OK ? GATED_BAD_FILE : status;
    reader->text = malloc(file->layers.length + file->core.length + 1);
    if (!reader->text)
        return GATED_NO_MEMORY;
    const ptrdiff_t length = check_sum(reader);
    reader->is_newer = reader->flags > GATED_ALL_FLAGS;
    reader->packed = find_packed(&reader->tensors);
    return length < 0 ? GATED_BAD_FILE : read_layers(reader, length);
}

static int host_is_little_endian(void)
{
    const uint32_t one = 1;
    unsigned char first;
    memcpy(&first, &one, 1);
    return first == 1;
}

gated_status gated_model_read(const unsigned char *bytes, size_t size, gated_model **model)
{
    gated_reader reader = {0};
    gated_status status = host_is_little_endian() ? read_file(&reader, bytes, size) : GATED_UNSUPPORTED_FILE;
    if (status == GATED_OK)
        status = gated_model_create_packed(reader.layers, reader.num_layers, reader.flags,
                                           reader.packed.data ? &reader.packed : NULL, model);
    gated_tensor_file_free(&reader.tensors);
    free(reader.text);
    free(reader.layers);
    free(reader.options);
    free(reader.recurrent);
    return status == GATED_BAD_SIZE ? GATED_BAD_FILE : status;
}

gated_status gated_model_open(const char *path, gated_model **model)
{
    gated_mapping file;
    gated_status status = gated_map_file(path, &file);
    if (status != GATED_OK)
        return status;
    status = gated_model_read(file.bytes, file.size, model);
    if (status == GATED_OK && !(*model)->memory)
        (*model)->file = file;
    else
        gated_unmap_file(&file);
    return status;
}
