/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* token init, list, info, unguard. */
#include <p11-kit/pkcs11.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "pkcs11/admin.h"
#include "pkcs11/pin_guard.h"

/* --- init ------------------------------------------------------------------------------------- */

static enum kr_status parse_slot(const struct cli *cli, unsigned long *ret, struct kr_error *err)
{
    const char *text = cli->values[OPT_SLOT];
    char *end;

    *ret = KR_ADMIN_ANY_SLOT;
    if (!text)
        return KR_OK;
    *ret = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || *ret == KR_ADMIN_ANY_SLOT)
        return kr_fail(err, KR_USAGE, "--slot takes the number of a slot");
    return KR_OK;
}

static enum kr_status require_module(const struct cli *cli, struct kr_error *err)
{
    if (cli->token->module)
        return KR_OK;
    kr_fail(err, KR_CONFIG, "no PKCS#11 module is configured");
    kr_hint(err, "set module in a [token:NAME] section of the configuration, or use --module");
    return KR_CONFIG;
}

static enum kr_status read_pin(const char *spec, const char *what, char **ret, struct kr_error *err)
{
    struct kr_pin_source *source;
    size_t len;

    KR_TRY(kr_pin_source_new(spec, what, &source, err));
    enum kr_status status = kr_pin_source_read(source, ret, &len, err);
    kr_pin_source_free(source);
    return status;
}

static enum kr_status check_init(const struct cli *cli, struct kr_error *err)
{
    const char *label = cli->values[OPT_LABEL];

    if (!label || !*label || strlen(label) > 32) {
        kr_fail(err, KR_USAGE, "token init needs --label with 1 to 32 bytes");
        return KR_USAGE;
    }
    if (!cli->values[OPT_SO_PIN_SOURCE]) {
        kr_fail(err, KR_USAGE, "token init needs --so-pin-source");
        kr_hint(err, "write the security officer's PIN to a file with mode 0600 and name it: "
                     "--so-pin-source file:PATH; or --so-pin-source prompt");
        return KR_USAGE;
    }
    KR_TRY(require_module(cli, err));
    if (cli->token->pin_source)
        return KR_OK;
    kr_fail(err, KR_USAGE, "token init needs --pin-source, or pin-source in the configuration");
    return KR_USAGE;
}

static enum kr_status print_initialised(struct cli *cli, const struct kr_token_info *info,
                                        struct kr_error *err)
{
    char *uri = cli_token_uri(info);
    CLI_JSON result = json_pack("{s:s?, s:o}", "uri", uri, "token", cli_token_json(info));

    if (!uri || !result) {
        free(uri);
        return kr_fail_memory(err);
    }
    if (!cli_print_json(cli, result)) {
        puts(uri);
        cli_note("write this as uri into the [token:NAME] section of the configuration");
    }
    if (geteuid() == 0) /* else cli_load_config() has gone on as the keystore's owner */
        cli_note("made as root, since no keystore in another user's folder is configured: see that "
                 "the server's user can use the token");
    free(uri);
    return KR_OK;
}

enum kr_status cli_run_token_init(struct cli *cli, struct kr_error *err)
{
    KR_SECRET char *so_pin = NULL;
    KR_SECRET char *pin = NULL;
    struct kr_token_info info;
    unsigned long slot;

    KR_TRY(parse_slot(cli, &slot, err));
    KR_TRY(cli_load_config(cli, err));
    KR_TRY(cli_choose_token(cli, err));
    KR_TRY(check_init(cli, err));
    KR_TRY(
        read_pin(cli->values[OPT_SO_PIN_SOURCE], "new PIN of the security officer", &so_pin, err));
    KR_TRY(read_pin(cli->token->pin_source, "new user PIN", &pin, err));
    if (cli_flag(cli, OPT_DRY_RUN))
        return cli_plan(cli, err, "initialise a token with label '%s'", cli->values[OPT_LABEL]);
    KR_TRY(kr_admin_init_token(cli->token->module, cli->token->init_args,
                               cli->config->pkcs11.timeout_ms, slot, cli->values[OPT_LABEL], so_pin,
                               pin, &info, err));
    return print_initialised(cli, &info, err);
}

/* --- list ------------------------------------------------------------------------------------- */

static json_t *token_row(const struct kr_token_info *info)
{
    char *uri = cli_token_uri(info);
    json_t *row = cli_token_json(info);
    const char *pin = info->pin_locked      ? "locked"
                      : info->pin_final_try ? "final try"
                      : info->pin_count_low ? "wrong tries"
                      : info->user_pin_set  ? "set"
                                            : "not set";

    json_object_set_new(row, "uri", json_string(uri));
    json_object_set_new(row, "pin", json_string(pin));
    free(uri);
    return row;
}

enum kr_status cli_run_token_list(struct cli *cli, struct kr_error *err)
{
    static const struct cli_column columns[] = {
        {"SLOT", "slot"},     {"LABEL", "label"}, {"MODEL", "model"},
        {"SERIAL", "serial"}, {"PIN", "pin"},     {"INITIALIZED", "initialized"},
        {"URI", "uri"},       {NULL, NULL},
    };
    struct kr_token_info *tokens;
    size_t count;

    KR_TRY(cli_load_config(cli, err));
    KR_TRY(cli_choose_token(cli, err));
    KR_TRY(require_module(cli, err));
    KR_TRY(kr_admin_list_tokens(cli->token->module, cli->token->init_args,
                                cli->config->pkcs11.timeout_ms, &tokens, &count, err));
    CLI_JSON rows = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(rows, token_row(&tokens[i]));
    free(tokens);
    CLI_JSON result = json_pack("{s:O?}", "tokens", rows);
    if (!rows || !result)
        return kr_fail_memory(err);
    return cli_print_json(cli, result) ? KR_OK : cli_print_table(rows, columns, err);
}

/* --- info ------------------------------------------------------------------------------------- */

/* The mechanisms that master keys need or may need. */
static const struct {
    const char *name;
    unsigned long number;
} mechanisms[] = {
    {"CKM_AES_KEY_GEN", CKM_AES_KEY_GEN},
    {"CKM_AES_GCM", CKM_AES_GCM},
    {"CKM_AES_KEY_WRAP_PAD", CKM_AES_KEY_WRAP_PAD},
};

static enum kr_status mechanism_rows(struct kr_token *token, json_t *ret, struct kr_error *err)
{
    unsigned long *offered;
    size_t count;

    KR_TRY(kr_token_mechanisms(token, &offered, &count, err));
    for (size_t i = 0; i < sizeof mechanisms / sizeof *mechanisms; i++) {
        bool found = false;
        for (size_t j = 0; j < count; j++)
            found |= offered[j] == mechanisms[i].number;
        json_object_set_new(ret, mechanisms[i].name, json_boolean(found));
    }
    free(offered);
    return KR_OK;
}

static enum kr_status add_guard(struct cli *cli, const struct cli_token *token, json_t *result,
                                struct kr_error *err)
{
    bool guarded = false;
    int64_t since = 0;

    KR_TRY(cli_guard_state(cli, token, &guarded, &since, err));
    json_object_set_new(result, "guarded", json_boolean(guarded));
    json_object_set_new(result, "guarded_since", guarded ? cli_time(since) : json_null());
    return KR_OK;
}

enum kr_status cli_run_token_info(struct cli *cli, struct kr_error *err)
{
    static const struct cli_column fields[] = {
        {"label", "label"},
        {"manufacturer", "manufacturer"},
        {"model", "model"},
        {"serial", "serial"},
        {"hardware", "hardware"},
        {"firmware", "firmware"},
        {"slot", "slot"},
        {"uri", "uri"},
        {"user PIN set", "user_pin_set"},
        {"wrong tries", "pin_count_low"},
        {"final try", "pin_final_try"},
        {"PIN locked", "pin_locked"},
        {"PIN guarded", "guarded"},
        {"guarded since", "guarded_since"},
        {NULL, NULL},
    };
    static const struct cli_column offered[] = {
        {"CKM_AES_KEY_GEN", "CKM_AES_KEY_GEN"},
        {"CKM_AES_GCM", "CKM_AES_GCM"},
        {"CKM_AES_KEY_WRAP_PAD", "CKM_AES_KEY_WRAP_PAD"},
        {NULL, NULL},
    };
    CLI_TOKEN token = {0};

    KR_TRY(cli_load_full_config(cli, err));
    KR_TRY(cli_choose_token(cli, err));
    KR_TRY(cli_open_token(cli, &token, err));
    CLI_JSON result = token_row(&token.info);
    json_t *list = json_object();
    if (json_object_set_new(result, "mechanisms", list) != 0)
        return kr_fail_memory(err);
    KR_TRY(mechanism_rows(token.token, list, err));
    KR_TRY(add_guard(cli, &token, result, err));
    if (cli_print_json(cli, result))
        return KR_OK;
    cli_print_fields(result, fields);
    cli_print_fields(list, offered);
    return KR_OK;
}

/* --- unguard ---------------------------------------------------------------------------------- */

enum kr_status cli_run_token_unguard(struct cli *cli, struct kr_error *err)
{
    CLI_TOKEN token = {0};
    char token_id[KR_GUARD_ID_MAX];
    bool cleared = false;
    int64_t since = 0;

    KR_TRY(cli_load_full_config(cli, err));
    KR_TRY(cli_choose_token(cli, err));
    KR_TRY(cli_open_token(cli, &token, err));
    if (cli_flag(cli, OPT_DRY_RUN)) {
        KR_TRY(cli_guard_state(cli, &token, &cleared, &since, err));
        return cli_plan(cli, err, "%s",
                        cleared ? "clear the PIN guard" : "do nothing: the PIN is not guarded");
    }
    kr_token_guard_id(&token.info, token_id);
    char *path = kr_keyring_guard_path(cli->config);
    const struct kr_audit_event event = {.name = "token-unguard", .token = cli->token->name};
    enum kr_status status = path ? kr_audit_begin(token.audit, &event, err) : kr_fail_memory(err);
    if (status == KR_OK)
        status =
            kr_pin_guard_clear(path, token_id, cli->config->keyring.lock_timeout_ms, &cleared, err);
    free(path);
    kr_audit_end(token.audit, &event, status == KR_OK ? NULL : err);
    KR_TRY(status);
    CLI_JSON result = json_pack("{s:b}", "cleared", cleared);
    if (!cli_print_json(cli, result))
        puts(cleared ? "the PIN guard is cleared: the next login tries the PIN once"
                     : "the PIN was not guarded");
    return KR_OK;
}
