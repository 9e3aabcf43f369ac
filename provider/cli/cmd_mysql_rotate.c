/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * mysql rotate: new master keys for a running MySQL server. The statement returns when the server
 * has the new key everywhere in memory and in its log; a header is on disk when its page is
 * written, some seconds later. Until then the old key is needed, so that is waited for, too.
 */
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "mysql_rows.h"
#include "servers/mysql_rotate.h"

enum { ANSWER_SECONDS = 24 * 3600, LOOK_MS = 250, SETTLE_MS = 20000 };

/* One command at a server. */
struct work {
    struct cli *cli;
    struct kr_server_conn *conn;    /* to look by */
    struct kr_server_conn *rotator; /* the statement's */
    struct cli_mysql mysql;
    struct cli_progress progress;
    bool innodb, binlog, interrupted;
    json_t *rotated;
};

/* After an interruption the statement's thread may still use all this; the process ends soon. */
static void work_cleanup(struct work *work)
{
    json_decref(work->rotated);
    if (work->interrupted)
        return;
    cli_mysql_cleanup(&work->mysql);
    kr_server_close(work->conn);
    kr_server_close(work->rotator);
}
#define WORK __attribute__((cleanup(work_cleanup))) struct work

/* --- how far it is ---------------------------------------------------------------------------- */

struct kind {
    enum kr_mysql_master master;
    const char *name, *title; /* of the argument; in words */
    bool (*has)(const struct kr_mysql_file *file);
    size_t newest; /* offset of its newest key's name in struct kr_mysql_state */
};

static const struct kind innodb_kind = {KR_MYSQL_INNODB, "innodb", "InnoDB master key",
                                        cli_mysql_is_innodb,
                                        offsetof(struct kr_mysql_state, newest_innodb)};
static const struct kind binlog_kind = {KR_MYSQL_BINARY_LOG, "binlog", "binary log master key",
                                        cli_mysql_is_binlog,
                                        offsetof(struct kr_mysql_state, newest_binlog)};

static const char *newest_key(const struct work *work, const struct kind *kind)
{
    return (const char *)&work->mysql.state + kind->newest;
}

static size_t count(const struct work *work, const struct kind *kind)
{
    size_t files = 0;

    for (size_t i = 0; i < work->mysql.state.file_count; i++)
        files += kind->has(&work->mysql.state.files[i]);
    return files;
}

static bool is_under(const struct kr_mysql_file *file, const struct kind *kind, const char *key)
{
    return kind->has(file) && *file->key && strcmp(file->key, key) == 0;
}

static size_t count_under(struct work *work, const struct kind *kind, const char *key)
{
    size_t files = 0;

    for (size_t i = 0; i < work->mysql.state.file_count; i++)
        files += is_under(&work->mysql.state.files[i], kind, key);
    return files;
}

static void wait_a_moment(void)
{
    const struct timespec moment = {0, LOOK_MS * 1000000L};
    nanosleep(&moment, NULL);
}

/* Progress while the server is at it: files that have left the key of before. */
static bool watch(struct work *work, const struct kind *kind, const char *before)
{
    wait_a_moment();
    cli_read_mysql_headers(&work->mysql);
    uint64_t total = count(work, kind);
    uint64_t left = work->mysql.local && *before ? count_under(work, kind, before) : total;
    return cli_progress_step(total - left, total, &work->progress);
}

/* --- the statement ---------------------------------------------------------------------------- */

static enum kr_status open_rotator(struct work *work, struct kr_error *err)
{
    struct kr_server_options options = {.answer_seconds = ANSWER_SECONDS};

    if (work->rotator)
        return KR_OK;
    KR_TRY(cli_password_source(work->cli, &options.password, err));
    return kr_server_connect(work->cli->servers.at[0], &options, &work->rotator, err);
}

static enum kr_status run_statement(struct work *work, const struct kind *kind, const char *before,
                                    char warnings[KR_MYSQL_WARNINGS_TEXT], struct kr_error *err)
{
    struct kr_mysql_rotation *rotation;

    KR_TRY(open_rotator(work, err));
    KR_TRY(kr_mysql_rotation_start(work->rotator, kind->master, &rotation, err));
    while (!kr_mysql_rotation_is_over(rotation)) {
        work->interrupted = !watch(work, kind, before);
        if (work->interrupted)
            return KR_OK;
    }
    enum kr_status status = kr_mysql_rotation_end(rotation, warnings, err);
    if (status == KR_IO && kind->master == KR_MYSQL_BINARY_LOG)
        kr_hint(err, "p11keyring mysql status says which logs are under which key; see that all "
                     "can be read, or purge them, then: p11keyring mysql rotate binlog");
    return status;
}

/* --- what the disk has ------------------------------------------------------------------------ */

static bool is_behind(const struct work *work, size_t i, const struct kind *kind, const char *key)
{
    const struct kr_mysql_file *file = &work->mysql.state.files[i];
    return kind->has(file) && *file->key && !is_under(file, kind, key);
}

static size_t count_behind(const struct work *work, const struct kind *kind, const char *key)
{
    size_t files = 0;

    for (size_t i = 0; i < work->mysql.state.file_count; i++)
        files += is_behind(work, i, kind, key);
    return files;
}

/* Until every header is on disk, or none was for a while: a busy server writes when it must. */
static void wait_for_disk(struct work *work, const struct kind *kind, const char *key)
{
    size_t total = count(work, kind), behind = count_behind(work, kind, key), before = behind;
    uint64_t changed = kr_now_ms();

    while (behind > 0 && !work->interrupted && kr_now_ms() - changed < SETTLE_MS) {
        wait_a_moment();
        cli_read_mysql_headers(&work->mysql);
        behind = count_behind(work, kind, key);
        if (behind != before)
            changed = kr_now_ms();
        before = behind;
        work->interrupted = !cli_progress_step(total - behind, total, &work->progress);
    }
}

static json_t *list_behind(struct work *work, const struct kind *kind, const char *key)
{
    json_t *rows = json_array();

    for (size_t i = 0; i < work->mysql.state.file_count; i++)
        if (is_behind(work, i, kind, key))
            json_array_append_new(rows, json_pack("{s:o, s:o}", "file",
                                                  cli_text(work->mysql.state.files[i].name), "key",
                                                  cli_text(work->mysql.state.files[i].key)));
    return rows;
}

/* Redo log files keep their header until they are written anew. */
static json_t *list_redo(const struct work *work, const char *key)
{
    json_t *rows = json_array();

    for (size_t i = 0; i < work->mysql.state.file_count; i++) {
        const struct kr_mysql_file *file = &work->mysql.state.files[i];
        if (file->sort == KR_MYSQL_REDO && *file->key && strcmp(file->key, key) != 0)
            json_array_append_new(rows, cli_text(file->name));
    }
    return rows;
}

/* --- one master key --------------------------------------------------------------------------- */

static enum kr_status read_again(struct work *work, struct kr_error *err)
{
    cli_mysql_cleanup(&work->mysql);
    return cli_read_mysql(work->conn, &work->mysql, err);
}

static void warn_behind(struct work *work, const struct kind *kind, const json_t *behind)
{
    if (json_array_size(behind) == 0)
        return;
    cli_warn(work->cli, "%zu files still name an older %s on disk", json_array_size(behind),
             kind->title);
    cli_hint(
        kind->master == KR_MYSQL_INNODB
            ? "the server writes them at its next checkpoints: keep the old key until p11keyring "
              "mysql status shows it no more"
            : "keep the old key, and run p11keyring mysql rotate binlog again");
}

static json_t *row_of(struct work *work, const struct kind *kind, const char *before,
                      const char *warnings)
{
    const char *key = newest_key(work, kind);
    bool known = work->mysql.local && *key;
    json_t *behind = known ? list_behind(work, kind, key) : NULL;
    json_t *redo = known && kind->master == KR_MYSQL_INNODB ? list_redo(work, key) : NULL;

    warn_behind(work, kind, behind);
    if (*warnings)
        cli_warn(work->cli, "the server says: %s", warnings);
    return json_pack("{s:s, s:o, s:o, s:i, s:o?, s:o?, s:o}", "master_key", kind->name, "before",
                     cli_text(*before ? before : NULL), "key", cli_text(*key ? key : NULL), "files",
                     (int)count(work, kind), "behind", behind, "redo_behind", redo, "warnings",
                     cli_text(*warnings ? warnings : NULL));
}

static enum kr_status rotate(struct work *work, const struct kind *kind, struct kr_error *err)
{
    char before[KR_MYSQL_KEY_TEXT], warnings[KR_MYSQL_WARNINGS_TEXT] = "";

    snprintf(before, sizeof before, "%s", newest_key(work, kind));
    work->progress.unit = kind->master == KR_MYSQL_INNODB ? "tablespaces" : "binary and relay logs";
    enum kr_status status = run_statement(work, kind, before, warnings, err);
    if (status == KR_OK && !work->interrupted) {
        status = read_again(work, err);
        if (status == KR_OK && *newest_key(work, kind))
            wait_for_disk(work, kind, newest_key(work, kind));
    }
    cli_progress_end(&work->progress);
    if (status == KR_OK && !work->interrupted)
        json_array_append_new(work->rotated, row_of(work, kind, before, warnings));
    return status;
}

/* --- the command ------------------------------------------------------------------------------ */

static enum kr_status choose(struct work *work, struct kr_error *err)
{
    const char *what = work->cli->arg_count > 0 ? work->cli->args[0] : NULL;

    work->innodb = !what || strcmp(what, innodb_kind.name) == 0;
    work->binlog = what ? strcmp(what, binlog_kind.name) == 0 : work->mysql.state.settings.binlog;
    if (work->innodb || work->binlog)
        return KR_OK;
    kr_fail(err, KR_USAGE, "'%s' is no master key of MySQL", what);
    kr_hint(err, "p11keyring mysql rotate [innodb|binlog]; without a word both");
    return err->status;
}

static enum kr_status begin(struct cli *cli, struct work *work, struct kr_error *err)
{
    KR_TRY(cli_connect_mysql(cli, &work->conn, err));
    KR_TRY(cli_read_mysql(work->conn, &work->mysql, err));
    KR_TRY(choose(work, err));
    KR_TRY(kr_mysql_check_rotation(work->conn, work->innodb, work->binlog, err));
    work->rotated = json_array();
    return cli_progress_begin(cli, &work->progress, err);
}

static enum kr_status plan(struct work *work, struct kr_error *err)
{
    char innodb[64] = "", binlog[80] = "";

    if (work->innodb)
        snprintf(innodb, sizeof innodb, " the %s of %zu tablespaces", innodb_kind.title,
                 count(work, &innodb_kind));
    if (work->binlog)
        snprintf(binlog, sizeof binlog, "%s the %s of %zu binary and relay logs",
                 work->innodb ? ", and" : "", binlog_kind.title, count(work, &binlog_kind));
    return cli_plan(work->cli, err, "rotate%s%s", innodb, binlog);
}

static void print_row(const json_t *row)
{
    const json_t *behind = json_object_get(row, "behind"),
                 *redo = json_object_get(row, "redo_behind");
    const char *key = json_string_value(json_object_get(row, "key"));
    json_t *file;
    size_t i;

    const char *name = json_string_value(json_object_get(row, "master_key"));

    printf("%s rotated: %s, files under it: %lld\n",
           strcmp(name, innodb_kind.name) == 0 ? innodb_kind.title : binlog_kind.title,
           key ? key : "the new one is not shown",
           (long long)json_integer_value(json_object_get(row, "files")));
    json_array_foreach(behind, i, file)
    {
        printf("    %s still names %s\n", json_string_value(json_object_get(file, "file")),
               json_string_value(json_object_get(file, "key")));
    }
    if (json_array_size(redo) > 0)
        printf("    %zu redo log files still name an older key, until they are written anew\n",
               json_array_size(redo));
}

static enum kr_status finish(struct work *work, struct kr_error *err)
{
    CLI_JSON result =
        json_pack("{s:o, s:b, s:O}", "server", cli_text(kr_server_info(work->conn)->name),
                  "interrupted", work->interrupted, "rotated", work->rotated);
    json_t *row;
    size_t i;

    if (!result)
        return kr_fail_memory(err);
    if (work->interrupted) {
        cli_note(
            "interrupted: the server ends by itself what it has begun; p11keyring mysql status "
            "says how far it is");
        work->cli->exit_code = CLI_EXIT_INTERRUPTED;
    }
    if (cli_print_json(work->cli, result))
        return KR_OK;
    json_array_foreach(work->rotated, i, row)
    {
        print_row(row);
    }
    return KR_OK;
}

enum kr_status cli_run_mysql_rotate(struct cli *cli, struct kr_error *err)
{
    WORK work = {.cli = cli};

    KR_TRY(begin(cli, &work, err));
    if (cli_flag(cli, OPT_DRY_RUN))
        return plan(&work, err);
    if (work.innodb)
        KR_TRY(rotate(&work, &innodb_kind, err));
    if (work.binlog && !work.interrupted)
        KR_TRY(rotate(&work, &binlog_kind, err));
    return finish(&work, err);
}
