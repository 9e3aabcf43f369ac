/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * rekey: tablespaces under another key, without a server; or the keys of MySQL's files sealed by
 * another master key.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "file_rows.h"
#include "files/journal.h"
#include "files/rekey.h"
#include "files/reseal.h"

static const char *const result_names[] = {
    [KR_REKEY_DONE] = "rekeyed",
    [KR_REKEY_CURRENT] = "current",
    [KR_REKEY_LEFT] = "left",
};

struct rekeyed {
    json_t *row;
    enum kr_rekey_result result;
    bool wanted;         /* found right, and to be written */
    struct kr_error why; /* status KR_OK: it went well */
};

struct rekeying {
    const struct cli *cli;
    struct kr_audit *audit;
    struct kr_rekeying shared;
    const struct kr_reseal *reseal; /* NULL: pages are encrypted anew */
    enum {
        CHECK_AND_WRITE,
        CHECK,
        WRITE
    } part; /* headers: all are checked before one is written */
    struct rekeyed *files;
};

static enum kr_status rekey_file(const struct rekeying *all, const char *path,
                                 const struct kr_file_run *run, bool dry_run,
                                 enum kr_rekey_result *ret, struct kr_error *err)
{
    if (!all->reseal)
        return kr_file_rekey(path, run, &all->shared, dry_run, ret, err);
    struct kr_reseal reseal = *all->reseal;
    reseal.datadirs = all->shared.mysql;
    reseal.dry_run = dry_run;
    return kr_file_reseal(path, run, &reseal, ret, err);
}

/* Completes what a kill left, and checks everything that can be before the work. */
static enum kr_status check_file(const struct rekeying *all, const char *path,
                                 const struct kr_file_run *run, enum kr_rekey_result *ret,
                                 struct kr_error *err)
{
    *ret = KR_REKEY_DONE;
    if (cli_flag(all->cli, OPT_DRY_RUN) && kr_journal_is_pending(path))
        return KR_OK; /* half of its header may be another one */
    if (!cli_flag(all->cli, OPT_DRY_RUN))
        KR_TRY(kr_file_rekey_recover(path, run, all->shared.mysql, err));
    return rekey_file(all, path, run, true, ret, err);
}

static enum kr_status rekey_audited(const struct rekeying *all, const char *path,
                                    const struct kr_file_run *run, enum kr_rekey_result *ret,
                                    struct kr_error *err)
{
    const struct kr_audit_event event = {.name = "file-rekey", .detail = path};

    KR_TRY(kr_audit_begin(all->audit, &event, err));
    enum kr_status status = rekey_file(all, path, run, false, ret, err);
    kr_audit_end(all->audit, &event, status == KR_OK ? NULL : err);
    return status;
}

/* What is wanted of a file is not done before it is. */
static enum kr_status work_on(const struct rekeying *all, const char *path,
                              const struct kr_file_run *run, struct rekeyed *file,
                              struct kr_error *err)
{
    if (all->part != WRITE)
        KR_TRY(check_file(all, path, run, &file->result, err));
    if (cli_flag(all->cli, OPT_DRY_RUN))
        return KR_OK;
    file->wanted |= file->result == KR_REKEY_DONE;
    if (file->wanted && all->part == CHECK)
        file->result = KR_REKEY_LEFT;
    return file->wanted && all->part != CHECK ? rekey_audited(all, path, run, &file->result, err)
                                              : KR_OK;
}

static enum kr_status rekey_one(const char *path, size_t index, const struct kr_file_run *run,
                                void *context, struct kr_error *err)
{
    const struct rekeying *all = context;
    struct rekeyed *file = &all->files[index];
    struct kr_error why = KR_ERROR_INIT;

    if (all->part == WRITE && !file->wanted)
        return KR_OK;
    if (work_on(all, path, run, file, &why) != KR_OK)
        file->why = why;
    bool ok = file->why.status == KR_OK;
    json_decref(file->row);
    file->row = json_pack("{s:o, s:s, s:o, s:o}", "path", cli_text(path), "result",
                          ok ? result_names[file->result] : "failed", "error",
                          cli_text(ok ? NULL : why.text), "hint",
                          cli_text(!ok && *why.hint ? why.hint : NULL));
    return file->row ? KR_OK : kr_fail_memory(err);
}

/* --- what is said ----------------------------------------------------------------------------- */

struct totals {
    size_t of[3]; /* by result */
    size_t failed;
    const struct kr_error *first;
};

static struct totals add_up(const struct rekeying *all, size_t count)
{
    struct totals totals = {.failed = 0};

    for (size_t i = 0; i < count; i++) {
        const struct rekeyed *file = &all->files[i];
        if (!file->row)
            continue;
        if (file->why.status == KR_OK)
            totals.of[file->result]++;
        else if (totals.failed++ == 0)
            totals.first = &file->why;
    }
    return totals;
}

static void print_text(const struct cli *cli, const json_t *result)
{
    json_t *row;
    size_t i;

    json_array_foreach(json_object_get(result, "files"), i, row)
    {
        const char *what = json_string_value(json_object_get(row, "result"));
        if (strcmp(what, "rekeyed") == 0 || cli_flag(cli, OPT_VERBOSE))
            printf("%s: %s\n", json_string_value(json_object_get(row, "path")), what);
    }
    printf("%lld rekeyed, %lld current, %lld left as they are, %lld failed\n",
           (long long)json_integer_value(json_object_get(result, "rekeyed")),
           (long long)json_integer_value(json_object_get(result, "current")),
           (long long)json_integer_value(json_object_get(result, "left")),
           (long long)json_integer_value(json_object_get(result, "failed")));
    cli_print_skipped(result);
}

static enum kr_status print_result(struct cli_files *files, const struct rekeying *all,
                                   const struct totals *totals, struct kr_error *err)
{
    json_t *rows = json_array();

    for (size_t i = 0; i < files->walk.count; i++)
        if (all->files[i].row)
            json_array_append(rows, all->files[i].row);
    CLI_JSON result = json_pack(
        "{s:I, s:I, s:I, s:I, s:o}", "rekeyed", (json_int_t)totals->of[KR_REKEY_DONE], "current",
        (json_int_t)totals->of[KR_REKEY_CURRENT], "left", (json_int_t)totals->of[KR_REKEY_LEFT],
        "failed", (json_int_t)totals->failed, "files", rows);
    if (!result)
        return kr_fail_memory(err);
    KR_TRY(cli_files_end(files, result, err));
    cli_print_json(files->cli, result);
    if (!cli_flag(files->cli, OPT_JSON))
        print_text(files->cli, result);
    return KR_OK;
}

/* The first failure is the command's own; the others are told before it. */
static enum kr_status finish(struct cli_files *files, const struct rekeying *all,
                             struct kr_error *err)
{
    size_t count = files->walk.count;
    const struct totals totals = add_up(all, count);

    if (cli_flag(files->cli, OPT_DRY_RUN) && totals.failed == 0)
        return cli_plan(files->cli, err, "rekey %zu files", totals.of[KR_REKEY_DONE]);
    KR_TRY(print_result(files, all, &totals, err));
    if (totals.failed == 0 || files->interrupted)
        return KR_OK;
    for (size_t i = 0; i < count; i++)
        if (all->files[i].why.status != KR_OK && &all->files[i].why != totals.first)
            fprintf(stderr, "p11keyring: error: %s\n", all->files[i].why.text);
    if (cli_flag(files->cli, OPT_JSON)) {
        files->cli->exit_code = cli_exit_code(totals.first->status);
        return KR_OK;
    }
    *err = *totals.first;
    return err->status;
}

static bool is_done(const struct cli_files *files, const struct rekeying *all)
{
    return !all->reseal && !files->interrupted && !cli_flag(files->cli, OPT_DRY_RUN) &&
           add_up(all, files->walk.count).failed == 0;
}

/* Goes on with a run that was killed, or came upon files that it could not rekey. */
static enum kr_status open_run(const struct cli *cli, struct rekeying *all, struct kr_error *err)
{
    char began[KR_TIME_TEXT];

    KR_TRY(kr_rekey_run_open(cli->config ? cli->config->keyring.keystore : NULL, cli->args,
                             (size_t)cli->arg_count, cli_flag(cli, OPT_ANEW), &all->shared.run,
                             err));
    int64_t resumed = kr_rekey_run_resumed(all->shared.run);
    if (resumed == 0)
        return KR_OK;
    kr_time_text(resumed, began);
    cli_note("this goes on with what a run left that began at %s", began);
    cli_hint("--anew gives every tablespace of MySQL another key, also those that are done");
    return KR_OK;
}

static enum kr_status run_all(struct cli_files *files, struct rekeying *all, struct kr_error *err)
{
    all->files = calloc(files->walk.count + 1, sizeof *all->files);
    if (!all->files)
        return kr_fail_memory(err);
    if (!all->reseal)
        KR_TRY(open_run(files->cli, all, err));
    KR_TRY(kr_datadirs_new(&all->shared.mariadb, err));
    KR_TRY(kr_mysql_datadirs_new(cli_flag(files->cli, OPT_ALONE), &all->shared.mysql, err));
    if (all->reseal)
        kr_mysql_datadirs_headers_only(all->shared.mysql, all->reseal->to);
    all->shared.thorough = cli_flag(files->cli, OPT_DRY_RUN);
    all->part = all->reseal ? CHECK : CHECK_AND_WRITE;
    enum kr_status status = cli_files_run(files, rekey_one, all, err);
    const struct totals seen = add_up(all, files->walk.count);
    if (status == KR_OK && all->part == CHECK && !files->interrupted && seen.failed == 0) {
        all->part = WRITE;
        status = cli_files_run(files, rekey_one, all, err);
    }
    if (status == KR_OK && is_done(files, all))
        status = kr_rekey_run_end(all->shared.run, err);
    return status == KR_OK ? finish(files, all, err) : status;
}

/* --- sealing by another master key -------------------------------------------------------------
 */

static enum kr_status check_names(const struct cli *cli, const struct kr_reseal *reseal,
                                  struct kr_error *err)
{
    char uuid[37];
    uint32_t number;

    if (!cli_flag(cli, OPT_HEADER_ONLY)) {
        if (reseal->innodb_key || reseal->binlog_key || cli_flag(cli, OPT_TO_CONFIG))
            return kr_fail(err, KR_USAGE, "another master key is for --header-only");
        return KR_OK;
    }
    if (!reseal->innodb_key || !kr_reseal_parse_innodb(reseal->innodb_key, uuid, &number))
        return kr_fail(err, KR_USAGE,
                       "--header-only needs a master key: --innodb-key INNODBKey-UUID-N");
    if (reseal->binlog_key && !kr_reseal_is_binlog_key(reseal->binlog_key))
        return kr_fail(err, KR_USAGE,
                       "'%s' is no key of binary logs: --binlog-key MySQLReplicationKey_UUID_N",
                       reseal->binlog_key);
    return KR_OK;
}

/* The keyring that has the new master keys. */
static enum kr_status open_target(const struct cli_files *files, struct kr_config **ret_config,
                                  struct kr_file_keys **ret, struct kr_error *err)
{
    const char *path = files->cli->values[OPT_TO_CONFIG];

    *ret = files->keys;
    if (!path)
        return KR_OK;
    KR_TRY(kr_config_load(path, ret_config, err));
    return kr_file_keys_new(*ret_config, ret, err);
}

static void free_all(struct rekeying *all, size_t count)
{
    for (size_t i = 0; all->files && i < count; i++)
        json_decref(all->files[i].row);
    free(all->files);
    kr_datadirs_free(all->shared.mariadb);
    kr_mysql_datadirs_free(all->shared.mysql);
    kr_rekey_run_free(all->shared.run);
}

enum kr_status cli_run_rekey(struct cli *cli, struct kr_error *err)
{
    KR_AUDIT_OWNED struct kr_audit *audit = NULL;
    KR_CONFIG_OWNED struct kr_config *to_config = NULL;
    CLI_FILES files = {0};
    struct kr_reseal reseal = {.innodb_key = cli->values[OPT_INNODB_KEY],
                               .binlog_key = cli->values[OPT_BINLOG_KEY]};
    struct rekeying all = {.cli = cli, .reseal = cli_flag(cli, OPT_HEADER_ONLY) ? &reseal : NULL};

    KR_TRY(check_names(cli, &reseal, err));
    KR_TRY(cli_files_begin(cli, &files, err));
    KR_TRY(kr_audit_open(cli->config, &audit, err));
    KR_TRY(open_target(&files, &to_config, &reseal.to, err));
    all.audit = audit;
    enum kr_status status = run_all(&files, &all, err);
    free_all(&all, files.walk.count);
    if (reseal.to != files.keys)
        kr_file_keys_free(reseal.to);
    return status;
}
