/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What was encrypted for an RSA key that a token has: opened there. */
#ifndef P11K_PKCS11_RECIPIENT_H
#define P11K_PKCS11_RECIPIENT_H

#include "pkcs11/rsa_public.h"

/* RSAES-OAEP with the hash of `mechanism` (one of the two of RSA) under the private key of this
 * public one; `ciphertext` is as long as the modulus. Logs in. `ret` should be secret memory.
 * KR_NOT_FOUND: the token does not have the key. KR_INTEGRITY: it does not decrypt. */
KR_MUST_USE enum kr_status kr_recipient_open(
    struct kr_token *token, const struct kr_rsa_public *key, enum kr_wrap_mechanism mechanism,
    const uint8_t *ciphertext, uint8_t ret[KR_SEALING_KEY_BYTES], struct kr_error *err);

/* The public key of a PEM file (SubjectPublicKeyInfo, or a certificate's). KR_IO, KR_USAGE (no RSA
 * public key of 3072 to 4096 bits). */
KR_MUST_USE enum kr_status kr_recipient_read(const char *path, struct kr_rsa_public *ret,
                                             struct kr_error *err);

#endif
