/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The work of one command at a running MariaDB server: variables raised, the server watched, and
 * the variables put back. */
#ifndef P11K_CLI_MARIADB_WORK_H
#define P11K_CLI_MARIADB_WORK_H

#include "mariadb_rows.h"
#include "servers/mariadb_change.h"

struct mariadb_work {
    struct cli *cli;
    struct kr_server_conn *conn;
    struct kr_mariadb_state state;
    unsigned raise[KR_RAISED_COUNT]; /* 0: left as it is */
    struct cli_state_folder folder;
    int record; /* of what is raised; -1: nothing is */
    struct cli_progress progress;
    char unit[64];
    uint64_t start; /* milliseconds */
    struct kr_mariadb_waited waited;
};
void mariadb_work_cleanup(struct mariadb_work *work);
#define MARIADB_WORK __attribute__((cleanup(mariadb_work_cleanup))) struct mariadb_work

/* Connects for a command that changes things, as the only one there, and reads the state. `what`
 * is what the account must be allowed: "to encrypt its tables". */
KR_MUST_USE enum kr_status mariadb_work_begin(struct cli *cli, const char *what,
                                              struct mariadb_work *ret, struct kr_error *err);

/* Tablespaces that are behind, and their pages. */
size_t mariadb_work_behind(const struct mariadb_work *work, const struct kr_mariadb_wait *wait,
                           uint64_t *ret_pages);

/* KR_REFUSED when tablespaces are behind and the server has no thread that would work on them. */
KR_MUST_USE enum kr_status mariadb_work_check_threads(const struct mariadb_work *work,
                                                      size_t behind, struct kr_error *err);

KR_MUST_USE enum kr_status mariadb_work_raise(struct mariadb_work *work, struct kr_error *err);
/* Waits with progress until no tablespace is behind; work->waited says how it ended. */
KR_MUST_USE enum kr_status mariadb_work_wait(struct mariadb_work *work, struct kr_mariadb_wait wait,
                                             struct kr_error *err);
/* What was raised, in every case; over a connection of its own where the first one is lost. What
 * cannot be put back is a warning. */
void mariadb_work_put_back(struct mariadb_work *work);

double mariadb_work_seconds(const struct mariadb_work *work);

#endif
