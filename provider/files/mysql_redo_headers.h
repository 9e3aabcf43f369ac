/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Whether recovery will put encryption headers into tablespaces: a server logs the header of each
 * tablespace that it makes, encrypts, or seals by another master key. What recovery writes would
 * take the place of a header that was sealed anew without a server (server source: log0recv.cc,
 * fil_tablespace_redo_encryption()).
 */
#ifndef P11K_FILES_MYSQL_REDO_HEADERS_H
#define P11K_FILES_MYSQL_REDO_HEADERS_H

#include "files/file.h"

/* Of the files of a folder (#innodb_redo), behind the LSN of the newest checkpoint. KR_INTEGRITY
 * (damaged, or not there as a whole), and as kr_file_keys_mysql(): the log may be encrypted. */
KR_MUST_USE enum kr_status kr_mysql_redo_has_headers(const char *folder, uint64_t checkpoint,
                                                     const struct kr_file_run *run, bool *ret,
                                                     struct kr_error *err);

/* Whether this is the name of a file of the log. Spare files (NAME_tmp) have old contents. */
bool kr_mysql_redo_is_name(const char *name);

#endif
