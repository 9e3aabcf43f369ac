/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The keyring core: changes to data keys. A change opens its own writing handle on the keystore, so
 * that a keyring that only reads needs no write permission, and seals inside the write transaction,
 * so that a number given to a version is used or given back.
 */
#include "provider/keyring_internal.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One change of one key, inside a write transaction. */
struct change {
    struct kr_keyring *keyring;
    struct kr_keystore *keystore;
    uint32_t id;
    char id_text[12];
};

typedef enum kr_status (*change_step)(struct change *change, void *context, struct kr_error *err);

static enum kr_status in_transaction(struct change *change, change_step step, void *context,
                                     struct kr_error *err)
{
    struct kr_keyring *keyring = change->keyring;
    struct kr_keystore_options options = {
        .path = keyring->keystore_path,
        .keyring = keyring->name,
        .writable = true,
        .lock_timeout_ms = keyring->lock_timeout_ms,
    };
    KR_TRY(kr_keystore_open(&options, &change->keystore, err));
    enum kr_status status =
        kr_keystore_set_manifest_key(change->keystore, keyring->manifest_key, err);
    if (status == KR_OK)
        status = kr_keystore_begin_write(change->keystore, err);
    if (status == KR_OK)
        status = step(change, context, err);
    if (status == KR_OK)
        status = kr_keystore_commit(change->keystore, err);
    kr_keystore_close(change->keystore);
    return status;
}

/* Runs `step` with the keyring locked and the token ready, then takes the result over. */
static enum kr_status make_change(struct kr_keyring *keyring, uint32_t id, change_step step,
                                  void *context, struct kr_error *err)
{
    if (id == 0) {
        kr_fail(err, KR_USAGE, "0 is no key id");
        kr_hint(err, "key ids are 1 to 4294967295");
        return err->status;
    }
    struct change change = {.keyring = keyring, .id = id};
    snprintf(change.id_text, sizeof(change.id_text), "%u", id);
    KR_TRY(kr_keyring_lock(keyring, err));
    /* Logged in before the write lock is taken: no other process waits for a PIN. */
    enum kr_status status = kr_token_login(keyring->token, err);
    if (status == KR_OK)
        status = in_transaction(&change, step, context, err);
    if (status == KR_OK)
        status = kr_keyring_refresh_locked(keyring, err);
    kr_keyring_unlock(keyring);
    return status;
}

/* --- a new version ---------------------------------------------------------------------------- */

struct new_version {
    enum kr_cipher cipher;
    const uint8_t *import; /* NULL: random */
    size_t len;
    uint32_t step;
    bool must_exist;
    uint32_t version; /* out */
};

struct presence {
    const char *id;
    uint32_t latest; /* 0: the key has no versions */
};

static enum kr_status look_for(const struct kr_version_row *row, void *context,
                               struct kr_error *err)
{
    (void)err;
    struct presence *presence = context;
    if (strcmp(row->id, presence->id) == 0 && row->version > presence->latest)
        presence->latest = row->version;
    return KR_OK;
}

static enum kr_status check_presence(struct change *change, bool must_exist, struct kr_error *err)
{
    struct presence presence = {.id = change->id_text};
    KR_TRY(kr_keystore_each_version(change->keystore, KR_NS_MARIADB, look_for, &presence, err));
    if (must_exist && presence.latest == 0) {
        kr_fail(err, KR_NOT_FOUND, "there is no key %u", change->id);
        kr_hint(err, "p11keyring key list; p11keyring key create %u", change->id);
        return err->status;
    }
    if (!must_exist && presence.latest != 0) {
        kr_fail(err, KR_REFUSED, "key %u exists already (version %u)", change->id, presence.latest);
        kr_hint(err, "for a new version: p11keyring key rotate %u", change->id);
        return err->status;
    }
    return KR_OK;
}

/* Seals, and opens again what was sealed: a token that wraps wrongly must be found out before the
 * key is used and not when the data is read. */
static enum kr_status seal(struct change *change, const struct new_version *new,
                           const uint8_t *bytes, uint8_t **ret, size_t *ret_len,
                           struct kr_error *err)
{
    struct kr_token *token = change->keyring->token;
    struct kr_master_row master;
    KR_TRY(kr_keystore_current_master(change->keystore, &master, err));
    KR_TRY(kr_keystore_count_wrap(change->keystore, &master.id, err));
    struct kr_envelope_context context = kr_keyring_context(
        change->keyring, change->id_text, new->version, kr_cipher_name(new->cipher));
    uint8_t *blob = NULL;
    size_t blob_len = 0, read_len = 0;
    KR_TRY(kr_envelope_seal(token, &master.id, master.mechanism, &context, bytes, new->len, &blob,
                            &blob_len, err));
    KR_SECRET uint8_t *read_back = NULL;
    enum kr_status status =
        kr_envelope_open(token, &context, blob, blob_len, &read_back, &read_len, err);
    if (status == KR_OK && (read_len != new->len || CRYPTO_memcmp(read_back, bytes, read_len) != 0))
        status = kr_fail(err, KR_INTEGRITY, "the token unwrapped another key than it had wrapped");
    if (status != KR_OK) {
        free(blob);
        return status;
    }
    *ret = blob;
    *ret_len = blob_len;
    return KR_OK;
}

static enum kr_status key_bytes(struct change *change, const struct new_version *new, uint8_t *ret,
                                struct kr_error *err)
{
    if (!new->import)
        return kr_token_random(change->keyring->token, ret, new->len, err);
    memcpy(ret, new->import, new->len);
    return KR_OK;
}

static enum kr_status add_version(struct change *change, void *context, struct kr_error *err)
{
    struct new_version *new = context;
    KR_TRY(check_presence(change, new->must_exist, err));
    KR_TRY(kr_keystore_next_version(change->keystore, KR_NS_MARIADB, change->id_text, "", new->step,
                                    &new->version, err));
    KR_SECRET uint8_t *bytes = kr_secret_alloc(new->len);
    if (!bytes)
        return kr_fail_memory(err);
    KR_TRY(key_bytes(change, new, bytes, err));
    uint8_t *blob = NULL;
    size_t blob_len = 0;
    KR_TRY(seal(change, new, bytes, &blob, &blob_len, err));
    struct kr_version_row row = {.ns = KR_NS_MARIADB,
                                 .id = change->id_text,
                                 .owner = "",
                                 .version = new->version,
                                 .cipher = kr_cipher_name(new->cipher),
                                 .envelope = blob,
                                 .envelope_len = blob_len};
    enum kr_status status = kr_keystore_add_version(change->keystore, &row, err);
    free(blob);
    return status;
}

static enum kr_status new_version(struct kr_keyring *keyring, uint32_t id, struct new_version *new,
                                  uint32_t *ret_version, struct kr_error *err)
{
    if (!kr_cipher_name(new->cipher))
        return kr_fail(err, KR_USAGE, "unknown cipher number %d", (int)new->cipher);
    KR_TRY(make_change(keyring, id, add_version, new, err));
    *ret_version = new->version;
    return KR_OK;
}

enum kr_status kr_keyring_create_key(struct kr_keyring *keyring, uint32_t id, enum kr_cipher cipher,
                                     const uint8_t *import, size_t import_len,
                                     uint32_t *ret_version, struct kr_error *err)
{
    size_t len = import ? import_len : 32;
    if (len != 16 && len != 24 && len != 32) {
        kr_fail(err, KR_USAGE, "a key to import has 16, 24 or 32 bytes, not %zu", len);
        return err->status;
    }
    struct new_version new = {.cipher = cipher, .import = import, .len = len, .step = 1};
    return new_version(keyring, id, &new, ret_version, err);
}

enum kr_status kr_keyring_rotate_key(struct kr_keyring *keyring, uint32_t id, enum kr_cipher cipher,
                                     uint32_t *ret_version, struct kr_error *err)
{
    struct new_version new = {
        .cipher = cipher, .len = 32, .step = keyring->rotation_step, .must_exist = true};
    return new_version(keyring, id, &new, ret_version, err);
}

enum kr_status kr_keyring_ensure_key(struct kr_keyring *keyring, uint32_t id, enum kr_cipher cipher,
                                     uint32_t *ret_version, struct kr_error *err)
{
    uint32_t latest = kr_keyring_latest(keyring, id);
    if (latest == 0) {
        struct kr_error ignored = KR_ERROR_INIT;
        if (kr_keyring_create_key(keyring, id, cipher, NULL, 0, &latest, err) == KR_OK) {
            *ret_version = latest;
            return KR_OK;
        }
        /* Another process may have been first. */
        if (err->status != KR_REFUSED || kr_keyring_refresh(keyring, &ignored) != KR_OK)
            return err->status;
        latest = kr_keyring_latest(keyring, id);
        if (latest == 0)
            return err->status;
    }
    *ret_version = latest;
    return KR_OK;
}

/* --- disabling -------------------------------------------------------------------------------- */

static enum kr_status set_disabled(struct change *change, void *context, struct kr_error *err)
{
    const bool *disabled = context;
    return kr_keystore_set_disabled(change->keystore, KR_NS_MARIADB, change->id_text, "", *disabled,
                                    err);
}

enum kr_status kr_keyring_set_disabled(struct kr_keyring *keyring, uint32_t id, bool disabled,
                                       struct kr_error *err)
{
    return make_change(keyring, id, set_disabled, &disabled, err);
}
