/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Lists of server versions. */
#include "base/versions.h"

#include <stdint.h>
#include <string.h>

#define SEPARATORS ", "
enum { PARTS = 3, PART_LIMIT = 1000 };

struct range {
    uint32_t first, last;
};

/* Reads "9", "9.7" or "9.7.4" as the range of all versions that begin so; NULL when there is none,
 * else where it ends. */
static const char *read_version(const char *text, struct range *ret, int *ret_parts)
{
    *ret = (struct range){0};
    *ret_parts = 0;
    for (int i = 0; i < PARTS; i++) {
        uint32_t value = 0;
        size_t digits = strspn(text, "0123456789");
        bool given = digits > 0 && digits <= 3;
        for (size_t d = 0; given && d < digits; d++)
            value = value * 10 + (uint32_t)(text[d] - '0');
        if (!given && (i == 0 || text[-1] == '.'))
            return NULL;
        ret->first = ret->first * PART_LIMIT + value;
        ret->last = ret->last * PART_LIMIT + (given ? value : PART_LIMIT - 1);
        if (!given)
            continue;
        text += digits;
        ++*ret_parts;
        if (i < PARTS - 1 && *text == '.')
            text++;
    }
    return text;
}

/* The next entry of a list; false at its end and, with *ret_bad, where it is none. */
static bool next_entry(const char **list, struct range *ret, bool *ret_bad)
{
    struct range upper;
    int parts;
    const char *at = *list + strspn(*list, SEPARATORS);
    if (!*at)
        return false;
    at = read_version(at, ret, &parts);
    if (at && *at == '-') {
        at = read_version(at + 1, &upper, &parts);
        ret->last = upper.last;
    }
    *ret_bad = !at || (*at && !strchr(SEPARATORS, *at)) || ret->first > ret->last;
    *list = at;
    return !*ret_bad;
}

bool kr_versions_valid(const char *list)
{
    struct range range;
    bool bad = false;
    unsigned entries = 0;
    while (next_entry(&list, &range, &bad))
        entries++;
    return !bad && entries > 0;
}

bool kr_versions_include(const char *list, const char *version)
{
    struct range asked, range;
    int parts;
    bool bad = false;
    if (!read_version(version, &asked, &parts) || parts != PARTS)
        return false;
    while (next_entry(&list, &range, &bad))
        if (asked.first >= range.first && asked.first <= range.last)
            return true;
    return false;
}
