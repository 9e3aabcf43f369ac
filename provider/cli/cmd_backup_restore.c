/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* backup restore: the keys of bundles into the configured keyring. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backup/restore.h"
#include "backup_bundles.h"
#include "backup_mysql.h"
#include "file_rows.h"

struct restoring {
    struct cli *cli;
    size_t bundles; /* of the arguments; folders and files come behind */
    struct kr_chain chain;
    struct kr_bundle *bundle;
    struct cli_files files; /* without folders: empty */
    struct kr_usage usage;  /* of the files */
    struct kr_file_keys *to;
    struct kr_restore_result done;
    struct kr_mysql_restored mysql;
    char *master; /* the label of a new master key; NULL: none was made */
    bool interrupted;
};

static void end_restoring(struct restoring *r)
{
    kr_mysql_restored_free(&r->mysql);
    kr_usage_free(&r->usage);
    cli_files_cleanup(&r->files);
    kr_bundle_free(r->bundle);
    kr_chain_free(&r->chain);
    kr_file_keys_free(r->to);
    free(r->master);
}
#define RESTORING __attribute__((cleanup(end_restoring))) struct restoring

/* --- before anything is written --------------------------------------------------------------- */

static enum kr_status add_file(const char *path, size_t index, const struct kr_file_run *run,
                               void *context, struct kr_error *err)
{
    (void)index;
    return kr_usage_add(context, path, run, err);
}

static enum kr_status look_at_files(struct restoring *r, struct kr_error *err)
{
    char **paths = r->cli->args + r->bundles;
    const size_t count = (size_t)r->cli->arg_count - r->bundles;
    struct kr_file_keys *keys = NULL;

    if (count == 0)
        return KR_OK;
    KR_TRY(kr_file_keys_of_bundle(r->bundle, &keys, err));
    KR_TRY(cli_files_begin_with(r->cli, keys, paths, count, &r->files, err));
    KR_TRY(cli_files_run(&r->files, add_file, &r->usage, err));
    r->interrupted = r->files.interrupted;
    return KR_OK;
}

/* Of MySQL's files it is told when they are opened. */
static enum kr_status check_needs(const struct restoring *r, struct kr_keyring *keyring,
                                  struct kr_error *err)
{
    for (size_t i = 0; i < r->usage.key_count; i++) {
        const struct kr_usage_key *key = &r->usage.keys[i];
        const struct kr_bundle_record name = {
            .kind = KR_BUNDLE_MARIADB, .id = key->id, .version = key->version};
        struct kr_bundle_record found;
        if (*key->name || kr_bundle_find(r->bundle, &name, &found) ||
            (keyring && kr_keyring_find(keyring, key->id, key->version)))
            continue;
        kr_fail(err, KR_NOT_FOUND,
                "%llu files need version %u of key %u, which is in none of the bundles",
                (unsigned long long)key->files, key->version, key->id);
        kr_hint(err, "name the bundles of all backups of the chain; nothing was changed");
        return KR_NOT_FOUND;
    }
    return KR_OK;
}

/* --- the keyring ------------------------------------------------------------------------------ */

static bool keystore_is_there(const struct cli *cli)
{
    return access(cli->config->keyring.keystore, F_OK) == 0;
}

static enum kr_status make_keyring(struct restoring *r, struct kr_error *err)
{
    struct kr_master_row rows[KR_TOKENS_MAX];
    size_t count = 0;
    unsigned others = 0;

    KR_TRY(kr_keyring_create(r->cli->config, NULL, false, rows, &count, &others, err));
    r->master = strdup(rows[0].label);
    return r->master ? KR_OK : kr_fail_memory(err);
}

static enum kr_status rotate_master(struct restoring *r, struct kr_keyring *keyring,
                                    struct kr_error *err)
{
    const struct kr_life_options options = {.token = NULL};
    struct kr_life_result result;

    KR_TRY(kr_keyring_rotate_masters(keyring, &options, &result, err));
    r->master = result.made_count > 0 ? strdup(result.made[0].label) : NULL;
    return KR_OK;
}

static enum kr_status fail_no_keystore(const struct cli *cli, struct kr_error *err)
{
    kr_fail(err, KR_NOT_FOUND, "there is no keystore at %s to restore keys to",
            cli->config->keyring.keystore);
    kr_hint(err, "--generate-new-master-key makes one, with a master key in the configured token");
    return KR_NOT_FOUND;
}

/* --- the work --------------------------------------------------------------------------------- */

/* The bundles, for the audit log. */
static void name_bundles(const struct cli *cli, size_t bundles, char *ret, size_t size)
{
    size_t used = 0;

    *ret = '\0';
    for (size_t i = 0; i < bundles && used < size; i++)
        used += (size_t)snprintf(ret + used, size - used, "%s%s", i ? " " : "", cli->args[i]);
}

static enum kr_status restore_keys(struct restoring *r, struct kr_keyring *keyring, bool dry_run,
                                   struct kr_error *err)
{
    const struct cli *cli = r->cli;
    struct cli_progress progress;
    char detail[512];

    name_bundles(cli, r->bundles, detail, sizeof detail);
    KR_TRY(cli_progress_begin(cli, &progress, err));
    progress.unit = "keys";
    const struct kr_restore_options options = {
        .rotation_step = cli_flag(cli, OPT_SAME_SERVER) ? 0 : cli->config->mariadb.rotation_step,
        .without_masters = cli_reseals_mysql(cli, &r->usage),
        .resident = strcmp(cli->config->mysql.master_keys, "token") == 0,
        .dry_run = dry_run,
        .detail = detail,
        .progress = cli_progress_step,
        .context = &progress};
    enum kr_status status = kr_restore(keyring, r->bundle, &options, &r->done, err);
    r->interrupted = status == KR_REFUSED && r->done.conflicts == 0 &&
                     !cli_progress_step(0, r->done.added, &progress);
    cli_progress_end(&progress);
    return r->interrupted ? KR_OK : status;
}

static enum kr_status restore_files(struct restoring *r, struct kr_file_keys *to, bool dry_run,
                                    struct kr_error *err)
{
    enum kr_status status =
        cli_restore_mysql(&r->files, &r->usage, r->bundle, to, dry_run, &r->mysql, err);

    r->interrupted |= r->files.interrupted;
    return status;
}

/* --- what is said ----------------------------------------------------------------------------- */

static enum kr_status tell(struct restoring *r, json_t *bundles, struct kr_error *err)
{
    const struct kr_restore_result *done = &r->done;
    CLI_JSON result = json_pack("{s:O, s:I, s:I, s:I, s:o, s:o}", "bundles", bundles, "restored",
                                (json_int_t)done->added, "equal", (json_int_t)done->equal,
                                "rotated", (json_int_t)done->rotated, "new_master_key",
                                cli_text(r->master), "mysql", cli_restored_mysql(&r->mysql));

    if (!result)
        return kr_fail_memory(err);
    cli_tell_partial(&r->chain, result);
    cli_warn_restored_mysql(r->cli, &r->mysql);
    if (cli_print_json(r->cli, result))
        return KR_OK;
    if (done->added > 0)
        printf("%zu keys restored to keyring '%s', read back and compared\n", done->added,
               r->cli->config->keyring.name);
    if (done->equal > 0)
        printf("%zu keys were in keyring '%s' already\n", done->equal,
               r->cli->config->keyring.name);
    if (r->master)
        printf("under the new master key '%s'\n", r->master);
    if (done->rotated > 0)
        printf("%zu data keys have a new version, which no other copy has\n", done->rotated);
    cli_print_restored_mysql(&r->mysql);
    if (done->added > 0)
        cli_hint("make a bundle of what this keyring has now: p11keyring backup create -o BUNDLE");
    return KR_OK;
}

/* --- the command ------------------------------------------------------------------------------ */

static enum kr_status plan(struct restoring *r, struct kr_error *err)
{
    const bool there = keystore_is_there(r->cli);

    return cli_plan(r->cli, err, "restore %zu keys to keyring '%s' (%zu are there already)%s",
                    there ? r->done.added : kr_bundle_count(r->bundle),
                    r->cli->config->keyring.name, r->done.equal,
                    cli_flag(r->cli, OPT_NEW_MASTER) ? " under a new master key" : "");
}

/* Everything that can be is checked before the first change. */
static enum kr_status check(struct restoring *r, struct kr_error *err)
{
    struct kr_keyring *keyring = NULL;

    if (keystore_is_there(r->cli))
        KR_TRY(kr_file_keys_keyring(r->to, &keyring, err));
    else if (!cli_flag(r->cli, OPT_NEW_MASTER))
        return fail_no_keystore(r->cli, err);
    KR_TRY(look_at_files(r, err));
    if (r->interrupted)
        return KR_OK;
    KR_TRY(check_needs(r, keyring, err));
    if (keyring)
        KR_TRY(restore_keys(r, keyring, true, err));
    return restore_files(r, keyring ? r->to : NULL, true, err);
}

static enum kr_status change(struct restoring *r, struct kr_error *err)
{
    const bool there = keystore_is_there(r->cli);
    struct kr_keyring *keyring = NULL;

    if (!there)
        KR_TRY(make_keyring(r, err));
    KR_TRY(kr_file_keys_keyring(r->to, &keyring, err));
    if (there && cli_flag(r->cli, OPT_NEW_MASTER))
        KR_TRY(rotate_master(r, keyring, err));
    KR_TRY(restore_keys(r, keyring, false, err));
    return r->interrupted ? KR_OK : restore_files(r, r->to, false, err);
}

enum kr_status cli_run_backup_restore(struct cli *cli, struct kr_error *err)
{
    RESTORING r = {.cli = cli};
    CLI_JSON bundles = json_array();

    kr_usage_init(&r.usage);
    KR_TRY(cli_load_full_config(cli, err));
    KR_TRY(cli_sort_arguments(cli, &r.bundles, err));
    KR_TRY(kr_chain_read(cli->args + r.bundles, (size_t)cli->arg_count - r.bundles, &r.chain, err));
    KR_TRY(kr_chain_check(&r.chain, err));
    KR_TRY(cli_open_bundles(cli, r.bundles, &r.bundle, bundles, err));
    KR_TRY(kr_file_keys_new(cli->config, &r.to, err));
    KR_TRY(check(&r, err));
    if (cli_flag(cli, OPT_DRY_RUN) && !r.interrupted)
        return plan(&r, err);
    if (!r.interrupted)
        KR_TRY(change(&r, err));
    if (r.interrupted) {
        cli_note("interrupted: the same command goes on");
        cli->exit_code = CLI_EXIT_INTERRUPTED;
        return KR_OK;
    }
    return tell(&r, bundles, err);
}
