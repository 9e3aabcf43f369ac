/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* MySQL's secrets: following the keystore, reading, and operations in the token. */
#include "provider/rows.h"
#include "provider/secrets_internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    ANSWER_LASTS_MS = 1000,
    /* Of an encryption with ECB, which InnoDB does for a table that lacks its first page; whatever
     * else may wait did so before, see ask_the_token(). */
    HEADER_PATIENCE_MS = 100,
};

/* The token's last answer to this thread's ask_the_token(). */
static _Thread_local struct {
    const struct kr_secrets *by;
    uint64_t ms;
} answer;

/* --- following the keystore ------------------------------------------------------------------- */

enum kr_status kr_secret_find_token(const struct kr_secrets *secrets,
                                    const struct kr_secret_entry *entry, struct kr_token **ret,
                                    struct kr_error *err)
{
    return kr_tokens_holder(&secrets->keyring->tokens, &entry->object, entry->imported, ret, err);
}

static bool is_new(const struct kr_version_row *row, void *context)
{
    struct kr_secret_entry *known = kr_secret_table_find(context, row->id, row->owner);
    if (!known || known->version != row->version)
        return true;
    known->present = true;
    return false;
}

static enum kr_status take_secret(const struct kr_row *row, const uint8_t *payload, size_t len,
                                  void *context, struct kr_error *err)
{
    struct kr_secrets *secrets = context;
    struct kr_secret_entry *entry = NULL;
    KR_TRY(kr_secret_decode(row->id, row->owner, row->version, payload, len, &entry, err));
    struct kr_error missing = KR_ERROR_INIT;
    if (entry->form != KR_SECRET_WRAPPED &&
        kr_secret_find_token(secrets, entry, &entry->token, &missing) != KR_OK)
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
    enum kr_status status = kr_secret_find_token(secrets, entry, &token, err);
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
enum kr_status kr_secrets_refresh_locked(struct kr_secrets *secrets, struct kr_error *err)
{
    uint64_t change;
    KR_TRY(kr_keystore_change_counter(secrets->keyring->keystore, &change, err));
    if (secrets->loaded && change == secrets->seen_change)
        return KR_OK;
    for (size_t i = 0; i < secrets->table.count; i++)
        secrets->table.entries[i]->present = false;
    struct kr_row *rows = NULL;
    KR_TRY(kr_rows_read(secrets->keyring, KR_NS_MYSQL, is_new, &secrets->table, &rows, err));
    enum kr_status status = kr_rows_open(secrets->keyring, rows, take_secret, secrets, err);
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
    enum kr_status status = kr_secrets_refresh_locked(secrets, err);
    kr_keyring_unlock(secrets->keyring);
    return status;
}

/* --- life ------------------------------------------------------------------------------------- */

/* A server may open its keyring as root, before it becomes its own user, and is not to write then.
 */
static bool owns_keystore(const struct kr_keyring *keyring)
{
    struct stat st;
    return stat(keyring->keystore_path, &st) == 0 && st.st_uid == geteuid();
}

static enum kr_status refresh_and_tidy(struct kr_secrets *secrets, struct kr_error *err)
{
    KR_TRY(kr_keyring_lock(secrets->keyring, err));
    enum kr_status status = kr_secrets_refresh_locked(secrets, err);
    if (status == KR_OK && owns_keystore(secrets->keyring))
        kr_imports_tidy_locked(secrets);
    kr_keyring_unlock(secrets->keyring);
    return status;
}

enum kr_status kr_secrets_open(struct kr_keyring *keyring, struct kr_secrets **ret,
                               struct kr_error *err)
{
    struct kr_secrets *secrets = calloc(1, sizeof(*secrets));
    if (!secrets)
        return kr_fail_memory(err);
    secrets->keyring = keyring;
    pthread_rwlock_init(&secrets->lock, NULL);
    enum kr_status status = refresh_and_tidy(secrets, err);
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
            memcmp(&new->object, &old->object, sizeof(old->object)) == 0) {
            memcpy(new->handle, old->handle, sizeof(old->handle));
            new->used = __atomic_load_n(&old->used, __ATOMIC_RELAXED);
        }
    }
    pthread_rwlock_unlock(&from->lock);
    pthread_rwlock_unlock(&secrets->lock);
}

void kr_secrets_set_gate(struct kr_secrets *secrets, kr_handle_gate gate, void *context)
{
    secrets->gate = gate;
    secrets->gate_context = context;
}

enum kr_status kr_secrets_pass_gate(struct kr_secrets *secrets, const char *id,
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

static void count_entry(const struct kr_secret_entry *entry, struct kr_secret_counts *counts)
{
    *(entry->form == KR_SECRET_WRAPPED ? &counts->wrapped : &counts->resident) += 1;
    counts->imported += entry->imported;
}

void kr_secrets_count(struct kr_secrets *secrets, struct kr_secret_counts *ret)
{
    struct kr_secret_counts counts = {0};
    pthread_rwlock_rdlock(&secrets->lock);
    for (size_t i = 0; i < secrets->table.count; i++)
        count_entry(secrets->table.entries[i], &counts);
    pthread_rwlock_unlock(&secrets->lock);
    *ret = counts;
}

void kr_secrets_imported(struct kr_secrets *secrets, char *ret, size_t size)
{
    size_t len = 0;
    *ret = '\0';
    pthread_rwlock_rdlock(&secrets->lock);
    for (size_t i = 0; i < secrets->table.count && len < size; i++)
        if (secrets->table.entries[i]->imported)
            len += (size_t)snprintf(ret + len, size - len, "%s%s", len ? ", " : "",
                                    secrets->table.entries[i]->id);
    pthread_rwlock_unlock(&secrets->lock);
}

static bool is_in(const struct kr_secret_entry *entry, struct kr_token *token)
{
    struct kr_error ignored = KR_ERROR_INIT;
    return entry->token == token ||
           (token && kr_resident_check(token, &entry->object, entry->imported, &ignored) == KR_OK);
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
    struct kr_secret_entry *entry = kr_secret_table_find(&secrets->table, id, owner);
    enum kr_status status = entry ? copy_out(entry, ret, err)
                                  : kr_fail(err, KR_NOT_FOUND, "there is no secret '%s'", id);
    if (entry && entry->form == KR_SECRET_WRAPPED)
        __atomic_store_n(&entry->used, true, __ATOMIC_RELAXED);
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

/* InnoDB asks for the master key before it makes a table's file, and again, and uses it, when the
 * file is there but not yet its first page: a server that ends then does not start again. So it is
 * at the first question of a thread that a token which is away is waited for. */
static enum kr_status ask_the_token(struct kr_secrets *secrets, const struct kr_secret *secret,
                                    struct kr_error *err)
{
    const uint8_t in[KR_HANDLE_ECB_BYTES] = {0};
    KR_SECRET uint8_t *out = NULL;
    if (secret->form != KR_SECRET_TOKEN_ECB ||
        (answer.by == secrets && kr_now_ms() - answer.ms < ANSWER_LASTS_MS))
        return KR_OK;
    out = kr_secret_alloc(sizeof(in));
    if (!out)
        return kr_fail_memory(err);
    KR_TRY(kr_secrets_crypt(secrets, secret->bytes, KR_HANDLE_ECB_DECRYPT, NULL, in, sizeof(in),
                            out, err));
    answer.by = secrets;
    answer.ms = kr_now_ms();
    return KR_OK;
}

enum kr_status kr_secrets_fetch(struct kr_secrets *secrets, const char *id, const char *owner,
                                struct kr_secret *ret, struct kr_error *err)
{
    struct kr_secret found;
    KR_TRY(fetch(secrets, id, owner, &found, err));
    enum kr_status status = KR_OK;
    if (found.form != KR_SECRET_WRAPPED)
        status = kr_secrets_pass_gate(secrets, id, found.form, found.bytes, err);
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
    *ret = (struct kr_secret_name){strdup(entry->id), strdup(entry->owner), entry->form,
                                   entry->imported};
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

/* --- operations in the token ------------------------------------------------------------------ */

struct use {
    struct kr_object_id object;
    struct kr_token *token;
    bool imported;
};

enum kr_status kr_secret_fail_replaced(const char *id, struct kr_error *err)
{
    kr_fail(err, KR_REFUSED, "the master key '%s' was imported, and seals nothing any more", id);
    kr_hint(err, "a later key has taken its place; ALTER INSTANCE ROTATE INNODB MASTER KEY (or "
                 "BINLOG) lets the server go over to a new one");
    return err->status;
}

/* An imported key is for what it has sealed, once the server uses a later one. */
static enum kr_status begin_use(struct kr_secrets *secrets, const uint8_t *handle, bool ecb,
                                bool encrypt, struct use *ret, struct kr_error *err)
{
    struct kr_secret_entry *entry = kr_secret_table_find_handle(&secrets->table, handle);
    if (!entry || (entry->form == KR_SECRET_TOKEN_ECB) != ecb)
        return kr_fail(err, KR_USAGE, "a handle names no key for this operation");
    if (encrypt && entry->imported && kr_secret_table_is_replaced(&secrets->table, entry))
        return kr_secret_fail_replaced(entry->id, err);
    __atomic_store_n(&entry->used, true, __ATOMIC_RELAXED);
    *ret = (struct use){entry->object, entry->token, entry->imported};
    return KR_OK;
}

enum kr_status kr_secrets_crypt(struct kr_secrets *secrets, const uint8_t handle[KR_HANDLE_BYTES],
                                enum kr_handle_op op, const uint8_t *iv, const uint8_t *in,
                                size_t len, uint8_t *out, struct kr_error *err)
{
    bool ecb = op == KR_HANDLE_ECB_ENCRYPT || op == KR_HANDLE_ECB_DECRYPT;
    bool encrypt = op == KR_HANDLE_ECB_ENCRYPT || op == KR_HANDLE_CBC_ENCRYPT;
    struct use use;
    pthread_rwlock_rdlock(&secrets->lock);
    enum kr_status status = begin_use(secrets, handle, ecb, encrypt, &use, err);
    pthread_rwlock_unlock(&secrets->lock);
    KR_TRY(status);
    if (!use.token)
        KR_TRY(kr_tokens_holder(&secrets->keyring->tokens, &use.object, use.imported, &use.token,
                                err));
    const struct kr_resident_op resident = {
        .mode = ecb ? KR_RESIDENT_ECB : KR_RESIDENT_CBC,
        .encrypt = encrypt,
        .imported = use.imported,
        .iv = iv,
        .patience_ms = op == KR_HANDLE_ECB_ENCRYPT ? HEADER_PATIENCE_MS : 0,
    };
    return kr_resident_crypt(use.token, &use.object, &resident, in, len, out, err);
}
