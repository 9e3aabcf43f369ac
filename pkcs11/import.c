/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * A key from outside, put into the token: unwrapped in it where it can do that, so that the module
 * sees no more than RSAES-OAEP under a key pair that the token made for this alone, and that does
 * not outlive the session; else by C_CreateObject.
 */
#include "pkcs11/import.h"

#include "pkcs11/ckr.h"
#include "pkcs11/wrapping.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 16 };

/* Whether a failure says that the token cannot do this, and not that it cannot be asked. */
static bool is_answer(struct kr_session *s, const struct kr_error *err)
{
    struct kr_error ignored = KR_ERROR_INIT;

    if (s->lost || err->status == KR_AUTH || err->ckr == CKR_DEVICE_MEMORY ||
        err->ckr == CKR_HOST_MEMORY || err->ckr == CKR_TOKEN_WRITE_PROTECTED)
        return false;
    return err->status != KR_TOKEN_UNAVAILABLE || kr_session_alive(s, &ignored) == KR_OK;
}

/* --- the key pair for the transport ------------------------------------------------------------
 */

static enum kr_status check_listed(struct kr_session *s, struct kr_error *err)
{
    CK_ULONG *list = NULL;
    size_t count = 0, found = 0;

    KR_TRY(kr_session_mechanisms(s, &list, &count, err));
    for (size_t i = 0; i < count; i++)
        found += list[i] == CKM_RSA_PKCS_OAEP || list[i] == CKM_RSA_PKCS_KEY_PAIR_GEN;
    free(list);
    return found == 2 ? KR_OK : kr_fail(err, KR_REFUSED, "the token does not list RSA-OAEP");
}

static CK_RV generate_pair(struct kr_session *s, struct kr_transport *t)
{
    CK_MECHANISM generate = {CKM_RSA_PKCS_KEY_PAIR_GEN, NULL, 0};
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_ULONG bits = KR_RSA_BITS_MIN;
    CK_BYTE exponent[] = {1, 0, 1};
    CK_ATTRIBUTE public[] = {
        {CKA_TOKEN, &no, sizeof(no)},
        {CKA_MODULUS_BITS, &bits, sizeof(bits)},
        {CKA_PUBLIC_EXPONENT, exponent, sizeof(exponent)},
        {CKA_WRAP, &yes, sizeof(yes)},
    };
    CK_ATTRIBUTE private[] = {
        {CKA_TOKEN, &no, sizeof(no)},       {CKA_PRIVATE, &yes, sizeof(yes)},
        {CKA_SENSITIVE, &yes, sizeof(yes)}, {CKA_EXTRACTABLE, &no, sizeof(no)},
        {CKA_UNWRAP, &yes, sizeof(yes)},    {CKA_SIGN, &no, sizeof(no)},
    };

    return P11(s, C_GenerateKeyPair, s->handle, &generate, public,
               sizeof(public) / sizeof(public[0]), private, sizeof(private) / sizeof(private[0]),
               &t->public, &t->private);
}

static enum kr_status make_pair(struct kr_session *s, struct kr_transport *t, struct kr_error *err)
{
    bool found = false;
    CK_RV rv;

    KR_TRY(check_listed(s, err));
    rv = generate_pair(s, t);
    if (rv != CKR_OK)
        return kr_ckr_fail(err, "C_GenerateKeyPair (session keys)", rv);
    t->has_pair = true;
    KR_TRY(kr_rsa_read_public(s, t->public, &t->half, &found, err));
    return found ? KR_OK : kr_fail(err, KR_REFUSED, "the token does not tell a public key");
}

void kr_transport_end(struct kr_session *s, struct kr_transport *t)
{
    if (!t->has_pair)
        return;
    P11(s, C_DestroyObject, s->handle, t->private);
    P11(s, C_DestroyObject, s->handle, t->public);
    t->has_pair = false;
}

/* --- the two ways ------------------------------------------------------------------------------
 */

static enum kr_status unwrap(struct kr_session *s, const struct kr_key_order *order,
                             enum kr_wrap_mechanism hash, CK_OBJECT_HANDLE *ret,
                             struct kr_error *err)
{
    struct kr_transport *t = order->transport;
    uint8_t ciphertext[KR_RSA_BYTES_MAX];
    CK_RSA_PKCS_OAEP_PARAMS oaep = kr_rsa_oaep(hash);
    CK_MECHANISM mechanism = {CKM_RSA_PKCS_OAEP, &oaep, sizeof(oaep)};
    struct kr_key_template key;
    CK_RV rv;

    KR_TRY(kr_rsa_encrypt(&t->half, hash, order->value, ciphertext, err));
    kr_key_template_fill(&key, order);
    kr_key_template_allow(&key);
    rv = P11(s, C_UnwrapKey, s->handle, &mechanism, t->private, ciphertext, t->half.modulus_len,
             key.attrs, key.count, ret);
    if (kr_refused_when_made(rv))
        rv = P11(s, C_UnwrapKey, s->handle, &mechanism, t->private, ciphertext, t->half.modulus_len,
                 key.attrs, key.count - 1, ret);
    return rv == CKR_OK ? KR_OK : kr_ckr_fail(err, "C_UnwrapKey (RSA-OAEP)", rv);
}

/* A token may take a key and not what the template says of it. */
static enum kr_status check_unwrapped(struct kr_session *s, const struct kr_key_order *order,
                                      CK_OBJECT_HANDLE handle, struct kr_error *err)
{
    const struct kr_key_entry key = {.handle = handle, .id = order->id, .kind = order->kind};
    struct kr_master_info info;
    enum kr_status status = kr_key_read(s, &key, &info, err);

    if (status == KR_OK)
        status = kr_key_accept_imported(&info, err);
    if (status != KR_OK && !s->lost)
        kr_key_destroy(s, handle, order->kind, &order->id);
    return status;
}

static enum kr_status by_unwrapping(struct kr_session *s, const struct kr_key_order *order,
                                    CK_OBJECT_HANDLE *ret, struct kr_error *err)
{
    struct kr_transport *t = order->transport;
    enum kr_status status;

    if (t->refused)
        return kr_fail(err, KR_REFUSED, "%s", t->why);
    if (!t->has_pair)
        KR_TRY(make_pair(s, t, err));
    status = unwrap(s, order, t->sha1 ? KR_WRAP_RSA_SHA1 : KR_WRAP_RSA_SHA256, ret, err);
    if (status != KR_OK && !t->sha1 && is_answer(s, err)) {
        t->sha1 = true; /* SoftHSM2 has no other */
        status = unwrap(s, order, KR_WRAP_RSA_SHA1, ret, err);
    }
    return status == KR_OK ? check_unwrapped(s, order, *ret, err) : status;
}

static enum kr_status by_creating(struct kr_session *s, const struct kr_key_order *order,
                                  CK_OBJECT_HANDLE *ret, struct kr_error *err)
{
    struct kr_key_template key;
    CK_RV rv;

    kr_key_template_fill(&key, order);
    kr_key_template_add(&key, CKA_VALUE, (void *)order->value, KR_SEALING_KEY_BYTES);
    kr_key_template_allow(&key);
    rv = P11(s, C_CreateObject, s->handle, key.attrs, key.count, ret);
    if (kr_refused_when_made(rv))
        rv = P11(s, C_CreateObject, s->handle, key.attrs, key.count - 1, ret);
    return rv == CKR_OK ? KR_OK : kr_ckr_fail(err, "C_CreateObject", rv);
}

static enum kr_status fail_neither(const char *unwrapping, struct kr_error *err)
{
    const struct kr_error creating = *err;

    kr_fail(err, KR_REFUSED, "the token takes no key from outside (%s; %s)", unwrapping,
            creating.text);
    kr_hint(err, "bring the keys in with [mysql] master-keys = wrapped; then set it to token, "
                 "restart, and rotate both master keys: the token makes the new ones itself");
    return err->status;
}

static enum kr_status put_in(struct kr_session *s, const struct kr_key_order *order,
                             CK_OBJECT_HANDLE *ret, struct kr_error *err)
{
    struct kr_transport *t = order->transport;

    if (by_unwrapping(s, order, ret, err) == KR_OK)
        return KR_OK;
    if (!is_answer(s, err))
        return err->status;
    if (!t->refused)
        snprintf(t->why, sizeof(t->why), "%.250s", err->text);
    t->refused = true;
    if (by_creating(s, order, ret, err) == KR_OK)
        return KR_OK;
    /* What has no reason may pass: then the job is run again. */
    return err->status != KR_TOKEN_UNAVAILABLE && is_answer(s, err) ? fail_neither(t->why, err)
                                                                    : err->status;
}

/* --- is it the very key? -----------------------------------------------------------------------
 */

static bool encrypt_here(const uint8_t *key, const uint8_t in[BLOCK], uint8_t ret[BLOCK])
{
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int len = 0;
    bool ok = context && EVP_EncryptInit_ex(context, EVP_aes_256_ecb(), NULL, key, NULL) == 1 &&
              EVP_CIPHER_CTX_set_padding(context, 0) == 1 &&
              EVP_EncryptUpdate(context, ret, &len, in, BLOCK) == 1 && len == BLOCK;

    EVP_CIPHER_CTX_free(context);
    return ok;
}

/* One block in the mode that the key is for; with an IV of zeros both give the same. */
static enum kr_status compare(struct kr_session *s, const struct kr_key_order *order,
                              CK_OBJECT_HANDLE handle, struct kr_error *err)
{
    uint8_t iv[BLOCK] = {0}, in[BLOCK] = "p11keyring test", here[BLOCK], there[2 * BLOCK];
    CK_MECHANISM mechanism = {order->mechanism, iv, sizeof(iv)};
    CK_ULONG len = sizeof(there);
    CK_RV rv;

    if (order->mechanism == CKM_AES_ECB)
        mechanism = (CK_MECHANISM){order->mechanism, NULL, 0};
    if (!encrypt_here(order->value, in, here))
        return kr_fail(err, KR_INTERNAL, "OpenSSL cannot encrypt by AES-256-ECB");
    rv = P11(s, C_EncryptInit, s->handle, &mechanism, handle);
    if (rv != CKR_OK)
        return kr_ckr_fail(err, "C_EncryptInit (imported key)", rv);
    rv = P11(s, C_Encrypt, s->handle, in, sizeof(in), there, &len);
    if (rv != CKR_OK)
        return kr_ckr_fail(err, "C_Encrypt (imported key)", rv);
    if (len != sizeof(here) || CRYPTO_memcmp(here, there, sizeof(here)) != 0)
        return kr_fail(err, KR_INTEGRITY, "the token has another key than it was given");
    return KR_OK;
}

enum kr_status kr_key_import(struct kr_session *s, const struct kr_key_order *order,
                             CK_OBJECT_HANDLE *ret, struct kr_error *err)
{
    CK_OBJECT_HANDLE handle = CK_INVALID_HANDLE;
    enum kr_status status;

    kr_keys_forget(s);
    KR_TRY(put_in(s, order, &handle, err));
    status = compare(s, order, handle, err);
    if (status != KR_OK && !s->lost)
        kr_key_destroy(s, handle, order->kind, &order->id);
    if (status == KR_OK)
        *ret = handle;
    return status;
}

enum kr_status kr_key_imported(struct kr_session *s, const struct kr_key_order *order,
                               struct kr_error *err)
{
    CK_OBJECT_HANDLE handle;

    KR_TRY(kr_imported_usable(s, &order->id, &handle, err));
    return compare(s, order, handle, err);
}
