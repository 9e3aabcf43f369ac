/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Which privileges an account has for everything, from SHOW GRANTS. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connection.h"

enum { WANTED_MAX = 16 };

struct grants {
    const char *const *wanted;
    bool has[WANTED_MAX];
};

/* Whether `list`, "SUPER, PROCESS" or MySQL's "ROLE_ADMIN,CLONE_ADMIN", has `name`. */
static bool lists(const char *list, const char *name)
{
    size_t len = strlen(name);

    for (const char *at = list; (at = strstr(at, name)) != NULL; at += len)
        if ((at == list || at[-1] == ' ' || at[-1] == ',') && (at[len] == '\0' || at[len] == ','))
            return true;
    return false;
}

/* "GRANT SUPER, PROCESS ON *.* TO ..."; other grants are for less than everything. */
static enum kr_status take_grant(const char *const *columns, void *context, struct kr_error *err)
{
    struct grants *grants = context;
    const char *on = columns[0] ? strstr(columns[0], " ON *.* TO ") : NULL;

    if (!on || strncmp(columns[0], "GRANT ", 6) != 0)
        return KR_OK;
    char *list = strndup(columns[0] + 6, (size_t)(on - columns[0]) - 6);
    if (!list)
        return kr_fail_memory(err);
    bool all = strcmp(list, "ALL PRIVILEGES") == 0;
    for (size_t i = 0; i < WANTED_MAX && grants->wanted[i]; i++)
        grants->has[i] |= all || lists(list, grants->wanted[i]);
    free(list);
    return KR_OK;
}

enum kr_status kr_server_privileges(struct kr_server_conn *conn, const char *const *wanted,
                                    char ret_missing[KR_SERVER_PRIVILEGES_TEXT],
                                    struct kr_error *err)
{
    struct grants grants = {.wanted = wanted};
    size_t used = 0;

    KR_TRY(kr_server_query(conn, "SHOW GRANTS", take_grant, &grants, err));
    ret_missing[0] = '\0';
    for (size_t i = 0; i < WANTED_MAX && wanted[i] && used < KR_SERVER_PRIVILEGES_TEXT; i++)
        if (!grants.has[i])
            used += (size_t)snprintf(ret_missing + used, KR_SERVER_PRIVILEGES_TEXT - used, "%s%s",
                                     used ? ", " : "", wanted[i]);
    return KR_OK;
}

enum kr_status kr_server_require(struct kr_server_conn *conn, const char *const *wanted,
                                 const char *what, struct kr_error *err)
{
    char missing[KR_SERVER_PRIVILEGES_TEXT], account[256];

    KR_TRY(kr_server_privileges(conn, wanted, missing, err));
    if (!*missing)
        return KR_OK;
    KR_TRY(kr_server_value(conn, "SELECT CURRENT_USER()", account, sizeof account, err));
    kr_fail(err, KR_REFUSED, "%s: the account %s has not the privileges %s: %s",
            kr_server_info(conn)->name, account, what, missing);
    kr_hint(err, "as an administrator: GRANT %s ON *.* TO that account; or connect as another one",
            missing);
    return err->status;
}
