/* CRC-32 as zlib computes it, eight bytes at a time: table[k][b] is what byte b becomes with k zero bytes behind it.
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
    for (int k = 1; k < 8; k++)
        for (int byte = 0; byte < 256; byte++) {
            const uint32_t before = tables->table[k - 1][byte];
            tables->table[k][byte] = before >> 8 ^ tables->table[0][before & 0xff];
        }
}

static uint32_t eight_bytes(const gated_crc32_tables *tables, uint32_t crc, const unsigned char *at)
{
    const uint32_t(*t)[256] = tables->table;
    uint32_t low, high;
    memcpy(&low, at, sizeof low);
    memcpy(&high, at + 4, sizeof high);
    low ^= crc;
    return t[7][low & 0xff] ^ t[6][low >> 8 & 0xff] ^ t[5][low >> 16 & 0xff] ^ t[4][low >> 24]
           ^ t[3][high & 0xff] ^ t[2][high >> 8 & 0xff] ^ t[1][high >> 16 & 0xff] ^ t[0][high >> 24];
}

uint32_t gated_crc32(const gated_crc32_tables *tables, uint32_t crc, const void *data, size_t size)
{
    const unsigned char *at = data, *end = at + size;
    crc = ~crc;
    for (; end - at >= 8; at += 8)
        crc = eight_bytes(tables, crc, at);
    for (; at < end; at++)
        crc = crc >> 8 ^ tables->table[0][(crc ^ *at) & 0xff];
    return ~crc;
}
