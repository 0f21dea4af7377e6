/* Takes the noise out of a recording, block by block as it comes: denoise examples/denoise.gated < noisy.wav > clean.wav
 *
 * The network reads windows of the noisy signal, HOP samples apart, and gives for each the HOP samples that lie HOP before
 * its end. So the result is late by HOP samples, which are left out at the start and fetched at the end. denoise.py does
 * the same with whole files, and gives the same bytes. */
#include "wav.h"

#include <gated_c.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLE_RATE = 8000, WINDOW = 64, HOP = 16, BLOCK = 256, KEPT = WINDOW - HOP, LATE = HOP };

/* Functions return 0, or 1 after a message. */
static int fail(const char *what, const char *why)
{
    fprintf(stderr, "denoise: %s: %s\n", what, why);
    return EXIT_FAILURE;
}

/* The network in a file, and a stream of it that meets no cold page. */
static int start(const char *path, gated_model **model, gated_stream **stream)
{
    gated_model_info info;
    gated_status status = gated_model_open(path, model);
    if (status == GATED_NO_FILE)
        return fail(path, strerror(errno));
    if (status != GATED_OK)
        return fail(path, gated_status_string(status));
    gated_model_describe(*model, &info);
    if (info.takes_ids || info.input_size != WINDOW || info.output_size != HOP || info.gives_vector)
        return fail(path, "expected a network that takes windows of 64 samples and gives 16");
    status = gated_stream_create(*model, 1, stream);
    if (status == GATED_OK)
        status = gated_stream_warm(*stream);
    return status == GATED_OK ? EXIT_SUCCESS : fail(path, gated_status_string(status));
}

static int denoise(wav_reader *reader, gated_stream *stream, FILE *output)
{
    float noisy[KEPT + BLOCK] = {0}, clean[BLOCK];
    size_t early = LATE; /* results that belong before the first sample */
    size_t owed = 0;     /* samples read but not written yet */
    do {
        size_t count = wav_read(reader, noisy + KEPT, BLOCK), ready;
        memset(noisy + KEPT + count, 0, (BLOCK - count) * sizeof *noisy);
        gated_stream_run(stream, BLOCK / HOP, noisy, HOP, 0, clean, HOP, 0); /* windows may overlap; floats cannot fail */
        memmove(noisy, noisy + BLOCK, KEPT * sizeof *noisy);
        owed += count;
        ready = owed < BLOCK - early ? owed : BLOCK - early;
        if (wav_write(output, clean + early, ready) != 0)
            return fail("output", strerror(errno));
        owed -= ready;
        early = 0;
    } while (owed > 0);
    return wav_cut_short(reader) ? fail("input", "a WAV file that is cut short") : EXIT_SUCCESS;
}

static int pass(gated_stream *stream, FILE *input, FILE *output)
{
    wav_reader reader;
    if (wav_open(&reader, input) != 0)
        return fail("input", reader.error);
    if (reader.rate != SAMPLE_RATE) {
        fprintf(stderr, "denoise: input: expected %d samples a second, got %lu\n", SAMPLE_RATE, (unsigned long)reader.rate);
        return EXIT_FAILURE;
    }
    if (wav_write_header(output, reader.rate, reader.bytes) != 0)
        return fail("output", strerror(errno));
    return denoise(&reader, stream, output);
}

int main(int argc, char **argv)
{
    gated_model *model = NULL;
    gated_stream *stream = NULL;
    int failed;
    if (argc != 2) {
        fputs("usage: denoise MODEL < noisy.wav > clean.wav\n", stderr);
        return 2;
    }
    failed = start(argv[1], &model, &stream);
    if (!failed)
        failed = pass(stream, stdin, stdout);
    gated_stream_free(stream);
    gated_model_free(model);
    return failed;
}
