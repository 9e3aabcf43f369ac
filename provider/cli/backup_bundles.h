/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What the backup commands share: passwords, bundles among the arguments, rows. */
#ifndef P11K_CLI_BACKUP_BUNDLES_H
#define P11K_CLI_BACKUP_BUNDLES_H

#include "backup/chain.h"
#include "backup/sealed_bundle.h"
#include "cli.h"

/* The arguments apart: bundles by their first bytes; the rest are folders and files of a backup.
 * `*ret_bundles` of them come first in cli->args then, in the order in which they were given. */
KR_MUST_USE enum kr_status cli_sort_arguments(struct cli *cli, size_t *ret_bundles,
                                              struct kr_error *err);

/* Opens the first `count` arguments, each with its password or in a token, as one bundle: *ret is
 * settled. Adds a row for each to `rows`. */
KR_MUST_USE enum kr_status cli_open_bundles(struct cli *cli, size_t count, struct kr_bundle **ret,
                                            json_t *rows, struct kr_error *err);

/* The passwords that a new bundle is to open with, for whom there is to be one: a prompt asks
 * twice. *ret_count is 0 when it is made for a recipient alone. Free each. */
KR_MUST_USE enum kr_status cli_new_passwords(struct cli *cli,
                                             struct kr_pin_source *ret[KR_CUSTODIANS_MAX],
                                             unsigned *ret_count, struct kr_error *err);

/* Says which folders are partial backups. */
void cli_tell_partial(const struct kr_chain *chain, json_t *result);

#endif
