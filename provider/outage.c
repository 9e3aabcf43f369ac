/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Starting while no token serves. */
#include "provider/outage.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "provider/keyring_internal.h"

static int64_t now(void)
{
    return (int64_t)time(NULL);
}

enum kr_status kr_outage_configure(struct kr_keyring *keyring, const struct kr_config *config,
                                   struct kr_error *err)
{
    struct kr_outage *outage = &keyring->outage;
    if (!config->keyring.start_cache)
        return KR_OK;
    KR_TRY(kr_pin_source_new(config->keyring.start_cache_key, "passphrase of the start cache",
                             &outage->key, err));
    outage->lifetime = config->keyring.start_cache_lifetime;
    outage->cache = kr_start_cache_new();
    outage->path = strdup(config->keyring.start_cache);
    return outage->cache && outage->path ? KR_OK : kr_fail_memory(err);
}

void kr_outage_free(struct kr_outage *outage)
{
    kr_start_cache_free(outage->cache);
    kr_pin_source_free(outage->key);
    free(outage->path);
}

/* --- opening envelopes ------------------------------------------------------------------------ */

static enum kr_status copy_payload(const uint8_t *payload, size_t len, uint8_t **ret,
                                   size_t *ret_len, struct kr_error *err)
{
    uint8_t *copy = (uint8_t *)kr_secret_dup(payload, len);
    if (!copy)
        return kr_fail_secret(err);
    *ret = copy;
    *ret_len = len;
    return KR_OK;
}

enum kr_status kr_outage_open(struct kr_keyring *keyring, const struct kr_envelope_context *context,
                              const uint8_t *envelope, size_t envelope_len, uint8_t **ret,
                              size_t *ret_len, struct kr_error *err)
{
    struct kr_outage *outage = &keyring->outage;
    size_t len = 0;
    const uint8_t *payload =
        outage->served ? kr_start_cache_find(outage->cache, context, envelope, envelope_len, &len)
                       : NULL;
    if (payload)
        return copy_payload(payload, len, ret, ret_len, err);
    KR_SECRET uint8_t *opened = NULL;
    KR_TRY(
        kr_envelope_open(&keyring->masters, context, envelope, envelope_len, &opened, &len, err));
    if (outage->cache)
        KR_TRY(
            kr_start_cache_add(outage->cache, context, envelope, envelope_len, opened, len, err));
    *ret = opened;
    *ret_len = len;
    opened = NULL;
    return KR_OK;
}

/* --- serving from the file -------------------------------------------------------------------- */

/* The file must not serve where a token has said no. */
static void forbid(const struct kr_keyring *keyring)
{
    const struct kr_outage *outage = &keyring->outage;
    if (unlink(outage->path) == 0) {
        const struct kr_audit_event event = {.name = "start-cache-remove"};
        kr_audit_end(keyring->audit, &event, NULL);
        kr_log(KR_LOG_WARNING,
               "the start cache %s was removed: it serves only while every token is away",
               outage->path);
    } else if (errno != ENOENT) {
        kr_log(KR_LOG_ERROR, "the start cache %s must not serve, and cannot be removed: %s",
               outage->path, strerror(errno));
    }
}

static enum kr_status check_binding(const struct kr_keyring *keyring,
                                    const struct kr_start_cache_binding *binding,
                                    struct kr_error *err)
{
    const char *path = keyring->outage.path;
    if (memcmp(binding->uuid, kr_keystore_uuid(keyring->keystore), sizeof(binding->uuid)) != 0) {
        kr_fail(err, KR_REFUSED, "the start cache %s is of another keystore", path);
    } else if (now() >= binding->expires) {
        kr_fail(err, KR_REFUSED, "the start cache %s has expired", path);
    } else if (now() + 60 < binding->created) {
        kr_fail(err, KR_REFUSED, "the start cache %s is from the future: was the clock set back?",
                path);
    } else {
        return KR_OK;
    }
    kr_hint(err, "connect a token: the keyring is then opened by it");
    return err->status;
}

static enum kr_status load(struct kr_keyring *keyring, struct kr_error *err)
{
    struct kr_outage *outage = &keyring->outage;
    struct kr_start_cache_binding binding;
    struct kr_start_cache *cache = NULL;
    KR_SECRET char *passphrase = NULL;
    size_t len = 0;
    KR_TRY(kr_pin_source_read(outage->key, &passphrase, &len, err));
    KR_TRY(kr_start_cache_load(outage->path, passphrase, len, &binding, &cache, err));
    enum kr_status status = check_binding(keyring, &binding, err);
    if (status != KR_OK) {
        kr_start_cache_free(cache);
        return status;
    }
    kr_start_cache_free(outage->cache);
    outage->cache = cache;
    outage->saved = binding.generation;
    outage->served = true;
    return KR_OK;
}

enum kr_status kr_outage_begin(struct kr_keyring *keyring, struct kr_error *err)
{
    struct kr_error why = KR_ERROR_INIT;
    if (!keyring->outage.path || err->status == KR_OK)
        return err->status;
    if (err->status == KR_AUTH || err->status == KR_INTEGRITY)
        forbid(keyring);
    if (err->status != KR_TOKEN_UNAVAILABLE)
        return err->status;
    if (load(keyring, &why) != KR_OK) {
        kr_log(KR_LOG_WARNING, "no start without a token: %s", why.text);
        return err->status;
    }
    const struct kr_audit_event event = {.name = "start-cache-use", .detail = err->text};
    kr_audit_end(keyring->audit, &event, NULL);
    kr_log(KR_LOG_WARNING, "no token serves (%s): starting from the start cache %s", err->text,
           keyring->outage.path);
    *err = (struct kr_error)KR_ERROR_INIT;
    return KR_OK;
}

static bool same_generation(const struct kr_generation *a, const struct kr_generation *b)
{
    return a->number == b->number && memcmp(a->tag, b->tag, sizeof(a->tag)) == 0;
}

enum kr_status kr_outage_check(struct kr_keyring *keyring, struct kr_error *err)
{
    const struct kr_outage *outage = &keyring->outage;
    struct kr_generation generation = kr_keystore_generation(keyring->keystore);
    if (same_generation(&generation, &outage->saved))
        return KR_OK;
    kr_fail(err, KR_REFUSED,
            "the start cache %s is for generation %llu of the keystore, which has %llu",
            outage->path, (unsigned long long)outage->saved.number,
            (unsigned long long)generation.number);
    kr_hint(err, "connect a token: keys were changed since the server last saw one");
    return KR_REFUSED;
}

/* --- while the server runs -------------------------------------------------------------------- */

/* The manifest's key is the one that everything served was verified with. */
static enum kr_status confirm(struct kr_keyring *keyring, struct kr_error *err)
{
    uint8_t *blob = NULL;
    KR_SECRET uint8_t *key = NULL;
    size_t blob_len = 0, len = 0;
    struct kr_envelope_context context =
        kr_manifest_context(keyring->name, kr_keystore_uuid(keyring->keystore));
    KR_TRY(kr_tokens_login(&keyring->tokens, err));
    KR_TRY(kr_keystore_get_manifest_envelope(keyring->keystore, &blob, &blob_len, err));
    enum kr_status status =
        kr_envelope_open(&keyring->masters, &context, blob, blob_len, &key, &len, err);
    free(blob);
    if (status != KR_OK)
        return status;
    if (len != KR_MANIFEST_KEY_BYTES || CRYPTO_memcmp(key, keyring->manifest_key, len) != 0)
        return kr_fail(err, KR_INTEGRITY, "the start cache that was served is not of this token");
    KR_TRY(kr_keyring_check_generation(keyring, err));
    keyring->outage.served = false;
    const struct kr_audit_event event = {.name = "start-cache-confirm"};
    kr_audit_end(keyring->audit, &event, NULL);
    kr_log(KR_LOG_NOTE, "a token serves again and confirms what the start cache gave");
    return KR_OK;
}

struct selection {
    const struct kr_keyring *keyring;
    struct kr_start_cache *from, *to;
};

static enum kr_status select_one(struct selection *selection,
                                 const struct kr_envelope_context *context, const uint8_t *envelope,
                                 size_t envelope_len, struct kr_error *err)
{
    size_t len = 0;
    const uint8_t *payload =
        kr_start_cache_find(selection->from, context, envelope, envelope_len, &len);
    if (!payload)
        return KR_OK;
    return kr_start_cache_add(selection->to, context, envelope, envelope_len, payload, len, err);
}

static enum kr_status select_row(const struct kr_version_row *row, void *context,
                                 struct kr_error *err)
{
    struct selection *selection = context;
    struct kr_envelope_context place = kr_keyring_context(selection->keyring, row->ns, row->id,
                                                          row->owner, row->version, row->cipher);
    return select_one(selection, &place, row->envelope, row->envelope_len, err);
}

/* What this server has opened of the rows that there are now. */
static enum kr_status select_rows(struct kr_keyring *keyring, struct kr_start_cache *to,
                                  struct kr_error *err)
{
    struct selection selection = {keyring, keyring->outage.cache, to};
    struct kr_envelope_context place =
        kr_manifest_context(keyring->name, kr_keystore_uuid(keyring->keystore));
    uint8_t *blob = NULL;
    size_t len = 0;
    KR_TRY(kr_keystore_get_manifest_envelope(keyring->keystore, &blob, &len, err));
    enum kr_status status = select_one(&selection, &place, blob, len, err);
    free(blob);
    KR_TRY(status);
    return kr_keystore_each_version(keyring->keystore, NULL, select_row, &selection, err);
}

/* Under the keyring's lock: nothing but what is needed now, and what it belongs to. */
static enum kr_status renew(struct kr_keyring *keyring, struct kr_start_cache_binding *ret,
                            struct kr_error *err)
{
    struct kr_start_cache *fresh = kr_start_cache_new();
    if (!fresh)
        return kr_fail_memory(err);
    enum kr_status status = kr_keystore_begin_read(keyring->keystore, err);
    if (status == KR_OK) {
        status = kr_keystore_verify(keyring->keystore, err);
        ret->generation = kr_keystore_generation(keyring->keystore);
        if (status == KR_OK)
            status = select_rows(keyring, fresh, err);
        kr_keystore_rollback(keyring->keystore);
    }
    if (status != KR_OK) {
        kr_start_cache_free(fresh);
        return status;
    }
    kr_start_cache_free(keyring->outage.cache);
    keyring->outage.cache = fresh;
    memcpy(ret->uuid, kr_keystore_uuid(keyring->keystore), sizeof(ret->uuid));
    return KR_OK;
}

static enum kr_status save(struct kr_keyring *keyring, struct kr_error *err)
{
    struct kr_outage *outage = &keyring->outage;
    struct kr_start_cache_binding binding = {.created = now(),
                                             .expires = now() + (int64_t)outage->lifetime};
    KR_SECRET char *passphrase = NULL;
    size_t len = 0;
    KR_TRY(kr_pin_source_read(outage->key, &passphrase, &len, err));
    KR_TRY(renew(keyring, &binding, err));
    KR_TRY(kr_start_cache_save(outage->cache, outage->path, passphrase, len, &binding, err));
    outage->saved = binding.generation;
    outage->save_again = now() + (int64_t)outage->lifetime / 2;
    return KR_OK;
}

static bool serves(const struct kr_tokens *tokens)
{
    for (size_t i = 0; i < tokens->count; i++)
        if (kr_token_is_up(tokens->at[i]))
            return true;
    return false;
}

static enum kr_status tend(struct kr_keyring *keyring, struct kr_error *err)
{
    struct kr_outage *outage = &keyring->outage;
    if (outage->served) {
        enum kr_status status = confirm(keyring, err);
        if (status == KR_AUTH || status == KR_INTEGRITY)
            forbid(keyring);
        KR_TRY(status);
    }
    struct kr_generation generation = kr_keystore_generation(keyring->keystore);
    if (same_generation(&generation, &outage->saved) && now() < outage->save_again)
        return KR_OK;
    return save(keyring, err);
}

enum kr_status kr_outage_tend(struct kr_keyring *keyring, struct kr_error *err)
{
    if (!keyring->outage.path || !serves(&keyring->tokens))
        return KR_OK;
    KR_TRY(kr_keyring_lock(keyring, err));
    enum kr_status status = tend(keyring, err);
    kr_keyring_unlock(keyring);
    return status;
}
