/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The tokens of a keyring, in order of preference, and which of them has which master key. One that
 * is away is no failure while another one serves. Private to the keyring core.
 */
#ifndef P11K_PROVIDER_TOKENS_H
#define P11K_PROVIDER_TOKENS_H

#include "base/config.h"
#include "provider/audit.h"
#include "wrap/envelope.h"
#include "wrap/keystore.h"

struct kr_tokens {
    size_t count;
    struct kr_token *at[KR_TOKENS_MAX];
    struct kr_pin_source *pins[KR_TOKENS_MAX];
};

/* None is asked for yet. On failure *ret is empty. Logins go to `audit`, which outlives them. */
KR_MUST_USE enum kr_status kr_tokens_new(const struct kr_config *config, struct kr_audit *audit,
                                         struct kr_tokens *ret, struct kr_error *err);
void kr_tokens_close(struct kr_tokens *tokens);

/* Logs in to each token that is worth trying; KR_OK when one serves, else what the first said. */
KR_MUST_USE enum kr_status kr_tokens_login(const struct kr_tokens *tokens, struct kr_error *err);

/* Any length: the generator of the first token that serves, mixed with OpenSSL's. */
KR_MUST_USE enum kr_status kr_tokens_random(const struct kr_tokens *tokens, uint8_t *ret,
                                            size_t len, struct kr_error *err);

/* The first token that serves, logged in. */
KR_MUST_USE enum kr_status kr_tokens_serving(const struct kr_tokens *tokens, struct kr_token **ret,
                                             struct kr_error *err);

/* The first token that has this token-resident key. */
KR_MUST_USE enum kr_status kr_tokens_holder(const struct kr_tokens *tokens,
                                            const struct kr_object_id *object, bool imported,
                                            struct kr_token **ret, struct kr_error *err);

/* The token of this name; NULL when none is configured. */
struct kr_token *kr_tokens_find(const struct kr_tokens *tokens, const char *name);

/* --- master keys ---------------------------------------------------------------------------- */

/* The token's place among those that have the master key; key->token_count: it is none of them. */
size_t kr_master_place(const struct kr_master_key *key, const struct kr_token *token);

/* The token that has this one of the keystore's master keys; NULL when it is not configured. The
 * keyring's single token may be known by another name than when its keys were made. */
struct kr_token *kr_master_token(const struct kr_master_row *rows, size_t count,
                                 const struct kr_master_row *row, const struct kr_tokens *tokens);

/* The keystore's master keys with their tokens: current ones first, in the order of the tokens. A
 * master key that its token lacks or refuses is an error with a single token, and is logged with
 * several; an old one that is gone is only logged. A current one makes the result doubtful: a
 * module may need a moment to see what another process has made. *ret->keys is malloc'ed; the
 * tokens are borrowed. */
KR_MUST_USE enum kr_status kr_masters_match(const struct kr_master_row *rows, size_t count,
                                            const struct kr_tokens *tokens, struct kr_masters *ret,
                                            struct kr_error *err);

/* For work that goes on while the keyring's own may change; *ret->keys is malloc'ed. */
KR_MUST_USE enum kr_status kr_masters_copy(const struct kr_masters *masters, struct kr_masters *ret,
                                           struct kr_error *err);

#endif
