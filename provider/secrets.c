/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* MySQL's secrets: read from memory, changed in the keystore, some of them in the token alone. */
#include "provider/change.h"
#include "provider/rows.h"
#include "provider/secret_table.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWER_LASTS_MS = 1000 };

struct kr_secrets {
    struct kr_keyring *keyring;
    pthread_rwlock_t lock; /* of the table; the keyring's lock is taken first */
    struct kr_secret_table table;
    uint64_t seen_change;
    bool loaded;
    kr_handle_gate gate; /* NULL: closed */
    void *gate_context;
    _Atomic uint64_t crypted_ms; /* when the token last did an operation */
};

/* The name of a form in the keystore's cipher column, so that status needs no token to count. */
static const char *form_name(enum kr_secret_form form)
{
    static const char *const names[] = {
        [KR_SECRET_WRAPPED] = "wrapped",
        [KR_SECRET_TOKEN_ECB] = "token-ecb",
        [KR_SECRET_TOKEN_CBC] = "token-cbc",
    };
    return names[form];
}

/* --- following the keystore ------------------------------------------------------------------- */

static bool is_new(const struct kr_version_row *row, void *context)
{
    struct kr_secret_entry *known = kr_secret_table_find(context, row->id, row->owner);
    if (!known || known->version != row->version)
        return true;
    known->present = true;
    return false;
}

static enum kr_status add_row(struct kr_secrets *secrets, const struct kr_row *row,
                              struct kr_error *err)
{
    KR_SECRET uint8_t *payload = NULL;
    size_t len = 0;
    struct kr_secret_entry *entry = NULL;
    KR_TRY(kr_row_open(secrets->keyring, row, &payload, &len, err));
    KR_TRY(kr_secret_decode(row->id, row->owner, row->version, payload, len, &entry, err));
    struct kr_error missing = KR_ERROR_INIT;
    if (entry->form != KR_SECRET_WRAPPED &&
        kr_tokens_holder(&secrets->keyring->tokens, &entry->object, &entry->token, &missing) !=
            KR_OK)
        kr_log(KR_LOG_WARNING, "token-resident key '%s': %s", row->id, missing.text);
    pthread_rwlock_wrlock(&secrets->lock);
    bool added = kr_secret_table_put(&secrets->table, entry);
    pthread_rwlock_unlock(&secrets->lock);
    if (added)
        return KR_OK;
    kr_secret_entry_free(entry);
    return kr_fail_memory(err);
}

/* An old key that a later one has replaced may be gone, or in a token that is not configured any
 * more: only what it was for cannot be read. */
static bool may_be_missing(const struct kr_secret_table *table, const struct kr_secret_entry *entry)
{
    struct kr_secret_series series;
    kr_secret_table_series(table, entry->id, &series);
    unsigned long number = strtoul(entry->id + series.stem, NULL, 10);
    return number > 0 && number < series.newest;
}

static enum kr_status find_again(struct kr_secrets *secrets, struct kr_secret_entry *entry,
                                 struct kr_error *err)
{
    struct kr_token *token = NULL;
    enum kr_status status =
        kr_tokens_holder(&secrets->keyring->tokens, &entry->object, &token, err);
    if (status != KR_OK)
        kr_error_context(err, "token-resident key '%s'", entry->id);
    pthread_rwlock_wrlock(&secrets->lock);
    if (status == KR_OK)
        entry->token = token;
    else
        kr_secret_table_remove(&secrets->table, entry);
    pthread_rwlock_unlock(&secrets->lock);
    return status;
}

static enum kr_status check_missing(struct kr_secrets *secrets, struct kr_error *err)
{
    for (size_t i = secrets->table.count; i-- > 0;) {
        struct kr_secret_entry *entry = secrets->table.entries[i];
        if (entry->form != KR_SECRET_WRAPPED && !entry->token &&
            !may_be_missing(&secrets->table, entry))
            KR_TRY(find_again(secrets, entry, err));
    }
    return KR_OK;
}

static void drop_absent(struct kr_secrets *secrets)
{
    pthread_rwlock_wrlock(&secrets->lock);
    for (size_t i = secrets->table.count; i-- > 0;)
        if (!secrets->table.entries[i]->present)
            kr_secret_table_remove(&secrets->table, secrets->table.entries[i]);
    pthread_rwlock_unlock(&secrets->lock);
}

/* The caller holds the keyring's lock, so nobody else changes the table. */
static enum kr_status refresh(struct kr_secrets *secrets, struct kr_error *err)
{
    uint64_t change;
    KR_TRY(kr_keystore_change_counter(secrets->keyring->keystore, &change, err));
    if (secrets->loaded && change == secrets->seen_change)
        return KR_OK;
    for (size_t i = 0; i < secrets->table.count; i++)
        secrets->table.entries[i]->present = false;
    struct kr_row *rows = NULL;
    KR_TRY(kr_rows_read(secrets->keyring, KR_NS_MYSQL, is_new, &secrets->table, &rows, err));
    enum kr_status status = KR_OK;
    for (const struct kr_row *row = rows; row && status == KR_OK; row = row->next)
        status = add_row(secrets, row, err);
    kr_rows_free(rows);
    KR_TRY(status);
    drop_absent(secrets);
    KR_TRY(check_missing(secrets, err));
    secrets->seen_change = change;
    secrets->loaded = true;
    return KR_OK;
}

static enum kr_status refresh_unlocked(struct kr_secrets *secrets, struct kr_error *err)
{
    KR_TRY(kr_keyring_lock(secrets->keyring, err));
    enum kr_status status = refresh(secrets, err);
    kr_keyring_unlock(secrets->keyring);
    return status;
}

/* --- life ------------------------------------------------------------------------------------- */

enum kr_status kr_secrets_open(struct kr_keyring *keyring, struct kr_secrets **ret,
                               struct kr_error *err)
{
    struct kr_secrets *secrets = calloc(1, sizeof(*secrets));
    if (!secrets)
        return kr_fail_memory(err);
    secrets->keyring = keyring;
    pthread_rwlock_init(&secrets->lock, NULL);
    enum kr_status status = refresh_unlocked(secrets, err);
    const struct kr_audit_event event = {.name = "secrets-open", .keys = secrets->table.count};
    kr_audit_end(keyring->audit, &event, status == KR_OK ? NULL : err);
    if (status != KR_OK) {
        kr_secrets_close(secrets);
        return status;
    }
    *ret = secrets;
    return KR_OK;
}

void kr_secrets_close(struct kr_secrets *secrets)
{
    if (!secrets)
        return;
    kr_secret_table_clear(&secrets->table);
    pthread_rwlock_destroy(&secrets->lock);
    free(secrets);
}

void kr_secrets_keep_handles(struct kr_secrets *secrets, struct kr_secrets *from)
{
    pthread_rwlock_wrlock(&secrets->lock);
    pthread_rwlock_rdlock(&from->lock);
    for (size_t i = 0; i < from->table.count; i++) {
        const struct kr_secret_entry *old = from->table.entries[i];
        struct kr_secret_entry *new = kr_secret_table_find(&secrets->table, old->id, old->owner);
        if (new &&new->form == old->form &&
            memcmp(&new->object, &old->object, sizeof(old->object)) == 0)
            memcpy(new->handle, old->handle, sizeof(old->handle));
    }
    pthread_rwlock_unlock(&from->lock);
    pthread_rwlock_unlock(&secrets->lock);
}

void kr_secrets_set_gate(struct kr_secrets *secrets, kr_handle_gate gate, void *context)
{
    secrets->gate = gate;
    secrets->gate_context = context;
}

static enum kr_status pass_gate(struct kr_secrets *secrets, const char *id,
                                enum kr_secret_form form, const uint8_t *handle,
                                struct kr_error *err)
{
    enum kr_status status;
    if (secrets->gate) {
        status = secrets->gate(secrets->gate_context, secrets, form, handle, err);
    } else {
        status = kr_fail(err, KR_REFUSED, "token-resident keys serve only inside mysqld");
        kr_hint(err, "run this on a keyring with [mysql] master-keys = wrapped");
    }
    if (status != KR_OK)
        kr_error_context(err, "the master key '%s' stays in the token", id);
    return status;
}

void kr_secrets_count(struct kr_secrets *secrets, struct kr_secret_counts *ret)
{
    struct kr_secret_counts counts = {0};
    pthread_rwlock_rdlock(&secrets->lock);
    for (size_t i = 0; i < secrets->table.count; i++)
        counts.wrapped += secrets->table.entries[i]->form == KR_SECRET_WRAPPED;
    counts.resident = secrets->table.count - counts.wrapped;
    pthread_rwlock_unlock(&secrets->lock);
    *ret = counts;
}

static bool is_in(const struct kr_secret_entry *entry, struct kr_token *token)
{
    struct kr_error ignored = KR_ERROR_INIT;
    return entry->token == token ||
           (token && kr_resident_check(token, &entry->object, &ignored) == KR_OK);
}

size_t kr_secrets_elsewhere(struct kr_secrets *secrets, const char *token)
{
    struct kr_token *wanted = kr_tokens_find(&secrets->keyring->tokens, token);
    size_t count = 0;
    pthread_rwlock_rdlock(&secrets->lock);
    for (size_t i = 0; i < secrets->table.count; i++) {
        const struct kr_secret_entry *entry = secrets->table.entries[i];
        count += entry->form != KR_SECRET_WRAPPED && !is_in(entry, wanted);
    }
    pthread_rwlock_unlock(&secrets->lock);
    return count;
}

/* --- reading ---------------------------------------------------------------------------------- */

static enum kr_status copy_out(const struct kr_secret_entry *entry, struct kr_secret *ret,
                               struct kr_error *err)
{
    bool resident = entry->form != KR_SECRET_WRAPPED;
    const uint8_t *bytes = resident ? entry->handle : entry->bytes;
    size_t len = resident ? KR_HANDLE_BYTES : entry->len;
    struct kr_secret copy = {.form = entry->form, .len = len};
    copy.bytes = (uint8_t *)kr_secret_dup(bytes, len);
    if (!copy.bytes)
        return kr_fail_memory(err);
    memcpy(copy.type, entry->type, sizeof(copy.type));
    *ret = copy;
    return KR_OK;
}

static enum kr_status fetch_known(struct kr_secrets *secrets, const char *id, const char *owner,
                                  struct kr_secret *ret, struct kr_error *err)
{
    pthread_rwlock_rdlock(&secrets->lock);
    const struct kr_secret_entry *entry = kr_secret_table_find(&secrets->table, id, owner);
    enum kr_status status = entry ? copy_out(entry, ret, err)
                                  : kr_fail(err, KR_NOT_FOUND, "there is no secret '%s'", id);
    pthread_rwlock_unlock(&secrets->lock);
    return status;
}

static enum kr_status fetch(struct kr_secrets *secrets, const char *id, const char *owner,
                            struct kr_secret *ret, struct kr_error *err)
{
    enum kr_status status = fetch_known(secrets, id, owner, ret, err);
    if (status != KR_NOT_FOUND)
        return status;
    /* A keystore that cannot be read must not look like one without the secret. */
    KR_TRY(refresh_unlocked(secrets, err));
    return fetch_known(secrets, id, owner, ret, err);
}

/* InnoDB asks for the master key before it makes a table's file, and uses it when the file is there
 * but not yet its first page: a server that ends then does not start again. So it is here that a
 * token that is away is waited for. */
static enum kr_status ask_the_token(struct kr_secrets *secrets, const struct kr_secret *secret,
                                    struct kr_error *err)
{
    const uint8_t in[KR_HANDLE_ECB_BYTES] = {0};
    KR_SECRET uint8_t *out = NULL;
    if (secret->form != KR_SECRET_TOKEN_ECB || kr_now_ms() - secrets->crypted_ms < ANSWER_LASTS_MS)
        return KR_OK;
    out = kr_secret_alloc(sizeof(in));
    if (!out)
        return kr_fail_memory(err);
    return kr_secrets_crypt(secrets, secret->bytes, KR_HANDLE_ECB_DECRYPT, NULL, in, sizeof(in),
                            out, err);
}

enum kr_status kr_secrets_fetch(struct kr_secrets *secrets, const char *id, const char *owner,
                                struct kr_secret *ret, struct kr_error *err)
{
    struct kr_secret found;
    KR_TRY(fetch(secrets, id, owner, &found, err));
    enum kr_status status = KR_OK;
    if (found.form != KR_SECRET_WRAPPED)
        status = pass_gate(secrets, id, found.form, found.bytes, err);
    if (status == KR_OK)
        status = ask_the_token(secrets, &found, err);
    if (status == KR_OK)
        *ret = found;
    else
        kr_secret_free(found.bytes);
    return status;
}

static bool copy_name(const struct kr_secret_entry *entry, struct kr_secret_name *ret)
{
    *ret = (struct kr_secret_name){
        .id = strdup(entry->id), .owner = strdup(entry->owner), .form = entry->form};
    return ret->id && ret->owner;
}

enum kr_status kr_secrets_names(struct kr_secrets *secrets, struct kr_secret_name **ret,
                                size_t *ret_count, struct kr_error *err)
{
    KR_TRY(refresh_unlocked(secrets, err));
    pthread_rwlock_rdlock(&secrets->lock);
    size_t count = 0;
    struct kr_secret_name *names = calloc(secrets->table.count + 1, sizeof(*names));
    bool ok = names != NULL;
    while (ok && count < secrets->table.count) {
        ok = copy_name(secrets->table.entries[count], &names[count]);
        count++;
    }
    pthread_rwlock_unlock(&secrets->lock);
    if (!ok) {
        kr_secret_names_free(names, count);
        return kr_fail_memory(err);
    }
    *ret = names;
    *ret_count = count;
    return KR_OK;
}

void kr_secret_names_free(struct kr_secret_name *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(names[i].id);
        free(names[i].owner);
    }
    free(names);
}

/* --- changing --------------------------------------------------------------------------------- */

struct addition {
    const char *event; /* in the audit log */
    enum kr_secret_form form;
    const char *type;
    const uint8_t *bytes; /* the secret, or the id of the token's key */
    size_t len;
};

static enum kr_status add_secret(struct kr_change *change, void *context, struct kr_error *err)
{
    const struct addition *addition = context;
    uint32_t latest, version;
    change->audit.name = addition->event;
    change->audit.detail = form_name(addition->form);
    KR_TRY(kr_change_latest(change, &latest, err));
    if (latest != 0)
        return kr_fail(err, KR_REFUSED, "the secret '%s' exists already", change->id);
    KR_SECRET uint8_t *payload = NULL;
    size_t len = 0;
    KR_TRY(kr_secret_encode(addition->form, addition->type, addition->bytes, addition->len,
                            &payload, &len, err));
    return kr_change_add(change, 1, form_name(addition->form), payload, len, &version, err);
}

static enum kr_status check_name(const char *id, struct kr_error *err)
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
    return refresh(secrets, err);
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
    KR_TRY(check_name(id, err));
    KR_TRY(kr_keyring_lock(secrets->keyring, err));
    enum kr_status status = add(secrets, id, owner, addition, err);
    kr_keyring_unlock(secrets->keyring);
    return ended(secrets, addition->event, id, owner, status, err);
}

enum kr_status kr_secrets_store(struct kr_secrets *secrets, const char *id, const char *owner,
                                const char *type, const uint8_t *bytes, size_t len,
                                struct kr_error *err)
{
    struct addition addition = {.event = "secret-store",
                                .form = KR_SECRET_WRAPPED,
                                .type = type,
                                .bytes = bytes,
                                .len = len};
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
    struct addition addition = {.event = "secret-generate",
                                .form = KR_SECRET_WRAPPED,
                                .type = type,
                                .bytes = bytes,
                                .len = len};
    return store(secrets, id, owner, &addition, err);
}

void kr_secret_label(const char *keyring, const char *id, char ret[KR_SECRET_LABEL_SIZE])
{
    snprintf(ret, KR_SECRET_LABEL_SIZE, "p11keyring:%s:mysql:%s", keyring, id);
}

/* A name that is taken must be found out before the token makes a key for it. */
static enum kr_status refuse_taken(struct kr_secrets *secrets, const char *id, const char *owner,
                                   struct kr_error *err)
{
    KR_TRY(refresh(secrets, err));
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
    kr_secret_label(secrets->keyring->name, id, label);
    KR_TRY(refuse_taken(secrets, id, owner, err));
    KR_TRY(kr_tokens_serving(&secrets->keyring->tokens, &token, err));
    const struct kr_audit_event event = {.name = "secret-generate",
                                         .token = kr_token_name(token),
                                         .ns = KR_NS_MYSQL,
                                         .id = id,
                                         .owner = owner,
                                         .detail = form_name(form)};
    KR_TRY(kr_audit_begin(secrets->keyring->audit, &event, err));
    KR_TRY(generate_key(secrets, token, id, label, form, &object, err));
    struct addition addition = {
        .event = event.name, .form = form, .type = type, .bytes = object.bytes, .len = object.len};
    enum kr_status status =
        kr_change_run(secrets->keyring, KR_NS_MYSQL, id, owner, add_secret, &addition, err);
    if (status == KR_OK)
        return refresh(secrets, err);
    struct kr_error left = KR_ERROR_INIT;
    if (kr_master_destroy(token, &object, &left) != KR_OK)
        kr_log(KR_LOG_WARNING, "the unused key '%s' is left in the token: %s", label, left.text);
    return status;
}

/* A key that this process cannot use is taken back: the server would encrypt with it. */
static enum kr_status accept_generated(struct kr_secrets *secrets, const char *id,
                                       const char *owner, struct kr_error *err)
{
    struct kr_secret made = {0};
    enum kr_status status = kr_secrets_fetch(secrets, id, owner, &made, err);
    kr_secret_free(made.bytes);
    struct kr_error left = KR_ERROR_INIT;
    if (status != KR_OK && kr_secrets_remove(secrets, id, owner, &left) != KR_OK)
        kr_log(KR_LOG_WARNING, "the unused key '%s' is left in the keystore: %s", id, left.text);
    return status;
}

enum kr_status kr_secrets_generate(struct kr_secrets *secrets, const char *id, const char *owner,
                                   const char *type, enum kr_secret_form form, size_t len,
                                   struct kr_error *err)
{
    KR_TRY(check_name(id, err));
    if (form == KR_SECRET_WRAPPED)
        return generate_wrapped(secrets, id, owner, type, len, err);
    if (len != KR_HANDLE_BYTES)
        return kr_fail(err, KR_USAGE, "a token-resident key has 32 bytes, not %zu", len);
    KR_TRY(pass_gate(secrets, id, form, NULL, err));
    KR_TRY(kr_keyring_lock(secrets->keyring, err));
    enum kr_status status = generate_locked(secrets, id, owner, type, form, err);
    kr_keyring_unlock(secrets->keyring);
    ended(secrets, "secret-generate", id, owner, status, err);
    return status == KR_OK ? accept_generated(secrets, id, owner, err) : status;
}

static enum kr_status remove_secret(struct kr_change *change, void *context, struct kr_error *err)
{
    (void)context;
    change->audit.name = "secret-remove";
    return kr_keystore_destroy_key(change->keystore, change->ns, change->id, change->owner, err);
}

static enum kr_status remove_locked(struct kr_secrets *secrets, const char *id, const char *owner,
                                    struct kr_error *err)
{
    KR_TRY(refresh(secrets, err));
    const struct kr_secret_entry *entry = kr_secret_table_find(&secrets->table, id, owner);
    if (!entry)
        return kr_fail(err, KR_NOT_FOUND, "there is no secret '%s'", id);
    bool resident = entry->form != KR_SECRET_WRAPPED;
    struct kr_object_id object = entry->object;
    struct kr_token *token = entry->token;
    KR_TRY(kr_change_run(secrets->keyring, KR_NS_MYSQL, id, owner, remove_secret, NULL, err));
    KR_TRY(refresh(secrets, err));
    struct kr_error left = KR_ERROR_INIT;
    if (resident && token && kr_master_destroy(token, &object, &left) != KR_OK)
        kr_log(KR_LOG_WARNING, "the removed key '%s' is left in the token: %s", id, left.text);
    return KR_OK;
}

enum kr_status kr_secrets_remove(struct kr_secrets *secrets, const char *id, const char *owner,
                                 struct kr_error *err)
{
    KR_TRY(kr_keyring_lock(secrets->keyring, err));
    enum kr_status status = remove_locked(secrets, id, owner, err);
    kr_keyring_unlock(secrets->keyring);
    return ended(secrets, "secret-remove", id, owner, status, err);
}

/* --- operations in the token ------------------------------------------------------------------ */

enum kr_status kr_secrets_crypt(struct kr_secrets *secrets, const uint8_t handle[KR_HANDLE_BYTES],
                                enum kr_handle_op op, const uint8_t *iv, const uint8_t *in,
                                size_t len, uint8_t *out, struct kr_error *err)
{
    bool ecb = op == KR_HANDLE_ECB_ENCRYPT || op == KR_HANDLE_ECB_DECRYPT;
    bool encrypt = op == KR_HANDLE_ECB_ENCRYPT || op == KR_HANDLE_CBC_ENCRYPT;
    struct kr_object_id object = {0};
    struct kr_token *token = NULL;
    pthread_rwlock_rdlock(&secrets->lock);
    const struct kr_secret_entry *entry = kr_secret_table_find_handle(&secrets->table, handle);
    if (entry && (entry->form == KR_SECRET_TOKEN_ECB) == ecb) {
        object = entry->object;
        token = entry->token;
    }
    pthread_rwlock_unlock(&secrets->lock);
    if (object.len == 0)
        return kr_fail(err, KR_USAGE, "a handle names no key for this operation");
    if (!token)
        KR_TRY(kr_tokens_holder(&secrets->keyring->tokens, &object, &token, err));
    KR_TRY(kr_resident_crypt(token, &object, ecb ? KR_RESIDENT_ECB : KR_RESIDENT_CBC, encrypt, iv,
                             in, len, out, err));
    secrets->crypted_ms = kr_now_ms();
    return KR_OK;
}
