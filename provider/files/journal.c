/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * A journal: "p11k-rekey-v1\0\0\0" | offset, 8 | length, 8 | the bytes before | the bytes after |
 * SHA-256 of all that. Numbers big-endian.
 */
#include "files/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/io.h"
#include "files/output.h"

enum { MAGIC_BYTES = 16, OFFSET_AT = 16, LENGTH_AT = 24, BYTES_AT = 32, HASH_BYTES = 32 };
enum { SECTOR = 512, JOURNAL_MAX = BYTES_AT + 2 * KR_JOURNAL_BYTES_MAX + HASH_BYTES };

#define JOURNAL_SUFFIX ".p11keyring-header"

static const char magic[MAGIC_BYTES] = "p11k-rekey-v1";

/* Bytes of a file that become others. */
struct patch {
    uint64_t offset;
    size_t len;
    const uint8_t *before, *after;
};

static enum kr_status fail_io(const char *path, const char *what, struct kr_error *err)
{
    return kr_fail(err, KR_IO, "cannot %s %s: %s", what, path, strerror(errno));
}

/* --- the file ----------------------------------------------------------------------------------
 */

/* False with errno; at the end of the file, EIO. */
static bool read_all(int fd, uint8_t *bytes, size_t len, uint64_t offset)
{
    size_t done = 0;
    while (done < len) {
        ssize_t got = pread(fd, bytes + done, len - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0)
            errno = EIO;
        if (got <= 0)
            return false;
        done += (size_t)got;
    }
    return true;
}

static bool write_all(int fd, const uint8_t *bytes, size_t len, uint64_t offset)
{
    size_t done = 0;
    while (done < len) {
        ssize_t put = pwrite(fd, bytes + done, len - done, (off_t)(offset + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return false;
        done += (size_t)put;
    }
    return true;
}

/* What was written is read back; from the disk, where the system drops its copy when told. */
static enum kr_status write_back(const char *path, int fd, const struct patch *patch,
                                 struct kr_error *err)
{
    uint8_t *seen = malloc(patch->len + 1); /* never of nothing */
    if (!seen)
        return kr_fail_memory(err);
    enum kr_status status = KR_OK;
    if (!write_all(fd, patch->after, patch->len, patch->offset) || fsync(fd) != 0)
        status = fail_io(path, "write", err);
    (void)posix_fadvise(fd, (off_t)patch->offset, (off_t)patch->len, POSIX_FADV_DONTNEED);
    if (status == KR_OK && !read_all(fd, seen, patch->len, patch->offset))
        status = fail_io(path, "read", err);
    if (status == KR_OK && memcmp(seen, patch->after, patch->len) != 0)
        status = kr_fail(err, KR_INTEGRITY, "%s does not read back as it was written", path);
    free(seen);
    return status;
}

/* --- the journal -------------------------------------------------------------------------------
 */

/* Malloc'ed; NULL without memory. */
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

static bool digest(const uint8_t *bytes, size_t len, uint8_t ret[HASH_BYTES])
{
    return EVP_Digest(bytes, len, ret, NULL, EVP_sha256(), NULL) == 1;
}

static size_t journal_len(const struct patch *patch)
{
    return BYTES_AT + 2 * patch->len + HASH_BYTES;
}

static bool encode(const struct patch *patch, uint8_t *ret)
{
    size_t used = journal_len(patch) - HASH_BYTES;
    memcpy(ret, magic, MAGIC_BYTES);
    kr_put_number(ret + OFFSET_AT, patch->offset, 8);
    kr_put_number(ret + LENGTH_AT, patch->len, 8);
    memcpy(ret + BYTES_AT, patch->before, patch->len);
    memcpy(ret + BYTES_AT + patch->len, patch->after, patch->len);
    return digest(ret, used, ret + used);
}

static enum kr_status write_journal(const char *journal, const struct patch *patch,
                                    struct kr_error *err)
{
    KR_OUTPUT output = {.fd = -1, .folder = -1};
    KR_TRY(kr_output_open(journal, &output, err));
    size_t len = journal_len(patch);
    uint8_t *bytes = malloc(len);
    if (!bytes)
        return kr_fail_memory(err);
    enum kr_status status = KR_OK;
    if (!encode(patch, bytes))
        status = kr_fail(err, KR_INTERNAL, "OpenSSL failed to hash");
    else if (!write_all(output.fd, bytes, len, 0))
        status = fail_io(journal, "write", err);
    free(bytes);
    return status == KR_OK ? kr_output_commit(&output, err) : status;
}

/* Durably: a journal that came back after the next change of the file would be in its way. */
static enum kr_status remove_journal(const char *journal, struct kr_error *err)
{
    const char *slash = strrchr(journal, '/');
    char *folder = slash ? strndup(journal, (size_t)(slash - journal + 1)) : strdup(".");
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    bool removed = fd >= 0 && unlink(journal) == 0 && fsync(fd) == 0;
    enum kr_status status = removed ? KR_OK : fail_io(journal, "remove", err);
    if (fd >= 0)
        close(fd);
    free(folder);
    return status;
}

static enum kr_status fail_journal(const char *journal, struct kr_error *err)
{
    kr_fail(err, KR_INTEGRITY, "%s is not a whole journal", journal);
    kr_hint(err, "it was damaged after it was written: restore the file beside it from a backup");
    return err->status;
}

static enum kr_status decode(const char *journal, const uint8_t *bytes, size_t len,
                             struct patch *ret, struct kr_error *err)
{
    uint8_t hash[HASH_BYTES];
    if (len < BYTES_AT + HASH_BYTES || memcmp(bytes, magic, MAGIC_BYTES) != 0 ||
        !digest(bytes, len - HASH_BYTES, hash) ||
        memcmp(hash, bytes + len - HASH_BYTES, HASH_BYTES) != 0)
        return fail_journal(journal, err);
    size_t each = (len - BYTES_AT - HASH_BYTES) / 2;
    if (each == 0 || kr_get_number(bytes + LENGTH_AT, 8) != each)
        return fail_journal(journal, err);
    *ret = (struct patch){.offset = kr_get_number(bytes + OFFSET_AT, 8),
                          .len = each,
                          .before = bytes + BYTES_AT,
                          .after = bytes + BYTES_AT + each};
    return KR_OK;
}

/* `bytes` has room for JOURNAL_MAX and one more. */
static enum kr_status read_journal(const char *journal, uint8_t *bytes, struct patch *ret,
                                   struct kr_error *err)
{
    struct stat st;
    KR_FD int fd = open(journal, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0)
        return fail_io(journal, "open", err);
    if (!S_ISREG(st.st_mode))
        return fail_journal(journal, err);
    ssize_t len = kr_read_full(fd, bytes, JOURNAL_MAX + 1);
    if (len < 0)
        return fail_io(journal, "read", err);
    return len > JOURNAL_MAX ? fail_journal(journal, err)
                             : decode(journal, bytes, (size_t)len, ret, err);
}

/* --- all of it ---------------------------------------------------------------------------------
 */

static enum kr_status write_by(const char *path, const char *journal, int fd,
                               const struct patch *patch, struct kr_error *err)
{
    uint8_t seen[SECTOR];
    for (size_t at = 0; at < patch->len; at += SECTOR) {
        size_t len = patch->len - at < SECTOR ? patch->len - at : SECTOR;
        if (!read_all(fd, seen, len, patch->offset + at))
            return fail_io(path, "read", err);
        if (memcmp(seen, patch->before + at, len) != 0)
            return kr_fail(err, KR_REFUSED, "somebody wrote to %s meanwhile", path);
    }
    KR_TRY(write_journal(journal, patch, err));
    KR_TRY(write_back(path, fd, patch, err));
    return remove_journal(journal, err);
}

enum kr_status kr_journal_write(const char *path, int fd, uint64_t offset, const uint8_t *before,
                                const uint8_t *after, size_t len, struct kr_error *err)
{
    const struct patch patch = {.offset = offset, .len = len, .before = before, .after = after};
    char *journal = journal_of(path);
    enum kr_status status = journal ? KR_OK : kr_fail_memory(err);
    if (status == KR_OK && len > KR_JOURNAL_BYTES_MAX)
        status = kr_fail(err, KR_INTERNAL, "a change of %zu bytes at once", len);
    if (status == KR_OK)
        status = write_by(path, journal, fd, &patch, err);
    free(journal);
    return status;
}

bool kr_journal_is_pending(const char *path)
{
    struct stat st;
    char *journal = journal_of(path);
    bool pending = journal && lstat(journal, &st) == 0;
    free(journal);
    return pending;
}

/* Each sector is what it was or what it was to become: nobody else has written there since. */
static bool is_between(const uint8_t *seen, const struct patch *patch)
{
    for (size_t at = 0; at < patch->len; at += SECTOR) {
        size_t len = patch->len - at < SECTOR ? patch->len - at : SECTOR;
        if (memcmp(seen + at, patch->before + at, len) != 0 &&
            memcmp(seen + at, patch->after + at, len) != 0)
            return false;
    }
    return true;
}

static enum kr_status complete(const char *path, int fd, const char *journal,
                               const struct patch *patch, struct kr_error *err)
{
    uint8_t *seen = malloc(patch->len + 1); /* never of nothing */
    if (!seen)
        return kr_fail_memory(err);
    bool read = read_all(fd, seen, patch->len, patch->offset);
    bool between = read && is_between(seen, patch);
    free(seen);
    if (!read)
        return fail_io(path, "read", err);
    if (!between) {
        kr_fail(err, KR_REFUSED, "%s was changed by somebody else after rekey was interrupted",
                path);
        kr_hint(err, "p11keyring verify %s: when it is ok, remove %s", path, journal);
        return err->status;
    }
    KR_TRY(write_back(path, fd, patch, err));
    return remove_journal(journal, err);
}

enum kr_status kr_journal_recover(const char *path, int fd, struct kr_error *err)
{
    struct patch patch = {0};
    if (!kr_journal_is_pending(path))
        return KR_OK;
    char *journal = journal_of(path);
    uint8_t *bytes = malloc(JOURNAL_MAX + 1);
    enum kr_status status =
        journal && bytes ? read_journal(journal, bytes, &patch, err) : kr_fail_memory(err);
    if (status == KR_OK)
        status = complete(path, fd, journal, &patch, err);
    free(bytes);
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
        return fail_io(file->path, "open for writing", err);
    if (st.st_ino != file->st.st_ino || st.st_dev != file->st.st_dev)
        return refuse_in_use(file->path, err);
    if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
        return KR_OK;
    return errno == EAGAIN || errno == EACCES ? refuse_in_use(file->path, err)
                                              : fail_io(file->path, "lock", err);
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
