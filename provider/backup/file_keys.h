/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Keys of MySQL's files in a bundle. Where the master key is in a token and cannot leave it, the
 * bundle has what each file's head seals, opened through the token one by one: keys and ivs of
 * tablespaces and redo logs, passwords of binary logs. A record is found again by what is sealed.
 */
#ifndef P11K_BACKUP_FILE_KEYS_H
#define P11K_BACKUP_FILE_KEYS_H

#include "files/run.h"
#include "wrap/bundle.h"

/* What became of one file. */
enum kr_backup_file_result {
    KR_BACKUP_FILE_NONE,    /* it seals no key: not MySQL's, or in the clear */
    KR_BACKUP_FILE_WRAPPED, /* the master key is a secret that a bundle can have itself */
    KR_BACKUP_FILE_ADDED,
    KR_BACKUP_FILE_FAILED
};
struct kr_backup_file {
    enum kr_backup_file_result result;
    struct kr_error why; /* of FAILED: KR_NOT_FOUND (no such master key), KR_INTEGRITY, ... */
};

/* Adds the keys of all files of the walk, of several at a time: options->keys opens them; its work
 * and context are not used. `ret` has one element for each file. It fails when the token or the
 * keyring does; what is wrong with one file is only in its element. */
KR_MUST_USE enum kr_status kr_backup_add_file_keys(const struct kr_walk *walk,
                                                   const struct kr_files_options *options,
                                                   struct kr_bundle *bundle,
                                                   struct kr_backup_file *ret,
                                                   bool *ret_interrupted, struct kr_error *err);

#endif
