/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Another key for a tablespace, without a server: every page is decrypted and encrypted anew, into
 * a file beside it that takes its place when it was read back and found right. No page in the clear
 * reaches a disk. Killed anywhere, a run that is repeated goes on with what is left.
 */
#ifndef P11K_FILES_REKEY_H
#define P11K_FILES_REKEY_H

#include "files/mariadb_datadir.h"
#include "files/mysql_datadir.h"
#include "files/rekey_run.h"

/* What the files of one run share. */
struct kr_rekeying {
    struct kr_datadirs *mariadb;
    struct kr_mysql_datadirs *mysql;
    struct kr_rekey_run *run;
    bool thorough; /* a dry run decrypts and checks every page, and looks for room */
};

enum kr_rekey_result {
    KR_REKEY_DONE,
    KR_REKEY_CURRENT, /* it has the newest key already, or one of this run */
    KR_REKEY_LEFT     /* not encrypted, or no tablespace */
};

/* With `dry_run` nothing is written: what can be told at once is checked, or all. KR_REFUSED (in
 * use, not shut down, a kind that cannot be), KR_INTEGRITY (damaged), KR_NOT_FOUND (no key), KR_IO.
 */
KR_MUST_USE enum kr_status kr_file_rekey(const char *path, const struct kr_file_run *run,
                                         const struct kr_rekeying *all, bool dry_run,
                                         enum kr_rekey_result *ret, struct kr_error *err);

/* Completes the change of a header that a kill has left beside the file; to be called before either
 * of the others. KR_REFUSED as above, and when somebody wrote to the file since; KR_INTEGRITY. */
KR_MUST_USE enum kr_status kr_file_rekey_recover(const char *path, const struct kr_file_run *run,
                                                 struct kr_mysql_datadirs *dirs,
                                                 struct kr_error *err);

#endif
