/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Changing a few bytes of a file that a server needs, so that a kill at any moment leaves it as it
 * was or as it is to be: what they are and what they are to be is in NAME.p11keyring-header before
 * the first of them is written. That journal is there as a whole or not at all, has what stands in
 * the clear in the file anyway, and goes when the file was read back.
 */
#ifndef P11K_FILES_JOURNAL_H
#define P11K_FILES_JOURNAL_H

#include "files/file.h"

enum { KR_JOURNAL_BYTES_MAX = 65536 };

/* Whether a kill has left something beside the file. */
bool kr_journal_is_pending(const char *path);

/* Completes it, if there is something; `fd` is from kr_journal_lock(). A server may have run since:
 * where a sector of the file is neither what it was nor what it was to be, nothing is changed and
 * it is KR_REFUSED. KR_INTEGRITY (the journal is damaged), KR_IO. */
KR_MUST_USE enum kr_status kr_journal_recover(const char *path, int fd, struct kr_error *err);

/* Whether this is a journal's name. */
bool kr_journal_is_name(const char *name);

/* KR_REFUSED when another process has the file open for writing, or locked. As long as *ret is open
 * nobody else can lock it as servers do; it is for writing, and the caller closes it. */
KR_MUST_USE enum kr_status kr_journal_lock(const struct kr_file *file, int *ret,
                                           struct kr_error *err);

/* Writes `len` bytes at `offset` in the place of those before. Durable, and read back, when KR_OK.
 * KR_REFUSED when others are there, KR_INTEGRITY when they do not read back, KR_IO. */
KR_MUST_USE enum kr_status kr_journal_write(const char *path, int fd, uint64_t offset,
                                            const uint8_t *before, const uint8_t *after, size_t len,
                                            struct kr_error *err);

#endif
