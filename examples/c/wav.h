/* Mono WAV of 16-bit PCM, read and written in one pass: pipes will do. Samples are floats in -1..1. */
#ifndef WAV_H
#define WAV_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define WAV_UNKNOWN UINT32_MAX /* bytes of data that end with the file, as programs write that cannot know */

typedef struct {
    FILE *file;
    uint32_t rate;    /* samples a second */
    uint32_t bytes;   /* of all samples, or WAV_UNKNOWN */
    uint32_t left;    /* bytes not read yet */
    char error[128];  /* what is wrong, after a call that failed */
} wav_reader;

/* Reads up to the first sample; chunks that it does not know are skipped. 0, or -1 with reader->error. */
int wav_open(wav_reader *reader, FILE *file);

/* The next `count` samples, or fewer: 0 at the end of the data, or of a file that is cut short. */
size_t wav_read(wav_reader *reader, float *samples, size_t count);

/* Whether the file ended before the samples that it promised. */
int wav_cut_short(const wav_reader *reader);

/* A header for `bytes` bytes of samples, or WAV_UNKNOWN; samples, rounded and clipped. 0, or -1 with errno. */
int wav_write_header(FILE *file, uint32_t rate, uint32_t bytes);
int wav_write(FILE *file, const float *samples, size_t count);

#endif
