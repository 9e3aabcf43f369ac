/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * MySQL's data directories, as far as whoever changes files in them must know: that no server runs
 * in one, nor starts while they are changed, and that the last one was shut down cleanly: then
 * neither redo log nor doublewrite buffer has anything that the files lack.
 */
#ifndef P11K_FILES_MYSQL_DATADIR_H
#define P11K_FILES_MYSQL_DATADIR_H

#include "base/status.h"
#include "files/file.h"

struct kr_mysql_datadirs;

/* `alone`: files that are in no data directory are copies that no server knows. */
KR_MUST_USE enum kr_status kr_mysql_datadirs_new(bool alone, struct kr_mysql_datadirs **ret,
                                                 struct kr_error *err);
/* What is changed are headers alone, and after it they open with the keys of `to` (NULL: those are
 * not made yet): a directory that was not shut down cleanly will do as well, if recovery will not
 * write headers itself. It does not in what CLONE made: there the server leaves out what the log
 * has of them. */
void kr_mysql_datadirs_headers_only(struct kr_mysql_datadirs *dirs, struct kr_file_keys *to);
/* Lets servers start again. NULL is accepted. */
void kr_mysql_datadirs_free(struct kr_mysql_datadirs *dirs);

/* Keeps servers away from the data directory that this file is in, once for each directory.
 * KR_REFUSED (in use, not shut down cleanly, in no data directory and not `alone`). Functions may
 * be called from any thread. */
KR_MUST_USE enum kr_status kr_mysql_datadirs_hold(struct kr_mysql_datadirs *dirs,
                                                  const struct kr_file *file, struct kr_error *err);

#endif
