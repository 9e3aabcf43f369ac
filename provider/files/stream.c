/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Logs, from their beginning to their end. */
#include "files/stream.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/secret.h"

enum { PIECE = 256 * 1024 };

enum kr_status kr_stream_write(int out, const uint8_t *bytes, size_t len, struct kr_error *err)
{
    while (len > 0) {
        ssize_t done = write(out, bytes, len);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return kr_fail(err, KR_IO, "cannot write the output: %s", strerror(errno));
        bytes += done;
        len -= (size_t)done;
    }
    return KR_OK;
}

enum kr_status kr_stream_run(const struct kr_stream *stream, struct kr_error *err)
{
    const struct kr_file *file = stream->file;
    size_t most = PIECE / stream->unit * stream->unit;
    KR_SECRET uint8_t *bytes = kr_secret_alloc(most);
    if (!bytes)
        return kr_fail_secret(err);
    for (uint64_t at = stream->offset; at < file->size && !kr_file_stopped(file);) {
        size_t len = file->size - at < most ? (size_t)(file->size - at) : most;
        KR_TRY(kr_file_read(file, at, bytes, len, err));
        KR_TRY(stream->work(bytes, len, at, stream->context, err));
        if (stream->out >= 0)
            KR_TRY(kr_stream_write(stream->out, bytes, len, err));
        kr_file_done(file, len);
        at += len;
    }
    return KR_OK;
}
