/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* backup create: the keys that a backup needs, in a bundle. */
#include <string.h>
#include <unistd.h>

#include "backup/collect.h"
#include "backup_bundles.h"
#include "file_rows.h"
#include "pkcs11/recipient.h"
#include "provider/bundled.h"

struct making {
    struct cli *cli;
    struct cli_files files;
    struct kr_chain chain;
    struct kr_pin_source *passwords[KR_CUSTODIANS_MAX];
    unsigned password_count;
    struct kr_rsa_public recipient;
    struct kr_collection keys;
};

static void end_making(struct making *making)
{
    for (unsigned i = 0; i < KR_CUSTODIANS_MAX; i++)
        kr_pin_source_free(making->passwords[i]);
    kr_collection_free(&making->keys);
    kr_chain_free(&making->chain);
    cli_files_cleanup(&making->files);
}
#define MAKING __attribute__((cleanup(end_making))) struct making

/* --- what is asked for ------------------------------------------------------------------------ */

static enum kr_status check_output(const struct cli *cli, struct kr_error *err)
{
    const char *out = cli->values[OPT_OUTPUT];

    if (!out)
        return kr_fail(err, KR_USAGE, "backup create needs -o BUNDLE: the file to write");
    if (access(out, F_OK) == 0) {
        kr_fail(err, KR_REFUSED, "%s exists already", out);
        kr_hint(err, "name another file: no bundle is overwritten");
        return err->status;
    }
    return KR_OK;
}

/* Before the long work: whether the folders are a backup that can be restored. */
static enum kr_status begin(struct cli *cli, struct making *ret, struct kr_error *err)
{
    const size_t count = (size_t)cli->arg_count;
    struct kr_file_keys *keys = NULL;

    ret->cli = cli;
    KR_TRY(check_output(cli, err));
    KR_TRY(kr_chain_read(cli->args, count, &ret->chain, err));
    KR_TRY(kr_chain_check(&ret->chain, err));
    if (cli_flag(cli, OPT_RECIPIENT))
        KR_TRY(kr_recipient_read(cli->values[OPT_RECIPIENT], &ret->recipient, err));
    KR_TRY(cli_load_full_config(cli, err));
    KR_TRY(cli_new_passwords(cli, ret->passwords, &ret->password_count, err));
    KR_TRY(kr_file_keys_new(cli->config, &keys, err));
    return cli_files_begin_with(cli, keys, cli->args, count, &ret->files, err);
}

static enum kr_status collect(struct making *making, struct kr_error *err)
{
    struct cli_files *files = &making->files;
    struct kr_files_options options = {
        .keys = files->keys, .progress = cli_progress_step, .progress_context = &files->progress};

    if (making->cli->arg_count == 0)
        return kr_collect_all(files->keys, &making->keys, err);
    KR_TRY(cli_number(making->cli, OPT_THREADS, 0, 64, &options.threads, err));
    enum kr_status status =
        kr_collect_files(&files->walk, &options, &making->keys, &files->interrupted, err);
    cli_progress_end(&files->progress);
    return status;
}

/* --- what is said ----------------------------------------------------------------------------- */

static json_t *left_out(const struct making *making)
{
    const struct kr_key_set *keys = &making->keys.keys;
    json_t *rows = json_array();

    for (size_t i = 0; i < keys->count; i++) {
        char text[KR_SET_KEY_TEXT];
        if (!keys->keys[i].stuck)
            continue;
        kr_set_key_text(&keys->keys[i], text);
        json_array_append_new(
            rows, json_pack("{s:o, s:s}", "key", cli_text(text), "why", keys->keys[i].stuck));
    }
    return rows;
}

static json_t *result_of(const struct making *making)
{
    const struct kr_collection *keys = &making->keys;

    return json_pack("{s:o, s:s, s:I, s:I, s:I, s:I, s:i, s:b, s:o}", "bundle",
                     cli_text(making->cli->values[OPT_OUTPUT]), "scope",
                     making->cli->arg_count > 0 ? "files" : "all", "files",
                     (json_int_t)keys->usage.files, "data_key_versions",
                     (json_int_t)keys->data_keys, "secrets", (json_int_t)keys->secrets, "file_keys",
                     (json_int_t)keys->file_keys, "custodians", making->password_count, "recipient",
                     cli_flag(making->cli, OPT_RECIPIENT), "left_out", left_out(making));
}

static void warn(struct making *making)
{
    const struct kr_usage *usage = &making->keys.usage;

    if (usage->silent > 0)
        cli_warn(making->cli,
                 "%llu files could not be asked for all their keys, the first is %s: the bundle "
                 "may lack some",
                 (unsigned long long)usage->silent, usage->first_silent);
    if (usage->unknown > 0 && !cli_flag(making->cli, OPT_IGNORE_UNKNOWN))
        cli_warn(making->cli,
                 "%llu files are of no known kind, the first is %s: the bundle may lack their keys "
                 "(--ignore-unknown: they are not meant)",
                 (unsigned long long)usage->unknown, usage->first_unknown);
    if (kr_bundle_count(making->keys.bundle) == 0)
        cli_warn(making->cli, "the bundle has no key: %s",
                 making->cli->arg_count > 0 ? "no file needs one" : "the keyring has none");
}

static void print_text(const struct making *making, const json_t *result)
{
    static const char *const who[] = {"no password", "its password",
                                      "the passwords of both custodians"};
    const struct kr_collection *keys = &making->keys;
    json_t *row;
    size_t i;

    printf("bundle %s: %llu versions of data keys, %llu secrets, %llu keys of single files\n",
           making->cli->values[OPT_OUTPUT], (unsigned long long)keys->data_keys,
           (unsigned long long)keys->secrets, (unsigned long long)keys->file_keys);
    printf("it opens with %s%s\n", making->password_count > 0 ? who[making->password_count] : "",
           cli_flag(making->cli, OPT_RECIPIENT)
               ? (making->password_count > 0 ? ", or with the recipient's key"
                                             : "the recipient's key alone")
               : "");
    json_array_foreach(json_object_get(result, "left_out"), i, row)
    {
        printf("left out: %s: %s\n", json_string_value(json_object_get(row, "key")),
               json_string_value(json_object_get(row, "why")));
    }
}

static enum kr_status tell(struct making *making, struct kr_error *err)
{
    CLI_JSON result = result_of(making);

    if (!result)
        return kr_fail_memory(err);
    cli_tell_partial(&making->chain, result);
    warn(making);
    if (!cli_print_json(making->cli, result))
        print_text(making, result);
    if (making->cli->arg_count == 0)
        cli_hint("try it: p11keyring backup verify %s FOLDER-OF-THE-BACKUP...",
                 making->cli->values[OPT_OUTPUT]);
    return KR_OK;
}

/* --- the command ------------------------------------------------------------------------------ */

static enum kr_status write_bundle(struct making *making, struct kr_error *err)
{
    const struct cli *cli = making->cli;
    struct kr_keyring *keyring = NULL;

    KR_TRY(kr_sealed_bundle_write(making->keys.bundle, making->passwords, making->password_count,
                                  cli_flag(cli, OPT_RECIPIENT) ? &making->recipient : NULL,
                                  cli->values[OPT_OUTPUT], err));
    KR_TRY(kr_file_keys_keyring(making->files.keys, &keyring, err));
    if (kr_keyring_set_bundled(keyring, making->keys.bundle, err) == KR_OK)
        return KR_OK;
    kr_error_context(err, "%s is written and whole, but the keystore could not be told of it",
                     cli->values[OPT_OUTPUT]);
    return err->status;
}

enum kr_status cli_run_backup_create(struct cli *cli, struct kr_error *err)
{
    MAKING making = {.cli = cli};

    KR_TRY(begin(cli, &making, err));
    KR_TRY(collect(&making, err));
    if (making.files.interrupted) {
        cli_note("interrupted: no bundle was made");
        cli->exit_code = CLI_EXIT_INTERRUPTED;
        return KR_OK;
    }
    if (cli_flag(cli, OPT_DRY_RUN))
        return cli_plan(cli, err,
                        "write %s with %llu versions of data keys, %llu secrets and %llu keys of "
                        "single files",
                        cli->values[OPT_OUTPUT], (unsigned long long)making.keys.data_keys,
                        (unsigned long long)making.keys.secrets,
                        (unsigned long long)making.keys.file_keys);
    KR_TRY(write_bundle(&making, err));
    return tell(&making, err);
}
