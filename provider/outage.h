/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Starting while no token serves, where [keyring] start-cache allows it: what a server's tokens
 * have opened is kept in a start cache (wrap/start_cache.h), and serves the same keystore at the
 * same generation when every token is away, and for that reason alone. Private to the keyring core.
 */
#ifndef P11K_PROVIDER_OUTAGE_H
#define P11K_PROVIDER_OUTAGE_H

#include "base/config.h"
#include "wrap/start_cache.h"

struct kr_keyring;

struct kr_outage {
    char *path; /* NULL: not configured, and nothing is kept */
    struct kr_pin_source *key;
    unsigned lifetime;
    struct kr_start_cache *cache;
    _Atomic bool served;        /* started from the file; no token has confirmed it since */
    struct kr_generation saved; /* of the keystore, in the file */
    int64_t save_again;         /* unix seconds */
};

KR_MUST_USE enum kr_status kr_outage_configure(struct kr_keyring *keyring,
                                               const struct kr_config *config,
                                               struct kr_error *err);
void kr_outage_free(struct kr_outage *outage);

/* Opens an envelope: by the tokens, or while they are away from the start cache. *ret is secret
 * memory. */
KR_MUST_USE enum kr_status kr_outage_open(struct kr_keyring *keyring,
                                          const struct kr_envelope_context *context,
                                          const uint8_t *envelope, size_t envelope_len,
                                          uint8_t **ret, size_t *ret_len, struct kr_error *err);

/* The keyring could not be opened by its tokens, `err` says why. KR_OK when the start cache is to
 * serve instead; otherwise what `err` says now. After a refused PIN or an integrity error the file
 * is removed. */
KR_MUST_USE enum kr_status kr_outage_begin(struct kr_keyring *keyring, struct kr_error *err);

/* After the manifest was verified: whether the file is for this generation. */
KR_MUST_USE enum kr_status kr_outage_check(struct kr_keyring *keyring, struct kr_error *err);

/* For the watcher: has a token that is back confirm what was served, and writes the file when keys
 * have changed or half of its lifetime is over. */
KR_MUST_USE enum kr_status kr_outage_tend(struct kr_keyring *keyring, struct kr_error *err);

#endif
