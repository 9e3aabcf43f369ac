/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Changing a few bytes of a file in one step. */
#include "files/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/io.h"
#include "hwaccel/crc32c.h"

#define JOURNAL_SUFFIX ".p11keyring-header"
#define JOURNAL_MAGIC "P11KHDR1"
enum { MAGIC_BYTES = 8, OFFSET_AT = 8, BYTES_AT = 16, CRC_BYTES = 4, JOURNAL_MAX = 128 * 1024 };

static enum kr_status fail(const char *path, const char *what, struct kr_error *err)
{
    return kr_fail(err, KR_IO, "cannot %s %s: %s", what, path, strerror(errno));
}

/* NULL when out of memory. */
static char *journal_of(const char *path)
{
    char *ret = NULL;
    return asprintf(&ret, "%s" JOURNAL_SUFFIX, path) < 0 ? NULL : ret;
}

bool kr_journal_is_name(const char *name)
{
    size_t len = strlen(name), suffix_len = sizeof(JOURNAL_SUFFIX) - 1;
    return len > suffix_len && strcmp(name + len - suffix_len, JOURNAL_SUFFIX) == 0;
}

static enum kr_status sync_folder(const char *path, struct kr_error *err)
{
    char *copy = strdup(path);
    if (!copy)
        return kr_fail_memory(err);
    KR_FD int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool synced = fd >= 0 && fsync(fd) == 0;
    free(copy);
    return synced ? KR_OK : fail(path, "write the folder of", err);
}

/* --- bytes by a journal --------------------------------------------------------------------------
 */

static bool write_at(int fd, uint64_t offset, const uint8_t *bytes, size_t len)
{
    while (len > 0) {
        ssize_t done = pwrite(fd, bytes, len, (off_t)offset);
        if (done < 0 && errno != EINTR)
            return false;
        if (done > 0) {
            bytes += done;
            offset += (uint64_t)done;
            len -= (size_t)done;
        }
    }
    return true;
}

static enum kr_status write_journal(const char *journal, uint64_t offset, const uint8_t *bytes,
                                    size_t len, struct kr_error *err)
{
    size_t size = BYTES_AT + len + CRC_BYTES;
    uint8_t *record = malloc(size);
    KR_FD int fd = open(journal, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (!record)
        return kr_fail_memory(err);
    memcpy(record, JOURNAL_MAGIC, MAGIC_BYTES);
    kr_put_number(record + OFFSET_AT, offset, 8);
    memcpy(record + BYTES_AT, bytes, len);
    kr_put_number(record + BYTES_AT + len, kr_crc32c(0, record, BYTES_AT + len), CRC_BYTES);
    bool written = fd >= 0 && write_at(fd, 0, record, size) && fsync(fd) == 0;
    free(record);
    return written ? sync_folder(journal, err) : fail(journal, "write", err);
}

static enum kr_status apply(const char *path, int fd, uint64_t offset, const uint8_t *bytes,
                            size_t len, struct kr_error *err)
{
    if (!write_at(fd, offset, bytes, len) || fsync(fd) != 0)
        return fail(path, "write to", err);
    return KR_OK;
}

static enum kr_status drop(const char *journal, struct kr_error *err)
{
    if (unlink(journal) != 0 && errno != ENOENT)
        return fail(journal, "remove", err);
    return sync_folder(journal, err);
}

enum kr_status kr_journal_write(const char *path, int fd, uint64_t offset, const uint8_t *bytes,
                                size_t len, struct kr_error *err)
{
    char *journal = journal_of(path);
    if (!journal)
        return kr_fail_memory(err);
    enum kr_status status = write_journal(journal, offset, bytes, len, err);
    if (status == KR_OK)
        status = apply(path, fd, offset, bytes, len, err);
    if (status == KR_OK)
        status = drop(journal, err);
    free(journal);
    return status;
}

/* A journal that is not whole was never acted on: the file is as it was. */
static enum kr_status replay(const char *path, const char *journal, int from, struct kr_error *err)
{
    uint8_t *record = malloc(JOURNAL_MAX);
    KR_FD int fd = open(path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    ssize_t size = record ? kr_read_full(from, record, JOURNAL_MAX) : -1;
    enum kr_status status = KR_OK;
    if (size < 0 || fd < 0) {
        status = fail(fd < 0 ? path : journal, "open", err);
    } else if (size > BYTES_AT + CRC_BYTES && memcmp(record, JOURNAL_MAGIC, MAGIC_BYTES) == 0) {
        size_t len = (size_t)size - BYTES_AT - CRC_BYTES;
        if (kr_crc32c(0, record, BYTES_AT + len) == kr_get_number(record + BYTES_AT + len, 4))
            status =
                apply(path, fd, kr_get_number(record + OFFSET_AT, 8), record + BYTES_AT, len, err);
    }
    free(record);
    return status == KR_OK ? drop(journal, err) : status;
}

static enum kr_status recover(const char *path, const char *journal, struct kr_error *err)
{
    KR_FD int fd = open(journal, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return KR_OK;
    return fd < 0 ? fail(journal, "open", err) : replay(path, journal, fd, err);
}

enum kr_status kr_journal_recover(const char *path, struct kr_error *err)
{
    char *journal = journal_of(path);
    enum kr_status status = journal ? recover(path, journal, err) : kr_fail_memory(err);
    free(journal);
    return status;
}

/* --- nobody else ---------------------------------------------------------------------------------
 */

static enum kr_status refuse_in_use(const char *path, struct kr_error *err)
{
    kr_fail(err, KR_REFUSED, "%s is in use by another process", path);
    kr_hint(err, "stop the server first, or work on a copy of its files");
    return err->status;
}

static enum kr_status take_lock(const struct kr_file *file, int fd, struct kr_error *err)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return fail(file->path, "open for writing", err);
    if (st.st_ino != file->st.st_ino || st.st_dev != file->st.st_dev)
        return refuse_in_use(file->path, err);
    if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
        return KR_OK;
    return errno == EAGAIN || errno == EACCES ? refuse_in_use(file->path, err)
                                              : fail(file->path, "lock", err);
}

/* A lease on a file for reading is not to be had while anybody has it open for writing. Some file
 * systems have no leases; there only the lock tells. */
enum kr_status kr_journal_lock(const struct kr_file *file, int *ret, struct kr_error *err)
{
    if (fcntl(file->fd, F_SETLEASE, F_RDLCK) == 0)
        (void)fcntl(file->fd, F_SETLEASE, F_UNLCK);
    else if (errno == EAGAIN)
        return refuse_in_use(file->path, err);
    int fd = open(file->path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    enum kr_status status = take_lock(file, fd, err);
    if (status == KR_OK)
        *ret = fd;
    else
        kr_fd_cleanup(&fd);
    return status;
}
