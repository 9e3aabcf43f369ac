/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Reading and writing the pages of a chunk. O_DIRECT is a wish: where the file system, or the disk
 * for a position or a length, does not take it, the run goes on through the page cache.
 */
#include "hwaccel/bulk_io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SECTOR = 512, WAIT_MS = 100 };

/* --- O_DIRECT ----------------------------------------------------------------------------------*/

static void use_page_cache(struct kr_bulk_file *file)
{
    atomic_store(&file->direct, false);
    fcntl(file->fd, F_SETFL, file->flags & ~O_DIRECT);
}

static void refuse_direct(struct kr_bulk_file *file, const char *why)
{
    use_page_cache(file);
    atomic_store(&file->refused, why);
}

static void ask_for_direct(struct kr_bulk_file *file)
{
    if (file->fd < 0)
        return;
    atomic_store(&file->direct, true);
    if (file->is_pipe)
        refuse_direct(file, "a pipe has no O_DIRECT");
    else if (fcntl(file->fd, F_SETFL, file->flags | O_DIRECT) != 0)
        refuse_direct(file, "the file system does not support O_DIRECT");
}

/* The end of a file that is no multiple of a sector is out of O_DIRECT's reach, and last. */
static void prepare_end(struct kr_bulk_file *file, const struct kr_bulk_chunk *chunk)
{
    if (chunk->last_len % SECTOR != 0 && atomic_load(&file->direct))
        use_page_cache(file);
}

/* --- opening -----------------------------------------------------------------------------------*/

static enum kr_status look_at(int fd, const char *name, uint64_t offset,
                              struct kr_bulk_file *ret_file, struct stat *ret_st,
                              struct kr_error *err)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fstat(fd, ret_st) != 0)
        return kr_fail(err, KR_IO, "%s: cannot look at it: %s", name, strerror(errno));
    *ret_file = (struct kr_bulk_file){.fd = fd, .name = name, .offset = offset, .flags = flags};
    ret_file->is_pipe = lseek(fd, 0, SEEK_CUR) < 0 && errno == ESPIPE;
    return KR_OK;
}

static enum kr_status check_output(const struct kr_bulk_file *in, const struct stat *in_st,
                                   const struct kr_bulk_file *out, const struct stat *out_st,
                                   struct kr_error *err)
{
    bool same = in_st->st_dev == out_st->st_dev && in_st->st_ino == out_st->st_ino;
    if (same && in->offset != out->offset)
        return kr_fail(err, KR_USAGE, "%s: pages of one file cannot be moved within it", out->name);
    if (out->flags & O_APPEND)
        return kr_fail(err, KR_USAGE, "%s: was opened for appending", out->name);
    return KR_OK;
}

enum kr_status kr_bulk_open(const struct kr_bulk *bulk, struct kr_bulk_file *ret_in,
                            struct kr_bulk_file *ret_out, struct kr_error *err)
{
    struct kr_bulk_file in, out = {.fd = -1};
    struct stat in_st, out_st;
    KR_TRY(look_at(bulk->in, bulk->in_name, bulk->in_offset, &in, &in_st, err));
    if (in.is_pipe)
        return kr_fail(err, KR_USAGE, "%s: is a pipe, and cannot be read from any place", in.name);
    if (bulk->out >= 0) {
        KR_TRY(look_at(bulk->out, bulk->out_name, bulk->out_offset, &out, &out_st, err));
        KR_TRY(check_output(&in, &in_st, &out, &out_st, err));
        out.stop = bulk->stop;
    }
    if (bulk->direct) {
        ask_for_direct(&in);
        ask_for_direct(&out);
    }
    *ret_in = in;
    *ret_out = out;
    return KR_OK;
}

void kr_bulk_close(struct kr_bulk_file *file)
{
    if (file->fd >= 0)
        fcntl(file->fd, F_SETFL, file->flags);
}

/* --- transfers ---------------------------------------------------------------------------------*/

/* Pages `from` to `to` - 1; those that touch in memory become one piece. */
static unsigned gather(const struct kr_bulk_chunk *chunk, unsigned from, unsigned to,
                       struct iovec *iov)
{
    unsigned count = 0;
    for (unsigned i = from; i < to; i++) {
        size_t len = i + 1 == chunk->count ? chunk->last_len : chunk->page_size;
        struct iovec *last = &iov[count - (count > 0)];
        if (count > 0 && (uint8_t *)last->iov_base + last->iov_len == chunk->pages[i])
            last->iov_len += len;
        else
            iov[count++] = (struct iovec){chunk->pages[i], len};
    }
    return count;
}

struct transfer {
    struct kr_bulk_file *file;
    bool write;
    struct iovec *iov;
    unsigned count;
    uint64_t offset;
    bool asked_again; /* after EINVAL, without O_DIRECT */
};

/* So little that it cannot block once the pipe has room: who reads it may never go on. */
static ssize_t write_to_pipe(const struct transfer *t)
{
    struct pollfd pipe = {.fd = t->file->fd, .events = POLLOUT};
    while (poll(&pipe, 1, WAIT_MS) == 0) {
        if (t->file->stop && atomic_load(t->file->stop)) {
            errno = ECANCELED;
            return -1;
        }
    }
    return write(pipe.fd, t->iov->iov_base,
                 t->iov->iov_len < PIPE_BUF ? t->iov->iov_len : PIPE_BUF);
}

static ssize_t one_call(const struct transfer *t)
{
    if (!t->write)
        return preadv(t->file->fd, t->iov, (int)t->count, (off_t)t->offset);
    if (t->file->is_pipe)
        return write_to_pipe(t);
    return pwritev(t->file->fd, t->iov, (int)t->count, (off_t)t->offset);
}

static void advance(struct transfer *t, size_t done)
{
    t->offset += done;
    while (t->count > 0 && done >= t->iov->iov_len) {
        done -= t->iov->iov_len;
        t->iov++;
        t->count--;
    }
    if (t->count > 0) {
        t->iov->iov_base = (uint8_t *)t->iov->iov_base + done;
        t->iov->iov_len -= done;
    }
}

/* Whether the call may be made once more. Another thread may have taken O_DIRECT away between the
 * call that was refused and now. */
static bool again(struct transfer *t)
{
    if (errno == EINTR || (errno == EAGAIN && t->file->is_pipe))
        return true;
    if (errno != EINVAL || t->asked_again)
        return false;
    t->asked_again = true;
    if (atomic_load(&t->file->direct))
        refuse_direct(t->file, "the disk does not take these positions and lengths with O_DIRECT");
    return true;
}

/* False with errno, which is 0 when nothing went through although no call failed. */
static bool run(struct transfer *t)
{
    while (t->count > 0) {
        ssize_t done = one_call(t);
        if (done > 0) {
            advance(t, (size_t)done);
        } else if (done == 0) {
            errno = 0;
            return false;
        } else if (!again(t)) {
            return false;
        }
    }
    return true;
}

enum kr_status kr_bulk_read(struct kr_bulk_file *file, const struct kr_bulk_chunk *chunk,
                            struct iovec *iov, struct kr_error *err)
{
    struct transfer t = {.file = file, .iov = iov};
    t.count = gather(chunk, 0, chunk->count, iov);
    t.offset = file->offset + chunk->first * chunk->page_size;
    prepare_end(file, chunk);
    if (run(&t))
        return KR_OK;
    if (errno != 0)
        return kr_fail(err, KR_IO, "%s: cannot read at byte %llu: %s", file->name,
                       (unsigned long long)t.offset, strerror(errno));
    kr_fail(err, KR_IO, "%s: ends at byte %llu, which is too early", file->name,
            (unsigned long long)t.offset);
    kr_hint(err, "it became shorter while it was read: see what else has it open (fuser)");
    return KR_IO;
}

static enum kr_status fail_write(const struct kr_bulk_file *file, uint64_t offset,
                                 struct kr_error *err)
{
    int cause = errno != 0 ? errno : ENOSPC;
    if (cause == ECANCELED)
        return kr_fail(err, KR_REFUSED, "%s: interrupted", file->name);
    kr_fail(err, KR_IO, "%s: cannot write at byte %llu: %s", file->name, (unsigned long long)offset,
            strerror(cause));
    if (cause == ENOSPC || cause == EDQUOT)
        kr_hint(err, "make room where that file is, and run it again");
    return KR_IO;
}

static unsigned next_run(const struct kr_bulk_chunk *chunk, unsigned *from)
{
    while (*from < chunk->count && chunk->skip[*from])
        ++*from;
    unsigned to = *from;
    while (to < chunk->count && !chunk->skip[to])
        to++;
    return to;
}

enum kr_status kr_bulk_write(struct kr_bulk_file *file, const struct kr_bulk_chunk *chunk,
                             struct iovec *iov, uint64_t *written, struct kr_error *err)
{
    prepare_end(file, chunk);
    unsigned from = 0;
    for (unsigned to; (to = next_run(chunk, &from)) > from; from = to) {
        struct transfer t = {.file = file, .write = true, .iov = iov};
        uint64_t begin = file->offset + (chunk->first + from) * chunk->page_size;
        t.offset = begin;
        t.count = gather(chunk, from, to, iov);
        if (!run(&t))
            return fail_write(file, t.offset, err);
        *written += t.offset - begin;
    }
    return KR_OK;
}

enum kr_status kr_bulk_sync(const struct kr_bulk_file *file, struct kr_error *err)
{
    if (file->is_pipe || fdatasync(file->fd) == 0 || errno == EINVAL) /* a device: no such thing */
        return KR_OK;
    kr_fail(err, KR_IO, "%s: the disk does not confirm what was written: %s", file->name,
            strerror(errno));
    kr_hint(err, "what the file holds now is unknown: write it anew");
    return KR_IO;
}
