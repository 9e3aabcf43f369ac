/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* AES contexts of OpenSSL that stay open under one key, and whether it works under FIPS. */
#ifndef P11K_HWACCEL_AES_CONTEXT_H
#define P11K_HWACCEL_AES_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/evp.h>

/* `mode` is "CBC", "CTR" or "ECB"; the iv is zero, and nothing is padded. NULL on failure. */
EVP_CIPHER_CTX *kr_aes_open(const char *mode, const uint8_t *key, size_t key_len, bool encrypt);

/* With padding on, EVP would hold back the last block of what it decrypts. By parameter, since what
 * EVP_CIPHER_CTX_set_padding() leaves in the context is set again with each iv: 400 instructions.
 */
bool kr_aes_pad_off(EVP_CIPHER_CTX *evp);

/* Whether OpenSSL works with a FIPS provider. Then every mode is done by the provider as a whole:
 * nothing of it is put together outside. What OpenSSL says of a failure stays in its queue. */
bool kr_aes_is_fips(void);

#endif
