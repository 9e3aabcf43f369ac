/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Token-resident keys: made, checked, and used for a server's block operations. */
#include "pkcs11/resident.h"

#include "pkcs11/ckr.h"
#include "pkcs11/import.h"
#include "pkcs11/token_internal.h"

#include <stdio.h>
#include <string.h>

enum { BLOCK = 16 };

static CK_MECHANISM_TYPE mechanism_type(enum kr_resident_mode mode)
{
    return mode == KR_RESIDENT_ECB ? CKM_AES_ECB : CKM_AES_CBC;
}

static enum kr_status run_generate(struct kr_session *s, void *data, struct kr_error *err)
{
    return kr_key_make(s, data, err);
}

enum kr_status kr_resident_generate(struct kr_token *token, const char *label,
                                    enum kr_resident_mode mode, struct kr_object_id *ret,
                                    struct kr_error *err)
{
    KR_JOB struct kr_job *job = kr_job_new(sizeof(struct kr_key_order), run_generate, NULL);
    struct kr_key_order *order;

    if (!job)
        return kr_fail_memory(err);
    order = (struct kr_key_order *)job->args;
    KR_TRY(kr_key_order_fill(order, KR_KIND_AES, label, err));
    order->usage = KR_KEY_CRYPTS;
    order->mechanism = mechanism_type(mode);
    KR_TRY(kr_token_run(token, KR_NEED_LOGIN, job, err));
    *ret = order->id;
    return KR_OK;
}

/* --- from outside ------------------------------------------------------------------------------
 */

/* An RSA key pair is made first. */
enum { TRANSPORT_MS = 120000 };

struct import_args {
    struct kr_key_order orders[KR_RESIDENT_IMPORTS_MAX];
    uint8_t values[KR_RESIDENT_IMPORTS_MAX][KR_SEALING_KEY_BYTES];
    size_t count;
    bool unwrapped;
};

static enum kr_status run_import(struct kr_session *s, void *data, struct kr_error *err)
{
    struct import_args *args = data;
    struct kr_transport transport = {.has_pair = false};
    enum kr_status status = KR_OK;

    for (size_t i = 0; i < args->count && status == KR_OK; i++) {
        args->orders[i].value = args->values[i];
        args->orders[i].transport = &transport;
        status = kr_key_make(s, &args->orders[i], err);
    }
    args->unwrapped = !transport.refused;
    kr_transport_end(s, &transport);
    return status;
}

enum kr_status kr_resident_import(struct kr_token *token, const struct kr_resident_import *imports,
                                  size_t count, bool *ret_unwrapped, struct kr_error *err)
{
    KR_JOB struct kr_job *job = kr_job_new(sizeof(struct import_args), run_import, NULL);
    struct import_args *args;

    if (!job)
        return kr_fail_memory(err);
    args = (struct import_args *)job->args;
    if (count > KR_RESIDENT_IMPORTS_MAX)
        return kr_fail(err, KR_USAGE, "%zu keys are too many at once", count);
    for (size_t i = 0; i < count; i++) {
        KR_TRY(kr_key_order_fill(&args->orders[i], KR_KIND_AES, imports[i].label, err));
        args->orders[i].id = imports[i].id;
        args->orders[i].usage = KR_KEY_CRYPTS;
        args->orders[i].mechanism = mechanism_type(imports[i].mode);
        memcpy(args->values[i], imports[i].key, sizeof(args->values[i]));
    }
    args->count = count;
    job->timeout_ms = TRANSPORT_MS;
    KR_TRY(kr_token_run(token, KR_NEED_LOGIN, job, err));
    if (ret_unwrapped)
        *ret_unwrapped = args->unwrapped;
    return KR_OK;
}

/* --- use ---------------------------------------------------------------------------------------
 */

static enum kr_status run_check(struct kr_session *s, void *data, struct kr_error *err)
{
    CK_OBJECT_HANDLE handle;

    return kr_imported_usable(s, data, &handle, err);
}

enum kr_status kr_resident_check(struct kr_token *token, const struct kr_object_id *id,
                                 bool imported, struct kr_error *err)
{
    KR_JOB struct kr_job *job = NULL;
    struct kr_master_info info;

    if (!imported)
        return kr_master_find(token, id, &info, err);
    job = kr_job_new(sizeof(*id), run_check, NULL);
    if (!job)
        return kr_fail_memory(err);
    memcpy(job->args, id, sizeof(*id));
    return kr_token_run(token, KR_NEED_LOGIN, job, err);
}

struct crypt_args {
    struct kr_object_id id;
    enum kr_resident_mode mode;
    bool encrypt, imported;
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

    KR_TRY(args->imported ? kr_imported_usable(s, &args->id, &key, err)
                          : kr_key_usable(s, &args->id, &key, NULL, err));
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
                                 const struct kr_resident_op *op, const uint8_t *in, size_t len,
                                 uint8_t *out, struct kr_error *err)
{
    KR_JOB struct kr_job *job = NULL;
    struct crypt_args *args;

    if (len == 0 || len > KR_RESIDENT_BYTES_MAX || len % BLOCK ||
        (op->mode == KR_RESIDENT_CBC) != !!op->iv)
        return kr_fail(err, KR_USAGE, "a block operation of %zu bytes is not done", len);
    job = kr_job_new(sizeof(*args), run_crypt, NULL);
    if (!job)
        return kr_fail_memory(err);
    job->patience_ms = op->patience_ms;
    args = (struct crypt_args *)job->args;
    args->id = *id;
    args->mode = op->mode;
    args->encrypt = op->encrypt;
    args->imported = op->imported;
    args->len = len;
    memcpy(args->in, in, len);
    if (op->iv)
        memcpy(args->iv, op->iv, sizeof(args->iv));
    KR_TRY(kr_token_run(token, KR_NEED_LOGIN, job, err));
    memcpy(out, args->out, len);
    kr_token_count_resident(token);
    return KR_OK;
}
