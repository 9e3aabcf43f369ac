/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Status variables: SHOW STATUS LIKE 'pkcs11_key_management%'. */
#include "plugin.h"

#include <string.h>

#include "hwaccel/page_cipher.h"

/* One call's answer, in the buffer that the server gives: names and the values they point to. */
struct answer {
    struct st_mysql_show_var rows[14];
    struct kr_keyring_stats keyring;
    struct kr_page_stats pages;
    char tokens[KR_TOKEN_STATES_TEXT];
};
_Static_assert(sizeof(struct answer) <= SHOW_VAR_FUNC_BUFF_SIZE, "the server's buffer");

static int show(MYSQL_THD thd, struct st_mysql_show_var *ret, void *buffer,
                struct system_status_var *unused, enum enum_var_type scope)
{
    (void)thd;
    (void)unused;
    (void)scope;
    struct answer *answer = buffer;
    *answer = (struct answer){0};
    if (plugin.keyring) {
        kr_keyring_get_stats(plugin.keyring, &answer->keyring);
        kr_keyring_token_states(plugin.keyring, answer->tokens);
    }
    kr_page_get_stats(&answer->pages);
    const struct st_mysql_show_var rows[14] = {
        {"keys", &answer->keyring.keys, SHOW_UINT},
        {"versions", &answer->keyring.versions, SHOW_UINT},
        {"unwraps", &answer->keyring.token.unwraps, SHOW_ULONGLONG},
        {"token_errors", &answer->keyring.token.errors, SHOW_ULONGLONG},
        {"token_timeouts", &answer->keyring.token.timeouts, SHOW_ULONGLONG},
        {"token_sessions", &answer->keyring.token.sessions, SHOW_ULONGLONG},
        {"token_evictions", &answer->keyring.token.evictions, SHOW_ULONGLONG},
        {"token_state", answer->keyring.token_up ? "up" : "down", SHOW_CHAR},
        {"start_cache", answer->keyring.from_start_cache ? "served" : "not served", SHOW_CHAR},
        {"tokens", answer->tokens, SHOW_CHAR},
        {"refresh_errors", &answer->keyring.refresh_errors, SHOW_ULONGLONG},
        {"audit_lost", &answer->keyring.audit.lost, SHOW_ULONGLONG},
        {"cache_hits", &answer->pages.schedule_hits, SHOW_ULONGLONG},
        {NULL, NULL, SHOW_UNDEF},
    };
    _Static_assert(sizeof(rows) == sizeof(answer->rows), "as many rows");
    memcpy(answer->rows, rows, sizeof(rows));
    ret->type = SHOW_ARRAY;
    ret->value = answer->rows;
    return 0;
}

struct st_mysql_show_var plugin_status[] = {
    {"Pkcs11_key_management", (void *)show, SHOW_FUNC},
    {NULL, NULL, SHOW_UNDEF},
};
