/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * A connection to one PKCS#11 token (Cryptoki 2.40/3.0): found by RFC 7512 URI, logged in once,
 * its master keys used for wrapping. Everything that can wait for the module runs on a worker
 * thread of the connection; a caller waits at most `timeout_ms` for each single Cryptoki call and
 * then gets KR_TOKEN_UNAVAILABLE, whatever the module does. The hung call is left to its worker,
 * which is written off; the number of written-off workers in a process is bounded, and a module
 * with one is never finalised or unloaded.
 *
 * All functions may be called from any thread. Lost sessions, vanished slots and a finalised module
 * are repaired by re-opening, logging in again and finding objects again. An operation with keys
 * waits for a token that this connection had before, for `timeout_ms` at most; a first connection
 * and questions (kr_token_get_info, ...) get their answer at once. After a fork the child's first
 * call starts afresh: own worker, own C_Initialize, own login.
 */
#ifndef P11K_PKCS11_TOKEN_H
#define P11K_PKCS11_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/pin_source.h"
#include "base/status.h"

struct kr_token;

/* Where tokens differ from the standard or from each other. Zeroed: nothing special. */
struct kr_quirks {
    const char *init_args;      /* pReserved of C_Initialize, as NSS wants it; NULL: none */
    bool read_write_only;       /* the token has no read-only sessions */
    bool iv_by_token;           /* AES-GCM: the token makes the IV and returns it */
    bool no_random;             /* C_GenerateRandom is not to be called */
    bool rsa_pkcs;              /* new RSA master keys allow CKM_RSA_PKCS, too */
    unsigned long aes_gcm_code; /* the vendor's code of AES-GCM; 0: CKM_AES_GCM */
    unsigned long aes_kwp_code; /* the vendor's code of RFC 5649; 0: CKM_AES_KEY_WRAP_PAD */
};

/* Everything is copied, but for `pin`. */
struct kr_token_options {
    const char *name;          /* NAME of its [token:NAME] section, for messages; may be NULL */
    const char *module;        /* full path of the module */
    const char *uri;           /* RFC 7512; must match exactly one token */
    struct kr_pin_source *pin; /* NULL: no login possible; borrowed, must outlive the token */
    const char *guard_path;    /* PIN guard file, see pkcs11/pin_guard.h; needed with a pin */
    unsigned timeout_ms;       /* longest wait for one Cryptoki call */
    unsigned lock_timeout_ms;  /* longest wait for another process's login */
    unsigned sessions;         /* most sessions at once, each opened when it is needed; 0: one */
    bool one_of_several;       /* other tokens can serve: never wait for this one to come back */
    struct kr_quirks quirks;
    /* Told of each login with a PIN that was tried, and of each that was refused without a try;
     * `failure` is NULL when it went well. From any thread that uses the token. May be NULL. */
    void (*on_login)(void *context, const char *name, const struct kr_error *failure);
    void *on_login_context; /* must outlive the token */
};

/* From CK_TOKEN_INFO, padding removed, NUL-terminated. */
struct kr_token_info {
    char label[33], manufacturer[33], model[17], serial[17];
    char hardware[8], firmware[8]; /* "major.minor" */
    unsigned long slot;
    bool initialized, user_pin_set, login_required, protected_path, write_protected;
    bool pin_count_low, pin_final_try, pin_locked, pin_to_be_changed;
};

/* "model/serial/label", by which the PIN guard knows a token; `ret` holds KR_GUARD_ID_MAX bytes. */
#define KR_GUARD_ID_MAX 80
void kr_token_guard_id(const struct kr_token_info *info, char *ret);

/* A CKA_ID: 16 bytes (a UUID) for keys made here, any 1..KR_OBJECT_ID_MAX for adopted ones. */
#define KR_OBJECT_ID_MAX 32
struct kr_object_id {
    uint8_t len;
    uint8_t bytes[KR_OBJECT_ID_MAX];
};

bool kr_object_id_equal(const struct kr_object_id *a, const struct kr_object_id *b);

/* A fresh UUID. */
KR_MUST_USE enum kr_status kr_object_id_make(struct kr_object_id *ret, struct kr_error *err);

enum kr_key_kind { KR_KIND_OTHER, KR_KIND_AES, KR_KIND_RSA };

/* What the token says of a secret key or an RSA private key. `problem` is NULL when it may serve as
 * a master key. */
struct kr_master_info {
    struct kr_object_id id;
    char label[128];
    enum kr_key_kind kind;
    unsigned bits; /* 0: the token does not tell */
    bool on_token, is_private, sensitive, extractable;
    bool never_extractable, always_sensitive, local;
    bool can_encrypt, can_decrypt, can_wrap, can_unwrap, can_sign;
    bool always_authenticate; /* wants the PIN for each use */
    const char *problem;      /* static text: why it is refused as a master key */
};

/* Formats of a wrapped sealing key; the numbers are stored in envelopes (docs/FORMAT.md). */
enum kr_wrap_mechanism {
    KR_WRAP_AUTO = 0,       /* only as a wish: choose by what the token can do */
    KR_WRAP_AES_GCM = 1,    /* C_Encrypt CKM_AES_GCM: iv(12) || ciphertext(32) || tag(16) */
    KR_WRAP_AES_KWP = 2,    /* C_WrapKey giving RFC 5649: 40 bytes for a 32-byte key */
    KR_WRAP_RSA_SHA256 = 3, /* RSAES-OAEP with SHA-256, signed in the token (PKCS #1 v1.5, SHA-256):
                               length u16 || ciphertext || signature, see pkcs11/rsa.c */
    KR_WRAP_RSA_SHA1 = 4,   /* the same with SHA-1 in OAEP, for tokens that know no other */
    KR_WRAP_RSA = 255       /* only as a wish: either of the two */
};

#define KR_SEALING_KEY_BYTES 32
#define KR_WRAPPED_MAX 1040 /* RSA-4096: 2 + 512 + 512 */

/* Counters since open, for status variables. Read at any time. */
struct kr_token_stats {
    uint64_t wraps, unwraps, logins, reconnects, errors, timeouts, searches;
    uint64_t resident_operations;
    uint64_t evictions; /* sessions that were given up for a new one */
    uint64_t sessions;  /* open now */
};

/* Loads and initialises the module and finds the token; no login. KR_CONFIG (module missing or no
 * PKCS#11 module, bad URI), KR_TOKEN_UNAVAILABLE (no token matches, too), KR_REFUSED (several
 * match). */
KR_MUST_USE enum kr_status kr_token_open(const struct kr_token_options *options,
                                         struct kr_token **ret, struct kr_error *err);

/* The same without asking for the token: it is looked for when it is first used. For a token that
 * may be away. KR_CONFIG. */
KR_MUST_USE enum kr_status kr_token_new(const struct kr_token_options *options,
                                        struct kr_token **ret, struct kr_error *err);

/* NAME of its section; "token" without one. */
const char *kr_token_name(const struct kr_token *token);

/* Logs out and closes only what this connection opened; never waits longer than the timeout. */
void kr_token_close(struct kr_token *token);

KR_MUST_USE enum kr_status kr_token_get_info(struct kr_token *token, struct kr_token_info *ret,
                                             struct kr_error *err);

/* CKM numbers the token lists, for doctor: *ret is malloc'ed, `*ret_count` long. */
KR_MUST_USE enum kr_status kr_token_mechanisms(struct kr_token *token, unsigned long **ret,
                                               size_t *ret_count, struct kr_error *err);

/* Logs in through the PIN guard; at once KR_OK when this connection is logged in. KR_AUTH when the
 * PIN was refused, is locked, or is guarded after an earlier refusal. */
KR_MUST_USE enum kr_status kr_token_login(struct kr_token *token, struct kr_error *err);

/* The last state seen by any call, without asking the token: for status variables. */
enum kr_token_state { KR_TOKEN_NOT_ASKED, KR_TOKEN_UP, KR_TOKEN_DOWN, KR_TOKEN_PIN_REFUSED };
enum kr_token_state kr_token_state(const struct kr_token *token);
const char *kr_token_state_name(enum kr_token_state state);
bool kr_token_is_up(const struct kr_token *token);
/* Up, never tried, or failed so long ago (a back-off that grows to some seconds) that it should be
 * tried again: what a caller asks who has another token. A refused PIN is not worth trying. */
bool kr_token_worth_trying(const struct kr_token *token);
void kr_token_get_stats(const struct kr_token *token, struct kr_token_stats *ret);

/* --- master keys; each call logs in when needed ----------------------------------------------- */

/* Generates a key in the token: CKA_TOKEN, CKA_PRIVATE, CKA_SENSITIVE, not CKA_EXTRACTABLE, with
 * the usages that the mechanism `wish` needs and no other (KR_WRAP_AUTO: the first that works of
 * AES-GCM and AES-KWP, each with an AES-256 key, then RSA with a pair of 3072 bits). CKA_ID is a
 * fresh UUID. The new key is checked like any other and proven before KR_OK; a key that fails is
 * destroyed. */
KR_MUST_USE enum kr_status kr_master_generate(struct kr_token *token, const char *label,
                                              enum kr_wrap_mechanism wish,
                                              struct kr_master_info *ret, struct kr_error *err);

/* Every AES key on the token, also those that cannot serve, and the RSA private keys that can serve
 * or are labelled as ours: *ret is malloc'ed. */
KR_MUST_USE enum kr_status kr_master_list(struct kr_token *token, struct kr_master_info **ret,
                                          size_t *ret_count, struct kr_error *err);

/* The one key named by a URI (id= and/or object=), checked: KR_NOT_FOUND, KR_REFUSED. */
KR_MUST_USE enum kr_status kr_master_find_uri(struct kr_token *token, const char *uri,
                                              struct kr_master_info *ret, struct kr_error *err);

/* Finds and checks the key that a keystore names; the token is searched once per connection and
 * the handles are kept. KR_NOT_FOUND, KR_REFUSED (extractable, not private, neither AES-256 nor RSA
 * of 3072 to 4096 bits, two keys with this id). */
KR_MUST_USE enum kr_status kr_master_find(struct kr_token *token, const struct kr_object_id *id,
                                          struct kr_master_info *ret, struct kr_error *err);

/* Proves `wish` (or with KR_WRAP_AUTO the first that works with this key) by wrapping and
 * unwrapping a random key under the master key and comparing, and by seeing that a damaged wrap is
 * refused. KR_REFUSED when none works; the text says what the token answered to each. */
KR_MUST_USE enum kr_status kr_master_prove(struct kr_token *token, const struct kr_object_id *id,
                                           enum kr_wrap_mechanism wish, enum kr_wrap_mechanism *ret,
                                           struct kr_error *err);

/* Destroys the one key with this id in the token, and its public half, for good. KR_NOT_FOUND,
 * KR_REFUSED (two). */
KR_MUST_USE enum kr_status kr_master_destroy(struct kr_token *token, const struct kr_object_id *id,
                                             struct kr_error *err);

/* What a token will let us do, found out by doing it. */
struct kr_preflight {
    enum kr_wrap_mechanism mechanism; /* that a new master key would have */
    bool anchor;                      /* it keeps anchors (pkcs11/anchor.h) */
    char no_anchor[256];              /* why it does not */
};

/* Before anything is changed: makes, proves and destroys a key as kr_master_generate() makes it,
 * and an anchor. KR_REFUSED, with what is missing, when a master key cannot be made or destroyed;
 * no anchor is no failure. Both are labelled KR_PREFLIGHT_LABEL: what a kill leaves behind is known
 * by that, and hinders nothing. */
#define KR_PREFLIGHT_LABEL "p11keyring:preflight"
KR_MUST_USE enum kr_status kr_master_preflight(struct kr_token *token, enum kr_wrap_mechanism wish,
                                               struct kr_preflight *ret, struct kr_error *err);

/* Wraps a sealing key in the token. `ret_wrapped` holds KR_WRAPPED_MAX bytes. Checks the master
 * key as kr_master_find does. */
KR_MUST_USE enum kr_status kr_master_wrap(struct kr_token *token, const struct kr_object_id *id,
                                          enum kr_wrap_mechanism mechanism,
                                          const uint8_t sealing_key[KR_SEALING_KEY_BYTES],
                                          uint8_t *ret_wrapped, size_t *ret_len,
                                          struct kr_error *err);

/* The reverse; `ret_sealing_key` should be secret memory. KR_INTEGRITY when the token refuses the
 * wrap, which by itself says nothing about the token's health. */
KR_MUST_USE enum kr_status kr_master_unwrap(struct kr_token *token, const struct kr_object_id *id,
                                            enum kr_wrap_mechanism mechanism,
                                            const uint8_t *wrapped, size_t wrapped_len,
                                            uint8_t ret_sealing_key[KR_SEALING_KEY_BYTES],
                                            struct kr_error *err);

/* `len` (at most 1024) bytes: the token's generator mixed with OpenSSL's (XOR), so that either
 * being good is enough. A token without a generator: OpenSSL's alone. */
KR_MUST_USE enum kr_status kr_token_random(struct kr_token *token, uint8_t *ret, size_t len,
                                           struct kr_error *err);

/* "aes-gcm", "aes-kwp", "rsa-oaep-sha256", "rsa-oaep-sha1", and the wishes "auto" and "rsa-oaep";
 * NULL / false for unknown. */
const char *kr_wrap_mechanism_name(enum kr_wrap_mechanism mechanism);
bool kr_wrap_mechanism_parse(const char *name, enum kr_wrap_mechanism *ret);

#endif
