/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The log callback. */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

static pthread_rwlock_t sink_lock = PTHREAD_RWLOCK_INITIALIZER;
static kr_log_sink current_sink;
static void *current_context;

void kr_log_set_sink(kr_log_sink sink, void *context)
{
    pthread_rwlock_wrlock(&sink_lock);
    current_sink = sink;
    current_context = context;
    pthread_rwlock_unlock(&sink_lock);
}

/* Labels, paths and other foreign text must not forge log lines or steer a terminal. */
static void make_one_line(char *message)
{
    for (char *c = message; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
}

void kr_log(enum kr_log_level level, const char *fmt, ...)
{
    char message[1536];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    make_one_line(message);
    pthread_rwlock_rdlock(&sink_lock);
    if (current_sink)
        current_sink(level, message, current_context);
    pthread_rwlock_unlock(&sink_lock);
}

void kr_log_error(enum kr_log_level level, const struct kr_error *err)
{
    if (err->hint[0])
        kr_log(level, "%s; hint: %s", err->text, err->hint);
    else
        kr_log(level, "%s", err->text);
}
