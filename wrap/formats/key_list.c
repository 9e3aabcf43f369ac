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

/* The server reads no further than the digits. */
static size_t without_comment(const char *text, size_t len)
{
    for (size_t i = 1; i < len; i++)
        if (text[i] == '#' && is_blank(text[i - 1]))
            return i;
    return len;
}

struct line {
    uint32_t id;
    const char *digits;
    unsigned bits; /* 0: it has no key */
};

/* False for a line that no key file has. */
static bool read_line(const char *line, size_t len, struct line *ret)
{
    ret->bits = 0;
    trim(&line, &len);
    if (len == 0 || *line == '#')
        return true;
    const char *semicolon = memchr(line, ';', len);
    if (!semicolon)
        return false;
    size_t id_len = (size_t)(semicolon - line), key_len = len - id_len - 1;
    const char *key = semicolon + 1;
    key_len = without_comment(key, key_len);
    trim(&line, &id_len);
    trim(&key, &key_len);
    if (!read_id(line, id_len, &ret->id) || !are_digits_of_key(key, key_len))
        return false;
    ret->digits = key;
    ret->bits = (unsigned)key_len * 4;
    return true;
}

/* Takes one line off the text. */
static bool next_line(const char **text, size_t *len, struct line *ret)
{
    const char *end = memchr(*text, '\n', *len);
    size_t line_len = end ? (size_t)(end - *text) : *len, used = line_len + (end ? 1 : 0);
    bool sound = read_line(*text, line_len, ret);
    *text += used;
    *len -= used;
    return sound;
}

bool kr_key_list_parse(const char *text, size_t len, bool whole, kr_key_list_visitor visit,
                       void *context)
{
    bool found = false;
    while (len > 0 && (whole || memchr(text, '\n', len))) {
        struct line line;
        if (!next_line(&text, &len, &line))
            return false;
        found |= line.bits > 0;
        if (line.bits > 0 && visit)
            visit(line.id, line.digits, line.bits, context);
    }
    return found;
}

unsigned kr_key_list_wrong_line(const char *text, size_t len)
{
    struct line line;
    for (unsigned number = 1; len > 0; number++)
        if (!next_line(&text, &len, &line))
            return number;
    return 0;
}
