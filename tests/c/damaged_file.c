/* Reads a .gated file cut short at every length, with every byte changed in several ways, and with every allocation failing:
 * each time a status, within an allowance of memory. Linked with --wrap, so that all allocations come by here. */
#define _POSIX_C_SOURCE 200809L
#include "file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t allocated;
static int calls, failing = -1; /* allocations so far; which of them fails */

void *__real_malloc(size_t size);
void *__real_calloc(size_t number, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t number, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);

/* Whether there is memory. */
static int count(size_t size)
{
    allocated += size;
    return calls++ != failing;
}

void *__wrap_malloc(size_t size)
{
    return count(size) ? __real_malloc(size) : NULL;
}

void *__wrap_calloc(size_t number, size_t size)
{
    return count(number * size) ? __real_calloc(number, size) : NULL;
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return count(size) ? __real_aligned_alloc(alignment, size) : NULL;
}

static size_t worst; /* bytes allocated in one reading, whenever they were freed */

/* Of a copy that begins as a file does in memory and ends where its memory does. */
static gated_status read_copy(const unsigned char *bytes, size_t size)
{
    void *copy;
    gated_model *model = NULL;
    if (posix_memalign(&copy, GATED_PACKED_ALIGNMENT, size + !size))
        exit(2);
    memcpy(copy, bytes, size);
    allocated = 0;
    calls = 0;
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
    const int allocations = calls;
    for (failing = 0; failing < allocations; failing++)
        expect(read_copy(bytes, size) == GATED_NO_MEMORY, "read without memory", failing);
    failing = -1;
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
