/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Driving the mock module from a test, in this process or another:
 *
 *   P11K_MOCK_MODULE   the real module that calls are forwarded to
 *   P11K_MOCK_CONTROL  a file of rules, read again whenever it changes
 *   P11K_MOCK_COUNTS   a file of counters, shared by all processes that use the mock
 *
 * Rules, one to a line; several of a kind may be given. Numbers are decimal or 0x... A line that is
 * not understood ends the process. FROM and TIMES: from the FROM-th call on (default 1), TIMES
 * times (default: for ever), counted in each process since the rules were read.
 *
 * Calls. NAME is a Cryptoki function, * for any of them, C_GetFunctionList, or "dlopen":
 *
 *   hang NAME [FROM [TIMES]]             does not return before the rule is gone
 *   delay NAME MS [FROM [TIMES]]         "delay * 1" is a network
 *   fail NAME CKR [FROM [TIMES]]         the real module is not called
 *   lose-session NAME [FROM [TIMES]]     the call's session is closed in the real module first
 *   chaos SEED PERMILLE NAMES FAULTS     so many of a thousand calls of NAMES (with commas, or *)
 *                                        meet one of FAULTS (with commas): a CKR, delay=MS,
 *                                        lose-session; the same ones for the same SEED
 *
 * Answers, where the real module succeeded and gave bytes, attribute values, handles or lists:
 *
 *   flip NAME [FROM [TIMES]]             one bit is turned
 *   truncate NAME N [FROM [TIMES]]       the last N bytes or elements are missing
 *   length NAME DELTA [FROM [TIMES]]     the length is said to be so much more, or less
 *   flags C_GetTokenInfo BITS            are set besides
 *
 * The token:
 *
 *   slot-gone                  listed no more; its sessions are closed and answer
 *                              CKR_DEVICE_REMOVED, then CKR_SESSION_HANDLE_INVALID when it is back
 *   token-gone                 the same, but its slot is there without a token
 *   write-protected            no writing sessions, no token objects made, changed or destroyed
 *   read-write-only            no read-only sessions (CKR_ARGUMENTS_BAD)
 *   no-random                  CKR_RANDOM_NO_RNG, and no CKF_RNG
 *   limit-sessions N           more are CKR_SESSION_COUNT; counts those of all living processes
 *   max-sessions N             is said to be the limit
 *   limit-objects N            more token objects are CKR_DEVICE_MEMORY
 *   pin-tries N                the user PIN locks after N wrong ones in a row, by any process; the
 *                              flags COUNT_LOW, FINAL_TRY, LOCKED say so; C_InitPIN unlocks
 *   pin-pad FILE               C_Login wants a NULL PIN and takes the one in FILE, as if it had
 *                              been typed; another is CKR_ARGUMENTS_BAD
 *   always-authenticate        CKA_ALWAYS_AUTHENTICATE is true of every key: to use one without
 *                              C_Login(CKU_CONTEXT_SPECIFIC) after its Init (before C_WrapKey and
 *                              C_UnwrapKey) is CKR_USER_NOT_LOGGED_IN. Set it before the login.
 *
 * Mechanisms and templates. CKM, CKA are their numbers:
 *
 *   hidden CKM                 not listed, and CKR_MECHANISM_INVALID when used
 *   broken CKM [CKR]           listed, but its use is CKR (default CKR_MECHANISM_INVALID)
 *   renamed CKM CODE           known by a vendor's CODE and by no other
 *   iv-by-token                AES-GCM encrypts with an IV of the token's own, which it puts into
 *                              the caller's parameter
 *   leaky                      every key that is made can be taken out, whatever its template says
 *   refuse NAME CKA [CKR]      a template with CKA is CKR (default CKR_TEMPLATE_INCONSISTENT)
 *   require NAME CKA           one without it is CKR_TEMPLATE_INCOMPLETE; not forwarded (Luna wants
 *                              CKA_VALUE_LEN to unwrap, SoftHSM2 refuses it)
 *
 * The module:
 *
 *   init-args TEXT             what pReserved of C_Initialize must be (CKR_ARGUMENTS_BAD); not
 *                              forwarded
 *
 * "token LABEL": the rules below this line are for calls about that token alone; "token *" ends it.
 *
 * Counters, besides the calls of each function by its name:
 *
 *   injected            calls that failed or were delayed by chaos, and answers that were changed
 *   logins              of users, that succeeded
 *   wrong-pins          logins of users that were answered CKR_PIN_INCORRECT, _INVALID, _LEN_RANGE
 *   sessions-open       now, in all living processes
 *   calls-at-once-max   in one process
 */
#ifndef P11K_TESTS_MOCK_CONTROL_H
#define P11K_TESTS_MOCK_CONTROL_H

#include <stdint.h>

struct mock_count {
    char name[32];
    uint64_t calls;
};

/* Points the environment of this process at control and counter files in `folder`, which are made
 * empty. Aborts on failure. */
void mock_setup(const char *folder);

/* Replaces the rules (printf-like). */
void mock_rules(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A counter: of all processes, since mock_setup(). Aborts on a name that there is not, unless no
 * process has loaded the mock yet. */
uint64_t mock_calls(const char *name);

/* Calls `visit` for every function that was called. */
void mock_each_function(void (*visit)(const char *name, uint64_t calls, void *context),
                        void *context);

#endif
