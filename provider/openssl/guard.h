/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The ciphers with 32-byte keys that have no use for a handle: everything is the inner provider's
 * own code on its own context, only a new key is looked at first.
 */
#ifndef P11K_PROVIDER_OPENSSL_GUARD_H
#define P11K_PROVIDER_OPENSSL_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/core_dispatch.h>

/* Whether the bytes begin with the magic of a handle. */
bool kr_begins_as_handle(const uint8_t *key, size_t len);

/* Functions to put in place of a pair of init functions (encrypt, decrypt), which refuse handles
 * first, ended by {0, NULL}; NULL when there are more pairs than there is room for. Serialised by
 * the caller; the answer stays valid for the process. */
const OSSL_DISPATCH *kr_guard_over(OSSL_FUNC_cipher_encrypt_init_fn *encrypt,
                                   OSSL_FUNC_cipher_decrypt_init_fn *decrypt);

#endif
