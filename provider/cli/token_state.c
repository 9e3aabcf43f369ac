/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The configured token, its PIN flags and the PIN guard, without a login. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "pkcs11/pin_guard.h"

void cli_token_cleanup(struct cli_token *token)
{
    kr_token_close(token->token);
    kr_pin_source_free(token->pin);
    kr_audit_close(token->audit);
}

enum kr_status cli_open_token(struct cli *cli, struct cli_token *ret, struct kr_error *err)
{
    return cli_open_token_named(cli, cli->token->name, ret, err);
}

enum kr_status cli_open_token_named(struct cli *cli, const char *name, struct cli_token *ret,
                                    struct kr_error *err)
{
    KR_TRY(kr_audit_open(cli->config, &ret->audit, err));
    KR_TRY(kr_keyring_open_token(cli->config, name, ret->audit, &ret->token, &ret->pin, err));
    return kr_token_get_info(ret->token, &ret->info, err);
}

enum kr_status cli_guard_state(struct cli *cli, const struct cli_token *token, bool *ret_guarded,
                               int64_t *ret_since, struct kr_error *err)
{
    char identity[KR_PIN_IDENTITY_MAX] = "";
    char token_id[KR_GUARD_ID_MAX];
    char *path;
    enum kr_status status;

    if (token->info.protected_path)
        strcpy(identity, KR_GUARD_PIN_PAD);
    else if (token->pin)
        KR_TRY(kr_pin_source_identity(token->pin, identity, err));
    kr_token_guard_id(&token->info, token_id);
    path = kr_keyring_guard_path(cli->config);
    status = path ? kr_pin_guard_query(path, token_id, identity, ret_guarded, ret_since, err)
                  : kr_fail_memory(err);
    free(path);
    return status;
}

json_t *cli_token_json(const struct kr_token_info *info)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:s, s:s, s:I, s:b, s:b, s:b, s:b, s:b, s:b}", "label",
                     cli_text(info->label), "manufacturer", cli_text(info->manufacturer), "model",
                     cli_text(info->model), "serial", cli_text(info->serial), "hardware",
                     info->hardware, "firmware", info->firmware, "slot", (json_int_t)info->slot,
                     "initialized", info->initialized, "user_pin_set", info->user_pin_set,
                     "pin_count_low", info->pin_count_low, "pin_final_try", info->pin_final_try,
                     "pin_locked", info->pin_locked, "write_protected", info->write_protected);
}

/* RFC 7512, section 2.3: what may stand unescaped in a path attribute. */
static void escape_attribute(char *ret, size_t size, const char *text)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                                "-._~:[]@!$'()*+,=&";
    size_t used = 0;

    for (; *text && used + 4 < size; text++) {
        if (strchr(plain, *text))
            ret[used++] = *text;
        else
            used += (size_t)snprintf(ret + used, size - used, "%%%02X", (unsigned char)*text);
    }
    ret[used] = '\0';
}

char *cli_token_uri(const struct kr_token_info *info)
{
    char label[3 * sizeof info->label + 4], serial[3 * sizeof info->serial + 4];
    char *uri;

    escape_attribute(label, sizeof label, info->label);
    escape_attribute(serial, sizeof serial, info->serial);
    return asprintf(&uri, "pkcs11:token=%s;serial=%s", label, serial) < 0 ? NULL : uri;
}
