/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * System variables. Paths and URIs, and none of them hidden: mariadb-backup reads them from the
 * running server and gives them to its own copy of the plugin. Only `operations` changes at run
 * time: OFF pauses the keyring, as keyring_operations does in MySQL.
 */
#include "plugin.h"

static char *config_path, *module, *token_uri, *pin_source, *keystore;

#define VARIABLE(name, variable, comment)                                                          \
    static MYSQL_SYSVAR_STR(name, variable, PLUGIN_VAR_RQCMDARG | PLUGIN_VAR_READONLY, comment,    \
                            NULL, NULL, "")

VARIABLE(config, config_path,
         "Configuration file of the keyring. Default: $" KR_CONFIG_ENV
         ", else " KR_CONFIG_DEFAULT_PATH);
VARIABLE(module, module, "PKCS#11 module of the token (a full path)");
VARIABLE(token_uri, token_uri, "RFC 7512 URI that picks the token, such as pkcs11:token=db1");
VARIABLE(pin_source, pin_source,
         "Where the PIN comes from: file:/path, cred:NAME or env:NAME; never the PIN itself");
VARIABLE(keystore, keystore, "Keystore file (a full path)");

/* New connections wait as long, because the server holds its lock of all variables. */
enum { PAUSE_WAIT_MS = 2000, UNKNOWN_ERROR = 1105 };

static char operations = 1;

static enum kr_status apply_operations(bool on, struct kr_error *err)
{
    if (!plugin.keyring || on != kr_keyring_is_paused(plugin.keyring))
        return KR_OK;
    if (on)
        kr_keyring_resume(plugin.keyring);
    else
        KR_TRY(kr_keyring_pause(plugin.keyring, PAUSE_WAIT_MS, err));
    kr_log(KR_LOG_NOTE, "key operations are %s", on ? "on again" : "off");
    return KR_OK;
}

static void update_operations(MYSQL_THD thd, struct st_mysql_sys_var *var, void *value,
                              const void *wanted)
{
    (void)thd;
    (void)var;
    struct kr_error err = KR_ERROR_INIT;
    bool on = *(const char *)wanted;
    if (apply_operations(on, &err) == KR_OK)
        *(char *)value = on;
    else
        my_printf_error(UNKNOWN_ERROR, PLUGIN_NAME ": %s", 0, err.text);
}

enum kr_status plugin_begin_operations(struct kr_error *err)
{
    return plugin.in_server ? apply_operations(operations, err) : KR_OK;
}

static MYSQL_SYSVAR_BOOL(operations, operations, PLUGIN_VAR_OPCMDARG,
                         "OFF: keys are neither made nor taken over from the keystore, and the "
                         "token is left alone; keys that are there go on being served",
                         NULL, update_operations, 1);

struct st_mysql_sys_var *plugin_variables[] = {MYSQL_SYSVAR(config),
                                               MYSQL_SYSVAR(module),
                                               MYSQL_SYSVAR(token_uri),
                                               MYSQL_SYSVAR(pin_source),
                                               MYSQL_SYSVAR(keystore),
                                               MYSQL_SYSVAR(operations),
                                               NULL};

static bool is_set(const char *value)
{
    return value && *value;
}

static enum kr_status override(struct kr_config *config, struct kr_error *err)
{
    const struct {
        const char *variable, *section, *option, *value;
    } overrides[] = {
        {"module", "token", "module", module},
        {"token_uri", "token", "uri", token_uri},
        {"pin_source", "token", "pin-source", pin_source},
        {"keystore", "keyring", "keystore", keystore},
    };
    for (unsigned i = 0; i < sizeof(overrides) / sizeof(overrides[0]); i++) {
        if (!is_set(overrides[i].value))
            continue;
        enum kr_status status = kr_config_override(config, overrides[i].section,
                                                   overrides[i].option, overrides[i].value, err);
        if (status != KR_OK) {
            kr_error_context(err, PLUGIN_NAME "_%s", overrides[i].variable);
            return status;
        }
    }
    return KR_OK;
}

enum kr_status plugin_load_config(struct kr_config **ret, struct kr_error *err)
{
    KR_CONFIG_OWNED struct kr_config *config = NULL;
    KR_TRY(kr_config_load(is_set(config_path) ? config_path : NULL, &config, err));
    KR_TRY(override(config, err));
    *ret = config;
    config = NULL;
    return KR_OK;
}
