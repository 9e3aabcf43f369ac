/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The keys of page ciphers. A server hands a page cipher a key of its own making: 16 bytes for
 * pages, logs and temporary files, whatever the size of the data key. The ciphers aes256-* do not
 * encrypt with those bytes, but with
 *
 *   HKDF-SHA-256(salt: the bytes that the server gives, all of them
 *                key:  the data key, 32 bytes
 *                info: "p11keyring page key", id and version of the data key as 4 bytes each,
 * big-endian)
 *
 * of 32 bytes. What was derived is kept, for the whole process: up to KR_PAGE_KEYS_MAX keys, in
 * secret memory. Threads meet here only for a key that their own pool (page_pool.h) does not have,
 * under one of many short locks.
 */
#ifndef P11K_HWACCEL_PAGE_KEY_H
#define P11K_HWACCEL_PAGE_KEY_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { KR_PAGE_KEY_BYTES = 32, KR_PAGE_KEYS_MAX = 2048 /* that are kept */ };

/* Borrowed by the calls that take it. */
struct kr_page_key {
    const uint8_t *bytes; /* what the server gives: 16, 24 or 32 bytes */
    size_t len;
    const uint8_t *data_key; /* 32 bytes; for the ciphers that derive, NULL will do for others */
    uint32_t id, version;    /* of the data key; 0 will do where nothing is derived */
};

/* The derived key, from the cache or made. KR_USAGE (lengths, no data key), KR_INTERNAL. */
KR_MUST_USE enum kr_status kr_page_key_derive(const struct kr_page_key *key,
                                              uint8_t ret[KR_PAGE_KEY_BYTES]);

/* Wipes what was derived, when data keys go away. Nothing that was derived before answers for a key
 * of the same names after it. */
void kr_page_keys_forget(void);

/* Changes with kr_page_keys_forget(): part of the name of a derived key elsewhere. */
uint32_t kr_page_keys_epoch(void);

struct kr_page_key_stats {
    uint64_t derived; /* by HKDF, not from the cache */
    uint64_t kept;    /* in the cache at this moment */
};
void kr_page_keys_get_stats(struct kr_page_key_stats *ret);

#endif
