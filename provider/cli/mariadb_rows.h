/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What the commands on running MariaDB servers share. */
#ifndef P11K_CLI_MARIADB_ROWS_H
#define P11K_CLI_MARIADB_ROWS_H

#include "cli.h"
#include "servers/mariadb_state.h"
#include "servers/raised.h"

/* Where it is recorded that variables of servers are raised: a folder of the calling account. */
struct cli_state_folder {
    char path[512];
};
struct cli_state_folder cli_state_folder(void);

/* Connects to --server, which must be MariaDB and give the privileges `what` takes. */
KR_MUST_USE enum kr_status cli_connect_mariadb(struct cli *cli, const char *const *privileges,
                                               const char *what, struct kr_server_conn **ret,
                                               struct kr_error *err);

/* Finds what is not as the goal wants it: array of {kind, what, statement, option}. */
KR_MUST_USE enum kr_status cli_read_left(struct kr_server_conn *conn,
                                         struct kr_mariadb_state *state, enum kr_state_goal goal,
                                         json_t **ret, struct kr_error *err);
void cli_print_left(const json_t *left);

#endif
