/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Generating AES keys in the token. */
#include "pkcs11/session.h"

#include "pkcs11/ckr.h"

#include <openssl/rand.h>

#include <string.h>

/* A version 4 UUID (RFC 4122). */
static enum kr_status new_id(struct kr_object_id *ret, struct kr_error *err)
{
    struct kr_object_id id = {.len = 16};

    if (RAND_bytes(id.bytes, 16) != 1)
        return kr_fail(err, KR_INTERNAL, "OpenSSL's random generator failed");
    id.bytes[6] = (uint8_t)((id.bytes[6] & 0x0f) | 0x40);
    id.bytes[8] = (uint8_t)((id.bytes[8] & 0x3f) | 0x80);
    *ret = id;
    return KR_OK;
}

/* One usage pair only: a key with WRAP (by CBC, say) and DECRYPT would reveal other keys of the
 * token. The list of allowed mechanisms says the same once more, where the token knows it. */
static CK_RV generate(struct kr_session *s, const struct kr_object_id *id, const char *label,
                      enum kr_key_usage usage, CK_MECHANISM_TYPE mechanism, CK_OBJECT_HANDLE *ret)
{
    CK_MECHANISM generate = {CKM_AES_KEY_GEN, NULL, 0};
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE, crypt = usage == KR_KEY_CRYPTS, wrap = !crypt;
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_KEY_TYPE type = CKK_AES;
    CK_ULONG len = 32;
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof(class)},
        {CKA_KEY_TYPE, &type, sizeof(type)},
        {CKA_VALUE_LEN, &len, sizeof(len)},
        {CKA_TOKEN, &yes, sizeof(yes)},
        {CKA_PRIVATE, &yes, sizeof(yes)},
        {CKA_SENSITIVE, &yes, sizeof(yes)},
        {CKA_EXTRACTABLE, &no, sizeof(no)},
        {CKA_ENCRYPT, &crypt, sizeof(crypt)},
        {CKA_DECRYPT, &crypt, sizeof(crypt)},
        {CKA_WRAP, &wrap, sizeof(wrap)},
        {CKA_UNWRAP, &wrap, sizeof(wrap)},
        {CKA_SIGN, &no, sizeof(no)},
        {CKA_VERIFY, &no, sizeof(no)},
        {CKA_DERIVE, &no, sizeof(no)},
        {CKA_ID, (void *)id->bytes, id->len},
        {CKA_LABEL, (void *)label, strlen(label)},
        {CKA_ALLOWED_MECHANISMS, &mechanism, sizeof(mechanism)},
    };
    CK_ULONG count = sizeof(template) / sizeof(template[0]);
    CK_RV rv = P11(s, C_GenerateKey, s->handle, &generate, template, count, ret);

    if (rv == CKR_ATTRIBUTE_TYPE_INVALID || rv == CKR_ATTRIBUTE_VALUE_INVALID ||
        rv == CKR_TEMPLATE_INCONSISTENT)
        rv = P11(s, C_GenerateKey, s->handle, &generate, template, count - 1, ret);
    return rv;
}

enum kr_status kr_key_generate(struct kr_session *s, const char *label, enum kr_key_usage usage,
                               CK_MECHANISM_TYPE mechanism, struct kr_object_id *ret_id,
                               CK_OBJECT_HANDLE *ret, struct kr_error *err)
{
    CK_OBJECT_HANDLE handle = CK_INVALID_HANDLE;
    struct kr_object_id id;
    CK_RV rv;

    KR_TRY(new_id(&id, err));
    rv = generate(s, &id, label, usage, mechanism, &handle);
    if (rv != CKR_OK)
        return kr_ckr_fail(err, "C_GenerateKey", rv);
    kr_keys_forget(s);
    *ret_id = id;
    *ret = handle;
    return KR_OK;
}

enum kr_status kr_key_check_new(struct kr_session *s, CK_OBJECT_HANDLE handle,
                                const struct kr_object_id *id, struct kr_master_info *ret,
                                struct kr_error *err)
{
    const struct kr_key_entry key = {.handle = handle, .id = *id, .is_aes = true};

    KR_TRY(kr_key_read(s, &key, ret, err));
    return kr_key_accept(ret, err);
}
