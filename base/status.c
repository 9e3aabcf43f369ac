/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Status classes and the error record. */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Texts are built aside: arguments may point into the record itself. */
enum kr_status kr_fail(struct kr_error *err, enum kr_status status, const char *fmt, ...)
{
    struct kr_error made = {.status = status};
    va_list args;
    va_start(args, fmt);
    vsnprintf(made.text, sizeof(made.text), fmt, args);
    va_end(args);
    *err = made;
    return status;
}

void kr_hint(struct kr_error *err, const char *fmt, ...)
{
    char hint[sizeof(err->hint)] = "";
    va_list args;
    va_start(args, fmt);
    vsnprintf(hint, sizeof(hint), fmt, args);
    va_end(args);
    memcpy(err->hint, hint, sizeof(hint));
}

void kr_error_context(struct kr_error *err, const char *fmt, ...)
{
    char what[sizeof(err->text)], text[2 * sizeof(err->text) + 2] = "";
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    snprintf(text, sizeof(text), "%s: %s", what, err->text);
    text[sizeof(err->text) - 1] = '\0';
    memcpy(err->text, text, sizeof(err->text));
}

enum kr_status kr_fail_memory(struct kr_error *err)
{
    return kr_fail(err, KR_INTERNAL, "out of memory");
}

const char *kr_status_name(enum kr_status status)
{
    static const char *const names[] = {
        [KR_OK] = "ok",
        [KR_USAGE] = "usage",
        [KR_CONFIG] = "config",
        [KR_TOKEN_UNAVAILABLE] = "token-unavailable",
        [KR_AUTH] = "auth",
        [KR_INTEGRITY] = "integrity",
        [KR_NOT_FOUND] = "not-found",
        [KR_REFUSED] = "refused",
        [KR_IO] = "io",
        [KR_INTERNAL] = "internal",
    };
    if ((size_t)status >= sizeof(names) / sizeof(names[0]))
        return "unknown";
    return names[status];
}
