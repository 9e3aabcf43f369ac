/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Status classes and the error record. */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum kr_status kr_fail(struct kr_error *err, enum kr_status status, const char *fmt, ...)
{
    /* The arguments may point into the record itself, so build the text aside. */
    char text[sizeof(err->text)];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    memset(err, 0, sizeof(*err));
    err->status = status;
    memcpy(err->text, text, sizeof(text));
    return status;
}

void kr_hint(struct kr_error *err, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(err->hint, sizeof(err->hint), fmt, args);
    va_end(args);
}

void kr_error_context(struct kr_error *err, const char *fmt, ...)
{
    char what[256], text[sizeof(what) + sizeof(err->text) + 2];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    snprintf(text, sizeof(text), "%s: %s", what, err->text);
    memcpy(err->text, text, sizeof(err->text) - 1);
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
