/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The record: one line for the server's start, one "name before raised" for each variable. */
#include "raised.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"

enum { RECORD_MAX = 1024, SERVER_NAME_MAX = 180 };

const char *const kr_raised_names[KR_RAISED_COUNT] = {
    [KR_RAISED_THREADS] = "innodb_encryption_threads",
    [KR_RAISED_IOPS] = "innodb_encryption_rotation_iops",
    [KR_RAISED_AGE] = "innodb_encryption_rotate_key_age",
};

/* --- which server ----------------------------------------------------------------------------- */

/* Host, port and data directory, as a name of a file. */
static enum kr_status find_path(struct kr_server_conn *conn, const char *folder,
                                struct kr_raised *raised, struct kr_error *err)
{
    char name[1200];

    KR_TRY(kr_server_value(conn,
                           "SELECT CONCAT(@@GLOBAL.hostname, '-', @@GLOBAL.port, @@GLOBAL.datadir)",
                           name, sizeof name, err));
    for (char *c = name; *c; c++)
        if (!isalnum((unsigned char)*c) && *c != '-')
            *c = '_';
    size_t len = strlen(name);
    const char *end = len > SERVER_NAME_MAX ? name + len - SERVER_NAME_MAX : name;
    if ((size_t)snprintf(raised->path, sizeof raised->path, "%s/mariadb-%s", folder, end) >=
        sizeof raised->path)
        return kr_fail(err, KR_CONFIG, "the path %s is too long", folder);
    return KR_OK;
}

/* The difference stays the same as long as the server runs, also when its clock is set. */
static enum kr_status read_start(struct kr_server_conn *conn, uint64_t *ret, struct kr_error *err)
{
    char text[32];

    KR_TRY(kr_server_value(conn,
                           "SELECT UNIX_TIMESTAMP() - CAST(variable_value AS INTEGER) FROM "
                           "information_schema.global_status WHERE variable_name = 'UPTIME'",
                           text, sizeof text, err));
    *ret = strtoull(text, NULL, 10);
    return KR_OK;
}

static enum kr_status read_variable(struct kr_server_conn *conn, enum kr_raised_variable variable,
                                    unsigned *ret, struct kr_error *err)
{
    char statement[96], text[32];

    snprintf(statement, sizeof statement, "SELECT @@GLOBAL.%s", kr_raised_names[variable]);
    KR_TRY(kr_server_value(conn, statement, text, sizeof text, err));
    *ret = (unsigned)strtoul(text, NULL, 10);
    return KR_OK;
}

/* --- the record ------------------------------------------------------------------------------- */

static bool parse(const char *text, struct kr_raised *ret)
{
    int used = 0;

    if (sscanf(text, "p11keyring raised 1 server_start %" SCNu64 " %n", &ret->server_start,
               &used) != 1 ||
        used == 0)
        return false;
    for (text += used; *text; text += used) {
        char name[64];
        unsigned before, raised;
        size_t i = 0;
        used = 0;
        if (sscanf(text, "%63s %u %u %n", name, &before, &raised, &used) != 3 || used == 0)
            return false;
        while (i < KR_RAISED_COUNT && strcmp(name, kr_raised_names[i]) != 0)
            i++;
        if (i == KR_RAISED_COUNT)
            return false;
        ret->of[i].set = true;
        ret->of[i].before = before;
        ret->of[i].raised = raised;
    }
    return true;
}

/* Only one that we, or root, have written. */
static enum kr_status read_record(struct kr_raised *raised, struct kr_error *err)
{
    char text[RECORD_MAX];
    struct stat st;
    KR_FD int fd = open(raised->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0 && errno == ENOENT)
        return KR_OK;
    ssize_t got = fd >= 0 && fstat(fd, &st) == 0 ? kr_read_full(fd, text, sizeof text - 1) : -1;
    if (got < 0)
        return kr_fail(err, KR_IO, "cannot read %s: %s", raised->path, strerror(errno));
    if (got == 0) /* ended, and could not be removed */
        return KR_OK;
    text[got] = '\0';
    raised->found = true;
    if ((st.st_uid == geteuid() || st.st_uid == 0) && parse(text, raised))
        return KR_OK;
    kr_fail(err, KR_INTEGRITY, "%s is no record of this tool", raised->path);
    kr_hint(err, "compare the server's innodb_encryption variables with its option file, then "
                 "remove that file");
    return err->status;
}

/* What somebody else has set since counts no more, nor what a server has forgotten that was started
 * again within a second. */
static enum kr_status keep_raised(struct kr_server_conn *conn, struct kr_raised *raised,
                                  struct kr_error *err)
{
    unsigned now;

    raised->found = false;
    for (size_t i = 0; i < KR_RAISED_COUNT; i++) {
        if (!raised->of[i].set)
            continue;
        KR_TRY(read_variable(conn, i, &now, err));
        raised->of[i].set = now == raised->of[i].raised;
        raised->found |= raised->of[i].set;
    }
    return KR_OK;
}

enum kr_status kr_raised_read(struct kr_server_conn *conn, const char *folder,
                              struct kr_raised *ret, struct kr_error *err)
{
    struct kr_raised raised = {.found = false};
    uint64_t start;

    KR_TRY(find_path(conn, folder, &raised, err));
    KR_TRY(read_record(&raised, err));
    KR_TRY(read_start(conn, &start, err));
    if (raised.found && raised.server_start == start)
        KR_TRY(keep_raised(conn, &raised, err));
    else
        raised.found = false;
    raised.server_start = start;
    *ret = raised;
    return KR_OK;
}

static enum kr_status sync_folder(const char *folder, struct kr_error *err)
{
    KR_FD int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd >= 0 && fsync(fd) == 0)
        return KR_OK;
    return kr_fail(err, KR_IO, "cannot write to %s: %s", folder, strerror(errno));
}

static enum kr_status make_folder(const char *folder, struct kr_error *err)
{
    struct stat st;

    if (mkdir(folder, 0700) != 0 && errno != EEXIST)
        return kr_fail(err, KR_IO, "cannot make %s: %s", folder, strerror(errno));
    if (lstat(folder, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid() &&
        (st.st_mode & (S_IWGRP | S_IWOTH)) == 0)
        return KR_OK;
    return kr_fail(err, KR_REFUSED, "%s is no folder that we alone can write to", folder);
}

static enum kr_status write_file(const char *path, const char *text, int *ret_fd,
                                 struct kr_error *err)
{
    KR_FD int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    size_t len = strlen(text);

    if (fd < 0 || write(fd, text, len) != (ssize_t)len || fsync(fd) != 0)
        return kr_fail(err, KR_IO, "cannot write %s: %s", path, strerror(errno));
    *ret_fd = kr_fd_take(&fd);
    return KR_OK;
}

/* Whole or not at all. */
static enum kr_status write_record(const char *folder, const struct kr_raised *raised, int *ret_fd,
                                   struct kr_error *err)
{
    char text[RECORD_MAX], beside[sizeof raised->path + 8];
    KR_FD int fd = -1;
    int used = snprintf(text, sizeof text, "p11keyring raised 1\nserver_start %" PRIu64 "\n",
                        raised->server_start);

    for (size_t i = 0; i < KR_RAISED_COUNT; i++)
        if (raised->of[i].set)
            used += snprintf(text + used, sizeof text - (size_t)used, "%s %u %u\n",
                             kr_raised_names[i], raised->of[i].before, raised->of[i].raised);
    snprintf(beside, sizeof beside, "%s.new", raised->path);
    unlink(beside);
    KR_TRY(write_file(beside, text, &fd, err));
    if (rename(beside, raised->path) != 0)
        return kr_fail(err, KR_IO, "cannot write %s: %s", raised->path, strerror(errno));
    KR_TRY(sync_folder(folder, err));
    *ret_fd = kr_fd_take(&fd);
    return KR_OK;
}

/* --- setting and putting back -------------------------------------------------------------------
 */

static enum kr_status put_back(struct kr_server_conn *conn, const struct kr_raised *raised,
                               struct kr_error *err)
{
    for (size_t i = 0; i < KR_RAISED_COUNT; i++)
        if (raised->of[i].set)
            KR_TRY(kr_server_run(conn, err, "SET GLOBAL %s = %u", kr_raised_names[i],
                                 raised->of[i].before));
    return KR_OK;
}

enum kr_status kr_raised_put_back(struct kr_server_conn *conn, const char *folder, int record,
                                  struct kr_error *err)
{
    struct kr_raised raised;

    KR_TRY(kr_raised_read(conn, folder, &raised, err));
    if (raised.found)
        KR_TRY(put_back(conn, &raised, err));
    bool ended = record >= 0 && ftruncate(record, 0) == 0;
    if (unlink(raised.path) == 0 || errno == ENOENT || ended)
        return KR_OK;
    return kr_fail(err, KR_IO, "cannot remove %s: %s", raised.path, strerror(errno));
}

enum kr_status kr_raised_set(struct kr_server_conn *conn, const char *folder,
                             const unsigned to[KR_RAISED_COUNT], int *ret_record,
                             struct kr_error *err)
{
    struct kr_raised raised;
    bool any = false;

    KR_TRY(kr_raised_put_back(conn, folder, -1, err));
    KR_TRY(kr_raised_read(conn, folder, &raised, err));
    for (size_t i = 0; i < KR_RAISED_COUNT; i++) {
        KR_TRY(read_variable(conn, i, &raised.of[i].before, err));
        raised.of[i].raised = to[i];
        raised.of[i].set = to[i] != 0 && to[i] != raised.of[i].before;
        any |= raised.of[i].set;
    }
    if (!any)
        return KR_OK;
    KR_TRY(make_folder(folder, err));
    KR_TRY(write_record(folder, &raised, ret_record, err));
    for (size_t i = 0; i < KR_RAISED_COUNT; i++)
        if (raised.of[i].set)
            KR_TRY(kr_server_run(conn, err, "SET GLOBAL %s = %u", kr_raised_names[i],
                                 raised.of[i].raised));
    return KR_OK;
}
