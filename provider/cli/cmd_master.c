/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* master create, adopt, list. */
#include <errno.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hex.h"
#include "cli.h"
#include "provider/secrets.h"

static const struct cli_column columns[] = {
    {"ID", "id"},           {"LABEL", "label"},         {"TOKEN", "token"},
    {"STATE", "state"},     {"MECHANISM", "mechanism"}, {"WRAPS", "wraps"},
    {"CREATED", "created"}, {"IN TOKEN", "in_token"},   {"PROBLEM", "problem"},
    {NULL, NULL},
};

static json_t *id_text(const struct kr_object_id *id)
{
    char text[2 * KR_OBJECT_ID_MAX + 1];

    kr_hex_encode(id->bytes, id->len, text);
    return json_string(text);
}

json_t *cli_master_row(const struct kr_master_row *row)
{
    return json_pack("{s:o, s:o, s:s, s:s, s:s?, s:I, s:o, s:n, s:n}", "id", id_text(&row->id),
                     "label", cli_text(row->label), "token", row->token, "state",
                     row->state == KR_MASTER_CURRENT ? "current" : "old", "mechanism",
                     kr_wrap_mechanism_name(row->mechanism), "wraps", (json_int_t)row->wraps,
                     "created", cli_time(row->created), "in_token", "problem");
}

/* A MySQL master key that is to be in the token; which object it is, its label tells. */
static json_t *mysql_row(const char *keyring, const json_t *secret)
{
    char label[KR_SECRET_LABEL_SIZE];
    bool imported = json_is_true(json_object_get(secret, "imported"));

    kr_secret_label(keyring, json_string_value(json_object_get(secret, "id")), imported, label);
    return json_pack("{s:n, s:o, s:n, s:s, s:O, s:n, s:O, s:n, s:n}", "id", "label",
                     cli_text(label), "token", "state", imported ? "imported" : "mysql",
                     "mechanism", json_object_get(secret, "mechanism"), "wraps", "created",
                     json_object_get(secret, "created"), "in_token", "problem");
}

static json_t *token_row(const struct kr_master_info *info, const char *token)
{
    return json_pack("{s:o, s:o, s:s, s:s, s:n, s:n, s:n, s:b, s:s?}", "id", id_text(&info->id),
                     "label", cli_text(info->label), "token", token, "state", CLI_UNKNOWN_MASTER,
                     "mechanism", "wraps", "created", "in_token", 1, "problem", info->problem);
}

/* --- create, adopt ---------------------------------------------------------------------------- */

static unsigned count_named(const struct kr_master_info *found, size_t count, const char *keyring)
{
    char prefix[160];
    unsigned named = 0;

    int len = snprintf(prefix, sizeof prefix, "p11keyring:%s:", keyring);
    for (size_t i = 0; i < count; i++)
        named += !found[i].problem && strncmp(found[i].label, prefix, (size_t)len) == 0 &&
                 strncmp(found[i].label + len, "mysql", 5) != 0;
    return named;
}

static void warn_others(struct cli *cli, unsigned others)
{
    if (others == 0)
        return;
    cli_warn(cli, "the token holds %u other master key%s of keyring '%s'", others,
             others == 1 ? "" : "s", cli->config->keyring.name);
    cli_hint("if a keystore was lost, restore it from a backup instead: the data keys that these "
             "master keys protect are in it and nowhere else");
}

static enum kr_status check_directory(const char *keystore, struct kr_error *err)
{
    char *copy = strdup(keystore);
    const char *dir = copy ? dirname(copy) : NULL;
    enum kr_status status = dir ? KR_OK : kr_fail_memory(err);

    if (dir && access(dir, W_OK | X_OK) != 0)
        status = kr_fail(err, KR_IO, "cannot make a file in %s: %s", dir, strerror(errno));
    free(copy);
    return status;
}

/* Everything that can fail for a reason of its own, without a change. */
static enum kr_status rehearse(struct cli *cli, const char *adopt_uri, struct kr_error *err)
{
    const char *keystore = cli->config->keyring.keystore;
    struct kr_master_info *found, adopted;
    CLI_TOKEN token = {0};
    size_t count;

    KR_TRY(check_directory(keystore, err));
    KR_TRY(kr_keyring_check_new(cli->config, cli->values[OPT_CONFIRM] != NULL, err));
    KR_TRY(cli_open_token(cli, &token, err));
    KR_TRY(kr_master_list(token.token, &found, &count, err));
    unsigned named = count_named(found, count, cli->config->keyring.name);
    free(found);
    if (adopt_uri) {
        KR_TRY(kr_master_find_uri(token.token, adopt_uri, &adopted, err));
        return cli_plan(cli, err, "make the keystore %s around the master key '%s'", keystore,
                        adopted.label);
    }
    warn_others(cli, named);
    return cli_plan(cli, err, "make a master key in token '%s' and the keystore %s",
                    token.info.label, keystore);
}

static enum kr_status print_made(struct cli *cli, const struct kr_master_row *masters, size_t count,
                                 struct kr_error *err)
{
    const char *keystore = cli->config->keyring.keystore;
    CLI_JSON rows = json_array();

    for (size_t i = 0; i < count; i++) {
        json_t *row = cli_master_row(&masters[i]);
        json_object_set_new(row, "in_token", json_true());
        json_array_append_new(rows, row);
    }
    CLI_JSON result = json_pack("{s:s, s:s, s:O?}", "keyring", cli->config->keyring.name,
                                "keystore", keystore, "master_keys", rows);
    if (!rows || !result)
        return kr_fail_memory(err);
    if (cli_print_json(cli, result))
        return KR_OK;
    for (size_t i = 0; i < count; i++)
        printf("master key '%s' (%s) in token '%s'\n", masters[i].label,
               kr_wrap_mechanism_name(masters[i].mechanism), masters[i].token);
    printf("keystore %s\n", keystore);
    cli_hint_bundle(cli, "keys that you make are lost with this token, unless a bundle has them");
    return KR_OK;
}

/* Only --confirm: what it is needed for comes with the refusal. */
static enum kr_status replaces(const struct cli *cli, bool *ret, struct kr_error *err)
{
    *ret = cli->values[OPT_CONFIRM] != NULL;
    return *ret ? cli_confirm_name(cli, cli->config->keyring.name, "", "replacing a keyring", err)
                : KR_OK;
}

static enum kr_status make_keyring(struct cli *cli, const char *adopt_uri, struct kr_error *err)
{
    struct kr_master_row masters[KR_TOKENS_MAX];
    size_t count = 0;
    unsigned others = 0;
    bool replace;

    KR_TRY(cli_load_full_config(cli, err));
    KR_TRY(replaces(cli, &replace, err));
    if (cli_flag(cli, OPT_DRY_RUN))
        return rehearse(cli, adopt_uri, err);
    KR_TRY(kr_keyring_create(cli->config, adopt_uri, replace, masters, &count, &others, err));
    warn_others(cli, others);
    return print_made(cli, masters, count, err);
}

enum kr_status cli_run_master_create(struct cli *cli, struct kr_error *err)
{
    return cli->values[OPT_TOKEN] ? cli_add_token(cli, err) : make_keyring(cli, NULL, err);
}

enum kr_status cli_run_master_adopt(struct cli *cli, struct kr_error *err)
{
    return make_keyring(cli, cli->args[0], err);
}

/* --- list ------------------------------------------------------------------------------------- */

static enum kr_status mysql_masters(struct cli *cli, struct kr_keystore *keystore, json_t *rows,
                                    struct kr_error *err)
{
    CLI_JSON secrets = NULL;
    json_t *secret;
    size_t i;

    KR_TRY(cli_read_secrets(keystore, &secrets, err));
    json_array_foreach(secrets, i, secret)
    {
        if (json_is_string(json_object_get(secret, "mechanism")))
            json_array_append_new(rows, mysql_row(cli->config->keyring.name, secret));
    }
    return KR_OK;
}

/* A lost keystore is no reason to hide what the token has. */
static enum kr_status keystore_masters(struct cli *cli, json_t *rows, struct kr_error *err)
{
    CLI_KEYSTORE keystore = NULL;
    struct kr_master_row *masters;
    size_t count;

    if (cli_open_keystore(cli, &keystore, err) != KR_OK) {
        if (err->status != KR_NOT_FOUND)
            return err->status;
        cli_warn(cli, "%s", err->text);
        return KR_OK;
    }
    KR_TRY(kr_keystore_list_masters(keystore, &masters, &count, err));
    for (size_t i = 0; i < count; i++)
        json_array_append_new(rows, cli_master_row(&masters[i]));
    free(masters);
    return mysql_masters(cli, keystore, rows, err);
}

/* By id where the keystore tells it without the token, else by label. */
static json_t *find_row(json_t *rows, size_t count, const json_t *id, const json_t *label)
{
    for (size_t i = 0; i < count; i++) {
        json_t *row = json_array_get(rows, i);
        const json_t *known = json_object_get(row, "id");
        if (json_is_null(known) ? json_equal(json_object_get(row, "label"), label)
                                : json_equal(known, id))
            return row;
    }
    return NULL;
}

/* Completes the first `known` rows, which the keystore has, and adds the token's other keys. */
static void join(json_t *rows, size_t known, const char *token, const struct kr_master_info *found,
                 size_t count)
{
    for (size_t i = 0; i < count; i++) {
        CLI_JSON id = id_text(&found[i].id);
        CLI_JSON label = cli_text(found[i].label);
        json_t *row = find_row(rows, known, id, label);
        if (!row) {
            json_array_append_new(rows, token_row(&found[i], token));
            continue;
        }
        json_object_set(row, "id", id);
        json_object_set_new(row, "in_token", json_true());
        json_object_set_new(row, "problem", cli_text(found[i].problem));
        if (json_is_null(json_object_get(row, "token")))
            json_object_set_new(row, "token", json_string(token));
    }
}

/* What a token that answered does not have, it lacks; of the others nothing is known. */
static void set_missing(json_t *rows, size_t known, const char *token, bool only_token)
{
    for (size_t i = 0; i < known; i++) {
        json_t *row = json_array_get(rows, i);
        const char *own = json_string_value(json_object_get(row, "token"));
        if (json_is_null(json_object_get(row, "in_token")) &&
            (only_token || (own && strcmp(own, token) == 0)))
            json_object_set_new(row, "in_token", json_false());
    }
}

static enum kr_status token_masters(struct cli *cli, const char *name, struct kr_master_info **ret,
                                    size_t *ret_count, struct kr_error *err)
{
    CLI_TOKEN token = {0};

    KR_TRY(cli_open_token_named(cli, name, &token, err));
    return kr_master_list(token.token, ret, ret_count, err);
}

static enum kr_status all_token_masters(struct cli *cli, json_t *rows, struct kr_error *err)
{
    const struct kr_config *config = cli->config;
    size_t known = json_array_size(rows);

    for (unsigned i = 0; i < config->token_count; i++) {
        const char *name = config->tokens[i].name;
        struct kr_error why = KR_ERROR_INIT;
        struct kr_master_info *found;
        size_t count;
        if (token_masters(cli, name, &found, &count, &why) == KR_OK) {
            join(rows, known, name, found, count);
            set_missing(rows, known, name, config->token_count == 1);
            free(found);
        } else {
            KR_TRY(cli_unless_away(cli, &why, err));
        }
    }
    return KR_OK;
}

enum kr_status cli_read_masters(struct cli *cli, json_t **ret, struct kr_error *err)
{
    CLI_JSON rows = json_array();

    if (!rows)
        return kr_fail_memory(err);
    KR_TRY(keystore_masters(cli, rows, err));
    KR_TRY(all_token_masters(cli, rows, err));
    *ret = json_incref(rows);
    return KR_OK;
}

enum kr_status cli_run_master_list(struct cli *cli, struct kr_error *err)
{
    CLI_JSON rows = NULL;

    KR_TRY(cli_load_full_config(cli, err));
    KR_TRY(cli_read_masters(cli, &rows, err));
    CLI_JSON result = json_pack("{s:O}", "master_keys", rows);
    if (!result)
        return kr_fail_memory(err);
    return cli_print_json(cli, result) ? KR_OK : cli_print_table(rows, columns, err);
}
