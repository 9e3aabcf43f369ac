/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Anchors: a few bytes in a private data object of the token. */
#include "pkcs11/anchor.h"

#include "pkcs11/ckr.h"
#include "pkcs11/token_internal.h"

#include <stdlib.h>
#include <string.h>

enum { LABEL_MAX = 128 };

struct anchor_args {
    char label[LABEL_MAX];
    kr_anchor_order better;
    uint8_t value[KR_ANCHOR_MAX]; /* to be written */
    size_t len;
    uint8_t best[KR_ANCHOR_MAX]; /* that the token has */
    size_t best_len;             /* 0: none */
};

static enum kr_status anchor_job(const char *label, kr_anchor_order better, kr_job_run run,
                                 struct kr_job **ret, struct kr_error *err)
{
    struct kr_job *job;

    if (strlen(label) >= LABEL_MAX)
        return kr_fail(err, KR_USAGE, "an anchor's label has at most %d bytes", LABEL_MAX - 1);
    job = kr_job_new(sizeof(struct anchor_args), run, NULL);
    if (!job)
        return kr_fail_memory(err);
    strcpy(((struct anchor_args *)job->args)->label, label);
    ((struct anchor_args *)job->args)->better = better;
    *ret = job;
    return KR_OK;
}

/* What all objects of an anchor have, and the value last, which a search leaves out. */
struct template
{
    CK_OBJECT_CLASS class;
    CK_BBOOL yes;
    CK_ATTRIBUTE attrs[6];
};

enum { SEARCHED = 5, WHOLE = 6 };

/* A public object with this label is no anchor: it can be made without a PIN. */
static void fill_template(struct template *t, struct anchor_args *args)
{
    static char application[] = "p11keyring";

    t->class = CKO_DATA;
    t->yes = CK_TRUE;
    t->attrs[0] = (CK_ATTRIBUTE){CKA_CLASS, &t->class, sizeof(t->class)};
    t->attrs[1] = (CK_ATTRIBUTE){CKA_TOKEN, &t->yes, sizeof(t->yes)};
    t->attrs[2] = (CK_ATTRIBUTE){CKA_PRIVATE, &t->yes, sizeof(t->yes)};
    t->attrs[3] = (CK_ATTRIBUTE){CKA_APPLICATION, application, sizeof(application) - 1};
    t->attrs[4] = (CK_ATTRIBUTE){CKA_LABEL, args->label, strlen(args->label)};
    t->attrs[5] = (CK_ATTRIBUTE){CKA_VALUE, args->value, args->len};
}

static enum kr_status find_anchors(struct kr_session *s, struct anchor_args *args,
                                   CK_OBJECT_HANDLE **ret, size_t *ret_count, struct kr_error *err)
{
    struct template t;

    fill_template(&t, args);
    return kr_objects_find(s, t.attrs, SEARCHED, ret, ret_count, err);
}

/* --- what the token has ----------------------------------------------------------------------- */

static enum kr_status fail_missing(const char *label, struct kr_error *err)
{
    return kr_fail(err, KR_NOT_FOUND, "the token has no data object '%s'", label);
}

/* *ret_len is 0 for an object without a whole value, as a writer that was killed may leave it. */
static enum kr_status read_value(struct kr_session *s, CK_OBJECT_HANDLE object,
                                 uint8_t ret[KR_ANCHOR_MAX], size_t *ret_len, struct kr_error *err)
{
    CK_ATTRIBUTE value = {CKA_VALUE, ret, KR_ANCHOR_MAX};
    CK_RV rv = kr_object_read(s, object, &value, 1);

    *ret_len = 0;
    if (rv == CKR_BUFFER_TOO_SMALL || rv == CKR_ATTRIBUTE_TYPE_INVALID)
        return KR_OK;
    if (rv != CKR_OK)
        return kr_ckr_fail(err, "C_GetAttributeValue (anchor)", rv);
    *ret_len = value.ulValueLen <= KR_ANCHOR_MAX ? value.ulValueLen : 0;
    return KR_OK;
}

static bool is_better(const struct anchor_args *args, const uint8_t *a, size_t a_len,
                      const uint8_t *b, size_t b_len)
{
    return b_len == 0 || !args->better || args->better(a, a_len, b, b_len);
}

struct found {
    CK_OBJECT_HANDLE *objects; /* freed by the caller, also after a failure */
    size_t count;
    size_t worse; /* the first ones are worse than the value that is to be written */
};

/* Finds the best value, and what a new one would replace. */
static enum kr_status survey(struct kr_session *s, struct anchor_args *args, struct found *found,
                             struct kr_error *err)
{
    args->best_len = 0;
    KR_TRY(find_anchors(s, args, &found->objects, &found->count, err));
    for (size_t i = 0; i < found->count; i++) {
        uint8_t bytes[KR_ANCHOR_MAX];
        size_t len = 0;

        KR_TRY(read_value(s, found->objects[i], bytes, &len, err));
        if (args->len > 0 && is_better(args, args->value, args->len, bytes, len))
            found->objects[found->worse++] = found->objects[i];
        if (len == 0 || !is_better(args, bytes, len, args->best, args->best_len))
            continue;
        memcpy(args->best, bytes, len);
        args->best_len = len;
    }
    return KR_OK;
}

/* --- read ------------------------------------------------------------------------------------- */

static enum kr_status run_read(struct kr_session *s, void *data, struct kr_error *err)
{
    struct anchor_args *args = data;
    struct found found = {0};
    enum kr_status status = survey(s, args, &found, err);

    free(found.objects);
    if (status == KR_OK && found.count == 0)
        return fail_missing(args->label, err);
    if (status == KR_OK && args->best_len == 0)
        return kr_fail(err, KR_INTEGRITY, "the token's data object '%s' has no usable value",
                       args->label);
    return status;
}

enum kr_status kr_anchor_read(struct kr_token *token, const char *label, kr_anchor_order better,
                              uint8_t ret[KR_ANCHOR_MAX], size_t *ret_len, struct kr_error *err)
{
    KR_JOB struct kr_job *job = NULL;
    const struct anchor_args *args;

    KR_TRY(anchor_job(label, better, run_read, &job, err));
    KR_TRY(kr_token_run(token, KR_NEED_LOGIN, job, err));
    args = (const struct anchor_args *)job->args;
    memcpy(ret, args->best, args->best_len);
    *ret_len = args->best_len;
    return KR_OK;
}

/* --- raise and remove ------------------------------------------------------------------------- */

/* Another writer may have been faster: what is gone already is not missed. */
static enum kr_status destroy_all(struct kr_session *s, const CK_OBJECT_HANDLE *objects,
                                  size_t count, struct kr_error *err)
{
    for (size_t i = 0; i < count; i++) {
        CK_RV rv = P11(s, C_DestroyObject, s->handle, objects[i]);

        if (rv != CKR_OK && rv != CKR_OBJECT_HANDLE_INVALID)
            return kr_ckr_fail(err, "C_DestroyObject (anchor)", rv);
    }
    return KR_OK;
}

static enum kr_status create(struct kr_session *s, struct anchor_args *args, struct kr_error *err)
{
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    enum kr_status status;
    struct template t;
    CK_RV rv;

    fill_template(&t, args);
    rv = P11(s, C_CreateObject, s->handle, t.attrs, WHOLE, &object);
    if (rv == CKR_OK)
        return KR_OK;
    status = kr_ckr_fail(err, "C_CreateObject (data object)", rv);
    if (status == KR_REFUSED)
        kr_error_context(err, "the token keeps no private data object");
    return status;
}

/* The new one first: a kill between the two leaves both, never none. Only what was seen is
 * destroyed: a better value that another writer makes meanwhile stays. */
static enum kr_status run_raise(struct kr_session *s, void *data, struct kr_error *err)
{
    struct anchor_args *args = data;
    struct found found = {0};
    enum kr_status status = survey(s, args, &found, err);

    if (status == KR_OK && found.worse == found.count)
        status = create(s, args, err);
    if (status == KR_OK)
        status = destroy_all(s, found.objects, found.worse, err);
    free(found.objects);
    return status;
}

enum kr_status kr_anchor_raise(struct kr_token *token, const char *label, kr_anchor_order better,
                               const uint8_t *value, size_t len, struct kr_error *err)
{
    KR_JOB struct kr_job *job = NULL;
    struct anchor_args *args;

    if (len == 0 || len > KR_ANCHOR_MAX)
        return kr_fail(err, KR_USAGE, "an anchor has 1 to %d bytes", KR_ANCHOR_MAX);
    KR_TRY(anchor_job(label, better, run_raise, &job, err));
    args = (struct anchor_args *)job->args;
    memcpy(args->value, value, len);
    args->len = len;
    return kr_token_run(token, KR_NEED_LOGIN, job, err);
}

static enum kr_status run_remove(struct kr_session *s, void *data, struct kr_error *err)
{
    struct anchor_args *args = data;
    CK_OBJECT_HANDLE *objects = NULL;
    enum kr_status status;
    size_t count = 0;

    KR_TRY(find_anchors(s, args, &objects, &count, err));
    status = count > 0 ? destroy_all(s, objects, count, err) : fail_missing(args->label, err);
    free(objects);
    return status;
}

enum kr_status kr_anchor_remove(struct kr_token *token, const char *label, struct kr_error *err)
{
    KR_JOB struct kr_job *job = NULL;

    KR_TRY(anchor_job(label, NULL, run_remove, &job, err));
    return kr_token_run(token, KR_NEED_LOGIN, job, err);
}
