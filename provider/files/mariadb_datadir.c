/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Claims on data directories. */
#include "files/mariadb_datadir.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What a running server holds locked; the second is never replaced. */
static const char *const locked[] = {"ibdata1", "aria_log_control"};
enum { LOCKS = sizeof(locked) / sizeof(*locked) };

struct claim {
    char *path;
    int fds[LOCKS];
};

struct kr_datadirs {
    pthread_mutex_t lock;
    struct claim *claims;
    size_t count;
};

enum kr_status kr_datadirs_new(struct kr_datadirs **ret, struct kr_error *err)
{
    struct kr_datadirs *dirs = calloc(1, sizeof(*dirs));
    if (!dirs)
        return kr_fail_memory(err);
    pthread_mutex_init(&dirs->lock, NULL);
    *ret = dirs;
    return KR_OK;
}

static void release(struct claim *claim)
{
    for (size_t i = 0; i < LOCKS; i++)
        if (claim->fds[i] >= 0)
            close(claim->fds[i]);
    free(claim->path);
}

void kr_datadirs_free(struct kr_datadirs *dirs)
{
    if (!dirs)
        return;
    for (size_t i = 0; i < dirs->count; i++)
        release(&dirs->claims[i]);
    free(dirs->claims);
    pthread_mutex_destroy(&dirs->lock);
    free(dirs);
}

static char *in_folder(const char *folder, const char *name)
{
    char *path = NULL;
    return asprintf(&path, "%s/%s", folder, name) < 0 ? NULL : path;
}

static bool holds_log(const char *folder)
{
    char *path = in_folder(folder, "ib_logfile0");
    bool there = path && access(path, F_OK) == 0;
    free(path);
    return there;
}

/* The folder of the file, or the one above, by where the redo log is; malloc'ed, or NULL. */
static char *find_folder(const char *path)
{
    char *real = realpath(path, NULL), *folder = NULL;
    if (!real)
        return NULL;
    char *at = dirname(real);
    for (int i = 0; i < 2 && !folder; i++, at = dirname(at))
        if (holds_log(at))
            folder = strdup(at);
    free(real);
    return folder;
}

/* The kind of lock that the server takes, but one that does not end with any other descriptor. */
static enum kr_status take_lock(const char *folder, const char *name, int *ret,
                                struct kr_error *err)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char *path = in_folder(folder, name);
    int fd = path ? open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW) : -1;
    free(path);
    if (fd < 0)
        return kr_fail(err, KR_IO, "cannot open %s/%s to lock it: %s", folder, name,
                       strerror(errno));
    if (fcntl(fd, F_OFD_SETLK, &whole) == 0) {
        *ret = fd;
        return KR_OK;
    }
    kr_fail(err, KR_REFUSED, "%s is in use: %s is locked", folder, name);
    kr_hint(err, "shut the server down first");
    close(fd);
    return err->status;
}

static enum kr_status check_log(const struct kr_file *file, const char *folder,
                                struct kr_error *err)
{
    KR_FILE log = {.fd = -1};
    bool done = false;
    char *path = in_folder(folder, "ib_logfile0");
    if (!path)
        return kr_fail_memory(err);
    enum kr_status status = kr_file_open(path, file->run, &log, err);
    if (status == KR_OK)
        status = kr_mariadb_log_is_done(&log, &done, err);
    free(path);
    if (status != KR_OK || done)
        return status;
    kr_fail(err, KR_REFUSED, "%s was not shut down cleanly: its redo log has yet to be recovered",
            folder);
    kr_hint(err, "start the server on it and shut it down");
    return err->status;
}

static enum kr_status claim_folder(const struct kr_file *file, char *folder, struct claim *ret,
                                   struct kr_error *err)
{
    struct claim claim = {.path = folder, .fds = {-1, -1}};
    enum kr_status status = KR_OK;
    for (size_t i = 0; i < LOCKS && status == KR_OK; i++)
        status = take_lock(folder, locked[i], &claim.fds[i], err);
    if (status == KR_OK)
        status = check_log(file, folder, err);
    if (status == KR_OK)
        *ret = claim;
    else
        release(&claim);
    return status;
}

static bool is_claimed(const struct kr_datadirs *dirs, const char *folder)
{
    for (size_t i = 0; i < dirs->count; i++)
        if (strcmp(dirs->claims[i].path, folder) == 0)
            return true;
    return false;
}

/* Takes `folder` over. */
static enum kr_status add_claim(struct kr_datadirs *dirs, const struct kr_file *file, char *folder,
                                struct kr_error *err)
{
    struct claim *claims = reallocarray(dirs->claims, dirs->count + 1, sizeof(*claims));
    if (!claims) {
        free(folder);
        return kr_fail_memory(err);
    }
    dirs->claims = claims;
    KR_TRY(claim_folder(file, folder, &claims[dirs->count], err));
    dirs->count++;
    return KR_OK;
}

enum kr_status kr_datadirs_claim(struct kr_datadirs *dirs, const struct kr_file *file,
                                 struct kr_error *err)
{
    enum kr_status status = KR_OK;
    char *folder = find_folder(file->path);
    if (!folder) {
        kr_fail(err, KR_REFUSED, "%s is in no data directory: no redo log says whether it is whole",
                file->path);
        kr_hint(err, "work on the data directory that it belongs to");
        return err->status;
    }
    pthread_mutex_lock(&dirs->lock);
    if (is_claimed(dirs, folder))
        free(folder);
    else
        status = add_claim(dirs, file, folder, err);
    pthread_mutex_unlock(&dirs->lock);
    return status;
}
