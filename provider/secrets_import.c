/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* MySQL's secrets from elsewhere, and their master keys put into the token. */
#include "provider/secrets_import.h"

#include "base/log.h"
#include "pkcs11/resident.h"
#include "provider/rows.h"
#include "provider/secrets_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MASTER_KEY_BYTES = 32, UUID_TEXT = 36 };

/* What is done with an item. */
struct part {
    struct kr_secret_content content;
    struct kr_object_id object; /* of a key for the token */
};

struct kr_secret_import {
    struct kr_secrets *secrets;
    const struct kr_secret_item *items;
    size_t count, resident; /* all; for the token */
    struct kr_token *token; /* that is to have them */
    uint32_t first, last;   /* the announcement's rows; 0: none */
    struct part parts[];
};

/* --- names ------------------------------------------------------------------------------------ */

/* PREFIX, a UUID, a separator and a number. */
static bool is_numbered(const char *id, const char *prefix, char separator)
{
    size_t len = strlen(prefix);
    if (strncmp(id, prefix, len) != 0 || strlen(id) < len + UUID_TEXT + 2)
        return false;
    const char *uuid = id + len, *number = uuid + UUID_TEXT + 1;
    return strspn(uuid, "0123456789abcdefABCDEF-") >= UUID_TEXT && uuid[UUID_TEXT] == separator &&
           strspn(number, "0123456789") == strlen(number);
}

enum kr_secret_form kr_secret_resident_form(const char *id, const char *owner, const char *type,
                                            size_t len)
{
    if (*owner || len != MASTER_KEY_BYTES || strcmp(type, "AES") != 0)
        return KR_SECRET_WRAPPED;
    if (is_numbered(id, "INNODBKey-", '-'))
        return KR_SECRET_TOKEN_ECB;
    if (is_numbered(id, "MySQLReplicationKey_", '_'))
        return KR_SECRET_TOKEN_CBC;
    return KR_SECRET_WRAPPED;
}

static int compare_names(const void *a, const void *b)
{
    const struct kr_secret_item *x = *(const struct kr_secret_item *const *)a,
                                *y = *(const struct kr_secret_item *const *)b;
    int order = strcmp(x->id, y->id);
    return order ? order : strcmp(x->owner, y->owner);
}

/* Sorted; *ret is malloc'ed. KR_USAGE for two of one name. */
static enum kr_status sort_names(const struct kr_secret_item *items, size_t count,
                                 const struct kr_secret_item ***ret, struct kr_error *err)
{
    const struct kr_secret_item **sorted = calloc(count + 1, sizeof(*sorted));
    if (!sorted)
        return kr_fail_memory(err);
    for (size_t i = 0; i < count; i++)
        sorted[i] = &items[i];
    qsort(sorted, count, sizeof(*sorted), compare_names);
    for (size_t i = 1; i < count; i++) {
        if (compare_names(&sorted[i - 1], &sorted[i]) != 0)
            continue;
        kr_fail(err, KR_USAGE, "there are two secrets '%s'", sorted[i]->id);
        free(sorted);
        return err->status;
    }
    *ret = sorted;
    return KR_OK;
}

/* --- new -------------------------------------------------------------------------------------- */

static enum kr_status plan_part(struct kr_secret_import *import, size_t i, bool resident,
                                struct kr_error *err)
{
    const struct kr_secret_item *item = &import->items[i];
    struct part *part = &import->parts[i];
    KR_TRY(kr_secret_check_name(item->id, err));
    part->content = (struct kr_secret_content){
        .form = KR_SECRET_WRAPPED, .type = item->type, .bytes = item->bytes, .len = item->len};
    enum kr_secret_form form =
        kr_secret_resident_form(item->id, item->owner, item->type, item->len);
    if (!resident || form == KR_SECRET_WRAPPED)
        return KR_OK;
    KR_TRY(kr_object_id_make(&part->object, err));
    part->content.form = form;
    part->content.imported = true;
    part->content.bytes = part->object.bytes;
    part->content.len = part->object.len;
    import->resident++;
    return KR_OK;
}

enum kr_status kr_secret_import_new(struct kr_secrets *secrets, const struct kr_secret_item *items,
                                    size_t count, bool resident, struct kr_secret_import **ret,
                                    struct kr_error *err)
{
    struct kr_secret_import *import = calloc(1, sizeof(*import) + count * sizeof(import->parts[0]));
    if (!import)
        return kr_fail_memory(err);
    *import = (struct kr_secret_import){.secrets = secrets, .items = items, .count = count};
    enum kr_status status = KR_OK;
    for (size_t i = 0; i < count && status == KR_OK; i++)
        status = plan_part(import, i, resident, err);
    if (status == KR_OK)
        *ret = import;
    else
        free(import);
    return status;
}

enum kr_status kr_secret_import_row(const struct kr_secret_import *import, size_t index,
                                    struct kr_secret_row *ret, struct kr_error *err)
{
    const struct kr_secret_content *content = &import->parts[index].content;
    struct kr_secret_row row = {.cipher = kr_secret_cipher(content)};
    KR_TRY(kr_secret_encode(content, &row.payload, &row.len, err));
    *ret = row;
    return KR_OK;
}

/* --- the announcement ------------------------------------------------------------------------- */

/*
 * A row of the keystore, sealed like a secret: which ids a token's keys are going to have.
 *
 *   length(1) | name of the token | { length(1) | id } ...
 */
#define ANNOUNCEMENT "objects"
#define ANNOUNCED "ids"
enum { IDS_OF_A_ROW = 256 };

static size_t put_text(uint8_t *at, const void *bytes, size_t len)
{
    at[0] = (uint8_t)len;
    memcpy(at + 1, bytes, len);
    return 1 + len;
}

/* The ids from part *next on, as many as a row takes. */
static size_t fill_row(const struct kr_secret_import *import, size_t *next, uint8_t *row)
{
    const char *token = kr_token_name(import->token);
    size_t len = put_text(row, token, strlen(token)), ids = 0;
    for (; *next < import->count && ids < IDS_OF_A_ROW; (*next)++) {
        const struct kr_object_id *id = &import->parts[*next].object;
        if (id->len == 0)
            continue;
        len += put_text(row + len, id->bytes, id->len);
        ids++;
    }
    return ids > 0 ? len : 0;
}

static enum kr_status add_rows(struct kr_secret_import *import, struct kr_change *change,
                               struct kr_error *err)
{
    uint8_t row[(1 + 255) + IDS_OF_A_ROW * (1 + KR_OBJECT_ID_MAX)];
    size_t next = 0, len;
    while ((len = fill_row(import, &next, row)) > 0) {
        uint32_t version;
        KR_TRY(kr_change_add(change, 1, ANNOUNCED, row, len, &version, err));
        import->first = import->first ? import->first : version;
        import->last = version;
    }
    return KR_OK;
}

enum kr_status kr_secret_import_announce(struct kr_secret_import *import, struct kr_error *err)
{
    struct kr_keyring *keyring = import->secrets->keyring;
    struct kr_change change = {
        .keyring = keyring, .ns = KR_NS_IMPORTS, .id = ANNOUNCEMENT, .owner = ""};
    if (import->resident == 0)
        return KR_OK;
    KR_TRY(kr_tokens_serving(&keyring->tokens, &import->token, err));
    KR_TRY(kr_change_begin(keyring, &change.keystore, err));
    enum kr_status status = add_rows(import, &change, err);
    if (status == KR_OK)
        status = kr_change_commit(keyring, change.keystore, &change.audit, err);
    kr_keystore_close(change.keystore);
    if (status != KR_OK)
        import->first = 0;
    return status;
}

/* --- making ----------------------------------------------------------------------------------- */

static enum kr_status take_announcement(const struct kr_secret_import *import,
                                        struct kr_keystore *keystore, struct kr_error *err)
{
    enum kr_status status = KR_OK;
    for (uint32_t i = import->first; i <= import->last && status == KR_OK; i++)
        status = kr_keystore_remove_version(keystore, KR_NS_IMPORTS, ANNOUNCEMENT, "", i, err);
    if (status != KR_NOT_FOUND)
        return status;
    kr_fail(err, KR_IO, "another process ended this import before it had begun");
    kr_hint(err, "nothing was changed: try again");
    return err->status;
}

static enum kr_status begin_record(const struct kr_secret_import *import, size_t i,
                                   struct kr_error *err)
{
    const struct kr_audit_event event = {.name = "secret-import",
                                         .token = kr_token_name(import->token),
                                         .ns = KR_NS_MYSQL,
                                         .id = import->items[i].id,
                                         .owner = import->items[i].owner,
                                         .detail = kr_secret_cipher(&import->parts[i].content)};
    return kr_audit_begin(import->secrets->keyring->audit, &event, err);
}

/* From part *next on, as many as the token is given at once. */
static enum kr_status make_some(const struct kr_secret_import *import, size_t *next,
                                struct kr_error *err)
{
    struct kr_resident_import some[KR_RESIDENT_IMPORTS_MAX];
    char labels[KR_RESIDENT_IMPORTS_MAX][KR_SECRET_LABEL_SIZE];
    size_t count = 0;
    for (; *next < import->count && count < KR_RESIDENT_IMPORTS_MAX; (*next)++) {
        const struct part *part = &import->parts[*next];
        const struct kr_secret_item *item = &import->items[*next];
        if (!part->content.imported)
            continue;
        KR_TRY(begin_record(import, *next, err));
        kr_secret_label(import->secrets->keyring->name, item->id, true, labels[count]);
        some[count] = (struct kr_resident_import){
            .id = part->object,
            .label = labels[count],
            .mode = part->content.form == KR_SECRET_TOKEN_ECB ? KR_RESIDENT_ECB : KR_RESIDENT_CBC,
            .key = item->bytes};
        count++;
    }
    return count > 0 ? kr_resident_import(import->token, some, count, NULL, err) : KR_OK;
}

enum kr_status kr_secret_import_make(struct kr_secret_import *import, struct kr_keystore *keystore,
                                     struct kr_error *err)
{
    if (import->resident == 0)
        return KR_OK;
    KR_TRY(take_announcement(import, keystore, err));
    for (size_t next = 0; next < import->count;)
        KR_TRY(make_some(import, &next, err));
    return KR_OK;
}

void kr_secret_import_end(struct kr_secret_import *import, bool committed)
{
    if (import && import->first && !committed)
        kr_imports_tidy_locked(import->secrets);
    free(import);
}

/* --- what was left -----------------------------------------------------------------------------
 */

static bool any_row(const struct kr_version_row *row, void *context)
{
    (void)row;
    (void)context;
    return true;
}

static bool is_needed(const struct kr_secrets *secrets, const struct kr_object_id *id)
{
    bool needed = false;
    for (size_t i = 0; i < secrets->table.count; i++)
        needed = needed || kr_object_id_equal(&secrets->table.entries[i]->object, id);
    return needed;
}

/* One length and its bytes; false at the end, or where the row is no announcement. */
static bool next_text(const uint8_t **at, size_t *left, const uint8_t **ret, size_t *ret_len)
{
    if (*left == 0 || (*at)[0] == 0 || *left - 1 < (*at)[0])
        return false;
    *ret_len = (*at)[0];
    *ret = *at + 1;
    *at += 1 + *ret_len;
    *left -= 1 + *ret_len;
    return true;
}

static enum kr_status destroy_keys(struct kr_secrets *secrets, struct kr_token *token,
                                   const uint8_t *at, size_t left, unsigned *destroyed,
                                   struct kr_error *err)
{
    const uint8_t *bytes;
    size_t len;
    while (next_text(&at, &left, &bytes, &len)) {
        struct kr_object_id id = {.len = (uint8_t)len};
        if (len > KR_OBJECT_ID_MAX)
            return kr_fail(err, KR_INTEGRITY, "the keystore announces a key with no proper id");
        memcpy(id.bytes, bytes, len);
        if (is_needed(secrets, &id))
            continue;
        enum kr_status status = kr_master_destroy(token, &id, err);
        if (status != KR_OK && status != KR_NOT_FOUND)
            return status;
        *destroyed += status == KR_OK;
    }
    return KR_OK;
}

/* A token that is not configured any more cannot be asked, and what it has is of no use. */
static enum kr_status undo_row(struct kr_secrets *secrets, const struct kr_row *row,
                               unsigned *destroyed, struct kr_error *err)
{
    KR_SECRET uint8_t *payload = NULL;
    char name[256] = "";
    const uint8_t *text, *at;
    size_t len, left = 0;
    KR_TRY(kr_row_open(secrets->keyring, row, &payload, &left, err));
    at = payload;
    if (!next_text(&at, &left, &text, &len))
        return kr_fail(err, KR_INTEGRITY, "the keystore announces keys of no token");
    memcpy(name, text, len);
    struct kr_token *token = kr_tokens_find(&secrets->keyring->tokens, name);
    if (token)
        return destroy_keys(secrets, token, at, left, destroyed, err);
    kr_log(KR_LOG_WARNING,
           "keys that an import left behind may be in token '%s', which is not configured", name);
    return KR_OK;
}

struct rows {
    struct kr_row *first;
};

static enum kr_status collect(const struct kr_version_row *row, void *context, struct kr_error *err)
{
    struct rows *rows = context;
    struct kr_row *copy = kr_row_copy(row);
    if (!copy)
        return kr_fail_memory(err);
    copy->next = rows->first;
    rows->first = copy;
    return KR_OK;
}

/* In a write transaction: nobody is making the keys of an announcement that can be seen here. */
static enum kr_status undo_all(struct kr_secrets *secrets, struct kr_keystore *keystore,
                               unsigned *destroyed, struct kr_error *err)
{
    struct rows rows = {NULL};
    enum kr_status status = kr_keystore_each_version(keystore, KR_NS_IMPORTS, collect, &rows, err);
    for (const struct kr_row *row = rows.first; row && status == KR_OK; row = row->next) {
        status = undo_row(secrets, row, destroyed, err);
        if (status == KR_OK)
            status = kr_keystore_remove_version(keystore, row->ns, row->id, row->owner,
                                                row->version, err);
    }
    kr_rows_free(rows.first);
    return status;
}

static enum kr_status undo(struct kr_secrets *secrets, struct kr_error *err)
{
    struct kr_keyring *keyring = secrets->keyring;
    struct kr_keystore *keystore = NULL;
    unsigned destroyed = 0;
    char detail[64];
    KR_TRY(kr_change_begin(keyring, &keystore, err));
    enum kr_status status = undo_all(secrets, keystore, &destroyed, err);
    snprintf(detail, sizeof(detail), "%u keys were left in the token", destroyed);
    const struct kr_audit_event event = {
        .name = "secret-import-undone", .ns = KR_NS_MYSQL, .detail = detail};
    if (status == KR_OK)
        status = kr_change_commit(keyring, keystore, &event, err);
    kr_keystore_close(keystore);
    if (status == KR_OK)
        kr_log(KR_LOG_NOTE, "an import of master keys had not ended and was taken back: %s",
               detail);
    return status;
}

void kr_imports_tidy_locked(struct kr_secrets *secrets)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_row *rows = NULL;
    enum kr_status status =
        kr_rows_read(secrets->keyring, KR_NS_IMPORTS, any_row, NULL, &rows, &err);
    bool any = rows != NULL;
    kr_rows_free(rows);
    if (status == KR_OK && any)
        status = undo(secrets, &err);
    if (status != KR_OK)
        kr_log(KR_LOG_WARNING, "an import that had not ended could not be taken back yet: %s",
               err.text);
}

/* --- in a transaction of its own ---------------------------------------------------------------
 */

struct taken {
    const struct kr_secret_item **sorted;
    size_t count;
};

static enum kr_status refuse_taken(const struct kr_version_row *row, void *context,
                                   struct kr_error *err)
{
    const struct taken *taken = context;
    const struct kr_secret_item name = {.id = row->id, .owner = row->owner}, *key = &name;
    if (!bsearch(&key, taken->sorted, taken->count, sizeof(*taken->sorted), compare_names))
        return KR_OK;
    return kr_fail(err, KR_REFUSED, "the secret '%s' exists already", row->id);
}

static enum kr_status add_part(struct kr_secret_import *import, struct kr_keystore *keystore,
                               size_t i, struct kr_error *err)
{
    struct kr_change change = {.keyring = import->secrets->keyring,
                               .keystore = keystore,
                               .ns = KR_NS_MYSQL,
                               .id = import->items[i].id,
                               .owner = import->items[i].owner};
    struct kr_secret_row row;
    uint32_t version;
    KR_TRY(kr_secret_import_row(import, i, &row, err));
    enum kr_status status =
        kr_change_add(&change, 1, row.cipher, row.payload, row.len, &version, err);
    kr_secret_free(row.payload);
    return status;
}

static enum kr_status add_parts(struct kr_secret_import *import, struct kr_keystore *keystore,
                                const struct taken *taken, struct kr_error *err)
{
    const struct kr_audit_event event = {
        .name = "secret-import", .ns = KR_NS_MYSQL, .keys = import->count};
    KR_TRY(kr_keystore_each_version(keystore, KR_NS_MYSQL, refuse_taken, (void *)taken, err));
    KR_TRY(kr_secret_import_make(import, keystore, err));
    for (size_t i = 0; i < import->count; i++)
        KR_TRY(add_part(import, keystore, i, err));
    return kr_change_commit(import->secrets->keyring, keystore, &event, err);
}

static enum kr_status run(struct kr_secret_import *import, const struct taken *taken,
                          struct kr_error *err)
{
    struct kr_keystore *keystore = NULL;
    KR_TRY(kr_secret_import_announce(import, err));
    KR_TRY(kr_change_begin(import->secrets->keyring, &keystore, err));
    enum kr_status status = add_parts(import, keystore, taken, err);
    kr_keystore_close(keystore);
    return status;
}

static enum kr_status import_locked(struct kr_secrets *secrets, const struct taken *taken,
                                    struct kr_secret_import *import, struct kr_error *err)
{
    kr_imports_tidy_locked(secrets);
    enum kr_status status = run(import, taken, err);
    kr_secret_import_end(import, status == KR_OK);
    return status == KR_OK ? kr_secrets_refresh_locked(secrets, err) : status;
}

static enum kr_status import_sorted(struct kr_secrets *secrets, const struct kr_secret_item *items,
                                    const struct taken *taken, bool resident, struct kr_error *err)
{
    struct kr_secret_import *import = NULL;
    KR_TRY(kr_secret_import_new(secrets, items, taken->count, resident, &import, err));
    enum kr_status status = kr_keyring_lock(secrets->keyring, err);
    if (status != KR_OK) {
        kr_secret_import_end(import, false);
        return status;
    }
    status = import_locked(secrets, taken, import, err);
    kr_keyring_unlock(secrets->keyring);
    return status;
}

enum kr_status kr_secrets_import(struct kr_secrets *secrets, const struct kr_secret_item *items,
                                 size_t count, bool resident, struct kr_error *err)
{
    const struct kr_audit_event event = {.name = "secret-import", .ns = KR_NS_MYSQL, .keys = count};
    struct taken taken = {NULL, count};
    KR_TRY(sort_names(items, count, &taken.sorted, err));
    enum kr_status status = import_sorted(secrets, items, &taken, resident, err);
    free(taken.sorted);
    if (status != KR_OK)
        kr_audit_end(secrets->keyring->audit, &event, err);
    return status;
}
