/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* By EVP_BytesToKey, which that program uses. */
#include "formats/openssl_enc.h"

#include <limits.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <string.h>

#include "base/secret.h"

#define MAGIC "Salted__"
enum { MAGIC_BYTES = 8, SALT_BYTES = 8, HEAD_BYTES = MAGIC_BYTES + SALT_BYTES };
enum { KEY_BYTES = 32, IV_BYTES = 16, BLOCK = 16 };

bool kr_openssl_enc_is(const void *bytes, size_t len)
{
    return len >= HEAD_BYTES && memcmp(bytes, MAGIC, MAGIC_BYTES) == 0;
}

/* One way or the other; *ret_len is at most len + BLOCK. */
static bool crypt_text(bool encrypt, const char *password, const uint8_t *salt,
                       const uint8_t *bytes, size_t len, uint8_t *ret, size_t *ret_len)
{
    KR_SECRET uint8_t *key = kr_secret_alloc(KEY_BYTES + IV_BYTES);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int part = 0, end = 0;
    bool ok = key && ctx &&
              EVP_BytesToKey(EVP_aes_256_cbc(), EVP_sha1(), salt, (const uint8_t *)password,
                             (int)strlen(password), 1, key, key + KEY_BYTES) == KEY_BYTES &&
              EVP_CipherInit_ex(ctx, EVP_aes_256_cbc(), NULL, key, key + KEY_BYTES, encrypt) &&
              EVP_CipherUpdate(ctx, ret, &part, bytes, (int)len) &&
              EVP_CipherFinal_ex(ctx, ret + part, &end);
    EVP_CIPHER_CTX_free(ctx);
    *ret_len = (size_t)part + (size_t)end;
    return ok;
}

enum kr_status kr_openssl_enc_open(const void *bytes, size_t len, const char *password, char **ret,
                                   size_t *ret_len, struct kr_error *err)
{
    const uint8_t *salt = (const uint8_t *)bytes + MAGIC_BYTES;
    if (!kr_openssl_enc_is(bytes, len) || len > INT_MAX)
        return kr_fail(err, KR_INTEGRITY, "it is not encrypted by openssl enc");
    KR_SECRET uint8_t *text = kr_secret_alloc(len + BLOCK);
    size_t text_len = 0;
    if (!text)
        return kr_fail_secret(err);
    if (!crypt_text(false, password, salt, salt + SALT_BYTES, len - HEAD_BYTES, text, &text_len))
        return kr_fail(err, KR_INTEGRITY, "the password does not open it");
    text[text_len] = '\0';
    *ret = (char *)text;
    *ret_len = text_len;
    text = NULL;
    return KR_OK;
}

enum kr_status kr_openssl_enc_seal(const char *text, size_t len, const char *password, char **ret,
                                   size_t *ret_len, struct kr_error *err)
{
    if (len > INT_MAX - HEAD_BYTES - BLOCK)
        return kr_fail(err, KR_USAGE, "a text of %zu bytes is too long", len);
    KR_SECRET uint8_t *bytes = kr_secret_alloc(HEAD_BYTES + len + BLOCK);
    size_t sealed = 0;
    if (!bytes)
        return kr_fail_secret(err);
    memcpy(bytes, MAGIC, MAGIC_BYTES);
    if (RAND_bytes(bytes + MAGIC_BYTES, SALT_BYTES) != 1 ||
        !crypt_text(true, password, bytes + MAGIC_BYTES, (const uint8_t *)text, len,
                    bytes + HEAD_BYTES, &sealed))
        return kr_fail(err, KR_INTERNAL, "OpenSSL failed to encrypt a text");
    *ret = (char *)bytes;
    *ret_len = HEAD_BYTES + sealed;
    bytes = NULL;
    return KR_OK;
}
