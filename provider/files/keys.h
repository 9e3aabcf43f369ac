/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The keys that files need, of a keyring or of a bundle. Of a keyring nothing is opened before it
 * is asked for: whether a key is here is answered by the keystore alone, without token or PIN; a
 * key's use opens the keyring. Without a configured keyring the first question is answered by
 * "unknown", the second fails.
 *
 * Functions may be called from any thread.
 */
#ifndef P11K_FILES_KEYS_H
#define P11K_FILES_KEYS_H

#include "files/report.h"
#include "provider/keyring.h"
#include "provider/secrets.h"
#include "wrap/bundle.h"

struct kr_file_keys;

/* `config` is borrowed; NULL: no keyring is known. */
KR_MUST_USE enum kr_status kr_file_keys_new(const struct kr_config *config,
                                            struct kr_file_keys **ret, struct kr_error *err);
/* The keys of a bundle alone: no keyring is asked. `bundle` is borrowed and settled. */
KR_MUST_USE enum kr_status kr_file_keys_of_bundle(const struct kr_bundle *bundle,
                                                  struct kr_file_keys **ret, struct kr_error *err);

/* What MySQL's files need and a bundle does not have is asked of `then`: for files of which some
 * are sealed anew already. */
void kr_file_keys_fall_back(struct kr_file_keys *keys, struct kr_file_keys *then);

/* NULL is accepted. */
void kr_file_keys_free(struct kr_file_keys *keys);

/* Sets `here` of each of a report's needs. KR_OK also when the keystore cannot be read: then they
 * are unknown, and kr_file_keys_trouble() says why. */
void kr_file_keys_look(struct kr_file_keys *keys, struct kr_file_report *report);
/* Each key that the keystore names: the current and old master keys, MySQL's master keys and other
 * secrets, MariaDB's key versions; ordered. `label` is a master key's, else NULL. Without a
 * readable keystore there are none. */
struct kr_file_key {
    const char *name; /* NULL: MariaDB's */
    const char *label;
    bool master;
    bool in_use; /* the keyring or a server writes with it: the newest of its kind */
    uint32_t id, version;
};
typedef enum kr_status (*kr_file_key_visitor)(const struct kr_file_key *key, void *context,
                                              struct kr_error *err);
KR_MUST_USE enum kr_status kr_file_keys_each(struct kr_file_keys *keys, kr_file_key_visitor visit,
                                             void *context, struct kr_error *err);

/* The keyring, opened on first use; it stays the property of `keys`. As kr_keyring_open(), and
 * KR_CONFIG without one, as for a bundle. */
KR_MUST_USE enum kr_status kr_file_keys_keyring(struct kr_file_keys *keys, struct kr_keyring **ret,
                                                struct kr_error *err);

/* Its secrets of MySQL, likewise. */
KR_MUST_USE enum kr_status kr_file_keys_secrets(struct kr_file_keys *keys, struct kr_secrets **ret,
                                                struct kr_error *err);

/* Why the keystore could not be read; NULL when it could, or was not asked for. */
const struct kr_error *kr_file_keys_trouble(struct kr_file_keys *keys);

enum kr_file_key_use { KR_FILE_KEY_DECRYPT, KR_FILE_KEY_ENCRYPT };

/* One operation under MySQL's master key `name`, in the token or with its wrapped bytes: AES-256,
 * without padding, ECB with `iv` NULL (the 64 bytes of a tablespace's key and iv) or CBC (the 32
 * bytes of a binary log's password). `out` should be secret memory. KR_NOT_FOUND (no such key),
 * KR_CONFIG (no keyring), KR_TOKEN_UNAVAILABLE, KR_AUTH. */
KR_MUST_USE enum kr_status kr_file_keys_mysql(struct kr_file_keys *keys, const char *name,
                                              enum kr_file_key_use use, const uint8_t *iv,
                                              const uint8_t *in, size_t len, uint8_t *out,
                                              struct kr_error *err);

/* MariaDB's data key; it stays until kr_file_keys_free(). */
KR_MUST_USE enum kr_status kr_file_keys_mariadb(struct kr_file_keys *keys, uint32_t id,
                                                uint32_t version, const struct kr_data_key **ret,
                                                struct kr_error *err);

/* The same of its newest version. */
KR_MUST_USE enum kr_status kr_file_keys_mariadb_latest(struct kr_file_keys *keys, uint32_t id,
                                                       const struct kr_data_key **ret,
                                                       struct kr_error *err);

#endif
