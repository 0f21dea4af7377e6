/* The layers of reading a .gated file, the format of which gated_c/loaders/native.py describes:
 *
 *   mapping.c     a path to bytes
 *   tensors.c     bytes to named tensors and metadata: the container, which is safetensors
 *   words.c       what the metadata say of a layer
 *   gated_file.c  both to a model
 *
 * Everything here takes any bytes whatever: it reads inside them, allocates a small multiple of them, and ends. */
#ifndef GATED_FILE_H
#define GATED_FILE_H

#include "gated_c.h"
#include "json.h"

/* crc32.c */
enum { GATED_CRC_BYTES = 16 };

typedef struct {
    uint32_t table[GATED_CRC_BYTES][256];
} gated_crc32_tables;

void gated_crc32_prepare(gated_crc32_tables *tables);

/* Of what came before, 0 for nothing, and `data` behind it. */
uint32_t gated_crc32(const gated_crc32_tables *tables, uint32_t crc, const void *data, size_t size);

/* tensors.c */
enum { GATED_MAX_AXES = 3 };

typedef enum { GATED_F32, GATED_BF16, GATED_I8 } gated_dtype;

typedef struct {
    gated_text name;
    gated_dtype dtype;
    const void *data;              /* on a multiple of an element's bytes */
    float *expanded;               /* NULL, or its numbers; owned */
    int64_t size;
    int64_t shape[GATED_MAX_AXES]; /* the first ones */
    int axes;
    int taken;                     /* by a layer */
} gated_tensor;

typedef struct {
    const unsigned char *body;     /* behind the header */
    size_t body_size;
    gated_tensor *tensors;         /* sorted by name; owned */
    int num_tensors;
    gated_text version, layers, core, flags, packing, checksum; /* metadata; at == NULL: not there */
} gated_tensor_file;

/* `bytes`, on a multiple of 4, must outlive the result. GATED_BAD_FILE, after which the version may be known, or
 * GATED_NO_MEMORY. Free it either way. */
gated_status gated_tensor_file_read(const unsigned char *bytes, size_t size, gated_tensor_file *file);
void gated_tensor_file_free(gated_tensor_file *file);

/* Bytes of one element. */
size_t gated_dtype_bytes(gated_dtype dtype);

/* NULL if there is none of that name. */
gated_tensor *gated_find_tensor(const gated_tensor_file *file, gated_text name);

/* words.c: what is said of one layer, before its weights are looked up */
typedef struct {
    gated_layer layer;
    gated_text weight, bias;       /* names of tensors; at == NULL: none */
    gated_recurrent recurrent;     /* of a stack, every layer alike */
    int biases, peepholes;         /* it has them */
    gated_options options[2];      /* by direction */
    int num_options;               /* 0: the recurrent layers have none */
    gated_text h_limits;           /* bits of a float for each direction of each layer; at == NULL: none */
} gated_words;

enum { GATED_BITS_DIGITS = 8 };

/* 0 if it cannot be read. */
int gated_words_h_limit(const gated_words *w, int layer, int direction, float *limit);

/* Breaks `json` unless it says what a layer of its kind needs, and no more. *is_newer: it names what this build does not
 * know. */
gated_words gated_words_read(gated_json *json, int *is_newer);

/* gated_file.c: gated_model_open of a file that is in memory, on a multiple of 4; it must outlive the model. */
gated_status gated_model_read(const unsigned char *bytes, size_t size, gated_model **model);

#endif
