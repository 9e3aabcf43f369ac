/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Rotating a running MySQL server's master keys. */
#include "mysql_rotate.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- before ----------------------------------------------------------------------------------- */

/* SUPER stands for both. */
static enum kr_status check_privileges(struct kr_server_conn *conn, bool innodb, bool binlog,
                                       struct kr_error *err)
{
    static const char *const super[] = {"SUPER", NULL};
    const char *wanted[3] = {NULL};
    char missing[KR_SERVER_PRIVILEGES_TEXT];
    size_t count = 0;
    KR_TRY(kr_server_privileges(conn, super, missing, err));
    if (!*missing)
        return KR_OK;
    if (innodb)
        wanted[count++] = "ENCRYPTION_KEY_ADMIN";
    if (binlog)
        wanted[count] = "BINLOG_ENCRYPTION_ADMIN";
    return kr_server_require(conn, wanted, "to rotate master keys", err);
}

static enum kr_status is_on(struct kr_server_conn *conn, const char *variable, bool *ret,
                            struct kr_error *err)
{
    char statement[96], value[8];
    snprintf(statement, sizeof(statement), "SELECT @@GLOBAL.%s", variable);
    KR_TRY(kr_server_value(conn, statement, value, sizeof(value), err));
    *ret = strcmp(value, "1") == 0;
    return KR_OK;
}

enum kr_status kr_mysql_check_rotation(struct kr_server_conn *conn, bool innodb, bool binlog,
                                       struct kr_error *err)
{
    bool operations, encryption;
    KR_TRY(check_privileges(conn, innodb, binlog, err));
    KR_TRY(is_on(conn, "keyring_operations", &operations, err));
    KR_TRY(is_on(conn, "binlog_encryption", &encryption, err));
    if (!operations) {
        kr_fail(err, KR_REFUSED, "%s: its keyring is paused", kr_server_info(conn)->name);
        kr_hint(err, "SET GLOBAL keyring_operations = ON, once whoever paused it has finished");
        return err->status;
    }
    if (binlog && !encryption) {
        kr_fail(err, KR_REFUSED, "%s does not encrypt its binary logs", kr_server_info(conn)->name);
        kr_hint(err, "SET PERSIST binlog_encryption = ON; or: p11keyring mysql rotate innodb");
        return err->status;
    }
    return KR_OK;
}

/* --- the statement ---------------------------------------------------------------------------- */

struct kr_mysql_rotation {
    struct kr_server_conn *conn;
    enum kr_mysql_master master;
    pthread_t thread;
    atomic_bool over;
    enum kr_status status;
    struct kr_error error;
    char warnings[KR_MYSQL_WARNINGS_TEXT];
};

/* Level, code, message. */
static enum kr_status take_warning(const char *const *columns, void *context, struct kr_error *err)
{
    struct kr_mysql_rotation *rotation = context;
    size_t used = strlen(rotation->warnings);
    (void)err;
    if (columns[2])
        snprintf(rotation->warnings + used, sizeof(rotation->warnings) - used, "%s%s",
                 used ? "; " : "", columns[2]);
    return KR_OK;
}

static void *run(void *context)
{
    struct kr_mysql_rotation *rotation = context;
    struct kr_error ignored = KR_ERROR_INIT;
    rotation->status =
        kr_server_run(rotation->conn, &rotation->error, "ALTER INSTANCE ROTATE %s MASTER KEY",
                      rotation->master == KR_MYSQL_INNODB ? "INNODB" : "BINLOG");
    if (rotation->status == KR_OK)
        (void)!kr_server_query(rotation->conn, "SHOW WARNINGS", take_warning, rotation, &ignored);
    rotation->over = true;
    return NULL;
}

enum kr_status kr_mysql_rotation_start(struct kr_server_conn *conn, enum kr_mysql_master master,
                                       struct kr_mysql_rotation **ret, struct kr_error *err)
{
    struct kr_mysql_rotation *rotation = calloc(1, sizeof(*rotation));
    if (!rotation)
        return kr_fail_memory(err);
    rotation->conn = conn;
    rotation->master = master;
    if (pthread_create(&rotation->thread, NULL, run, rotation) != 0) {
        free(rotation);
        return kr_fail(err, KR_INTERNAL, "cannot start a thread");
    }
    *ret = rotation;
    return KR_OK;
}

bool kr_mysql_rotation_is_over(struct kr_mysql_rotation *rotation)
{
    return rotation->over;
}

enum kr_status kr_mysql_rotation_end(struct kr_mysql_rotation *rotation,
                                     char ret_warnings[KR_MYSQL_WARNINGS_TEXT],
                                     struct kr_error *err)
{
    pthread_join(rotation->thread, NULL);
    enum kr_status status = rotation->status;
    if (status == KR_OK)
        memcpy(ret_warnings, rotation->warnings, sizeof(rotation->warnings));
    else
        *err = rotation->error;
    free(rotation);
    return status;
}
