/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The key that the head of one of MySQL's files seals, whichever kind of file it is. */
#ifndef P11K_FILES_MYSQL_SEALED_H
#define P11K_FILES_MYSQL_SEALED_H

#include "files/mysql_keys.h"

enum { KR_MYSQL_OPENED_MAX = KR_MYSQL_SEALED_BYTES };

struct kr_mysql_sealed {
    enum kr_file_kind kind; /* of a tablespace, redo or binary log */
    char master[KR_MYSQL_BINLOG_NAME_MAX];
    uint8_t bytes[KR_MYSQL_SEALED_BYTES]; /* as they are in the file; `len` of them */
    size_t len;
    struct kr_mysql_info info;        /* of the others */
    struct kr_mysql_binlog_head head; /* of a binary log */
};

/* *ret_found false: the file is none of MySQL's, has no key, or one that is sealed by no secret.
 * KR_INTEGRITY: its head is damaged. */
KR_MUST_USE enum kr_status kr_mysql_sealed_find(const struct kr_file *file,
                                                struct kr_mysql_sealed *ret, bool *ret_found,
                                                struct kr_error *err);

/* The `len` bytes opened and proven; `ret` should be secret memory of KR_MYSQL_OPENED_MAX. */
KR_MUST_USE enum kr_status kr_mysql_sealed_open(const struct kr_mysql_sealed *sealed,
                                                struct kr_file_keys *keys,
                                                const struct kr_file *file, uint8_t *ret,
                                                struct kr_error *err);

#endif
