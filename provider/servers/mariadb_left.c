/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What is not as a goal wants it, and what to do about each. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mysqld_error.h>

#include "mariadb_state.h"

struct search {
    struct kr_server_conn *conn;
    struct kr_mariadb_state *state;
    bool encrypt;
    kr_aria_looker look;
    void *context;
};

enum { NAME_TEXT = 600, ROOM_STEP = 16 };

/* --- the list --------------------------------------------------------------------------------- */

/* Strings may be NULL where `left` has none; all are copied. */
static enum kr_status add(struct kr_mariadb_state *state, const char *kind, const char *what,
                          const char *statement, const char *option, struct kr_error *err)
{
    if (state->left_count % ROOM_STEP == 0) {
        struct kr_mariadb_left *grown =
            realloc(state->left, (state->left_count + ROOM_STEP) * sizeof *grown);
        if (!grown)
            return kr_fail_memory(err);
        state->left = grown;
    }
    struct kr_mariadb_left left = {
        .kind = kind,
        .what = strdup(what),
        .statement = statement ? strdup(statement) : NULL,
        .option = option ? strdup(option) : NULL,
    };
    if (left.what && (left.statement || !statement) && (left.option || !option)) {
        state->left[state->left_count++] = left;
        return KR_OK;
    }
    free(left.what);
    free(left.statement);
    free(left.option);
    return kr_fail_memory(err);
}

/* `schema`.`table` */
static enum kr_status table_name(const char *const *columns, char ret[NAME_TEXT],
                                 struct kr_error *err)
{
    char table[NAME_TEXT / 2];

    if (!kr_server_quote(columns[0], '`', ret, NAME_TEXT / 2) ||
        !kr_server_quote(columns[1], '`', table, sizeof table))
        return kr_fail(err, KR_INTERNAL, "the name of table %s.%s is too long", columns[0],
                       columns[1]);
    size_t used = strlen(ret);
    snprintf(ret + used, NAME_TEXT - used, ".%s", table);
    return KR_OK;
}

KR_PRINTF(6, 7)
static enum kr_status add_table(struct search *search, const char *kind, const char *const *columns,
                                const char *change, struct kr_error *err, const char *fmt, ...)
{
    char name[NAME_TEXT], why[128], what[NAME_TEXT + 160], statement[NAME_TEXT + 80];
    va_list args;

    KR_TRY(table_name(columns, name, err));
    va_start(args, fmt);
    vsnprintf(why, sizeof why, fmt, args);
    va_end(args);
    snprintf(what, sizeof what, "table %s %s", name, why);
    snprintf(statement, sizeof statement, "ALTER TABLE %s %s", name, change);
    return add(search->state, kind, what, statement, NULL, err);
}

/* --- InnoDB ----------------------------------------------------------------------------------- */

static enum kr_status add_space(struct search *search, const struct kr_mariadb_space *space,
                                struct kr_error *err)
{
    char what[NAME_TEXT + 80];

    snprintf(what, sizeof what, "tablespace %s is %s", space->name,
             space->moving     ? "being worked on"
             : search->encrypt ? "not encrypted yet"
                               : "not decrypted yet");
    return add(search->state, "tablespace", what, NULL, NULL, err);
}

static enum kr_status take_explicit(const char *const *columns, void *context, struct kr_error *err)
{
    struct search *search = context;

    return add_table(search, "table", columns, "ENCRYPTED=DEFAULT", err, "is ENCRYPTED=%s",
                     search->encrypt ? "NO" : "YES");
}

static enum kr_status find_innodb(struct search *search, struct kr_error *err)
{
    enum kr_state_goal goal = search->encrypt ? KR_STATE_ENCRYPTED : KR_STATE_UNENCRYPTED;

    for (size_t i = 0; i < search->state->space_count; i++)
        if (kr_mariadb_is_behind(&search->state->spaces[i], goal))
            KR_TRY(add_space(search, &search->state->spaces[i], err));
    return kr_server_query(
        search->conn,
        search->encrypt
            ? "SELECT table_schema, table_name FROM information_schema.tables WHERE engine = "
              "'InnoDB' AND create_options LIKE '%`encrypted`=''no''%' ORDER BY 1, 2"
            : "SELECT table_schema, table_name FROM information_schema.tables WHERE engine = "
              "'InnoDB' AND create_options LIKE '%`encrypted`=''yes''%' ORDER BY 1, 2",
        take_explicit, search, err);
}

/* --- other engines ---------------------------------------------------------------------------- */

static enum kr_aria_look look_at(const struct search *search, const char *file)
{
    char path[sizeof search->state->settings.datadir + NAME_TEXT];

    if (!search->look)
        return KR_ARIA_UNKNOWN;
    snprintf(path, sizeof path, "%s%s", search->state->settings.datadir, file);
    return search->look(path, search->context);
}

/* schema, table, name of its files, row format */
static enum kr_status take_aria(const char *const *columns, void *context, struct kr_error *err)
{
    struct search *search = context;
    bool page = strcasecmp(columns[3] ? columns[3] : "", "Page") == 0;
    enum kr_aria_look seen = page ? look_at(search, columns[2] ? columns[2] : "") : KR_ARIA_PLAIN;

    if (seen == (search->encrypt ? KR_ARIA_ENCRYPTED : KR_ARIA_PLAIN))
        return KR_OK;
    if (search->encrypt && !page)
        return add_table(search, "aria", columns, "ROW_FORMAT=PAGE TRANSACTIONAL=1", err,
                         "of Aria is in a row format that is never encrypted");
    return add_table(search, "aria", columns, "FORCE", err, "of Aria %s %s",
                     seen == KR_ARIA_UNKNOWN ? "may be" : "is",
                     search->encrypt ? "in the clear" : "encrypted");
}

static enum kr_status take_engine(const char *const *columns, void *context, struct kr_error *err)
{
    return add_table(context, "engine", columns, "ENGINE=InnoDB", err,
                     "of %s, an engine that does not encrypt, is in the clear", columns[2]);
}

/* The server's own tables of logs are CSV; they count when they hold something. */
static enum kr_status find_other_engines(struct search *search, struct kr_error *err)
{
    KR_TRY(kr_server_query(
        search->conn,
        "SELECT table_schema, table_name, " KR_MARIADB_FILE_NAME ", row_format "
        "FROM information_schema.tables WHERE engine = 'Aria' AND table_type = 'BASE TABLE' "
        "ORDER BY 1, 2",
        take_aria, search, err));
    if (!search->encrypt)
        return KR_OK;
    return kr_server_query(
        search->conn,
        "SELECT table_schema, table_name, engine FROM information_schema.tables WHERE engine IN "
        "('MyISAM', 'CSV', 'ARCHIVE', 'ROCKSDB', 'TokuDB', 'Mroonga', 'S3') AND data_length > 0 "
        "AND table_type = 'BASE TABLE' ORDER BY 1, 2",
        take_engine, search, err);
}

/* --- logs and settings ------------------------------------------------------------------------ */

struct setting {
    bool on, applies, at_run_time;
    const char *variable, *what;
};

/* A statement's effect ends with the server: the background threads would then go back. */
static enum kr_status judge_setting(struct search *search, const struct setting *setting,
                                    struct kr_error *err)
{
    const char *wanted = search->encrypt ? "ON" : "OFF";
    bool right = setting->on == search->encrypt;
    char what[192], statement[128], option[128];

    if (right && !strstr(search->state->settings.run_time, setting->variable))
        return KR_OK;
    if (right)
        snprintf(what, sizeof what, "%s: %s is %s until the next restart", setting->what,
                 setting->variable, wanted);
    else
        snprintf(what, sizeof what, "%s: %s", setting->what,
                 search->encrypt ? "in the clear" : "encrypted");
    snprintf(statement, sizeof statement, "SET GLOBAL %s = %s", setting->variable, wanted);
    snprintf(option, sizeof option, "%s = %s", setting->variable, wanted);
    return add(search->state, "setting", what, setting->at_run_time && !right ? statement : NULL,
               option, err);
}

static enum kr_status find_settings(struct search *search, struct kr_error *err)
{
    const struct kr_mariadb_settings *s = &search->state->settings;
    const struct setting settings[] = {
        {s->encrypt_log, true, false, "innodb_encrypt_log", "the redo log"},
        {s->encrypt_temporary_tables, true, false, "innodb_encrypt_temporary_tables",
         "the temporary tablespace"},
        {s->encrypt_tmp_files, true, false, "encrypt_tmp_files", "temporary files"},
        {s->encrypt_binlog, s->log_bin || !search->encrypt, false, "encrypt_binlog",
         "new binary logs"},
        {strcmp(s->encrypt_tables, "OFF") != 0, true, true, "innodb_encrypt_tables",
         "new InnoDB tables"},
        {s->aria_encrypt_tables, true, true, "aria_encrypt_tables", "new Aria tables"},
        {s->encrypt_tmp_disk_tables, true, true, "encrypt_tmp_disk_tables",
         "temporary tables on disk"},
    };
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        if (settings[i].applies)
            KR_TRY(judge_setting(search, &settings[i], err));
    return KR_OK;
}

struct logs {
    char **names;
    size_t count;
    bool encrypted; /* the one that was looked at last */
};

static enum kr_status take_log(const char *const *columns, void *context, struct kr_error *err)
{
    struct logs *logs = context;
    char **grown = realloc(logs->names, (logs->count + 1) * sizeof *grown);

    if (!grown)
        return kr_fail_memory(err);
    logs->names = grown;
    grown[logs->count] = strdup(columns[0] ? columns[0] : "");
    return grown[logs->count++] ? KR_OK : kr_fail_memory(err);
}

/* Log, position, type of event. */
static enum kr_status take_event(const char *const *columns, void *context, struct kr_error *err)
{
    struct logs *logs = context;

    (void)err;
    logs->encrypted |= columns[2] && strcmp(columns[2], "Start_encryption") == 0;
    return KR_OK;
}

static enum kr_status add_unreadable(struct search *search, const char *log, struct kr_error *err)
{
    char what[NAME_TEXT + sizeof err->text];

    snprintf(what, sizeof what, "binary log %s cannot be read: %s", log, err->text);
    return add(search->state, "binlog", what, NULL, NULL, err);
}

static enum kr_status is_encrypted(struct search *search, const char *log, struct logs *logs,
                                   struct kr_error *err)
{
    char name[NAME_TEXT], statement[NAME_TEXT + 64];

    if (!kr_server_quote(log, '\'', name, sizeof name))
        return kr_fail(err, KR_INTERNAL, "the name of binary log %s is too long", log);
    snprintf(statement, sizeof statement, "SHOW BINLOG EVENTS IN %s LIMIT 2", name);
    logs->encrypted = false;
    enum kr_status status = kr_server_query(search->conn, statement, take_event, logs, err);
    if (status == KR_OK || kr_server_errno(search->conn) != ER_ERROR_WHEN_EXECUTING_COMMAND)
        return status;
    logs->encrypted = !search->encrypt; /* it cannot be read: in the way in either direction */
    return add_unreadable(search, log, err);
}

static enum kr_status add_logs(struct search *search, size_t wrong, const char *last,
                               const char *next, struct kr_error *err)
{
    char what[NAME_TEXT + 128], statement[NAME_TEXT + 64];
    const char *how = search->encrypt ? "in the clear" : "encrypted";

    snprintf(what, sizeof what, "%zu binary logs, the last of them %s%s, are %s", wrong, last,
             *next ? "" : ", which is written to", how);
    snprintf(statement, sizeof statement, "PURGE BINARY LOGS TO '%s'", next);
    return add(search->state, "binlog", what, *next ? statement : NULL, NULL, err);
}

/* Old logs stay as they were written. The one that is written to cannot be purged. */
static enum kr_status judge_logs(struct search *search, struct logs *logs, struct kr_error *err)
{
    size_t wrong = 0, last = 0;

    for (size_t i = 0; i < logs->count; i++) {
        KR_TRY(is_encrypted(search, logs->names[i], logs, err));
        if (logs->encrypted == search->encrypt)
            continue;
        wrong++;
        last = i;
    }
    if (wrong == 0)
        return KR_OK;
    return add_logs(search, wrong, logs->names[last],
                    last + 1 < logs->count ? logs->names[last + 1] : "", err);
}

static enum kr_status find_logs(struct search *search, struct kr_error *err)
{
    struct logs logs = {.count = 0};

    if (!search->state->settings.log_bin)
        return KR_OK;
    enum kr_status status = kr_server_query(search->conn, "SHOW BINARY LOGS", take_log, &logs, err);
    if (status == KR_OK)
        status = judge_logs(search, &logs, err);
    for (size_t i = 0; i < logs.count; i++)
        free(logs.names[i]);
    free(logs.names);
    return status;
}

static void free_left(struct kr_mariadb_state *state)
{
    for (size_t i = 0; i < state->left_count; i++) {
        free(state->left[i].what);
        free(state->left[i].statement);
        free(state->left[i].option);
    }
    free(state->left);
    state->left = NULL;
    state->left_count = 0;
}

void kr_mariadb_state_free(struct kr_mariadb_state *state)
{
    kr_mariadb_spaces_free(state);
    free_left(state);
}

enum kr_status kr_mariadb_find_left(struct kr_server_conn *conn, struct kr_mariadb_state *state,
                                    enum kr_state_goal goal, kr_aria_looker look, void *context,
                                    struct kr_error *err)
{
    struct search search = {.conn = conn,
                            .state = state,
                            .encrypt = goal == KR_STATE_ENCRYPTED,
                            .look = look,
                            .context = context};

    free_left(state);
    KR_TRY(find_innodb(&search, err));
    KR_TRY(find_other_engines(&search, err));
    KR_TRY(find_settings(&search, err));
    return find_logs(&search, err);
}
