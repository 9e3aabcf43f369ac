/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Rotating a running MySQL server's master keys: one statement of the server, which may take long,
 * on a thread and a connection of its own, so that the work can be watched meanwhile.
 */
#ifndef P11K_SERVERS_MYSQL_ROTATE_H
#define P11K_SERVERS_MYSQL_ROTATE_H

#include "servers/connection.h"

enum kr_mysql_master { KR_MYSQL_INNODB, KR_MYSQL_BINARY_LOG };

/* KR_REFUSED when the server would refuse it: a privilege is missing (all that are, for both, are
 * named), its keyring is paused, binlog_encryption is off. */
KR_MUST_USE enum kr_status kr_mysql_check_rotation(struct kr_server_conn *conn, bool innodb,
                                                   bool binlog, struct kr_error *err);

struct kr_mysql_rotation;

/* `conn` is the rotation's until its end. */
KR_MUST_USE enum kr_status kr_mysql_rotation_start(struct kr_server_conn *conn,
                                                   enum kr_mysql_master master,
                                                   struct kr_mysql_rotation **ret,
                                                   struct kr_error *err);
bool kr_mysql_rotation_is_over(struct kr_mysql_rotation *rotation);

/* Waits for its end; `ret_warnings` is what the server warned of, "" for nothing. */
enum { KR_MYSQL_WARNINGS_TEXT = 512 };
KR_MUST_USE enum kr_status kr_mysql_rotation_end(struct kr_mysql_rotation *rotation,
                                                 char ret_warnings[KR_MYSQL_WARNINGS_TEXT],
                                                 struct kr_error *err);

#endif
