/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What a MySQL server says of its settings, tablespaces, logs and keys. */
#include "mysql_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mysqld_error.h>

enum { OLDEST_SERVER = 80030, ROOM_STEP = 64 };

const char *const kr_mysql_look_privileges[] = {"PROCESS", "REPLICATION CLIENT", NULL};

enum kr_status kr_mysql_require(struct kr_server_conn *conn, struct kr_error *err)
{
    const struct kr_server_info *info = kr_server_info(conn);
    if (info->make != KR_SERVER_MYSQL) {
        kr_fail(err, KR_USAGE, "%s is no MySQL server", info->name);
        kr_hint(err, "for MariaDB: p11keyring mariadb status|encrypt|decrypt|rotate");
        return err->status;
    }
    if (info->version < OLDEST_SERVER)
        return kr_fail(err, KR_CONFIG, "%s is too old: 8.0.30 or later is wanted", info->name);
    return KR_OK;
}

/* --- settings --------------------------------------------------------------------------------- */

static void copy(char *to, size_t size, const char *from)
{
    snprintf(to, size, "%s", from ? from : "");
}

static bool is_on(const char *value)
{
    return value && strcmp(value, "1") == 0;
}

static enum kr_status take_settings(const char *const *columns, void *context, struct kr_error *err)
{
    struct kr_mysql_settings *settings = context;
    (void)err;
    copy(settings->uuid, sizeof(settings->uuid), columns[0]);
    copy(settings->datadir, sizeof(settings->datadir), columns[1]);
    copy(settings->binlogs, sizeof(settings->binlogs), columns[2]);
    copy(settings->relay_logs, sizeof(settings->relay_logs), columns[3]);
    settings->operations = is_on(columns[4]);
    settings->redo = is_on(columns[5]);
    settings->undo = is_on(columns[6]);
    settings->log_bin = is_on(columns[7]);
    settings->binlog = is_on(columns[8]);
    settings->new_schemas = is_on(columns[9]);
    return KR_OK;
}

static enum kr_status take_keyring(const char *const *columns, void *context, struct kr_error *err)
{
    struct kr_mysql_settings *settings = context;
    (void)err;
    if (columns[0] && strcmp(columns[0], "Component_name") == 0)
        copy(settings->keyring, sizeof(settings->keyring), columns[1]);
    if (columns[0] && strcmp(columns[0], "Component_status") == 0)
        copy(settings->keyring_status, sizeof(settings->keyring_status), columns[1]);
    return KR_OK;
}

/* A table of performance_schema, which the account may not be allowed to see: *ret_hidden. */
static enum kr_status look(struct kr_server_conn *conn, const char *statement, kr_server_row row,
                           void *context, bool *ret_hidden, struct kr_error *err)
{
    struct kr_error denied = KR_ERROR_INIT;
    enum kr_status status = kr_server_query(conn, statement, row, context, &denied);
    *ret_hidden = status != KR_OK && kr_server_errno(conn) == ER_TABLEACCESS_DENIED_ERROR;
    if (status == KR_OK || *ret_hidden)
        return KR_OK;
    *err = denied;
    return status;
}

static enum kr_status read_settings(struct kr_server_conn *conn, struct kr_mysql_settings *settings,
                                    struct kr_error *err)
{
    bool hidden;
    KR_TRY(kr_server_query(
        conn,
        "SELECT @@server_uuid, @@datadir, @@log_bin_basename, @@relay_log_basename, "
        "@@GLOBAL.keyring_operations, @@innodb_redo_log_encrypt, @@innodb_undo_log_encrypt, "
        "@@log_bin, @@GLOBAL.binlog_encryption, @@GLOBAL.default_table_encryption",
        take_settings, settings, err));
    return look(conn,
                "SELECT STATUS_KEY, STATUS_VALUE FROM performance_schema.keyring_component_status",
                take_keyring, settings, &hidden, err);
}

/* --- files ------------------------------------------------------------------------------------ */

static void free_file(struct kr_mysql_file *file)
{
    free(file->name);
    free(file->path);
}

/* The server tells paths from its data directory, where it was started. */
static char *full_path(const struct kr_mysql_settings *settings, const char *path)
{
    char *full;
    if (*path == '/')
        return strdup(path);
    if (strncmp(path, "./", 2) == 0)
        path += 2;
    return asprintf(&full, "%s%s", settings->datadir, path) < 0 ? NULL : full;
}

enum kr_status kr_mysql_add_file(struct kr_mysql_state *state, enum kr_mysql_sort sort,
                                 const char *name, const char *path, bool encrypted,
                                 struct kr_error *err)
{
    if (state->file_count % ROOM_STEP == 0) {
        struct kr_mysql_file *grown =
            reallocarray(state->files, state->file_count + ROOM_STEP, sizeof(*grown));
        if (!grown)
            return kr_fail_memory(err);
        state->files = grown;
    }
    struct kr_mysql_file file = {.sort = sort,
                                 .name = strdup(name),
                                 .path = full_path(&state->settings, path),
                                 .encrypted = encrypted};
    if (!file.name || !file.path) {
        free_file(&file);
        return kr_fail_memory(err);
    }
    state->files[state->file_count++] = file;
    return KR_OK;
}

static enum kr_mysql_sort sort_of(const char *type)
{
    static const struct {
        const char *type;
        enum kr_mysql_sort sort;
    } sorts[] = {
        {"Single", KR_MYSQL_TABLE}, {"General", KR_MYSQL_GENERAL}, {"Undo", KR_MYSQL_UNDO}};
    for (size_t i = 0; i < sizeof(sorts) / sizeof(sorts[0]); i++)
        if (strcmp(type, sorts[i].type) == 0)
            return sorts[i].sort;
    return KR_MYSQL_SYSTEM;
}

static enum kr_status take_space(const char *const *columns, void *context, struct kr_error *err)
{
    return kr_mysql_add_file(context, sort_of(columns[1] ? columns[1] : ""), columns[0],
                             columns[3] ? columns[3] : "", strcmp(columns[2], "Y") == 0, err);
}

static enum kr_status take_redo(const char *const *columns, void *context, struct kr_error *err)
{
    struct kr_mysql_state *state = context;
    const char *name = strrchr(columns[0], '/');
    return kr_mysql_add_file(state, KR_MYSQL_REDO, name ? name + 1 : columns[0], columns[0],
                             state->settings.redo, err);
}

/* Log_name, File_size, Encrypted. The files are where the first of them is. */
static enum kr_status take_binlog(const char *const *columns, void *context, struct kr_error *err)
{
    struct kr_mysql_state *state = context;
    const char *base = state->settings.binlogs, *slash = strrchr(base, '/');
    char path[KR_MYSQL_PATH + 256];
    snprintf(path, sizeof(path), "%.*s%s", slash ? (int)(slash + 1 - base) : 0, base, columns[0]);
    KR_TRY(kr_mysql_add_file(state, KR_MYSQL_BINLOG, columns[0], path,
                             columns[2] && strcmp(columns[2], "Yes") == 0, err));
    state->files[state->file_count - 1].unreadable = columns[1] && strcmp(columns[1], "0") == 0;
    return KR_OK;
}

static enum kr_status read_files(struct kr_server_conn *conn, struct kr_mysql_state *state,
                                 struct kr_error *err)
{
    bool hidden;
    KR_TRY(kr_server_query(
        conn,
        "SELECT s.NAME, s.SPACE_TYPE, s.ENCRYPTION, f.FILE_NAME FROM "
        "information_schema.INNODB_TABLESPACES s LEFT JOIN information_schema.FILES f "
        "ON f.FILE_ID = s.SPACE ORDER BY 1",
        take_space, state, err));
    KR_TRY(look(conn, "SELECT FILE_NAME FROM performance_schema.innodb_redo_log_files ORDER BY 1",
                take_redo, state, &hidden, err));
    return state->settings.log_bin
               ? kr_server_query(conn, "SHOW BINARY LOGS", take_binlog, state, err)
               : KR_OK;
}

/* --- keys ------------------------------------------------------------------------------------- */

/* The number behind the last `separator`; 0: none. */
static unsigned long number_of(const char *key, char separator)
{
    const char *last = strrchr(key, separator);
    char *end;
    unsigned long number = last ? strtoul(last + 1, &end, 10) : 0;
    return last && last[1] && *end == '\0' ? number : 0;
}

static void keep_newest(char newest[KR_MYSQL_KEY_TEXT], const char *key, char separator)
{
    if (number_of(key, separator) > (*newest ? number_of(newest, separator) : 0))
        copy(newest, KR_MYSQL_KEY_TEXT, key);
}

static enum kr_status take_key(const char *const *columns, void *context, struct kr_error *err)
{
    static const char innodb[] = "INNODBKey-", binlog[] = "MySQLReplicationKey_";
    struct kr_mysql_state *state = context;
    const char *key = columns[0] ? columns[0] : "";
    size_t uuid = strlen(state->settings.uuid);
    (void)err;
    if (strncmp(key, innodb, strlen(innodb)) == 0 &&
        strncmp(key + strlen(innodb), state->settings.uuid, uuid) == 0)
        keep_newest(state->newest_innodb, key, '-');
    if (strncmp(key, binlog, strlen(binlog)) != 0 ||
        strncmp(key + strlen(binlog), state->settings.uuid, uuid) != 0)
        return KR_OK;
    keep_newest(state->newest_binlog, key, '_');
    const char *rest = key + strlen(binlog) + uuid;
    if (strcmp(rest, "_new") == 0 || strcmp(rest, "_old") == 0)
        state->binlog_unfinished = true;
    return KR_OK;
}

enum kr_status kr_mysql_read_state(struct kr_server_conn *conn, struct kr_mysql_state *ret,
                                   struct kr_error *err)
{
    KR_TRY(read_settings(conn, &ret->settings, err));
    KR_TRY(read_files(conn, ret, err));
    return look(conn, "SELECT KEY_ID FROM performance_schema.keyring_keys", take_key, ret,
                &ret->keys_hidden, err);
}

void kr_mysql_state_free(struct kr_mysql_state *state)
{
    for (size_t i = 0; i < state->file_count; i++)
        free_file(&state->files[i]);
    free(state->files);
    for (size_t i = 0; i < state->left_count; i++) {
        free(state->left[i].what);
        free(state->left[i].statement);
    }
    free(state->left);
    *state = (struct kr_mysql_state){.files = NULL};
}
