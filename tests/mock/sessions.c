/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Slots and sessions: who has which, how many there may be, and how they are lost. */
#include "mock.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SESSIONS_MAX = 4096, SLOTS_MAX = 64, LIST_MAX = 256 };

/* A session that was lost keeps its place until its handle is given out again: the rules for its
 * token still apply to it. */
static struct session {
    CK_SESSION_HANDLE handle; /* CK_INVALID_HANDLE: a free place */
    CK_SLOT_ID slot;
    bool open, authenticated;
} sessions[SESSIONS_MAX];
static size_t places;

static struct {
    CK_SLOT_ID slot;
    bool known;
    char label[33];
} labels[SLOTS_MAX];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER, labels_lock = PTHREAD_MUTEX_INITIALIZER,
                       opening = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t forwarding = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
static CK_FUNCTION_LIST next;

void mock_forward_begin(void)
{
    pthread_rwlock_rdlock(&forwarding);
}

void mock_forward_end(void)
{
    pthread_rwlock_unlock(&forwarding);
}

/* The child knows of no sessions: those it inherits are its parent's. */
void mock_sessions_after_fork(void)
{
    static const pthread_rwlock_t fresh = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;

    pthread_mutex_init(&lock, NULL);
    pthread_mutex_init(&labels_lock, NULL);
    pthread_mutex_init(&opening, NULL);
    memcpy(&forwarding, &fresh, sizeof(fresh));
    places = 0;
}

/* --- the table; under the lock ---------------------------------------------------------------- */

static struct session *find(CK_SESSION_HANDLE handle)
{
    for (size_t i = 0; i < places; i++)
        if (sessions[i].handle == handle)
            return &sessions[i];
    return NULL;
}

static void set_closed(struct session *s)
{
    if (s->open)
        mock_count_sessions(s->slot, -1);
    s->open = s->authenticated = false;
}

/* Handles may come again after the module was initialised anew. */
static void add(CK_SESSION_HANDLE handle, CK_SLOT_ID slot)
{
    struct session *s = find(handle);

    if (!s)
        s = find(CK_INVALID_HANDLE);
    if (!s && places < SESSIONS_MAX)
        s = &sessions[places++];
    if (!s) {
        fprintf(stderr, "mock: too many sessions\n");
        abort();
    }
    *s = (struct session){.handle = handle, .slot = slot, .open = true};
    mock_count_sessions(slot, 1);
}

CK_SLOT_ID mock_slot_of(CK_SESSION_HANDLE handle)
{
    const struct session *s;
    CK_SLOT_ID slot;

    pthread_mutex_lock(&lock);
    s = find(handle);
    slot = s ? s->slot : MOCK_NO_SLOT;
    pthread_mutex_unlock(&lock);
    return slot;
}

void mock_set_authenticated(CK_SESSION_HANDLE handle, bool authenticated)
{
    struct session *s;

    pthread_mutex_lock(&lock);
    s = find(handle);
    if (s)
        s->authenticated = authenticated;
    pthread_mutex_unlock(&lock);
}

bool mock_is_authenticated(CK_SESSION_HANDLE handle)
{
    const struct session *s;
    bool authenticated;

    pthread_mutex_lock(&lock);
    s = find(handle);
    authenticated = s && s->authenticated;
    pthread_mutex_unlock(&lock);
    return authenticated;
}

/* Closes the open ones of a slot, or one by its handle. */
static void lose(CK_SLOT_ID slot, CK_SESSION_HANDLE handle)
{
    pthread_rwlock_wrlock(&forwarding);
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < places; i++) {
        struct session *s = &sessions[i];

        if (!s->open || (s->slot != slot && s->handle != handle))
            continue;
        mock_real->C_CloseSession(s->handle);
        set_closed(s);
    }
    pthread_mutex_unlock(&lock);
    pthread_rwlock_unlock(&forwarding);
}

static bool any_open(CK_SLOT_ID slot)
{
    bool any = false;

    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < places && !any; i++)
        any = sessions[i].open && sessions[i].slot == slot;
    pthread_mutex_unlock(&lock);
    return any;
}

void mock_lose_session(CK_SESSION_HANDLE handle)
{
    lose(MOCK_NO_SLOT, handle);
}

void mock_lose_sessions_in(CK_SLOT_ID slot)
{
    if (any_open(slot))
        lose(slot, CK_INVALID_HANDLE);
}

/* --- labels ----------------------------------------------------------------------------------- */

static void forget_labels(void)
{
    pthread_mutex_lock(&labels_lock);
    memset(labels, 0, sizeof(labels));
    pthread_mutex_unlock(&labels_lock);
}

static bool read_label(CK_SLOT_ID slot, char ret[33])
{
    CK_TOKEN_INFO info;
    size_t len = sizeof(info.label);

    if (!mock_real || mock_real->C_GetTokenInfo(slot, &info) != CKR_OK)
        return false;
    while (len > 0 && info.label[len - 1] == ' ')
        len--;
    memcpy(ret, info.label, len);
    ret[len] = '\0';
    return true;
}

void mock_token_label(CK_SLOT_ID slot, char ret[33])
{
    size_t i = 0;

    ret[0] = '\0';
    pthread_mutex_lock(&labels_lock);
    while (i < SLOTS_MAX && labels[i].known && labels[i].slot != slot)
        i++;
    if (i < SLOTS_MAX && !labels[i].known) {
        labels[i].slot = slot;
        labels[i].known = read_label(slot, labels[i].label);
    }
    if (i < SLOTS_MAX && labels[i].known)
        memcpy(ret, labels[i].label, sizeof(labels[i].label));
    pthread_mutex_unlock(&labels_lock);
}

/* --- the functions ---------------------------------------------------------------------------- */

static CK_RV may_open(CK_SLOT_ID slot, CK_FLAGS flags)
{
    struct mock_rule limit;

    if (mock_rule("write-protected", slot) && (flags & CKF_RW_SESSION))
        return CKR_TOKEN_WRITE_PROTECTED;
    if (mock_rule("read-write-only", slot) && !(flags & CKF_RW_SESSION))
        return CKR_ARGUMENTS_BAD;
    if (mock_rules_of("limit-sessions", slot, NULL, &limit, 1) == 1 &&
        mock_sessions_in(slot) >= limit.numbers[0])
        return CKR_SESSION_COUNT;
    return CKR_OK;
}

static CK_RV open_session(CK_SLOT_ID slot, CK_FLAGS flags, void *application, CK_NOTIFY notify,
                          CK_SESSION_HANDLE *session)
{
    CK_RV rv;

    pthread_mutex_lock(&opening);
    rv = may_open(slot, flags);
    if (rv == CKR_OK)
        rv = next.C_OpenSession(slot, flags, application, notify, session);
    if (rv == CKR_OK) {
        pthread_mutex_lock(&lock);
        add(*session, slot);
        pthread_mutex_unlock(&lock);
    }
    pthread_mutex_unlock(&opening);
    return rv;
}

static CK_RV close_session(CK_SESSION_HANDLE handle)
{
    CK_RV rv = next.C_CloseSession(handle);
    struct session *s;

    if (rv != CKR_OK)
        return rv;
    pthread_mutex_lock(&lock);
    s = find(handle);
    if (s) {
        set_closed(s);
        s->handle = CK_INVALID_HANDLE;
    }
    pthread_mutex_unlock(&lock);
    return rv;
}

/* Of one slot, or of all with MOCK_NO_SLOT. */
static void forget_sessions(CK_SLOT_ID slot)
{
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < places; i++) {
        if (slot != MOCK_NO_SLOT && sessions[i].slot != slot)
            continue;
        set_closed(&sessions[i]);
        sessions[i].handle = CK_INVALID_HANDLE;
    }
    pthread_mutex_unlock(&lock);
}

static CK_RV close_all_sessions(CK_SLOT_ID slot)
{
    CK_RV rv = next.C_CloseAllSessions(slot);

    if (rv == CKR_OK)
        forget_sessions(slot);
    return rv;
}

static CK_RV initialise(void *args)
{
    CK_C_INITIALIZE_ARGS copy;
    char wanted[512];

    if (!mock_rule_text("init-args", MOCK_NO_SLOT, wanted, sizeof(wanted)))
        return next.C_Initialize(args);
    if (!args)
        return CKR_ARGUMENTS_BAD;
    copy = *(const CK_C_INITIALIZE_ARGS *)args;
    if (!copy.pReserved || strcmp(copy.pReserved, wanted) != 0)
        return CKR_ARGUMENTS_BAD;
    copy.pReserved = NULL;
    return next.C_Initialize(&copy);
}

static CK_RV finalise(void *reserved)
{
    CK_RV rv = next.C_Finalize(reserved);

    if (rv == CKR_OK)
        forget_sessions(MOCK_NO_SLOT);
    forget_labels();
    return rv;
}

static CK_RV init_token(CK_SLOT_ID slot, CK_BYTE *pin, CK_ULONG len, CK_BYTE *label)
{
    CK_RV rv = next.C_InitToken(slot, pin, len, label);

    if (rv == CKR_OK)
        mock_set_wrong_pins(slot, 0);
    forget_labels();
    return rv;
}

static CK_RV slot_list(CK_BYTE with_token, CK_SLOT_ID *ret, CK_ULONG *ret_count)
{
    CK_SLOT_ID all[LIST_MAX], left[LIST_MAX];
    CK_ULONG count = LIST_MAX, left_count = 0;
    CK_RV rv;

    /* SoftHSM2 adds a slot for a new token only to a caller without a buffer. */
    if (!ret && (rv = next.C_GetSlotList(with_token, NULL, &count)) != CKR_OK)
        return rv;
    count = LIST_MAX;
    rv = next.C_GetSlotList(with_token, all, &count);
    if (rv != CKR_OK)
        return rv;
    for (CK_ULONG i = 0; i < count; i++)
        if (!mock_rule("slot-gone", all[i]) && !(with_token && mock_rule("token-gone", all[i])))
            left[left_count++] = all[i];
    return mock_give_list(left, left_count, ret, ret_count);
}

static CK_RV slot_info(CK_SLOT_ID slot, CK_SLOT_INFO *ret)
{
    CK_RV rv = next.C_GetSlotInfo(slot, ret);

    if (rv == CKR_OK && mock_rule("token-gone", slot))
        ret->flags = (ret->flags & ~CKF_TOKEN_PRESENT) | CKF_REMOVABLE_DEVICE;
    return rv;
}

void mock_layer_sessions(CK_FUNCTION_LIST *list)
{
    next = *list;
    list->C_Initialize = initialise;
    list->C_Finalize = finalise;
    list->C_InitToken = init_token;
    list->C_OpenSession = open_session;
    list->C_CloseSession = close_session;
    list->C_CloseAllSessions = close_all_sessions;
    list->C_GetSlotList = slot_list;
    list->C_GetSlotInfo = slot_info;
}
