/* libFuzzer's target for the reader of .gated files. An input that begins with '{' is the header of a file, put together
 * here with its size and with tensors to its offsets; any other is a whole file. Every checksum is 0, in place of
 * src/crc32.c, so that mutations get past it. A model that comes of it runs, if it is small enough to be quick. */
#define _POSIX_C_SOURCE 200809L
#include "file.h"
#include "internal.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);

enum { MAX_BODY = 1 << 18, QUICK = 64, STEPS = 3, BATCH = 2 };

void gated_crc32_prepare(gated_crc32_tables *tables)
{
    (void)tables;
}

uint32_t gated_crc32(const gated_crc32_tables *tables, uint32_t crc, const void *data, size_t size)
{
    (void)tables, (void)crc, (void)data, (void)size;
    return 0;
}

/* Text */

/* Behind the next of these words, or NULL; from NULL as well. */
static const char *find(const char *at, const char *end, const char *word)
{
    const size_t length = strlen(word);
    for (; at && (size_t)(end - at) >= length; at++)
        if (!memcmp(at, word, length))
            return at + length;
    return NULL;
}

static const char *read_number(const char *at, const char *end, uint64_t *number)
{
    while (at < end && (*at < '0' || *at > '9'))
        at++;
    for (*number = 0; at < end && *at >= '0' && *at <= '9'; at++)
        *number = *number * 10 + (uint64_t)(*at - '0');
    return at;
}

/* Bytes of tensors: where the last one ends. */
static size_t body_size(const char *at, const char *end)
{
    uint64_t start, stop = 0;
    while ((at = find(at, end, "data_offsets\":")))
        at = read_number(read_number(at, end, &start), end, &stop);
    return stop < MAX_BODY ? stop : 0;
}

/* Models */

static int is_quick(const gated_model *model)
{
    for (int l = 0; l < model->num_layers; l++) {
        const gated_layer *is = &model->layers[l].is;
        if (is->input_size > QUICK || is->output_size > QUICK || is->count > QUICK || is->dilation > QUICK)
            return 0;
        for (int s = 0; model->layers[l].stack && s < is->count; s++)
            if (model->layers[l].stack->layers[s].scan[0].hidden_size > QUICK)
                return 0;
    }
    return 1;
}

static void use(const gated_model *model)
{
    static float x[QUICK * BATCH * QUICK], y[QUICK * BATCH * QUICK];
    static const int64_t lengths[BATCH] = {1, 0};
    gated_model_info info;
    gated_stream *stream;
    gated_model_describe(model, &info);
    float *state = calloc(gated_state_size(model, BATCH) + 1, sizeof *state);
    const int64_t steps = info.input_steps ? info.input_steps : STEPS;
    if (steps <= QUICK) {
        const gated_sequence s = {.seq_len = steps, .batch = BATCH, .state = state, .lengths = steps == 1 ? NULL : lengths,
                                  .x = x, .x_time = BATCH * info.input_size, .x_row = info.input_size,
                                  .y = y, .y_time = BATCH * info.output_size, .y_row = info.output_size};
        gated_run(model, &s);
    }
    free(state);
    if (gated_stream_create(model, BATCH, &stream) != GATED_OK)
        return;
    gated_stream_step(stream, x, y);
    gated_stream_step(stream, x, y);
    gated_stream_free(stream);
}

static void read_file(const unsigned char *bytes, size_t size)
{
    gated_model *model;
    if (gated_model_read(bytes, size, &model) != GATED_OK)
        return;
    if (is_quick(model))
        use(model);
    gated_model_free(model);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const int is_header = size > 0 && data[0] == '{';
    const size_t prefix = is_header ? 8 : 0, padding = is_header ? -(prefix + size) % GATED_PACKED_ALIGNMENT : 0;
    const size_t body = is_header ? body_size((const char *)data, (const char *)data + size) : 0;
    void *memory;
    if (posix_memalign(&memory, GATED_PACKED_ALIGNMENT, prefix + size + padding + body + !size))
        return 0;
    unsigned char *file = memory;
    for (size_t i = 0; i < prefix; i++)
        file[i] = (unsigned char)((size + padding) >> 8 * i);
    if (size)
        memcpy(file + prefix, data, size);
    memset(file + prefix + size, ' ', padding);
    memset(file + prefix + size + padding, 0x3d, body);
    read_file(file, prefix + size + padding + body);
    free(file);
    return 0;
}

/* Mutations that a file survives: a size is in several places, and all offsets follow from the shapes. */

static size_t print_number(char *to, uint64_t number)
{
    char digits[20];
    size_t length = 0;
    do
        digits[length++] = (char)('0' + number % 10);
    while (number /= 10);
    for (size_t i = 0; i < length; i++)
        to[i] = digits[length - 1 - i];
    return length;
}

typedef struct {
    char *at;
    size_t length, most;
} text;

static void append(text *to, const char *from, size_t length)
{
    if (to->length + length > to->most)
        length = to->most - to->length;
    memcpy(to->at + to->length, from, length);
    to->length += length;
}

static void append_number(text *to, uint64_t number)
{
    char digits[20];
    append(to, digits, print_number(digits, number));
}

static void replace_number(const char *at, const char *end, uint64_t old, uint64_t new, text *to)
{
    while (at < end) {
        const char *digits = at;
        uint64_t number;
        while (digits < end && (*digits < '0' || *digits > '9'))
            digits++;
        append(to, at, digits - at);
        at = read_number(digits, end, &number);
        if (digits < end && number == old)
            append_number(to, new);
        else
            append(to, digits, at - digits);
    }
}

static uint64_t product(const char *at, const char *end, uint64_t width)
{
    uint64_t bytes = width, length;
    while (at < end) {
        at = read_number(at, end, &length);
        bytes *= length;
        while (at < end && (*at < '0' || *at > '9'))
            at++;
    }
    return bytes;
}

static void mend_offsets(const char *at, const char *end, text *to)
{
    uint64_t stop = 0;
    for (;;) {
        const char *shape = find(at, end, "\"shape\":");
        const char *close = find(shape, end, "]");
        const char *offsets = find(close, end, "\"data_offsets\":");
        const char *last = find(offsets, end, "]");
        if (!last)
            break;
        const uint64_t start = stop, width = find(at, shape, "\"BF16\"") ? 2 : find(at, shape, "\"I8\"") ? 1 : 4;
        stop += product(shape, close, width);
        append(to, at, offsets - at);
        append(to, "[", 1);
        append_number(to, start);
        append(to, ",", 1);
        append_number(to, stop);
        append(to, "]", 1);
        at = last;
    }
    append(to, at, end - at);
}

static uint64_t another(uint64_t number, unsigned random)
{
    const uint64_t choices[] = {number + 1, number - (number > 0), 2 * number, 0, 1, 4 * number, 3 * number, 1 << 24};
    return choices[random % (sizeof choices / sizeof *choices)];
}

static uint64_t some_number(const char *at, const char *end, unsigned random)
{
    uint64_t number = 0;
    for (const char *digits = at + random % (unsigned)(end - at); digits < end && !number;)
        digits = read_number(digits, end, &number);
    return number;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    if (size == 0 || data[0] != '{' || seed % 4 == 0)
        return LLVMFuzzerMutate(data, size, most);
    if (seed % 4 == 1)
        size = LLVMFuzzerMutate(data, size, most);
    text changed = {malloc(most), 0, most}, mended = {malloc(most), 0, most};
    const char *at = (const char *)data, *end = at + size;
    const uint64_t number = size ? some_number(at, end, seed >> 8) : 0;
    replace_number(at, end, number, seed % 4 == 1 ? number : another(number, seed >> 4), &changed);
    mend_offsets(changed.at, changed.at + changed.length, &mended);
    memcpy(data, mended.at, mended.length);
    free(changed.at), free(mended.at);
    return mended.length;
}
