/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Token administration. Listing and C_InitToken go through libp11, on a worker and under the
 * deadline like every other call; other connections of this process lose their sessions by it and
 * repair that themselves. The security officer's login and C_InitPIN are raw calls: libp11 keeps a
 * copy of each PIN that it logs in with on its heap.
 */
#include "pkcs11/admin.h"

#include "base/secret.h"
#include "pkcs11/ckr.h"
#include "pkcs11/session.h"

#include <libp11.h>
#include <openssl/err.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct list_args {
    struct kr_token_info *list;
    size_t count;
};

struct init_args {
    unsigned long slot;
    char label[33], so_pin[KR_PIN_MAX + 1], user_pin[KR_PIN_MAX + 1];
};

/* --- libp11 ----------------------------------------------------------------------------------- */

struct p11 {
    PKCS11_CTX *ctx;
    PKCS11_SLOT *slots;
    unsigned count;
    bool loaded;
};

static enum kr_status fail_libp11(const char *what, struct kr_error *err)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = ERR_reason_error_string(code);

    ERR_clear_error();
    kr_fail(err, KR_TOKEN_UNAVAILABLE, "%s failed: %s", what, reason ? reason : "unknown reason");
    kr_hint(err, "check that the token is connected and its service runs");
    return KR_TOKEN_UNAVAILABLE;
}

/* A call that lasts too long has its worker written off, which then calls nothing more: also not
 * libp11's clean-up, which would finalise the module. */
static enum kr_status p11_open(struct kr_session *s, struct p11 *p, struct kr_error *err)
{
    int rc = -1;

    p->ctx = PKCS11_CTX_new();
    if (!p->ctx)
        return kr_fail_memory(err);
    if (kr_call_begin(s->worker, "PKCS11_CTX_load (C_Initialize)")) {
        rc = PKCS11_CTX_load(p->ctx, kr_module_path(s->module));
        p->loaded = kr_call_end(s->worker) && rc == 0;
    }
    if (!p->loaded)
        return fail_libp11("C_Initialize", err);
    rc = -1;
    if (kr_call_begin(s->worker, "PKCS11_enumerate_slots (C_GetTokenInfo)")) {
        rc = PKCS11_enumerate_slots(p->ctx, &p->slots, &p->count);
        if (!kr_call_end(s->worker))
            rc = -1;
    }
    return rc == 0 ? KR_OK : fail_libp11("C_GetSlotList", err);
}

static void p11_close(struct kr_session *s, struct p11 *p)
{
    if (p->loaded && kr_call_begin(s->worker, "PKCS11_CTX_unload (C_Finalize)")) {
        if (p->slots)
            PKCS11_release_all_slots(p->ctx, p->slots, p->count);
        PKCS11_CTX_unload(p->ctx);
        kr_call_end(s->worker);
    }
    if (p->ctx)
        PKCS11_CTX_free(p->ctx);
}

/* --- list ------------------------------------------------------------------------------------- */

static void clear_list(void *data)
{
    free(((struct list_args *)data)->list);
}

/* libp11 says which slots hold tokens; the flags and versions come from the token itself. */
static enum kr_status list_slots(struct kr_session *s, const struct p11 *p, struct list_args *args,
                                 struct kr_error *err)
{
    args->list = calloc(p->count + 1, sizeof(*args->list));
    if (!args->list)
        return kr_fail_memory(err);
    for (unsigned i = 0; i < p->count; i++) {
        CK_SLOT_ID slot = PKCS11_get_slotid_from_slot(&p->slots[i]);
        CK_TOKEN_INFO info;

        if (p->slots[i].token && P11(s, C_GetTokenInfo, slot, &info) == CKR_OK)
            kr_token_info_fill(&args->list[args->count++], slot, &info);
    }
    return KR_OK;
}

static enum kr_status run_list(struct kr_session *s, void *data, struct kr_error *err)
{
    struct p11 p = {0};
    enum kr_status status = kr_module_attach(s->module, s->worker, &s->p11, err);

    if (status == KR_OK)
        status = p11_open(s, &p, err);
    if (status == KR_OK)
        status = list_slots(s, &p, data, err);
    p11_close(s, &p);
    kr_session_detach(s);
    return status;
}

static enum kr_status run_job(const char *module_path, const char *init_args, unsigned timeout_ms,
                              struct kr_job *job, struct kr_error *err)
{
    struct kr_module *module = NULL;
    struct kr_worker *worker = NULL;
    bool hung = false;
    enum kr_status status;

    KR_TRY(kr_module_get(module_path, &module, err));
    KR_TRY(kr_module_set_init_args(module, init_args, err));
    KR_TRY(kr_worker_start(module, "", timeout_ms, &worker, err));
    status = kr_worker_run(worker, job, &hung, err);
    if (!hung)
        kr_worker_stop(worker);
    return status;
}

enum kr_status kr_admin_list_tokens(const char *module, const char *init_args, unsigned timeout_ms,
                                    struct kr_token_info **ret, size_t *ret_count,
                                    struct kr_error *err)
{
    KR_JOB struct kr_job *job = kr_job_new(sizeof(struct list_args), run_list, clear_list);
    struct list_args *args;

    if (!job)
        return kr_fail_memory(err);
    args = (struct list_args *)job->args;
    KR_TRY(run_job(module, init_args, timeout_ms, job, err));
    *ret = args->list;
    *ret_count = args->count;
    args->list = NULL;
    return KR_OK;
}

/* --- init ------------------------------------------------------------------------------------- */

static enum kr_status refuse_initialised(const char *label, struct kr_error *err)
{
    kr_fail(err, KR_REFUSED, "that slot holds the initialised token '%s'", label);
    kr_hint(err, "choose a free slot (p11keyring token list); wiping a token is left to its "
                 "vendor's tool");
    return KR_REFUSED;
}

/* The slot to use; a label must name one token only, for tokens are found by it. */
static enum kr_status choose_slot(const struct p11 *p, const struct init_args *args,
                                  PKCS11_SLOT **ret, struct kr_error *err)
{
    PKCS11_SLOT *chosen = NULL;

    for (unsigned i = 0; i < p->count; i++) {
        PKCS11_SLOT *slot = &p->slots[i];
        bool wanted = PKCS11_get_slotid_from_slot(slot) == args->slot;

        if (!slot->token)
            continue;
        if (slot->token->initialized && strcmp(slot->token->label, args->label) == 0) {
            kr_fail(err, KR_REFUSED, "there is a token labelled '%s' already", args->label);
            kr_hint(err, "choose another label");
            return KR_REFUSED;
        }
        if (wanted && slot->token->initialized)
            return refuse_initialised(slot->token->label, err);
        if (wanted || (args->slot == KR_ADMIN_ANY_SLOT && !slot->token->initialized && !chosen))
            chosen = slot;
    }
    if (!chosen) {
        kr_fail(err, KR_NOT_FOUND, "there is no free slot%s",
                args->slot == KR_ADMIN_ANY_SLOT ? "" : " with that number");
        kr_hint(err, "see the slots: p11keyring token list");
        return KR_NOT_FOUND;
    }
    *ret = chosen;
    return KR_OK;
}

/* C_InitToken takes 32 bytes padded with blanks, and libp11 hands on what it is given. */
/* Asked before anything is changed: a token that was initialised and then refused its user PIN
 * would be left half made. */
static enum kr_status check_pin_lengths(struct kr_session *s, PKCS11_SLOT *slot,
                                        const struct init_args *args, struct kr_error *err)
{
    size_t so = strlen(args->so_pin), user = strlen(args->user_pin);
    CK_TOKEN_INFO info;
    CK_RV rv = P11(s, C_GetTokenInfo, PKCS11_get_slotid_from_slot(slot), &info);

    if (rv != CKR_OK)
        return kr_ckr_fail(err, "C_GetTokenInfo", rv);
    if (so >= info.ulMinPinLen && so <= info.ulMaxPinLen && user >= info.ulMinPinLen &&
        user <= info.ulMaxPinLen)
        return KR_OK;
    kr_fail(err, KR_USAGE, "this token takes PINs of %lu to %lu bytes", info.ulMinPinLen,
            info.ulMaxPinLen);
    kr_hint(err, "choose an SO PIN and a user PIN of such a length");
    return KR_USAGE;
}

static enum kr_status init_token(struct kr_session *s, PKCS11_SLOT *slot,
                                 const struct init_args *args, struct kr_error *err)
{
    char label[sizeof(args->label)];
    int rc = -1;

    snprintf(label, sizeof(label), "%-32s", args->label);
    if (kr_call_begin(s->worker, "C_InitToken")) {
        rc = PKCS11_init_token(slot->token, args->so_pin, label);
        if (!kr_call_end(s->worker))
            rc = -1;
    }
    return rc == 0 ? KR_OK : fail_libp11("C_InitToken", err);
}

static enum kr_status set_user_pin(struct kr_session *s, CK_SESSION_HANDLE session,
                                   struct init_args *args, struct kr_error *err)
{
    CK_RV rv = P11(s, C_Login, session, CKU_SO, (CK_UTF8CHAR *)args->so_pin, strlen(args->so_pin));

    if (rv != CKR_OK)
        return kr_ckr_fail(err, "C_Login (security officer)", rv);
    rv = P11(s, C_InitPIN, session, (CK_UTF8CHAR *)args->user_pin, strlen(args->user_pin));
    P11(s, C_Logout, session);
    return rv == CKR_OK ? KR_OK : kr_ckr_fail(err, "C_InitPIN", rv);
}

static enum kr_status init_pin(struct kr_session *s, CK_SLOT_ID slot, struct init_args *args,
                               struct kr_error *err)
{
    CK_SESSION_HANDLE session = CK_INVALID_HANDLE;
    enum kr_status status;
    CK_RV rv =
        P11(s, C_OpenSession, slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session);

    if (rv != CKR_OK)
        return kr_ckr_fail(err, "C_OpenSession", rv);
    status = set_user_pin(s, session, args, err);
    P11(s, C_CloseSession, session);
    return status;
}

static enum kr_status run_init(struct kr_session *s, void *data, struct kr_error *err)
{
    struct init_args *args = data;
    PKCS11_SLOT *slot = NULL;
    struct p11 p = {0};
    enum kr_status status = kr_module_attach(s->module, s->worker, &s->p11, err);

    if (status == KR_OK)
        status = p11_open(s, &p, err);
    if (status == KR_OK)
        status = choose_slot(&p, args, &slot, err);
    if (status == KR_OK)
        status = check_pin_lengths(s, slot, args, err);
    if (status == KR_OK)
        status = init_token(s, slot, args, err);
    if (status == KR_OK)
        status = init_pin(s, PKCS11_get_slotid_from_slot(slot), args, err);
    p11_close(s, &p);
    kr_session_detach(s);
    return status;
}

/* A new token's slot may get another number when the module starts again. */
static enum kr_status find_by_label(const char *module, const char *init_args, unsigned timeout_ms,
                                    const char *label, struct kr_token_info *ret,
                                    struct kr_error *err)
{
    struct kr_token_info *list = NULL;
    size_t count = 0;
    bool found = false;

    KR_TRY(kr_admin_list_tokens(module, init_args, timeout_ms, &list, &count, err));
    for (size_t i = 0; i < count; i++) {
        if (list[i].initialized && strcmp(list[i].label, label) == 0) {
            *ret = list[i];
            found = true;
        }
    }
    free(list);
    if (found)
        return KR_OK;
    return kr_fail(err, KR_TOKEN_UNAVAILABLE, "the new token '%s' does not show up", label);
}

static enum kr_status copy_text(char *ret, size_t size, const char *text, const char *what,
                                struct kr_error *err)
{
    size_t len = strlen(text);

    if (len == 0 || len >= size)
        return kr_fail(err, KR_USAGE, "%s must have 1 to %zu bytes", what, size - 1);
    memcpy(ret, text, len + 1);
    return KR_OK;
}

enum kr_status kr_admin_init_token(const char *module, const char *init_args, unsigned timeout_ms,
                                   unsigned long slot, const char *label, const char *so_pin,
                                   const char *user_pin, struct kr_token_info *ret,
                                   struct kr_error *err)
{
    KR_JOB struct kr_job *job = kr_job_new(sizeof(struct init_args), run_init, NULL);
    struct init_args *args;

    if (!job)
        return kr_fail_memory(err);
    args = (struct init_args *)job->args;
    args->slot = slot;
    KR_TRY(copy_text(args->label, sizeof(args->label), label, "a token's label", err));
    KR_TRY(copy_text(args->so_pin, sizeof(args->so_pin), so_pin, "the SO PIN", err));
    KR_TRY(copy_text(args->user_pin, sizeof(args->user_pin), user_pin, "the user PIN", err));
    KR_TRY(run_job(module, init_args, timeout_ms, job, err));
    return find_by_label(module, init_args, timeout_ms, label, ret, err);
}
