/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The keyring's messages in the server's error log. */
#include "plugin.h"

#include <string.h>

/* my_printf_error() cuts at 512 bytes; what a hint says last must not be lost. */
enum { LINE = 480, UNKNOWN_ERROR = 1105 };

/* mariadb-backup has no error log: it prints to stderr, but not what is for the log only. */
static unsigned long flags_of(enum kr_log_level level)
{
    unsigned long where = plugin.in_server ? ME_ERROR_LOG_ONLY : 0;
    switch (level) {
    case KR_LOG_ERROR:
        return where;
    case KR_LOG_WARNING:
        return where | ME_WARNING;
    default:
        return where | ME_NOTE;
    }
}

/* How much of the message goes on one line: all, or up to the last space that fits. */
static size_t line_length(const char *message)
{
    size_t len = strlen(message);
    if (len <= LINE)
        return len;
    const char *space = memrchr(message, ' ', LINE);
    return space && space > message ? (size_t)(space - message) : LINE;
}

void plugin_log_sink(enum kr_log_level level, const char *message, void *context)
{
    (void)context;
    if (level == KR_LOG_DEBUG)
        return;
    while (*message) {
        size_t len = line_length(message);
        my_printf_error(UNKNOWN_ERROR, PLUGIN_NAME ": %.*s", flags_of(level), (int)len, message);
        message += len;
        message += strspn(message, " ");
    }
}
