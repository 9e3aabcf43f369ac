/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* MySQL's secrets: stored, generated and removed, some of them in the token alone. */
#include "provider/secrets_internal.h"

#include "base/log.h"
#include "pkcs11/resident.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct addition {
    const char *event; /* in the audit log */
    struct kr_secret_content content;
};

static enum kr_status add_secret(struct kr_change *change, void *context, struct kr_error *err)
{
    const struct addition *addition = context;
    uint32_t latest, version;
    change->audit.name = addition->event;
    change->audit.detail = kr_secret_cipher(&addition->content);
    KR_TRY(kr_change_latest(change, &latest, err));
    if (latest != 0)
        return kr_fail(err, KR_REFUSED, "the secret '%s' exists already", change->id);
    KR_SECRET uint8_t *payload = NULL;
    size_t len = 0;
    KR_TRY(kr_secret_encode(&addition->content, &payload, &len, err));
    return kr_change_add(change, 1, kr_secret_cipher(&addition->content), payload, len, &version,
                         err);
}

enum kr_status kr_secret_check_name(const char *id, struct kr_error *err)
{
    if (id[0] != '\0' && strlen(id) <= KR_SECRET_ID_MAX)
        return KR_OK;
    return kr_fail(err, KR_USAGE, "a secret's name has 1 to %d bytes", KR_SECRET_ID_MAX);
}

/* Adds what `addition` holds; the caller holds the keyring's lock. */
static enum kr_status add(struct kr_secrets *secrets, const char *id, const char *owner,
                          struct addition *addition, struct kr_error *err)
{
    KR_TRY(kr_change_run(secrets->keyring, KR_NS_MYSQL, id, owner, add_secret, addition, err));
    return kr_secrets_refresh_locked(secrets, err);
}

/* Records in the audit log what failed. */
static enum kr_status ended(const struct kr_secrets *secrets, const char *event, const char *id,
                            const char *owner, enum kr_status status, const struct kr_error *err)
{
    const struct kr_audit_event failed = {
        .name = event, .ns = KR_NS_MYSQL, .id = id, .owner = owner};
    if (status != KR_OK)
        kr_audit_end(secrets->keyring->audit, &failed, err);
    return status;
}

static enum kr_status store(struct kr_secrets *secrets, const char *id, const char *owner,
                            struct addition *addition, struct kr_error *err)
{
    KR_TRY(kr_secret_check_name(id, err));
    KR_TRY(kr_keyring_lock(secrets->keyring, err));
    enum kr_status status = add(secrets, id, owner, addition, err);
    kr_keyring_unlock(secrets->keyring);
    return ended(secrets, addition->event, id, owner, status, err);
}

enum kr_status kr_secrets_store(struct kr_secrets *secrets, const char *id, const char *owner,
                                const char *type, const uint8_t *bytes, size_t len,
                                struct kr_error *err)
{
    struct addition addition = {
        "secret-store", {.form = KR_SECRET_WRAPPED, .type = type, .bytes = bytes, .len = len}};
    return store(secrets, id, owner, &addition, err);
}

static enum kr_status generate_wrapped(struct kr_secrets *secrets, const char *id,
                                       const char *owner, const char *type, size_t len,
                                       struct kr_error *err)
{
    if (len == 0 || len > KR_SECRET_BYTES_MAX)
        return kr_fail(err, KR_USAGE, "a secret has 1 to %d bytes, not %zu", KR_SECRET_BYTES_MAX,
                       len);
    KR_SECRET uint8_t *bytes = kr_secret_alloc(len);
    if (!bytes)
        return kr_fail_memory(err);
    KR_TRY(kr_tokens_random(&secrets->keyring->tokens, bytes, len, err));
    struct addition addition = {
        "secret-generate", {.form = KR_SECRET_WRAPPED, .type = type, .bytes = bytes, .len = len}};
    return store(secrets, id, owner, &addition, err);
}

void kr_secret_label(const char *keyring, const char *id, bool imported,
                     char ret[KR_SECRET_LABEL_SIZE])
{
    snprintf(ret, KR_SECRET_LABEL_SIZE, "p11keyring:%s:mysql%s:%s", keyring,
             imported ? "-imported" : "", id);
}

/* A name that is taken must be found out before the token makes a key for it. */
static enum kr_status refuse_taken(struct kr_secrets *secrets, const char *id, const char *owner,
                                   struct kr_error *err)
{
    KR_TRY(kr_secrets_refresh_locked(secrets, err));
    if (!kr_secret_table_find(&secrets->table, id, owner))
        return KR_OK;
    return kr_fail(err, KR_REFUSED, "the secret '%s' exists already", id);
}

/* Says which keys of a full token are old. */
static void hint_at_old_keys(const struct kr_secrets *secrets, const char *id, struct kr_error *err)
{
    struct kr_secret_series old;
    kr_secret_table_series(&secrets->table, id, &old);
    if (old.count == 0)
        return;
    kr_hint(err,
            "the token is full: make room in it. Of this server's own keys %zu may be retired, "
            "%.*s%lu to %lu, if a rotation to number %lu has ended since and no backup needs them",
            old.count, (int)old.stem, id, old.first, old.last, old.newest);
}

static enum kr_status generate_key(struct kr_secrets *secrets, struct kr_token *token,
                                   const char *id, const char *label, enum kr_secret_form form,
                                   struct kr_object_id *ret, struct kr_error *err)
{
    enum kr_resident_mode mode = form == KR_SECRET_TOKEN_ECB ? KR_RESIDENT_ECB : KR_RESIDENT_CBC;
    enum kr_status status = kr_resident_generate(token, label, mode, ret, err);
    if (status != KR_OK && err->ckr_name && strcmp(err->ckr_name, "CKR_DEVICE_MEMORY") == 0)
        hint_at_old_keys(secrets, id, err);
    return status;
}

static enum kr_status generate_locked(struct kr_secrets *secrets, const char *id, const char *owner,
                                      const char *type, enum kr_secret_form form,
                                      struct kr_error *err)
{
    struct kr_token *token = NULL;
    struct kr_object_id object;
    char label[KR_SECRET_LABEL_SIZE];
    const struct kr_secret_content content = {.form = form, .type = type};
    kr_secret_label(secrets->keyring->name, id, false, label);
    KR_TRY(refuse_taken(secrets, id, owner, err));
    KR_TRY(kr_tokens_serving(&secrets->keyring->tokens, &token, err));
    const struct kr_audit_event event = {.name = "secret-generate",
                                         .token = kr_token_name(token),
                                         .ns = KR_NS_MYSQL,
                                         .id = id,
                                         .owner = owner,
                                         .detail = kr_secret_cipher(&content)};
    KR_TRY(kr_audit_begin(secrets->keyring->audit, &event, err));
    KR_TRY(generate_key(secrets, token, id, label, form, &object, err));
    struct addition addition = {event.name, content};
    addition.content.bytes = object.bytes;
    addition.content.len = object.len;
    enum kr_status status =
        kr_change_run(secrets->keyring, KR_NS_MYSQL, id, owner, add_secret, &addition, err);
    if (status == KR_OK)
        return kr_secrets_refresh_locked(secrets, err);
    struct kr_error left = KR_ERROR_INIT;
    if (kr_master_destroy(token, &object, &left) != KR_OK)
        kr_log(KR_LOG_WARNING, "the unused key '%s' is left in the token: %s", label, left.text);
    return status;
}

/* That it was tried out here does not make it the one that the server has gone over to. */
static void forget_use(struct kr_secrets *secrets, const char *id, const char *owner)
{
    pthread_rwlock_rdlock(&secrets->lock);
    struct kr_secret_entry *entry = kr_secret_table_find(&secrets->table, id, owner);
    if (entry)
        __atomic_store_n(&entry->used, false, __ATOMIC_RELAXED);
    pthread_rwlock_unlock(&secrets->lock);
}

/* A key that this process cannot use is taken back: the server would encrypt with it. */
static enum kr_status accept_generated(struct kr_secrets *secrets, const char *id,
                                       const char *owner, struct kr_error *err)
{
    struct kr_secret made = {0};
    enum kr_status status = kr_secrets_fetch(secrets, id, owner, &made, err);
    kr_secret_free(made.bytes);
    forget_use(secrets, id, owner);
    struct kr_error left = KR_ERROR_INIT;
    if (status != KR_OK && kr_secrets_remove(secrets, id, owner, &left) != KR_OK)
        kr_log(KR_LOG_WARNING, "the unused key '%s' is left in the keystore: %s", id, left.text);
    return status;
}

enum kr_status kr_secrets_generate(struct kr_secrets *secrets, const char *id, const char *owner,
                                   const char *type, enum kr_secret_form form, size_t len,
                                   struct kr_error *err)
{
    KR_TRY(kr_secret_check_name(id, err));
    if (form == KR_SECRET_WRAPPED)
        return generate_wrapped(secrets, id, owner, type, len, err);
    if (len != KR_HANDLE_BYTES)
        return kr_fail(err, KR_USAGE, "a token-resident key has 32 bytes, not %zu", len);
    KR_TRY(kr_secrets_pass_gate(secrets, id, form, NULL, err));
    KR_TRY(kr_keyring_lock(secrets->keyring, err));
    enum kr_status status = generate_locked(secrets, id, owner, type, form, err);
    kr_keyring_unlock(secrets->keyring);
    ended(secrets, "secret-generate", id, owner, status, err);
    return status == KR_OK ? accept_generated(secrets, id, owner, err) : status;
}

static enum kr_status remove_secret(struct kr_change *change, void *context, struct kr_error *err)
{
    const char *reason = context;
    change->audit.name = reason ? "key-destroy" : "secret-remove";
    change->audit.detail = reason;
    return kr_keystore_destroy_key(change->keystore, change->ns, change->id, change->owner, err);
}

/* `reason` is NULL where a server removes its own. */
static enum kr_status remove_locked(struct kr_secrets *secrets, const char *id, const char *owner,
                                    const char *reason, struct kr_error *err)
{
    KR_TRY(kr_secrets_refresh_locked(secrets, err));
    const struct kr_secret_entry *entry = kr_secret_table_find(&secrets->table, id, owner);
    if (!entry)
        return kr_fail(err, KR_NOT_FOUND, "there is no secret '%s'", id);
    bool resident = entry->form != KR_SECRET_WRAPPED;
    struct kr_object_id object = entry->object;
    struct kr_token *token = entry->token;
    KR_TRY(kr_change_run(secrets->keyring, KR_NS_MYSQL, id, owner, remove_secret, (void *)reason,
                         err));
    KR_TRY(kr_secrets_refresh_locked(secrets, err));
    struct kr_error left = KR_ERROR_INIT;
    if (resident && token && kr_master_destroy(token, &object, &left) != KR_OK)
        kr_log(KR_LOG_WARNING, "the removed key '%s' is left in the token: %s", id, left.text);
    return KR_OK;
}

enum kr_status kr_secrets_remove(struct kr_secrets *secrets, const char *id, const char *owner,
                                 struct kr_error *err)
{
    KR_TRY(kr_keyring_lock(secrets->keyring, err));
    enum kr_status status = remove_locked(secrets, id, owner, NULL, err);
    kr_keyring_unlock(secrets->keyring);
    return ended(secrets, "secret-remove", id, owner, status, err);
}

static enum kr_status check_old(struct kr_secrets *secrets, const char *id, struct kr_error *err)
{
    struct kr_secret_series series;
    KR_TRY(kr_secrets_refresh_locked(secrets, err));
    kr_secret_table_series(&secrets->table, id, &series);
    if (!kr_secret_table_find(&secrets->table, id, ""))
        return kr_fail(err, KR_NOT_FOUND, "there is no secret '%s'", id);
    if ((strncmp(id, "INNODBKey-", 10) != 0 && strncmp(id, "MySQLReplicationKey_", 20) != 0) ||
        !id[series.stem])
        return kr_fail(err, KR_REFUSED, "'%s' is no numbered master key of a server", id);
    if (strtoul(id + series.stem, NULL, 10) < series.newest)
        return KR_OK;
    kr_fail(err, KR_REFUSED, "'%s' is the newest of its kind: the server encrypts with it", id);
    kr_hint(err, "ALTER INSTANCE ROTATE INNODB MASTER KEY (or BINLOG) makes a newer one");
    return err->status;
}

static enum kr_status destroy_old_locked(struct kr_secrets *secrets, const char *id, bool dry_run,
                                         const char *reason, struct kr_error *err)
{
    KR_TRY(check_old(secrets, id, err));
    return dry_run ? KR_OK : remove_locked(secrets, id, "", reason, err);
}

enum kr_status kr_secrets_destroy_old(struct kr_secrets *secrets, const char *id, bool dry_run,
                                      const char *reason, struct kr_error *err)
{
    KR_TRY(kr_keyring_lock(secrets->keyring, err));
    enum kr_status status = destroy_old_locked(secrets, id, dry_run, reason, err);
    kr_keyring_unlock(secrets->keyring);
    return dry_run ? status : ended(secrets, "key-destroy", id, "", status, err);
}
