/* Reads a .gated file cut short at every length, and with every byte changed in several ways: each time a status, within an
 * allowance of memory. Linked with --wrap, so that every allocation of the core comes by here. */
#include "file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t allocated;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);

void *__wrap_malloc(size_t size)
{
    allocated += size;
    return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    allocated += count * size;
    return __real_calloc(count, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    allocated += size;
    return __real_aligned_alloc(alignment, size);
}

static size_t worst; /* bytes allocated in one reading, whenever they were freed */

/* Of a copy that ends where its memory does. */
static gated_status read_copy(const unsigned char *bytes, size_t size)
{
    unsigned char *copy = __real_malloc(size + !size);
    gated_model *model = NULL;
    memcpy(copy, bytes, size);
    allocated = 0;
    const gated_status status = gated_model_read(copy, size, &model);
    worst = allocated > worst ? allocated : worst;
    if ((status == GATED_OK) != (model != NULL))
        exit(2);
    gated_model_free(model);
    free(copy);
    return status;
}

static void expect(int truth, const char *what, size_t place)
{
    if (truth)
        return;
    printf("%s at %zu\n", what, place);
    exit(1);
}

int main(int argc, char **argv)
{
    static unsigned char bytes[1 << 16];
    static const unsigned char flips[] = {1, 2, 4, 8, 16, 32, 64, 128, 0xff};
    FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
    if (!file)
        return 2;
    const size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);

    expect(read_copy(bytes, size) == GATED_OK, "not read", size);
    for (size_t length = 0; length < size; length++)
        expect(read_copy(bytes, length) == GATED_BAD_FILE, "cut short and read", length);
    for (size_t i = 0; i < size; i++) {
        for (size_t flip = 0; flip < sizeof flips; flip++) {
            bytes[i] ^= flips[flip];
            const gated_status status = read_copy(bytes, size);
            expect(status == GATED_OK || status == GATED_BAD_FILE || status == GATED_UNSUPPORTED_FILE, "bad status", i);
            bytes[i] ^= flips[flip];
        }
    }
    expect(worst <= 40 * size, "bytes allocated", worst);
    return 0;
}
