/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Reading descriptors without stdio. */
#include "base/io.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <unistd.h>

ssize_t kr_read_full(int fd, void *ret_bytes, size_t len)
{
    size_t done = 0;
    while (done < len) {
        ssize_t got = read(fd, (uint8_t *)ret_bytes + done, len - done);
        if (got == 0)
            break;
        if (got > 0)
            done += (size_t)got;
        else if (errno == EAGAIN)
            poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, -1);
        else if (errno != EINTR)
            return -1;
    }
    return (ssize_t)done;
}

void kr_fd_cleanup(int *fd)
{
    int saved = errno;
    if (*fd >= 0)
        close(*fd);
    errno = saved;
}

int kr_fd_take(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}
