/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* key create, list, show, rotate, disable, enable. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "key_file.h"

static enum kr_status open_keyring(struct cli *cli, struct kr_keyring **ret, struct kr_error *err)
{
    KR_TRY(cli_load_full_config(cli, err));
    return kr_keyring_open(cli->config, ret, err);
}

static enum kr_status print_version(const struct cli *cli, const char *done, uint32_t id,
                                    uint32_t version, enum kr_cipher cipher, struct kr_error *err)
{
    const char *name = kr_cipher_name(cipher);
    CLI_JSON result = json_pack("{s:I, s:I, s:s}", "id", (json_int_t)id, "version",
                                (json_int_t)version, "cipher", name);

    if (!result)
        return kr_fail_memory(err);
    if (!cli_print_json(cli, result))
        printf("key %u %s: version %u, %s\n", id, done, version, name);
    cli_hint_bundle(cli, "this version is in no bundle yet");
    return KR_OK;
}

static enum kr_status fail_missing(struct kr_error *err, uint32_t id)
{
    kr_fail(err, KR_NOT_FOUND, "there is no key %u", id);
    kr_hint(err, "p11keyring key list shows the keys; p11keyring key create %u makes it", id);
    return KR_NOT_FOUND;
}

/* --- create ----------------------------------------------------------------------------------- */

enum kr_status cli_run_key_create(struct cli *cli, struct kr_error *err)
{
    KR_SECRET uint8_t *import = NULL;
    CLI_KEYRING keyring = NULL;
    enum kr_cipher cipher;
    size_t import_len = 0;
    uint32_t id, version;

    KR_TRY(cli_parse_id(cli->args[0], &id, err));
    KR_TRY(cli_load_full_config(cli, err));
    KR_TRY(cli_cipher(cli, &cipher, err));
    if (cli_flag(cli, OPT_IMPORT))
        KR_TRY(cli_read_key_file(cli->values[OPT_IMPORT], id, &import, &import_len, err));
    KR_TRY(kr_keyring_open(cli->config, &keyring, err));
    if (cli_flag(cli, OPT_DRY_RUN)) {
        if (kr_keyring_latest(keyring, id) != 0)
            return kr_fail(err, KR_REFUSED, "key %u exists already", id);
        return cli_plan(cli, err, "create key %u, version 1, %s", id, kr_cipher_name(cipher));
    }
    KR_TRY(kr_keyring_create_key(keyring, id, cipher, import, import_len, &version, err));
    return print_version(cli, import ? "imported" : "created", id, version, cipher, err);
}

/* --- list, show ------------------------------------------------------------------------------- */

enum kr_status cli_run_key_list(struct cli *cli, struct kr_error *err)
{
    CLI_KEYSTORE keystore = NULL;
    CLI_KEYRING keyring = NULL;
    CLI_JSON rows = NULL;
    CLI_JSON imported = NULL;

    KR_TRY(cli_load_full_config(cli, err));
    KR_TRY(cli_open_keystore(cli, &keystore, err));
    KR_TRY(cli_verify(cli, &keyring, err));
    KR_TRY(cli_read_keys(keystore, &rows, err));
    KR_TRY(cli_read_imported(keystore, &imported, err));
    cli_warn_imported(cli, imported);
    CLI_JSON result = json_pack("{s:b, s:O, s:O}", "verified", keyring != NULL, "keys", rows,
                                "mysql_imported", imported);
    if (!result)
        return kr_fail_memory(err);
    return cli_print_json(cli, result) ? KR_OK : cli_print_table(rows, cli_key_columns, err);
}

struct show {
    const struct kr_keyring *keyring; /* NULL: the token is away */
    uint32_t id;
    const char *id_text;
    json_t *versions;
};

static enum kr_status show_version(const struct kr_version_row *row, void *context,
                                   struct kr_error *err)
{
    const struct show *show = context;
    const struct kr_data_key *key;
    json_t *object;

    if (strcmp(row->id, show->id_text) != 0)
        return KR_OK;
    key = show->keyring ? kr_keyring_find(show->keyring, show->id, row->version) : NULL;
    object =
        json_pack("{s:I, s:o, s:o, s:o}", "version", (json_int_t)row->version, "cipher",
                  cli_text(row->cipher), "bits", key ? json_integer(8LL * key->len) : json_null(),
                  "created", cli_time(row->created));
    return json_array_append_new(show->versions, object) == 0 ? KR_OK : kr_fail_memory(err);
}

static enum kr_status find_key(struct kr_keystore *keystore, uint32_t id, json_t **ret,
                               struct kr_error *err)
{
    CLI_JSON rows = NULL;
    json_t *row;
    size_t i;

    KR_TRY(cli_read_keys(keystore, &rows, err));
    json_array_foreach(rows, i, row) if (json_integer_value(json_object_get(row, "id")) == id)
    {
        *ret = json_incref(row);
        return KR_OK;
    }
    return fail_missing(err, id);
}

static bool is_enabled(const json_t *key)
{
    return strcmp(json_string_value(json_object_get(key, "state")), "enabled") == 0;
}

static void print_shown(const json_t *key)
{
    static const struct cli_column fields[] = {
        {"key", "id"}, {"state", "state"}, {"created", "created"}, {NULL, NULL}};

    cli_print_fields(key, fields);
    putchar('\n');
}

enum kr_status cli_run_key_show(struct cli *cli, struct kr_error *err)
{
    static const struct cli_column columns[] = {
        {"VERSION", "version"}, {"CIPHER", "cipher"}, {"BITS", "bits"},
        {"CREATED", "created"}, {NULL, NULL},
    };
    CLI_KEYSTORE keystore = NULL;
    CLI_KEYRING keyring = NULL;
    CLI_JSON key = NULL;
    CLI_JSON versions = json_array();
    char id_text[12];
    uint32_t id;

    KR_TRY(cli_parse_id(cli->args[0], &id, err));
    KR_TRY(cli_load_full_config(cli, err));
    KR_TRY(cli_open_keystore(cli, &keystore, err));
    KR_TRY(find_key(keystore, id, &key, err));
    KR_TRY(cli_verify(cli, &keyring, err));
    snprintf(id_text, sizeof id_text, "%u", id);
    struct show show = {keyring, id, id_text, versions};
    KR_TRY(kr_keystore_each_version(keystore, KR_NS_MARIADB, show_version, &show, err));
    CLI_JSON result = json_pack("{s:b, s:O, s:O}", "verified", keyring != NULL, "key", key,
                                "key_versions", versions);
    if (!result)
        return kr_fail_memory(err);
    if (cli_print_json(cli, result))
        return KR_OK;
    print_shown(key);
    return cli_print_table(versions, columns, err);
}

/* --- rotate ----------------------------------------------------------------------------------- */

static enum kr_status plan_rotation(struct cli *cli, uint32_t id, enum kr_cipher cipher,
                                    struct kr_error *err)
{
    CLI_KEYSTORE keystore = NULL;
    CLI_JSON key = NULL;

    KR_TRY(cli_open_keystore(cli, &keystore, err));
    KR_TRY(find_key(keystore, id, &key, err));
    if (!is_enabled(key))
        return kr_fail(err, KR_REFUSED, "key %u is disabled", id);
    return cli_plan(cli, err, "rotate key %u, now at version %lld, to %s", id,
                    (long long)json_integer_value(json_object_get(key, "latest")),
                    kr_cipher_name(cipher));
}

static enum kr_status rotate_one(struct cli *cli, struct kr_error *err)
{
    CLI_KEYRING keyring = NULL;
    enum kr_cipher cipher;
    uint32_t id, version;

    KR_TRY(cli_parse_id(cli->args[0], &id, err));
    KR_TRY(open_keyring(cli, &keyring, err));
    KR_TRY(cli_cipher(cli, &cipher, err));
    if (cli_flag(cli, OPT_DRY_RUN))
        return plan_rotation(cli, id, cipher, err);
    KR_TRY(kr_keyring_rotate_key(keyring, id, cipher, &version, err));
    return print_version(cli, "rotated", id, version, cipher, err);
}

/* A terminal is asked; a pipe is never taken for a yes. */
static enum kr_status confirm(const struct cli *cli, size_t keys, struct kr_error *err)
{
    char answer[8] = "";

    if (cli_flag(cli, OPT_YES))
        return KR_OK;
    if (isatty(STDIN_FILENO)) {
        fprintf(stderr, "Rotate %zu keys, so that servers re-encrypt everything? [y/N] ", keys);
        if (fgets(answer, sizeof answer, stdin) && (*answer == 'y' || *answer == 'Y'))
            return KR_OK;
    }
    kr_fail(err, KR_REFUSED, "rotating %zu keys was not confirmed", keys);
    kr_hint(err, "p11keyring key rotate --all --yes");
    return KR_REFUSED;
}

static json_t *enabled_keys(const json_t *rows)
{
    json_t *enabled = json_array();
    json_t *row;
    size_t i;

    json_array_foreach(rows, i,
                       row) if (is_enabled(row) && json_is_integer(json_object_get(row, "latest")))
        json_array_append(enabled, row);
    return enabled;
}

static enum kr_status rotate_rows(struct cli *cli, struct kr_keyring *keyring, json_t *rows,
                                  enum kr_cipher cipher, struct kr_error *err)
{
    json_t *row;
    size_t i;

    json_array_foreach(rows, i, row)
    {
        uint32_t id = (uint32_t)json_integer_value(json_object_get(row, "id")), version;
        if (kr_keyring_rotate_key(keyring, id, cipher, &version, err) != KR_OK) {
            kr_error_context(err, "key %u (%zu of %zu keys are rotated)", id, i,
                             json_array_size(rows));
            return err->status;
        }
        json_object_set_new(row, "latest", json_integer(version));
        json_object_set_new(row, "cipher", json_string(kr_cipher_name(cipher)));
        if (!cli_flag(cli, OPT_JSON))
            printf("key %u rotated: version %u, %s\n", id, version, kr_cipher_name(cipher));
    }
    return KR_OK;
}

static enum kr_status rotate_all(struct cli *cli, struct kr_error *err)
{
    CLI_KEYSTORE keystore = NULL;
    CLI_KEYRING keyring = NULL;
    CLI_JSON all = NULL;
    enum kr_cipher cipher;

    KR_TRY(open_keyring(cli, &keyring, err));
    KR_TRY(cli_cipher(cli, &cipher, err));
    KR_TRY(cli_open_keystore(cli, &keystore, err));
    KR_TRY(cli_read_keys(keystore, &all, err));
    CLI_JSON rows = enabled_keys(all);
    if (cli_flag(cli, OPT_DRY_RUN))
        return cli_plan(cli, err, "rotate %zu keys to %s", json_array_size(rows),
                        kr_cipher_name(cipher));
    KR_TRY(confirm(cli, json_array_size(rows), err));
    KR_TRY(rotate_rows(cli, keyring, rows, cipher, err));
    CLI_JSON result = json_pack("{s:O?}", "keys", rows);
    if (!result)
        return kr_fail_memory(err);
    cli_print_json(cli, result);
    return KR_OK;
}

enum kr_status cli_run_key_rotate(struct cli *cli, struct kr_error *err)
{
    bool all = cli_flag(cli, OPT_ALL);

    if (all == (cli->arg_count == 1))
        return kr_fail(err, KR_USAGE, "key rotate takes a key id or --all");
    return all ? rotate_all(cli, err) : rotate_one(cli, err);
}

/* --- disable, enable -------------------------------------------------------------------------- */

static enum kr_status set_disabled(struct cli *cli, bool disabled, struct kr_error *err)
{
    const char *done = disabled ? "disabled" : "enabled";
    CLI_KEYRING keyring = NULL;
    uint32_t id;

    KR_TRY(cli_parse_id(cli->args[0], &id, err));
    KR_TRY(open_keyring(cli, &keyring, err));
    if (kr_keyring_latest(keyring, id) == 0)
        return fail_missing(err, id);
    if (cli_flag(cli, OPT_DRY_RUN))
        return cli_plan(cli, err, "set key %u to %s", id, done);
    KR_TRY(kr_keyring_set_disabled(keyring, id, disabled, err));
    CLI_JSON result = json_pack("{s:I, s:s}", "id", (json_int_t)id, "state", done);
    if (!result)
        return kr_fail_memory(err);
    if (!cli_print_json(cli, result))
        printf("key %u %s\n", id, done);
    return KR_OK;
}

enum kr_status cli_run_key_disable(struct cli *cli, struct kr_error *err)
{
    return set_disabled(cli, true, err);
}

enum kr_status cli_run_key_enable(struct cli *cli, struct kr_error *err)
{
    return set_disabled(cli, false, err);
}
