/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Whether a token still has the very master keys that the keystore was sealed for. */
#include "provider/keyring_internal.h"

#include "base/guards.h"
#include "base/log.h"

#include <openssl/crypto.h>
#include <stdlib.h>

/* KR_INTEGRITY when the key in the token is another one; any other failure says nothing. */
static enum kr_status prove(const struct kr_keyring *keyring, const struct kr_keystore *keystore,
                            const struct kr_master_key *key, struct kr_token *token,
                            const uint8_t *blob, size_t len, struct kr_error *err)
{
    struct kr_master_key alone = *key;
    const struct kr_masters masters = {.keys = &alone, .count = 1};
    struct kr_envelope_context context =
        kr_manifest_context(keyring->name, kr_keystore_uuid(keystore));
    KR_SECRET uint8_t *found = NULL;
    size_t found_len = 0;
    alone.tokens[0] = token;
    alone.token_count = 1;
    KR_TRY(kr_envelope_open(&masters, &context, blob, len, &found, &found_len, err));
    if (found_len == KR_MANIFEST_KEY_BYTES &&
        CRYPTO_memcmp(found, keyring->manifest_key, KR_MANIFEST_KEY_BYTES) == 0)
        return KR_OK;
    return kr_fail(err, KR_INTEGRITY, "it opens another manifest key");
}

static enum kr_status refuse(struct kr_keyring *keyring, struct kr_master_key *key, size_t place,
                             const struct kr_error *why, struct kr_error *err)
{
    kr_fail(err, KR_INTEGRITY,
            "token '%s' has another master key in the place of the one that this keystore was "
            "sealed for: %s",
            kr_token_name(key->tokens[place]), why->text);
    kr_hint(err, "put the token's own master key back from its backup; a token that was set up "
                 "anew: p11keyring master rotate --token NAME");
    for (key->token_count--; place < key->token_count; place++)
        key->tokens[place] = key->tokens[place + 1];
    kr_keyring_doubt_masters(keyring); /* a token in trouble says the same, and comes round */
    return err->status;
}

/* The current master keys in one token; new wraps are made by them. */
static enum kr_status prove_token(struct kr_keyring *keyring, const struct kr_keystore *keystore,
                                  struct kr_token *token, const uint8_t *blob, size_t len,
                                  struct kr_error *err)
{
    struct kr_envelope_header header;
    KR_TRY(kr_envelope_parse(blob, len, &header, err));
    for (size_t i = 0; i < keyring->masters.count; i++) {
        struct kr_master_key *key = &keyring->masters.keys[i];
        size_t place = kr_master_place(key, token);
        struct kr_error why = KR_ERROR_INIT;
        if (!key->current || place == key->token_count || !kr_envelope_names(&header, &key->id))
            continue;
        if (prove(keyring, keystore, key, token, blob, len, &why) == KR_INTEGRITY)
            return refuse(keyring, key, place, &why, err);
    }
    return KR_OK;
}

static bool is_proven(const struct kr_keyring *keyring, size_t i, struct kr_proof *ret)
{
    const struct kr_proof *proof = &keyring->proofs[i];
    struct kr_token_stats stats;
    kr_token_get_stats(keyring->tokens.at[i], &stats);
    *ret = (struct kr_proof){stats.reconnects + 1, keyring->masters_version};
    return proof->connection == ret->connection && proof->masters_version == ret->masters_version;
}

static bool any_current(const struct kr_masters *masters)
{
    for (size_t i = 0; i < masters->count; i++)
        if (masters->keys[i].current && masters->keys[i].token_count > 0)
            return true;
    return false;
}

/* Each token that is up and was not asked at this connection. */
static enum kr_status prove_each(struct kr_keyring *keyring, const struct kr_keystore *keystore,
                                 const uint8_t *blob, size_t len, struct kr_error *err)
{
    for (size_t i = 0; i < keyring->tokens.count; i++) {
        struct kr_token *token = keyring->tokens.at[i];
        struct kr_error why = KR_ERROR_INIT;
        struct kr_proof now;
        if (!kr_token_is_up(token) || is_proven(keyring, i, &now))
            continue;
        if (prove_token(keyring, keystore, token, blob, len, &why) == KR_OK) {
            keyring->proofs[i] = now;
            continue;
        }
        if (!any_current(&keyring->masters)) {
            *err = why;
            return err->status;
        }
        kr_log_error(KR_LOG_ERROR, &why);
    }
    return KR_OK;
}

enum kr_status kr_keyring_prove_masters(struct kr_keyring *keyring, struct kr_keystore *keystore,
                                        struct kr_error *err)
{
    uint8_t *blob = NULL;
    size_t len = 0;
    struct kr_proof ignored;
    bool proven = true;
    for (size_t i = 0; i < keyring->tokens.count; i++)
        proven =
            proven && (!kr_token_is_up(keyring->tokens.at[i]) || is_proven(keyring, i, &ignored));
    if (proven || !KR_GUARDED)
        return KR_OK;
    KR_TRY(kr_keystore_get_manifest_envelope(keystore, &blob, &len, err));
    enum kr_status status = prove_each(keyring, keystore, blob, len, err);
    free(blob);
    return status;
}
