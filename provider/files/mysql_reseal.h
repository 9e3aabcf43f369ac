/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What reseal.h does to each of MySQL's kinds of file; for reseal.c and rekey's of the kinds. */
#ifndef P11K_FILES_MYSQL_RESEAL_H
#define P11K_FILES_MYSQL_RESEAL_H

#include "files/reseal.h"

/* `writable` is the file itself, open for writing. */
typedef enum kr_status (*kr_mysql_reseal)(const struct kr_file *file, int writable,
                                          const struct kr_reseal *reseal, enum kr_rekey_result *ret,
                                          struct kr_error *err);

/* Whether the head of the file seals a key; a damaged one may. */
bool kr_mysql_seals_a_key(const struct kr_file *file);

/* KR_REFUSED: the server goes on with such a tablespace by what its header says. */
enum kr_status kr_mysql_refuse_unsettled(const struct kr_file *file, struct kr_error *err);

enum kr_status kr_mysql_reseal_tablespace(const struct kr_file *file, int writable,
                                          const struct kr_reseal *reseal, enum kr_rekey_result *ret,
                                          struct kr_error *err);
enum kr_status kr_mysql_reseal_redo(const struct kr_file *file, int writable,
                                    const struct kr_reseal *reseal, enum kr_rekey_result *ret,
                                    struct kr_error *err);
enum kr_status kr_mysql_reseal_binlog(const struct kr_file *file, int writable,
                                      const struct kr_reseal *reseal, enum kr_rekey_result *ret,
                                      struct kr_error *err);

#endif
