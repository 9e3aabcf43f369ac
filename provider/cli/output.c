/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What the tool prints: data on stdout as text or JSON, everything else on stderr. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <libsmartcols/libsmartcols.h>

#include "base/clock.h"
#include "base/log.h"
#include "cli.h"
#include "wrap/json_text.h"

int cli_exit_code(enum kr_status status)
{
    switch (status) {
    case KR_OK:
        return 0;
    case KR_USAGE:
        return CLI_EXIT_USAGE;
    case KR_TOKEN_UNAVAILABLE:
        return 4;
    case KR_AUTH:
        return 5;
    case KR_INTEGRITY:
        return 6;
    case KR_REFUSED:
        return 7;
    case KR_CONFIG:
    case KR_NOT_FOUND:
    case KR_IO:
    case KR_INTERNAL:
        break;
    }
    return 1;
}

KR_PRINTF(2, 0)
static void say(const char *kind, const char *fmt, va_list args)
{
    fprintf(stderr, "p11keyring: %s: ", kind);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
}

void cli_warn(struct cli *cli, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    say("warning", fmt, args);
    va_end(args);
    cli->exit_code = CLI_EXIT_WARNINGS;
}

void cli_hint(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    say("hint", fmt, args);
    va_end(args);
}

void cli_note(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    say("note", fmt, args);
    va_end(args);
}

static void log_sink(enum kr_log_level level, const char *message, void *context)
{
    static const char *const kinds[] = {"error", "warning", "note", "debug"};
    const bool *verbose = context;

    if (level <= KR_LOG_WARNING || *verbose)
        fprintf(stderr, "p11keyring: %s: %s\n", kinds[level], message);
}

void cli_log_to_stderr(bool verbose)
{
    static bool all;

    all = verbose;
    kr_log_set_sink(log_sink, &all);
}

void cli_error(const struct cli *cli, const struct kr_error *err)
{
    fprintf(stderr, "p11keyring: error: %s\n", err->text);
    if (*err->hint)
        cli_hint("%s", err->hint);
    if (!cli_flag(cli, OPT_JSON))
        return;
    CLI_JSON error =
        json_pack("{s:s, s:o, s:s?, s:o, s:i}", "class", kr_status_name(err->status), "text",
                  cli_text(err->text), "ckr", err->ckr_name, "hint",
                  cli_text(*err->hint ? err->hint : NULL), "exit", cli_exit_code(err->status));
    CLI_JSON object = json_pack("{s:s, s:O?}", "schema", "p11keyring.error/1", "error", error);
    if (object && json_dumpf(object, stdout, JSON_INDENT(2)) == 0)
        putchar('\n');
}

void cli_one_failure(const struct kr_error *why, const struct kr_error **first)
{
    if (why->status == KR_OK)
        return;
    if (*first)
        fprintf(stderr, "p11keyring: error: %s\n", why->text);
    else
        *first = why;
}

json_t *cli_text(const char *text)
{
    return kr_json_text(text);
}

json_t *cli_time(int64_t unix_seconds)
{
    char text[KR_TIME_TEXT];

    kr_time_text(unix_seconds, text);
    return json_string(text);
}

/* A value as people read it; numbers go to `buffer`. */
static const char *value_text(const json_t *value, char *buffer, size_t size)
{
    if (json_is_string(value))
        return json_string_value(value);
    if (json_is_boolean(value))
        return json_is_true(value) ? "yes" : "no";
    if (json_is_integer(value))
        snprintf(buffer, size, "%lld", (long long)json_integer_value(value));
    else if (json_is_real(value))
        snprintf(buffer, size, "%.2f", json_real_value(value));
    else
        return "-";
    return buffer;
}

void cli_print_fields(const json_t *object, const struct cli_column *columns)
{
    char buffer[32];

    for (; columns->key; columns++)
        printf("%-21s %s\n", columns->title,
               value_text(json_object_get(object, columns->key), buffer, sizeof buffer));
}

static int fill_line(struct libscols_line *line, const json_t *row,
                     const struct cli_column *columns)
{
    char buffer[32];
    int failed = 0;

    for (size_t i = 0; columns[i].key; i++) {
        const json_t *value = json_object_get(row, columns[i].key);
        failed |= scols_line_set_data(line, i, value_text(value, buffer, sizeof buffer));
    }
    return failed;
}

enum kr_status cli_print_table(const json_t *rows, const struct cli_column *columns,
                               struct kr_error *err)
{
    struct libscols_table *table = scols_new_table();
    int failed = !table;
    const json_t *row;
    size_t i;

    if (json_array_size(rows) == 0) {
        scols_unref_table(table);
        return KR_OK;
    }
    for (const struct cli_column *c = columns; table && c->key; c++)
        failed |= !scols_table_new_column(table, c->title, 0, 0);
    if (table)
        scols_table_enable_nowrap(table, 1);
    json_array_foreach(rows, i, row)
    {
        struct libscols_line *line = failed ? NULL : scols_table_new_line(table, NULL);
        failed |= !line || fill_line(line, row, columns);
    }
    failed = failed || scols_print_table(table) != 0;
    scols_unref_table(table);
    return failed ? kr_fail_memory(err) : KR_OK;
}

bool cli_print_json(const struct cli *cli, json_t *result)
{
    const struct cli_command *c = cli->command;
    char schema[64];

    if (!cli_flag(cli, OPT_JSON))
        return false;
    snprintf(schema, sizeof schema, "p11keyring.%s%s%s/1", c->noun, c->verb ? "." : "",
             c->verb ? c->verb : "");
    CLI_JSON object = json_pack("{s:s}", "schema", schema);
    if (object && json_object_update(object, result) == 0 &&
        json_dumpf(object, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) == 0)
        putchar('\n');
    return true;
}

enum kr_status cli_plan(const struct cli *cli, struct kr_error *err, const char *fmt, ...)
{
    char plan[512];
    va_list args;

    va_start(args, fmt);
    vsnprintf(plan, sizeof plan, fmt, args);
    va_end(args);
    CLI_JSON result = json_pack("{s:b, s:o}", "dry_run", 1, "would", cli_text(plan));
    if (!result)
        return kr_fail_memory(err);
    if (!cli_print_json(cli, result))
        printf("would %s\n", plan);
    return KR_OK;
}

void cli_json_free(json_t **json)
{
    json_decref(*json);
}
