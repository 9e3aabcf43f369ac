/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Verifying one file: whether all of it was read, decrypted and found right. Whatever is not known
 * to be right is not called so.
 */
#ifndef P11K_FILES_VERIFY_H
#define P11K_FILES_VERIFY_H

#include "files/check.h"
#include "files/file.h"

enum kr_file_verdict {
    KR_VERDICT_OK,      /* every unit was checked, or is empty */
    KR_VERDICT_DAMAGED, /* some unit, or the file's own header, is not what it should be */
    KR_VERDICT_SKIPPED, /* not all of it could be checked: `why` */
    KR_VERDICT_NO_KIND, /* nothing that could be verified: no file of a known kind */
    KR_VERDICT_BARE,    /* a kind that has nothing to verify: no pages, no checksums */
    KR_VERDICTS
};

struct kr_file_verified {
    enum kr_file_verdict verdict;
    enum kr_status status; /* of a file that was skipped: the class of what hindered; or KR_OK */
    char why[512];         /* empty for KR_VERDICT_OK */
    char hint[512];        /* may be empty */
    struct kr_file_report report;
    struct kr_file_check check;
};

/* Always gives a verdict; *ret is freed by kr_file_verified_free(). */
void kr_file_verify(const char *path, const struct kr_file_run *run, struct kr_file_verified *ret);
void kr_file_verified_free(struct kr_file_verified *verified);
#define KR_FILE_VERIFIED __attribute__((cleanup(kr_file_verified_free))) struct kr_file_verified

/* KR_OK when all of it was found right; KR_INTEGRITY (damaged), KR_REFUSED (not all could be
 * checked). Of a redo log that was used again and again that is never all. */
KR_MUST_USE enum kr_status kr_file_require_verified(const struct kr_file *file,
                                                    struct kr_error *err);

#endif
