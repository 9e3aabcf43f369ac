/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * One change of one key in the keystore. A change opens its own writing handle, so that a keyring
 * that only reads needs no write permission, and seals inside the write transaction, so that a
 * number given to a version is used or given back. Private to the keyring core.
 */
#ifndef P11K_PROVIDER_CHANGE_H
#define P11K_PROVIDER_CHANGE_H

#include "provider/keyring_internal.h"

struct kr_change {
    struct kr_keyring *keyring;
    struct kr_keystore *keystore;
    const char *ns, *id, *owner;
    struct kr_audit_event audit; /* without a name the change is not recorded */
};

typedef enum kr_status (*kr_change_step)(struct kr_change *change, void *context,
                                         struct kr_error *err);

/* Runs `step` in a write transaction and commits. The caller holds the keyring's lock; the token is
 * logged in first, so that no other process waits for a PIN. */
KR_MUST_USE enum kr_status kr_change_run(struct kr_keyring *keyring, const char *ns, const char *id,
                                         const char *owner, kr_change_step step, void *context,
                                         struct kr_error *err);

/* The two ends of a write transaction: a keystore handle of its own that is in one, was compared
 * with what the tokens remember, and has the master keys loaded; and the commit that is recorded
 * (`event` as with kr_audit_commit) and that the tokens are told of. The caller holds the keyring's
 * lock and closes the handle. */
KR_MUST_USE enum kr_status kr_change_begin(struct kr_keyring *keyring, struct kr_keystore **ret,
                                           struct kr_error *err);
KR_MUST_USE enum kr_status kr_change_commit(struct kr_keyring *keyring,
                                            struct kr_keystore *keystore,
                                            const struct kr_audit_event *event,
                                            struct kr_error *err);

/* --- for steps -------------------------------------------------------------------------------- */

/* The highest version that the key has now; 0 when it has none. */
KR_MUST_USE enum kr_status kr_change_latest(struct kr_change *change, uint32_t *ret,
                                            struct kr_error *err);

/* Gives the payload the next version number, seals it and adds it. */
KR_MUST_USE enum kr_status kr_change_add(struct kr_change *change, uint32_t step,
                                         const char *cipher, const uint8_t *payload, size_t len,
                                         uint32_t *ret_version, struct kr_error *err);

/* Counts the wraps of an envelope that `old` (NULL: none) does not have yet. */
KR_MUST_USE enum kr_status kr_change_count_wraps(struct kr_keystore *keystore,
                                                 const uint8_t *envelope, size_t len,
                                                 const uint8_t *old, size_t old_len,
                                                 struct kr_error *err);

#endif
