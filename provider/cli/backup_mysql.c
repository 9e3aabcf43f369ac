/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* backup restore: the part for MySQL's files. */
#include "backup_mysql.h"

#include <string.h>

/* --- which files ------------------------------------------------------------------------------ */

static bool is_mysql(const struct kr_usage_key *key)
{
    return *key->name && !key->master && key->files > 0;
}

static bool has_mysql(const struct kr_usage *usage)
{
    bool has = false;

    for (size_t i = 0; i < usage->key_count; i++)
        has |= is_mysql(&usage->keys[i]);
    return has;
}

bool cli_reseals_mysql(const struct cli *cli, const struct kr_usage *usage)
{
    return cli_flag(cli, OPT_NEW_MASTER) && has_mysql(usage);
}

static bool has_secret(const struct kr_bundle *bundle, const char *name)
{
    const struct kr_bundle_record wanted = {.kind = KR_BUNDLE_SECRET, .name = name, .owner = ""};
    struct kr_bundle_record found;

    return kr_bundle_find(bundle, &wanted, &found);
}

static enum kr_status keyring_has(struct kr_file_keys *to, const char *name, bool *ret,
                                  struct kr_error *err)
{
    struct kr_secrets *secrets;
    struct kr_secret_name *names = NULL;
    size_t count = 0;

    *ret = false;
    if (!to)
        return KR_OK;
    KR_TRY(kr_file_keys_secrets(to, &secrets, err));
    KR_TRY(kr_secrets_names(secrets, &names, &count, err));
    for (size_t i = 0; i < count; i++)
        *ret |= strcmp(names[i].id, name) == 0 && !*names[i].owner;
    kr_secret_names_free(names, count);
    return KR_OK;
}

/* Files keep their master keys: those must come with the bundle, or be there. */
static enum kr_status check_masters(const struct kr_usage *usage, const struct kr_bundle *bundle,
                                    struct kr_file_keys *to, struct kr_error *err)
{
    for (size_t i = 0; i < usage->key_count; i++) {
        const struct kr_usage_key *key = &usage->keys[i];
        bool there;
        if (!is_mysql(key) || has_secret(bundle, key->name))
            continue;
        KR_TRY(keyring_has(to, key->name, &there, err));
        if (there)
            continue;
        kr_fail(err, KR_NOT_FOUND, "%llu files need %s, which is in no bundle",
                (unsigned long long)key->files, key->name);
        kr_hint(err, "a master key does not leave its token: --generate-new-master-key seals the "
                     "files by a new one, if the bundle has their keys");
        return err->status;
    }
    return KR_OK;
}

/* --- the work --------------------------------------------------------------------------------- */

static enum kr_status first_failure(const struct cli_files *files,
                                    const struct kr_mysql_restored *restored, bool dry_run,
                                    struct kr_error *err)
{
    const struct kr_error *first = NULL;

    for (size_t i = 0; i < files->walk.count; i++)
        cli_one_failure(&restored->files[i].why, &first);
    if (!first)
        return KR_OK;
    *err = *first;
    if (!*err->hint)
        kr_hint(err, "%s", dry_run ? "nothing was changed" : "the same command again goes on");
    return err->status;
}

static enum kr_status seal(struct cli_files *files, const struct kr_bundle *bundle,
                           struct kr_file_keys *to, bool dry_run, struct kr_mysql_restored *ret,
                           struct kr_error *err)
{
    const struct cli *cli = files->cli;
    KR_AUDIT_OWNED struct kr_audit *audit = NULL;
    struct kr_mysql_restore restore = {
        .walk = &files->walk,
        .bundle = bundle,
        .to = to,
        .resident = strcmp(cli->config->mysql.master_keys, "token") == 0,
        .alone = cli_flag(cli, OPT_ALONE),
        .dry_run = dry_run,
        .options = {.progress = cli_progress_step, .progress_context = &files->progress}};

    KR_TRY(cli_number(cli, OPT_THREADS, 0, 64, &restore.options.threads, err));
    KR_TRY(kr_audit_open(cli->config, &audit, err));
    restore.audit = audit;
    enum kr_status status = kr_mysql_restore(&restore, ret, err);
    cli_progress_end(&files->progress);
    if (status == KR_OK)
        files->interrupted |= ret->interrupted;
    return status == KR_OK ? first_failure(files, ret, dry_run, err) : status;
}

enum kr_status cli_restore_mysql(struct cli_files *files, const struct kr_usage *usage,
                                 const struct kr_bundle *bundle, struct kr_file_keys *to,
                                 bool dry_run, struct kr_mysql_restored *ret, struct kr_error *err)
{
    if (!has_mysql(usage))
        return KR_OK;
    kr_mysql_restored_free(ret);
    return cli_reseals_mysql(files->cli, usage) ? seal(files, bundle, to, dry_run, ret, err)
                                                : check_masters(usage, bundle, to, err);
}

/* --- what is said ----------------------------------------------------------------------------- */

json_t *cli_restored_mysql(const struct kr_mysql_restored *restored)
{
    const struct kr_mysql_masters *masters = &restored->masters;

    if (!restored->files)
        return json_null();
    return json_pack("{s:s, s:o, s:o, s:I, s:I}", "server_uuid", masters->uuid, "innodb_key",
                     cli_text(*masters->innodb ? masters->innodb : NULL), "binlog_key",
                     cli_text(*masters->binlog ? masters->binlog : NULL), "resealed",
                     (json_int_t)restored->done, "current", (json_int_t)restored->current);
}

void cli_print_restored_mysql(const struct kr_mysql_restored *restored)
{
    const struct kr_mysql_masters *masters = &restored->masters;

    if (!restored->files)
        return;
    printf("%zu files of MySQL are sealed anew, %zu were already\n", restored->done,
           restored->current);
    if (*masters->innodb)
        printf("tablespaces and redo log by '%s'\n", masters->innodb);
    if (*masters->binlog)
        printf("binary logs by '%s'\n", masters->binlog);
}

void cli_warn_restored_mysql(struct cli *cli, const struct kr_mysql_restored *restored)
{
    if (restored->foreign_index)
        cli_warn(cli,
                 "%s names logs with the folder of another server, which would be read: mend "
                 "it, or set log-bin without a folder",
                 restored->foreign_index);
}
