/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The variable of a server that pauses its keyring. */
#include "pause_switch.h"

#include <string.h>

#define MARIADB_VARIABLE "pkcs11_key_management_operations"
#define MYSQL_VARIABLE "keyring_operations"

static bool is_mysql(const struct kr_server_conn *conn)
{
    return kr_server_info(conn)->make == KR_SERVER_MYSQL;
}

enum kr_status kr_switch_read(struct kr_server_conn *conn, enum kr_pause_state *ret,
                              struct kr_error *err)
{
    const char *statement = is_mysql(conn)
                                ? "SELECT IF(@@GLOBAL." MYSQL_VARIABLE ", 'ON', 'OFF')"
                                : "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_VARIABLES "
                                  "WHERE VARIABLE_NAME = '" MARIADB_VARIABLE "'";
    struct kr_error none = KR_ERROR_INIT;
    char value[8];
    enum kr_status status = kr_server_value(conn, statement, value, sizeof(value), &none);
    if (status == KR_NOT_FOUND) {
        *ret = KR_PAUSE_NONE;
        return KR_OK;
    }
    if (status != KR_OK) {
        *err = none;
        return status;
    }
    *ret = strcmp(value, "ON") == 0 ? KR_PAUSE_ON : KR_PAUSE_WAS_OFF;
    return KR_OK;
}

enum kr_status kr_switch_set(struct kr_server_conn *conn, bool on, struct kr_error *err)
{
    return kr_server_run(conn, err, "SET GLOBAL %s = %s",
                         is_mysql(conn) ? MYSQL_VARIABLE : MARIADB_VARIABLE, on ? "ON" : "OFF");
}

/* SYSTEM_VARIABLES_ADMIN, or SUPER as before it. */
static enum kr_status mysql_missing(struct kr_server_conn *conn,
                                    char ret[KR_SERVER_PRIVILEGES_TEXT], struct kr_error *err)
{
    static const char *const new[] = {"ENCRYPTION_KEY_ADMIN", "SYSTEM_VARIABLES_ADMIN", NULL};
    static const char *const old[] = {"ENCRYPTION_KEY_ADMIN", "SUPER", NULL};
    char with_super[KR_SERVER_PRIVILEGES_TEXT];
    KR_TRY(kr_server_privileges(conn, new, ret, err));
    KR_TRY(kr_server_privileges(conn, old, with_super, err));
    if (!strstr(with_super, "SUPER"))
        strcpy(ret, with_super);
    return KR_OK;
}

enum kr_status kr_switch_missing(struct kr_server_conn *conn, char ret[KR_SERVER_PRIVILEGES_TEXT],
                                 struct kr_error *err)
{
    static const char *const super[] = {"SUPER", NULL};
    return is_mysql(conn) ? mysql_missing(conn, ret, err)
                          : kr_server_privileges(conn, super, ret, err);
}
