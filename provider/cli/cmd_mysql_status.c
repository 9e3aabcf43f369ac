/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* mysql status: what a running MySQL server has encrypted, and under which master keys. */
#include <string.h>

#include "mariadb_rows.h"
#include "mysql_rows.h"

/* --- counts ----------------------------------------------------------------------------------- */

static const char *group_of(enum kr_mysql_sort sort)
{
    static const char *const groups[] = {
        [KR_MYSQL_TABLE] = "tablespaces", [KR_MYSQL_GENERAL] = "tablespaces",
        [KR_MYSQL_UNDO] = "undo",         [KR_MYSQL_SYSTEM] = NULL,
        [KR_MYSQL_REDO] = "redo",         [KR_MYSQL_BINLOG] = "binary_logs",
        [KR_MYSQL_RELAY] = "relay_logs",
    };
    return groups[sort];
}

static void count_up(json_t *object, const char *field)
{
    json_object_set_new(object, field,
                        json_integer(json_integer_value(json_object_get(object, field)) + 1));
}

static json_t *count_files(const struct kr_mysql_state *state)
{
    static const char *const groups[] = {"tablespaces", "undo", "redo", "binary_logs",
                                         "relay_logs"};
    json_t *counts = json_object();

    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        json_object_set_new(counts, groups[i], json_pack("{s:i, s:i}", "encrypted", 0, "clear", 0));
    for (size_t i = 0; i < state->file_count; i++) {
        const char *group = group_of(state->files[i].sort);
        if (group)
            count_up(json_object_get(counts, group),
                     state->files[i].encrypted ? "encrypted" : "clear");
    }
    return counts;
}

static json_t *list_files(const struct kr_mysql_state *state)
{
    static const char *const kinds[] = {
        [KR_MYSQL_TABLE] = "table",     [KR_MYSQL_GENERAL] = "general",
        [KR_MYSQL_UNDO] = "undo",       [KR_MYSQL_SYSTEM] = "system",
        [KR_MYSQL_REDO] = "redo",       [KR_MYSQL_BINLOG] = "binary log",
        [KR_MYSQL_RELAY] = "relay log",
    };
    json_t *rows = json_array();

    for (size_t i = 0; i < state->file_count; i++) {
        const struct kr_mysql_file *file = &state->files[i];
        json_array_append_new(rows,
                              json_pack("{s:o, s:s, s:b, s:o}", "name", cli_text(file->name),
                                        "kind", kinds[file->sort], "encrypted", file->encrypted,
                                        "key", cli_text(*file->key ? file->key : NULL)));
    }
    return rows;
}

/* --- keys ------------------------------------------------------------------------------------- */

static json_t *key_row(json_t *keys, const struct kr_mysql_state *state, const char *key)
{
    json_t *row;
    size_t i;
    bool newest = strcmp(key, state->newest_innodb) == 0 || strcmp(key, state->newest_binlog) == 0;

    json_array_foreach(keys, i, row)
    {
        if (strcmp(json_string_value(json_object_get(row, "key")), key) == 0)
            return row;
    }
    row = json_pack("{s:o, s:b, s:i, s:i, s:i, s:i, s:i}", "key", cli_text(key), "newest", newest,
                    "tablespaces", 0, "undo", 0, "redo", 0, "binary_logs", 0, "relay_logs", 0);
    return json_array_append_new(keys, row) == 0 ? row : NULL;
}

/* The newest ones first, also when no file has them. Without the files' headers no more is known.
 */
static json_t *list_keys(const struct cli_mysql *mysql)
{
    const struct kr_mysql_state *state = &mysql->state;
    json_t *keys = json_array();

    if (*state->newest_innodb)
        key_row(keys, state, state->newest_innodb);
    if (*state->newest_binlog)
        key_row(keys, state, state->newest_binlog);
    for (size_t i = 0; i < state->file_count; i++) {
        const struct kr_mysql_file *file = &state->files[i];
        const char *group = group_of(file->sort);
        json_t *row = *file->key && group ? key_row(keys, state, file->key) : NULL;
        if (row)
            count_up(row, group);
    }
    return keys;
}

/* --- the whole -------------------------------------------------------------------------------- */

static const char *state_name(const struct kr_mysql_state *state)
{
    const struct kr_mysql_settings *s = &state->settings;
    bool any = s->redo || s->undo || s->binlog;

    if (state->left_count == 0)
        return "encrypted";
    for (size_t i = 0; i < state->file_count; i++)
        any |= state->files[i].encrypted;
    return any ? "partly encrypted" : "unencrypted";
}

static json_t *settings_json(const struct kr_mysql_settings *s)
{
    return json_pack("{s:b, s:b, s:b, s:b, s:b}", "keyring_operations", s->operations,
                     "innodb_redo_log_encrypt", s->redo, "innodb_undo_log_encrypt", s->undo,
                     "binlog_encryption", s->binlog, "default_table_encryption", s->new_schemas);
}

static json_t *left_json(const struct kr_mysql_state *state)
{
    json_t *rows = json_array();

    for (size_t i = 0; i < state->left_count; i++)
        json_array_append_new(rows, json_pack("{s:s, s:o, s:o}", "kind", state->left[i].kind,
                                              "what", cli_text(state->left[i].what), "statement",
                                              cli_text(state->left[i].statement)));
    return rows;
}

static json_t *whole(struct kr_server_conn *conn, const struct cli_mysql *mysql)
{
    const struct kr_mysql_settings *s = &mysql->state.settings;
    char keyring[sizeof s->keyring + sizeof s->keyring_status + 4];

    snprintf(keyring, sizeof keyring, "%s, %s", s->keyring, s->keyring_status);
    return json_pack("{s:o, s:o, s:o, s:s, s:b, s:o, s:o, s:o, s:o, s:o}", "server",
                     cli_text(kr_server_info(conn)->name), "server_uuid", cli_text(s->uuid),
                     "keyring", cli_text(*s->keyring ? keyring : NULL), "state",
                     state_name(&mysql->state), "headers_read", mysql->local, "files",
                     count_files(&mysql->state), "settings", settings_json(s), "keys",
                     list_keys(mysql), "left_to_encrypt", left_json(&mysql->state), "each",
                     list_files(&mysql->state));
}

static void warn(struct cli *cli, const struct cli_mysql *mysql)
{
    const struct kr_mysql_state *state = &mysql->state;

    if (!state->settings.operations)
        cli_warn_paused(cli, "keyring_operations");
    if (*state->settings.keyring && strcmp(state->settings.keyring_status, "Active") != 0)
        cli_warn(cli, "the keyring is not active: %s", state->settings.keyring_status);
    for (size_t i = 0; i < state->file_count; i++)
        if (state->files[i].sort == KR_MYSQL_BINLOG && state->files[i].unreadable)
            cli_warn(cli, "the server cannot read binary log %s", state->files[i].name);
    if (state->binlog_unfinished) {
        cli_warn(cli, "a rotation of the binary log's master key has not come to its end");
        cli_hint("p11keyring mysql rotate binlog, once every binary log can be read");
    }
    if (state->keys_hidden)
        cli_note("the account may not see the keyring's keys: SELECT on "
                 "performance_schema.keyring_keys");
    if (!mysql->local)
        cli_note("the server's files cannot be read from here: which key each is under is not "
                 "known");
}

/* --- text ------------------------------------------------------------------------------------- */

static void print_counts(const json_t *files)
{
    static const struct {
        const char *field, *title;
    } groups[] = {{"tablespaces", "tablespaces"},
                  {"undo", "undo tablespaces"},
                  {"redo", "redo log files"},
                  {"binary_logs", "binary logs"},
                  {"relay_logs", "relay logs"}};

    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        const json_t *group = json_object_get(files, groups[i].field);
        printf("%-21s %lld encrypted, %lld in the clear\n", groups[i].title,
               (long long)json_integer_value(json_object_get(group, "encrypted")),
               (long long)json_integer_value(json_object_get(group, "clear")));
    }
}

static enum kr_status print_each(const json_t *result, struct kr_error *err)
{
    static const struct cli_column columns[] = {{"NAME", "name"},
                                                {"KIND", "kind"},
                                                {"ENCRYPTED", "encrypted"},
                                                {"MASTER KEY", "key"},
                                                {NULL, NULL}};

    putchar('\n');
    return cli_print_table(json_object_get(result, "each"), columns, err);
}

static enum kr_status print_text(const struct cli *cli, const json_t *result, struct kr_error *err)
{
    static const struct cli_column fields[] = {
        {"server", "server"}, {"keyring", "keyring"}, {"state", "state"}, {NULL, NULL}};
    static const struct cli_column columns[] = {{"MASTER KEY", "key"},
                                                {"NEWEST", "newest"},
                                                {"TABLESPACES", "tablespaces"},
                                                {"UNDO", "undo"},
                                                {"REDO", "redo"},
                                                {"BINARY LOGS", "binary_logs"},
                                                {"RELAY LOGS", "relay_logs"},
                                                {NULL, NULL}};
    const json_t *keys = json_object_get(result, "keys");
    const json_t *left = json_object_get(result, "left_to_encrypt");

    cli_print_fields(result, fields);
    print_counts(json_object_get(result, "files"));
    if (json_array_size(keys) > 0) {
        putchar('\n');
        KR_TRY(cli_print_table(keys, columns, err));
    }
    if (cli_flag(cli, OPT_VERBOSE))
        KR_TRY(print_each(result, err));
    if (json_array_size(left) > 0)
        printf("\nIn the clear, and what to do about it:\n\n");
    cli_print_left(left);
    return KR_OK;
}

enum kr_status cli_run_mysql_status(struct cli *cli, struct kr_error *err)
{
    KR_SERVER conn = NULL;
    CLI_MYSQL mysql = {.local = false};

    KR_TRY(cli_connect_mysql(cli, &conn, err));
    KR_TRY(cli_read_mysql(conn, &mysql, err));
    CLI_JSON result = whole(conn, &mysql);
    if (!result)
        return kr_fail_memory(err);
    warn(cli, &mysql);
    return cli_print_json(cli, result) ? KR_OK : print_text(cli, result, err);
}
