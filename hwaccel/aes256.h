/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * AES-256 under the SHA-256 of a secret, as MySQL's keyring_aes service defines it (server source:
 * components/keyrings/common/encryption/aes.cc): modes cbc, cfb1, cfb8, cfb128 and ofb, PKCS#7
 * padding if asked for.
 */
#ifndef P11K_HWACCEL_AES256_H
#define P11K_HWACCEL_AES256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Room for `len` bytes encrypted: a whole block more for cbc, as much as there was for the others.
 * KR_USAGE: unknown mode. */
KR_MUST_USE enum kr_status kr_aes256_room(const char *mode, size_t len, size_t *ret,
                                          struct kr_error *err);

struct kr_aes256 {
    const char *mode;
    const uint8_t *secret;
    size_t secret_len;
    const uint8_t *iv; /* 16 bytes */
    bool encrypt, padding;
};

/* `out` has kr_aes256_room() bytes to encrypt, `len` to decrypt. KR_USAGE (mode, no iv, length),
 * KR_INTEGRITY (the data does not decrypt), KR_INTERNAL. */
KR_MUST_USE enum kr_status kr_aes256_run(const struct kr_aes256 *aes, const uint8_t *in, size_t len,
                                         uint8_t *out, size_t *ret_len, struct kr_error *err);

/* Whole blocks under the key itself, without padding: ECB with `iv` NULL, else CBC. As MySQL wraps
 * tablespace keys and the passwords of binary logs. `in` and `out` may be the same. */
KR_MUST_USE enum kr_status kr_aes256_blocks(const uint8_t key[32], const uint8_t *iv, bool encrypt,
                                            const uint8_t *in, size_t len, uint8_t *out,
                                            struct kr_error *err);

#endif
