/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Bundles of the command line: which they are, and their passwords. */
#include "backup_bundles.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hex.h"
#include "base/io.h"

/* --- arguments -------------------------------------------------------------------------------- */

static bool is_bundle(const char *path)
{
    char start[4] = "";
    KR_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    return fd >= 0 && kr_read_full(fd, start, sizeof start) == (ssize_t)sizeof start &&
           memcmp(start, "P11B", sizeof start) == 0;
}

/* A stable partition. */
enum kr_status cli_sort_arguments(struct cli *cli, size_t *ret_bundles, struct kr_error *err)
{
    size_t bundles = 0;

    for (int i = 0; i < cli->arg_count; i++) {
        char *argument = cli->args[i];
        if (!is_bundle(argument))
            continue;
        memmove(cli->args + bundles + 1, cli->args + bundles,
                ((size_t)i - bundles) * sizeof *cli->args);
        cli->args[bundles++] = argument;
    }
    *ret_bundles = bundles;
    if (bundles > 0)
        return KR_OK;
    kr_fail(err, access(cli->args[0], R_OK) == 0 ? KR_INTEGRITY : KR_NOT_FOUND,
            "%s is no bundle, and none of the arguments is", cli->args[0]);
    kr_hint(err, "name one that p11keyring backup create made, before the folders of the backup");
    return err->status;
}

/* --- passwords -------------------------------------------------------------------------------- */

/* The source for bundle number `index`: one for all, or one for each. */
static enum kr_status choose(const struct cli_many *given, enum cli_option option, size_t index,
                             size_t bundles, const char **ret, struct kr_error *err)
{
    *ret = NULL;
    if (given->count == 0)
        return KR_OK;
    if (given->count != 1 && given->count != bundles)
        return kr_fail(err, KR_USAGE,
                       "--%s is given %zu times for %zu bundles: once for all, or once for each in "
                       "their order",
                       cli_options[option].name, given->count, bundles);
    *ret = given->at[given->count == 1 ? 0 : index];
    return KR_OK;
}

static enum kr_status make_source(const char *spec, const char *of, const char *path,
                                  struct kr_pin_source **ret, struct kr_error *err)
{
    char what[512];

    snprintf(what, sizeof what, "%s of %s", of, path);
    return kr_pin_source_new(spec ? spec : "prompt", what, ret, err);
}

struct sources {
    struct kr_pin_source *at[KR_CUSTODIANS_MAX];
    unsigned count;
};

static void free_sources(struct sources *sources)
{
    for (unsigned i = 0; i < KR_CUSTODIANS_MAX; i++)
        kr_pin_source_free(sources->at[i]);
}
#define SOURCES __attribute__((cleanup(free_sources))) struct sources

/* As many as are given; what the bundle needs beyond that is asked for. */
static enum kr_status find_sources(const struct cli *cli, const struct kr_sealed_bundle *file,
                                   size_t index, size_t bundles, struct sources *ret,
                                   struct kr_error *err)
{
    const char *first = NULL, *second = NULL;
    const unsigned needed = kr_bundle_custodians(&file->header);
    const bool two = needed == 2 || cli->second_passwords.count > 0;

    KR_TRY(choose(&cli->passwords, OPT_PASSWORD_SOURCE, index, bundles, &first, err));
    KR_TRY(
        choose(&cli->second_passwords, OPT_SECOND_PASSWORD_SOURCE, index, bundles, &second, err));
    KR_TRY(make_source(first, two ? "First password" : "Password", file->path, &ret->at[0], err));
    if (two)
        KR_TRY(make_source(second, "Second password", file->path, &ret->at[1], err));
    ret->count = two ? 2 : 1;
    return KR_OK;
}

/* --- opening ---------------------------------------------------------------------------------- */

/* A recipient's token is asked unless a password is given, or nobody else's can open it. */
static bool wants_token(const struct cli *cli, const struct kr_sealed_bundle *file)
{
    return kr_sealed_bundle_has_recipient(file) &&
           (cli->passwords.count == 0 || kr_bundle_custodians(&file->header) == 0);
}

static enum kr_status open_in_token(struct cli *cli, const struct kr_sealed_bundle *file,
                                    struct kr_bundle **ret, struct kr_error *err)
{
    if (!cli->config)
        KR_TRY(cli_load_config(cli, err));
    return kr_sealed_bundle_open_in_token(file, cli->config, ret, err);
}

static enum kr_status open_one(struct cli *cli, const struct kr_sealed_bundle *file, size_t index,
                               size_t bundles, struct kr_bundle **ret, struct kr_error *err)
{
    SOURCES sources = {.count = 0};

    if (wants_token(cli, file))
        return open_in_token(cli, file, ret, err);
    KR_TRY(find_sources(cli, file, index, bundles, &sources, err));
    return kr_sealed_bundle_open(file, sources.at, sources.count, ret, err);
}

static json_t *row_of(const char *path, const struct kr_bundle *bundle)
{
    const struct kr_bundle_info *info = kr_bundle_info(bundle);
    char id[2 * sizeof info->id + 1], keystore[2 * sizeof info->keystore + 1];
    json_int_t counts[KR_BUNDLE_FILE_KEY + 1] = {0};

    kr_hex_encode(info->id, sizeof info->id, id);
    kr_hex_encode(info->keystore, sizeof info->keystore, keystore);
    for (size_t i = 0; i < kr_bundle_count(bundle); i++)
        counts[kr_bundle_get(bundle, i).kind]++;
    return json_pack("{s:o, s:s, s:o, s:s, s:o, s:s, s:I, s:I, s:I}", "bundle", cli_text(path),
                     "id", id, "keyring", cli_text(info->keyring), "keystore_uuid", keystore,
                     "created", cli_time(info->created), "scope",
                     info->scope == KR_BUNDLE_ALL ? "all" : "files", "data_key_versions",
                     counts[KR_BUNDLE_MARIADB], "secrets", counts[KR_BUNDLE_SECRET], "file_keys",
                     counts[KR_BUNDLE_FILE_KEY]);
}

static enum kr_status add_one(struct cli *cli, size_t index, size_t bundles, struct kr_bundle **all,
                              json_t *rows, struct kr_error *err)
{
    KR_SEALED_BUNDLE file = {0};
    KR_BUNDLE *bundle = NULL;

    KR_TRY(kr_sealed_bundle_read(cli->args[index], &file, err));
    KR_TRY(open_one(cli, &file, index, bundles, &bundle, err));
    if (json_array_append_new(rows, row_of(cli->args[index], bundle)) != 0)
        return kr_fail_memory(err);
    if (!*all)
        KR_TRY(kr_bundle_new(kr_bundle_info(bundle), all, err));
    return kr_bundle_add_all(*all, bundle, err);
}

enum kr_status cli_open_bundles(struct cli *cli, size_t count, struct kr_bundle **ret, json_t *rows,
                                struct kr_error *err)
{
    KR_BUNDLE *all = NULL;

    if (!rows)
        return kr_fail_memory(err);
    for (size_t i = 0; i < count; i++)
        KR_TRY(add_one(cli, i, count, &all, rows, err));
    KR_TRY(kr_bundle_settle(all, err));
    *ret = all;
    all = NULL;
    return KR_OK;
}

/* --- new passwords ---------------------------------------------------------------------------- */

static enum kr_status compare_again(const char *of, const char *path, struct kr_pin_source *first,
                                    struct kr_error *err)
{
    SOURCES again = {.count = 1};
    KR_SECRET char *one = NULL, *other = NULL;
    size_t one_len = 0, other_len = 0;
    char what[64];

    snprintf(what, sizeof what, "%s again", of);
    KR_TRY(make_source(NULL, what, path, &again.at[0], err));
    KR_TRY(kr_pin_source_read(first, &one, &one_len, err));
    KR_TRY(kr_pin_source_read(again.at[0], &other, &other_len, err));
    if (one_len == other_len && memcmp(one, other, one_len) == 0)
        return KR_OK;
    return kr_fail(err, KR_USAGE, "the two entries of the password differ");
}

static enum kr_status new_password(const struct cli *cli, const struct cli_many *given,
                                   const char *of, struct kr_pin_source **ret, struct kr_error *err)
{
    const char *path = cli->values[OPT_OUTPUT];
    const char *spec = given->count > 0 ? given->at[0] : NULL;

    if (given->count > 1)
        return kr_fail(err, KR_USAGE, "a new bundle has one password of each custodian");
    KR_TRY(make_source(spec, of, path, ret, err));
    if (!spec || strcmp(spec, "prompt") == 0)
        return compare_again(of, path, *ret, err);
    return kr_pin_source_check(*ret, err);
}

enum kr_status cli_new_passwords(struct cli *cli, struct kr_pin_source *ret[KR_CUSTODIANS_MAX],
                                 unsigned *ret_count, struct kr_error *err)
{
    const bool two = cli->second_passwords.count > 0;

    *ret_count = 0;
    if (cli->passwords.count == 0 && two)
        return kr_fail(err, KR_USAGE, "--second-password-source needs --password-source");
    if (cli->passwords.count == 0 && cli_flag(cli, OPT_RECIPIENT))
        return KR_OK;
    KR_TRY(new_password(cli, &cli->passwords,
                        two ? "New password of the first custodian" : "New password", &ret[0],
                        err));
    *ret_count = 1;
    if (two)
        KR_TRY(new_password(cli, &cli->second_passwords, "New password of the second custodian",
                            &ret[1], err));
    *ret_count += two;
    return kr_sealed_bundle_check(ret, *ret_count, err);
}

void cli_tell_partial(const struct kr_chain *chain, json_t *result)
{
    json_t *partial = json_array();

    for (size_t i = 0; i < chain->count; i++) {
        if (!chain->links[i].partial)
            continue;
        json_array_append_new(partial, cli_text(chain->links[i].path));
        cli_note("%s is a partial backup: it has some databases or tables alone, and what it left "
                 "out cannot be restored from it",
                 chain->links[i].path);
    }
    json_object_set_new(result, "partial", partial);
}
