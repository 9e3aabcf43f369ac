/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What the headers of MySQL's files seal, opened by the keyring. */
#ifndef P11K_FILES_MYSQL_KEYS_H
#define P11K_FILES_MYSQL_KEYS_H

#include "files/file.h"
#include "formats/mysql_binlog.h"
#include "formats/mysql_info.h"

/* The key and iv of a tablespace or redo log; `ret` should be secret memory. KR_INTEGRITY (the
 * header is damaged, or sealed by another key of this name) and as kr_file_keys_mysql(). */
KR_MUST_USE enum kr_status kr_mysql_unseal(struct kr_file_keys *keys, const char *path,
                                           const struct kr_mysql_info *info,
                                           uint8_t ret[KR_MYSQL_SEALED_BYTES],
                                           struct kr_error *err);

/* Seals a key and iv under the master key that `info` names, and sets the rest of it. What was
 * sealed is opened again before this is KR_OK. */
KR_MUST_USE enum kr_status kr_mysql_seal(struct kr_file_keys *keys, const char *path,
                                         const uint8_t opened[KR_MYSQL_SEALED_BYTES],
                                         struct kr_mysql_info *info, struct kr_error *err);

/* The key and counter of a binary log; `ret` should be secret memory. A damaged header gives a
 * wrong key: what is decrypted then is no binary log. */
KR_MUST_USE enum kr_status kr_mysql_open_binlog(struct kr_file_keys *keys, const char *path,
                                                const struct kr_mysql_binlog_head *head,
                                                struct kr_mysql_binlog_key *ret,
                                                struct kr_error *err);

/* The password itself, proven by the first bytes of the log; `ret` should be secret memory.
 * KR_INTEGRITY when they are not those of a binary log. */
KR_MUST_USE enum kr_status kr_mysql_unseal_password(struct kr_file_keys *keys,
                                                    const struct kr_file *file,
                                                    const struct kr_mysql_binlog_head *head,
                                                    uint8_t ret[KR_MYSQL_PASSWORD_BYTES],
                                                    struct kr_error *err);

/* Adds what the header needs to the report, for `units` of it, and notes about the header. */
KR_MUST_USE enum kr_status kr_mysql_info_report(const struct kr_mysql_info *info, uint64_t units,
                                                struct kr_file_report *report,
                                                struct kr_error *err);

#endif
