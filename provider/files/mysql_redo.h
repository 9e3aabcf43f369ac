/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A file of MySQL's redo log in the clear, for who looks for something in it. */
#ifndef P11K_FILES_MYSQL_REDO_H
#define P11K_FILES_MYSQL_REDO_H

#include "files/file.h"
#include "formats/mysql_redo.h"

/* A block that is in the clear now, and its LSN. */
typedef void (*kr_mysql_redo_visitor)(uint64_t lsn, const uint8_t block[KR_MYSQL_REDO_BLOCK],
                                      void *context);

/* From the file's first block to where the log ends; *ret_full: it does not end in this file.
 * KR_INTEGRITY (a block before the end is damaged), and as kr_file_keys_mysql(). */
KR_MUST_USE enum kr_status kr_mysql_redo_each(const struct kr_file *file,
                                              kr_mysql_redo_visitor visit, void *context,
                                              bool *ret_full, struct kr_error *err);

#endif
