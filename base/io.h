/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Reading descriptors without stdio, whose buffers would keep copies of what they carried. */
#ifndef P11K_BASE_IO_H
#define P11K_BASE_IO_H

#include <stddef.h>
#include <sys/types.h>

/* Reads until `len` bytes are there or the end is reached, also when interrupted or when the
 * descriptor is non-blocking. Returns the bytes read, or -1 with errno. */
ssize_t kr_read_full(int fd, void *ret_bytes, size_t len);

/* For __attribute__((cleanup)): `KR_FD int fd = open(...);`; a negative descriptor is accepted.
 * Leaves errno alone. */
void kr_fd_cleanup(int *fd);
#define KR_FD __attribute__((cleanup(kr_fd_cleanup)))

/* Takes the descriptor out of such a variable, for another owner. */
int kr_fd_take(int *fd);

#endif
