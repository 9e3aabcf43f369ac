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

static int value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool kr_hex_decode(const char *text, size_t text_len, uint8_t *ret_bytes)
{
    if (text_len % 2)
        return false;
    for (size_t i = 0; i < text_len / 2; i++) {
        int high = value(text[2 * i]), low = value(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        ret_bytes[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}
