/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * System variables. Paths and URIs only, and none of them hidden: mariadb-backup reads them from
 * the running server and gives them to its own copy of the plugin.
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

struct st_mysql_sys_var *plugin_variables[] = {MYSQL_SYSVAR(config),    MYSQL_SYSVAR(module),
                                               MYSQL_SYSVAR(token_uri), MYSQL_SYSVAR(pin_source),
                                               MYSQL_SYSVAR(keystore),  NULL};

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
