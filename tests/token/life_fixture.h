/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A keyring behind the mock, with one token or more, for tests of its master keys' life. */
#ifndef P11K_TESTS_LIFE_FIXTURE_H
#define P11K_TESTS_LIFE_FIXTURE_H

#include "control.h"
#include "keyring_fixture.h"
#include "provider/life.h"

/* Sections are named after their tokens' labels: "one" has a master key, "two" and "three" are
 * empty. */
void life_up(struct keyring_fixture *f);
void life_down(struct keyring_fixture *f);

/* Configures these tokens (words), with so many sessions. */
void life_configure(struct keyring_fixture *f, const char *tokens, unsigned sessions);

/* Fails the running test with the text of the error. */
void life_must(enum kr_status status, const struct kr_error *err);

uint32_t life_create_key(struct kr_keyring *keyring, uint32_t id);

/* How many envelopes are not up to date; opens the keystore's keyring on its own. */
uint64_t life_outdated(struct keyring_fixture *f);

/* A digest of every version of key `id`, opened from the keystore. */
uint64_t life_digest(struct keyring_fixture *f, uint32_t id);

#endif
