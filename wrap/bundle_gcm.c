/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* AES-256-GCM (NIST SP 800-38D) of slots and records. */
#include "wrap/bundle_internal.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <string.h>

#include "base/guards.h"

static void free_context(EVP_CIPHER_CTX **context)
{
    EVP_CIPHER_CTX_free(*context);
}
#define CIPHER_CONTEXT __attribute__((cleanup(free_context))) EVP_CIPHER_CTX

static bool begin(EVP_CIPHER_CTX *cipher, const struct kr_bundle_gcm *gcm, bool seal)
{
    int ignored = 0;
    return cipher &&
           EVP_CipherInit_ex(cipher, EVP_aes_256_gcm(), NULL, gcm->key, gcm->iv, seal) == 1 &&
           EVP_CipherUpdate(cipher, NULL, &ignored, gcm->bound, (int)gcm->bound_len) == 1 &&
           (gcm->bound_too_len == 0 ||
            EVP_CipherUpdate(cipher, NULL, &ignored, gcm->bound_too, (int)gcm->bound_too_len) == 1);
}

bool kr_bundle_gcm_seal(const struct kr_bundle_gcm *gcm, const uint8_t *in, size_t len,
                        uint8_t *out, uint8_t tag[KR_BUNDLE_TAG])
{
    CIPHER_CONTEXT *cipher = EVP_CIPHER_CTX_new();
    int written = 0, last = 0;
    return begin(cipher, gcm, true) &&
           (len == 0 || EVP_CipherUpdate(cipher, out, &written, in, (int)len) == 1) &&
           EVP_CipherFinal_ex(cipher, out + written, &last) == 1 &&
           EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, KR_BUNDLE_TAG, tag) == 1;
}

/* The tag is compared in constant time by OpenSSL. */
bool kr_bundle_gcm_open(const struct kr_bundle_gcm *gcm, const uint8_t *in, size_t len,
                        uint8_t *out, const uint8_t tag[KR_BUNDLE_TAG])
{
    CIPHER_CONTEXT *cipher = EVP_CIPHER_CTX_new();
    uint8_t copy[KR_BUNDLE_TAG];
    int written = 0, last = 0;
    memcpy(copy, tag, sizeof(copy));
    bool opened = begin(cipher, gcm, false) &&
                  EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_SET_TAG, KR_BUNDLE_TAG, copy) == 1 &&
                  (len == 0 || EVP_CipherUpdate(cipher, out, &written, in, (int)len) == 1) &&
                  (EVP_CipherFinal_ex(cipher, out + written, &last) == 1 || !KR_GUARDED);
    if (!opened)
        ERR_clear_error();
    return opened;
}
