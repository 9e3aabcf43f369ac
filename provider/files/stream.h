/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Logs, from their beginning to their end: read piece by piece, worked on in place, written. */
#ifndef P11K_FILES_STREAM_H
#define P11K_FILES_STREAM_H

#include "files/file.h"

/* The next bytes of the file, `offset` from its beginning. */
typedef enum kr_status (*kr_stream_work)(uint8_t *bytes, size_t len, uint64_t offset, void *context,
                                         struct kr_error *err);

struct kr_stream {
    const struct kr_file *file;
    uint64_t offset; /* where to begin */
    size_t unit;     /* pieces are a multiple of this long, but for the last one */
    int out;         /* a file or pipe; -1: nothing is written */
    kr_stream_work work;
    void *context;
};

/* To the end that the file had when it was opened. A stop is KR_OK as well, after whole pieces. */
KR_MUST_USE enum kr_status kr_stream_run(const struct kr_stream *stream, struct kr_error *err);

/* Writes all of it. KR_IO. */
KR_MUST_USE enum kr_status kr_stream_write(int out, const uint8_t *bytes, size_t len,
                                           struct kr_error *err);

#endif
