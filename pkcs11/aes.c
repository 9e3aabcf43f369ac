/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Wrapping by AES: AES-GCM (C_Encrypt; NIST SP 800-38D) and AES-KWP (C_WrapKey; RFC 5649).
 */
#include "pkcs11/wrapping.h"

#include "base/secret.h"
#include "pkcs11/ckr.h"

#include <string.h>

enum {
    GCM_IV = 12,
    GCM_TAG = 16,
    GCM_WRAPPED = GCM_IV + KR_SEALING_KEY_BYTES + GCM_TAG,
    KWP_WRAPPED = KR_SEALING_KEY_BYTES + 8
};

static CK_MECHANISM_TYPE or_standard(unsigned long vendors, CK_MECHANISM_TYPE standard)
{
    return vendors ? vendors : standard;
}

CK_MECHANISM_TYPE kr_gcm_code(const struct kr_session *s)
{
    return or_standard(s->quirks.aes_gcm_code, CKM_AES_GCM);
}

CK_MECHANISM_TYPE kr_kwp_code(const struct kr_session *s)
{
    return or_standard(s->quirks.aes_kwp_code, CKM_AES_KEY_WRAP_PAD);
}

/* --- AES-GCM ---------------------------------------------------------------------------------- */

static const char gcm_aad_prefix[] = "p11keyring wrap 1";

struct gcm_params {
    CK_GCM_PARAMS gcm;
    CK_MECHANISM mechanism;
    uint8_t iv[GCM_IV];
    uint8_t aad[sizeof(gcm_aad_prefix) + KR_OBJECT_ID_MAX];
};

/* The associated data binds a wrap to its purpose and to the id of its master key. */
static void gcm_params_fill(const struct kr_session *s, struct gcm_params *p, const uint8_t *iv,
                            const struct kr_object_id *id)
{
    const size_t prefix = sizeof(gcm_aad_prefix) - 1;

    memcpy(p->iv, iv, GCM_IV);
    memcpy(p->aad, gcm_aad_prefix, prefix);
    memcpy(p->aad + prefix, id->bytes, id->len);
    p->gcm = (CK_GCM_PARAMS){.pIv = p->iv,
                             .ulIvLen = GCM_IV,
                             .ulIvBits = 8UL * GCM_IV,
                             .pAAD = p->aad,
                             .ulAADLen = prefix + id->len,
                             .ulTagBits = 8UL * GCM_TAG};
    p->mechanism = (CK_MECHANISM){kr_gcm_code(s), &p->gcm, sizeof(p->gcm)};
}

enum kr_status kr_gcm_wrap(struct kr_session *s, CK_OBJECT_HANDLE master,
                           const struct kr_object_id *id, const uint8_t *key, uint8_t *ret_wrapped,
                           size_t *ret_len, struct kr_error *err)
{
    static const uint8_t zeros[GCM_IV];
    uint8_t iv[GCM_IV] = {0}, out[KR_WRAP_BUFFER];
    CK_ULONG out_len = sizeof(out);
    struct gcm_params p;
    CK_RV rv;

    if (!s->quirks.iv_by_token)
        KR_TRY(kr_session_random(s, iv, sizeof(iv), err));
    gcm_params_fill(s, &p, iv, id);
    rv = P11(s, C_EncryptInit, s->handle, &p.mechanism, master);
    if (rv != CKR_OK)
        return kr_ckr_fail(err, "C_EncryptInit (AES-GCM)", rv);
    rv = P11(s, C_Encrypt, s->handle, (uint8_t *)key, KR_SEALING_KEY_BYTES, out, &out_len);
    if (rv != CKR_OK)
        return kr_ckr_fail(err, "C_Encrypt (AES-GCM)", rv);
    if (out_len != GCM_WRAPPED - GCM_IV)
        return kr_fail_format("C_Encrypt (AES-GCM)", out_len, err);
    /* Taken after the call: some tokens choose the IV themselves and put it there. */
    if (memcmp(p.iv, zeros, GCM_IV) == 0) {
        kr_fail(err, KR_REFUSED, "the token made no IV for AES-GCM");
        kr_hint(err, "it may be one that takes the caller's: option iv-by-token = no");
        return KR_REFUSED;
    }
    memcpy(ret_wrapped, p.iv, GCM_IV);
    memcpy(ret_wrapped + GCM_IV, out, out_len);
    *ret_len = GCM_WRAPPED;
    return KR_OK;
}

enum kr_status kr_gcm_unwrap(struct kr_session *s, CK_OBJECT_HANDLE master,
                             const struct kr_object_id *id, const uint8_t *wrapped,
                             size_t wrapped_len, uint8_t *ret_key, struct kr_error *err)
{
    KR_SECRET uint8_t *out = kr_secret_alloc(KR_WRAP_BUFFER);
    CK_ULONG out_len = KR_WRAP_BUFFER;
    struct gcm_params p;
    CK_RV rv;

    if (!out)
        return kr_fail_secret(err);
    if (wrapped_len != GCM_WRAPPED)
        return kr_fail_wrapped_length(wrapped_len, GCM_WRAPPED, err);
    gcm_params_fill(s, &p, wrapped, id);
    rv = P11(s, C_DecryptInit, s->handle, &p.mechanism, master);
    if (rv != CKR_OK)
        return kr_ckr_fail(err, "C_DecryptInit (AES-GCM)", rv);
    rv = P11(s, C_Decrypt, s->handle, (uint8_t *)wrapped + GCM_IV, wrapped_len - GCM_IV, out,
             &out_len);
    if (rv != CKR_OK)
        return kr_fail_unwrap("C_Decrypt (AES-GCM)", rv, err);
    if (out_len != KR_SEALING_KEY_BYTES)
        return kr_fail_format("C_Decrypt (AES-GCM)", out_len, err);
    memcpy(ret_key, out, out_len);
    return KR_OK;
}

/* --- AES-KWP ---------------------------------------------------------------------------------- */

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

enum kr_status kr_kwp_wrap(struct kr_session *s, CK_OBJECT_HANDLE master, const uint8_t *key,
                           uint8_t *ret_wrapped, size_t *ret_len, struct kr_error *err)
{
    CK_MECHANISM kwp = {kr_kwp_code(s), NULL, 0};
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    uint8_t out[KR_WRAP_BUFFER];
    CK_ULONG out_len = sizeof(out);
    CK_RV rv;

    KR_TRY(make_session_key(s, key, &object, err));
    rv = P11(s, C_WrapKey, s->handle, &kwp, master, object, out, &out_len);
    P11(s, C_DestroyObject, s->handle, object);
    if (rv != CKR_OK)
        return kr_ckr_fail(err, "C_WrapKey (AES-KWP)", rv);
    if (out_len != KWP_WRAPPED)
        return kr_fail_format("C_WrapKey (AES-KWP)", out_len, err);
    memcpy(ret_wrapped, out, out_len);
    *ret_len = out_len;
    return KR_OK;
}

/* Tokens disagree about what an unwrap template may say: from the fullest to the barest, each also
 * with the length (Luna before firmware 7.9.3). */
static CK_RV unwrap_object(struct kr_session *s, CK_OBJECT_HANDLE master, const uint8_t *wrapped,
                           size_t wrapped_len, CK_OBJECT_HANDLE *ret)
{
    enum { STEPS = 4 };
    CK_MECHANISM kwp = {kr_kwp_code(s), NULL, 0};
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_KEY_TYPE type = CKK_AES;
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_ULONG len = KR_SEALING_KEY_BYTES;
    CK_ATTRIBUTE full[] = {
        {CKA_CLASS, &class, sizeof(class)},   {CKA_KEY_TYPE, &type, sizeof(type)},
        {CKA_TOKEN, &no, sizeof(no)},         {CKA_SENSITIVE, &no, sizeof(no)},
        {CKA_EXTRACTABLE, &yes, sizeof(yes)}, {CKA_VALUE_LEN, &len, sizeof(len)}};
    CK_ATTRIBUTE bare[] = {full[0], full[1], full[2], full[5]};
    const struct {
        CK_ATTRIBUTE *template;
        CK_ULONG count;
    } ladder[STEPS] = {{full, 5}, {full, 6}, {bare, 3}, {bare, 4}};
    const unsigned last = s->unwrap_template;
    CK_RV rv = CKR_OK;

    for (unsigned i = 0; i < STEPS; i++) {
        const unsigned step = i == 0 ? last : i - (i <= last); /* the last one first */

        rv = P11(s, C_UnwrapKey, s->handle, &kwp, master, (uint8_t *)wrapped, wrapped_len,
                 ladder[step].template, ladder[step].count, ret);
        if (rv == CKR_OK)
            s->unwrap_template = step;
        if (!kr_template_refused(rv))
            break;
    }
    return rv;
}

enum kr_status kr_kwp_unwrap(struct kr_session *s, CK_OBJECT_HANDLE master, const uint8_t *wrapped,
                             size_t wrapped_len, uint8_t *ret_key, struct kr_error *err)
{
    KR_SECRET uint8_t *out = kr_secret_alloc(KR_SEALING_KEY_BYTES);
    CK_ATTRIBUTE value = {CKA_VALUE, out, KR_SEALING_KEY_BYTES};
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    CK_RV rv;

    if (!out)
        return kr_fail_secret(err);
    if (wrapped_len != KWP_WRAPPED)
        return kr_fail_wrapped_length(wrapped_len, KWP_WRAPPED, err);
    rv = unwrap_object(s, master, wrapped, wrapped_len, &object);
    if (rv != CKR_OK)
        return kr_fail_unwrap("C_UnwrapKey (AES-KWP)", rv, err);
    rv = P11(s, C_GetAttributeValue, s->handle, object, &value, 1);
    P11(s, C_DestroyObject, s->handle, object);
    if (rv != CKR_OK) {
        s->unwrap_template = 0; /* taken, and of no use */
        return kr_ckr_fail(err, "C_GetAttributeValue (unwrapped key)", rv);
    }
    if (value.ulValueLen != KR_SEALING_KEY_BYTES)
        return kr_fail(err, KR_INTEGRITY, "an unwrapped key has %lu bytes instead of %d",
                       value.ulValueLen, KR_SEALING_KEY_BYTES);
    memcpy(ret_key, out, KR_SEALING_KEY_BYTES);
    return KR_OK;
}
