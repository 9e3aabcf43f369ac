/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What a MySQL server has in the clear, and what to do about each. */
#include "mysql_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_TEXT = 600, ROOM_STEP = 16 };

/* `statement` NULL: none. Both are copied. */
static enum kr_status add(struct kr_mysql_state *state, const char *kind, const char *what,
                          const char *statement, struct kr_error *err)
{
    if (state->left_count % ROOM_STEP == 0) {
        struct kr_mysql_left *grown =
            reallocarray(state->left, state->left_count + ROOM_STEP, sizeof(*grown));
        if (!grown)
            return kr_fail_memory(err);
        state->left = grown;
    }
    struct kr_mysql_left left = {
        .kind = kind, .what = strdup(what), .statement = statement ? strdup(statement) : NULL};
    if (left.what && (left.statement || !statement)) {
        state->left[state->left_count++] = left;
        return KR_OK;
    }
    free(left.what);
    free(left.statement);
    return kr_fail_memory(err);
}

static bool quote_table(const char *schema, const char *table, char ret[NAME_TEXT])
{
    char quoted[NAME_TEXT / 2];
    if (!kr_server_quote(schema, '`', ret, NAME_TEXT / 2) ||
        !kr_server_quote(table, '`', quoted, sizeof(quoted)))
        return false;
    size_t used = strlen(ret);
    snprintf(ret + used, NAME_TEXT - used, ".%s", quoted);
    return true;
}

/* "schema/table" or "schema/table#p#partition", of which the table as a whole is altered, once. */
static enum kr_status add_table(struct kr_mysql_state *state, const char *name,
                                struct kr_error *err)
{
    char schema[NAME_TEXT / 2], table[NAME_TEXT / 2], quoted[NAME_TEXT];
    char what[NAME_TEXT + 64], statement[NAME_TEXT + 64];
    const char *slash = strchr(name, '/'), *part = strcasestr(name, "#p#");
    if (!slash)
        return KR_OK;
    const char *end = part ? part : name + strlen(name);
    snprintf(schema, sizeof(schema), "%.*s", (int)(slash - name), name);
    snprintf(table, sizeof(table), "%.*s", (int)(end - slash - 1), slash + 1);
    if (!quote_table(schema, table, quoted))
        return kr_fail(err, KR_INTERNAL, "the name of table %s is too long", name);
    snprintf(what, sizeof(what), "table %s is in the clear", quoted);
    snprintf(statement, sizeof(statement), "ALTER TABLE %s ENCRYPTION='Y'", quoted);
    if (state->left_count > 0 && strcmp(state->left[state->left_count - 1].what, what) == 0)
        return KR_OK;
    return add(state, "table", what, statement, err);
}

static enum kr_status add_general(struct kr_mysql_state *state, const char *name,
                                  struct kr_error *err)
{
    char quoted[NAME_TEXT], what[NAME_TEXT + 96], statement[NAME_TEXT + 64];
    const char *about = strcmp(name, "mysql") == 0 ? " (the data dictionary and the accounts)" : "";
    if (!kr_server_quote(name, '`', quoted, sizeof(quoted)))
        return kr_fail(err, KR_INTERNAL, "the name of tablespace %s is too long", name);
    snprintf(what, sizeof(what), "tablespace %s%s is in the clear", quoted, about);
    snprintf(statement, sizeof(statement), "ALTER TABLESPACE %s ENCRYPTION='Y'", quoted);
    return add(state, "tablespace", what, statement, err);
}

static enum kr_status find_spaces(struct kr_mysql_state *state, struct kr_error *err)
{
    for (size_t i = 0; i < state->file_count; i++) {
        const struct kr_mysql_file *file = &state->files[i];
        if (file->encrypted)
            continue;
        if (file->sort == KR_MYSQL_TABLE)
            KR_TRY(add_table(state, file->name, err));
        if (file->sort == KR_MYSQL_GENERAL)
            KR_TRY(add_general(state, file->name, err));
    }
    return KR_OK;
}

/* --- logs ------------------------------------------------------------------------------------- */

/* Old files stay as they were written. They go when the ones before the first encrypted one do. */
static enum kr_status find_old_binlogs(struct kr_mysql_state *state, struct kr_error *err)
{
    size_t clear = 0;
    const char *next = NULL;
    for (size_t i = 0; i < state->file_count; i++) {
        const struct kr_mysql_file *file = &state->files[i];
        if (file->sort != KR_MYSQL_BINLOG || file->unreadable)
            continue;
        clear += !file->encrypted;
        next = file->encrypted ? (next ? next : file->name) : NULL;
    }
    if (clear == 0)
        return KR_OK;
    char what[128], quoted[NAME_TEXT], statement[NAME_TEXT + 32];
    snprintf(what, sizeof(what), "%zu binary logs were written in the clear, and stay so", clear);
    if (!next || !kr_server_quote(next, '\'', quoted, sizeof(quoted)))
        return add(state, "binlog", what, NULL, err);
    snprintf(statement, sizeof(statement), "PURGE BINARY LOGS TO %s", quoted);
    return add(state, "binlog", what, statement, err);
}

static enum kr_status find_logs(struct kr_mysql_state *state, struct kr_error *err)
{
    const struct kr_mysql_settings *s = &state->settings;
    if (!s->undo)
        KR_TRY(add(state, "undo", "new undo records are written in the clear",
                   "SET PERSIST innodb_undo_log_encrypt = ON", err));
    if (!s->redo)
        KR_TRY(add(state, "redo", "the redo log is written in the clear",
                   "SET PERSIST innodb_redo_log_encrypt = ON", err));
    if (!s->binlog)
        KR_TRY(add(state, "binlog", "new binary and relay logs are written in the clear",
                   "SET PERSIST binlog_encryption = ON", err));
    return find_old_binlogs(state, err);
}

/* --- defaults and other engines ----------------------------------------------------------------
 */

static enum kr_status take_schema(const char *const *columns, void *context, struct kr_error *err)
{
    char quoted[NAME_TEXT / 2], what[NAME_TEXT], statement[NAME_TEXT];
    if (!kr_server_quote(columns[0], '`', quoted, sizeof(quoted)))
        return KR_OK;
    snprintf(what, sizeof(what), "new tables of schema %s are made in the clear", quoted);
    snprintf(statement, sizeof(statement), "ALTER SCHEMA %s DEFAULT ENCRYPTION='Y'", quoted);
    return add(context, "schema", what, statement, err);
}

static enum kr_status take_engine(const char *const *columns, void *context, struct kr_error *err)
{
    char quoted[NAME_TEXT], what[NAME_TEXT + 96], statement[NAME_TEXT + 64];
    if (!quote_table(columns[0], columns[1], quoted))
        return KR_OK;
    snprintf(what, sizeof(what), "table %s is of engine %s, which MySQL does not encrypt", quoted,
             columns[2]);
    snprintf(statement, sizeof(statement), "ALTER TABLE %s ENGINE=InnoDB ENCRYPTION='Y'", quoted);
    return add(context, "engine", what, statement, err);
}

#define SYSTEM_SCHEMAS "('mysql', 'information_schema', 'performance_schema', 'sys')"

enum kr_status kr_mysql_find_left(struct kr_server_conn *conn, struct kr_mysql_state *state,
                                  struct kr_error *err)
{
    KR_TRY(find_spaces(state, err));
    KR_TRY(kr_server_query(
        conn,
        "SELECT TABLE_SCHEMA, TABLE_NAME, ENGINE FROM information_schema.TABLES "
        "WHERE TABLE_TYPE = 'BASE TABLE' AND ENGINE NOT IN ('InnoDB', 'MEMORY', "
        "'BLACKHOLE', 'FEDERATED', 'NDB', 'ndbcluster') AND TABLE_SCHEMA NOT IN " SYSTEM_SCHEMAS
        " ORDER BY 1, 2",
        take_engine, state, err));
    KR_TRY(find_logs(state, err));
    if (!state->settings.new_schemas)
        KR_TRY(add(state, "schema", "new schemas get tables in the clear",
                   "SET PERSIST default_table_encryption = ON", err));
    return kr_server_query(conn,
                           "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE "
                           "DEFAULT_ENCRYPTION = 'NO' AND SCHEMA_NAME NOT IN " SYSTEM_SCHEMAS
                           " ORDER BY 1",
                           take_schema, state, err);
}
