/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The envelope and the tokens: who wraps its sealing key, and who is asked to unwrap it. */
#include "wrap/envelope_internal.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"

/* Wraps that are being collected for a header, which borrows their bytes. */
struct collection {
    struct kr_envelope_header header;
    uint8_t bytes[KR_ENVELOPE_WRAPS_MAX][KR_WRAPPED_MAX];
};

static void free_collection(struct collection **c)
{
    free(*c);
}
#define COLLECTION __attribute__((cleanup(free_collection))) struct collection

/* What another token may make good: this one is away, or lets nobody in. */
static bool elsewhere(enum kr_status status)
{
    return status == KR_TOKEN_UNAVAILABLE || status == KR_AUTH;
}

static enum kr_status fail_foreign(struct kr_error *err)
{
    kr_fail(err, KR_INTEGRITY, "the envelope is for none of the keyring's master keys");
    kr_hint(err, "restore the keystore from a backup; keep the changed file to see what was done");
    return KR_INTEGRITY;
}

static enum kr_status fail_no_token(const struct kr_error *first, struct kr_error *err)
{
    if (first->status != KR_OK) {
        *err = *first;
        return err->status;
    }
    kr_fail(err, KR_NOT_FOUND, "no configured token has a master key that the envelope is for");
    kr_hint(err,
            "configure the token that has it in a [token:NAME] section; what the keyring needs: "
            "p11keyring master list");
    return KR_NOT_FOUND;
}

typedef enum kr_status (*use_token)(struct kr_token *token, void *context, struct kr_error *err);

/* Calls `use` with the master key's tokens, those that are worth trying or the others, until one
 * serves. *first keeps what the first one said, unless that was only that it is away. */
static enum kr_status try_tokens(const struct kr_master_key *master, bool worth, use_token use,
                                 void *context, struct kr_error *first)
{
    enum kr_status status = KR_NOT_FOUND;
    for (size_t i = 0; i < master->token_count; i++) {
        struct kr_error err = KR_ERROR_INIT;
        if (kr_token_worth_trying(master->tokens[i]) != worth)
            continue;
        status = use(master->tokens[i], context, &err);
        if (status == KR_OK)
            return KR_OK;
        if (first->status == KR_OK || (elsewhere(first->status) && !elsewhere(status))) {
            *first = err;
            kr_error_context(first, "token '%s'", kr_token_name(master->tokens[i]));
        }
    }
    return status;
}

/* --- opening ------------------------------------------------------------------------------- */

struct unwrapping {
    const struct kr_wrap *wrap;
    uint8_t *sealing_key;
};

static enum kr_status unwrap_in(struct kr_token *token, void *context, struct kr_error *err)
{
    const struct unwrapping *unwrapping = context;
    const struct kr_wrap *wrap = unwrapping->wrap;
    return kr_master_unwrap(token, &wrap->master_id, wrap->mechanism, wrap->wrapped,
                            wrap->wrapped_len, unwrapping->sealing_key, err);
}

/* A wrap that one token refuses may serve in another: what was edited is seen in the end, for all
 * wraps are associated data. */
static enum kr_status unwrap_key(const struct kr_masters *masters,
                                 const struct kr_envelope_header *header, uint8_t *sealing_key,
                                 struct kr_error *err)
{
    struct kr_error first = KR_ERROR_INIT;
    bool named = false;
    for (int worth = 1; worth >= 0; worth--) {
        for (size_t i = 0; i < masters->count; i++) {
            const struct kr_wrap *wrap = kr_envelope_find_wrap(header, &masters->keys[i].id);
            struct unwrapping unwrapping = {wrap, sealing_key};
            if (!wrap)
                continue;
            named = true;
            if (try_tokens(&masters->keys[i], worth, unwrap_in, &unwrapping, &first) == KR_OK)
                return KR_OK;
        }
    }
    return named ? fail_no_token(&first, err) : fail_foreign(err);
}

enum kr_status kr_envelope_open(const struct kr_masters *masters,
                                const struct kr_envelope_context *context, const uint8_t *blob,
                                size_t len, uint8_t **ret, size_t *ret_len, struct kr_error *err)
{
    struct kr_envelope_header header;
    KR_TRY(kr_envelope_parse(blob, len, &header, err));
    KR_SECRET uint8_t *key = kr_secret_alloc(KR_SEALING_KEY_BYTES);
    if (!key)
        return kr_fail_memory(err);
    KR_TRY(unwrap_key(masters, &header, key, err));
    return kr_envelope_open_with(key, context, blob, len, ret, ret_len, err);
}

/* --- sealing ------------------------------------------------------------------------------- */

struct wrapping {
    const struct kr_master_key *master;
    const uint8_t *sealing_key;
    uint8_t *wrapped;
    size_t len;
};

static enum kr_status wrap_in(struct kr_token *token, void *context, struct kr_error *err)
{
    struct wrapping *wrapping = context;
    return kr_master_wrap(token, &wrapping->master->id, wrapping->master->mechanism,
                          wrapping->sealing_key, wrapping->wrapped, &wrapping->len, err);
}

/* Adds the wrap by one master key. A token that has just failed is not waited for again. */
static enum kr_status add_wrap(struct collection *c, const struct kr_master_key *master,
                               const uint8_t *sealing_key, bool worth, struct kr_error *first)
{
    struct kr_envelope_header *header = &c->header;
    struct wrapping wrapping = {
        .master = master, .sealing_key = sealing_key, .wrapped = c->bytes[header->wrap_count]};
    enum kr_status status = try_tokens(master, worth, wrap_in, &wrapping, first);
    if (status == KR_OK)
        header->wraps[header->wrap_count++] = (struct kr_wrap){.mechanism = master->mechanism,
                                                               .master_id = master->id,
                                                               .wrapped = wrapping.wrapped,
                                                               .wrapped_len = wrapping.len};
    return status;
}

/* Wraps for the current master keys that `c` does not name yet. *ret_missing counts those whose
 * token does not serve. */
static enum kr_status add_current(struct collection *c, const struct kr_masters *masters,
                                  const uint8_t *sealing_key, bool worth, unsigned *ret_missing,
                                  struct kr_error *first)
{
    unsigned missing = 0;
    for (size_t i = 0; i < masters->count; i++) {
        const struct kr_master_key *master = &masters->keys[i];
        if (!master->current || kr_envelope_names(&c->header, &master->id))
            continue;
        enum kr_status status = c->header.wrap_count < KR_ENVELOPE_WRAPS_MAX
                                    ? add_wrap(c, master, sealing_key, worth, first)
                                    : KR_TOKEN_UNAVAILABLE;
        if (status != KR_OK && !elsewhere(status) && status != KR_NOT_FOUND && status != KR_REFUSED)
            return status;
        missing += status != KR_OK;
    }
    *ret_missing = missing;
    return KR_OK;
}

/* A token that wraps wrongly must be found out before the key is used: what is new, and not in
 * `old`, is unwrapped again. */
static enum kr_status check_new_wraps(const struct kr_masters *masters,
                                      const struct kr_envelope_header *old,
                                      const struct kr_envelope_header *new,
                                      const uint8_t *sealing_key, struct kr_error *err)
{
    KR_SECRET uint8_t *back = kr_secret_alloc(KR_SEALING_KEY_BYTES);
    if (!back)
        return kr_fail_memory(err);
    for (size_t i = 0; i < new->wrap_count; i++) {
        const struct kr_envelope_header one = {.wraps = {new->wraps[i]}, .wrap_count = 1};
        if (old && kr_envelope_names(old, &new->wraps[i].master_id))
            continue;
        KR_TRY(unwrap_key(masters, &one, back, err));
        if (CRYPTO_memcmp(back, sealing_key, KR_SEALING_KEY_BYTES) != 0) {
            kr_fail(err, KR_INTEGRITY, "the token unwrapped another key than it had wrapped");
            kr_hint(err, "nothing was stored; see what 'p11keyring doctor' finds, and pin another "
                         "mechanism by option mechanism in section [pkcs11] if it stays so");
            return KR_INTEGRITY;
        }
    }
    return KR_OK;
}

static enum kr_status seal_collected(const struct collection *c,
                                     const struct kr_envelope_context *context,
                                     const uint8_t *sealing_key, const uint8_t *payload,
                                     uint8_t **ret, size_t *ret_len, struct kr_error *err)
{
    uint8_t iv[KR_ENVELOPE_IV_BYTES];
    if (RAND_bytes(iv, sizeof(iv)) != 1)
        return kr_fail(err, KR_INTERNAL, "OpenSSL's random generator failed");
    return kr_envelope_seal_with(&c->header, context, sealing_key, iv, payload, ret, ret_len, err);
}

enum kr_status kr_envelope_seal(const struct kr_masters *masters,
                                const struct kr_envelope_context *context,
                                const uint8_t sealing_key[KR_SEALING_KEY_BYTES],
                                const uint8_t *payload, size_t len, uint8_t **ret, size_t *ret_len,
                                struct kr_error *err)
{
    struct kr_error first = KR_ERROR_INIT;
    unsigned missing = 0;
    if (len == 0 || len > KR_ENVELOPE_PAYLOAD_MAX)
        return kr_fail(err, KR_USAGE, "an envelope holds 1 to %d bytes, not %zu",
                       KR_ENVELOPE_PAYLOAD_MAX, len);
    COLLECTION *c = calloc(1, sizeof(*c));
    if (!c)
        return kr_fail_memory(err);
    c->header.payload_len = len;
    enum kr_status status = add_current(c, masters, sealing_key, true, &missing, &first);
    if (status == KR_OK && c->header.wrap_count == 0)
        status = add_current(c, masters, sealing_key, false, &missing, &first);
    if (status != KR_OK || c->header.wrap_count == 0)
        return fail_no_token(&first, err);
    KR_TRY(check_new_wraps(masters, NULL, &c->header, sealing_key, err));
    return seal_collected(c, context, sealing_key, payload, ret, ret_len, err);
}

/* --- wrapping anew ------------------------------------------------------------------------- */

static const struct kr_master_key *find_master(const struct kr_masters *masters,
                                               const struct kr_object_id *id)
{
    for (size_t i = 0; i < masters->count; i++)
        if (kr_object_id_equal(&masters->keys[i].id, id))
            return &masters->keys[i];
    return NULL;
}

static bool is_by_current(const struct kr_masters *masters, const struct kr_wrap *wrap)
{
    const struct kr_master_key *master = find_master(masters, &wrap->master_id);
    return master && master->current;
}

bool kr_envelope_is_current(const struct kr_masters *masters,
                            const struct kr_envelope_header *header)
{
    size_t current = 0;
    for (size_t i = 0; i < masters->count; i++)
        current += masters->keys[i].current;
    for (size_t i = 0; i < header->wrap_count; i++)
        if (!is_by_current(masters, &header->wraps[i]))
            return false;
    return header->wrap_count == current;
}

/* Copies the wraps that `keep_current` picks: those by current master keys, or the others. */
static void keep_wraps(struct collection *c, const struct kr_masters *masters,
                       const struct kr_envelope_header *from, bool keep_current)
{
    struct kr_envelope_header *header = &c->header;
    for (size_t i = 0; i < from->wrap_count; i++)
        if (is_by_current(masters, &from->wraps[i]) == keep_current &&
            header->wrap_count < KR_ENVELOPE_WRAPS_MAX)
            header->wraps[header->wrap_count++] = from->wraps[i];
}

static enum kr_status collect_anew(struct collection *c, const struct kr_masters *masters,
                                   const struct kr_envelope_header *old, const uint8_t *sealing_key,
                                   struct kr_error *err)
{
    struct kr_error first = KR_ERROR_INIT;
    unsigned missing = 0;
    keep_wraps(c, masters, old, true);
    if (add_current(c, masters, sealing_key, true, &missing, &first) != KR_OK)
        return fail_no_token(&first, err);
    if (missing > 0)
        keep_wraps(c, masters, old, false);
    return check_new_wraps(masters, old, &c->header, sealing_key, err);
}

enum kr_status kr_envelope_rewrap(const struct kr_masters *masters,
                                  const struct kr_envelope_context *context, const uint8_t *blob,
                                  size_t len, uint8_t **ret, size_t *ret_len, struct kr_error *err)
{
    struct kr_envelope_header old;
    KR_SECRET uint8_t *payload = NULL;
    size_t payload_len = 0;
    KR_TRY(kr_envelope_parse(blob, len, &old, err));
    KR_SECRET uint8_t *key = kr_secret_alloc(KR_SEALING_KEY_BYTES);
    COLLECTION *c = calloc(1, sizeof(*c));
    if (!key || !c)
        return kr_fail_memory(err);
    KR_TRY(unwrap_key(masters, &old, key, err));
    KR_TRY(kr_envelope_open_with(key, context, blob, len, &payload, &payload_len, err));
    c->header.payload_len = payload_len;
    KR_TRY(collect_anew(c, masters, &old, key, err));
    return seal_collected(c, context, key, payload, ret, ret_len, err);
}
