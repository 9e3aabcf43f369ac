/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What the parts of the bundle share: its records as bytes, and sealing with given random values.
 */
#ifndef P11K_WRAP_BUNDLE_INTERNAL_H
#define P11K_WRAP_BUNDLE_INTERNAL_H

#include "wrap/bundle.h"

enum { KR_BUNDLE_IV = 12, KR_BUNDLE_TAG = 16, KR_BUNDLE_SALT = 16 };
enum { KR_BUNDLE_PAYLOAD_MAX = 16 * 1024 * 1024 };

struct kr_bundle {
    struct kr_bundle_info info;
    uint8_t *payload; /* secret memory: records, one behind the other */
    size_t len, room;
    uint32_t *order; /* where each record begins */
    size_t count, order_room;
};

/* Takes over `len` bytes of records. KR_INTEGRITY. `*payload` is NULL then. */
KR_MUST_USE enum kr_status kr_bundle_take(struct kr_bundle *bundle, uint8_t **payload, size_t len,
                                          struct kr_error *err);

/* Everything that is random in a bundle, and how long passwords are worked on. */
struct kr_bundle_chance {
    uint8_t *content_key; /* secret memory */
    uint8_t salts[KR_CUSTODIANS_MAX][KR_BUNDLE_SALT];
    uint8_t slot_iv[KR_BUNDLE_IV], iv[KR_BUNDLE_IV];
    enum kr_bundle_kdf kdf;
    uint32_t cost;
};

KR_MUST_USE enum kr_status kr_bundle_seal_with(const struct kr_bundle *bundle,
                                               const struct kr_bundle_locks *locks,
                                               const struct kr_bundle_chance *chance, uint8_t **ret,
                                               size_t *ret_len, struct kr_error *err);

/* --- bundle_slots.c ------------------------------------------------------------------------ */

/* The body of a slot. */
enum { KR_BUNDLE_SLOT_MAX = 2 + 1 + KR_RSA_BYTES_MAX + 1 + 8 + KR_RSA_BYTES_MAX + 1 };

/* KR_INTEGRITY. */
KR_MUST_USE enum kr_status kr_bundle_slot_parse(enum kr_bundle_slot_kind kind, const uint8_t *body,
                                                size_t len, struct kr_bundle_slot *ret,
                                                struct kr_error *err);
/* Both write the body of a slot; *ret_len bytes of it. `info` is what the slot is bound to. */
KR_MUST_USE enum kr_status kr_bundle_slot_passwords(const struct kr_bundle_passwords *passwords,
                                                    const struct kr_bundle_chance *chance,
                                                    const uint8_t *info, size_t info_len,
                                                    uint8_t ret[KR_BUNDLE_SLOT_MAX],
                                                    size_t *ret_len, struct kr_error *err);
KR_MUST_USE enum kr_status kr_bundle_slot_recipient(const struct kr_rsa_public *recipient,
                                                    enum kr_wrap_mechanism hash,
                                                    const struct kr_bundle_chance *chance,
                                                    uint8_t ret[KR_BUNDLE_SLOT_MAX],
                                                    size_t *ret_len, struct kr_error *err);

/* --- bundle_gcm.c -------------------------------------------------------------------------- */

/* Two pieces of associated data; the second may be empty. In place is allowed. */
struct kr_bundle_gcm {
    const uint8_t *key, *iv;
    const uint8_t *bound, *bound_too;
    size_t bound_len, bound_too_len;
};
/* false: OpenSSL failed. */
bool kr_bundle_gcm_seal(const struct kr_bundle_gcm *gcm, const uint8_t *in, size_t len,
                        uint8_t *out, uint8_t tag[KR_BUNDLE_TAG]);
/* false: not what was sealed. */
bool kr_bundle_gcm_open(const struct kr_bundle_gcm *gcm, const uint8_t *in, size_t len,
                        uint8_t *out, const uint8_t tag[KR_BUNDLE_TAG]);

#endif
