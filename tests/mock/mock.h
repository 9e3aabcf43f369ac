/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * What the files of the mock module share. A call passes mock.c, which counts, hangs, delays and
 * fails it, and then a chain of layers, each of which overrides the functions that it is about and
 * keeps the list below itself; the last list is the real module's.
 */
#ifndef P11K_TESTS_MOCK_MOCK_H
#define P11K_TESTS_MOCK_MOCK_H

#include "control.h"
#include "functions.h"

#include <p11-kit/pkcs11.h>

#include <stdbool.h>
#include <stddef.h>

#define MOCK_NO_SLOT (~0UL)

extern CK_FUNCTION_LIST *mock_real;

/* Each overrides functions of `list`, which it keeps as it was. */
void mock_layer_sessions(CK_FUNCTION_LIST *list);
void mock_layer_login(CK_FUNCTION_LIST *list);
void mock_layer_mechanisms(CK_FUNCTION_LIST *list);
void mock_layer_objects(CK_FUNCTION_LIST *list);
void mock_layer_output(CK_FUNCTION_LIST *list);

/* --- rules.c ---------------------------------------------------------------------------------- */

/* The numbers of a rule, as control.h lists them; 0 where left out. */
struct mock_rule {
    unsigned long numbers[3];
};

/* Reads the rules again when they have changed. */
void mock_rules_refresh(void);

/* Up to `max` rules of an action, for the token in `slot` and, where the action has one, for the
 * function `name`; returns how many. */
size_t mock_rules_of(const char *action, CK_SLOT_ID slot, const char *name, struct mock_rule *ret,
                     size_t max);
bool mock_rule(const char *action, CK_SLOT_ID slot);
/* Its text; false, and nothing written, without such a rule. */
bool mock_rule_text(const char *action, CK_SLOT_ID slot, char *ret, size_t size);

/* For actions with FROM and TIMES: counts this call, and says whether it is one of those. */
bool mock_rule_due(const char *action, CK_SLOT_ID slot, const char *name, long *ret_value);

struct mock_fault {
    CK_RV ckr;
    unsigned long delay_ms;
    bool lose_session;
};
/* What chaos has for this call; false: nothing. */
bool mock_chaos(CK_SLOT_ID slot, const char *name, struct mock_fault *ret);

void mock_rules_after_fork(void);

/* --- counts.c --------------------------------------------------------------------------------- */

#define X(name, params, args) INDEX_##name,
enum mock_index {
    MOCK_FUNCTIONS(X) INDEX_C_GetFunctionList,
    INDEX_dlopen,
    INDEX_injected,
    INDEX_logins,
    INDEX_wrong_pins,
    INDEX_sessions_open,
    INDEX_calls_at_once_max,
    INDEX_COUNT
};
#undef X

const char *mock_name(enum mock_index index);
void mock_count(enum mock_index index);
/* A call begins; undone by mock_leave(). */
void mock_enter(void);
void mock_leave(void);

/* Sessions of this process in a slot; and of all living processes. */
void mock_count_sessions(CK_SLOT_ID slot, int change);
unsigned long mock_sessions_in(CK_SLOT_ID slot);

/* Wrong PINs in a row. */
unsigned long mock_wrong_pins(CK_SLOT_ID slot);
void mock_set_wrong_pins(CK_SLOT_ID slot, unsigned long count);

void mock_counts_after_fork(void);

/* --- sessions.c ------------------------------------------------------------------------------- */

/* Between these nobody closes sessions under the real module's feet: it would crash. */
void mock_forward_begin(void);
void mock_forward_end(void);

/* MOCK_NO_SLOT when unknown. */
CK_SLOT_ID mock_slot_of(CK_SESSION_HANDLE session);
/* "" when unknown. */
void mock_token_label(CK_SLOT_ID slot, char ret[33]);

/* Closes sessions in the real module, outside of mock_forward_begin(). */
void mock_lose_session(CK_SESSION_HANDLE session);
void mock_lose_sessions_in(CK_SLOT_ID slot);

/* For always-authenticate. */
void mock_set_authenticated(CK_SESSION_HANDLE session, bool authenticated);
bool mock_is_authenticated(CK_SESSION_HANDLE session);

void mock_sessions_after_fork(void);

/* --- mechanisms.c ----------------------------------------------------------------------------- */

/* Answers as functions that give a list do: the length alone without a buffer,
 * CKR_BUFFER_TOO_SMALL. */
CK_RV mock_give_list(const CK_ULONG *list, CK_ULONG count, CK_ULONG *ret, CK_ULONG *ret_count);

#endif
