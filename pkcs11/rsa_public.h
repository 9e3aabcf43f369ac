/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The half of an RSA wrap that needs no token: OpenSSL encrypts under the public key and checks
 * signatures (RFC 8017: RSAES-OAEP, RSASSA-PKCS1-v1_5 with SHA-256).
 */
#ifndef P11K_PKCS11_RSA_PUBLIC_H
#define P11K_PKCS11_RSA_PUBLIC_H

#include "pkcs11/token.h"

enum { KR_RSA_BITS_MIN = 3072, KR_RSA_BITS_MAX = 4096, KR_RSA_BYTES_MAX = KR_RSA_BITS_MAX / 8 };

struct kr_rsa_public {
    uint8_t modulus[KR_RSA_BYTES_MAX], exponent[8]; /* big-endian, no leading zeros */
    size_t modulus_len, exponent_len;
};

/* What is signed: "p11keyring wrap 3" (or 4), the id's length, the id, the ciphertext. */
#define KR_RSA_SIGNED_MAX (17 + 1 + KR_OBJECT_ID_MAX + KR_RSA_BYTES_MAX)
size_t kr_rsa_signed(enum kr_wrap_mechanism mechanism, const struct kr_object_id *id,
                     const uint8_t *ciphertext, size_t len, uint8_t ret[KR_RSA_SIGNED_MAX]);

/* RSAES-OAEP with MGF1, both with the hash of `mechanism`, no label. `ret` gets as many bytes as
 * the modulus has. */
KR_MUST_USE enum kr_status kr_rsa_encrypt(const struct kr_rsa_public *key,
                                          enum kr_wrap_mechanism mechanism,
                                          const uint8_t sealing_key[KR_SEALING_KEY_BYTES],
                                          uint8_t *ret, struct kr_error *err);

/* KR_INTEGRITY when the signature is not by this key. */
KR_MUST_USE enum kr_status kr_rsa_verify(const struct kr_rsa_public *key, const uint8_t *bytes,
                                         size_t len, const uint8_t *signature, size_t signature_len,
                                         struct kr_error *err);

#endif
