/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The start cache: payloads of envelopes, opened while a token served, sealed under a passphrase so
 * that a server can start while no token does (docs/FORMAT.md, docs/THREAT-MODEL.md). A payload is
 * found by the digest of its envelope and its context, so it serves for exactly that envelope in
 * exactly that place.
 *
 * The file: scrypt (RFC 7914) makes a key from the passphrase, AES-256-GCM seals the payloads with
 * keystore, generation and lifetime as associated data. Replaced whole, mode 0600.
 *
 * In memory everything is secret memory. A cache is used by one thread at a time.
 */
#ifndef P11K_WRAP_START_CACHE_H
#define P11K_WRAP_START_CACHE_H

#include "wrap/envelope.h"
#include "wrap/keystore.h"

struct kr_start_cache;

/* What a cache file belongs to; times in unix seconds. */
struct kr_start_cache_binding {
    uint8_t uuid[16]; /* of the keystore */
    struct kr_generation generation;
    int64_t created, expires;
};

#define KR_START_CACHE_PASSPHRASE_MIN 16

/* NULL when out of memory. */
struct kr_start_cache *kr_start_cache_new(void);
/* NULL is accepted. */
void kr_start_cache_free(struct kr_start_cache *cache);

/* Keeps a copy; what is there already stays. */
KR_MUST_USE enum kr_status kr_start_cache_add(struct kr_start_cache *cache,
                                              const struct kr_envelope_context *context,
                                              const uint8_t *envelope, size_t envelope_len,
                                              const uint8_t *payload, size_t payload_len,
                                              struct kr_error *err);

/* Borrowed until the cache changes; NULL when it is not there. */
const uint8_t *kr_start_cache_find(const struct kr_start_cache *cache,
                                   const struct kr_envelope_context *context,
                                   const uint8_t *envelope, size_t envelope_len, size_t *ret_len);

/* KR_USAGE (passphrase too short), KR_IO: then an older file stays as it was. */
KR_MUST_USE enum kr_status kr_start_cache_save(const struct kr_start_cache *cache, const char *path,
                                               const char *passphrase, size_t passphrase_len,
                                               const struct kr_start_cache_binding *binding,
                                               struct kr_error *err);

/* KR_NOT_FOUND, KR_INTEGRITY (damaged, edited, or another passphrase), KR_CONFIG (others may read
 * or write it), KR_IO. Whether keystore, generation and time fit is for the caller to see. */
KR_MUST_USE enum kr_status kr_start_cache_load(const char *path, const char *passphrase,
                                               size_t passphrase_len,
                                               struct kr_start_cache_binding *ret_binding,
                                               struct kr_start_cache **ret, struct kr_error *err);

#endif
