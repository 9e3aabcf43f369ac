/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* SQLite for the keystore: settings, short statements, result codes. */
#include "wrap/sql.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

/* The largest value is an envelope of some 17 KiB; nothing else in a keystore comes near. */
enum { LONGEST_VALUE = 256 * 1024, LONGEST_STATEMENT = 16 * 1024 };

/* --- result codes -------------------------------------------------------------------------- */

static enum kr_status fail_busy(const struct kr_sql *sql, const char *what, struct kr_error *err)
{
    kr_fail(err, KR_IO, "%s: another process holds the keystore %s; gave up after %u ms", what,
            sql->path, sql->lock_timeout_ms);
    kr_hint(err,
            "try again; `fuser -v %s` shows who has it open; lock-timeout in [keyring] sets "
            "the wait",
            sql->path);
    return KR_IO;
}

static enum kr_status fail_full(const struct kr_sql *sql, const char *what, struct kr_error *err)
{
    kr_fail(err, KR_IO, "%s: disk full, nothing was changed in %s", what, sql->path);
    kr_hint(err, "make room on its file system, or raise the quota, and try again");
    return KR_IO;
}

static enum kr_status fail_moved(const struct kr_sql *sql, const char *what, struct kr_error *err)
{
    kr_fail(err, KR_IO, "%s: the file %s was replaced or removed while it was open", what,
            sql->path);
    kr_hint(err, "put the keystore back if it is gone, then restart this program");
    return KR_IO;
}

static enum kr_status fail_permission(const struct kr_sql *sql, const char *what, int rc,
                                      struct kr_error *err)
{
    kr_fail(err, KR_CONFIG, "%s: no permission to write %s or its directory (%s)", what, sql->path,
            rc == SQLITE_READONLY_ROLLBACK ? "a killed writer's journal must be rolled back"
                                           : sqlite3_errstr(rc));
    kr_hint(err, "run this as root or as the owner of %s; check with `p11keyring doctor`",
            sql->path);
    return KR_CONFIG;
}

static enum kr_status fail_damaged(const struct kr_sql *sql, const char *what, const char *why,
                                   struct kr_error *err)
{
    kr_fail(err, KR_INTEGRITY, "%s: the keystore %s is damaged, or is no keystore: %s", what,
            sql->path, why);
    kr_hint(err, "restore %s from a backup; keep the damaged file", sql->path);
    return KR_INTEGRITY;
}

/* A commit that fails leaves its errno with the file and not with the connection. */
static int system_error(const struct kr_sql *sql)
{
    int error = sqlite3_system_errno(sql->db);
    if (error == 0)
        sqlite3_file_control(sql->db, "main", SQLITE_FCNTL_LAST_ERRNO, &error);
    return error;
}

static enum kr_status fail_system(const struct kr_sql *sql, const char *what, int rc,
                                  struct kr_error *err)
{
    int error = system_error(sql);
    if (error == ENOSPC || error == EDQUOT || error == EFBIG)
        return fail_full(sql, what, err);
    if (error == EACCES || error == EPERM || error == EROFS)
        return fail_permission(sql, what, rc, err);
    kr_fail(err, KR_IO, "%s: %s on %s: %s", what, sqlite3_errstr(rc), sql->path,
            error ? strerror(error) : "no system error given");
    kr_hint(err, "look for storage errors in the system log (`journalctl -k`)");
    return KR_IO;
}

/* SQLite also says out of memory of a schema row whose text it cannot read. */
static enum kr_status fail_memory(const struct kr_sql *sql, const char *what, struct kr_error *err)
{
    void *probe = sqlite3_malloc(LONGEST_VALUE);
    sqlite3_free(probe);
    return probe ? fail_damaged(sql, what, "its schema cannot be read", err) : kr_fail_memory(err);
}

enum kr_status kr_sql_fail(const struct kr_sql *sql, int rc, const char *what, struct kr_error *err)
{
    if (rc == SQLITE_READONLY_DBMOVED)
        return fail_moved(sql, what, err);
    switch (rc & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return fail_busy(sql, what, err);
    case SQLITE_FULL:
        return fail_full(sql, what, err);
    case SQLITE_READONLY:
    case SQLITE_PERM:
        return fail_permission(sql, what, rc, err);
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
        if (rc == SQLITE_IOERR_NOMEM)
            return kr_fail_memory(err);
        return fail_system(sql, what, rc, err);
    case SQLITE_NOMEM:
        return fail_memory(sql, what, err);
    case SQLITE_ERROR: /* our statements are right: the tables are not ours */
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_TOOBIG:
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
    case SQLITE_SCHEMA:
        return fail_damaged(sql, what, sqlite3_errmsg(sql->db), err);
    default:
        return kr_fail(err, KR_INTERNAL, "%s: SQLite answered %s (%d)", what, sqlite3_errstr(rc),
                       rc);
    }
}

enum kr_status kr_sql_damaged(const struct kr_sql *sql, const char *what, struct kr_error *err)
{
    return fail_damaged(sql, "cannot read the keystore", what, err);
}

/* --- connections --------------------------------------------------------------------------- */

/* A file may hold anything: no triggers, views, attached files or functions from its schema. */
static void harden(sqlite3 *db)
{
    sqlite3_extended_result_codes(db, 1);
    sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_FKEY, 1, NULL);
    sqlite3_limit(db, SQLITE_LIMIT_LENGTH, LONGEST_VALUE);
    sqlite3_limit(db, SQLITE_LIMIT_SQL_LENGTH, LONGEST_STATEMENT);
    sqlite3_limit(db, SQLITE_LIMIT_ATTACHED, 0);
    sqlite3_limit(db, SQLITE_LIMIT_WORKER_THREADS, 0);
}

/* SQLite's own handler soon sleeps 100 ms at a time, and starves beside writers in a loop. */
static int wait_for_lock(void *context, int attempts)
{
    struct kr_sql *sql = context;
    const uint64_t now = kr_now_ms();
    if (attempts == 0)
        sql->wait_until = now + sql->lock_timeout_ms;
    if (now >= sql->wait_until)
        return 0;
    /* Not in step with the others that wait. */
    usleep(1000 + (useconds_t)(now * 7 + (uint64_t)getpid()) % 3000);
    return 1;
}

/* EXTRA: as FULL, and the directory is synced after the journal is deleted, so that a commit that
 * was acknowledged is not rolled back by a journal that a power failure brought back. */
static enum kr_status configure(const struct kr_sql *sql, struct kr_error *err)
{
    static const char *const settings = "PRAGMA synchronous = EXTRA;"
                                        "PRAGMA secure_delete = ON;"
                                        "PRAGMA temp_store = MEMORY;"
                                        "PRAGMA mmap_size = 0;"
                                        "PRAGMA cell_size_check = ON;"
                                        "PRAGMA cache_size = -512;";
    int rc = sqlite3_exec(sql->db, settings, NULL, NULL, NULL);
    return rc == SQLITE_OK ? KR_OK : kr_sql_fail(sql, rc, "cannot open the keystore", err);
}

enum kr_status kr_sql_open(struct kr_sql *sql, const char *path, int flags, struct kr_error *err)
{
    int rc = sqlite3_open_v2(path, &sql->db, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE,
                             NULL);
    if (!sql->db)
        return kr_fail_memory(err);
    enum kr_status status;
    if (rc == SQLITE_OK) {
        harden(sql->db);
        sqlite3_busy_handler(sql->db, wait_for_lock, sql);
        status = configure(sql, err);
    } else {
        status =
            kr_sql_fail(sql, sqlite3_extended_errcode(sql->db), "cannot open the keystore", err);
    }
    if (status != KR_OK)
        kr_sql_close(sql);
    return status;
}

void kr_sql_close(struct kr_sql *sql)
{
    sqlite3_close(sql->db);
    sql->db = NULL;
}

/* --- statements ---------------------------------------------------------------------------- */

static int bind_one(sqlite3_stmt *statement, int at, char type, va_list *args)
{
    if (type == 'i')
        return sqlite3_bind_int64(statement, at, va_arg(*args, int64_t));
    if (type == 's')
        return sqlite3_bind_text(statement, at, va_arg(*args, const char *), -1, SQLITE_STATIC);
    const void *bytes = va_arg(*args, const void *);
    return sqlite3_bind_blob64(statement, at, bytes, va_arg(*args, size_t), SQLITE_STATIC);
}

static enum kr_status bind(const struct kr_sql *sql, sqlite3_stmt *statement, const char *binds,
                           va_list *args, struct kr_error *err)
{
    for (int at = 1; *binds; at++, binds++) {
        int rc = bind_one(statement, at, *binds, args);
        if (rc != SQLITE_OK)
            return kr_sql_fail(sql, rc, "cannot use the keystore", err);
    }
    return KR_OK;
}

static enum kr_status prepare(const struct kr_sql *sql, sqlite3_stmt **ret, const char *text,
                              const char *binds, va_list *args, struct kr_error *err)
{
    KR_STATEMENT *statement = NULL;
    int rc = sqlite3_prepare_v2(sql->db, text, -1, &statement, NULL);
    if (rc != SQLITE_OK)
        return kr_sql_fail(sql, rc, "cannot use the keystore", err);
    KR_TRY(bind(sql, statement, binds, args, err));
    *ret = statement;
    statement = NULL;
    return KR_OK;
}

enum kr_status kr_sql_prepare(const struct kr_sql *sql, sqlite3_stmt **ret, struct kr_error *err,
                              const char *text, const char *binds, ...)
{
    va_list args;
    va_start(args, binds);
    enum kr_status status = prepare(sql, ret, text, binds, &args, err);
    va_end(args);
    return status;
}

enum kr_status kr_sql_rebind(const struct kr_sql *sql, sqlite3_stmt *statement,
                             struct kr_error *err, const char *binds, ...)
{
    sqlite3_reset(statement);
    va_list args;
    va_start(args, binds);
    enum kr_status status = bind(sql, statement, binds, &args, err);
    va_end(args);
    return status;
}

enum kr_status kr_sql_step(const struct kr_sql *sql, sqlite3_stmt *statement, bool *ret_row,
                           struct kr_error *err)
{
    int rc = sqlite3_step(statement);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return kr_sql_fail(sql, rc,
                           sqlite3_column_count(statement) > 0 ? "cannot read the keystore"
                                                               : "cannot write the keystore",
                           err);
    *ret_row = rc == SQLITE_ROW;
    return KR_OK;
}

enum kr_status kr_sql_run(const struct kr_sql *sql, int *ret_changes, struct kr_error *err,
                          const char *text, const char *binds, ...)
{
    KR_STATEMENT *statement = NULL;
    va_list args;
    va_start(args, binds);
    enum kr_status status = prepare(sql, &statement, text, binds, &args, err);
    va_end(args);
    KR_TRY(status);
    bool row = true;
    while (row)
        KR_TRY(kr_sql_step(sql, statement, &row, err));
    if (ret_changes)
        *ret_changes = sqlite3_changes(sql->db);
    return KR_OK;
}

enum kr_status kr_sql_integer(const struct kr_sql *sql, const char *text, int64_t *ret,
                              struct kr_error *err)
{
    KR_STATEMENT *statement = NULL;
    KR_TRY(kr_sql_prepare(sql, &statement, err, text, ""));
    bool row = false;
    KR_TRY(kr_sql_step(sql, statement, &row, err));
    if (!row || !kr_sql_number(statement, 0, INT64_MIN, INT64_MAX, ret))
        return kr_sql_damaged(sql, "a number is missing", err);
    return KR_OK;
}

void kr_sql_finalize(sqlite3_stmt **statement)
{
    sqlite3_finalize(*statement);
    *statement = NULL;
}

/* --- columns ------------------------------------------------------------------------------- */

const char *kr_sql_text(sqlite3_stmt *statement, int column)
{
    if (sqlite3_column_type(statement, column) != SQLITE_TEXT)
        return NULL;
    const char *text = (const char *)sqlite3_column_text(statement, column);
    return text && strlen(text) == (size_t)sqlite3_column_bytes(statement, column) ? text : NULL;
}

const uint8_t *kr_sql_blob(sqlite3_stmt *statement, int column, size_t min, size_t max,
                           size_t *ret_len)
{
    if (sqlite3_column_type(statement, column) != SQLITE_BLOB)
        return NULL;
    const uint8_t *bytes = sqlite3_column_blob(statement, column);
    size_t len = (size_t)sqlite3_column_bytes(statement, column);
    if (!bytes || len < min || len > max)
        return NULL;
    *ret_len = len;
    return bytes;
}

bool kr_sql_number(sqlite3_stmt *statement, int column, int64_t min, int64_t max, int64_t *ret)
{
    if (sqlite3_column_type(statement, column) != SQLITE_INTEGER)
        return false;
    int64_t value = sqlite3_column_int64(statement, column);
    if (value < min || value > max)
        return false;
    *ret = value;
    return true;
}
