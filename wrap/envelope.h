/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The envelope: one shape whatever the token offers (docs/FORMAT.md).
 *
 * AES-256-GCM under a fresh 32-byte sealing key seals the payload, and each token of the keyring
 * wraps that sealing key under a master key of its own: any one of them opens the envelope. The
 * header with all wraps and the context are associated data: an envelope that is edited, or opened
 * under another context than it was sealed for, fails with KR_INTEGRITY. Sealing keys and payloads
 * live in secret memory. Parsing needs no token and trusts nothing.
 *
 * All functions may be called by several threads at once.
 */
#ifndef P11K_WRAP_ENVELOPE_H
#define P11K_WRAP_ENVELOPE_H

#include "base/config.h"
#include "pkcs11/token.h"

/* What a payload is and whom it belongs to; every field is authenticated. Strings are borrowed. */
struct kr_envelope_context {
    const char *keyring; /* the keyring's name */
    const uint8_t *uuid; /* the keystore's 16-byte identity */
    const char *ns;      /* namespace: "mariadb", "manifest", ... */
    const char *id;      /* key id, as text */
    const char *owner;   /* "" where the namespace has no owners */
    uint32_t version;
    const char *cipher; /* "aes-cbc", ... ; "" where it has none */
};

#define KR_ENVELOPE_PAYLOAD_MAX (16384 + 256) /* a MySQL secret with its type */
#define KR_ENVELOPE_WRAPS_MAX 16
#define KR_ENVELOPE_MAX                                                                            \
    (KR_ENVELOPE_PAYLOAD_MAX + 64 + KR_ENVELOPE_WRAPS_MAX * (KR_WRAPPED_MAX + KR_OBJECT_ID_MAX + 4))

/* A sealing key, wrapped by one master key; borrowed from the blob. */
struct kr_wrap {
    enum kr_wrap_mechanism mechanism;
    struct kr_object_id master_id;
    const uint8_t *wrapped;
    size_t wrapped_len;
};

/* What the header of an envelope says. */
struct kr_envelope_header {
    struct kr_wrap wraps[KR_ENVELOPE_WRAPS_MAX]; /* each by another master key */
    size_t wrap_count;                           /* at least one */
    size_t payload_len;
};

/* A master key of the keyring, and the tokens that have it. */
struct kr_master_key {
    struct kr_object_id id;
    enum kr_wrap_mechanism mechanism;       /* for new wraps */
    bool current;                           /* new envelopes are sealed for it */
    struct kr_token *tokens[KR_TOKENS_MAX]; /* in order of preference; borrowed */
    size_t token_count;                     /* 0: no configured token has it */
};

struct kr_masters {
    struct kr_master_key *keys; /* in order of preference */
    size_t count;
    bool doubtful; /* a token that answers did not show a current key that it should have */
};

/* Checks magic, version, lengths and bounds. KR_INTEGRITY. */
KR_MUST_USE enum kr_status kr_envelope_parse(const uint8_t *blob, size_t len,
                                             struct kr_envelope_header *ret, struct kr_error *err);

/* Seals for each current master key whose token serves; a token that is away or refuses the login
 * is left out (kr_envelope_is_current() says so afterwards). Fails when none serves, with what the
 * first one said, and when one of them fails otherwise or unwraps another key than it has wrapped.
 * *ret is malloc'ed; `len` is 1..KR_ENVELOPE_PAYLOAD_MAX. `sealing_key`: random bytes. */
KR_MUST_USE enum kr_status kr_envelope_seal(const struct kr_masters *masters,
                                            const struct kr_envelope_context *context,
                                            const uint8_t sealing_key[KR_SEALING_KEY_BYTES],
                                            const uint8_t *payload, size_t len, uint8_t **ret,
                                            size_t *ret_len, struct kr_error *err);

/* Opens by the first token that can, those that are up first. *ret is secret memory of *ret_len
 * bytes (kr_secret_free). KR_INTEGRITY as soon as one token says so: no other is asked then. */
KR_MUST_USE enum kr_status kr_envelope_open(const struct kr_masters *masters,
                                            const struct kr_envelope_context *context,
                                            const uint8_t *blob, size_t len, uint8_t **ret,
                                            size_t *ret_len, struct kr_error *err);

/* The same payload and sealing key, wrapped for the current master keys: wraps that are missing are
 * added where the token serves, and those of other master keys are left out as soon as no current
 * one is missing any more. New wraps are checked as for a new envelope. *ret is malloc'ed. */
KR_MUST_USE enum kr_status kr_envelope_rewrap(const struct kr_masters *masters,
                                              const struct kr_envelope_context *context,
                                              const uint8_t *blob, size_t len, uint8_t **ret,
                                              size_t *ret_len, struct kr_error *err);

/* Whether it is wrapped by exactly the current master keys. */
bool kr_envelope_is_current(const struct kr_masters *masters,
                            const struct kr_envelope_header *header);

/* Whether one of its wraps is by this master key. */
bool kr_envelope_names(const struct kr_envelope_header *header, const struct kr_object_id *master);

#endif
