/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * A PKCS#11 module that forwards every function to a real one, counts the calls, and misbehaves as
 * the rules say: see control.h.
 */
#include "mock.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum { HANG_POLL_MS = 5 };

CK_FUNCTION_LIST *mock_real;
static CK_FUNCTION_LIST list, below; /* what callers get; the layers above the real module */

static void pause_ms(unsigned long ms)
{
    struct timespec time = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};

    if (ms > 0)
        nanosleep(&time, NULL);
}

/* --- before a call is forwarded --------------------------------------------------------------- */

static void hang(CK_SLOT_ID slot, const char *name)
{
    struct mock_rule rule;
    long unused;

    if (!mock_rule_due("hang", slot, name, &unused))
        return;
    while (mock_rules_of("hang", slot, name, &rule, 1) > 0) {
        pause_ms(HANG_POLL_MS);
        mock_rules_refresh();
    }
}

static CK_RV meet_chaos(CK_SLOT_ID slot, const char *name, CK_SESSION_HANDLE session)
{
    struct mock_fault fault;

    if (!mock_chaos(slot, name, &fault))
        return CKR_OK;
    mock_count(INDEX_injected);
    pause_ms(fault.delay_ms);
    if (fault.lose_session && session != CK_INVALID_HANDLE)
        mock_lose_session(session);
    return fault.ckr;
}

/* A slot or token that is gone takes its sessions along. */
static CK_RV check_presence(enum mock_index index, CK_SLOT_ID slot, bool in_session)
{
    bool slot_gone;

    if (slot == MOCK_NO_SLOT)
        return CKR_OK;
    slot_gone = mock_rule("slot-gone", slot);
    if (!slot_gone && !mock_rule("token-gone", slot))
        return CKR_OK;
    mock_lose_sessions_in(slot);
    if (in_session)
        return CKR_DEVICE_REMOVED;
    if (slot_gone)
        return CKR_SLOT_ID_INVALID;
    return index == INDEX_C_GetSlotInfo ? CKR_OK : CKR_TOKEN_NOT_PRESENT;
}

/* CKR_OK when the call is to be forwarded. */
static CK_RV before(enum mock_index index, CK_SLOT_ID slot, CK_SESSION_HANDLE session)
{
    const char *name = mock_name(index);
    long value = 0;
    CK_RV rv;

    mock_count(index);
    mock_rules_refresh();
    hang(slot, name);
    if (mock_rule_due("delay", slot, name, &value))
        pause_ms((unsigned long)value);
    if (mock_rule_due("fail", slot, name, &value)) {
        mock_count(INDEX_injected);
        return (CK_RV)value;
    }
    rv = meet_chaos(slot, name, session);
    if (rv != CKR_OK)
        return rv;
    if (session != CK_INVALID_HANDLE && mock_rule_due("lose-session", slot, name, &value)) {
        mock_count(INDEX_injected);
        mock_lose_session(session);
    }
    return check_presence(index, slot, session != CK_INVALID_HANDLE);
}

/* --- forwarding ------------------------------------------------------------------------------- */

#define FORWARD(name, params, args, slot, session)                                                 \
    static CK_RV mock_##name params                                                                \
    {                                                                                              \
        CK_RV rv;                                                                                  \
                                                                                                   \
        mock_enter();                                                                              \
        rv = before(INDEX_##name, slot, session);                                                  \
        if (rv == CKR_OK) {                                                                        \
            mock_forward_begin();                                                                  \
            rv = below.name args;                                                                  \
            mock_forward_end();                                                                    \
        }                                                                                          \
        mock_leave();                                                                              \
        return rv;                                                                                 \
    }

#define X(name, params, args) FORWARD(name, params, args, MOCK_NO_SLOT, CK_INVALID_HANDLE)
MOCK_PLAIN_FUNCTIONS(X)
#undef X
#define X(name, params, args) FORWARD(name, params, args, a, CK_INVALID_HANDLE)
MOCK_SLOT_FUNCTIONS(X)
#undef X
#define X(name, params, args) FORWARD(name, params, args, mock_slot_of(a), a)
MOCK_SESSION_FUNCTIONS(X)
#undef X

/* --- loading ---------------------------------------------------------------------------------- */

/* Another thread of the parent may have held a lock. */
static void after_fork(void)
{
    mock_rules_after_fork();
    mock_counts_after_fork();
    mock_sessions_after_fork();
}

static bool load_real(void)
{
    const char *path = getenv("P11K_MOCK_MODULE");
    void *handle = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    CK_C_GetFunctionList get_list = NULL;

    if (handle)
        *(void **)&get_list = dlsym(handle, "C_GetFunctionList");
    if (!get_list || get_list(&mock_real) != CKR_OK)
        return false;
    below = *mock_real;
    mock_layer_objects(&below);
    mock_layer_mechanisms(&below);
    mock_layer_login(&below);
    mock_layer_sessions(&below);
    mock_layer_output(&below);
    return true;
}

__attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST **ret)
{
    CK_RV rv = before(INDEX_C_GetFunctionList, MOCK_NO_SLOT, CK_INVALID_HANDLE);

    if (rv != CKR_OK)
        return rv;
    if (!mock_real && !load_real())
        return CKR_GENERAL_ERROR;
    list.version = mock_real->version;
#define X(name, params, args) list.name = mock_##name;
    MOCK_FUNCTIONS(X)
#undef X
    list.C_GetFunctionList = C_GetFunctionList;
    *ret = &list;
    return CKR_OK;
}

__attribute__((constructor)) static void loaded(void)
{
    pthread_atfork(NULL, NULL, after_fork);
    before(INDEX_dlopen, MOCK_NO_SLOT, CK_INVALID_HANDLE);
}
