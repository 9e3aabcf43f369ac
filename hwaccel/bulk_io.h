/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Reading and writing the pages of a chunk, with or without the page cache; behind bulk.h, for
 * hwaccel only.
 */
#ifndef P11K_HWACCEL_BULK_IO_H
#define P11K_HWACCEL_BULK_IO_H

#include <sys/uio.h>

#include "hwaccel/bulk.h"

enum { KR_BULK_IOV = 1024 }; /* Linux's IOV_MAX */

struct kr_bulk_file {
    int fd;
    const char *name;
    uint64_t offset; /* of page 0 */
    bool is_pipe;
    const atomic_bool *stop;       /* ends a wait for who reads the pipe; may be NULL */
    int flags;                     /* that the descriptor had before */
    atomic_bool direct;            /* O_DIRECT is in use */
    _Atomic(const char *) refused; /* why it is not, though it was asked for */
};

/* Both descriptors of a run; `out` of the result has fd -1 where nothing is written. KR_USAGE,
 * KR_IO. */
KR_MUST_USE enum kr_status kr_bulk_open(const struct kr_bulk *bulk, struct kr_bulk_file *ret_in,
                                        struct kr_bulk_file *ret_out, struct kr_error *err);

/* Gives the descriptor the flags back that it had. */
void kr_bulk_close(struct kr_bulk_file *file);

/* Fills the pages of `chunk`; `iov` is room for KR_BULK_IOV. KR_IO, also when the file ends. */
KR_MUST_USE enum kr_status kr_bulk_read(struct kr_bulk_file *file,
                                        const struct kr_bulk_chunk *chunk, struct iovec *iov,
                                        struct kr_error *err);

/* Writes the pages that are not to be skipped, and adds their bytes to *written. KR_IO;
 * KR_REFUSED when `stop` ended a wait for a pipe. */
KR_MUST_USE enum kr_status kr_bulk_write(struct kr_bulk_file *file,
                                         const struct kr_bulk_chunk *chunk, struct iovec *iov,
                                         uint64_t *written, struct kr_error *err);

/* Waits until the disk has what was written; a pipe is left alone. KR_IO. */
KR_MUST_USE enum kr_status kr_bulk_sync(const struct kr_bulk_file *file, struct kr_error *err);

#endif
