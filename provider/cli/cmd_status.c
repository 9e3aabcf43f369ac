/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* status: counts first, then the table of keys. */
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/hex.h"
#include "cli.h"

static void set_keyring(const struct cli *cli, const struct kr_keystore *keystore, json_t *result)
{
    char uuid[2 * KR_KEYSTORE_UUID_BYTES + 1];
    const char *path = cli->config->keyring.keystore;
    struct stat st = {0};

    if (stat(path, &st) != 0)
        st.st_uid = (uid_t)-1;
    const struct passwd *owner = getpwuid(st.st_uid);
    kr_hex_encode(kr_keystore_uuid(keystore), KR_KEYSTORE_UUID_BYTES, uuid);
    json_object_set_new(result, "keyring", cli_text(cli->config->keyring.name));
    json_object_set_new(result, "keystore", cli_text(path));
    json_object_set_new(result, "keystore_uuid", json_string(uuid));
    json_object_set_new(result, "keystore_bytes", json_integer(st.st_size));
    json_object_set_new(result, "keystore_owner", cli_text(owner ? owner->pw_name : NULL));
}

static enum kr_status set_master(const struct cli *cli, struct kr_keystore *keystore,
                                 json_t *result, struct kr_error *err)
{
    struct kr_master_row master;

    KR_TRY(cli_current_master(keystore, cli->config->tokens[0].name, &master, err));
    json_object_set_new(result, "master_key", cli_text(master.label));
    json_object_set_new(result, "mechanism", json_string(kr_wrap_mechanism_name(master.mechanism)));
    json_object_set_new(result, "wraps", json_integer((json_int_t)master.wraps));
    return KR_OK;
}

static enum kr_status set_keys(struct kr_keystore *keystore, json_t *result, struct kr_error *err)
{
    json_int_t versions = 0, disabled = 0;
    json_t *keys, *key;
    size_t i;

    KR_TRY(cli_read_keys(keystore, &keys, err));
    json_array_foreach(keys, i, key)
    {
        versions += json_integer_value(json_object_get(key, "versions"));
        disabled += strcmp(json_string_value(json_object_get(key, "state")), "disabled") == 0;
    }
    json_object_set_new(result, "keys_count", json_integer((json_int_t)json_array_size(keys)));
    json_object_set_new(result, "versions_count", json_integer(versions));
    json_object_set_new(result, "disabled_count", json_integer(disabled));
    json_object_set_new(result, "keys", keys);
    return KR_OK;
}

static enum kr_status set_secrets(struct kr_keystore *keystore, json_t *result,
                                  struct kr_error *err)
{
    json_int_t resident = 0;
    CLI_JSON secrets = NULL;
    json_t *secret;
    size_t i;

    KR_TRY(cli_read_secrets(keystore, &secrets, err));
    json_array_foreach(secrets, i, secret)
    {
        resident += json_is_string(json_object_get(secret, "mechanism"));
    }
    json_object_set_new(result, "mysql_wrapped_count",
                        json_integer((json_int_t)json_array_size(secrets) - resident));
    json_object_set_new(result, "mysql_token_count", json_integer(resident));
    return KR_OK;
}

static enum kr_status set_imported(struct cli *cli, struct kr_keystore *keystore, json_t *result,
                                   struct kr_error *err)
{
    json_t *imported = NULL;

    KR_TRY(cli_read_imported(keystore, &imported, err));
    cli_warn_imported(cli, imported);
    json_object_set_new(result, "mysql_imported", imported);
    return KR_OK;
}

static enum kr_status set_overdue(struct cli *cli, struct kr_keystore *keystore, json_t *result,
                                  struct kr_error *err)
{
    json_t *overdue = NULL;

    KR_TRY(cli_read_overdue(cli, keystore, &overdue, err));
    cli_warn_overdue(cli, overdue);
    json_object_set_new(result, "overdue", overdue);
    return KR_OK;
}

static enum kr_status set_unbundled(struct cli *cli, struct kr_keystore *keystore, json_t *result,
                                    struct kr_error *err)
{
    json_t *rows = NULL;
    bool ever = false;

    KR_TRY(cli_read_unbundled(keystore, &rows, &ever, err));
    cli_warn_unbundled(cli, rows, ever);
    json_object_set_new(result, "unbundled", rows);
    return KR_OK;
}

/* Without a login; a token that is away is told by cli_verify(), later. */
static void set_token(struct cli *cli, json_t *result)
{
    struct kr_error ignored = KR_ERROR_INIT;
    CLI_TOKEN token = {0};
    bool guarded = false;
    int64_t since = 0;
    bool found = cli_open_token(cli, &token, &ignored) == KR_OK;

    json_object_set_new(result, "token", cli_text(cli->config->tokens[0].uri));
    json_object_set_new(result, "token_found", json_boolean(found));
    if (found && cli_guard_state(cli, &token, &guarded, &since, &ignored) == KR_OK)
        json_object_set_new(result, "pin_guarded", json_boolean(guarded));
    else
        json_object_set_new(result, "pin_guarded", json_null());
}

static void set_audit(struct cli *cli, json_t *result)
{
    struct kr_error why = KR_ERROR_INIT;
    KR_AUDIT_OWNED struct kr_audit *audit = NULL;
    struct kr_audit_head newest = {0};
    bool configured = cli->config->keyring.audit_log != NULL;
    bool writable = kr_audit_open(cli->config, &audit, &why) == KR_OK &&
                    kr_audit_check(audit, &newest, &why) == KR_OK;

    json_object_set_new(result, "audit_log", cli_text(cli->config->keyring.audit_log));
    json_object_set_new(result, "audit_writable",
                        configured ? json_boolean(writable) : json_null());
    json_object_set_new(result, "audit_last",
                        writable && newest.seq > 0 ? json_integer((json_int_t)newest.seq)
                                                   : json_null());
    if (!writable) {
        cli_warn(cli, "the audit log cannot be written: %s", why.text);
        cli_hint("%s", why.hint);
    }
}

/* What this run needed of the tokens; servers have status variables for theirs. */
static void set_sessions(const struct kr_keyring *keyring, json_t *result)
{
    struct kr_keyring_stats stats = {.keys = 0};

    if (keyring)
        kr_keyring_get_stats(keyring, &stats);
    json_object_set_new(result, "token_sessions",
                        keyring ? json_integer((json_int_t)stats.token.sessions) : json_null());
    json_object_set_new(result, "token_evictions",
                        keyring ? json_integer((json_int_t)stats.token.evictions) : json_null());
}

static void set_memory(json_t *result)
{
    struct kr_secret_stats stats;

    kr_secret_get_stats(&stats);
    json_object_set_new(result, "memory_locked_bytes",
                        json_integer((json_int_t)stats.locked_bytes));
    json_object_set_new(result, "memory_unlocked_bytes",
                        json_integer((json_int_t)stats.unlocked_bytes));
}

static enum kr_status print_status(const json_t *result, struct kr_error *err)
{
    static const struct cli_column fields[] = {
        {"keyring", "keyring"},
        {"keystore", "keystore"},
        {"bytes", "keystore_bytes"},
        {"owner", "keystore_owner"},
        {"master key", "master_key"},
        {"mechanism", "mechanism"},
        {"wraps", "wraps"},
        {"token", "token"},
        {"token found", "token_found"},
        {"verified", "verified"},
        {"PIN guarded", "pin_guarded"},
        {"token sessions", "token_sessions"},
        {"sessions given up", "token_evictions"},
        {"audit log", "audit_log"},
        {"audit records", "audit_last"},
        {"locked memory", "memory_locked_bytes"},
        {"unlocked memory", "memory_unlocked_bytes"},
        {NULL, NULL},
    };
    const json_t *keys = json_object_get(result, "keys");
    long long wrapped = json_integer_value(json_object_get(result, "mysql_wrapped_count"));
    long long resident = json_integer_value(json_object_get(result, "mysql_token_count"));

    printf("%lld keys, %lld versions, %lld disabled\n\n",
           (long long)json_integer_value(json_object_get(result, "keys_count")),
           (long long)json_integer_value(json_object_get(result, "versions_count")),
           (long long)json_integer_value(json_object_get(result, "disabled_count")));
    if (wrapped + resident > 0)
        printf("MySQL: %lld wrapped secrets, %lld master keys in the token\n\n", wrapped, resident);
    cli_print_fields(result, fields);
    putchar('\n');
    KR_TRY(cli_print_table(json_object_get(result, "tokens"), cli_token_columns, err));
    if (json_array_size(keys) > 0)
        putchar('\n');
    return cli_print_table(keys, cli_key_columns, err);
}

enum kr_status cli_run_status(struct cli *cli, struct kr_error *err)
{
    CLI_KEYSTORE keystore = NULL;
    CLI_KEYRING keyring = NULL;
    CLI_JSON result = json_object();
    json_t *tokens;

    if (!result)
        return kr_fail_memory(err);
    KR_TRY(cli_load_full_config(cli, err));
    KR_TRY(cli_open_keystore(cli, &keystore, err));
    set_keyring(cli, keystore, result);
    KR_TRY(set_master(cli, keystore, result, err));
    set_token(cli, result);
    KR_TRY(cli_verify(cli, &keyring, err));
    json_object_set_new(result, "verified", json_boolean(keyring != NULL));
    set_audit(cli, result);
    KR_TRY(cli_report_tokens(cli, keyring, &tokens, err));
    json_object_set_new(result, "tokens", tokens);
    set_sessions(keyring, result);
    set_memory(result);
    KR_TRY(set_keys(keystore, result, err));
    KR_TRY(set_secrets(keystore, result, err));
    KR_TRY(set_imported(cli, keystore, result, err));
    KR_TRY(set_overdue(cli, keystore, result, err));
    KR_TRY(set_unbundled(cli, keystore, result, err));
    return cli_print_json(cli, result) ? KR_OK : print_status(result, err);
}
