/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Driving the mock module from a test, in this process or another:
 *
 *   P11K_MOCK_MODULE   the real module that calls are forwarded to
 *   P11K_MOCK_CONTROL  a file of rules, read again whenever it changes
 *   P11K_MOCK_COUNTS   a file of counters, shared by all processes that use the mock
 *
 * Rules, one to a line; the name is a Cryptoki function, C_GetFunctionList, or "dlopen":
 *
 *   hang NAME                     does not return before the rule is gone
 *   delay NAME MS
 *   fail NAME CKR [FROM [TIMES]]  returns CKR from its FROM-th call on (default 1), TIMES times
 *                                 (default: for ever), counted since the rule was read
 *   flags NAME BITS               adds bits to the flags that C_GetTokenInfo returns
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

/* How often a function was called, by all processes, since mock_setup(). */
uint64_t mock_calls(const char *name);

#endif
