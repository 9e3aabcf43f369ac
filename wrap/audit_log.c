/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Writing the audit log. */
#include "wrap/audit_log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hex.h"
#include "base/io.h"
#include "wrap/json_text.h"

enum { LOCK_POLL_MS = 10, HEAD_LINE_BYTES = 20 + 1 + 2 * KR_AUDIT_HASH_BYTES + 1 };

struct kr_audit_log {
    char *path, *head_path; /* NULL: syslog */
    char *owner_of;
    unsigned lock_timeout_ms;
    pthread_mutex_t lock;
    struct kr_audit_head known; /* the newest record that this process knows of */
};

enum kr_status kr_audit_log_new(const struct kr_audit_log_options *options,
                                struct kr_audit_log **ret, struct kr_error *err)
{
    struct kr_audit_log *log = calloc(1, sizeof(*log));
    if (!log)
        return kr_fail_memory(err);
    pthread_mutex_init(&log->lock, NULL);
    log->lock_timeout_ms = options->lock_timeout_ms;
    log->owner_of = options->owner_of ? strdup(options->owner_of) : NULL;
    log->path = options->path ? strdup(options->path) : NULL;
    bool named =
        options->path && asprintf(&log->head_path, "%s" KR_AUDIT_HEAD_SUFFIX, options->path) >= 0;
    if ((options->owner_of && !log->owner_of) || (options->path && !(log->path && named))) {
        kr_audit_log_free(log);
        return kr_fail_memory(err);
    }
    *ret = log;
    return KR_OK;
}

void kr_audit_log_free(struct kr_audit_log *log)
{
    if (!log)
        return;
    pthread_mutex_destroy(&log->lock);
    free(log->path);
    free(log->head_path);
    free(log->owner_of);
    free(log);
}

void kr_audit_log_expect(struct kr_audit_log *log, const struct kr_audit_head *head)
{
    pthread_mutex_lock(&log->lock);
    if (head->seq > log->known.seq)
        log->known = *head;
    pthread_mutex_unlock(&log->lock);
}

/* --- files ------------------------------------------------------------------------------------ */

static enum kr_status fail_file(const char *what, const char *path, struct kr_error *err)
{
    int code = errno;
    bool permission = code == EACCES || code == EPERM || code == EROFS;
    bool absent = code == ENOENT || code == ENOTDIR;
    kr_fail(err, permission || absent ? KR_CONFIG : KR_IO, "cannot %s the audit log's file %s: %s",
            what, path, strerror(code));
    if (absent)
        kr_hint(err, "make its directory, owned by the server's user, mode 0750");
    else if (permission)
        kr_hint(err, "give the directory of the log to the server's user");
    else if (code == ENOSPC || code == EDQUOT || code == EFBIG)
        kr_hint(err, "free space for %s, or let logrotate move old files away", path);
    else
        kr_hint(err, "check [keyring] audit-log and the file system of %s", path);
    return err->status;
}

static enum kr_status check_file(int fd, const char *path, struct kr_error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return fail_file("look at", path, err);
    if (S_ISREG(st.st_mode) && !(st.st_mode & (S_IWGRP | S_IWOTH)))
        return KR_OK;
    kr_fail(err, KR_CONFIG, "the audit log's file %s %s", path,
            S_ISREG(st.st_mode) ? "can be written by others" : "is not a regular file");
    kr_hint(err, "chmod 0640 %s, or set [keyring] audit-log to another path", path);
    return KR_CONFIG;
}

static int sync_directory(const char *path)
{
    char *copy = strdup(path);
    KR_FD int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    free(copy);
    return fd < 0 ? -1 : fsync(fd);
}

/* Made by root for a server: the file must be the server's own. */
static int give_to_owner(const struct kr_audit_log *log, int fd)
{
    struct stat st;
    if (geteuid() != 0 || !log->owner_of || stat(log->owner_of, &st) != 0)
        return 0;
    return fchown(fd, st.st_uid, st.st_gid);
}

static enum kr_status open_file(const struct kr_audit_log *log, const char *path, int flags,
                                mode_t mode, int *ret, struct kr_error *err)
{
    flags |= O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
    KR_FD int fd = open(path, flags);
    if (fd < 0 && errno == ENOENT) {
        fd = open(path, flags | O_CREAT | O_EXCL, mode);
        if (fd >= 0 &&
            (fchmod(fd, mode) != 0 || give_to_owner(log, fd) != 0 || sync_directory(path) != 0))
            return fail_file("make", path, err);
        if (fd < 0 && errno == EEXIST)
            fd = open(path, flags);
    }
    if (fd < 0)
        return fail_file("open", path, err);
    KR_TRY(check_file(fd, path, err));
    *ret = kr_fd_take(&fd);
    return KR_OK;
}

static enum kr_status lock_file(const struct kr_audit_log *log, int fd, struct kr_error *err)
{
    const uint64_t until = kr_now_ms() + log->lock_timeout_ms;
    const struct timespec pause = {.tv_nsec = LOCK_POLL_MS * 1000000L};
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return fail_file("lock", log->head_path, err);
        if (kr_now_ms() >= until) {
            kr_fail(err, KR_IO, "another process has locked the audit log's file %s for %u ms",
                    log->head_path, log->lock_timeout_ms);
            kr_hint(err, "see which with `fuser -v %s`; [keyring] lock-timeout allows more time",
                    log->head_path);
            return KR_IO;
        }
        nanosleep(&pause, NULL);
    }
    return KR_OK;
}

/* --- where the chain stands ------------------------------------------------------------------- */

static void read_head(int fd, struct kr_audit_head *ret)
{
    char line[HEAD_LINE_BYTES + 1] = "";
    struct kr_audit_head head;
    int at = 0;
    if (pread(fd, line, HEAD_LINE_BYTES, 0) != HEAD_LINE_BYTES ||
        sscanf(line, "%" SCNu64 "%n", &head.seq, &at) != 1 || line[at] != ' ' ||
        line[HEAD_LINE_BYTES - 1] != '\n')
        return;
    if (kr_hex_decode(line + at + 1, 2 * (size_t)KR_AUDIT_HASH_BYTES, head.hash))
        *ret = head;
}

/* A failure is no trouble: the log itself says where it ends. */
static void write_head(int fd, const struct kr_audit_head *head)
{
    char hash[2 * KR_AUDIT_HASH_BYTES + 1], line[HEAD_LINE_BYTES + 1];
    kr_hex_encode(head->hash, sizeof(head->hash), hash);
    snprintf(line, sizeof(line), "%020" PRIu64 " %s\n", head->seq, hash);
    (void)!pwrite(fd, line, HEAD_LINE_BYTES, 0);
}

/* How the file ends. */
struct tail {
    off_t size;
    struct kr_audit_head last; /* of its last whole record; 0: none can be read there */
    bool whole;                /* but for the newline behind that record */
    size_t torn_len;           /* bytes of a line that was not written to its end */
    uint8_t torn_hash[KR_AUDIT_HASH_BYTES];
};

static const char *last_newline(const char *text, size_t len)
{
    return len > 0 ? memrchr(text, '\n', len) : NULL;
}

/* Where the record on the last line stands; false when that is no record. */
static bool read_last(const char *line, size_t len, struct kr_audit_head *ret)
{
    KR_AUDIT_RECORD record = {0};
    if (kr_audit_record_read(line, len, &record))
        return false;
    *ret = record.head;
    return true;
}

/* A torn line that is a whole record lacks its newline alone. */
static enum kr_status scan_tail(const char *text, size_t len, struct tail *ret,
                                struct kr_error *err)
{
    const char *end = last_newline(text, len);
    const char *torn = end ? end + 1 : text;
    ret->torn_len = (size_t)(text + len - torn);
    if (ret->torn_len > 0 && read_last(torn, ret->torn_len, &ret->last)) {
        ret->torn_len = 0;
        return KR_OK;
    }
    ret->whole = ret->torn_len == 0;
    if (ret->torn_len > 0)
        KR_TRY(kr_audit_digest(torn, ret->torn_len, ret->torn_hash, err));
    if (!end)
        return KR_OK;
    const char *before = last_newline(text, (size_t)(end - text));
    const char *line = before ? before + 1 : text;
    read_last(line, (size_t)(end - line), &ret->last);
    return KR_OK;
}

static enum kr_status read_tail(const struct kr_audit_log *log, int fd, struct tail *ret,
                                struct kr_error *err)
{
    enum { WINDOW = 2 * KR_AUDIT_LINE_MAX };
    struct stat st;
    if (fstat(fd, &st) != 0)
        return fail_file("look at", log->path, err);
    ret->size = st.st_size;
    size_t len = st.st_size < WINDOW ? (size_t)st.st_size : WINDOW;
    char *text = malloc(WINDOW);
    if (!text)
        return kr_fail_memory(err);
    enum kr_status status = KR_OK;
    if (pread(fd, text, len, st.st_size - (off_t)len) != (ssize_t)len)
        status = fail_file("read", log->path, err);
    if (status == KR_OK)
        status = scan_tail(text, len, ret, err);
    free(text);
    if (status != KR_OK || ret->torn_len <= KR_AUDIT_LINE_MAX)
        return status;
    kr_fail(err, KR_INTEGRITY, "the file %s ends in a line that is longer than any of ours",
            log->path);
    kr_hint(err, "it is no audit log: move it away, or set [keyring] audit-log to another path");
    return KR_INTEGRITY;
}

/* --- remarks of the log itself ---------------------------------------------------------------- */

/* A text to write: lines that follow each other in the chain. */
struct text {
    char bytes[4 * KR_AUDIT_LINE_MAX];
    size_t len;
    struct kr_audit_head head; /* after its last line */
};

static enum kr_status add_line(struct text *text, json_t *fields, struct kr_error *err)
{
    char *line = NULL;
    size_t len = 0;
    KR_TRY(kr_audit_record_seal(fields, &text->head, &line, &len, &text->head, err));
    memcpy(text->bytes + text->len, line, len);
    text->len += len;
    free(line);
    return KR_OK;
}

/* Takes over `details`. */
static enum kr_status add_remark(struct text *text, const json_t *fields, const char *event,
                                 json_t *details, struct kr_error *err)
{
    KR_JSON remark =
        json_pack("{s:s, s:s, s:O?, s:O?}", "event", event, "outcome", "ok", "actor",
                  json_object_get(fields, "actor"), "keyring", json_object_get(fields, "keyring"));
    bool merged = remark && details && json_object_update(remark, details) == 0;
    json_decref(details);
    return merged ? add_line(text, remark, err) : kr_fail_memory(err);
}

static json_t *torn_details(const struct tail *tail)
{
    char hash[2 * KR_AUDIT_HASH_BYTES + 1];
    kr_hex_encode(tail->torn_hash, sizeof(tail->torn_hash), hash);
    return json_pack("{s:I, s:s}", "torn_bytes", (json_int_t)tail->torn_len, "torn_sha256", hash);
}

/* Chooses the record that the next one follows, and says so where that is not what the file shows.
 * `known` is the newest record that is known to have been written. */
static enum kr_status begin_text(const struct tail *tail, const struct kr_audit_head *known,
                                 const json_t *fields, struct text *ret, struct kr_error *err)
{
    bool behind = tail->last.seq < known->seq ||
                  (tail->last.seq == known->seq && !kr_audit_head_equal(&tail->last, known));
    ret->len = 0;
    ret->head = behind ? *known : tail->last;
    if (tail->size > 0 && !tail->whole)
        ret->bytes[ret->len++] = '\n';
    if (tail->torn_len > 0)
        KR_TRY(add_remark(ret, fields, "log-torn", torn_details(tail), err));
    if (tail->size == 0)
        return add_remark(ret, fields, known->seq == 0 ? "log-start" : "log-continue",
                          json_object(), err);
    if (!behind && tail->last.seq > 0)
        return KR_OK;
    return add_remark(ret, fields, "log-altered",
                      json_pack("{s:I}", "last_seq_found", (json_int_t)tail->last.seq), err);
}

/* --- appending -------------------------------------------------------------------------------- */

/* What could not be written whole is taken back: nobody else writes meanwhile. */
static enum kr_status write_text(const struct kr_audit_log *log, int fd, const struct tail *tail,
                                 const struct text *text, struct kr_error *err)
{
    size_t done = 0;
    errno = 0;
    while (done < text->len) {
        ssize_t written = write(fd, text->bytes + done, text->len - done);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            break;
        done += (size_t)written;
    }
    if (done == text->len && fdatasync(fd) == 0)
        return KR_OK;
    fail_file("write", log->path, err);
    (void)!ftruncate(fd, tail->size);
    return err->status;
}

static enum kr_status append_locked(struct kr_audit_log *log, int head_fd, json_t *fields,
                                    struct text *text, struct kr_error *err)
{
    struct tail tail = {0};
    KR_FD int fd = -1;
    KR_TRY(open_file(log, log->path, O_RDWR | O_APPEND, 0640, &fd, err));
    struct kr_audit_head written = {0};
    read_head(head_fd, &written);
    if (written.seq > log->known.seq)
        log->known = written;
    KR_TRY(read_tail(log, fd, &tail, err));
    KR_TRY(begin_text(&tail, &log->known, fields, text, err));
    KR_TRY(add_line(text, fields, err));
    KR_TRY(write_text(log, fd, &tail, text, err));
    write_head(head_fd, &text->head);
    log->known = text->head;
    return KR_OK;
}

/* Not a file that was removed while we waited for it: others would lock another one. */
static enum kr_status open_locked(const struct kr_audit_log *log, int *ret, struct kr_error *err)
{
    struct stat st;
    do {
        KR_FD int fd = -1;
        KR_TRY(open_file(log, log->head_path, O_RDWR, 0600, &fd, err));
        KR_TRY(lock_file(log, fd, err));
        if (fstat(fd, &st) != 0)
            return fail_file("look at", log->head_path, err);
        if (st.st_nlink > 0) {
            *ret = fd;
            fd = -1;
        }
    } while (st.st_nlink == 0);
    return KR_OK;
}

static enum kr_status append_to_file(struct kr_audit_log *log, json_t *fields, struct kr_error *err)
{
    KR_FD int head_fd = -1;
    KR_TRY(open_locked(log, &head_fd, err));
    struct text *text = malloc(sizeof(*text));
    if (!text)
        return kr_fail_memory(err);
    enum kr_status status = append_locked(log, head_fd, fields, text, err);
    free(text);
    return status;
}

static enum kr_status append_to_syslog(struct kr_audit_log *log, json_t *fields,
                                       struct kr_error *err)
{
    char *line = NULL;
    size_t len = 0;
    KR_TRY(kr_audit_record_seal(fields, &log->known, &line, &len, &log->known, err));
    syslog(LOG_AUTHPRIV | LOG_NOTICE, "p11keyring-audit: %.*s", (int)(len - 1), line);
    free(line);
    return KR_OK;
}

enum kr_status kr_audit_log_append(struct kr_audit_log *log, json_t *fields,
                                   struct kr_audit_head *ret_head, struct kr_error *err)
{
    pthread_mutex_lock(&log->lock);
    enum kr_status status =
        log->path ? append_to_file(log, fields, err) : append_to_syslog(log, fields, err);
    struct kr_audit_head head = log->known;
    pthread_mutex_unlock(&log->lock);
    if (status == KR_OK)
        *ret_head = head;
    return status;
}

/* --- looking ---------------------------------------------------------------------------------- */

/* Of a log that is yet to be made: whether its directory takes it. */
static enum kr_status check_directory(const struct kr_audit_log *log, struct kr_error *err)
{
    char *copy = strdup(log->path);
    int rc = copy ? access(dirname(copy), W_OK | X_OK) : 0;
    free(copy);
    return rc == 0 ? KR_OK : fail_file("make", log->path, err);
}

enum kr_status kr_audit_log_check(struct kr_audit_log *log, struct kr_audit_head *ret_head,
                                  struct kr_error *err)
{
    struct kr_audit_head head = {0};
    struct tail tail = {0};
    *ret_head = head;
    if (!log->path)
        return KR_OK;
    const int flags = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
    KR_FD int head_fd = open(log->head_path, O_RDWR | flags);
    KR_FD int fd = open(log->path, O_RDWR | O_APPEND | flags);
    if ((head_fd < 0 && errno != ENOENT) || (fd < 0 && errno != ENOENT))
        return fail_file("open", log->path, err);
    if (head_fd >= 0) {
        KR_TRY(lock_file(log, head_fd, err)); /* no writer is half-way */
        read_head(head_fd, &head);
    }
    if (head_fd < 0 || fd < 0)
        KR_TRY(check_directory(log, err));
    if (fd >= 0) {
        KR_TRY(check_file(fd, log->path, err));
        KR_TRY(read_tail(log, fd, &tail, err));
    }
    *ret_head = tail.last.seq > head.seq ? tail.last : head;
    return KR_OK;
}
