/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The envelope: one shape whatever the token offers (docs/FORMAT.md).
 *
 * The token wraps a fresh 32-byte sealing key; AES-256-GCM under the sealing key seals the payload
 * with the header and the context as associated data. An envelope that is edited, or opened under
 * another context than it was sealed for, fails with KR_INTEGRITY. Sealing keys and payloads live
 * in secret memory. Parsing needs no token and trusts nothing.
 */
#ifndef P11K_WRAP_ENVELOPE_H
#define P11K_WRAP_ENVELOPE_H

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
#define KR_ENVELOPE_MAX (KR_ENVELOPE_PAYLOAD_MAX + 512)

/* What the header of an envelope says; borrowed from the blob. */
struct kr_envelope_header {
    enum kr_wrap_mechanism mechanism;
    struct kr_object_id master_id;
    const uint8_t *wrapped;
    size_t wrapped_len;
    size_t payload_len;
};

/* Checks magic, version, lengths and bounds. KR_INTEGRITY. */
KR_MUST_USE enum kr_status kr_envelope_parse(const uint8_t *blob, size_t len,
                                             struct kr_envelope_header *ret, struct kr_error *err);

/* *ret is malloc'ed. `len` is 1..KR_ENVELOPE_PAYLOAD_MAX. Token errors pass through. */
KR_MUST_USE enum kr_status kr_envelope_seal(struct kr_token *token,
                                            const struct kr_object_id *master_id,
                                            enum kr_wrap_mechanism mechanism,
                                            const struct kr_envelope_context *context,
                                            const uint8_t *payload, size_t len, uint8_t **ret,
                                            size_t *ret_len, struct kr_error *err);

/* *ret is secret memory of *ret_len bytes (kr_secret_free). */
KR_MUST_USE enum kr_status kr_envelope_open(struct kr_token *token,
                                            const struct kr_envelope_context *context,
                                            const uint8_t *blob, size_t len, uint8_t **ret,
                                            size_t *ret_len, struct kr_error *err);

#endif
