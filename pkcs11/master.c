/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Master keys: listed, found, destroyed, and used for wrapping. */
#include "base/secret.h"
#include "pkcs11/ckr.h"
#include "pkcs11/token_internal.h"
#include "pkcs11/uri.h"
#include "pkcs11/wrapping.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool kr_object_id_equal(const struct kr_object_id *a, const struct kr_object_id *b)
{
    return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

/* --- list and find ---------------------------------------------------------------------------- */

struct list_args {
    struct kr_master_info *list;
    size_t count;
};

static void clear_list(void *data)
{
    free(((struct list_args *)data)->list);
}

/* RSA keys of other programs, for TLS say, are none of ours. */
static bool is_of_interest(const struct kr_master_info *info)
{
    return info->kind == KR_KIND_AES || !info->problem ||
           strncmp(info->label, "p11keyring:", 11) == 0;
}

static enum kr_status run_list(struct kr_session *s, void *data, struct kr_error *err)
{
    struct list_args *args = data;

    clear_list(args);
    args->list = NULL;
    args->count = 0;
    KR_TRY(kr_keys_load(s, err));
    args->list = calloc(s->keys->count + 1, sizeof(*args->list));
    if (!args->list)
        return kr_fail_memory(err);
    for (size_t i = 0; i < s->keys->count; i++) {
        if (s->keys->entries[i].kind == KR_KIND_OTHER)
            continue;
        KR_TRY(kr_key_read(s, &s->keys->entries[i], &args->list[args->count], err));
        args->count += is_of_interest(&args->list[args->count]);
    }
    return KR_OK;
}

enum kr_status kr_master_list(struct kr_token *token, struct kr_master_info **ret,
                              size_t *ret_count, struct kr_error *err)
{
    KR_JOB struct kr_job *job = kr_job_new(sizeof(struct list_args), run_list, clear_list);
    struct list_args *args;

    if (!job)
        return kr_fail_memory(err);
    args = (struct list_args *)job->args;
    KR_TRY(kr_token_run(token, KR_NEED_LOGIN, job, err));
    *ret = args->list;
    *ret_count = args->count;
    args->list = NULL;
    return KR_OK;
}

struct find_args {
    struct kr_object_id id;
    struct kr_master_info info;
    char uri[];
};

static enum kr_status run_find(struct kr_session *s, void *data, struct kr_error *err)
{
    struct find_args *args = data;
    CK_OBJECT_HANDLE handle;

    return kr_key_usable(s, &args->id, &handle, &args->info, err);
}

enum kr_status kr_master_find(struct kr_token *token, const struct kr_object_id *id,
                              struct kr_master_info *ret, struct kr_error *err)
{
    KR_JOB struct kr_job *job = kr_job_new(sizeof(struct find_args), run_find, NULL);
    struct find_args *args;

    if (!job)
        return kr_fail_memory(err);
    args = (struct find_args *)job->args;
    args->id = *id;
    KR_TRY(kr_token_run(token, KR_NEED_LOGIN, job, err));
    *ret = args->info;
    return KR_OK;
}

static bool matches_uri(P11KitUri *uri, const struct kr_master_info *info)
{
    CK_OBJECT_CLASS class = info->kind == KR_KIND_RSA ? CKO_PRIVATE_KEY : CKO_SECRET_KEY;
    CK_ATTRIBUTE attrs[] = {
        {CKA_CLASS, &class, sizeof(class)},
        {CKA_ID, (void *)info->id.bytes, info->id.len},
        {CKA_LABEL, (void *)info->label, strlen(info->label)},
    };

    return p11_kit_uri_match_attributes(uri, attrs, 3);
}

static enum kr_status find_match(struct kr_session *s, P11KitUri *uri, struct find_args *args,
                                 struct kr_error *err)
{
    size_t matches = 0;

    KR_TRY(kr_keys_load(s, err));
    for (size_t i = 0; i < s->keys->count; i++) {
        struct kr_master_info info;

        KR_TRY(kr_key_read(s, &s->keys->entries[i], &info, err));
        if (matches_uri(uri, &info) && matches++ == 0)
            args->info = info;
    }
    if (matches == 0) {
        kr_fail(err, KR_NOT_FOUND, "no key on the token matches %s", args->uri);
        kr_hint(err, "see the keys it has: p11keyring master list (a binary id is written "
                     "%%01%%ab in a URI)");
        return KR_NOT_FOUND;
    }
    if (matches > 1) {
        kr_fail(err, KR_REFUSED, "%zu keys on the token match %s", matches, args->uri);
        kr_hint(err, "name the key by its id: id=%%01%%ab...");
        return KR_REFUSED;
    }
    return kr_key_accept(&args->info, err);
}

static enum kr_status run_find_uri(struct kr_session *s, void *data, struct kr_error *err)
{
    struct find_args *args = data;
    struct kr_key_entry *only;
    CK_TOKEN_INFO token;
    KR_URI P11KitUri *uri = NULL;

    KR_TRY(kr_uri_parse(args->uri, P11_KIT_URI_FOR_OBJECT_ON_TOKEN, &uri, err));
    if (!p11_kit_uri_get_attribute(uri, CKA_ID) && !p11_kit_uri_get_attribute(uri, CKA_LABEL)) {
        kr_fail(err, KR_USAGE, "the URI %s names no key", args->uri);
        kr_hint(err, "add id=... or object=... to it");
        return KR_USAGE;
    }
    KR_TRY(kr_session_token_info(s, &token, err));
    if (!p11_kit_uri_match_token_info(uri, &token))
        return kr_fail(err, KR_NOT_FOUND, "the URI %s is of another token than %s", args->uri,
                       s->uri);
    KR_TRY(find_match(s, uri, args, err));
    return kr_keys_find(s, &args->info.id, &only, err);
}

enum kr_status kr_master_find_uri(struct kr_token *token, const char *uri,
                                  struct kr_master_info *ret, struct kr_error *err)
{
    size_t len = strlen(uri) + 1;
    KR_JOB struct kr_job *job = kr_job_new(sizeof(struct find_args) + len, run_find_uri, NULL);
    struct find_args *args;

    if (!job)
        return kr_fail_memory(err);
    args = (struct find_args *)job->args;
    memcpy(args->uri, uri, len);
    KR_TRY(kr_token_run(token, KR_NEED_LOGIN, job, err));
    *ret = args->info;
    return KR_OK;
}

/* --- destroy ---------------------------------------------------------------------------------- */

static enum kr_status run_destroy(struct kr_session *s, void *data, struct kr_error *err)
{
    const struct kr_object_id *id = data;
    struct kr_key_entry *key;
    CK_RV rv;

    KR_TRY(kr_keys_find(s, id, &key, err));
    rv = kr_key_destroy(s, key->handle, key->kind, id);
    return rv == CKR_OK ? KR_OK : kr_ckr_fail(err, "C_DestroyObject", rv);
}

enum kr_status kr_master_destroy(struct kr_token *token, const struct kr_object_id *id,
                                 struct kr_error *err)
{
    KR_JOB struct kr_job *job = kr_job_new(sizeof(*id), run_destroy, NULL);

    if (!job)
        return kr_fail_memory(err);
    memcpy(job->args, id, sizeof(*id));
    return kr_token_run(token, KR_NEED_LOGIN, job, err);
}

/* --- use -------------------------------------------------------------------------------------- */

struct use_args {
    struct kr_object_id id;
    enum kr_wrap_mechanism mechanism;
    uint8_t wrapped[KR_WRAPPED_MAX];
    size_t wrapped_len;
    uint8_t key[KR_SEALING_KEY_BYTES];
    bool doubted; /* see kr_unwrap_with() */
};

static struct kr_job *use_job(const struct kr_object_id *id, enum kr_wrap_mechanism mechanism,
                              kr_job_run run)
{
    struct kr_job *job = kr_job_new(sizeof(struct use_args), run, NULL);
    struct use_args *args;

    if (!job)
        return NULL;
    args = (struct use_args *)job->args;
    args->id = *id;
    args->mechanism = mechanism;
    return job;
}

static enum kr_status run_wrap(struct kr_session *s, void *data, struct kr_error *err)
{
    struct use_args *args = data;
    CK_OBJECT_HANDLE master;

    KR_TRY(kr_key_usable(s, &args->id, &master, NULL, err));
    return kr_wrap_with(s, master, &args->id, args->mechanism, args->key, args->wrapped,
                        &args->wrapped_len, err);
}

enum kr_status kr_master_wrap(struct kr_token *token, const struct kr_object_id *id,
                              enum kr_wrap_mechanism mechanism,
                              const uint8_t sealing_key[KR_SEALING_KEY_BYTES], uint8_t *ret_wrapped,
                              size_t *ret_len, struct kr_error *err)
{
    KR_JOB struct kr_job *job = use_job(id, mechanism, run_wrap);
    struct use_args *args;

    if (!job)
        return kr_fail_memory(err);
    args = (struct use_args *)job->args;
    memcpy(args->key, sealing_key, sizeof(args->key));
    KR_TRY(kr_token_run(token, KR_NEED_LOGIN, job, err));
    memcpy(ret_wrapped, args->wrapped, args->wrapped_len);
    *ret_len = args->wrapped_len;
    kr_token_count_wrap(token);
    return KR_OK;
}

static enum kr_status run_unwrap(struct kr_session *s, void *data, struct kr_error *err)
{
    struct use_args *args = data;
    CK_OBJECT_HANDLE master;

    KR_TRY(kr_key_usable(s, &args->id, &master, NULL, err));
    return kr_unwrap_with(s, master, &args->id, args->mechanism, args->wrapped, args->wrapped_len,
                          args->key, &args->doubted, err);
}

enum kr_status kr_master_unwrap(struct kr_token *token, const struct kr_object_id *id,
                                enum kr_wrap_mechanism mechanism, const uint8_t *wrapped,
                                size_t wrapped_len, uint8_t ret_sealing_key[KR_SEALING_KEY_BYTES],
                                struct kr_error *err)
{
    KR_JOB struct kr_job *job = use_job(id, mechanism, run_unwrap);
    struct use_args *args;

    if (!job)
        return kr_fail_memory(err);
    args = (struct use_args *)job->args;
    if (wrapped_len > sizeof(args->wrapped))
        return kr_fail(err, KR_INTEGRITY,
                       "a wrapped key has %zu bytes, more than any mechanism "
                       "makes",
                       wrapped_len);
    memcpy(args->wrapped, wrapped, wrapped_len);
    args->wrapped_len = wrapped_len;
    KR_TRY(kr_token_run(token, KR_NEED_LOGIN, job, err));
    memcpy(ret_sealing_key, args->key, sizeof(args->key));
    kr_token_count_unwrap(token);
    return KR_OK;
}
