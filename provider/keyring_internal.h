/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The keyring's insides, shared by the files of the keyring core only. */
#ifndef P11K_PROVIDER_KEYRING_INTERNAL_H
#define P11K_PROVIDER_KEYRING_INTERNAL_H

#include <stdatomic.h>

#include "base/gate.h"
#include "base/turn.h"
#include "provider/generation.h"
#include "provider/keyring.h"
#include "provider/keytable.h"
#include "provider/outage.h"
#include "provider/tokens.h"
#include "wrap/envelope.h"

struct kr_keyring {
    /* Fixed after open. */
    char *name, *keystore_path;
    struct kr_gate gate; /* of the watcher, and of changes and refreshes; shut: paused */
    unsigned lock_timeout_ms, wait_ms, poll_ms;
    uint32_t rotation_step;
    bool export_forbidden;
    unsigned sessions;                /* at once with each token */
    enum kr_wrap_mechanism mechanism; /* the wish for new master keys */
    struct kr_audit *audit;           /* NULL: no log */
    struct kr_tokens tokens;
    struct kr_keytable *table;
    uint8_t *manifest_key; /* secret memory */

    /* Serialises everything below and the token. */
    struct kr_turn turn;
    struct kr_keystore *keystore;      /* for reading; a writer opens its own */
    struct kr_master_row *master_rows; /* as they were when `masters` was made */
    size_t master_count;
    struct kr_masters masters;
    uint64_t masters_version; /* counts the changes of `masters` */
    uint64_t masters_retry;   /* kr_now_ms() at which doubtful ones are looked for again */
    struct kr_proof {
        uint64_t connection, masters_version;
    } proofs[KR_TOKENS_MAX]; /* by token: when its master keys were proven */
    struct kr_anchors anchors;
    uint64_t seen_change;
    struct kr_outage outage;

    _Atomic uint64_t refreshes, refresh_errors;

    struct kr_watcher *watcher;
};

/* What an envelope of this keyring is bound to. Strings are borrowed. */
struct kr_envelope_context kr_keyring_context(const struct kr_keyring *keyring, const char *ns,
                                              const char *id, const char *owner, uint32_t version,
                                              const char *cipher);

/* The context of the manifest key's envelope. */
#define KR_NS_MANIFEST "manifest"
struct kr_envelope_context kr_manifest_context(const char *keyring, const uint8_t *uuid);

/* A keyring without keys: keystore and tokens are open, the manifest's key is known. `event` is
 * what the audit log says begins with it; its end is the caller's to record. */
KR_MUST_USE enum kr_status kr_keyring_connect(const struct kr_config *config, const char *event,
                                              struct kr_keyring **ret, struct kr_error *err);

/* Compares the keystore with what the tokens remember, and tells them where they are behind. The
 * caller holds the lock, if others can have it. */
KR_MUST_USE enum kr_status kr_keyring_check_generation(struct kr_keyring *keyring,
                                                       struct kr_error *err);

/* Sees that each token that is up has the very master keys that it had: that they unwrap the
 * manifest's key, once for each connection. One that does not is used no more, and said in the log;
 * KR_INTEGRITY when none is left. The caller holds the lock. */
KR_MUST_USE enum kr_status kr_keyring_prove_masters(struct kr_keyring *keyring,
                                                    struct kr_keystore *keystore,
                                                    struct kr_error *err);

/* Takes the lock within the bounded wait; KR_IO after it. */
KR_MUST_USE enum kr_status kr_keyring_lock(struct kr_keyring *keyring, struct kr_error *err);
void kr_keyring_unlock(struct kr_keyring *keyring);

/* kr_keyring_refresh() for a caller that holds the lock. */
KR_MUST_USE enum kr_status kr_keyring_refresh_locked(struct kr_keyring *keyring,
                                                     struct kr_error *err);

/* Reads the master keys' rows from `keystore` and, where they have changed, sees which token has
 * which. The caller holds the lock. */
KR_MUST_USE enum kr_status kr_keyring_load_masters(struct kr_keyring *keyring,
                                                   struct kr_keystore *keystore,
                                                   struct kr_error *err);

/* Whether these are the rows that `masters` was made of; counters of wraps aside. */
bool kr_keyring_knows_masters(const struct kr_keyring *keyring, const struct kr_master_row *rows,
                              size_t count);

/* What is known of the master keys is looked at again in a moment. */
void kr_keyring_doubt_masters(struct kr_keyring *keyring);

/* As kr_keyring_load_masters() with rows that the caller has read. */
KR_MUST_USE enum kr_status kr_keyring_take_masters(struct kr_keyring *keyring,
                                                   const struct kr_master_row *rows, size_t count,
                                                   struct kr_error *err);

/* The wish that [pkcs11] mechanism holds. */
KR_MUST_USE enum kr_status kr_config_mechanism(const struct kr_config *config,
                                               enum kr_wrap_mechanism *ret, struct kr_error *err);

struct kr_keystore_options kr_config_keystore(const struct kr_config *config, bool writable);

/* watcher.c */
KR_MUST_USE enum kr_status kr_watcher_start(struct kr_keyring *keyring, struct kr_watcher **ret,
                                            struct kr_error *err);
/* Ends the thread and waits for it; NULL is accepted. */
void kr_watcher_stop(struct kr_watcher *watcher);

#endif
