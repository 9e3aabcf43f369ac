/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * MariaDB's data directories, before their files are changed: no server may run on one, and the
 * last must have been shut down cleanly, so that nothing in its logs has yet to reach a tablespace.
 * A directory is claimed by the locks that a server takes, and kept until the end: a server that is
 * started meanwhile does not come up.
 */
#ifndef P11K_FILES_MARIADB_DATADIR_H
#define P11K_FILES_MARIADB_DATADIR_H

#include "files/file.h"

struct kr_datadirs;

KR_MUST_USE enum kr_status kr_datadirs_new(struct kr_datadirs **ret, struct kr_error *err);
/* Gives all claims back. NULL is accepted. */
void kr_datadirs_free(struct kr_datadirs *dirs);

/* Claims the data directory that a tablespace lies in, or in a folder of, unless that was done.
 * From any thread. KR_REFUSED (a server has it, it needs recovery, there is none around the file),
 * KR_IO. */
KR_MUST_USE enum kr_status kr_datadirs_claim(struct kr_datadirs *dirs, const struct kr_file *file,
                                             struct kr_error *err);

/* provider/files/mariadb_redo.c: whether a server that was shut down left the log so. KR_INTEGRITY
 * (damaged, or no log that can be looked into), KR_IO. */
KR_MUST_USE enum kr_status kr_mariadb_log_is_done(struct kr_file *file, bool *ret,
                                                  struct kr_error *err);

#endif
