/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* AES-256 under the SHA-256 of a secret. */
#include "hwaccel/aes256.h"

#include "base/secret.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <string.h>

enum { BLOCK = 16, KEY_BYTES = 32 };

static const struct mode {
    const char *name;
    const EVP_CIPHER *(*cipher)(void);
} modes[] = {
    {"cbc", EVP_aes_256_cbc},       {"cfb1", EVP_aes_256_cfb1}, {"cfb8", EVP_aes_256_cfb8},
    {"cfb128", EVP_aes_256_cfb128}, {"ofb", EVP_aes_256_ofb},
};

static enum kr_status find_mode(const char *name, const EVP_CIPHER **ret, struct kr_error *err)
{
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
        if (strcmp(modes[i].name, name) == 0) {
            *ret = modes[i].cipher();
            return KR_OK;
        }
    kr_fail(err, KR_USAGE, "AES-256 has no mode '%.20s' here", name);
    kr_hint(err, "modes are cbc, cfb1, cfb8, cfb128 and ofb");
    return err->status;
}

enum kr_status kr_aes256_room(const char *mode, size_t len, size_t *ret, struct kr_error *err)
{
    const EVP_CIPHER *cipher;
    KR_TRY(find_mode(mode, &cipher, err));
    *ret = EVP_CIPHER_get_block_size(cipher) > 1 ? len / BLOCK * BLOCK + BLOCK : len;
    return KR_OK;
}

static bool run(EVP_CIPHER_CTX *ctx, const EVP_CIPHER *cipher, const struct kr_aes256 *aes,
                const uint8_t *in, size_t len, uint8_t *out, size_t *ret_len)
{
    uint8_t key[KEY_BYTES];
    int done = 0, last = 0;
    bool ok = EVP_Digest(aes->secret, aes->secret_len, key, NULL, EVP_sha256(), NULL) &&
              EVP_CipherInit_ex2(ctx, cipher, key, aes->iv, aes->encrypt, NULL) &&
              EVP_CIPHER_CTX_set_padding(ctx, aes->padding) &&
              EVP_CipherUpdate(ctx, out, &done, in, (int)len) &&
              EVP_CipherFinal_ex(ctx, out + done, &last);
    kr_wipe(key, sizeof(key));
    *ret_len = (size_t)done + (size_t)last;
    return ok;
}

enum kr_status kr_aes256_run(const struct kr_aes256 *aes, const uint8_t *in, size_t len,
                             uint8_t *out, size_t *ret_len, struct kr_error *err)
{
    const EVP_CIPHER *cipher;
    size_t done;
    KR_TRY(find_mode(aes->mode, &cipher, err));
    if (!aes->iv || len > INT_MAX - BLOCK)
        return kr_fail(err, KR_USAGE, "AES-256 needs an iv, and less than 2 GiB of data");
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    if (!ctx)
        return kr_fail_memory(err);
    ERR_set_mark();
    bool ok = run(ctx, cipher, aes, in, len, out, &done);
    ERR_pop_to_mark();
    EVP_CIPHER_CTX_free(ctx);
    if (!ok)
        return kr_fail(err, KR_INTEGRITY, "the data is not of a length or padding for AES-256-%s",
                       aes->mode);
    *ret_len = done;
    return KR_OK;
}

enum kr_status kr_aes256_blocks(const uint8_t key[32], const uint8_t *iv, bool encrypt,
                                const uint8_t *in, size_t len, uint8_t *out, struct kr_error *err)
{
    const EVP_CIPHER *cipher = iv ? EVP_aes_256_cbc() : EVP_aes_256_ecb();
    int done = 0;
    if (len % BLOCK != 0 || len > INT_MAX)
        return kr_fail(err, KR_USAGE, "AES-256 without padding takes whole blocks");
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    bool ok = ctx && EVP_CipherInit_ex2(ctx, cipher, key, iv, encrypt, NULL) &&
              EVP_CIPHER_CTX_set_padding(ctx, 0) &&
              EVP_CipherUpdate(ctx, out, &done, in, (int)len) && (size_t)done == len;
    EVP_CIPHER_CTX_free(ctx);
    return ok ? KR_OK : kr_fail(err, KR_INTERNAL, "AES-256 failed in libcrypto");
}
