/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Wrapping by RSA, for tokens without AES: RSAES-OAEP under the master key's public half, and a
 * signature made in the token. OAEP proves no origin, as anyone may know a public key; the
 * signature does, so it is checked before the token decrypts anything.
 *
 * The signature is RSASSA-PKCS1-v1_5 with SHA-256: every token with RSA has it, and its format
 * leaves nothing to agree on (RSASSA-PSS has hash, mask and salt length, of which tokens support
 * different combinations).
 */
#include "pkcs11/wrapping.h"

#include "base/bytes.h"
#include "base/guards.h"
#include "base/secret.h"
#include "pkcs11/ckr.h"
#include "pkcs11/rsa_public.h"

#include <openssl/rand.h>

#include <stdlib.h>
#include <string.h>

/* --- the public half -------------------------------------------------------------------------- */

/* A big-endian number without its leading zeros; false when it is missing or too long. */
static bool take_number(const CK_ATTRIBUTE *attr, uint8_t *ret, size_t max, size_t *ret_len)
{
    const uint8_t *at = attr->pValue;
    size_t len = attr->ulValueLen;

    if (len == CK_UNAVAILABLE_INFORMATION)
        return false;
    while (len > 0 && *at == 0) {
        at++;
        len--;
    }
    if (len == 0 || len > max)
        return false;
    memcpy(ret, at, len);
    *ret_len = len;
    return true;
}

enum kr_status kr_rsa_read_public(struct kr_session *s, CK_OBJECT_HANDLE object,
                                  struct kr_rsa_public *ret, bool *ret_found, struct kr_error *err)
{
    uint8_t modulus[KR_RSA_BYTES_MAX + 8], exponent[16];
    CK_ATTRIBUTE attrs[] = {{CKA_MODULUS, modulus, sizeof(modulus)},
                            {CKA_PUBLIC_EXPONENT, exponent, sizeof(exponent)}};
    struct kr_rsa_public key;
    CK_RV rv = P11(s, C_GetAttributeValue, s->handle, object, attrs, 2);

    *ret_found = false;
    if (rv == CKR_ATTRIBUTE_TYPE_INVALID || rv == CKR_ATTRIBUTE_SENSITIVE ||
        rv == CKR_BUFFER_TOO_SMALL)
        return KR_OK;
    if (rv != CKR_OK)
        return kr_ckr_fail(err, "C_GetAttributeValue (RSA key)", rv);
    *ret_found = take_number(&attrs[0], key.modulus, sizeof(key.modulus), &key.modulus_len) &&
                 take_number(&attrs[1], key.exponent, sizeof(key.exponent), &key.exponent_len);
    if (*ret_found)
        *ret = key;
    return KR_OK;
}

static enum kr_status sign(struct kr_session *s, CK_OBJECT_HANDLE master, const uint8_t *bytes,
                           size_t len, uint8_t ret[KR_WRAP_BUFFER], size_t *ret_len,
                           struct kr_error *err)
{
    CK_MECHANISM mechanism = {CKM_SHA256_RSA_PKCS, NULL, 0};
    CK_ULONG out_len = KR_WRAP_BUFFER;
    CK_RV rv = P11(s, C_SignInit, s->handle, &mechanism, master);

    if (rv != CKR_OK)
        return kr_ckr_fail(err, "C_SignInit (SHA256-RSA-PKCS)", rv);
    rv = P11(s, C_Sign, s->handle, (uint8_t *)bytes, len, ret, &out_len);
    if (rv != CKR_OK)
        return kr_ckr_fail(err, "C_Sign (SHA256-RSA-PKCS)", rv);
    *ret_len = out_len;
    return KR_OK;
}

static enum kr_status fail_foreign_half(struct kr_error *err)
{
    kr_fail(err, KR_INTEGRITY, "the token's RSA public key does not belong to its private key");
    kr_hint(err, "somebody may have replaced the public key object: destroy it and make it again "
                 "from the private key, or make a new master key: p11keyring master create");
    return KR_INTEGRITY;
}

/* Anyone who may write public objects can put another public key under the same id. */
static enum kr_status check_half(struct kr_session *s, CK_OBJECT_HANDLE master,
                                 const struct kr_rsa_public *key, struct kr_error *err)
{
    uint8_t challenge[20 + 32] = "p11keyring challenge", signature[KR_WRAP_BUFFER];
    enum kr_status status;
    size_t len;

    if (RAND_bytes(challenge + 20, 32) != 1)
        return kr_fail(err, KR_INTERNAL, "OpenSSL's random generator failed");
    KR_TRY(sign(s, master, challenge, sizeof(challenge), signature, &len, err));
    status = kr_rsa_verify(key, challenge, sizeof(challenge), signature, len, err);
    return status == KR_INTEGRITY ? fail_foreign_half(err) : status;
}

/* For a token whose private key objects do not tell the modulus. */
static enum kr_status read_public_object(struct kr_session *s, CK_OBJECT_HANDLE master,
                                         const struct kr_object_id *id, struct kr_rsa_public *ret,
                                         struct kr_error *err)
{
    CK_OBJECT_CLASS class = CKO_PUBLIC_KEY;
    CK_KEY_TYPE type = CKK_RSA;
    CK_ATTRIBUTE template[] = {{CKA_CLASS, &class, sizeof(class)},
                               {CKA_KEY_TYPE, &type, sizeof(type)},
                               {CKA_ID, (void *)id->bytes, id->len}};
    CK_OBJECT_HANDLE *objects = NULL, object = CK_INVALID_HANDLE;
    bool found = false;
    size_t count = 0;

    KR_TRY(kr_objects_find(s, template, 3, &objects, &count, err));
    if (count == 1)
        object = objects[0];
    free(objects);
    if (count == 1)
        KR_TRY(kr_rsa_read_public(s, object, ret, &found, err));
    if (!found)
        return kr_fail(err, KR_REFUSED,
                       "the token tells no usable public key for the RSA key (%zu "
                       "public keys have its id)",
                       count);
    return check_half(s, master, ret, err);
}

static enum kr_status read_half(struct kr_session *s, CK_OBJECT_HANDLE master,
                                const struct kr_object_id *id, struct kr_rsa_public *ret,
                                struct kr_error *err)
{
    bool found = false;

    KR_TRY(kr_rsa_read_public(s, master, ret, &found, err));
    if (!found)
        KR_TRY(read_public_object(s, master, id, ret, err));
    if (ret->modulus_len < KR_RSA_BITS_MIN / 8)
        return kr_fail(err, KR_REFUSED, "the RSA key has fewer than %d bits", KR_RSA_BITS_MIN);
    return KR_OK;
}

/* NULL when out of memory. Another session may be faster: then its copy stays. */
static const struct kr_rsa_public *keep_half(struct kr_key_entry *key,
                                             const struct kr_rsa_public *half)
{
    struct kr_rsa_public *copy = malloc(sizeof(*copy)), *kept = NULL;

    if (!copy)
        return NULL;
    *copy = *half;
    if (__atomic_compare_exchange_n(&key->half, &kept, copy, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE))
        return copy;
    free(copy);
    return kept;
}

/* Read once for all sessions, and kept beside the private key's handle. */
static enum kr_status public_half(struct kr_session *s, CK_OBJECT_HANDLE master,
                                  const struct kr_object_id *id, const struct kr_rsa_public **ret,
                                  struct kr_error *err)
{
    struct kr_key_entry *key = NULL;
    struct kr_rsa_public half;

    KR_TRY(kr_keys_find(s, id, &key, err));
    *ret = __atomic_load_n(&key->half, __ATOMIC_ACQUIRE);
    if (*ret)
        return KR_OK;
    KR_TRY(read_half(s, master, id, &half, err));
    *ret = keep_half(key, &half);
    return *ret ? KR_OK : kr_fail_memory(err);
}

/* --- wrap and unwrap -------------------------------------------------------------------------- */

/* The length of the ciphertext, the ciphertext, the signature. */
enum { LENGTH = 2 };

enum kr_status kr_rsa_wrap(struct kr_session *s, CK_OBJECT_HANDLE master,
                           const struct kr_object_id *id, enum kr_wrap_mechanism mechanism,
                           const uint8_t *key, uint8_t *ret_wrapped, size_t *ret_len,
                           struct kr_error *err)
{
    uint8_t ciphertext[KR_RSA_BYTES_MAX], bytes[KR_RSA_SIGNED_MAX], signature[KR_WRAP_BUFFER];
    size_t signature_len = 0, len, bytes_len;
    const struct kr_rsa_public *half = NULL;
    enum kr_status status;

    KR_TRY(public_half(s, master, id, &half, err));
    KR_TRY(kr_rsa_encrypt(half, mechanism, key, ciphertext, err));
    len = half->modulus_len;
    bytes_len = kr_rsa_signed(mechanism, id, ciphertext, len, bytes);
    KR_TRY(sign(s, master, bytes, bytes_len, signature, &signature_len, err));
    if (signature_len != len)
        return kr_fail_format("C_Sign (SHA256-RSA-PKCS)", signature_len, err);
    status = kr_rsa_verify(half, bytes, bytes_len, signature, signature_len, err);
    if (status != KR_OK)
        return status == KR_INTEGRITY ? fail_foreign_half(err) : status;
    kr_put_number(ret_wrapped, len, LENGTH);
    memcpy(ret_wrapped + LENGTH, ciphertext, len);
    memcpy(ret_wrapped + LENGTH + len, signature, len);
    *ret_len = LENGTH + 2 * len;
    return KR_OK;
}

CK_RSA_PKCS_OAEP_PARAMS kr_rsa_oaep(enum kr_wrap_mechanism mechanism)
{
    bool sha1 = mechanism == KR_WRAP_RSA_SHA1;

    return (CK_RSA_PKCS_OAEP_PARAMS){.hashAlg = sha1 ? CKM_SHA_1 : CKM_SHA256,
                                     .mgf = sha1 ? CKG_MGF1_SHA1 : CKG_MGF1_SHA256,
                                     .source = CKZ_DATA_SPECIFIED};
}

enum kr_status kr_rsa_decrypt(struct kr_session *s, CK_OBJECT_HANDLE private,
                              enum kr_wrap_mechanism mechanism, const uint8_t *ciphertext,
                              size_t len, uint8_t *ret_key, struct kr_error *err)
{
    CK_RSA_PKCS_OAEP_PARAMS oaep = kr_rsa_oaep(mechanism);
    CK_MECHANISM parameters = {CKM_RSA_PKCS_OAEP, &oaep, sizeof(oaep)};
    KR_SECRET uint8_t *out = kr_secret_alloc(KR_WRAP_BUFFER);
    CK_ULONG out_len = KR_WRAP_BUFFER;
    CK_RV rv;

    if (!out)
        return kr_fail_secret(err);
    rv = P11(s, C_DecryptInit, s->handle, &parameters, private);
    if (rv != CKR_OK)
        return kr_ckr_fail(err, "C_DecryptInit (RSA-OAEP)", rv);
    rv = P11(s, C_Decrypt, s->handle, (uint8_t *)ciphertext, len, out, &out_len);
    if (rv != CKR_OK)
        return kr_fail_unwrap("C_Decrypt (RSA-OAEP)", rv, err);
    if (out_len != KR_SEALING_KEY_BYTES)
        return kr_fail_format("C_Decrypt (RSA-OAEP)", out_len, err);
    memcpy(ret_key, out, out_len);
    return KR_OK;
}

static enum kr_status check_signature(const struct kr_rsa_public *half,
                                      const struct kr_object_id *id,
                                      enum kr_wrap_mechanism mechanism, const uint8_t *ciphertext,
                                      size_t len, struct kr_error *err)
{
    uint8_t bytes[KR_RSA_SIGNED_MAX];
    size_t bytes_len = kr_rsa_signed(mechanism, id, ciphertext, len, bytes);
    enum kr_status status = kr_rsa_verify(half, bytes, bytes_len, ciphertext + len, len, err);

    if (status != KR_INTEGRITY)
        return status;
    kr_fail(err, KR_INTEGRITY,
            "a wrapped key bears no signature of its master key: it is damaged, "
            "or was not made with this token");
    kr_hint(err, "restore the keystore from its backup, or connect the token it was made with");
    return KR_INTEGRITY;
}

enum kr_status kr_rsa_unwrap(struct kr_session *s, CK_OBJECT_HANDLE master,
                             const struct kr_object_id *id, enum kr_wrap_mechanism mechanism,
                             const uint8_t *wrapped, size_t wrapped_len, uint8_t *ret_key,
                             struct kr_error *err)
{
    const struct kr_rsa_public *half = NULL;
    size_t len;

    KR_TRY(public_half(s, master, id, &half, err));
    len = half->modulus_len;
    if (wrapped_len != LENGTH + 2 * len || kr_get_number(wrapped, LENGTH) != len)
        return kr_fail_wrapped_length(wrapped_len, LENGTH + 2 * len, err);
    if (KR_GUARDED)
        KR_TRY(check_signature(half, id, mechanism, wrapped + LENGTH, len, err));
    return kr_rsa_decrypt(s, master, mechanism, wrapped + LENGTH, len, ret_key, err);
}
