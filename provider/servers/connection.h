/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * A connection to a running MariaDB or MySQL server.
 *
 * A server is named by one argument, the path of its Unix socket or of an option file with a
 * [client] group (socket, or host and port; user; password). Over TCP the connection is always by
 * TLS with a server whose certificate, and the name in it, was verified, by ssl-ca where the file
 * has it: no password is sent to anybody else. A connection is for one thread at a time.
 *
 * KR_IO: the server does not answer, or the connection is lost; KR_NOT_FOUND: none listens at the
 * socket; KR_AUTH: it refuses account or password; KR_REFUSED: a privilege is missing.
 */
#ifndef P11K_SERVERS_CONNECTION_H
#define P11K_SERVERS_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>

#include "base/pin_source.h"
#include "base/status.h"

struct kr_server_conn;

struct kr_server_options {
    struct kr_pin_source *password; /* for an option file without a password; NULL: none */
    unsigned connect_seconds;       /* 0: 10 */
    unsigned answer_seconds;        /* of each statement; 0: 60 */
};

enum kr_server_make { KR_SERVER_MARIADB, KR_SERVER_MYSQL };

/* Strings are owned by the connection. */
struct kr_server_info {
    enum kr_server_make make;
    unsigned version;    /* 101119: 10.11.19 */
    const char *release; /* "10.11.19-MariaDB-..." as the server says it */
    const char *name;    /* "MariaDB 10.11.19 at /run/mysqld/mysqld.sock", for messages */
};

KR_MUST_USE enum kr_status kr_server_connect(const char *spec,
                                             const struct kr_server_options *options,
                                             struct kr_server_conn **ret, struct kr_error *err);
/* NULL is accepted. */
void kr_server_close(struct kr_server_conn *conn);
void kr_server_cleanup(struct kr_server_conn **conn);
#define KR_SERVER __attribute__((cleanup(kr_server_cleanup))) struct kr_server_conn *

const struct kr_server_info *kr_server_info(const struct kr_server_conn *conn);

/* --- statements ------------------------------------------------------------------------------- */

/* One row: text of each column, NULL for SQL's NULL, valid during the call. */
typedef enum kr_status (*kr_server_row)(const char *const *columns, void *context,
                                        struct kr_error *err);

/* Runs one statement; `row` is called for each row of its result (NULL: they are dropped). */
KR_MUST_USE enum kr_status kr_server_query(struct kr_server_conn *conn, const char *statement,
                                           kr_server_row row, void *context, struct kr_error *err);

/* The same without rows; names and values in it are quoted by kr_server_quote(). */
KR_MUST_USE enum kr_status kr_server_run(struct kr_server_conn *conn, struct kr_error *err,
                                         const char *fmt, ...) KR_PRINTF(3, 4);

/* First column of the first row, as text of at most size - 1 bytes: "" for SQL's NULL. KR_NOT_FOUND
 * without a row; KR_INTERNAL when it does not fit. */
KR_MUST_USE enum kr_status kr_server_value(struct kr_server_conn *conn, const char *statement,
                                           char *ret, size_t size, struct kr_error *err);

/* The server's error number for the statement that failed last (ER_... of mysqld_error.h, CR_... of
 * errmsg.h); 0 for none. */
unsigned kr_server_errno(const struct kr_server_conn *conn);

/* 'text' for a value, `text` for a name (with `quote` '\'' or '`'). False when it does not fit. */
KR_MUST_USE bool kr_server_quote(const char *text, char quote, char *ret, size_t size);

/* --- privileges.c ----------------------------------------------------------------------------- */

/* Which of `wanted` (ends with NULL) the account does not have for everything (ON *.*), as
 * "SUPER, PROCESS"; "" when none is missing. What roles give counts as far as they are active. */
enum { KR_SERVER_PRIVILEGES_TEXT = 256 };
KR_MUST_USE enum kr_status kr_server_privileges(struct kr_server_conn *conn,
                                                const char *const *wanted,
                                                char ret_missing[KR_SERVER_PRIVILEGES_TEXT],
                                                struct kr_error *err);
/* KR_REFUSED, and says which, when one is missing for `what` ("to encrypt all tables"). */
KR_MUST_USE enum kr_status kr_server_require(struct kr_server_conn *conn, const char *const *wanted,
                                             const char *what, struct kr_error *err);

/* --- one tool at a time ----------------------------------------------------------------------- */

/* Takes the server's lock of this name without waiting, until the connection ends. KR_REFUSED when
 * somebody else has it. */
KR_MUST_USE enum kr_status kr_server_lock(struct kr_server_conn *conn, const char *name,
                                          struct kr_error *err);

#endif
