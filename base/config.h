/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * Configuration: one INI file, the same for the server, mariadb-backup and the admin tool.
 * An unknown section, an unknown option, a bad value or an option said twice is an error that
 * names file and line: a misspelt security option must not be ignored.
 */
#ifndef P11K_BASE_CONFIG_H
#define P11K_BASE_CONFIG_H

#include <stdbool.h>
#include <sys/stat.h>

#include "base/secret.h"
#include "base/status.h"

#define KR_CONFIG_DEFAULT_PATH "/etc/p11keyring/p11keyring.conf"
#define KR_CONFIG_ENV "P11KEYRING_CONF"

enum { KR_TOKENS_MAX = 8 };

/* One [token:NAME] section. Strings are owned by the config; NULL: not set. */
struct kr_token_config {
    char *name;       /* NAME of [token:NAME]; "default" when only overrides gave a token */
    char *module;     /* module: full path of the PKCS#11 module */
    char *uri;        /* uri: RFC 7512 URI that picks the token */
    char *pin_source; /* pin-source: see base/pin_source.h */
    /* Quirks, see struct kr_quirks of pkcs11/token.h. */
    char *init_args;            /* init-args: reserved argument of C_Initialize */
    bool read_write_sessions;   /* read-write-sessions = auto (default) | only */
    bool iv_by_token;           /* iv-by-token = no (default) | yes */
    bool no_random;             /* random = token (default) | none */
    bool rsa_pkcs;              /* rsa-pkcs = refused (default) | allowed */
    unsigned long aes_gcm_code; /* aes-gcm-code: the vendor's number; 0: the standard's */
    unsigned long aes_kwp_code; /* aes-kwp-code: the vendor's number; 0: the standard's */
};

/* All strings are owned by the config; NULL or 0 means "not set" only where said. */
struct kr_config {
    char *path; /* the file that was read; NULL when there was none */

    struct kr_token_config tokens[KR_TOKENS_MAX]; /* in the order of the file: of preference */
    unsigned token_count;

    struct {
        char *name;                      /* name; default "default" */
        char *keystore;                  /* keystore: full path; NULL when not set */
        unsigned lock_timeout_ms;        /* lock-timeout, default 5000 */
        unsigned poll_ms;                /* poll-interval of a server, default 500 */
        enum kr_lock_policy lock_memory; /* lock-memory = warn | require */
        char *audit_log;                 /* audit-log: full path, or "syslog"; NULL: none */
        bool audit_required;             /* audit-policy = warn (default) | require */
        char *start_cache;               /* start-cache: full path; NULL: none */
        char *start_cache_key;           /* start-cache-key: source of its passphrase */
        unsigned start_cache_lifetime;   /* start-cache-lifetime in seconds, default 24h */
        char *data_directories;          /* data-directories: full paths, with ':' in between */
        unsigned master_key_age;         /* master-key-age in seconds; 0: not watched */
        bool export_forbidden;           /* export = allowed (default) | forbidden */
        unsigned data_key_age;           /* data-key-age in seconds; 0: not watched */
    } keyring;

    struct {
        char *cipher;           /* cipher of new key versions, default aes-cbc */
        unsigned rotation_step; /* rotation-step, default 2: see docs/USAGE-mariadb.md */
        bool auto_create;       /* auto-create = no (default) | yes */
    } mariadb;

    struct {
        char *master_keys;       /* master-keys = token (default) | wrapped */
        char *server_versions;   /* server-versions verified for token mode, see base/versions.h */
        char *unverified_server; /* unverified-server = refuse (default) | wrapped */
    } mysql;

    struct {
        unsigned timeout_ms; /* timeout of one Cryptoki call, default 10000 */
        unsigned sessions;   /* sessions at once with each token, default 8 */
        char *mechanism;     /* mechanism = auto (default) | aes-gcm | aes-kwp | rsa-oaep */
    } pkcs11;
};

/* Reads `path`; with NULL the file named by $P11KEYRING_CONF, else the default path. A file that
 * is not there is an error only when it was named (argument or environment). KR_CONFIG, KR_IO. */
KR_MUST_USE enum kr_status kr_config_load(const char *path, struct kr_config **ret,
                                          struct kr_error *err);

/* Sets one option from outside the file (a system variable, a command-line flag), for example
 * ("token", "module", "/usr/lib/...") or ("keyring", "keystore", ...): same checks, later wins.
 * "token" is the first token; it is made when there is none. */
KR_MUST_USE enum kr_status kr_config_override(struct kr_config *config, const char *section,
                                              const char *option, const char *value,
                                              struct kr_error *err);

/* KR_CONFIG unless `st` is that of a regular file that nobody but its owner can change: it names a
 * module to load. For other files that hold options, too. */
KR_MUST_USE enum kr_status kr_config_check_file(const char *path, const struct stat *st,
                                                struct kr_error *err);

/* Fails with KR_CONFIG and a hint unless a keystore path and a token are set, and a module and a
 * URI for each token. */
KR_MUST_USE enum kr_status kr_config_require(const struct kr_config *config, struct kr_error *err);

/* NULL is accepted. */
void kr_config_free(struct kr_config *config);
void kr_config_cleanup(struct kr_config **config);
#define KR_CONFIG_OWNED __attribute__((cleanup(kr_config_cleanup)))

#endif
