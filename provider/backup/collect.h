/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Which keys go into a bundle: all that the keyring has, or exactly those that files name. */
#ifndef P11K_BACKUP_COLLECT_H
#define P11K_BACKUP_COLLECT_H

#include "files/run.h"
#include "files/usage.h"
#include "provider/key_set.h"

struct kr_collection {
    struct kr_bundle *bundle; /* settled */
    struct kr_usage usage;    /* of files: their keys */
    struct kr_key_set keys;   /* of the keyring, ordered; `stuck`: why one is not in the bundle */
    uint64_t data_keys, secrets, file_keys; /* in the bundle */
};

void kr_collection_free(struct kr_collection *collection);
#define KR_COLLECTION __attribute__((cleanup(kr_collection_free))) struct kr_collection

/* Every version of every data key, and every secret that the token gives out. KR_REFUSED where the
 * configuration forbids that keys leave the keyring. */
KR_MUST_USE enum kr_status kr_collect_all(struct kr_file_keys *keys, struct kr_collection *ret,
                                          struct kr_error *err);

/* What the files of a walk name; `options->keys` is the keyring's, its work is set here. KR_OK with
 * *ret_interrupted set: nothing is of use. KR_NOT_FOUND when a key that a file needs is not in the
 * keyring, or cannot leave it. */
KR_MUST_USE enum kr_status kr_collect_files(const struct kr_walk *walk,
                                            const struct kr_files_options *options,
                                            struct kr_collection *ret, bool *ret_interrupted,
                                            struct kr_error *err);

#endif
