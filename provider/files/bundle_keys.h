/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The keys of a bundle, for keys.c alone: what it answers in place of keystore and keyring. */
#ifndef P11K_FILES_BUNDLE_KEYS_H
#define P11K_FILES_BUNDLE_KEYS_H

#include "files/keys.h"

struct kr_bundle_keys;

/* `bundle` is borrowed and settled. */
KR_MUST_USE enum kr_status kr_bundle_keys_new(const struct kr_bundle *bundle,
                                              struct kr_bundle_keys **ret, struct kr_error *err);
/* NULL is accepted. */
void kr_bundle_keys_free(struct kr_bundle_keys *keys);

/* Each key that it names, not ordered. */
KR_MUST_USE enum kr_status kr_bundle_keys_each(const struct kr_bundle_keys *keys,
                                               kr_file_key_visitor visit, void *context,
                                               struct kr_error *err);

/* As the functions of keys.h. A file key opens what it was made of, and seals nothing. */
KR_MUST_USE enum kr_status kr_bundle_keys_mysql(const struct kr_bundle_keys *keys, const char *name,
                                                enum kr_file_key_use use, const uint8_t *iv,
                                                const uint8_t *in, size_t len, uint8_t *out,
                                                struct kr_error *err);
/* The newest one with `version` 0. */
KR_MUST_USE enum kr_status kr_bundle_keys_mariadb(const struct kr_bundle_keys *keys, uint32_t id,
                                                  uint32_t version, const struct kr_data_key **ret,
                                                  struct kr_error *err);

#endif
