/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A file's contents in the clear. */
#ifndef P11K_FILES_DECRYPT_H
#define P11K_FILES_DECRYPT_H

#include "files/file.h"

/* Where to. */
struct kr_decrypt_target {
    const char *path; /* a new file, there whole or not at all; NULL: */
    int fd;           /* a pipe or file, which takes logs alone */
    bool dry_run;     /* everything is checked that can be before the work, nothing is written */
};

/* Writes the decrypted contents of a file. KR_REFUSED (nothing to decrypt, a kind that cannot be,
 * an output that exists, interrupted), KR_INTEGRITY (damaged), KR_NOT_FOUND (no key), KR_IO. *ret
 * is the report of the file, also on failure; the caller frees it. */
KR_MUST_USE enum kr_status kr_file_decrypt(const char *path, const struct kr_file_run *run,
                                           const struct kr_decrypt_target *target,
                                           struct kr_file_report *ret, struct kr_error *err);

#endif
