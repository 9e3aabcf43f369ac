/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What the commands on running MySQL servers share. */
#ifndef P11K_CLI_MYSQL_ROWS_H
#define P11K_CLI_MYSQL_ROWS_H

#include "cli.h"
#include "servers/mysql_state.h"

/* What the server says, and where its files can be read here, the keys that their headers name. */
struct cli_mysql {
    struct kr_mysql_state state;
    bool local; /* the data directory is here, and is that server's */
};
void cli_mysql_cleanup(struct cli_mysql *mysql);
#define CLI_MYSQL __attribute__((cleanup(cli_mysql_cleanup))) struct cli_mysql

/* The one --server, a MySQL that may be looked at. */
KR_MUST_USE enum kr_status cli_connect_mysql(struct cli *cli, struct kr_server_conn **ret,
                                             struct kr_error *err);
/* `ret` is empty before. */
KR_MUST_USE enum kr_status cli_read_mysql(struct kr_server_conn *conn, struct cli_mysql *ret,
                                          struct kr_error *err);
/* Looks at the headers again. A file that is gone has none. */
void cli_read_mysql_headers(struct cli_mysql *mysql);

/* Whether a file is one of those that a rotation of this master key brings under the new one. */
bool cli_mysql_is_innodb(const struct kr_mysql_file *file);
bool cli_mysql_is_binlog(const struct kr_mysql_file *file);

#endif
