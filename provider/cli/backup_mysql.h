/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* backup restore: the part for MySQL's files. */
#ifndef P11K_CLI_BACKUP_MYSQL_H
#define P11K_CLI_BACKUP_MYSQL_H

#include "backup/mysql_restore.h"
#include "file_rows.h"
#include "files/usage.h"

/* With --generate-new-master-key what the files seal is sealed anew; without, the keys of the
 * bundle must be their master keys. `to` is the configured keyring; NULL: it is not made yet, and
 * with `dry_run`, where everything is checked. The first file that fails is the failure, after the
 * others were told. */
KR_MUST_USE enum kr_status cli_restore_mysql(struct cli_files *files, const struct kr_usage *usage,
                                             const struct kr_bundle *bundle,
                                             struct kr_file_keys *to, bool dry_run,
                                             struct kr_mysql_restored *ret, struct kr_error *err);

/* Whether the files get new master keys, so that those of the bundle stay out. */
bool cli_reseals_mysql(const struct cli *cli, const struct kr_usage *usage);

/* {server_uuid, innodb_key, binlog_key, resealed, current}; null when no file was sealed anew. */
json_t *cli_restored_mysql(const struct kr_mysql_restored *restored);
/* The same as text. */
void cli_print_restored_mysql(const struct kr_mysql_restored *restored);
/* What is to be done before the server is started. */
void cli_warn_restored_mysql(struct cli *cli, const struct kr_mysql_restored *restored);

#endif
