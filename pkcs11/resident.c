/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Token-resident keys: made, checked, and used for a server's block operations. */
#include "pkcs11/resident.h"

#include "pkcs11/ckr.h"
#include "pkcs11/token_internal.h"

#include <stdio.h>
#include <string.h>

enum { BLOCK = 16 };

static CK_MECHANISM_TYPE mechanism_type(enum kr_resident_mode mode)
{
    return mode == KR_RESIDENT_ECB ? CKM_AES_ECB : CKM_AES_CBC;
}

struct generate_args {
    char label[sizeof(((struct kr_master_info *)0)->label)];
    enum kr_resident_mode mode;
    bool made; /* a second run would leave a key behind */
    struct kr_object_id id;
};

static enum kr_status run_generate(struct kr_session *s, void *data, struct kr_error *err)
{
    struct generate_args *args = data;
    CK_OBJECT_HANDLE handle = CK_INVALID_HANDLE;
    struct kr_master_info info;
    enum kr_status status;

    if (args->made) {
        kr_fail(err, KR_TOKEN_UNAVAILABLE, "the token was lost while it made the key '%s'",
                args->label);
        kr_hint(err, "'p11keyring master list' shows a key that was left behind; try again");
        return KR_TOKEN_UNAVAILABLE;
    }
    KR_TRY(kr_key_generate(s, args->label, KR_KEY_CRYPTS, mechanism_type(args->mode), &args->id,
                           &handle, err));
    args->made = true;
    status = kr_key_check_new(s, handle, KR_KIND_AES, &args->id, &info, err);
    if (status != KR_OK && kr_key_destroy(s, handle, KR_KIND_AES, &args->id) == CKR_OK)
        args->made = false;
    return status;
}

enum kr_status kr_resident_generate(struct kr_token *token, const char *label,
                                    enum kr_resident_mode mode, struct kr_object_id *ret,
                                    struct kr_error *err)
{
    KR_JOB struct kr_job *job = kr_job_new(sizeof(struct generate_args), run_generate, NULL);
    struct generate_args *args;

    if (!job)
        return kr_fail_memory(err);
    args = (struct generate_args *)job->args;
    snprintf(args->label, sizeof(args->label), "%s", label);
    args->mode = mode;
    KR_TRY(kr_token_run(token, KR_NEED_LOGIN, job, err));
    *ret = args->id;
    return KR_OK;
}

enum kr_status kr_resident_check(struct kr_token *token, const struct kr_object_id *id,
                                 struct kr_error *err)
{
    struct kr_master_info info;

    return kr_master_find(token, id, &info, err);
}

struct crypt_args {
    struct kr_object_id id;
    enum kr_resident_mode mode;
    bool encrypt;
    uint8_t iv[BLOCK];
    size_t len;
    uint8_t in[KR_RESIDENT_BYTES_MAX], out[KR_RESIDENT_BYTES_MAX];
};

static CK_RV crypt_block(struct kr_session *s, CK_OBJECT_HANDLE key, struct crypt_args *args,
                         CK_ULONG *ret_len)
{
    CK_MECHANISM mechanism = {mechanism_type(args->mode), NULL, 0};
    CK_RV rv;

    if (args->mode == KR_RESIDENT_CBC) {
        mechanism.pParameter = args->iv;
        mechanism.ulParameterLen = sizeof(args->iv);
    }
    if (args->encrypt) {
        rv = P11(s, C_EncryptInit, s->handle, &mechanism, key);
        return rv != CKR_OK ? rv
                            : P11(s, C_Encrypt, s->handle, args->in, args->len, args->out, ret_len);
    }
    rv = P11(s, C_DecryptInit, s->handle, &mechanism, key);
    return rv != CKR_OK ? rv
                        : P11(s, C_Decrypt, s->handle, args->in, args->len, args->out, ret_len);
}

static enum kr_status run_crypt(struct kr_session *s, void *data, struct kr_error *err)
{
    struct crypt_args *args = data;
    CK_OBJECT_HANDLE key;
    CK_ULONG len = sizeof(args->out);
    CK_RV rv;

    KR_TRY(kr_key_usable(s, &args->id, &key, NULL, err));
    rv = crypt_block(s, key, args, &len);
    if (rv != CKR_OK)
        return kr_ckr_fail(
            err, args->mode == KR_RESIDENT_ECB ? "AES-ECB in the token" : "AES-CBC in the token",
            rv);
    if (len != args->len)
        return kr_fail(err, KR_INTEGRITY, "the token gave %lu bytes for %zu", len, args->len);
    return KR_OK;
}

enum kr_status kr_resident_crypt(struct kr_token *token, const struct kr_object_id *id,
                                 enum kr_resident_mode mode, bool encrypt, const uint8_t *iv,
                                 const uint8_t *in, size_t len, uint8_t *out, struct kr_error *err)
{
    KR_JOB struct kr_job *job = NULL;
    struct crypt_args *args;

    if (len == 0 || len > KR_RESIDENT_BYTES_MAX || len % BLOCK || (mode == KR_RESIDENT_CBC) != !!iv)
        return kr_fail(err, KR_USAGE, "a block operation of %zu bytes is not done", len);
    job = kr_job_new(sizeof(*args), run_crypt, NULL);
    if (!job)
        return kr_fail_memory(err);
    args = (struct crypt_args *)job->args;
    args->id = *id;
    args->mode = mode;
    args->encrypt = encrypt;
    args->len = len;
    memcpy(args->in, in, len);
    if (iv)
        memcpy(args->iv, iv, sizeof(args->iv));
    KR_TRY(kr_token_run(token, KR_NEED_LOGIN, job, err));
    memcpy(out, args->out, len);
    kr_token_count_resident(token);
    return KR_OK;
}
