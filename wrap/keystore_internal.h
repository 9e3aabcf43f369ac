/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What the parts of the keystore share: the handle, and the manifest's side of a commit. */
#ifndef P11K_WRAP_KEYSTORE_INTERNAL_H
#define P11K_WRAP_KEYSTORE_INTERNAL_H

#include "wrap/keystore.h"
#include "wrap/sql.h"

#define KR_KEYSTORE_APPLICATION_ID 0x50313145 /* "P11E" */
#define KR_MANIFEST_MAC_BYTES 32

struct kr_keystore {
    struct kr_sql sql; /* its path is `temporary` while that is set, else `path` */
    char *path;
    char *temporary; /* the name a new keystore is built under; NULL once it is at `path` */
    bool writable;
    bool writing; /* inside a write transaction */
    uint8_t uuid[KR_KEYSTORE_UUID_BYTES];
    uint8_t *manifest_key; /* secret memory; NULL until set */
    uint64_t own_commits;
    struct kr_generation newest;  /* the highest that was verified or committed here */
    struct kr_generation pending; /* what the open write transaction will commit */
};

/* KR_INTERNAL outside of a write transaction: a bug of the caller. */
KR_MUST_USE enum kr_status kr_keystore_need_write(const struct kr_keystore *keystore,
                                                  struct kr_error *err);

/* Raises the generation and writes the MAC over all rows; they are `pending` then. */
KR_MUST_USE enum kr_status kr_manifest_renew(struct kr_keystore *keystore, struct kr_error *err);

#endif
