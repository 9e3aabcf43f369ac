/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Finding the token and keeping a session with it.
 *
 * All of this is raw Cryptoki. libp11 would do for discovery, but its slot functions act on the
 * whole process (releasing slots closes every session on them, also other users'), and version
 * 0.4.12 waits for ever after a C_OpenSession that failed; so a server never calls it.
 */
#include "pkcs11/session.h"

#include "pkcs11/ckr.h"
#include "pkcs11/uri.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct kr_session *kr_session_new(struct kr_worker *worker, struct kr_module *module,
                                  const char *uri)
{
    struct kr_session *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    s->worker = worker;
    s->module = module;
    s->handle = CK_INVALID_HANDLE;
    s->uri = strdup(uri);
    if (!s->uri) {
        free(s);
        return NULL;
    }
    return s;
}

void kr_session_free(struct kr_session *s)
{
    if (!s)
        return;
    kr_keys_unref(s->keys);
    free(s->uri);
    free(s);
}

static enum kr_loss loss_of(CK_RV rv)
{
    switch (rv) {
    case CKR_CRYPTOKI_NOT_INITIALIZED:
    case CKR_DEVICE_REMOVED:
    case CKR_TOKEN_NOT_PRESENT:
    case CKR_TOKEN_NOT_RECOGNIZED:
    case CKR_SLOT_ID_INVALID:
        return KR_LOST_TOKEN;
    case CKR_SESSION_CLOSED:
    case CKR_SESSION_HANDLE_INVALID:
    case CKR_OPERATION_ACTIVE: /* a failed operation that the module never ended */
    case CKR_OPERATION_NOT_INITIALIZED:
        return KR_LOST_SESSION;
    case CKR_SESSION_COUNT:
    case CKR_DEVICE_ERROR: /* by which AWS CloudHSM says "too many requests", too */
        return KR_LOST_TIME;
    case CKR_USER_NOT_LOGGED_IN:
        return KR_LOST_LOGIN;
    case CKR_OBJECT_HANDLE_INVALID:
    case CKR_KEY_HANDLE_INVALID:
    case CKR_WRAPPING_KEY_HANDLE_INVALID:
    case CKR_UNWRAPPING_KEY_HANDLE_INVALID:
        return KR_LOST_KEYS;
    default:
        return KR_LOST_NOTHING;
    }
}

void kr_session_note_loss(struct kr_session *s, enum kr_loss loss)
{
    if (loss > s->lost)
        s->lost = loss;
}

CK_RV kr_session_result(struct kr_session *s, CK_RV rv)
{
    if (!kr_call_end(s->worker))
        return CKR_FUNCTION_CANCELED;
    if (rv == CKR_CRYPTOKI_NOT_INITIALIZED) {
        s->needs_initialise = true;
        kr_module_set_shared(s->module);
    }
    /* The token may have dropped the session, or somebody else in this process all of them. */
    if (rv == CKR_SESSION_HANDLE_INVALID)
        kr_module_suspect_others(s->module);
    kr_session_note_loss(s, loss_of(rv));
    return rv;
}

void kr_session_run(struct kr_session *s, struct kr_job *job)
{
    struct kr_error gone = KR_ERROR_INIT;

    s->lost = KR_LOST_NOTHING;
    s->searches = 0;
    s->wants_keys = s->forget_keys = false;
    s->keys_fresh = job->keys_fresh;
    s->keys = job->keys;
    job->keys = NULL;
    job->status = job->run(s, job->args, &job->err);
    if (job->status != KR_OK && !s->lost && !s->wants_keys && s->handle != CK_INVALID_HANDLE &&
        kr_session_alive(s, &gone) != KR_OK) {
        kr_session_note_loss(s, KR_LOST_SESSION);
        job->status = gone.status;
        job->err = gone;
    }
    job->lost = s->lost;
    job->searches = s->searches;
    job->wants_keys = job->status != KR_OK && s->wants_keys;
    job->forget_keys = s->forget_keys;
    job->keys = s->keys;
    s->keys = NULL;
}

/* --- the token -------------------------------------------------------------------------------- */

static void copy_padded(char *ret, const unsigned char *from, size_t len)
{
    while (len > 0 && (from[len - 1] == ' ' || from[len - 1] == '\0'))
        len--;
    memcpy(ret, from, len);
    ret[len] = '\0';
}

void kr_token_info_fill(struct kr_token_info *ret, CK_SLOT_ID slot, const CK_TOKEN_INFO *info)
{
    CK_FLAGS flags = info->flags;

    memset(ret, 0, sizeof(*ret));
    copy_padded(ret->label, info->label, sizeof(info->label));
    copy_padded(ret->manufacturer, info->manufacturerID, sizeof(info->manufacturerID));
    copy_padded(ret->model, info->model, sizeof(info->model));
    copy_padded(ret->serial, info->serialNumber, sizeof(info->serialNumber));
    snprintf(ret->hardware, sizeof(ret->hardware), "%u.%u", info->hardwareVersion.major,
             info->hardwareVersion.minor);
    snprintf(ret->firmware, sizeof(ret->firmware), "%u.%u", info->firmwareVersion.major,
             info->firmwareVersion.minor);
    ret->slot = slot;
    ret->initialized = flags & CKF_TOKEN_INITIALIZED;
    ret->user_pin_set = flags & CKF_USER_PIN_INITIALIZED;
    ret->login_required = flags & CKF_LOGIN_REQUIRED;
    ret->protected_path = flags & CKF_PROTECTED_AUTHENTICATION_PATH;
    ret->write_protected = flags & CKF_WRITE_PROTECTED;
    ret->pin_count_low = flags & CKF_USER_PIN_COUNT_LOW;
    ret->pin_final_try = flags & CKF_USER_PIN_FINAL_TRY;
    ret->pin_locked = flags & CKF_USER_PIN_LOCKED;
    ret->pin_to_be_changed = flags & CKF_USER_PIN_TO_BE_CHANGED;
}

/* Slots come and go between the two calls of C_GetSlotList, so it is asked with room to spare. */
static enum kr_status slot_list(struct kr_session *s, CK_SLOT_ID **ret, CK_ULONG *ret_count,
                                struct kr_error *err)
{
    CK_ULONG count = 0, room;
    CK_SLOT_ID *slots;
    CK_RV rv = P11(s, C_GetSlotList, CK_TRUE, NULL, &count);

    if (rv != CKR_OK)
        return kr_ckr_fail(err, "C_GetSlotList", rv);
    count += 8;
    room = count;
    slots = calloc(room, sizeof(*slots));
    if (!slots)
        return kr_fail_memory(err);
    rv = P11(s, C_GetSlotList, CK_TRUE, slots, &count);
    if (rv != CKR_OK || count > room) {
        free(slots);
        return rv == CKR_OK ? kr_ckr_fail_count("C_GetSlotList", count, err)
                            : kr_ckr_fail(err, "C_GetSlotList", rv);
    }
    *ret = slots;
    *ret_count = count;
    return KR_OK;
}

/* How many sessions one application may have; 0 when the token does not say, or has no limit. Ours
 * are read-write sessions. */
static CK_ULONG session_max(const CK_TOKEN_INFO *info)
{
    const CK_ULONG of_any = info->ulMaxSessionCount, of_rw = info->ulMaxRwSessionCount;
    CK_ULONG max = 0;

    if (of_any != CK_UNAVAILABLE_INFORMATION && of_any != CK_EFFECTIVELY_INFINITE)
        max = of_any;
    if (of_rw != CK_UNAVAILABLE_INFORMATION && of_rw != CK_EFFECTIVELY_INFINITE &&
        (max == 0 || of_rw < max))
        max = of_rw;
    return max;
}

/* A slot that does not answer holds no token for us, and what it said is kept; the others are still
 * asked. */
static CK_ULONG count_matches(struct kr_session *s, const P11KitUri *uri, const CK_SLOT_ID *slots,
                              CK_ULONG count, CK_SLOT_ID *ret_slot, CK_ULONG *ret_session_max,
                              CK_RV *ret_silent)
{
    CK_ULONG matches = 0;
    CK_TOKEN_INFO info;

    for (CK_ULONG i = 0; i < count; i++) {
        CK_RV rv = P11(s, C_GetTokenInfo, slots[i], &info);

        if (rv != CKR_OK)
            *ret_silent = rv;
        if (rv != CKR_OK || !(info.flags & CKF_TOKEN_INITIALIZED) ||
            !p11_kit_uri_match_token_info(uri, &info))
            continue;
        if (matches++ == 0) {
            *ret_slot = slots[i];
            *ret_session_max = session_max(&info);
        }
    }
    return matches;
}

static enum kr_status fail_no_match(const struct kr_session *s, CK_ULONG count, CK_RV silent,
                                    struct kr_error *err)
{
    kr_fail(err, KR_TOKEN_UNAVAILABLE, "no token matches %s (%s has %lu token%s%s%s)", s->uri,
            kr_module_path(s->module), count, count == 1 ? "" : "s",
            silent == CKR_OK ? "" : "; C_GetTokenInfo failed: ",
            silent == CKR_OK ? "" : kr_ckr_name(silent));
    kr_hint(err, "connect the token, or see what there is: p11keyring token list");
    return KR_TOKEN_UNAVAILABLE;
}

static enum kr_status find_token(struct kr_session *s, struct kr_error *err)
{
    KR_URI P11KitUri *uri = NULL;
    CK_SLOT_ID *slots = NULL, slot = 0;
    CK_ULONG count = 0, matches, max = 0;
    CK_RV silent = CKR_OK;

    KR_TRY(kr_uri_parse(s->uri, P11_KIT_URI_FOR_TOKEN, &uri, err));
    KR_TRY(slot_list(s, &slots, &count, err));
    matches = count_matches(s, uri, slots, count, &slot, &max, &silent);
    free(slots);
    s->silent = silent != CKR_OK;
    if (matches == 0)
        return fail_no_match(s, count, silent, err);
    if (matches > 1) {
        kr_fail(err, KR_REFUSED, "%lu tokens match %s", matches, s->uri);
        kr_hint(err, "add serial=... to the URI; the serial numbers: p11keyring token list");
        return KR_REFUSED;
    }
    s->slot = slot;
    s->session_max = max;
    return KR_OK;
}

/* A token that cannot be written still serves to unwrap. */
static enum kr_status open_session(struct kr_session *s, struct kr_error *err)
{
    CK_FLAGS flags = CKF_SERIAL_SESSION | CKF_RW_SESSION;
    CK_SESSION_HANDLE handle = CK_INVALID_HANDLE;
    CK_RV rv = P11(s, C_OpenSession, s->slot, flags, NULL, NULL, &handle);

    if (rv == CKR_TOKEN_WRITE_PROTECTED && !s->quirks.read_write_only)
        rv = P11(s, C_OpenSession, s->slot, CKF_SERIAL_SESSION, NULL, NULL, &handle);
    s->epoch = kr_module_epoch(s->module);
    /* Also for a written-off worker, which closes it when it gets here. */
    s->handle = rv == CKR_OK || rv == CKR_FUNCTION_CANCELED ? handle : CK_INVALID_HANDLE;
    return rv == CKR_OK ? KR_OK : kr_ckr_fail(err, "C_OpenSession", rv);
}

enum kr_status kr_session_open(struct kr_session *s, struct kr_error *err)
{
    kr_session_drop(s);
    return open_session(s, err);
}

static enum kr_status find_and_open(struct kr_session *s, struct kr_error *err)
{
    KR_TRY(find_token(s, err));
    return open_session(s, err);
}

void kr_session_pause(void)
{
    const struct timespec moment = {.tv_nsec = 50 * 1000000L};

    nanosleep(&moment, NULL);
}

/* Some modules see a token again only after they were initialised anew, and SoftHSM2 misses one
 * whose files another process writes at the moment when it is initialised, or gives no information
 * about it. */
static enum kr_status find_after_restart(struct kr_session *s, struct kr_error *err)
{
    enum { TRIES = 2, TRIES_IF_SILENT = 5 };
    enum kr_status status = KR_TOKEN_UNAVAILABLE;

    for (int i = 0; i < (s->silent ? TRIES_IF_SILENT : TRIES); i++) {
        bool restarted; /* other connections may use the module */

        kr_session_pause();
        KR_TRY(kr_module_restart(s->module, s->worker, &restarted, err));
        status = find_and_open(s, err);
        if (status != KR_TOKEN_UNAVAILABLE)
            break;
    }
    return status;
}

enum kr_status kr_session_connect(struct kr_session *s, bool restart, struct kr_error *err)
{
    enum kr_status status;
    bool restarted;

    s->needs_initialise = false;
    if (restart)
        KR_TRY(kr_module_restart(s->module, s->worker, &restarted, err));
    status = find_and_open(s, err);
    if (s->needs_initialise) {
        s->needs_initialise = false;
        KR_TRY(kr_module_reinitialise(s->module, s->worker, err));
        status = find_and_open(s, err);
    }
    if (status == KR_TOKEN_UNAVAILABLE)
        status = find_after_restart(s, err);
    if (status == KR_OK)
        s->lost = KR_LOST_NOTHING;
    return status;
}

void kr_session_drop(struct kr_session *s)
{
    CK_SESSION_HANDLE handle = s->handle;

    s->handle = CK_INVALID_HANDLE;
    if (handle != CK_INVALID_HANDLE)
        P11(s, C_CloseSession, handle);
}

void kr_session_detach(struct kr_session *s)
{
    kr_session_drop(s);
    if (!s->p11)
        return;
    kr_module_detach(s->module);
    kr_module_finalise(s->module, s->worker);
    s->p11 = NULL;
}

/* Not stamped: nobody waits. The module cannot be finalised meanwhile, as the call still counts as
 * one that hangs. */
void kr_session_abandon(struct kr_session *s)
{
    if (s->handle != CK_INVALID_HANDLE && s->epoch == kr_module_epoch(s->module))
        s->p11->C_CloseSession(s->handle);
    s->handle = CK_INVALID_HANDLE;
}

/* SoftHSM2 gives an empty label, or CKR_GENERAL_ERROR, while another process writes the token's
 * files, as a login does; what it read of them then it may keep until it is initialised anew. */
enum kr_status kr_session_token_info(struct kr_session *s, CK_TOKEN_INFO *ret, struct kr_error *err)
{
    enum { TRIES = 4 };
    KR_URI P11KitUri *uri = NULL;
    CK_TOKEN_INFO info;
    CK_RV rv = CKR_OK;

    KR_TRY(kr_uri_parse(s->uri, P11_KIT_URI_FOR_TOKEN, &uri, err));
    for (int i = 0; i < TRIES; i++) {
        rv = P11(s, C_GetTokenInfo, s->slot, &info);
        if (rv == CKR_OK && p11_kit_uri_match_token_info(uri, &info)) {
            *ret = info;
            return KR_OK;
        }
        if (rv != CKR_OK && rv != CKR_GENERAL_ERROR)
            break;
        kr_session_pause();
    }
    kr_session_note_loss(s, KR_LOST_TOKEN);
    if (rv != CKR_OK)
        return kr_ckr_fail(err, "C_GetTokenInfo", rv);
    return kr_fail(err, KR_TOKEN_UNAVAILABLE, "slot %lu now holds another token", s->slot);
}

static enum kr_status ask(struct kr_session *s, CK_SESSION_INFO *session, CK_TOKEN_INFO *token,
                          struct kr_error *err)
{
    CK_RV rv = P11(s, C_GetSessionInfo, s->handle, session);

    if (rv != CKR_OK) {
        kr_ckr_fail(err, "C_GetSessionInfo", rv);
        return err->status = KR_TOKEN_UNAVAILABLE;
    }
    if (kr_session_token_info(s, token, err) == KR_OK)
        return KR_OK;
    return err->status = KR_TOKEN_UNAVAILABLE;
}

enum kr_status kr_session_alive(struct kr_session *s, struct kr_error *err)
{
    CK_SESSION_INFO session;
    CK_TOKEN_INFO token;

    return ask(s, &session, &token, err);
}

static bool is_public(CK_STATE state)
{
    return state == CKS_RO_PUBLIC_SESSION || state == CKS_RW_PUBLIC_SESSION;
}

enum kr_status kr_session_sees_private(struct kr_session *s, struct kr_error *err)
{
    CK_SESSION_INFO session;
    CK_TOKEN_INFO token;

    KR_TRY(ask(s, &session, &token, err));
    if (!is_public(session.state) || !(token.flags & CKF_LOGIN_REQUIRED))
        return KR_OK;
    kr_session_note_loss(s, KR_LOST_LOGIN);
    kr_fail(err, KR_TOKEN_UNAVAILABLE, "somebody else in this process logged out of the token");
    kr_hint(err, "try again: it is logged in to again");
    return KR_TOKEN_UNAVAILABLE;
}

enum kr_status kr_session_mechanisms(struct kr_session *s, CK_ULONG **ret, size_t *ret_count,
                                     struct kr_error *err)
{
    CK_ULONG count = 0, room;
    CK_MECHANISM_TYPE *list;
    CK_RV rv = P11(s, C_GetMechanismList, s->slot, NULL, &count);

    if (rv != CKR_OK)
        return kr_ckr_fail(err, "C_GetMechanismList", rv);
    room = count;
    list = calloc(room + 1, sizeof(*list));
    if (!list)
        return kr_fail_memory(err);
    rv = P11(s, C_GetMechanismList, s->slot, list, &count);
    if (rv != CKR_OK || count > room) {
        free(list);
        return rv == CKR_OK ? kr_ckr_fail_count("C_GetMechanismList", count, err)
                            : kr_ckr_fail(err, "C_GetMechanismList", rv);
    }
    *ret = list;
    *ret_count = count;
    return KR_OK;
}
