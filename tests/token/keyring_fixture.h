/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A token fixture with a configuration, for tests of the keyring core. */
#ifndef P11K_TESTS_KEYRING_FIXTURE_H
#define P11K_TESTS_KEYRING_FIXTURE_H

#include "fixture.h"
#include "provider/keyring.h"

struct keyring_fixture {
    struct fixture token;
    char config_path[320];
    struct kr_config *config;
};

/* Fails the running test with the text of the error. */
void must(enum kr_status status, const struct kr_error *err);

/* Token, configuration file, and a keystore with its master key. Aborts the test on failure. */
void keyring_fixture_up(struct keyring_fixture *f);
/* The same with two tokens, "first" and "second" (of these labels), behind `module`. */
void keyring_fixture_up_two(struct keyring_fixture *f, const char *module);
/* Another keyring in the same tokens, with the configuration as it was. */
void keyring_fixture_renew(struct keyring_fixture *f);
void keyring_fixture_down(struct keyring_fixture *f);

/* Opens the keyring; aborts the test on failure. */
struct kr_keyring *keyring_fixture_open(struct keyring_fixture *f);

/* For a child among several that start at once: tries again for some seconds, for SoftHSM2's token
 * fails for a moment while another process writes its file at a login. */
enum kr_status keyring_fixture_try_open(struct keyring_fixture *f, struct kr_keyring **ret,
                                        struct kr_error *err);

/* Adds `count` random versions of key `id` in one transaction, past the keyring core, which would
 * commit each on its own. */
void keyring_fixture_add_versions(struct keyring_fixture *f, uint32_t id, unsigned count);
/* One version of `len` bytes, at most 32, with any text for its cipher. */
void keyring_fixture_add_version_of(struct keyring_fixture *f, uint32_t id, const char *cipher,
                                    size_t len);

#endif
