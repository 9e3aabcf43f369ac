/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Attempts to get a session key out of the token. */
#include "pkcs11/custody.h"

#include "pkcs11/ckr.h"
#include "pkcs11/token_internal.h"
#include "pkcs11/wrapping.h"

#include <string.h>

static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;

/* Sensitive, and not extractable; for wrapping other keys, or not. */
static CK_RV make_key(struct kr_session *s, bool wraps, CK_OBJECT_HANDLE *ret)
{
    CK_MECHANISM generate = {CKM_AES_KEY_GEN, NULL, 0};
    CK_BBOOL wrap = wraps, crypt = !wraps;
    CK_ULONG len = 32;
    CK_ATTRIBUTE template[] = {
        {CKA_VALUE_LEN, &len, sizeof(len)},   {CKA_TOKEN, &no, sizeof(no)},
        {CKA_PRIVATE, &yes, sizeof(yes)},     {CKA_SENSITIVE, &yes, sizeof(yes)},
        {CKA_EXTRACTABLE, &no, sizeof(no)},   {CKA_WRAP, &wrap, sizeof(wrap)},
        {CKA_ENCRYPT, &crypt, sizeof(crypt)}, {CKA_DECRYPT, &crypt, sizeof(crypt)},
    };

    return P11(s, C_GenerateKey, s->handle, &generate, template,
               sizeof(template) / sizeof(template[0]), ret);
}

/* Some modules say that they have done it and have not. */
static bool is_extractable(struct kr_session *s, CK_OBJECT_HANDLE key)
{
    CK_BBOOL flag = CK_FALSE;
    CK_ATTRIBUTE attr = {CKA_EXTRACTABLE, &flag, sizeof(flag)};

    return P11(s, C_GetAttributeValue, s->handle, key, &attr, 1) == CKR_OK && flag;
}

static bool is_copied(struct kr_session *s, CK_OBJECT_HANDLE key)
{
    CK_ATTRIBUTE template[] = {{CKA_TOKEN, &no, sizeof(no)}, {CKA_EXTRACTABLE, &yes, sizeof(yes)}};
    CK_OBJECT_HANDLE copy;
    bool leaked;

    if (P11(s, C_CopyObject, s->handle, key, template, 2, &copy) != CKR_OK)
        return false;
    leaked = is_extractable(s, copy);
    P11(s, C_DestroyObject, s->handle, copy);
    return leaked;
}

/* What comes out is under a key of the token; whoever brings a key of their own could read it. */
static bool is_wrapped(struct kr_session *s, CK_OBJECT_HANDLE key)
{
    CK_BYTE iv[16] = {0}, out[KR_WRAP_BUFFER];
    CK_MECHANISM ways[] = {
        {CKM_AES_KEY_WRAP, NULL, 0}, {kr_kwp_code(s), NULL, 0}, {CKM_AES_CBC_PAD, iv, sizeof(iv)}};
    CK_OBJECT_HANDLE wrapper;
    bool leaked = false;

    if (make_key(s, true, &wrapper) != CKR_OK)
        return false;
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]) && !leaked; i++) {
        CK_ULONG len = sizeof(out);

        leaked = P11(s, C_WrapKey, s->handle, &ways[i], wrapper, key, out, &len) == CKR_OK;
    }
    P11(s, C_DestroyObject, s->handle, wrapper);
    return leaked;
}

static bool is_changed(struct kr_session *s, CK_OBJECT_HANDLE key)
{
    CK_ATTRIBUTE attr = {CKA_EXTRACTABLE, &yes, sizeof(yes)};

    return P11(s, C_SetAttributeValue, s->handle, key, &attr, 1) == CKR_OK &&
           is_extractable(s, key);
}

/* Changing it comes last, for it would let the others succeed. */
static enum kr_status run_check(struct kr_session *s, void *data, struct kr_error *err)
{
    struct kr_custody *custody = data;
    CK_OBJECT_HANDLE key;
    CK_RV rv = make_key(s, false, &key);

    if (rv != CKR_OK && kr_ckr_fail(err, "C_GenerateKey (session key)", rv) != KR_REFUSED)
        return err->status;
    custody->known = rv == CKR_OK;
    if (!custody->known)
        return KR_OK;
    custody->leak = is_copied(s, key)    ? "copied as an extractable one"
                    : is_wrapped(s, key) ? "wrapped out"
                    : is_changed(s, key) ? "made extractable"
                                         : NULL;
    P11(s, C_DestroyObject, s->handle, key);
    return custody->leak ? KR_OK : kr_session_alive(s, err); /* else nothing was refused */
}

enum kr_status kr_custody_check(struct kr_token *token, struct kr_custody *ret,
                                struct kr_error *err)
{
    KR_JOB struct kr_job *job = kr_job_new(sizeof(*ret), run_check, NULL);

    if (!job)
        return kr_fail_memory(err);
    KR_TRY(kr_token_run(token, KR_NEED_LOGIN, job, err));
    memcpy(ret, job->args, sizeof(*ret));
    return KR_OK;
}
