/* The only file of the core that knows POSIX. */
#define _POSIX_C_SOURCE 200809L
#define _FILE_OFFSET_BITS 64
#include "mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* A pipe or a device has no size, and may never end. */
static int is_regular(int descriptor, struct stat *info)
{
    if (fstat(descriptor, info) != 0)
        return 0;
    if (S_ISREG(info->st_mode))
        return 1;
    errno = S_ISDIR(info->st_mode) ? EISDIR : EINVAL;
    return 0;
}

static gated_status map(int descriptor, gated_mapping *mapping)
{
    struct stat info;
    if (!is_regular(descriptor, &info))
        return GATED_NO_FILE;
    if (info.st_size == 0 || (uintmax_t)info.st_size > SIZE_MAX / 2)
        return GATED_BAD_FILE;
    void *bytes = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (bytes == MAP_FAILED)
        return errno == ENOMEM ? GATED_NO_MEMORY : GATED_NO_FILE;
    *mapping = (gated_mapping){bytes, (size_t)info.st_size};
    return GATED_OK;
}

gated_status gated_map_file(const char *path, gated_mapping *mapping)
{
    const int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* opening a pipe must not wait for a writer */
    if (descriptor < 0)
        return GATED_NO_FILE;
    const gated_status status = map(descriptor, mapping);
    const int reason = errno;
    close(descriptor);
    errno = reason;
    return status;
}

void gated_unmap_file(gated_mapping *mapping)
{
    if (mapping->bytes)
        munmap((void *)mapping->bytes, mapping->size);
}
