/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * A data directory of MySQL under new master keys of the configured keyring, from a bundle: what
 * the heads of its files seal is opened by the bundle and sealed anew, in token mode in the token.
 * All files are verified with the bundle's keys before anything is written. Killed anywhere, each
 * file is sealed by its old key or the new one, and a run that is repeated completes it.
 */
#ifndef P11K_BACKUP_MYSQL_RESTORE_H
#define P11K_BACKUP_MYSQL_RESTORE_H

#include "backup/mysql_masters.h"
#include "files/rekey.h"
#include "files/run.h"
#include "provider/audit.h"
#include "wrap/bundle.h"

struct kr_mysql_restore {
    const struct kr_walk *walk; /* all files of one data directory, or of none with `alone` */
    const struct kr_bundle *bundle;
    struct kr_file_keys *to; /* of the configured keyring; NULL with `dry_run`: there is none yet */
    bool resident;           /* new master keys are made in the token */
    bool alone;              /* files in no data directory are copies that no server knows */
    bool dry_run;
    struct kr_audit *audit;
    struct kr_files_options options; /* threads and progress alone */
};

struct kr_mysql_restored_file {
    enum kr_rekey_result result;
    struct kr_error why; /* status KR_OK: it went well */
};

struct kr_mysql_restored {
    struct kr_mysql_masters masters;
    char *dir;           /* malloc'ed; NULL: the files are in no data directory */
    char *foreign_index; /* malloc'ed; an index of logs that lie elsewhere, or NULL */
    struct kr_mysql_restored_file *files; /* malloc'ed, one for each of the walk */
    size_t done, current, left, failed;
    bool interrupted;
};
void kr_mysql_restored_free(struct kr_mysql_restored *restored);

/* KR_OK as well when files failed, which ret->failed counts: before anything was written, if
 * ret->done and ret->current are 0. KR_REFUSED (several data directories, in use), KR_NOT_FOUND. */
KR_MUST_USE enum kr_status kr_mysql_restore(const struct kr_mysql_restore *restore,
                                            struct kr_mysql_restored *ret, struct kr_error *err);

#endif
