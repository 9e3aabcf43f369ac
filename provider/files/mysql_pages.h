/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The pages of a MySQL tablespace on their way through hwaccel/bulk.h: counted, or decrypted and
 * checked, and written in the clear.
 */
#ifndef P11K_FILES_MYSQL_PAGES_H
#define P11K_FILES_MYSQL_PAGES_H

#include "files/check.h"
#include "files/file.h"
#include "formats/mysql_tablespace.h"

/* By what the pages themselves say. */
KR_MUST_USE enum kr_status kr_mysql_pages_count(const struct kr_file *file,
                                                const struct kr_mysql_space *space,
                                                struct kr_file_units *ret, struct kr_error *err);

/* Checks every page. `opened` is the tablespace's key and iv; NULL when it has none. With `out`
 * (else -1) it writes the tablespace in the clear, and a damaged page is KR_INTEGRITY. With `fresh`
 * as well, another key and iv that `fresh_info` seals, what was encrypted is encrypted by those. */
struct kr_mysql_pages_job {
    const struct kr_mysql_space *space;
    const uint8_t *opened;
    struct kr_file_check *check;
    int out;
    const uint8_t *fresh;
    const struct kr_mysql_info *fresh_info;
};
KR_MUST_USE enum kr_status kr_mysql_pages_run(const struct kr_file *file,
                                              const struct kr_mysql_pages_job *job,
                                              struct kr_error *err);

#endif
