/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A connection that is timed, logged, and made again. */
#include "client.h"

#include <errmsg.h>
#include <mysqld_error.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { STATEMENT_MAX = 1024, SLOW_US = 200000 };

static const char *socket_path;
static FILE *log_file;

bool load_open(const char *socket, const char *log)
{
    socket_path = socket;
    log_file = fopen(log, "ae");
    return log_file && setvbuf(log_file, NULL, _IOLBF, 0) == 0;
}

int64_t load_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void load_pause(unsigned ms)
{
    const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    nanosleep(&time, NULL);
}

unsigned client_random(struct client *client, unsigned below)
{
    return (unsigned)rand_r(&client->seed) % below;
}

/* --- connections ------------------------------------------------------------------------------ */

bool client_connect(struct client *client, bool *ret_new)
{
    MYSQL *mysql;

    *ret_new = false;
    if (client->mysql)
        return true;
    mysql = mysql_init(NULL);
    if (!mysql)
        return false;
    if (!mysql_real_connect(mysql, NULL, "root", NULL, NULL, 0, socket_path, 0)) {
        mysql_close(mysql);
        return false;
    }
    client->mysql = mysql;
    return *ret_new = true;
}

void client_close(struct client *client)
{
    if (client->mysql)
        mysql_close(client->mysql);
    client->mysql = NULL;
}

/* The server is gone or going; 1598 is MySQL's binlog_error_action = ABORT_SERVER. */
static bool is_lost(unsigned error)
{
    return (error >= CR_MIN_ERROR && error <= CR_MAX_ERROR) || error == ER_SERVER_SHUTDOWN ||
           error == ER_CONNECTION_KILLED || error == ER_BINLOG_LOGGING_IMPOSSIBLE;
}

/* --- statements ------------------------------------------------------------------------------- */

static void note(struct client *client, const char *statement, int64_t from, unsigned error)
{
    int64_t to = load_now();

    if (to - from > client->slowest)
        client->slowest = to - from;
    if (error == 0)
        client->statements++;
    else if (is_lost(error))
        client->lost++;
    else
        client->failures++;
    if (error != 0 || client->log_all || to - from > SLOW_US)
        fprintf(log_file, "%s %u %lld %lld %s: %s\n", client->name, error, (long long)from,
                (long long)to, error ? mysql_error(client->mysql) : "done", statement);
}

static unsigned fetch(struct client *client, int64_t *ret, unsigned count)
{
    MYSQL_RES *rows = mysql_store_result(client->mysql);
    MYSQL_ROW row = rows ? mysql_fetch_row(rows) : NULL;

    for (unsigned i = 0; row && i < count && i < mysql_num_fields(rows); i++)
        ret[i] = row[i] ? strtoll(row[i], NULL, 10) : 0;
    mysql_free_result(rows);
    return mysql_errno(client->mysql);
}

__attribute__((format(printf, 4, 0))) static unsigned run(struct client *client, int64_t *ret,
                                                          unsigned count, const char *fmt,
                                                          va_list args)
{
    char statement[STATEMENT_MAX];
    int64_t from = load_now();
    unsigned error;

    if (!client->mysql)
        return CR_SERVER_GONE_ERROR;
    vsnprintf(statement, sizeof(statement), fmt, args);
    client->since = from;
    mysql_query(client->mysql, statement);
    error = mysql_errno(client->mysql);
    if (error == 0)
        error = fetch(client, ret, count);
    client->since = 0;
    note(client, statement, from, error);
    if (is_lost(error))
        client_close(client);
    return error;
}

unsigned client_run(struct client *client, const char *fmt, ...)
{
    va_list args;
    unsigned error;

    va_start(args, fmt);
    error = run(client, NULL, 0, fmt, args);
    va_end(args);
    return error;
}

unsigned client_numbers(struct client *client, int64_t *ret, unsigned count, const char *fmt, ...)
{
    va_list args;
    unsigned error;

    va_start(args, fmt);
    error = run(client, ret, count, fmt, args);
    va_end(args);
    return error;
}

void client_wrong(struct client *client, const char *fmt, ...)
{
    char text[256];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    client->wrong++;
    fprintf(log_file, "wrong 0 0 %lld %s: %s\n", (long long)load_now(), client->name, text);
}
