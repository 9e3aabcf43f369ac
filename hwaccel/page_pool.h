/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The per-thread pool of cipher contexts behind page_cipher.h; for hwaccel only.
 *
 * A context is remembered under its shape (mode, padding, direction, key length) and key. A derived
 * key goes by what it is derived from, so that nothing is derived for a context that is here. No
 * lock is taken except when a thread makes its pool, when it ends, and to derive a key.
 */
#ifndef P11K_HWACCEL_PAGE_POOL_H
#define P11K_HWACCEL_PAGE_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <openssl/evp.h>

#include "base/status.h"
#include "hwaccel/page_key.h"

enum { KR_AES_BLOCK = 16, KR_AES_KEY_MAX = 32 };

enum kr_mode { KR_MODE_CBC, KR_MODE_CBC_PADDED, KR_MODE_CTR, KR_MODE_GCM, KR_MODES };

/* What encrypts: the key that the server gives, or one derived from it. Never 0 in a shape that is
 * looked for. */
enum kr_key_use { KR_KEY_ITSELF = 1, KR_KEY_DERIVED = 2 };

struct kr_shape {
    uint8_t mode; /* enum kr_mode */
    uint8_t encrypt;
    uint8_t key_len; /* of the key that the server gives */
    uint8_t key_use; /* enum kr_key_use */
};

struct kr_page_pool;

struct kr_page_op {
    EVP_CIPHER_CTX *evp;
    EVP_CIPHER_CTX *mask;      /* CBC: AES-ECB under the same key, for a last partial block */
    struct kr_page_pool *pool; /* NULL: made for one operation, as the pool was full */
    struct kr_shape shape;
    enum kr_status failure; /* of an update; finish repeats it */
    bool first_block_due;   /* CBC: EVP does not know the iv of the message yet */
    uint8_t held_len;
    uint8_t held[KR_AES_BLOCK]; /* input not processed yet */
    uint8_t iv[KR_AES_BLOCK];
    uint8_t chain[KR_AES_BLOCK]; /* CBC: what EVP will XOR into the next block */
};

/* kr_wipe() of one block, without its calls: it runs for every message. */
static inline void kr_wipe_block(uint8_t *block)
{
    memset(block, 0, KR_AES_BLOCK);
    __asm__ volatile("" : : "r"(block) : "memory");
}

/* A context for this shape and key; `iv` is 16 bytes, of which GCM takes 12. For unpadded CBC
 * under a known key EVP does not hear of the iv, which would take it half of the fixed time of a
 * page: the caller XORs `chain` and `iv` into the first block of the plaintext. KR_INTERNAL. */
KR_MUST_USE enum kr_status kr_page_pool_take(struct kr_shape shape, const struct kr_page_key *key,
                                             const uint8_t *iv, struct kr_page_op **ret);

void kr_page_pool_give_back(struct kr_page_op *op);

#endif
