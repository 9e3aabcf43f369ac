/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The life of a keyring's master keys: new ones, other tokens, the end of old ones. Each operation
 * is one commit that says which master keys are current, followed by a rewrap of every envelope;
 * killed in between, it is completed by its next call (or by a server's watcher). Servers that use
 * the keystore go on, and take the new master keys over by themselves.
 *
 * For the admin tool: an open keyring that no other thread of the process uses.
 */
#ifndef P11K_PROVIDER_LIFE_H
#define P11K_PROVIDER_LIFE_H

#include "provider/keyring.h"

/* Called several times a second while envelopes are wrapped anew; false ends the work, which can be
 * resumed. */
typedef bool (*kr_progress_function)(uint64_t done, uint64_t total, void *context);

struct kr_life_options {
    const char
        *token;   /* NAME of a [token:NAME] section; NULL: each that has a current master key */
    bool dry_run; /* everything is checked, nothing is changed */
    const char *reason; /* of a retirement, for the audit log: on what grounds; may be NULL */
    kr_progress_function progress; /* may be NULL */
    void *context;
};

struct kr_life_result {
    struct kr_master_row made[KR_TOKENS_MAX]; /* new master keys */
    size_t made_count;
    bool resumed;       /* an earlier run was completed, nothing new was begun */
    uint64_t envelopes; /* all there are, with the manifest key's */
    uint64_t rewrapped; /* with dry_run: to be wrapped anew */
    uint64_t waiting;   /* not up to date, because a token that is needed for that is away: also
                           after some seconds, if it served when the run began */
    bool interrupted;   /* by the progress function: call it again */
};

/* New master keys for the tokens that have one, or for the named one. Each of these tokens must
 * serve, and is asked before anything is written. While an envelope names an old master key, an
 * earlier run was not completed: then that is done, and no new master key is made. */
KR_MUST_USE enum kr_status kr_keyring_rotate_masters(struct kr_keyring *keyring,
                                                     const struct kr_life_options *options,
                                                     struct kr_life_result *ret,
                                                     struct kr_error *err);

/* A master key in a token of the configuration that has none yet, beside those of the others.
 * KR_REFUSED when it has one and nothing is left to do. */
KR_MUST_USE enum kr_status kr_keyring_add_token(struct kr_keyring *keyring,
                                                const struct kr_life_options *options,
                                                struct kr_life_result *ret, struct kr_error *err);

/* The whole keyring under a master key in the named token alone: those of all other tokens become
 * old. */
KR_MUST_USE enum kr_status kr_keyring_move(struct kr_keyring *keyring,
                                           const struct kr_life_options *options,
                                           struct kr_life_result *ret, struct kr_error *err);

/* Brings up to date what is not, for example after a token was away. */
KR_MUST_USE enum kr_status kr_keyring_sync(struct kr_keyring *keyring,
                                           const struct kr_life_options *options,
                                           struct kr_life_result *ret, struct kr_error *err);

/* The one master key of the keystore with this id (hexadecimal) or label; `token` (may be NULL)
 * tells keys of the same label apart. KR_NOT_FOUND, KR_USAGE (several). */
KR_MUST_USE enum kr_status kr_keyring_find_master(struct kr_keyring *keyring, const char *name,
                                                  const char *token, struct kr_master_row *ret,
                                                  struct kr_error *err);

struct kr_retirement {
    bool destroyed; /* false: its token is not configured, and keeps the key */
    uint64_t rewrapped;
    bool interrupted;
};

/* Destroys an old master key that no envelope names any more in its token, and then forgets it. A
 * current one is KR_REFUSED unless its token is not configured any more and another one serves:
 * then its wraps are dropped first. A kill in between is completed by the next call. */
KR_MUST_USE enum kr_status kr_keyring_retire_master(struct kr_keyring *keyring,
                                                    const struct kr_object_id *master,
                                                    const struct kr_life_options *options,
                                                    struct kr_retirement *ret,
                                                    struct kr_error *err);

#endif
