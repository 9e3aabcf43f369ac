/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* By rename(). */
#include "files/replace.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/io.h"

#define SUFFIX ".p11keyring"

static enum kr_status fail(const char *what, const char *path, struct kr_error *err)
{
    bool denied = errno == EACCES;
    kr_fail(err, KR_IO, "cannot %s %s: %s", what, path, strerror(errno));
    if (denied)
        kr_hint(err,
                "this acts as uid %u, the keyring's owner, which needs to write to that folder",
                (unsigned)geteuid());
    return err->status;
}

bool kr_replacement_is_name(const char *path)
{
    size_t len = strlen(path), suffix_len = sizeof(SUFFIX) - 1;
    return len > suffix_len && strcmp(path + len - suffix_len, SUFFIX) == 0;
}

static enum kr_status make(const struct stat *like, struct kr_replacement *replacement,
                           struct kr_error *err)
{
    if (asprintf(&replacement->beside, "%s" SUFFIX, replacement->path) < 0) {
        replacement->beside = NULL;
        return kr_fail_memory(err);
    }
    if (unlink(replacement->beside) != 0 && errno != ENOENT)
        return fail("remove", replacement->beside, err);
    replacement->fd =
        open(replacement->beside, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (replacement->fd < 0)
        return fail("make", replacement->beside, err);
    if (like && (fchown(replacement->fd, like->st_uid, like->st_gid) != 0 ||
                 fchmod(replacement->fd, like->st_mode & 0777) != 0))
        return fail("set owner and mode of", replacement->beside, err);
    return KR_OK;
}

enum kr_status kr_replacement_check(const char *path, uint64_t bytes, struct kr_error *err)
{
    struct statvfs fs;
    char *copy = strdup(path);
    if (!copy)
        return kr_fail_memory(err);
    const char *folder = dirname(copy);
    enum kr_status status = KR_OK;
    if (faccessat(AT_FDCWD, folder, W_OK | X_OK, AT_EACCESS) != 0 || statvfs(folder, &fs) != 0)
        status = fail("write to", folder, err);
    else if ((uint64_t)fs.f_bavail * fs.f_frsize < bytes)
        status =
            kr_fail(err, KR_IO, "%s needs %llu bytes of room beside it, and there are %llu", path,
                    (unsigned long long)bytes, (unsigned long long)fs.f_bavail * fs.f_frsize);
    free(copy);
    return status;
}

enum kr_status kr_replacement_open(const char *path, const struct stat *like,
                                   struct kr_replacement *ret, struct kr_error *err)
{
    struct kr_replacement replacement = {.fd = -1, .path = path};
    enum kr_status status = make(like, &replacement, err);
    if (status == KR_OK)
        *ret = replacement;
    else
        kr_replacement_close(&replacement);
    return status;
}

enum kr_status kr_replacement_sync(const struct kr_replacement *replacement, struct kr_error *err)
{
    return fsync(replacement->fd) == 0 ? KR_OK : fail("write", replacement->beside, err);
}

static enum kr_status sync_folder(const char *path, struct kr_error *err)
{
    char *copy = strdup(path);
    if (!copy)
        return kr_fail_memory(err);
    KR_FD int folder = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(copy);
    return folder >= 0 && fsync(folder) == 0 ? KR_OK : fail("write the folder of", path, err);
}

enum kr_status kr_replacement_commit(struct kr_replacement *replacement, struct kr_error *err)
{
    if (rename(replacement->beside, replacement->path) != 0)
        return fail("replace", replacement->path, err);
    free(replacement->beside);
    replacement->beside = NULL;
    return sync_folder(replacement->path, err);
}

void kr_replacement_close(struct kr_replacement *replacement)
{
    if (replacement->fd >= 0) {
        close(replacement->fd);
        if (replacement->beside)
            unlink(replacement->beside);
    }
    free(replacement->beside);
    *replacement = (struct kr_replacement){.fd = -1};
}
