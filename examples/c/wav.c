#include "wav.h"

#include <math.h>
#include <string.h>

enum { PCM = 1, EXTENSIBLE = 0xfffe, FMT_MIN = 16, FMT_EXTENSIBLE = 40, BLOCK = 512 };

static const float SCALE = 32768.0f;

static uint32_t u16(const unsigned char *bytes)
{
    return bytes[0] | (uint32_t)bytes[1] << 8;
}

static uint32_t u32(const unsigned char *bytes)
{
    return u16(bytes) | u16(bytes + 2) << 16;
}

static void put_u16(unsigned char *bytes, uint32_t value)
{
    bytes[0] = value & 0xff;
    bytes[1] = value >> 8 & 0xff;
}

static void put_u32(unsigned char *bytes, uint32_t value)
{
    put_u16(bytes, value);
    put_u16(bytes + 2, value >> 16);
}

static int fail(wav_reader *reader, const char *error)
{
    snprintf(reader->error, sizeof reader->error, "%s", error);
    return -1;
}

static int read_bytes(wav_reader *reader, unsigned char *bytes, size_t count)
{
    return fread(bytes, 1, count, reader->file) == count ? 0 : fail(reader, "a WAV file that ends before its samples");
}

static int skip_bytes(wav_reader *reader, uint64_t count)
{
    unsigned char skipped[BLOCK];
    while (count > 0) {
        size_t some = count < BLOCK ? (size_t)count : BLOCK;
        if (read_bytes(reader, skipped, some) != 0)
            return -1;
        count -= some;
    }
    return 0;
}

/* The chunk `fmt `, of `size` bytes and one more if that is odd. */
static int read_format(wav_reader *reader, uint32_t size)
{
    unsigned char format[FMT_EXTENSIBLE] = {0};
    uint32_t known = size < FMT_EXTENSIBLE ? size : FMT_EXTENSIBLE, tag, channels, bits;
    if (size < FMT_MIN)
        return fail(reader, "a WAV file with a broken format");
    if (read_bytes(reader, format, known) != 0 || skip_bytes(reader, (uint64_t)size - known + (size & 1)) != 0)
        return -1;
    tag = u16(format);
    if (tag == EXTENSIBLE)
        tag = u16(format + 24);
    channels = u16(format + 2);
    bits = u16(format + 14);
    reader->rate = u32(format + 4);
    if (tag == PCM && channels == 1 && bits == 16)
        return 0;
    snprintf(reader->error, sizeof reader->error, "expected mono PCM of 16 bits, got format %u, %u channels, %u bits",
             (unsigned)tag, (unsigned)channels, (unsigned)bits);
    return -1;
}

int wav_open(wav_reader *reader, FILE *file)
{
    unsigned char head[12];
    int known = 0;
    memset(reader, 0, sizeof *reader);
    reader->file = file;
    if (fread(head, 1, 12, file) != 12 || memcmp(head, "RIFF", 4) != 0 || memcmp(head + 8, "WAVE", 4) != 0)
        return fail(reader, "not a WAV file");
    for (;;) {
        uint32_t size;
        if (read_bytes(reader, head, 8) != 0)
            return -1;
        size = u32(head + 4);
        if (memcmp(head, "data", 4) == 0) {
            reader->bytes = reader->left = size;
            return known ? 0 : fail(reader, "a WAV file whose samples come before their format");
        }
        known |= memcmp(head, "fmt ", 4) == 0;
        if (memcmp(head, "fmt ", 4) == 0 ? read_format(reader, size) : skip_bytes(reader, (uint64_t)size + (size & 1)))
            return -1;
    }
}

/* At most BLOCK / 2 samples. */
static size_t read_some(wav_reader *reader, float *samples, size_t count)
{
    unsigned char bytes[BLOCK];
    size_t i, got;
    count = count < BLOCK / 2 ? count : BLOCK / 2;
    count = count < reader->left / 2 ? count : reader->left / 2;
    got = fread(bytes, 2, count, reader->file);
    for (i = 0; i < got; i++)
        samples[i] = (float)(int16_t)u16(bytes + 2 * i) / SCALE;
    if (reader->bytes != WAV_UNKNOWN)
        reader->left -= (uint32_t)(2 * got);
    return got;
}

size_t wav_read(wav_reader *reader, float *samples, size_t count)
{
    size_t got = 0, some;
    do {
        some = read_some(reader, samples + got, count - got);
        got += some;
    } while (some > 0 && got < count);
    return got;
}

int wav_cut_short(const wav_reader *reader)
{
    return reader->bytes != WAV_UNKNOWN && reader->left >= 2;
}

int wav_write_header(FILE *file, uint32_t rate, uint32_t bytes)
{
    unsigned char head[44] = "RIFF....WAVEfmt ....................data";
    put_u32(head + 4, bytes > WAV_UNKNOWN - 36 ? WAV_UNKNOWN : bytes + 36);
    put_u32(head + 16, FMT_MIN);
    put_u16(head + 20, PCM);
    put_u16(head + 22, 1);
    put_u32(head + 24, rate);
    put_u32(head + 28, 2 * rate);
    put_u16(head + 32, 2);
    put_u16(head + 34, 16);
    put_u32(head + 40, bytes);
    return fwrite(head, 1, sizeof head, file) == sizeof head ? 0 : -1;
}

static int16_t rounded(float sample)
{
    float scaled = sample * SCALE;
    return scaled >= 32767.0f ? 32767 : scaled <= -32768.0f ? -32768 : (int16_t)lrintf(scaled);
}

int wav_write(FILE *file, const float *samples, size_t count)
{
    size_t i;
    for (i = 0; i < count; i++) {
        unsigned char bytes[2];
        put_u16(bytes, (uint16_t)rounded(samples[i]));
        if (fwrite(bytes, 1, 2, file) != 2)
            return -1;
    }
    return fflush(file) == 0 ? 0 : -1;
}
