/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* AES contexts under one key. */
#include "hwaccel/aes_context.h"

#include <stdio.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/params.h>
#include <openssl/provider.h>

bool kr_aes_is_fips(void)
{
    if (EVP_default_properties_is_fips_enabled(NULL))
        return true;
    EVP_CIPHER *ecb = EVP_CIPHER_fetch(NULL, "AES-256-ECB", NULL);
    const OSSL_PROVIDER *provider = ecb ? EVP_CIPHER_get0_provider(ecb) : NULL;
    bool fips = provider && strcmp(OSSL_PROVIDER_get0_name(provider), "fips") == 0;
    EVP_CIPHER_free(ecb);
    return fips;
}

bool kr_aes_pad_off(EVP_CIPHER_CTX *evp)
{
    unsigned off = 0;
    OSSL_PARAM params[] = {OSSL_PARAM_construct_uint(OSSL_CIPHER_PARAM_PADDING, &off),
                           OSSL_PARAM_construct_end()};
    return EVP_CIPHER_CTX_set_params(evp, params);
}

EVP_CIPHER_CTX *kr_aes_open(const char *mode, const uint8_t *key, size_t key_len, bool encrypt)
{
    static const uint8_t no_iv[16];
    char name[32];
    snprintf(name, sizeof(name), "AES-%zu-%s", key_len * 8, mode);
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, name, NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    bool ok = cipher && ctx && EVP_CipherInit_ex(ctx, cipher, NULL, key, no_iv, encrypt) &&
              kr_aes_pad_off(ctx);
    EVP_CIPHER_free(cipher); /* the context holds it */
    if (ok)
        return ctx;
    EVP_CIPHER_CTX_free(ctx);
    return NULL;
}
