/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The keystore's life and transactions. The tables are described in docs/FORMAT.md. */
#include "wrap/keystore_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/secret.h"

/* In the order of their names: an open compares them with what the file says, character by
 * character, so that a column that moved or a table that was added is seen. */
static const char *const TABLES[] = {
    "CREATE TABLE keyring (\n"
    "  one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),\n"
    "  uuid BLOB NOT NULL CHECK (length(uuid) = 16),\n"
    "  name TEXT NOT NULL CHECK (length(name) > 0),\n"
    "  created INTEGER NOT NULL\n"
    ") STRICT",
    "CREATE TABLE keys (\n"
    "  namespace TEXT NOT NULL CHECK (length(namespace) > 0),\n"
    "  id TEXT NOT NULL CHECK (length(id) > 0),\n"
    "  owner TEXT NOT NULL,\n"
    "  disabled INTEGER NOT NULL CHECK (disabled IN (0, 1)),\n"
    "  high_water INTEGER NOT NULL CHECK (high_water BETWEEN 1 AND 4294967294),\n"
    "  last_stored INTEGER NOT NULL CHECK (last_stored BETWEEN 0 AND high_water),\n"
    "  created INTEGER NOT NULL,\n"
    "  PRIMARY KEY (namespace, id, owner)\n"
    ") STRICT, WITHOUT ROWID",
    "CREATE TABLE manifest (\n"
    "  one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),\n"
    "  generation INTEGER NOT NULL CHECK (generation >= 0),\n"
    "  envelope BLOB NOT NULL CHECK (length(envelope) > 0),\n"
    "  audit_seq INTEGER NOT NULL CHECK (audit_seq >= 0),\n"
    "  audit_hash BLOB NOT NULL CHECK (length(audit_hash) = 32),\n"
    "  mac BLOB NOT NULL CHECK (length(mac) = 32)\n"
    ") STRICT",
    "CREATE TABLE masters (\n"
    "  id BLOB NOT NULL PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 32),\n"
    "  label TEXT NOT NULL,\n"
    "  token TEXT NOT NULL CHECK (length(token) > 0),\n"
    "  state INTEGER NOT NULL CHECK (state IN (1, 2)),\n"
    "  mechanism INTEGER NOT NULL CHECK (mechanism BETWEEN 1 AND 4),\n"
    "  created INTEGER NOT NULL,\n"
    "  wraps INTEGER NOT NULL CHECK (wraps BETWEEN 0 AND 4294967296)\n"
    ") STRICT, WITHOUT ROWID",
    "CREATE TABLE versions (\n"
    "  namespace TEXT NOT NULL,\n"
    "  id TEXT NOT NULL,\n"
    "  owner TEXT NOT NULL,\n"
    "  version INTEGER NOT NULL CHECK (version BETWEEN 1 AND 4294967294),\n"
    "  cipher TEXT NOT NULL,\n"
    "  created INTEGER NOT NULL,\n"
    "  bundled INTEGER NOT NULL CHECK (bundled >= 0),\n"
    "  envelope BLOB NOT NULL CHECK (length(envelope) > 0),\n"
    "  PRIMARY KEY (namespace, id, owner, version),\n"
    "  FOREIGN KEY (namespace, id, owner) REFERENCES keys\n"
    ") STRICT, WITHOUT ROWID",
};
enum { TABLE_COUNT = sizeof(TABLES) / sizeof(TABLES[0]) };

static void free_text(char **text)
{
    free(*text);
}
#define TEXT_OWNED __attribute__((cleanup(free_text)))

static void close_keystore(struct kr_keystore **keystore)
{
    kr_keystore_close(*keystore);
}
#define KEYSTORE_OWNED __attribute__((cleanup(close_keystore)))

static enum kr_status new_handle(const struct kr_keystore_options *options,
                                 struct kr_keystore **ret, struct kr_error *err)
{
    struct kr_keystore *keystore = calloc(1, sizeof(*keystore));
    char *path = strdup(options->path);
    if (!keystore || !path) {
        free(keystore);
        free(path);
        return kr_fail_memory(err);
    }
    keystore->path = path;
    keystore->sql.lock_timeout_ms = options->lock_timeout_ms;
    keystore->writable = options->writable;
    *ret = keystore;
    return KR_OK;
}

/* --- opening ------------------------------------------------------------------------------- */

static enum kr_status fail_absent(const char *path, int error, struct kr_error *err)
{
    if (error == ENOENT || error == ENOTDIR) {
        kr_fail(err, KR_NOT_FOUND, "there is no keystore at %s", path);
        kr_hint(err, "restore it from a backup if it was lost; make a new keyring with "
                     "`p11keyring master create`");
        return KR_NOT_FOUND;
    }
    kr_fail(err, error == EACCES ? KR_CONFIG : KR_IO, "cannot look at the keystore %s: %s", path,
            strerror(error));
    kr_hint(err, "check the owners and modes of %s and the directories above it", path);
    return err->status;
}

/* Only stat: closing a descriptor of the file would drop the locks that another handle of this
 * process holds on it (POSIX record locks). */
static enum kr_status check_file(const char *path, struct kr_error *err)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return fail_absent(path, errno, err);
    if (!S_ISREG(st.st_mode)) {
        kr_fail(err, KR_CONFIG, "the keystore %s is not a regular file", path);
        kr_hint(err, "set keystore in [keyring] to the path of the file");
        return KR_CONFIG;
    }
    if (st.st_mode & (S_IWGRP | S_IWOTH)) {
        kr_fail(err, KR_CONFIG, "the keystore %s can be written by others (mode %04o)", path,
                (unsigned)(st.st_mode & 07777));
        kr_hint(err, "chmod go-w %s", path);
        return KR_CONFIG;
    }
    return KR_OK;
}

static enum kr_status check_access(const struct kr_keystore *keystore, struct kr_error *err)
{
    if (!keystore->writable || !sqlite3_db_readonly(keystore->sql.db, "main"))
        return KR_OK;
    if (access(keystore->path, W_OK) == 0)
        return kr_sql_damaged(&keystore->sql, "its header asks for a newer SQLite", err);
    kr_fail(err, KR_CONFIG, "no permission to write the keystore %s", keystore->path);
    kr_hint(err, "run this as root or as the owner of %s", keystore->path);
    return KR_CONFIG;
}

static enum kr_status fail_format(const char *path, int64_t format, struct kr_error *err)
{
    kr_fail(err, KR_INTEGRITY, "the keystore %s has format %lld, this program knows format %d",
            path, (long long)format, KR_KEYSTORE_FORMAT);
    kr_hint(err, "use the version of p11keyring that wrote it, or a newer one");
    return KR_INTEGRITY;
}

static enum kr_status check_format(const struct kr_keystore *keystore, struct kr_error *err)
{
    int64_t application = 0, format = 0;
    KR_TRY(kr_sql_integer(&keystore->sql, "PRAGMA application_id", &application, err));
    if (application != KR_KEYSTORE_APPLICATION_ID)
        return kr_sql_damaged(&keystore->sql, "its application id is not a keystore's", err);
    KR_TRY(kr_sql_integer(&keystore->sql, "PRAGMA user_version", &format, err));
    if (format != KR_KEYSTORE_FORMAT)
        return fail_format(keystore->path, format, err);
    return KR_OK;
}

/* Somebody's sqlite3 may have switched it to a write-ahead log: then it is no single file at rest.
 */
static enum kr_status check_journal(const struct kr_keystore *keystore, struct kr_error *err)
{
    KR_STATEMENT *statement = NULL;
    KR_TRY(kr_sql_prepare(&keystore->sql, &statement, err, "PRAGMA journal_mode", ""));
    bool row = false;
    KR_TRY(kr_sql_step(&keystore->sql, statement, &row, err));
    const char *mode = row ? kr_sql_text(statement, 0) : NULL;
    if (mode && strcmp(mode, "delete") == 0)
        return KR_OK;
    kr_fail(err, KR_INTEGRITY, "the keystore %s was set to journal mode %s by other hands",
            keystore->path, mode ? mode : "(none)");
    kr_hint(err, "sqlite3 %s 'PRAGMA journal_mode=DELETE'", keystore->path);
    return KR_INTEGRITY;
}

static enum kr_status check_tables(const struct kr_keystore *keystore, struct kr_error *err)
{
    KR_STATEMENT *statement = NULL;
    KR_TRY(kr_sql_prepare(&keystore->sql, &statement, err,
                          "SELECT sql FROM sqlite_schema ORDER BY name", ""));
    bool row = false;
    for (int i = 0; i < TABLE_COUNT; i++) {
        KR_TRY(kr_sql_step(&keystore->sql, statement, &row, err));
        const char *text = row ? kr_sql_text(statement, 0) : NULL;
        if (!text || strcmp(text, TABLES[i]) != 0)
            return kr_sql_damaged(&keystore->sql, "its tables are not a keystore's", err);
    }
    KR_TRY(kr_sql_step(&keystore->sql, statement, &row, err));
    return row ? kr_sql_damaged(&keystore->sql, "it has tables that are not ours", err) : KR_OK;
}

static enum kr_status check_pages(const struct kr_keystore *keystore, struct kr_error *err)
{
    KR_STATEMENT *statement = NULL;
    KR_TRY(kr_sql_prepare(&keystore->sql, &statement, err, "PRAGMA quick_check(1)", ""));
    bool row = false;
    KR_TRY(kr_sql_step(&keystore->sql, statement, &row, err));
    const char *found = row ? kr_sql_text(statement, 0) : NULL;
    if (found && strcmp(found, "ok") == 0)
        return KR_OK;
    return kr_sql_damaged(&keystore->sql, found ? found : "its pages cannot be checked", err);
}

static enum kr_status fail_keyring(const struct kr_keystore *keystore, const char *found,
                                   const char *expected, struct kr_error *err)
{
    kr_fail(err, KR_INTEGRITY, "the keystore %s belongs to keyring \"%s\", not to \"%s\"",
            keystore->path, found, expected);
    kr_hint(err, "set name and keystore in [keyring] to two that belong together");
    return KR_INTEGRITY;
}

static enum kr_status read_identity(struct kr_keystore *keystore, const char *expected,
                                    struct kr_error *err)
{
    KR_STATEMENT *statement = NULL;
    KR_TRY(kr_sql_prepare(&keystore->sql, &statement, err, "SELECT uuid, name FROM keyring", ""));
    bool row = false;
    KR_TRY(kr_sql_step(&keystore->sql, statement, &row, err));
    size_t len = 0;
    const uint8_t *uuid =
        row ? kr_sql_blob(statement, 0, sizeof(keystore->uuid), sizeof(keystore->uuid), &len)
            : NULL;
    const char *name = row ? kr_sql_text(statement, 1) : NULL;
    if (!uuid || !name)
        return kr_sql_damaged(&keystore->sql, "its identity is missing", err);
    if (expected && strcmp(name, expected) != 0)
        return fail_keyring(keystore, name, expected, err);
    memcpy(keystore->uuid, uuid, len);
    return KR_OK;
}

/* All within one view, so that a commit of another process cannot fall between the checks. */
static enum kr_status check_content(struct kr_keystore *keystore, const char *expected,
                                    struct kr_error *err)
{
    KR_TRY(check_format(keystore, err));
    KR_TRY(check_journal(keystore, err));
    KR_TRY(kr_keystore_begin_read(keystore, err));
    KR_TRY(check_tables(keystore, err));
    KR_TRY(check_pages(keystore, err));
    KR_TRY(read_identity(keystore, expected, err));
    return kr_keystore_commit(keystore, err);
}

/* Opened for writing where permissions allow it, since a hot journal may have to be rolled back;
 * a handle that is not writable then refuses statements that write. */
static enum kr_status connect(struct kr_keystore *keystore, struct kr_error *err)
{
    keystore->sql.path = keystore->path;
    KR_TRY(kr_sql_open(&keystore->sql, keystore->path, SQLITE_OPEN_READWRITE, err));
    KR_TRY(check_access(keystore, err));
    if (keystore->writable)
        return KR_OK;
    return kr_sql_run(&keystore->sql, NULL, err, "PRAGMA query_only = ON", "");
}

enum kr_status kr_keystore_open(const struct kr_keystore_options *options, struct kr_keystore **ret,
                                struct kr_error *err)
{
    KR_TRY(check_file(options->path, err));
    KEYSTORE_OWNED struct kr_keystore *keystore = NULL;
    KR_TRY(new_handle(options, &keystore, err));
    KR_TRY(connect(keystore, err));
    KR_TRY(check_content(keystore, options->keyring, err));
    *ret = keystore;
    keystore = NULL;
    return KR_OK;
}

void kr_keystore_close(struct kr_keystore *keystore)
{
    if (!keystore)
        return;
    kr_keystore_rollback(keystore);
    kr_sql_close(&keystore->sql);
    if (keystore->temporary)
        unlink(keystore->temporary);
    kr_secret_free(keystore->manifest_key);
    free(keystore->temporary);
    free(keystore->path);
    free(keystore);
}

const uint8_t *kr_keystore_uuid(const struct kr_keystore *keystore)
{
    return keystore->uuid;
}

const char *kr_keystore_path(const struct kr_keystore *keystore)
{
    return keystore->path;
}

/* --- making -------------------------------------------------------------------------------- */

static enum kr_status fail_create(const char *path, const char *what, int error,
                                  struct kr_error *err)
{
    bool permission = error == EACCES || error == EPERM || error == EROFS;
    bool absent = error == ENOENT || error == ENOTDIR;
    kr_fail(err, permission || absent ? KR_CONFIG : KR_IO, "cannot make the keystore %s: %s: %s",
            path, what, strerror(error));
    if (absent)
        kr_hint(err, "make its directory first, owned by the server's user, mode 0700");
    else if (permission)
        kr_hint(err, "run this as root or as the owner of its directory");
    else
        kr_hint(err, "check the file system's space and state, and try again");
    return err->status;
}

static enum kr_status fail_exists(const char *path, struct kr_error *err)
{
    kr_fail(err, KR_REFUSED, "%s exists already", path);
    kr_hint(err, "`p11keyring status` shows the keyring it belongs to; a keystore is never "
                 "replaced: move the file away to make another");
    return KR_REFUSED;
}

static enum kr_status directory_of(const char *path, char **ret, struct kr_error *err)
{
    TEXT_OWNED char *copy = strdup(path);
    char *directory = copy ? strdup(dirname(copy)) : NULL;
    if (!directory)
        return kr_fail_memory(err);
    *ret = directory;
    return KR_OK;
}

/* Made by root for a server: the file must be the server's own. */
static enum kr_status give_to_owner(const char *path, int fd, struct kr_error *err)
{
    TEXT_OWNED char *directory = NULL;
    struct stat st;
    KR_TRY(directory_of(path, &directory, err));
    if (geteuid() != 0)
        return KR_OK;
    if (stat(directory, &st) < 0 || fchown(fd, st.st_uid, st.st_gid) < 0)
        return fail_create(path, "giving it to its directory's owner", errno, err);
    return KR_OK;
}

/* mkstemp makes it for us alone and follows no link. */
static enum kr_status make_temporary(struct kr_keystore *keystore, struct kr_error *err)
{
    TEXT_OWNED char *name = NULL;
    if (asprintf(&name, "%s.new-XXXXXX", keystore->path) < 0)
        return kr_fail_memory(err);
    KR_FD int fd = mkostemp(name, O_CLOEXEC);
    if (fd < 0)
        return fail_create(keystore->path, "its directory", errno, err);
    keystore->temporary = name;
    name = NULL;
    return give_to_owner(keystore->path, fd, err);
}

static enum kr_status make_tables(struct kr_keystore *keystore, const char *name,
                                  struct kr_error *err)
{
    char pragmas[2][64];
    snprintf(pragmas[0], sizeof(pragmas[0]), "PRAGMA application_id = %d",
             KR_KEYSTORE_APPLICATION_ID);
    snprintf(pragmas[1], sizeof(pragmas[1]), "PRAGMA user_version = %d", KR_KEYSTORE_FORMAT);
    for (int i = 0; i < 2; i++)
        KR_TRY(kr_sql_run(&keystore->sql, NULL, err, pragmas[i], ""));
    for (int i = 0; i < TABLE_COUNT; i++)
        KR_TRY(kr_sql_run(&keystore->sql, NULL, err, TABLES[i], ""));
    return kr_sql_run(&keystore->sql, NULL, err,
                      "INSERT INTO keyring (one, uuid, name, created) VALUES (1, ?, ?, ?)", "bsi",
                      keystore->uuid, sizeof(keystore->uuid), name, (int64_t)time(NULL));
}

/* The journal stays in memory: a file that is killed half-made is nobody's keystore. */
static enum kr_status begin_new(struct kr_keystore *keystore, const char *name,
                                struct kr_error *err)
{
    keystore->sql.path = keystore->temporary;
    KR_TRY(kr_sql_open(&keystore->sql, keystore->temporary,
                       SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOFOLLOW, err));
    KR_TRY(kr_sql_run(&keystore->sql, NULL, err, "PRAGMA journal_mode = MEMORY", ""));
    KR_TRY(kr_sql_run(&keystore->sql, NULL, err, "BEGIN IMMEDIATE", ""));
    keystore->writing = true;
    return make_tables(keystore, name, err);
}

enum kr_status kr_keystore_create(const struct kr_keystore_options *options,
                                  const uint8_t uuid[KR_KEYSTORE_UUID_BYTES],
                                  struct kr_keystore **ret, struct kr_error *err)
{
    struct stat st;
    if (lstat(options->path, &st) == 0)
        return fail_exists(options->path, err);
    KEYSTORE_OWNED struct kr_keystore *keystore = NULL;
    KR_TRY(new_handle(options, &keystore, err));
    keystore->writable = true;
    memcpy(keystore->uuid, uuid, sizeof(keystore->uuid));
    KR_TRY(make_temporary(keystore, err));
    KR_TRY(begin_new(keystore, options->keyring, err));
    *ret = keystore;
    keystore = NULL;
    return KR_OK;
}

static enum kr_status sync_path(const char *path, const char *keystore, struct kr_error *err)
{
    KR_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return fail_create(keystore, "making it durable", errno, err);
    return KR_OK;
}

/* link() and not rename(): it never replaces a file. */
static enum kr_status publish(struct kr_keystore *keystore, struct kr_error *err)
{
    TEXT_OWNED char *directory = NULL;
    KR_TRY(directory_of(keystore->path, &directory, err));
    KR_TRY(sync_path(keystore->temporary, keystore->path, err));
    if (link(keystore->temporary, keystore->path) < 0)
        return errno == EEXIST ? fail_exists(keystore->path, err)
                               : fail_create(keystore->path, "naming it", errno, err);
    enum kr_status status = sync_path(directory, keystore->path, err);
    if (status != KR_OK)
        unlink(keystore->path);
    return status;
}

enum kr_status kr_keystore_commit_new(struct kr_keystore *keystore, struct kr_error *err)
{
    KR_TRY(kr_keystore_need_write(keystore, err));
    KR_TRY(kr_manifest_renew(keystore, err));
    KR_TRY(kr_sql_run(&keystore->sql, NULL, err, "COMMIT", ""));
    keystore->newest = keystore->pending;
    keystore->writing = false;
    kr_sql_close(&keystore->sql);
    KR_TRY(publish(keystore, err));
    unlink(keystore->temporary);
    free(keystore->temporary);
    keystore->temporary = NULL;
    /* Opened anew: SQLite names the journal after the path that it was opened with. */
    return connect(keystore, err);
}

/* --- transactions -------------------------------------------------------------------------- */

/* A handle on a file that was replaced would read and write what nobody else sees. */
static enum kr_status check_place(const struct kr_keystore *keystore, struct kr_error *err)
{
    int moved = 0;
    sqlite3_file_control(keystore->sql.db, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
    if (!moved)
        return KR_OK;
    return kr_sql_fail(&keystore->sql, SQLITE_READONLY_DBMOVED, "cannot use the keystore", err);
}

enum kr_status kr_keystore_need_write(const struct kr_keystore *keystore, struct kr_error *err)
{
    if (keystore->writing)
        return KR_OK;
    return kr_fail(err, KR_INTERNAL, "the keystore %s is not in a write transaction",
                   keystore->path);
}

enum kr_status kr_keystore_change_counter(struct kr_keystore *keystore, uint64_t *ret,
                                          struct kr_error *err)
{
    int64_t others = 0;
    KR_TRY(check_place(keystore, err));
    KR_TRY(kr_sql_integer(&keystore->sql, "PRAGMA data_version", &others, err));
    *ret = (uint64_t)others + keystore->own_commits;
    return KR_OK;
}

/* BEGIN takes no lock by itself: the first read fixes the view. */
enum kr_status kr_keystore_begin_read(struct kr_keystore *keystore, struct kr_error *err)
{
    KR_TRY(check_place(keystore, err));
    KR_TRY(kr_sql_run(&keystore->sql, NULL, err, "BEGIN", ""));
    int64_t ignored = 0;
    enum kr_status status =
        kr_sql_integer(&keystore->sql, "SELECT count(*) FROM keyring", &ignored, err);
    if (status != KR_OK)
        kr_keystore_rollback(keystore);
    return status;
}

enum kr_status kr_keystore_begin_write(struct kr_keystore *keystore, struct kr_error *err)
{
    if (!keystore->writable)
        return kr_fail(err, KR_INTERNAL, "the keystore %s was not opened for writing",
                       keystore->path);
    KR_TRY(check_place(keystore, err));
    KR_TRY(kr_sql_run(&keystore->sql, NULL, err, "BEGIN IMMEDIATE", ""));
    /* Rows that other hands edited must not get our MAC with the next commit. */
    enum kr_status status = kr_keystore_verify(keystore, err);
    if (status != KR_OK) {
        kr_keystore_rollback(keystore);
        return status;
    }
    keystore->writing = true;
    return KR_OK;
}

static enum kr_status commit_write(struct kr_keystore *keystore, struct kr_error *err)
{
    KR_TRY(kr_manifest_renew(keystore, err));
    KR_TRY(kr_sql_run(&keystore->sql, NULL, err, "COMMIT", ""));
    keystore->newest = keystore->pending;
    keystore->own_commits++;
    return KR_OK;
}

enum kr_status kr_keystore_commit(struct kr_keystore *keystore, struct kr_error *err)
{
    enum kr_status status;
    if (keystore->temporary)
        status = kr_fail(err, KR_INTERNAL, "a new keystore is committed by its own function");
    else if (keystore->writing)
        status = commit_write(keystore, err);
    else
        status = kr_sql_run(&keystore->sql, NULL, err, "COMMIT", "");
    kr_keystore_rollback(keystore);
    return status;
}

/* A rollback that fails leaves a hot journal, which the next reader rolls back. */
void kr_keystore_rollback(struct kr_keystore *keystore)
{
    keystore->writing = false;
    if (keystore->sql.db && !sqlite3_get_autocommit(keystore->sql.db))
        sqlite3_exec(keystore->sql.db, "ROLLBACK", NULL, NULL, NULL);
}
