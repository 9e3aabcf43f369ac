/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A keystore in a private folder for one test, without a token: the manifest key is given directly
 * and the envelopes are random bytes. Everything aborts the test on failure. */
#ifndef P11K_TESTS_KEYSTORE_FIXTURE_H
#define P11K_TESTS_KEYSTORE_FIXTURE_H

#include "wrap/keystore.h"

struct store {
    char dir[64];  /* 0700, removed by store_down() */
    char path[96]; /* of the keystore */
    uint8_t uuid[KR_KEYSTORE_UUID_BYTES];
    uint8_t manifest_key[KR_MANIFEST_KEY_BYTES];
};

/* Of the test that runs, made and removed by these two around it. */
extern struct store store;
int store_setup(void **state);
int store_teardown(void **state);
#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, store_setup, store_teardown)

#define STORE_KEYRING "test"
/* Long enough for writers that take turns without pause on a busy machine. */
#define STORE_TIMEOUT_MS 20000

/* Folder and random keys; no keystore yet. */
void store_up(struct store *s);
void store_down(struct store *s);

struct kr_keystore_options store_options(const struct store *s, bool writable);

/* Creation as far as the commit: manifest, one master key. */
enum kr_status store_create(const struct store *s, struct kr_keystore **ret, struct kr_error *err);
/* A whole keystore: `keys` keys "1", "2", ... of `versions` versions each. */
void store_make(const struct store *s, unsigned keys, unsigned versions);

/* Opens, with the manifest key set but not verified. */
enum kr_status store_try_open(const struct store *s, bool writable, struct kr_keystore **ret,
                              struct kr_error *err);
struct kr_keystore *store_open(const struct store *s, bool writable);

/* One version more for a key, as a rotation does it; inside a transaction. */
enum kr_status store_add_version(struct kr_keystore *keystore, const char *id, uint32_t step,
                                 uint32_t *ret_version, struct kr_error *err);
/* The same as a transaction of its own. */
enum kr_status store_rotate(struct kr_keystore *keystore, const char *id, uint32_t step,
                            uint32_t *ret_version, struct kr_error *err);

/* Every row that a reader can see, as text (malloc'ed), read in one verified view. */
enum kr_status store_dump(struct kr_keystore *keystore, char **ret, struct kr_error *err);

char *store_must_dump(struct kr_keystore *keystore);

/* Whole files. */
uint8_t *store_read_file(const char *path, size_t *ret_len);
void store_write_file(const char *path, const void *bytes, size_t len);

/* Runs SQL on the file as somebody's sqlite3 would. */
void store_edit(const struct store *s, const char *sql);

/* Fails the test, saying what the library said. */
void store_must(enum kr_status status, const struct kr_error *err, const char *what, int line);
#define MUST(expr, err) store_must((expr), (err), #expr, __LINE__)

#endif
