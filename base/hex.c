/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Hexadecimal text. */
#include "base/hex.h"

/* Arithmetic instead of a table: no memory access depends on a secret digit. */
static char digit(unsigned nibble)
{
    return (char)('0' + nibble + (((9u - nibble) >> 8) & ('a' - '0' - 10)));
}

void kr_hex_encode(const uint8_t *bytes, size_t len, char *ret_text)
{
    for (size_t i = 0; i < len; i++) {
        ret_text[2 * i] = digit(bytes[i] >> 4);
        ret_text[2 * i + 1] = digit(bytes[i] & 15u);
    }
    ret_text[2 * len] = '\0';
}

/* All ones when low <= c <= high, else 0. */
static int in_range(int c, int low, int high)
{
    return -(int)(((unsigned)(low - 1 - c) & (unsigned)(c - high - 1)) >> 31);
}

/* The digit's value, or -1; arithmetic for the same reason. */
static int value(char c)
{
    int letter = c | 0x20;
    return (in_range(c, '0', '9') & (c - '0' + 1)) +
           (in_range(letter, 'a', 'f') & (letter - 'a' + 11)) - 1;
}

bool kr_hex_decode(const char *text, size_t text_len, uint8_t *ret_bytes)
{
    int wrong = 0;
    for (size_t i = 0; i < text_len; i++)
        wrong |= value(text[i]);
    if (wrong < 0 || text_len % 2)
        return false;
    for (size_t i = 0; i < text_len / 2; i++)
        ret_bytes[i] = (uint8_t)(value(text[2 * i]) << 4 | value(text[2 * i + 1]));
    return true;
}
