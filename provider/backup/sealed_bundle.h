/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Bundles as files (wrap/bundle.h): read, opened by passwords or in a token, written. */
#ifndef P11K_BACKUP_SEALED_BUNDLE_H
#define P11K_BACKUP_SEALED_BUNDLE_H

#include "base/config.h"
#include "base/pin_source.h"
#include "wrap/bundle.h"

struct kr_sealed_bundle {
    const char *path; /* borrowed */
    uint8_t *blob;
    size_t len;
    struct kr_bundle_header header; /* borrows from `blob` */
};

/* Reads and parses it; nothing is opened. KR_NOT_FOUND, KR_IO, KR_INTEGRITY. */
KR_MUST_USE enum kr_status kr_sealed_bundle_read(const char *path, struct kr_sealed_bundle *ret,
                                                 struct kr_error *err);
/* A zeroed one is accepted. */
void kr_sealed_bundle_free(struct kr_sealed_bundle *file);
#define KR_SEALED_BUNDLE __attribute__((cleanup(kr_sealed_bundle_free))) struct kr_sealed_bundle

/* Whether the key of a recipient opens it, in a token. */
bool kr_sealed_bundle_has_recipient(const struct kr_sealed_bundle *file);

/* By passwords, as many as kr_bundle_custodians(). KR_AUTH, KR_USAGE, KR_INTEGRITY. */
KR_MUST_USE enum kr_status kr_sealed_bundle_open(const struct kr_sealed_bundle *file,
                                                 struct kr_pin_source *const *passwords,
                                                 unsigned count, struct kr_bundle **ret,
                                                 struct kr_error *err);

/* By the recipient's key, in the first configured token that has it. */
KR_MUST_USE enum kr_status kr_sealed_bundle_open_in_token(const struct kr_sealed_bundle *file,
                                                          const struct kr_config *config,
                                                          struct kr_bundle **ret,
                                                          struct kr_error *err);

/* Reads passwords for a new bundle, and says whether they will do, before long work. KR_USAGE. */
KR_MUST_USE enum kr_status kr_sealed_bundle_check(struct kr_pin_source *const *passwords,
                                                  unsigned count, struct kr_error *err);

/* Seals the bundle for who can open it and writes a new file, whole or not at all, mode 0600.
 * `passwords` NULL: none; `recipient` NULL: none. KR_REFUSED when the file exists, KR_USAGE, KR_IO.
 */
KR_MUST_USE enum kr_status kr_sealed_bundle_write(const struct kr_bundle *bundle,
                                                  struct kr_pin_source *const *passwords,
                                                  unsigned count,
                                                  const struct kr_rsa_public *recipient,
                                                  const char *path, struct kr_error *err);

#endif
