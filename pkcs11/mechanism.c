/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Wrapping a sealing key in the token, by AES-GCM (C_Encrypt; NIST SP 800-38D) or AES-KWP
 * (C_WrapKey; RFC 5649). What a token lists says little (SoftHSM2 lists wraps that it cannot do),
 * so a mechanism counts only when a round trip has proven it.
 */
#include "pkcs11/session.h"

#include "base/secret.h"
#include "pkcs11/ckr.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include <string.h>

enum {
    GCM_IV = 12,
    GCM_TAG = 16,
    GCM_WRAPPED = GCM_IV + KR_SEALING_KEY_BYTES + GCM_TAG,
    KWP_WRAPPED = KR_SEALING_KEY_BYTES + 8,
    WRAP_BUFFER = 1024 /* NSS answers a length query with too little */
};

static const char gcm_aad_prefix[] = "p11keyring wrap 1";

struct gcm_params {
    CK_GCM_PARAMS gcm;
    CK_MECHANISM mechanism;
    uint8_t iv[GCM_IV];
    uint8_t aad[sizeof(gcm_aad_prefix) + KR_OBJECT_ID_MAX];
};

/* The associated data binds a wrap to its purpose and to the id of its master key. */
static void gcm_params_fill(struct gcm_params *p, const uint8_t *iv, const struct kr_object_id *id)
{
    const size_t prefix = sizeof(gcm_aad_prefix) - 1;

    memcpy(p->iv, iv, GCM_IV);
    memcpy(p->aad, gcm_aad_prefix, prefix);
    memcpy(p->aad + prefix, id->bytes, id->len);
    p->gcm = (CK_GCM_PARAMS){.pIv = p->iv,
                             .ulIvLen = GCM_IV,
                             .ulIvBits = 8 * GCM_IV,
                             .pAAD = p->aad,
                             .ulAADLen = prefix + id->len,
                             .ulTagBits = 8 * GCM_TAG};
    p->mechanism = (CK_MECHANISM){CKM_AES_GCM, &p->gcm, sizeof(p->gcm)};
}

static enum kr_status fail_length(const char *function, CK_ULONG len, struct kr_error *err)
{
    return kr_fail(err, KR_REFUSED, "%s gave %lu bytes, which is not the standard's format",
                   function, len);
}

static enum kr_status gcm_wrap(struct kr_session *s, CK_OBJECT_HANDLE master,
                               const struct kr_object_id *id, const uint8_t *key,
                               uint8_t *ret_wrapped, size_t *ret_len, struct kr_error *err)
{
    uint8_t iv[GCM_IV], out[WRAP_BUFFER];
    CK_ULONG out_len = sizeof(out);
    struct gcm_params p;
    CK_RV rv;

    KR_TRY(kr_session_random(s, iv, sizeof(iv), err));
    gcm_params_fill(&p, iv, id);
    rv = P11(s, C_EncryptInit, s->handle, &p.mechanism, master);
    if (rv != CKR_OK)
        return kr_ckr_fail(err, "C_EncryptInit (AES-GCM)", rv);
    rv = P11(s, C_Encrypt, s->handle, (uint8_t *)key, KR_SEALING_KEY_BYTES, out, &out_len);
    if (rv != CKR_OK)
        return kr_ckr_fail(err, "C_Encrypt (AES-GCM)", rv);
    if (out_len != GCM_WRAPPED - GCM_IV)
        return fail_length("C_Encrypt (AES-GCM)", out_len, err);
    /* Taken after the call: some tokens choose the IV themselves and put it there. */
    memcpy(ret_wrapped, p.iv, GCM_IV);
    memcpy(ret_wrapped + GCM_IV, out, out_len);
    *ret_len = GCM_WRAPPED;
    return KR_OK;
}

/* Values by which modules say that a wrap is not genuine. A lost token is told apart afterwards,
 * when the failed job asks whether the token still answers (kr_session_run). */
static enum kr_status fail_unwrap(const char *function, CK_RV rv, struct kr_error *err)
{
    enum kr_status status = kr_ckr_fail(err, function, rv);

    switch (rv) {
    case CKR_GENERAL_ERROR:
    case CKR_FUNCTION_FAILED:
    case CKR_DATA_INVALID:
    case CKR_DATA_LEN_RANGE:
        status = KR_INTEGRITY;
        break;
    default:
        break;
    }
    if (status == KR_INTEGRITY) {
        kr_fail(err, status,
                "the token refuses a wrapped key (%s: %s): it is damaged, or was "
                "wrapped by another master key",
                function, kr_ckr_name(rv));
        kr_hint(err, "restore the keystore from its backup, or connect the token it was made with");
        err->ckr = rv;
        err->ckr_name = kr_ckr_name(rv);
    }
    return status;
}

static enum kr_status gcm_unwrap(struct kr_session *s, CK_OBJECT_HANDLE master,
                                 const struct kr_object_id *id, const uint8_t *wrapped,
                                 size_t wrapped_len, uint8_t *ret_key, struct kr_error *err)
{
    KR_SECRET uint8_t *out = kr_secret_alloc(WRAP_BUFFER);
    CK_ULONG out_len = WRAP_BUFFER;
    struct gcm_params p;
    CK_RV rv;

    if (!out)
        return kr_fail_memory(err);
    if (wrapped_len != GCM_WRAPPED)
        return kr_fail(err, KR_INTEGRITY, "a wrapped key has %zu bytes instead of %d", wrapped_len,
                       GCM_WRAPPED);
    gcm_params_fill(&p, wrapped, id);
    rv = P11(s, C_DecryptInit, s->handle, &p.mechanism, master);
    if (rv != CKR_OK)
        return kr_ckr_fail(err, "C_DecryptInit (AES-GCM)", rv);
    rv = P11(s, C_Decrypt, s->handle, (uint8_t *)wrapped + GCM_IV, wrapped_len - GCM_IV, out,
             &out_len);
    if (rv != CKR_OK)
        return fail_unwrap("C_Decrypt (AES-GCM)", rv, err);
    if (out_len != KR_SEALING_KEY_BYTES)
        return fail_length("C_Decrypt (AES-GCM)", out_len, err);
    memcpy(ret_key, out, out_len);
    return KR_OK;
}

/* --- AES-KWP ------------------------------------------------------------------------------------
 */

static CK_MECHANISM kwp = {CKM_AES_KEY_WRAP_PAD, NULL, 0};

static enum kr_status make_session_key(struct kr_session *s, const uint8_t *key,
                                       CK_OBJECT_HANDLE *ret, struct kr_error *err)
{
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_KEY_TYPE type = CKK_AES;
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof(class)},
        {CKA_KEY_TYPE, &type, sizeof(type)},
        {CKA_TOKEN, &no, sizeof(no)},
        {CKA_PRIVATE, &no, sizeof(no)},
        {CKA_SENSITIVE, &no, sizeof(no)},
        {CKA_EXTRACTABLE, &yes, sizeof(yes)},
        {CKA_VALUE, (uint8_t *)key, KR_SEALING_KEY_BYTES},
    };
    CK_RV rv =
        P11(s, C_CreateObject, s->handle, template, sizeof(template) / sizeof(template[0]), ret);

    return rv == CKR_OK ? KR_OK : kr_ckr_fail(err, "C_CreateObject", rv);
}

static enum kr_status kwp_wrap(struct kr_session *s, CK_OBJECT_HANDLE master, const uint8_t *key,
                               uint8_t *ret_wrapped, size_t *ret_len, struct kr_error *err)
{
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    uint8_t out[WRAP_BUFFER];
    CK_ULONG out_len = sizeof(out);
    CK_RV rv;

    KR_TRY(make_session_key(s, key, &object, err));
    rv = P11(s, C_WrapKey, s->handle, &kwp, master, object, out, &out_len);
    P11(s, C_DestroyObject, s->handle, object);
    if (rv != CKR_OK)
        return kr_ckr_fail(err, "C_WrapKey (AES-KWP)", rv);
    if (out_len != KWP_WRAPPED)
        return fail_length("C_WrapKey (AES-KWP)", out_len, err);
    memcpy(ret_wrapped, out, out_len);
    *ret_len = out_len;
    return KR_OK;
}

/* Tokens disagree about what an unwrap template may say: from the fullest to the barest, and with
 * the length (Luna before firmware 7.9.3). */
static CK_RV unwrap_object(struct kr_session *s, CK_OBJECT_HANDLE master, const uint8_t *wrapped,
                           size_t wrapped_len, CK_OBJECT_HANDLE *ret)
{
    enum { STEPS = 3 };
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_KEY_TYPE type = CKK_AES;
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_ULONG len = KR_SEALING_KEY_BYTES;
    CK_ATTRIBUTE full[] = {{CKA_CLASS, &class, sizeof(class)},
                           {CKA_KEY_TYPE, &type, sizeof(type)},
                           {CKA_TOKEN, &no, sizeof(no)},
                           {CKA_SENSITIVE, &no, sizeof(no)},
                           {CKA_EXTRACTABLE, &yes, sizeof(yes)}};
    CK_ATTRIBUTE sized[] = {full[0], full[1], full[2], {CKA_VALUE_LEN, &len, sizeof(len)}};
    const struct {
        CK_ATTRIBUTE *template;
        CK_ULONG count;
    } ladder[STEPS] = {{full, 5}, {full, 3}, {sized, 4}};
    CK_RV rv = CKR_OK;

    for (unsigned i = 0; i < STEPS; i++) {
        rv = P11(s, C_UnwrapKey, s->handle, &kwp, master, (uint8_t *)wrapped, wrapped_len,
                 ladder[i].template, ladder[i].count, ret);
        if (rv != CKR_ATTRIBUTE_READ_ONLY && rv != CKR_TEMPLATE_INCONSISTENT &&
            rv != CKR_TEMPLATE_INCOMPLETE)
            break;
    }
    return rv;
}

static enum kr_status kwp_unwrap(struct kr_session *s, CK_OBJECT_HANDLE master,
                                 const uint8_t *wrapped, size_t wrapped_len, uint8_t *ret_key,
                                 struct kr_error *err)
{
    KR_SECRET uint8_t *out = kr_secret_alloc(KR_SEALING_KEY_BYTES);
    CK_ATTRIBUTE value = {CKA_VALUE, out, KR_SEALING_KEY_BYTES};
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    CK_RV rv;

    if (!out)
        return kr_fail_memory(err);
    if (wrapped_len != KWP_WRAPPED)
        return kr_fail(err, KR_INTEGRITY, "a wrapped key has %zu bytes instead of %d", wrapped_len,
                       KWP_WRAPPED);
    rv = unwrap_object(s, master, wrapped, wrapped_len, &object);
    if (rv != CKR_OK)
        return fail_unwrap("C_UnwrapKey (AES-KWP)", rv, err);
    rv = P11(s, C_GetAttributeValue, s->handle, object, &value, 1);
    P11(s, C_DestroyObject, s->handle, object);
    if (rv != CKR_OK)
        return kr_ckr_fail(err, "C_GetAttributeValue (unwrapped key)", rv);
    if (value.ulValueLen != KR_SEALING_KEY_BYTES)
        return kr_fail(err, KR_INTEGRITY, "an unwrapped key has %lu bytes instead of %d",
                       value.ulValueLen, KR_SEALING_KEY_BYTES);
    memcpy(ret_key, out, KR_SEALING_KEY_BYTES);
    return KR_OK;
}

/* --- either -------------------------------------------------------------------------------------
 */

static enum kr_status fail_mechanism(enum kr_wrap_mechanism mechanism, struct kr_error *err)
{
    return kr_fail(err, KR_USAGE, "there is no wrapping mechanism %d", (int)mechanism);
}

enum kr_status kr_wrap_with(struct kr_session *s, CK_OBJECT_HANDLE master,
                            const struct kr_object_id *id, enum kr_wrap_mechanism mechanism,
                            const uint8_t *key, uint8_t *ret_wrapped, size_t *ret_len,
                            struct kr_error *err)
{
    switch (mechanism) {
    case KR_WRAP_AES_GCM:
        return gcm_wrap(s, master, id, key, ret_wrapped, ret_len, err);
    case KR_WRAP_AES_KWP:
        return kwp_wrap(s, master, key, ret_wrapped, ret_len, err);
    default:
        return fail_mechanism(mechanism, err);
    }
}

enum kr_status kr_unwrap_with(struct kr_session *s, CK_OBJECT_HANDLE master,
                              const struct kr_object_id *id, enum kr_wrap_mechanism mechanism,
                              const uint8_t *wrapped, size_t wrapped_len, uint8_t *ret_key,
                              struct kr_error *err)
{
    switch (mechanism) {
    case KR_WRAP_AES_GCM:
        return gcm_unwrap(s, master, id, wrapped, wrapped_len, ret_key, err);
    case KR_WRAP_AES_KWP:
        return kwp_unwrap(s, master, wrapped, wrapped_len, ret_key, err);
    default:
        return fail_mechanism(mechanism, err);
    }
}

enum kr_status kr_prove_with(struct kr_session *s, CK_OBJECT_HANDLE master,
                             const struct kr_object_id *id, enum kr_wrap_mechanism mechanism,
                             struct kr_error *err)
{
    KR_SECRET uint8_t *keys = kr_secret_alloc(2 * KR_SEALING_KEY_BYTES);
    uint8_t *key = keys, *back, wrapped[KR_WRAPPED_MAX];
    struct kr_error refusal = KR_ERROR_INIT;
    size_t len = 0;

    if (!keys)
        return kr_fail_memory(err);
    back = keys + KR_SEALING_KEY_BYTES;
    KR_TRY(kr_session_random(s, key, KR_SEALING_KEY_BYTES, err));
    KR_TRY(kr_wrap_with(s, master, id, mechanism, key, wrapped, &len, err));
    KR_TRY(kr_unwrap_with(s, master, id, mechanism, wrapped, len, back, err));
    if (CRYPTO_memcmp(key, back, KR_SEALING_KEY_BYTES) != 0)
        return kr_fail(err, KR_REFUSED, "an unwrapped key differs from what was wrapped");
    wrapped[len - 1] ^= 1;
    if (kr_unwrap_with(s, master, id, mechanism, wrapped, len, back, &refusal) == KR_OK)
        return kr_fail(err, KR_REFUSED, "a damaged wrap was accepted");
    return KR_OK;
}

/* --- random -------------------------------------------------------------------------------------
 */

enum kr_status kr_session_random(struct kr_session *s, uint8_t *ret, size_t len,
                                 struct kr_error *err)
{
    KR_SECRET uint8_t *ours = kr_secret_alloc(len);
    CK_RV rv;

    if (!ours)
        return kr_fail_memory(err);
    if (RAND_priv_bytes(ours, (int)len) != 1)
        return kr_fail(err, KR_INTERNAL, "OpenSSL's random generator failed");
    memset(ret, 0, len);
    rv = P11(s, C_GenerateRandom, s->handle, ret, len);
    if (rv == CKR_RANDOM_NO_RNG || rv == CKR_FUNCTION_NOT_SUPPORTED)
        memset(ret, 0, len);
    else if (rv != CKR_OK)
        return kr_ckr_fail(err, "C_GenerateRandom", rv);
    for (size_t i = 0; i < len; i++)
        ret[i] ^= ours[i];
    return KR_OK;
}

static const char *const names[] = {
    [KR_WRAP_AUTO] = "auto",
    [KR_WRAP_AES_GCM] = "aes-gcm",
    [KR_WRAP_AES_KWP] = "aes-kwp",
};

const char *kr_wrap_mechanism_name(enum kr_wrap_mechanism mechanism)
{
    return (size_t)mechanism < sizeof(names) / sizeof(names[0]) ? names[mechanism] : NULL;
}

bool kr_wrap_mechanism_parse(const char *name, enum kr_wrap_mechanism *ret)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(names[i], name) == 0) {
            *ret = (enum kr_wrap_mechanism)i;
            return true;
        }
    }
    return false;
}
