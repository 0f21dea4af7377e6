/* CRC-32 as zlib computes it, sixteen bytes at a time: table[k][b] is what byte b becomes with k zero bytes behind it.
 * M. E. Kounavis, F. L. Berry: A systematic approach to building high performance software-based CRC generators, 2005. */
#include "file.h"

#include <string.h>

static const uint32_t polynomial = 0xedb88320; /* its bits back to front, as all of CRC-32 */

void gated_crc32_prepare(gated_crc32_tables *tables)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? polynomial : 0);
        tables->table[0][byte] = crc;
    }
    for (int k = 1; k < GATED_CRC_BYTES; k++) {
        for (int byte = 0; byte < 256; byte++) {
            const uint32_t before = tables->table[k - 1][byte];
            tables->table[k][byte] = before >> 8 ^ tables->table[0][before & 0xff];
        }
    }
}

static uint32_t one_word(const uint32_t table[4][256], uint32_t word)
{
    return table[3][word & 0xff] ^ table[2][word >> 8 & 0xff] ^ table[1][word >> 16 & 0xff] ^ table[0][word >> 24];
}

static uint32_t four_words(const gated_crc32_tables *tables, uint32_t crc, const unsigned char *at)
{
    uint32_t words[4];
    memcpy(words, at, sizeof words);
    return one_word(tables->table + 12, words[0] ^ crc) ^ one_word(tables->table + 8, words[1])
           ^ one_word(tables->table + 4, words[2]) ^ one_word(tables->table, words[3]);
}

uint32_t gated_crc32(const gated_crc32_tables *tables, uint32_t crc, const void *data, size_t size)
{
    const unsigned char *at = data, *end = at + size;
    crc = ~crc;
    for (; end - at >= GATED_CRC_BYTES; at += GATED_CRC_BYTES)
        crc = four_words(tables, crc, at);
    for (; at < end; at++)
        crc = crc >> 8 ^ tables->table[0][(crc ^ *at) & 0xff];
    return ~crc;
}
