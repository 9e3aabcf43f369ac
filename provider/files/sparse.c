/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* By fallocate(), as the server does it. */
#include "files/sparse.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"

enum { BLOCK = 4096, WINDOW = 256 * BLOCK, STAT_BLOCK = 512 };

bool kr_file_is_sparse(const struct kr_file *file)
{
    return (uint64_t)file->st.st_blocks * STAT_BLOCK < file->size;
}

/* False when the file system takes nothing back. */
static bool dig(int fd, off_t offset, off_t len)
{
    return len == 0 || fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, len) == 0;
}

/* The blocks of zeros among `len` bytes, each run of them at once. */
static bool dig_window(int fd, const uint8_t *bytes, size_t len, off_t offset)
{
    off_t from = offset, run = 0;
    for (size_t at = 0; at + BLOCK <= len; at += BLOCK) {
        if (kr_is_zero(bytes + at, BLOCK)) {
            run += BLOCK;
            continue;
        }
        if (!dig(fd, from, run))
            return false;
        from = offset + (off_t)at + BLOCK;
        run = 0;
    }
    return dig(fd, from, run);
}

void kr_file_dig_holes(int fd)
{
    uint8_t *bytes = malloc(WINDOW);
    off_t offset = bytes ? lseek(fd, 0, SEEK_DATA) : -1;
    while (offset >= 0) {
        offset -= offset % BLOCK;
        ssize_t got = pread(fd, bytes, WINDOW, offset);
        if (got < BLOCK || !dig_window(fd, bytes, (size_t)got, offset))
            break;
        offset = lseek(fd, offset + got, SEEK_DATA);
    }
    free(bytes);
}
