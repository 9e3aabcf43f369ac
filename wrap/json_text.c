/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* JSON strings of foreign bytes. */
#include "wrap/json_text.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool printable_utf8(const char *text)
{
    json_t *valid = json_string(text);

    json_decref(valid);
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            return false;
    return valid != NULL;
}

json_t *kr_json_text(const char *text)
{
    json_t *result;
    char *copy;

    if (!text)
        return json_null();
    if (printable_utf8(text))
        return json_string(text);
    copy = strdup(text);
    for (char *p = copy; p && *p; p++)
        if ((unsigned char)*p < ' ' || (unsigned char)*p >= 0x7f)
            *p = '?';
    result = copy ? json_string(copy) : NULL;
    free(copy);
    return result;
}

void kr_json_cleanup(json_t **json)
{
    json_decref(*json);
}
