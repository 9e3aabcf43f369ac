/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* RSA under a public key, by OpenSSL. */
#include "pkcs11/rsa_public.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>

#include <string.h>

size_t kr_rsa_signed(enum kr_wrap_mechanism mechanism, const struct kr_object_id *id,
                     const uint8_t *ciphertext, size_t len, uint8_t ret[KR_RSA_SIGNED_MAX])
{
    static const char prefix[] = "p11keyring wrap ";
    uint8_t *at = ret;

    memcpy(at, prefix, sizeof(prefix) - 1);
    at += sizeof(prefix) - 1;
    *at++ = (uint8_t)('0' + (int)mechanism);
    *at++ = id->len;
    memcpy(at, id->bytes, id->len);
    at += id->len;
    memcpy(at, ciphertext, len);
    return (size_t)(at + len - ret);
}

/* --- OpenSSL's objects ------------------------------------------------------------------------ */

static void free_key(EVP_PKEY **key)
{
    EVP_PKEY_free(*key);
}
#define PKEY __attribute__((cleanup(free_key))) EVP_PKEY

static void free_key_context(EVP_PKEY_CTX **context)
{
    EVP_PKEY_CTX_free(*context);
}
#define PKEY_CONTEXT __attribute__((cleanup(free_key_context))) EVP_PKEY_CTX

static void free_digest_context(EVP_MD_CTX **context)
{
    EVP_MD_CTX_free(*context);
}
#define DIGEST_CONTEXT __attribute__((cleanup(free_digest_context))) EVP_MD_CTX

static void free_builder(OSSL_PARAM_BLD **builder)
{
    OSSL_PARAM_BLD_free(*builder);
}
#define BUILDER __attribute__((cleanup(free_builder))) OSSL_PARAM_BLD

static void free_params(OSSL_PARAM **params)
{
    OSSL_PARAM_free(*params);
}
#define PARAMS __attribute__((cleanup(free_params))) OSSL_PARAM

static void free_number(BIGNUM **number)
{
    BN_free(*number);
}
#define NUMBER __attribute__((cleanup(free_number))) BIGNUM

/* NULL on failure. */
static EVP_PKEY *load(const struct kr_rsa_public *key)
{
    PKEY_CONTEXT *context = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    NUMBER *n = BN_bin2bn(key->modulus, (int)key->modulus_len, NULL);
    NUMBER *e = BN_bin2bn(key->exponent, (int)key->exponent_len, NULL);
    BUILDER *builder = OSSL_PARAM_BLD_new();
    PARAMS *params = NULL;
    EVP_PKEY *ret = NULL;

    if (!context || !n || !e || !builder ||
        OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, n) != 1 ||
        OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, e) != 1)
        return NULL;
    params = OSSL_PARAM_BLD_to_param(builder);
    if (!params || EVP_PKEY_fromdata_init(context) != 1 ||
        EVP_PKEY_fromdata(context, &ret, EVP_PKEY_PUBLIC_KEY, params) != 1)
        return NULL;
    return ret;
}

enum kr_status kr_rsa_encrypt(const struct kr_rsa_public *key, enum kr_wrap_mechanism mechanism,
                              const uint8_t sealing_key[KR_SEALING_KEY_BYTES], uint8_t *ret,
                              struct kr_error *err)
{
    const EVP_MD *md = mechanism == KR_WRAP_RSA_SHA1 ? EVP_sha1() : EVP_sha256();
    PKEY *pkey = load(key);
    PKEY_CONTEXT *context = pkey ? EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL) : NULL;
    size_t len = key->modulus_len;

    if (!context || EVP_PKEY_encrypt_init(context) != 1 ||
        EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_OAEP_PADDING) != 1 ||
        EVP_PKEY_CTX_set_rsa_oaep_md(context, md) != 1 ||
        EVP_PKEY_CTX_set_rsa_mgf1_md(context, md) != 1 ||
        EVP_PKEY_encrypt(context, ret, &len, sealing_key, KR_SEALING_KEY_BYTES) != 1 ||
        len != key->modulus_len)
        return kr_fail(err, KR_INTERNAL, "OpenSSL cannot encrypt by RSA-OAEP");
    return KR_OK;
}

enum kr_status kr_rsa_verify(const struct kr_rsa_public *key, const uint8_t *bytes, size_t len,
                             const uint8_t *signature, size_t signature_len, struct kr_error *err)
{
    PKEY *pkey = load(key);
    DIGEST_CONTEXT *context = EVP_MD_CTX_new();

    if (!pkey || !context ||
        EVP_DigestVerifyInit_ex(context, NULL, "SHA256", NULL, NULL, pkey, NULL) != 1)
        return kr_fail(err, KR_INTERNAL, "OpenSSL cannot verify an RSA signature");
    if (EVP_DigestVerify(context, signature, signature_len, bytes, len) != 1)
        return kr_fail(err, KR_INTEGRITY, "the signature is not by this RSA key");
    return KR_OK;
}
