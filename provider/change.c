/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* One change of one key in the keystore. */
#include "provider/change.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static enum kr_status begin(struct kr_keyring *keyring, struct kr_keystore *keystore,
                            struct kr_error *err)
{
    KR_TRY(kr_keystore_set_manifest_key(keystore, keyring->manifest_key, err));
    KR_TRY(kr_keystore_begin_write(keystore, err));
    KR_TRY(kr_anchors_check(&keyring->anchors, keystore, err));
    KR_TRY(kr_keyring_load_masters(keyring, keystore, err));
    return kr_keyring_prove_masters(keyring, keystore, err);
}

enum kr_status kr_change_begin(struct kr_keyring *keyring, struct kr_keystore **ret,
                               struct kr_error *err)
{
    struct kr_keystore *keystore = NULL;
    struct kr_keystore_options options = {
        .path = keyring->keystore_path,
        .keyring = keyring->name,
        .writable = true,
        .lock_timeout_ms = keyring->lock_timeout_ms,
    };
    KR_TRY(kr_tokens_login(&keyring->tokens, err));
    KR_TRY(kr_anchors_read(&keyring->anchors, err));
    KR_TRY(kr_keystore_open(&options, &keystore, err));
    enum kr_status status = begin(keyring, keystore, err);
    if (status != KR_OK) {
        kr_keystore_close(keystore);
        return status;
    }
    *ret = keystore;
    return KR_OK;
}

enum kr_status kr_change_commit(struct kr_keyring *keyring, struct kr_keystore *keystore,
                                const struct kr_audit_event *event, struct kr_error *err)
{
    KR_TRY(kr_audit_commit(keyring->audit, keystore, event, err));
    KR_TRY(kr_keystore_commit(keystore, err));
    kr_anchors_raise(&keyring->anchors, keystore);
    return KR_OK;
}

enum kr_status kr_change_run(struct kr_keyring *keyring, const char *ns, const char *id,
                             const char *owner, kr_change_step step, void *context,
                             struct kr_error *err)
{
    struct kr_change change = {.keyring = keyring,
                               .ns = ns,
                               .id = id,
                               .owner = owner,
                               .audit = {.ns = ns, .id = id, .owner = owner}};
    KR_TRY(kr_change_begin(keyring, &change.keystore, err));
    enum kr_status status = step(&change, context, err);
    if (status == KR_OK)
        status = kr_change_commit(keyring, change.keystore, &change.audit, err);
    kr_keystore_close(change.keystore);
    return status;
}

struct presence {
    const struct kr_change *change;
    uint32_t latest;
};

static enum kr_status look_for(const struct kr_version_row *row, void *context,
                               struct kr_error *err)
{
    (void)err;
    struct presence *presence = context;
    if (strcmp(row->id, presence->change->id) == 0 &&
        strcmp(row->owner, presence->change->owner) == 0 && row->version > presence->latest)
        presence->latest = row->version;
    return KR_OK;
}

enum kr_status kr_change_latest(struct kr_change *change, uint32_t *ret, struct kr_error *err)
{
    struct presence presence = {.change = change};
    KR_TRY(kr_keystore_each_version(change->keystore, change->ns, look_for, &presence, err));
    *ret = presence.latest;
    return KR_OK;
}

enum kr_status kr_change_count_wraps(struct kr_keystore *keystore, const uint8_t *envelope,
                                     size_t len, const uint8_t *old, size_t old_len,
                                     struct kr_error *err)
{
    struct kr_envelope_header header, before = {0};
    KR_TRY(kr_envelope_parse(envelope, len, &header, err));
    if (old)
        KR_TRY(kr_envelope_parse(old, old_len, &before, err));
    for (size_t i = 0; i < header.wrap_count; i++)
        if (!kr_envelope_names(&before, &header.wraps[i].master_id))
            KR_TRY(kr_keystore_count_wrap(keystore, &header.wraps[i].master_id, err));
    return KR_OK;
}

static enum kr_status seal(struct kr_change *change, const struct kr_envelope_context *context,
                           const uint8_t *payload, size_t len, uint8_t **ret, size_t *ret_len,
                           struct kr_error *err)
{
    struct kr_keyring *keyring = change->keyring;
    KR_SECRET uint8_t *key = kr_secret_alloc(KR_SEALING_KEY_BYTES);
    uint8_t *blob = NULL;
    size_t blob_len = 0;
    if (!key)
        return kr_fail_memory(err);
    KR_TRY(kr_tokens_random(&keyring->tokens, key, KR_SEALING_KEY_BYTES, err));
    KR_TRY(kr_envelope_seal(&keyring->masters, context, key, payload, len, &blob, &blob_len, err));
    enum kr_status status = kr_change_count_wraps(change->keystore, blob, blob_len, NULL, 0, err);
    if (status != KR_OK) {
        free(blob);
        return status;
    }
    *ret = blob;
    *ret_len = blob_len;
    return KR_OK;
}

enum kr_status kr_change_add(struct kr_change *change, uint32_t step, const char *cipher,
                             const uint8_t *payload, size_t len, uint32_t *ret_version,
                             struct kr_error *err)
{
    uint32_t version;
    KR_TRY(kr_keystore_next_version(change->keystore, change->ns, change->id, change->owner, step,
                                    &version, err));
    struct kr_envelope_context context =
        kr_keyring_context(change->keyring, change->ns, change->id, change->owner, version, cipher);
    uint8_t *blob = NULL;
    size_t blob_len = 0;
    KR_TRY(seal(change, &context, payload, len, &blob, &blob_len, err));
    struct kr_version_row row = {.ns = change->ns,
                                 .id = change->id,
                                 .owner = change->owner,
                                 .version = version,
                                 .cipher = cipher,
                                 .created = (int64_t)time(NULL),
                                 .envelope = blob,
                                 .envelope_len = blob_len};
    enum kr_status status = kr_keystore_add_version(change->keystore, &row, err);
    free(blob);
    if (status == KR_OK)
        *ret_version = change->audit.version = version;
    return status;
}
