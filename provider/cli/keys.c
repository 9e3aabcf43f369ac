/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What the keystore says of data keys, with and without the token. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "provider/secrets.h"

const struct cli_column cli_key_columns[] = {
    {"ID", "id"},         {"LATEST", "latest"}, {"VERSIONS", "versions"},
    {"CIPHER", "cipher"}, {"STATE", "state"},   {"CREATED", "created"},
    {NULL, NULL},
};

enum kr_status cli_open_keystore(struct cli *cli, struct kr_keystore **ret, struct kr_error *err)
{
    const struct kr_keystore_options options = {
        .path = cli->config->keyring.keystore,
        .keyring = cli->config->keyring.name,
        .lock_timeout_ms = cli->config->keyring.lock_timeout_ms,
    };

    return kr_keystore_open(&options, ret, err);
}

void cli_keystore_cleanup(struct kr_keystore **keystore)
{
    kr_keystore_close(*keystore);
}

void cli_keyring_cleanup(struct kr_keyring **keyring)
{
    kr_keyring_close(*keyring);
}

enum kr_status cli_unless_away(struct cli *cli, const struct kr_error *why, struct kr_error *err)
{
    switch (why->status) {
    case KR_TOKEN_UNAVAILABLE:
    case KR_NOT_FOUND:
    case KR_AUTH:
        cli_warn(cli, "not verified against the token: %s", why->text);
        if (*why->hint)
            cli_hint("%s", why->hint);
        return KR_OK;
    default:
        *err = *why;
        return why->status;
    }
}

enum kr_status cli_verify(struct cli *cli, struct kr_keyring **ret, struct kr_error *err)
{
    struct kr_error why = KR_ERROR_INIT;

    if (kr_keyring_open(cli->config, ret, &why) == KR_OK)
        return KR_OK;
    *ret = NULL;
    return cli_unless_away(cli, &why, err);
}

/* Rows by id, as the keystore gives them: keys first, then their versions. */
struct key_rows {
    json_t *list, *by_id;
};

static enum kr_status add_key(const struct kr_key_row *row, void *context, struct kr_error *err)
{
    struct key_rows *rows = context;
    json_t *object =
        json_pack("{s:I, s:n, s:i, s:n, s:s, s:o}", "id", (json_int_t)strtoul(row->id, NULL, 10),
                  "latest", "versions", 0, "cipher", "state",
                  row->disabled ? "disabled" : "enabled", "created", cli_time(row->created));

    if (json_array_append_new(rows->list, object) != 0 ||
        json_object_set(rows->by_id, row->id, object) != 0)
        return kr_fail_memory(err);
    return KR_OK;
}

/* Versions come in rising order: the last one stays as the latest. */
static enum kr_status add_version(const struct kr_version_row *row, void *context,
                                  struct kr_error *err)
{
    struct key_rows *rows = context;
    json_t *object = json_object_get(rows->by_id, row->id);
    json_int_t versions = json_integer_value(json_object_get(object, "versions"));

    if (!object)
        return kr_fail(err, KR_INTEGRITY, "the keystore has a version of a key that it has not");
    if (json_object_set_new(object, "latest", json_integer(row->version)) != 0 ||
        json_object_set_new(object, "versions", json_integer(versions + 1)) != 0 ||
        json_object_set_new(object, "cipher", cli_text(row->cipher)) != 0)
        return kr_fail_memory(err);
    return KR_OK;
}

static enum kr_status read_rows(struct kr_keystore *keystore, struct key_rows *rows,
                                struct kr_error *err)
{
    KR_TRY(kr_keystore_begin_read(keystore, err));
    enum kr_status status = kr_keystore_each_key(keystore, KR_NS_MARIADB, add_key, rows, err);
    if (status == KR_OK)
        status = kr_keystore_each_version(keystore, KR_NS_MARIADB, add_version, rows, err);
    if (status == KR_OK)
        return kr_keystore_commit(keystore, err);
    kr_keystore_rollback(keystore);
    return status;
}

enum kr_status cli_read_keys(struct kr_keystore *keystore, json_t **ret, struct kr_error *err)
{
    CLI_JSON by_id = json_object();
    CLI_JSON list = json_array();
    struct key_rows rows = {list, by_id};

    if (!by_id || !list)
        return kr_fail_memory(err);
    KR_TRY(read_rows(keystore, &rows, err));
    *ret = json_incref(list);
    return KR_OK;
}

/* "token-ecb", "token-ecb-imported" and the like; all others are wrapped. */
static enum kr_status add_secret(const struct kr_version_row *row, void *context,
                                 struct kr_error *err)
{
    bool resident = strncmp(row->cipher, "token-", 6) == 0;
    bool imported = resident && strstr(row->cipher, "-imported");
    char mechanism[16];

    snprintf(mechanism, sizeof mechanism, "aes-%.3s", resident ? row->cipher + 6 : "");
    json_t *object = json_pack("{s:o, s:s?, s:b, s:o}", "id", cli_text(row->id), "mechanism",
                               resident ? mechanism : NULL, "imported", imported, "created",
                               cli_time(row->created));
    return json_array_append_new(context, object) == 0 ? KR_OK : kr_fail_memory(err);
}

enum kr_status cli_read_secrets(struct kr_keystore *keystore, json_t **ret, struct kr_error *err)
{
    CLI_JSON list = json_array();

    if (!list)
        return kr_fail_memory(err);
    KR_TRY(kr_keystore_begin_read(keystore, err));
    enum kr_status status = kr_keystore_each_version(keystore, KR_NS_MYSQL, add_secret, list, err);
    kr_keystore_rollback(keystore);
    if (status == KR_OK)
        *ret = json_incref(list);
    return status;
}

enum kr_status cli_current_master(struct kr_keystore *keystore, const char *token,
                                  struct kr_master_row *ret, struct kr_error *err)
{
    struct kr_master_row *rows = NULL;
    size_t count = 0, found = SIZE_MAX;

    KR_TRY(kr_keystore_list_masters(keystore, &rows, &count, err));
    for (size_t i = 0; i < count; i++)
        if (rows[i].state == KR_MASTER_CURRENT &&
            (found == SIZE_MAX || strcmp(rows[i].token, token) == 0))
            found = i;
    if (found != SIZE_MAX)
        *ret = rows[found];
    free(rows);
    if (found != SIZE_MAX)
        return KR_OK;
    kr_fail(err, KR_NOT_FOUND, "the keystore %s names no current master key",
            kr_keystore_path(keystore));
    kr_hint(err, "restore the keystore from a backup");
    return KR_NOT_FOUND;
}
