/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A bundle in the place of a keyring, for those that read files (files/keys.h). */
#ifndef P11K_BACKUP_BUNDLE_KEYS_H
#define P11K_BACKUP_BUNDLE_KEYS_H

#include "files/keys.h"
#include "wrap/bundle.h"

struct kr_bundle_keys;

/* Of a settled bundle, which must outlive the result; no key is copied but MariaDB's. What it does
 * not have is asked of `then`, which may be NULL. */
KR_MUST_USE enum kr_status kr_bundle_keys_new(const struct kr_bundle *bundle,
                                              struct kr_file_keys *then,
                                              struct kr_bundle_keys **ret, struct kr_error *err);
/* NULL is accepted. */
void kr_bundle_keys_free(struct kr_bundle_keys *keys);

/* They stay the property of `keys`. */
struct kr_file_keys *kr_bundle_keys_of(struct kr_bundle_keys *keys);

#endif
