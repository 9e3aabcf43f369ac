/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A connection to the token of mock_fixture.h, for all tests of a program. */
#ifndef P11K_TESTS_ONE_TOKEN_H
#define P11K_TESTS_ONE_TOKEN_H

#include "mock_fixture.h"

extern struct kr_token *token;

/* cmocka setup and teardown of the group. */
int token_up(void **state);
int token_down(void **state);

/* Closes the connection and makes it anew; no rules. */
void token_reconnect(void);

/* Runs `body` with a connection of its own in a child, which is killed when it hangs in the
 * Cryptoki function `name`. */
void kill_in(const char *name, void (*body)(struct kr_token *mine));

#endif
