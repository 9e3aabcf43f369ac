/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * SQLite for the keystore: connections with their settings, short statements, and the one place
 * where SQLite's result codes become ours.
 */
#ifndef P11K_WRAP_SQL_H
#define P11K_WRAP_SQL_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct kr_sql {
    sqlite3 *db;
    const char *path; /* borrowed; for messages */
    unsigned lock_timeout_ms;
    uint64_t wait_until; /* when the wait for a lock that is going on gives up */
};

/* Opens a file that exists; `flags` are SQLITE_OPEN_ flags. `sql->db` is NULL after a failure;
 * `sql` must stay where it is. */
KR_MUST_USE enum kr_status kr_sql_open(struct kr_sql *sql, const char *path, int flags,
                                       struct kr_error *err);
void kr_sql_close(struct kr_sql *sql);

/* The record for a result code of this connection. `what` is what failed, as a noun phrase. */
enum kr_status kr_sql_fail(const struct kr_sql *sql, int rc, const char *what,
                           struct kr_error *err);
/* KR_INTEGRITY: what SQLite read makes no sense. */
enum kr_status kr_sql_damaged(const struct kr_sql *sql, const char *what, struct kr_error *err);

/* `binds` has one letter for each parameter: s const char *, i int64_t, b const void * and size_t.
 * Text and blobs must live until the statement is finished. */
KR_MUST_USE enum kr_status kr_sql_prepare(const struct kr_sql *sql, sqlite3_stmt **ret,
                                          struct kr_error *err, const char *text, const char *binds,
                                          ...);
/* Binds a prepared statement anew. */
KR_MUST_USE enum kr_status kr_sql_rebind(const struct kr_sql *sql, sqlite3_stmt *statement,
                                         struct kr_error *err, const char *binds, ...);
/* *ret_row tells whether there is a row; false at the end. */
KR_MUST_USE enum kr_status kr_sql_step(const struct kr_sql *sql, sqlite3_stmt *statement,
                                       bool *ret_row, struct kr_error *err);
/* Runs a statement that gives no rows; *ret_changes (may be NULL) rows were changed. */
KR_MUST_USE enum kr_status kr_sql_run(const struct kr_sql *sql, int *ret_changes,
                                      struct kr_error *err, const char *text, const char *binds,
                                      ...);
/* The first column of the first row; KR_INTEGRITY when there is none or it is no integer. */
KR_MUST_USE enum kr_status kr_sql_integer(const struct kr_sql *sql, const char *text, int64_t *ret,
                                          struct kr_error *err);

/* Reading a row that may hold anything: NULL or false when the column has another type, is out of
 * min..max, or is a text with a NUL in it. */
const char *kr_sql_text(sqlite3_stmt *statement, int column);
const uint8_t *kr_sql_blob(sqlite3_stmt *statement, int column, size_t min, size_t max,
                           size_t *ret_len);
bool kr_sql_number(sqlite3_stmt *statement, int column, int64_t min, int64_t max, int64_t *ret);

void kr_sql_finalize(sqlite3_stmt **statement);
#define KR_STATEMENT __attribute__((cleanup(kr_sql_finalize))) sqlite3_stmt

#endif
