/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The keys that the headers of MySQL's files seal, sealed by another master key of this keyring or
 * of another: for a data directory that moves to another server or tenant. The keys themselves, and
 * everything that they encrypt, stay as they are.
 */
#ifndef P11K_FILES_RESEAL_H
#define P11K_FILES_RESEAL_H

#include "files/mysql_datadir.h"
#include "files/rekey.h"

struct kr_reseal {
    struct kr_mysql_datadirs *datadirs;
    struct kr_file_keys *to; /* of the keyring that has the new master keys */
    const char *innodb_key;  /* by which tablespaces and redo logs are sealed */
    const char *binlog_key;  /* by which binary logs are; NULL: they are left as they are */
    bool dry_run; /* everything is checked that can be before the work, nothing is written */
};

/* One file. KR_REFUSED (in use, not shut down cleanly, a kind that cannot be), KR_INTEGRITY
 * (damaged), KR_NOT_FOUND (a key), KR_IO. After a failure it is as it was. */
KR_MUST_USE enum kr_status kr_file_reseal(const char *path, const struct kr_file_run *run,
                                          const struct kr_reseal *reseal, enum kr_rekey_result *ret,
                                          struct kr_error *err);

/* Whether a file can be sealed anew, before its new master key is known: run->keys open and verify
 * all of it. *ret_seals: it seals a key. As above; nothing is changed. */
KR_MUST_USE enum kr_status kr_file_reseal_check(const char *path, const struct kr_file_run *run,
                                                struct kr_mysql_datadirs *datadirs, bool *ret_seals,
                                                struct kr_error *err);

/* "INNODBKey-<uuid>-<n>" into the two; false: no name of such a key. */
bool kr_reseal_parse_innodb(const char *name, char ret_uuid[37], uint32_t *ret_number);
bool kr_reseal_is_binlog_key(const char *name);

#endif
