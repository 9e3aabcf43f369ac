/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* What is done to a keyring while its token fails, for test_every_ckr.c. */
#ifndef P11K_TESTS_CKR_OPERATION_H
#define P11K_TESTS_CKR_OPERATION_H

#include "fixture.h"
#include "provider/keyring.h"

/* The keys that every keyring of these tests has from the beginning. */
enum { SCENE_KEY = 1, SCENE_VERSIONS = 3 };

/* One copy of the keyring, in a folder of its own. */
struct scene {
    struct fixture token;
    char config_path[320];
    struct kr_config *config;
    struct kr_keyring *keyring; /* where the operation needs an open one */
    bool serves;                /* its token does, from now on */
};

/* What all processes of the test share. */
struct scene_keys {
    uint8_t bytes[SCENE_VERSIONS][32];
};

struct operation {
    const char *name;
    /* Before anything fails. */
    enum kr_status (*prepare)(struct scene *s, struct kr_error *err);
    enum kr_status (*run)(struct scene *s, struct kr_error *err);
    /* What a second run answers when the first one succeeded. */
    enum kr_status after_success;
    unsigned masters;  /* that two runs make, at most */
    bool makes_second; /* a second keyring */
};

/* Ends with an entry without a name. */
extern const struct operation operations[];

/* Writes the configuration for a module and reads it. */
enum kr_status scene_configure(struct scene *s, const char *module, unsigned timeout_ms,
                               struct kr_error *err);

/* From here on the configuration is of a second keyring in the same token. */
enum kr_status scene_name_second(struct scene *s, struct kr_error *err);

/* Makes the keyring with its keys, whose bytes go to `ret`. */
enum kr_status scene_make(struct scene *s, struct scene_keys *ret, struct kr_error *err);

/* A copy, as new, of a token and keyring that are not in use, in a folder of its own: other copies
 * have other numbers. Sets SOFTHSM2_CONF and the mock up for this process. */
void scene_renew(struct scene *s, const struct fixture *original, unsigned number);
void scene_remove(const struct fixture *original, unsigned number);

/* KR_INTEGRITY unless every key of scene_make() is there with its bytes. */
enum kr_status scene_check_keys(const struct kr_keyring *keyring, const struct scene_keys *expected,
                                struct kr_error *err);

#endif
