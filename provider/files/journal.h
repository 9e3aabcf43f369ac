/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Changing a few bytes of a file that a server needs, so that a kill at any moment leaves it as it
 * was or as it is to be: they are written to NAME.p11keyring-header first. That journal has what
 * stands in the clear in the file anyway.
 */
#ifndef P11K_FILES_JOURNAL_H
#define P11K_FILES_JOURNAL_H

#include "files/file.h"

/* Completes what a kill has left beside the file. KR_IO. */
KR_MUST_USE enum kr_status kr_journal_recover(const char *path, struct kr_error *err);

/* Whether this is a journal's name. */
bool kr_journal_is_name(const char *name);

/* KR_REFUSED when another process has the file open for writing, or locked. As long as *ret is open
 * nobody else can lock it as servers do; it is for writing, and the caller closes it. */
KR_MUST_USE enum kr_status kr_journal_lock(const struct kr_file *file, int *ret,
                                           struct kr_error *err);

/* Writes `len` bytes at `offset`. Durable when KR_OK. */
KR_MUST_USE enum kr_status kr_journal_write(const char *path, int fd, uint64_t offset,
                                            const uint8_t *bytes, size_t len, struct kr_error *err);

#endif
