/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* O_TMPFILE where there is such a thing, else a temporary name in the same folder. */
#include "files/output.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static enum kr_status fail(const struct kr_output *output, const char *what, struct kr_error *err)
{
    bool denied = errno == EACCES;
    kr_fail(err, KR_IO, "cannot %s %s: %s", what, output->path, strerror(errno));
    if (denied)
        kr_hint(err, "this acts as the keystore's owner: name a folder that this user may write");
    return err->status;
}

static enum kr_status refuse_existing(const struct kr_output *output, struct kr_error *err)
{
    kr_fail(err, KR_REFUSED, "%s exists already", output->path);
    kr_hint(err, "name another output, or remove it");
    return err->status;
}

static int open_folder(const char *path)
{
    char *copy = strdup(path);
    int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    free(copy);
    return fd;
}

/* Old kernels and some file systems answer O_TMPFILE with one of these. */
static bool knows_no_tmpfile(void)
{
    return errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT || errno == EINVAL;
}

static bool open_temporary(struct kr_output *output)
{
    const int flags = O_RDWR | O_CLOEXEC;
    output->fd = openat(output->folder, ".", flags | O_TMPFILE, 0600);
    if (output->fd >= 0 || !knows_no_tmpfile())
        return output->fd >= 0;
    if (asprintf(&output->temporary, ".%s.%ld.p11keyring", last_part(output->path),
                 (long)getpid()) < 0) {
        output->temporary = NULL;
        return false;
    }
    output->fd =
        openat(output->folder, output->temporary, flags | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    return output->fd >= 0;
}

static enum kr_status begin(struct kr_output *output, struct kr_error *err)
{
    struct stat st;
    output->folder = open_folder(output->path);
    if (output->folder < 0)
        return fail(output, "open the folder of", err);
    if (!*last_part(output->path) ||
        fstatat(output->folder, last_part(output->path), &st, AT_SYMLINK_NOFOLLOW) == 0)
        return refuse_existing(output, err);
    return open_temporary(output) ? KR_OK : fail(output, "make", err);
}

enum kr_status kr_output_open(const char *path, struct kr_output *ret, struct kr_error *err)
{
    struct kr_output output = {.fd = -1, .folder = -1, .path = strdup(path)};
    enum kr_status status = output.path ? begin(&output, err) : kr_fail_memory(err);
    if (status == KR_OK)
        *ret = output;
    else
        kr_output_close(&output);
    return status;
}

/* Gives it its name, unless there is a file of that name by now. */
static bool give_name(const struct kr_output *output)
{
    char self[40];
    const char *name = last_part(output->path);
    snprintf(self, sizeof(self), "/proc/self/fd/%d", output->fd);
    if (!output->temporary)
        return linkat(AT_FDCWD, self, output->folder, name, AT_SYMLINK_FOLLOW) == 0;
    return linkat(output->folder, output->temporary, output->folder, name, 0) == 0;
}

enum kr_status kr_output_commit(struct kr_output *output, struct kr_error *err)
{
    if (fsync(output->fd) != 0)
        return fail(output, "write", err);
    if (!give_name(output))
        return errno == EEXIST ? refuse_existing(output, err) : fail(output, "name", err);
    if (fsync(output->folder) != 0)
        return fail(output, "write the folder of", err);
    return KR_OK;
}

void kr_output_close(struct kr_output *output)
{
    if (output->temporary)
        unlinkat(output->folder, output->temporary, 0);
    if (output->fd >= 0)
        close(output->fd);
    if (output->path && output->folder >= 0)
        close(output->folder);
    free(output->temporary);
    free(output->path);
    *output = (struct kr_output){.fd = -1, .folder = -1};
}
