/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Opening and reading files whose names and contents are not to be trusted. */
#include "files/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static enum kr_status fail_io(const struct kr_file *file, const char *what, struct kr_error *err)
{
    return kr_fail(err, KR_IO, "cannot %s %s: %s", what, file->path, strerror(errno));
}

/* The bytes that were read; fewer than `len` at the end of the file; -1 with errno. */
static ssize_t read_at(int fd, uint64_t offset, uint8_t *bytes, size_t len)
{
    size_t used = 0;
    while (used < len) {
        ssize_t got = pread(fd, bytes + used, len - used, (off_t)(offset + used));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        used += (size_t)got;
    }
    return (ssize_t)used;
}

static enum kr_status read_head(struct kr_file *file, struct kr_error *err)
{
    size_t wanted = file->size < KR_FILE_HEAD_BYTES ? (size_t)file->size : KR_FILE_HEAD_BYTES;
    file->head = calloc(1, wanted + 1);
    if (!file->head)
        return kr_fail_memory(err);
    ssize_t got = read_at(file->fd, 0, file->head, wanted);
    if (got < 0)
        return fail_io(file, "read", err);
    file->head_len = (size_t)got;
    file->kind = kr_file_kind_of(file->head, file->head_len, file->size, file->name);
    return KR_OK;
}

/* O_NONBLOCK, so that a pipe in the place of a file does not hold us up. */
static enum kr_status open_regular(struct kr_file *file, struct kr_error *err)
{
    file->fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (file->fd < 0 && errno == ELOOP)
        return kr_fail(err, KR_REFUSED, "%s is a symbolic link", file->path);
    if (file->fd < 0 || fstat(file->fd, &file->st) != 0)
        return fail_io(file, "open", err);
    if (!S_ISREG(file->st.st_mode))
        return kr_fail(err, KR_REFUSED, "%s is no regular file", file->path);
    file->size = (uint64_t)file->st.st_size;
    return KR_OK;
}

enum kr_status kr_file_open(const char *path, const struct kr_file_run *run, struct kr_file *ret,
                            struct kr_error *err)
{
    const char *slash = strrchr(path, '/');
    struct kr_file file = {.fd = -1, .path = path, .name = slash ? slash + 1 : path, .run = run};
    enum kr_status status = open_regular(&file, err);
    if (status == KR_OK)
        status = read_head(&file, err);
    if (status == KR_OK)
        *ret = file;
    else
        kr_file_close(&file);
    return status;
}

void kr_file_close(struct kr_file *file)
{
    free(file->head);
    if (file->fd >= 0)
        close(file->fd);
    *file = (struct kr_file){.fd = -1};
}

enum kr_status kr_file_read(const struct kr_file *file, uint64_t offset, void *ret, size_t len,
                            struct kr_error *err)
{
    ssize_t got = read_at(file->fd, offset, ret, len);
    if (got < 0)
        return fail_io(file, "read", err);
    if ((size_t)got < len)
        return kr_fail(err, KR_INTEGRITY, "%s ends at byte %llu, within what should be there",
                       file->path, (unsigned long long)offset + (unsigned long long)got);
    return KR_OK;
}

#define SYSTEM_NAME "ibdata"

static bool is_system_name(const char *name)
{
    return strncmp(name, SYSTEM_NAME, sizeof(SYSTEM_NAME) - 1) == 0;
}

static uint64_t system_bytes_in(DIR *folder)
{
    const struct dirent *entry;
    struct stat st;
    uint64_t bytes = 0;
    while ((entry = readdir(folder)))
        if (is_system_name(entry->d_name) &&
            fstatat(dirfd(folder), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            bytes += (uint64_t)st.st_size;
    return bytes;
}

uint64_t kr_file_system_bytes(const struct kr_file *file)
{
    size_t len = (size_t)(file->name - file->path);
    char *path = len > 0 ? strndup(file->path, len) : strdup(".");
    DIR *folder = path && is_system_name(file->name) ? opendir(path) : NULL;
    uint64_t bytes = folder ? system_bytes_in(folder) : UINT64_MAX;
    if (folder)
        closedir(folder);
    free(path);
    return bytes;
}

bool kr_file_changed(const struct kr_file *file)
{
    struct stat now;
    return fstat(file->fd, &now) != 0 || now.st_size != file->st.st_size ||
           now.st_mtim.tv_sec != file->st.st_mtim.tv_sec ||
           now.st_mtim.tv_nsec != file->st.st_mtim.tv_nsec;
}

bool kr_file_stopped(const struct kr_file *file)
{
    return atomic_load_explicit(file->run->stop, memory_order_relaxed);
}

void kr_file_done(const struct kr_file *file, uint64_t bytes)
{
    atomic_fetch_add_explicit(file->run->done_bytes, file->twice ? bytes / 2 : bytes,
                              memory_order_relaxed);
}
