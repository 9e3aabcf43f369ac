/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * What the files of the MySQL component share. The component translates between the server's
 * keyring services (abi.h) and the keyring core, and holds nothing else.
 *
 * The server loads it and calls load() as root, before it forks (--daemonize) and before it changes
 * to its own user; everything else may come from another process and as another user. So the
 * keyring belongs to the process that opened it: a child opens its own at its first call and leaves
 * its parent's alone.
 */
#ifndef P11K_PROVIDER_MYSQL_COMPONENT_H
#define P11K_PROVIDER_MYSQL_COMPONENT_H

#include "abi.h"
#include "base/log.h"
#include "provider/secrets.h"

#define COMPONENT_NAME "component_keyring_pkcs11"

/* Set by the server before init(). */
extern const struct mysql_registry *component_registry;

/* --- the tables (component.c puts them together) --- */
extern struct mysql_keyring_load component_load;
extern struct mysql_keyring_reader component_reader;
extern struct mysql_keyring_writer component_writer;
extern struct mysql_keyring_generator component_generator;
extern struct mysql_keyring_aes component_aes;
extern struct mysql_keyring_keys_iterator component_keys;
extern struct mysql_keyring_status component_status;
extern struct mysql_keyring_metadata_query component_metadata;

/* --- config.c --- */
/* The component's own file in `component_path` or, if that says so, in `instance_path`; without one
 * the INI file alone. Either path may be NULL. KR_CONFIG, KR_IO. */
KR_MUST_USE enum kr_status component_read_config(const char *component_path,
                                                 const char *instance_path, struct kr_config **ret,
                                                 struct kr_error *err);

/* --- keyring.c --- */
/* The keyring as this process has it; valid until component_end(). */
struct component_keyring {
    const struct kr_config *config;
    struct kr_keyring *keyring;
    struct kr_secrets *secrets;
};

/* Opens the keyring anew with `config`, which it takes over on success. Handles that were given out
 * stay good; on failure everything stays as it was. */
KR_MUST_USE enum kr_status component_open(struct kr_config *config, struct kr_error *err);
void component_close(void);

/* Each use of the keyring lies between these. On failure there is no end to call: KR_CONFIG while
 * nothing is loaded, or why this process cannot open it. */
KR_MUST_USE enum kr_status component_begin(struct component_keyring *ret, struct kr_error *err);
void component_end(void);

/* Whether load() has succeeded. */
bool component_is_loaded(void);

/* --- server.c: which program this is, and what it may do with token-resident keys --- */
/* Says at the start what mysqld lacks for token mode, not only by the first statement that fails.
 */
void component_warn(const struct kr_config *config);
/* Whether master keys are to be made in the token: master-keys, and for a server that has not been
 * verified unverified-server. */
bool component_token_mode(const struct kr_config *config);
/* A gate for kr_secrets_set_gate(); `context` is the struct kr_config. */
enum kr_status component_gate(void *context, struct kr_secrets *secrets, enum kr_secret_form form,
                              const uint8_t *handle, struct kr_error *err);

/* --- error_log.c --- */
void component_log_sink(enum kr_log_level level, const char *message, void *context);
/* Logs a failure and keeps it for the status rows. Returns 1, what a failing service returns. */
int component_failed(const struct kr_error *err);
/* The last failure, or "" since component_forget_error(). */
void component_last_error(char *ret, size_t size);
void component_forget_error(void);

#endif
