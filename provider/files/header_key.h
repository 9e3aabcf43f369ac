/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The master key that a file of MySQL names in its header. */
#ifndef P11K_FILES_HEADER_KEY_H
#define P11K_FILES_HEADER_KEY_H

#include "base/status.h"
#include "formats/mysql_binlog.h"

/* Of a tablespace, redo log, binary or relay log: by its first bytes alone, also while a server
 * writes to it. "" where it names none. KR_IO; KR_REFUSED (no regular file). */
KR_MUST_USE enum kr_status kr_file_header_key(const char *path, char ret[KR_MYSQL_BINLOG_NAME_MAX],
                                              struct kr_error *err);

#endif
