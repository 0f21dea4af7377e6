/* Files in memory. */
#ifndef GATED_MAPPING_H
#define GATED_MAPPING_H

#include "gated_c.h"

typedef struct {
    const unsigned char *bytes;
    size_t size;
} gated_mapping;

gated_status gated_map_file(const char *path, gated_mapping *mapping);

/* One without bytes is left alone. */
void gated_unmap_file(gated_mapping *mapping);

#endif
