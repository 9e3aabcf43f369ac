/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What the tests of the pkcs11 layer share. */
#ifndef P11K_TESTS_CHECK_H
#define P11K_TESTS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "control.h"
#include "fixture.h"
#include "scratch.h"

/* Fails the test with the error's text unless the call returned KR_OK. Uses a local `err`. */
#define assert_ok(call) check_ok(call, &err, #call, __FILE__, __LINE__)
void check_ok(enum kr_status status, const struct kr_error *err, const char *call, const char *file,
              int line);

/* In a child process, where a cmocka assertion would run the other tests: ends it with 1. */
#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            child_fail(#condition, __FILE__, __LINE__);                                            \
    } while (0)
_Noreturn void child_fail(const char *what, const char *file, int line);

/* cmocka setup of a group: the mock's rules and counters in a folder of their own, which outlives
 * those of single tests. To be ended by scratch_down. */
int mock_apart(void **state);

/* Options for the fixture's token with its PIN file; `module` NULL: SoftHSM2 itself. The source
 * lives as long as the process. */
struct kr_token_options check_options(const struct fixture *f, const char *module,
                                      unsigned timeout_ms);

/* A source for `spec`; aborts on failure. */
struct kr_pin_source *check_pin_source(const char *spec);

/* Writes the PIN file by a rename, as an admin's tool does, so that its inode changes. */
void check_write_pin(const struct fixture *f, const char *pin);

/* Runs `body` in `n` child processes that start at the same moment; fills their exit codes, -1 for
 * one that a signal ended. */
void check_together(int n, int (*body)(void *), void *argument, int *ret_codes);

/* Waits until the workers that were written off have ended, as they do by themselves after their
 * call; a leak check must not meet them. */
void check_wait_for_workers(void);

/* Wraps a key by AES-GCM and unwraps it again: the same must come back. Calls with other tags wrap
 * other keys, so that answers to others' questions show. */
enum kr_status check_round_trip(struct kr_token *token, const struct kr_object_id *master,
                                uint8_t tag, struct kr_error *err);

struct kr_token_stats check_stats(const struct kr_token *token);

/* Master keys in the token. */
size_t check_count_keys(struct kr_token *token);

/* Runs pkcs11-tool on the fixture's token, logged in; returns its exit code. */
int check_pkcs11_tool(const struct fixture *f, const char *arguments);

#endif
