/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What the keyring has to do with bundles of its keys, beside giving and taking them (export.h,
 * import.h). */
#ifndef P11K_PROVIDER_BUNDLED_H
#define P11K_PROVIDER_BUNDLED_H

#include "provider/keyring.h"
#include "wrap/bundle.h"

/* Sets keystore and keyring of what a bundle tells of itself. */
KR_MUST_USE enum kr_status kr_keyring_identify(struct kr_keyring *keyring,
                                               struct kr_bundle_info *ret, struct kr_error *err);

/* Remembers that the bundle has these keys; of a file key that it has one under the master key. */
KR_MUST_USE enum kr_status kr_keyring_set_bundled(struct kr_keyring *keyring,
                                                  const struct kr_bundle *bundle,
                                                  struct kr_error *err);

/* As for a new data key: the token's generator, mixed with OpenSSL's. */
KR_MUST_USE enum kr_status kr_keyring_random(struct kr_keyring *keyring, uint8_t *ret, size_t len,
                                             struct kr_error *err);

#endif
