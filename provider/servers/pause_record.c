/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The record: "p11keyring-paused 1", then "socket PATH" or "file PATH" for each server. */
#include "pause_record.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"

#define HEAD "p11keyring-paused 1\n"
#define SOCKET "socket "
#define OPTION_FILE "file "
#define REPAIR "p11keyring migrate --repair"

enum { RECORD_MAX = 64 * 1024 };

char *kr_pause_record_path(const char *path)
{
    char *record;
    return asprintf(&record, "%s" KR_PAUSE_SUFFIX, path) < 0 ? NULL : record;
}

static enum kr_status fail_io(const char *what, const char *path, struct kr_error *err)
{
    return kr_fail(err, KR_IO, "cannot %s the record of paused servers, %s: %s", what, path,
                   strerror(errno));
}

/* --- making it -------------------------------------------------------------------------------- */

static enum kr_status fail_busy(const char *path, struct kr_error *err)
{
    kr_fail(err, KR_REFUSED, "servers are paused by a run that is still at work, as %s says", path);
    kr_hint(err, "wait until it has ended; one that was killed ends within seconds");
    return err->status;
}

static enum kr_status fail_left(const char *path, struct kr_error *err)
{
    kr_fail(err, KR_REFUSED, "servers may still be paused by a run that was killed, as %s says",
            path);
    kr_hint(err, REPAIR " puts them back");
    return err->status;
}

enum kr_status kr_pause_record_check(const char *path, struct kr_error *err)
{
    KR_FD int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT ? KR_OK : fail_io("open", path, err);
    return flock(fd, LOCK_SH | LOCK_NB) == 0 ? fail_left(path, err) : fail_busy(path, err);
}

static bool sync_folder(const char *path)
{
    char *copy = strdup(path);
    KR_FD int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    free(copy);
    return fd >= 0 && fsync(fd) == 0;
}

static const char *kind_of(const struct kr_pause_target *target)
{
    return target->is_socket ? SOCKET : OPTION_FILE;
}

static bool fill(int fd, const struct kr_pause_target *targets, size_t count)
{
    bool ok = dprintf(fd, HEAD) > 0;
    for (size_t i = 0; ok && i < count; i++)
        ok = dprintf(fd, "%s%s\n", kind_of(&targets[i]), targets[i].spec) > 0;
    return ok && fsync(fd) == 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
}

/* Beside its place, then linked to it: the record is whole, and nobody else's goes. */
static enum kr_status place(const char *path, const char *beside,
                            const struct kr_pause_target *targets, size_t count, int *ret_fd,
                            struct kr_error *err)
{
    unlink(beside); /* what a killed run left; nobody reads it */
    KR_FD int fd = open(beside, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail_io("make", beside, err);
    bool ok = fill(fd, targets, count) && link(beside, path) == 0;
    enum kr_status status = ok ? KR_OK : fail_io("make", path, err);
    unlink(beside);
    KR_TRY(status);
    if (!sync_folder(path)) {
        status = fail_io("store", path, err);
        unlink(path);
        return status;
    }
    *ret_fd = kr_fd_take(&fd);
    return KR_OK;
}

enum kr_status kr_pause_record_write(const char *path, const struct kr_pause_target *targets,
                                     size_t count, int *ret_fd, struct kr_error *err)
{
    char *beside = NULL;
    KR_TRY(kr_pause_record_check(path, err));
    if (asprintf(&beside, "%s.new", path) < 0)
        return kr_fail_memory(err);
    enum kr_status status = place(path, beside, targets, count, ret_fd, err);
    free(beside);
    return status;
}

enum kr_status kr_pause_record_remove(const char *path, struct kr_error *err)
{
    if (unlink(path) == 0 || errno == ENOENT) {
        (void)sync_folder(path); /* one that comes back is repaired again */
        return KR_OK;
    }
    return fail_io("remove", path, err);
}

/* --- reading it ------------------------------------------------------------------------------- */

static enum kr_status fail_format(const char *path, struct kr_error *err)
{
    kr_fail(err, KR_INTEGRITY, "%s is no record of paused servers", path);
    kr_hint(err, "set the servers' keyring_operations or pkcs11_key_management_operations to ON, "
                 "and remove the file");
    return err->status;
}

/* It says where root would connect to. */
static enum kr_status check_owner(const char *path, const struct stat *st, struct kr_error *err)
{
    if (!S_ISREG(st->st_mode) || st->st_size > RECORD_MAX || (st->st_mode & (S_IWGRP | S_IWOTH)))
        return fail_format(path, err);
    if (st->st_uid == geteuid())
        return KR_OK;
    const struct passwd *user = getpwuid(st->st_uid);
    kr_fail(err, KR_REFUSED, "%s was made by account %s", path, user ? user->pw_name : "unknown");
    kr_hint(err, "run " REPAIR " as that account");
    return err->status;
}

/* False for what is neither. */
static bool split(const char *line, struct kr_pause_target *ret, const char **ret_path)
{
    ret->is_socket = strncmp(line, SOCKET, strlen(SOCKET)) == 0;
    *ret_path = line + strlen(kind_of(ret));
    return strncmp(line, kind_of(ret), strlen(kind_of(ret))) == 0 && **ret_path == '/';
}

static enum kr_status parse(const char *path, char *text, struct kr_pause_record *ret,
                            struct kr_error *err)
{
    size_t head = strlen(HEAD);
    if (strncmp(text, HEAD, head) != 0)
        return fail_format(path, err);
    for (char *rest = text + head, *line; (line = strsep(&rest, "\n")) != NULL && rest;) {
        struct kr_pause_target target;
        const char *spec;
        if (ret->count == KR_PAUSE_SERVERS_MAX || !split(line, &target, &spec))
            return fail_format(path, err);
        target.spec = strdup(spec);
        if (!target.spec)
            return kr_fail_memory(err);
        ret->targets[ret->count++] = target;
    }
    return KR_OK;
}

static enum kr_status read_locked(const char *path, struct kr_pause_record *ret,
                                  struct kr_error *err)
{
    struct stat st;
    if (fstat(ret->fd, &st) != 0)
        return fail_io("look at", path, err);
    KR_TRY(check_owner(path, &st, err));
    char *text = calloc(1, (size_t)st.st_size + 1);
    if (!text)
        return kr_fail_memory(err);
    ssize_t got = kr_read_full(ret->fd, text, (size_t)st.st_size);
    enum kr_status status = got < 0 ? fail_io("read", path, err) : parse(path, text, ret, err);
    free(text);
    return status;
}

enum kr_status kr_pause_record_read(const char *path, struct kr_pause_record *ret,
                                    struct kr_error *err)
{
    KR_PAUSE_RECORD record = {.fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK)};
    if (record.fd < 0 && errno == ENOENT)
        return kr_fail(err, KR_NOT_FOUND, "there is no %s", path);
    if (record.fd < 0)
        return fail_io("open", path, err);
    if (flock(record.fd, LOCK_EX | LOCK_NB) != 0)
        return fail_busy(path, err);
    KR_TRY(read_locked(path, &record, err));
    *ret = record;
    record = (struct kr_pause_record){.fd = -1};
    return KR_OK;
}

void kr_pause_record_cleanup(struct kr_pause_record *record)
{
    for (size_t i = 0; i < record->count; i++)
        free(record->targets[i].spec);
    kr_fd_cleanup(&record->fd);
}
