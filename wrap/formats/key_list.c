/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Reading a key file's lines. */
#include "formats/key_list.h"

#include <string.h>

enum { ID_DIGITS_MAX = 10 };

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static void trim(const char **line, size_t *len)
{
    while (*len > 0 && is_blank(**line)) {
        (*line)++;
        (*len)--;
    }
    while (*len > 0 && is_blank((*line)[*len - 1]))
        (*len)--;
}

/* The digits before the semicolon; false when they are no key id. */
static bool read_id(const char *text, size_t len, uint32_t *ret)
{
    uint64_t id = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        id = id * 10 + (uint64_t)(text[i] - '0');
    }
    if (len < 1 || len > ID_DIGITS_MAX || id < 1 || id > UINT32_MAX)
        return false;
    *ret = (uint32_t)id;
    return true;
}

static bool are_digits_of_key(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!is_hex(text[i]))
            return false;
    return len == 32 || len == 48 || len == 64;
}

/* False for a line that no key file has; *ret_bits is 0 for one without a key. */
static bool read_line(const char *line, size_t len, uint32_t *ret_id, unsigned *ret_bits)
{
    *ret_bits = 0;
    trim(&line, &len);
    if (len == 0 || *line == '#')
        return true;
    const char *semicolon = memchr(line, ';', len);
    if (!semicolon)
        return false;
    size_t id_len = (size_t)(semicolon - line), key_len = len - id_len - 1;
    const char *key = semicolon + 1;
    trim(&line, &id_len);
    trim(&key, &key_len);
    if (!read_id(line, id_len, ret_id) || !are_digits_of_key(key, key_len))
        return false;
    *ret_bits = (unsigned)key_len * 4;
    return true;
}

bool kr_key_list_parse(const char *text, size_t len, bool whole, kr_key_list_visitor visit,
                       void *context)
{
    bool found = false;
    while (len > 0) {
        const char *end = memchr(text, '\n', len);
        size_t line_len = end ? (size_t)(end - text) : len;
        uint32_t id = 0;
        unsigned bits;
        if (!end && !whole)
            break;
        if (!read_line(text, line_len, &id, &bits))
            return false;
        found |= bits > 0;
        if (bits > 0 && visit)
            visit(id, bits, context);
        size_t used = line_len + (end ? 1 : 0);
        text += used;
        len -= used;
    }
    return found;
}
