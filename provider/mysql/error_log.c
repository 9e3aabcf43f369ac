/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The component's messages in the server's error log, and the last failure for the status rows. */
#include "component.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char
    last_error[sizeof(((struct kr_error *)0)->text) + sizeof(((struct kr_error *)0)->hint) + 16];

/* --- where messages go ------------------------------------------------------------------------ */

/* As a server's own lines look; for programs without an error log, and before there is one. */
static void print(enum mysql_severity severity, const char *message)
{
    static const char *const names[] = {"System", "ERROR", "Warning", "Note"};
    char when[32];
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &utc);
    fprintf(stderr, "%s.%06ldZ 0 [%s] [MY-0%d] [Server] " COMPONENT_NAME ": %s\n", when,
            now.tv_nsec / 1000, names[severity], MYSQL_ER_LOG_PRINTF_MSG, message);
}

static bool emit(enum mysql_severity severity, const char *message)
{
    mysql_handle handle = NULL;
    char line[2048];
    if (!component_registry ||
        component_registry->acquire("mysql_simple_error_log", &handle) != 0 || !handle)
        return false;
    const struct mysql_simple_error_log *log = handle;
    snprintf(line, sizeof(line), COMPONENT_NAME ": %s", message);
    int failed = log->emit(COMPONENT_NAME, "component", 0, severity, MYSQL_ER_LOG_PRINTF_MSG, line);
    component_registry->release(handle);
    return failed == 0;
}

void component_log_sink(enum kr_log_level level, const char *message, void *context)
{
    static const enum mysql_severity severities[] = {
        [KR_LOG_ERROR] = MYSQL_ERROR,
        [KR_LOG_WARNING] = MYSQL_WARNING,
        [KR_LOG_NOTE] = MYSQL_INFORMATION,
    };
    (void)context;
    if (level != KR_LOG_DEBUG && !emit(severities[level], message))
        print(severities[level], message);
}

/* --- failures --------------------------------------------------------------------------------- */

int component_failed(const struct kr_error *err)
{
    kr_log_error(KR_LOG_ERROR, err);
    pthread_mutex_lock(&lock);
    snprintf(last_error, sizeof(last_error), "%s%s%s", err->text, err->hint[0] ? "; hint: " : "",
             err->hint);
    pthread_mutex_unlock(&lock);
    return 1;
}

void component_last_error(char *ret, size_t size)
{
    pthread_mutex_lock(&lock);
    snprintf(ret, size, "%s", last_error);
    pthread_mutex_unlock(&lock);
}

void component_forget_error(void)
{
    pthread_mutex_lock(&lock);
    last_error[0] = '\0';
    pthread_mutex_unlock(&lock);
}
