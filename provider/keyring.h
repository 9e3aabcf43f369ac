/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The keyring core: what every face stands on. It joins a token (pkcs11/token.h), a keystore
 * (wrap/keystore.h) and the data keys in locked memory.
 *
 * Life of a data key here: versioned, numbered upwards, each version with its cipher and 32 bytes
 * (16 or 24 when imported). Everything is unwrapped at open; a version that was served stays
 * available, and unchanged, until the keyring is closed, whatever happens to token and keystore.
 *
 * Lookups (kr_keyring_latest, kr_keyring_find) take no lock and never fail for a key that was
 * served. Everything else may be called from any thread and is serialised; a wait is bounded by
 * the token timeout and the lock timeout of the configuration. A keyring belongs to the process
 * that opened it: it is not used after fork.
 */
#ifndef P11K_PROVIDER_KEYRING_H
#define P11K_PROVIDER_KEYRING_H

#include "base/config.h"
#include "hwaccel/cipher.h"
#include "pkcs11/token.h"
#include "provider/audit.h"
#include "wrap/keystore.h"

struct kr_keyring;

#define KR_NS_MARIADB "mariadb"

/* Immutable once seen; lives in secret memory until the keyring is closed. */
struct kr_data_key {
    uint32_t id, version;
    enum kr_cipher cipher;
    uint8_t len; /* 16, 24 or 32 */
    uint8_t bytes[32];
};

/* --- open and close --------------------------------------------------------------------------- */

/* Opens keystore and token, checks the manifest and every master key in use, and unwraps every data
 * key. The config is only read during the call. */
KR_MUST_USE enum kr_status kr_keyring_open(const struct kr_config *config, struct kr_keyring **ret,
                                           struct kr_error *err);

/* The same for a server, which may start from its start cache when every token is away and the
 * configuration allows it (provider/outage.h). */
KR_MUST_USE enum kr_status kr_keyring_open_server(const struct kr_config *config,
                                                  struct kr_keyring **ret, struct kr_error *err);

/* Waits for no hung module. NULL is accepted. */
void kr_keyring_close(struct kr_keyring *keyring);

/* --- lookups: no lock, no allocation ---------------------------------------------------------- */

/* The latest version of a key, one atomic load after the table lookup; 0 when it is not there. */
uint32_t kr_keyring_latest(const struct kr_keyring *keyring, uint32_t id);

/* NULL when not there. */
const struct kr_data_key *kr_keyring_find(const struct kr_keyring *keyring, uint32_t id,
                                          uint32_t version);

/* --- following changes ------------------------------------------------------------------------ */

/* Takes over what other processes have committed since; cheap when nothing has changed. Keys are
 * only ever added. On failure everything stays as it was. */
KR_MUST_USE enum kr_status kr_keyring_refresh(struct kr_keyring *keyring, struct kr_error *err);

/* Starts a thread that refreshes every poll interval, logs a failure once until it passes, and
 * ends with kr_keyring_close(). */
KR_MUST_USE enum kr_status kr_keyring_watch(struct kr_keyring *keyring, struct kr_error *err);

/* --- a pause, while somebody else works on the keystore ----------------------------------------
 */

/* From now on keystore and token are left alone: nothing is taken over or sealed anew, changes of
 * data keys are KR_REFUSED, kr_keyring_refresh() does nothing. Lookups go on. Waits at most
 * `wait_ms` for what is under way, then gives up with KR_TOKEN_UNAVAILABLE and goes on. */
KR_MUST_USE enum kr_status kr_keyring_pause(struct kr_keyring *keyring, unsigned wait_ms,
                                            struct kr_error *err);
void kr_keyring_resume(struct kr_keyring *keyring);
bool kr_keyring_is_paused(struct kr_keyring *keyring);

/* --- changes; each is durable when it returns KR_OK ------------------------------------------- */

/* Makes a key with its first version; KR_REFUSED when the key has versions. `import` (NULL: random)
 * are import_len (16, 24, 32) bytes to take as they are. */
KR_MUST_USE enum kr_status kr_keyring_create_key(struct kr_keyring *keyring, uint32_t id,
                                                 enum kr_cipher cipher, const uint8_t *import,
                                                 size_t import_len, uint32_t *ret_version,
                                                 struct kr_error *err);

/* The same, but a key that exists, also one just made by another process, is success: for servers
 * that create a key at first use. */
KR_MUST_USE enum kr_status kr_keyring_ensure_key(struct kr_keyring *keyring, uint32_t id,
                                                 enum kr_cipher cipher, uint32_t *ret_version,
                                                 struct kr_error *err);

/* A new version, `rotation-step` above the last one. KR_NOT_FOUND, KR_REFUSED (disabled). */
KR_MUST_USE enum kr_status kr_keyring_rotate_key(struct kr_keyring *keyring, uint32_t id,
                                                 enum kr_cipher cipher, uint32_t *ret_version,
                                                 struct kr_error *err);

/* A disabled key gets no new versions; servers go on with what they have, and a restarted server
 * still opens and writes the tables that carry it. */
KR_MUST_USE enum kr_status kr_keyring_set_disabled(struct kr_keyring *keyring, uint32_t id,
                                                   bool disabled, struct kr_error *err);

/* Forgets an old version of a key for good: what it encrypted cannot be read any more, once the
 * servers that have it in memory have ended. That nothing needs it is the caller's to see; `reason`
 * says so in the audit log. KR_REFUSED for the latest version, KR_NOT_FOUND. With `dry_run` it is
 * only checked. */
KR_MUST_USE enum kr_status kr_keyring_destroy_version(struct kr_keyring *keyring, uint32_t id,
                                                      uint32_t version, bool dry_run,
                                                      const char *reason, struct kr_error *err);

/* --- making a keyring ------------------------------------------------------------------------- */

/* Makes the keystore around a master key in each configured token: a new one
 * ("p11keyring:<keyring>:<n>"), or the one that `adopt_uri` names. Each is checked and its
 * mechanism proven first. KR_REFUSED when the keystore exists; and, without `replace`, when a token
 * remembers another keystore of this keyring's name. The rows come in the order of the tokens;
 * *ret_others counts the other usable master keys of this keyring's name on the tokens (a
 * sign that a keystore was lost). */
KR_MUST_USE enum kr_status kr_keyring_create(const struct kr_config *config, const char *adopt_uri,
                                             bool replace, struct kr_master_row ret[KR_TOKENS_MAX],
                                             size_t *ret_count, unsigned *ret_others,
                                             struct kr_error *err);

/* Whether kr_keyring_create() would refuse: KR_REFUSED. Changes nothing. */
KR_MUST_USE enum kr_status kr_keyring_check_new(const struct kr_config *config, bool replace,
                                                struct kr_error *err);

/* Opens a configured token, the first one with `name` NULL, without a keystore, not logged in, for
 * the admin tool. *ret borrows from `audit` and from *ret_pin; free the token first. */
KR_MUST_USE enum kr_status kr_keyring_open_token(const struct kr_config *config, const char *name,
                                                 struct kr_audit *audit, struct kr_token **ret,
                                                 struct kr_pin_source **ret_pin,
                                                 struct kr_error *err);

/* "<keystore>.pin-guard", malloc'ed; NULL when out of memory. */
char *kr_keyring_guard_path(const struct kr_config *config);

/* --- the keystore's generation, as the tokens remember it ------------------------------------- */

enum kr_anchor_state {
    KR_ANCHOR_NOT_ASKED, /* the token is away */
    KR_ANCHOR_NONE,      /* it remembers nothing yet */
    KR_ANCHOR_SET,
    KR_ANCHOR_REFUSED /* it keeps no data objects */
};

/* What the keystore is, and what a token remembers instead. */
struct kr_remembered {
    const char *token; /* its name; the configuration's */
    enum kr_anchor_state state;
    bool same_keystore;
    uint64_t generation;
    int64_t written;
};
struct kr_acceptance {
    uint64_t generation;
    int64_t newest_key; /* when its newest key version was made; 0: it has none */
    struct kr_remembered tokens[KR_TOKENS_MAX];
    size_t token_count;
    bool needed; /* otherwise every token that answers agrees with the keystore already */
};

/* Tells the tokens that the keystore as it is now is the right one, although they remember a newer
 * one or another: its generation becomes higher than all that they remember, so that those are
 * refused from now on. `confirm` is asked when that is needed, and KR_OK from it is consent. The
 * keystore must verify. *ret says what was found; nothing is changed where nothing is needed. */
typedef enum kr_status (*kr_confirm)(const struct kr_acceptance *found, void *context,
                                     struct kr_error *err);
KR_MUST_USE enum kr_status kr_keyring_accept(const struct kr_config *config, kr_confirm confirm,
                                             void *context, struct kr_acceptance *ret,
                                             struct kr_error *err);

/* The newest record of the audit log that the keystore vouches for; number 0: none yet. */
KR_MUST_USE enum kr_status kr_keyring_audit_anchor(struct kr_keyring *keyring,
                                                   struct kr_audit_head *ret, struct kr_error *err);

/* An HMAC-SHA-256 that only a holder of this keystore and its token can make, for a file outside of
 * the keystore; `purpose` keeps kinds of files apart. */
enum { KR_VOUCH_BYTES = 32 };
KR_MUST_USE enum kr_status kr_keyring_vouch(struct kr_keyring *keyring, const char *purpose,
                                            const uint8_t *bytes, size_t len,
                                            uint8_t ret[KR_VOUCH_BYTES], struct kr_error *err);

/* --- for status and diagnosis ----------------------------------------------------------------- */

/* One token's part in the keyring. */
struct kr_token_report {
    const char *name;          /* of its section; borrowed from the keyring */
    enum kr_token_state state; /* as it was seen last */
    char master[128];          /* the label of its current master key; empty: it has none */
    uint64_t opens;            /* envelopes that it can open */
    uint64_t waiting;          /* envelopes that are not wrapped for its current master key yet */
    enum kr_anchor_state anchor;
    uint64_t remembers; /* the keystore's generation */
    bool behind;        /* it has not been told the newest one */
};

/* In the order of the configuration. The tokens are asked again what they remember. */
KR_MUST_USE enum kr_status kr_keyring_report_tokens(struct kr_keyring *keyring,
                                                    struct kr_token_report ret[KR_TOKENS_MAX],
                                                    size_t *ret_count, struct kr_error *err);

/* "first: up, second: down": each token's state as it was seen last; asks nobody. */
enum { KR_TOKEN_STATES_TEXT = KR_TOKENS_MAX * 48 };
void kr_keyring_token_states(const struct kr_keyring *keyring, char ret[KR_TOKEN_STATES_TEXT]);

struct kr_keyring_stats {
    uint32_t keys, versions;
    uint64_t refreshes, refresh_errors;
    bool from_start_cache;       /* no token has served since the start */
    bool token_up;               /* one of the tokens at least */
    struct kr_token_stats token; /* of all tokens together */
    struct kr_audit_state audit; /* borrows from the keyring */
};
/* Takes no lock that a token call holds. */
void kr_keyring_get_stats(const struct kr_keyring *keyring, struct kr_keyring_stats *ret);

#endif
