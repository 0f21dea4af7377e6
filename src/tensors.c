/* safetensors: 8 bytes, the size of a JSON header; the header, which gives each tensor its type, shape and place; the
 * tensors. Ours stand one behind the other in the order of the header, each on a multiple of its elements' bytes. */
#include "file.h"

#include <stdlib.h>
#include <string.h>

enum {
    MAX_HEADER = 100000000, /* bytes, as for every reader of safetensors */
    LEAST_ENTRY = 48        /* bytes of "":{"dtype":"F32","shape":[],"data_offsets":[0,0]} */
};

/* A metadata entry that appears twice is as wrong as one that is not there. */
static void read_metadata(gated_json *json, gated_tensor_file *file)
{
    static const char *const names[] = {"gated_version", "gated_layers", "gated_core", "gated_flags", "gated_packing",
                                        "gated_crc32"};
    gated_text *const entries[] = {&file->version, &file->layers, &file->core, &file->flags, &file->packing,
                                   &file->checksum};
    gated_json_open(json, '{');
    for (int first = 1; gated_json_more(json, '}', first); first = 0) {
        const gated_text name = gated_json_key(json), value = gated_json_string(json);
        const int entry = gated_text_among(name, names, sizeof names / sizeof *names);
        if (entry < 0 || json->broken)
            continue;
        json->broken |= entries[entry]->at != NULL;
        *entries[entry] = value;
    }
}

/* The product of all axes, no more than `most`. */
static void read_shape(gated_json *json, int64_t most, gated_tensor *tensor)
{
    tensor->size = 1;
    gated_json_open(json, '[');
    for (int first = 1; gated_json_more(json, ']', first); first = 0) {
        const int64_t length = gated_json_integer(json, most);
        json->broken |= length && tensor->size > most / length;
        tensor->size *= json->broken ? 0 : length;
        if (tensor->axes < GATED_MAX_AXES)
            tensor->shape[tensor->axes] = length;
        tensor->axes++;
    }
}

static void read_offsets(gated_json *json, int64_t most, int64_t offsets[2])
{
    gated_json_open(json, '[');
    for (int i = 0; i < 2; i++)
        offsets[i] = gated_json_more(json, ']', i == 0) ? gated_json_integer(json, most) : 0;
    json->broken |= gated_json_more(json, ']', 0);
}

static const char *const dtypes[] = {[GATED_F32] = "F32", [GATED_BF16] = "BF16", [GATED_I8] = "I8"};

size_t gated_dtype_bytes(gated_dtype dtype)
{
    static const unsigned char bytes[] = {[GATED_F32] = 4, [GATED_BF16] = 2, [GATED_I8] = 1};
    return bytes[dtype];
}

static gated_dtype read_dtype(gated_json *json)
{
    const int found = gated_text_among(gated_json_string(json), dtypes, sizeof dtypes / sizeof *dtypes);
    json->broken |= found < 0;
    return found < 0 ? GATED_F32 : (gated_dtype)found;
}

/* Type, shape and place of a tensor that begins at `start`; returns where it ends. */
static int64_t read_tensor(gated_json *json, const gated_tensor_file *file, int64_t start, gated_tensor *tensor)
{
    enum { DTYPE, SHAPE, OFFSETS, ALL };
    static const char *const fields[] = {"dtype", "shape", "data_offsets"};
    int64_t offsets[2] = {0, 0};
    int seen = 0;
    gated_json_open(json, '{');
    for (int first = 1; gated_json_more(json, '}', first); first = 0) {
        const int field = gated_text_among(gated_json_key(json), fields, ALL);
        if (field < 0 || seen >> field & 1) {
            json->broken = 1;
            break;
        }
        seen |= 1 << field;
        if (field == DTYPE)
            tensor->dtype = read_dtype(json);
        else if (field == SHAPE)
            read_shape(json, (int64_t)file->body_size, tensor);
        else
            read_offsets(json, (int64_t)file->body_size, offsets);
    }
    const int64_t width = (int64_t)gated_dtype_bytes(tensor->dtype), stop = start + tensor->size * width;
    json->broken |= seen != (1 << ALL) - 1 || start % width != 0 || offsets[0] != start || offsets[1] != stop;
    if (!json->broken)
        tensor->data = file->body + start;
    return offsets[1];
}

static void read_header(gated_json *json, gated_tensor_file *file)
{
    int64_t at = 0;
    gated_json_open(json, '{');
    for (int first = 1; gated_json_more(json, '}', first); first = 0) {
        const gated_text name = gated_json_key(json);
        if (gated_text_is(name, "__metadata__")) {
            read_metadata(json, file);
            continue;
        }
        gated_tensor *tensor = &file->tensors[file->num_tensors++];
        tensor->name = name;
        at = read_tensor(json, file, at, tensor);
    }
    gated_json_end(json);
    json->broken |= (size_t)at != file->body_size;
}

static int compare_texts(gated_text a, gated_text b)
{
    const int order = memcmp(a.at, b.at, a.length < b.length ? a.length : b.length);
    return order ? order : (a.length > b.length) - (a.length < b.length);
}

static int compare_names(const void *a, const void *b)
{
    return compare_texts(((const gated_tensor *)a)->name, ((const gated_tensor *)b)->name);
}

/* Whether, in order, all names differ and stand for themselves. */
static int names_are_plain(const gated_tensor_file *file)
{
    for (int i = 0; i < file->num_tensors; i++) {
        const gated_text name = file->tensors[i].name;
        if (memchr(name.at, '\\', name.length) || (i > 0 && compare_names(&file->tensors[i - 1], &file->tensors[i]) == 0))
            return 0;
    }
    return 1;
}

static uint64_t header_size(const unsigned char *bytes)
{
    uint64_t size = 0;
    for (int i = 7; i >= 0; i--)
        size = size << 8 | bytes[i];
    return size;
}

gated_status gated_tensor_file_read(const unsigned char *bytes, size_t size, gated_tensor_file *file)
{
    enum { PREFIX = 8 };
    *file = (gated_tensor_file){0};
    const uint64_t header = size < PREFIX ? MAX_HEADER : header_size(bytes);
    if (header >= MAX_HEADER || header > size - PREFIX || header % sizeof(float) != 0)
        return GATED_BAD_FILE;
    file->body = bytes + PREFIX + header;
    file->body_size = size - PREFIX - (size_t)header;
    file->tensors = calloc((size_t)header / LEAST_ENTRY + 1, sizeof *file->tensors);
    if (!file->tensors)
        return GATED_NO_MEMORY;

    gated_json json = {(const char *)bytes + PREFIX, (const char *)file->body, 0};
    read_header(&json, file);
    if (json.broken)
        return GATED_BAD_FILE;
    qsort(file->tensors, file->num_tensors, sizeof *file->tensors, compare_names);
    return names_are_plain(file) ? GATED_OK : GATED_BAD_FILE;
}

void gated_tensor_file_free(gated_tensor_file *file)
{
    for (int i = 0; i < file->num_tensors; i++)
        free(file->tensors[i].expanded);
    free(file->tensors);
    file->tensors = NULL;
}

gated_tensor *gated_find_tensor(const gated_tensor_file *file, gated_text name)
{
    const gated_tensor wanted = {.name = name};
    return bsearch(&wanted, file->tensors, file->num_tensors, sizeof *file->tensors, compare_names);
}
