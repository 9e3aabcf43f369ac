/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* backup verify: bundles open, and with their keys alone every file of a backup. */
#include "backup_bundles.h"
#include "file_rows.h"

struct checking {
    struct cli_files files;
    struct kr_chain chain;
    struct kr_bundle *bundle;
};

static void end_checking(struct checking *checking)
{
    cli_files_cleanup(&checking->files);
    kr_bundle_free(checking->bundle);
    kr_chain_free(&checking->chain);
}
#define CHECKING __attribute__((cleanup(end_checking))) struct checking

static void print_bundles(const json_t *rows)
{
    json_t *row;
    size_t i;

    json_array_foreach(rows, i, row)
    {
        printf("%s: of keyring '%s', %s, %s: %lld versions of data keys, %lld secrets, %lld keys "
               "of single files\n",
               json_string_value(json_object_get(row, "bundle")),
               json_string_value(json_object_get(row, "keyring")),
               json_string_value(json_object_get(row, "created")),
               json_string_value(json_object_get(row, "scope")),
               (long long)json_integer_value(json_object_get(row, "data_key_versions")),
               (long long)json_integer_value(json_object_get(row, "secrets")),
               (long long)json_integer_value(json_object_get(row, "file_keys")));
    }
}

static enum kr_status tell_bundles(struct cli *cli, json_t *rows, struct kr_error *err)
{
    CLI_JSON result = json_pack("{s:O}", "bundles", rows);

    if (!result)
        return kr_fail_memory(err);
    if (cli_print_json(cli, result))
        return KR_OK;
    print_bundles(rows);
    cli_hint("whether a backup's files open with it: p11keyring backup verify BUNDLE FOLDER...");
    return KR_OK;
}

/* Each page, block and event of all files; the keys that are missing are named. */
static enum kr_status check_files(struct cli *cli, struct checking *checking, json_t *rows,
                                  size_t bundles, struct kr_error *err)
{
    char **paths = cli->args + bundles;
    const size_t count = (size_t)cli->arg_count - bundles;
    struct kr_file_keys *keys = NULL;

    KR_TRY(kr_file_keys_of_bundle(checking->bundle, &keys, err));
    KR_TRY(cli_files_begin_with(cli, keys, paths, count, &checking->files, err));
    if (!cli_flag(cli, OPT_JSON))
        print_bundles(rows);
    return cli_verify_files(&checking->files, rows, err);
}

enum kr_status cli_run_backup_verify(struct cli *cli, struct kr_error *err)
{
    CHECKING checking = {.bundle = NULL};
    CLI_JSON rows = json_array();
    size_t bundles = 0;

    KR_TRY(cli_sort_arguments(cli, &bundles, err));
    KR_TRY(
        kr_chain_read(cli->args + bundles, (size_t)cli->arg_count - bundles, &checking.chain, err));
    KR_TRY(kr_chain_check(&checking.chain, err));
    KR_TRY(cli_open_bundles(cli, bundles, &checking.bundle, rows, err));
    if ((size_t)cli->arg_count == bundles)
        return tell_bundles(cli, rows, err);
    return check_files(cli, &checking, rows, bundles, err);
}
