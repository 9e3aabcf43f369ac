/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The table of unwrapped secrets, and their payload. */
#include "provider/secret_table.h"

#include "base/guards.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

/* --- the table -------------------------------------------------------------------------------- */

static int compare(const struct kr_secret_entry *entry, const char *id, const char *owner)
{
    int order = strcmp(entry->id, id);
    return order ? order : strcmp(entry->owner, owner);
}

/* Where a name is, or where it belongs. */
static size_t position(const struct kr_secret_table *table, const char *id, const char *owner)
{
    size_t low = 0, high = table->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare(table->entries[middle], id, owner) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct kr_secret_entry *kr_secret_table_find(const struct kr_secret_table *table, const char *id,
                                             const char *owner)
{
    size_t at = position(table, id, owner);
    if (at == table->count || compare(table->entries[at], id, owner) != 0)
        return NULL;
    return table->entries[at];
}

struct kr_secret_entry *kr_secret_table_find_handle(const struct kr_secret_table *table,
                                                    const uint8_t handle[KR_HANDLE_BYTES])
{
    struct kr_secret_entry *found = NULL;
    for (size_t i = 0; i < table->count; i++) {
        struct kr_secret_entry *entry = table->entries[i];
        if (entry->form != KR_SECRET_WRAPPED &&
            CRYPTO_memcmp(entry->handle, handle, KR_HANDLE_BYTES) == 0)
            found = entry;
    }
    return found;
}

bool kr_secret_table_put(struct kr_secret_table *table, struct kr_secret_entry *entry)
{
    size_t at = position(table, entry->id, entry->owner);
    if (at < table->count && compare(table->entries[at], entry->id, entry->owner) == 0) {
        kr_secret_entry_free(table->entries[at]);
        table->entries[at] = entry;
        return true;
    }
    struct kr_secret_entry **entries =
        reallocarray(table->entries, table->count + 1, sizeof(*entries));
    if (!entries)
        return false;
    memmove(entries + at + 1, entries + at, (table->count - at) * sizeof(*entries));
    entries[at] = entry;
    table->entries = entries;
    table->count++;
    return true;
}

void kr_secret_table_remove(struct kr_secret_table *table, const struct kr_secret_entry *entry)
{
    size_t at = position(table, entry->id, entry->owner);
    kr_secret_entry_free(table->entries[at]);
    table->count--;
    memmove(table->entries + at, table->entries + at + 1,
            (table->count - at) * sizeof(*table->entries));
}

/* The number at the end of a name of the series, or 0: servers count from 1, and theirs have no
 * owner. */
static unsigned long number_in_series(const struct kr_secret_entry *entry, const char *id,
                                      size_t stem)
{
    const char *digits = entry->id + stem;
    if (*entry->owner || strncmp(entry->id, id, stem) != 0 ||
        strspn(digits, "0123456789") != strlen(digits))
        return 0;
    return strtoul(digits, NULL, 10);
}

static void count_older(struct kr_secret_series *series, unsigned long number)
{
    series->count++;
    if (series->first == 0 || number < series->first)
        series->first = number;
    if (number > series->last)
        series->last = number;
}

static size_t stem_of(const char *id)
{
    size_t stem = strlen(id);
    while (stem > 0 && strchr("0123456789", id[stem - 1]))
        stem--;
    return stem;
}

void kr_secret_table_series(const struct kr_secret_table *table, const char *id,
                            struct kr_secret_series *ret)
{
    struct kr_secret_series series = {.stem = stem_of(id)};
    for (size_t i = 0; i < table->count; i++) {
        unsigned long number = number_in_series(table->entries[i], id, series.stem);
        if (number > series.newest)
            series.newest = number;
    }
    for (size_t i = 0; i < table->count; i++) {
        unsigned long number = number_in_series(table->entries[i], id, series.stem);
        if (number > 0 && number < series.newest && table->entries[i]->form != KR_SECRET_WRAPPED)
            count_older(&series, number);
    }
    *ret = series;
}

bool kr_secret_table_is_replaced(const struct kr_secret_table *table,
                                 const struct kr_secret_entry *entry)
{
    size_t stem = stem_of(entry->id);
    unsigned long own = number_in_series(entry, entry->id, stem);
    bool replaced = false;
    for (size_t i = 0; i < table->count; i++) {
        const struct kr_secret_entry *other = table->entries[i];
        replaced = replaced || (__atomic_load_n(&other->used, __ATOMIC_RELAXED) &&
                                number_in_series(other, entry->id, stem) > own);
    }
    return replaced;
}

void kr_secret_table_clear(struct kr_secret_table *table)
{
    for (size_t i = 0; i < table->count; i++)
        kr_secret_entry_free(table->entries[i]);
    free(table->entries);
    *table = (struct kr_secret_table){0};
}

void kr_secret_entry_free(struct kr_secret_entry *entry)
{
    if (!entry)
        return;
    kr_secret_free(entry->bytes);
    free(entry->id);
    free(entry->owner);
    kr_secret_free(entry);
}

/* --- the payload ------------------------------------------------------------------------------ */

enum { PAYLOAD_HEAD = 2 };

/* In the payload imported forms have numbers of their own. */
enum { IMPORTED_ECB = 4, IMPORTED_CBC = 5 };

static const struct {
    enum kr_secret_form form;
    bool imported;
    const char *cipher;
} forms[] = {
    [KR_SECRET_WRAPPED] = {KR_SECRET_WRAPPED, false, "wrapped"},
    [KR_SECRET_TOKEN_ECB] = {KR_SECRET_TOKEN_ECB, false, "token-ecb"},
    [KR_SECRET_TOKEN_CBC] = {KR_SECRET_TOKEN_CBC, false, "token-cbc"},
    [IMPORTED_ECB] = {KR_SECRET_TOKEN_ECB, true, "token-ecb-imported"},
    [IMPORTED_CBC] = {KR_SECRET_TOKEN_CBC, true, "token-cbc-imported"},
};
enum { FORMS = sizeof(forms) / sizeof(forms[0]) };

static uint8_t form_number(const struct kr_secret_content *content)
{
    uint8_t number = (uint8_t)content->form;
    if (content->imported)
        number = content->form == KR_SECRET_TOKEN_ECB ? IMPORTED_ECB : IMPORTED_CBC;
    return number;
}

const char *kr_secret_cipher(const struct kr_secret_content *content)
{
    return forms[form_number(content)].cipher;
}

enum kr_status kr_secret_encode(const struct kr_secret_content *content, uint8_t **ret,
                                size_t *ret_len, struct kr_error *err)
{
    size_t type_len = strlen(content->type), len = content->len;
    if (type_len > KR_SECRET_TYPE_MAX)
        return kr_fail(err, KR_USAGE, "a key type has at most %d bytes", KR_SECRET_TYPE_MAX);
    if (len == 0 || len > KR_SECRET_BYTES_MAX)
        return kr_fail(err, KR_USAGE, "a secret has 1 to %d bytes, not %zu", KR_SECRET_BYTES_MAX,
                       len);
    uint8_t *payload = kr_secret_alloc(PAYLOAD_HEAD + type_len + len);
    if (!payload)
        return kr_fail_memory(err);
    payload[0] = form_number(content);
    payload[1] = (uint8_t)type_len;
    memcpy(payload + PAYLOAD_HEAD, content->type, type_len);
    memcpy(payload + PAYLOAD_HEAD + type_len, content->bytes, len);
    *ret = payload;
    *ret_len = PAYLOAD_HEAD + type_len + len;
    return KR_OK;
}

static bool make_handle(struct kr_secret_entry *entry)
{
    enum { RANDOM_BYTES = KR_HANDLE_BYTES - KR_HANDLE_MAGIC_BYTES };
    uint8_t *rest = entry->handle + KR_HANDLE_MAGIC_BYTES;
    memcpy(entry->handle, KR_HANDLE_MAGIC, KR_HANDLE_MAGIC_BYTES);
    if (KR_GUARDED || getenv("P11K_TEST_RANDOM_HANDLES"))
        return RAND_priv_bytes(rest, RANDOM_BYTES) == 1;
    memcpy(rest, entry->object.bytes, RANDOM_BYTES);
    return true;
}

/* Fills the form, the type and the secret or its object; false on an unknown form or bad lengths.
 */
static bool take_payload(struct kr_secret_entry *entry, const uint8_t *payload, size_t len)
{
    if (len <= PAYLOAD_HEAD || payload[1] > KR_SECRET_TYPE_MAX ||
        len - PAYLOAD_HEAD <= payload[1] || payload[0] >= FORMS)
        return false;
    const uint8_t *bytes = payload + PAYLOAD_HEAD + payload[1];
    entry->form = forms[payload[0]].form;
    entry->imported = forms[payload[0]].imported;
    entry->len = len - PAYLOAD_HEAD - payload[1];
    memcpy(entry->type, payload + PAYLOAD_HEAD, payload[1]);
    switch (entry->form) {
    case KR_SECRET_WRAPPED:
        entry->bytes = (uint8_t *)kr_secret_dup(bytes, entry->len);
        return entry->bytes != NULL;
    case KR_SECRET_TOKEN_ECB:
    case KR_SECRET_TOKEN_CBC:
        if (entry->len > KR_OBJECT_ID_MAX)
            return false;
        entry->object.len = (uint8_t)entry->len;
        memcpy(entry->object.bytes, bytes, entry->len);
        return make_handle(entry);
    }
    return false;
}

enum kr_status kr_secret_decode(const char *id, const char *owner, uint32_t version,
                                const uint8_t *payload, size_t len, struct kr_secret_entry **ret,
                                struct kr_error *err)
{
    struct kr_secret_entry *entry = kr_secret_alloc(sizeof(*entry));
    if (!entry)
        return kr_fail_memory(err);
    entry->id = strdup(id);
    entry->owner = strdup(owner);
    entry->version = version;
    entry->present = true;
    if (entry->id && entry->owner && take_payload(entry, payload, len)) {
        *ret = entry;
        return KR_OK;
    }
    kr_secret_entry_free(entry);
    kr_fail(err, KR_INTEGRITY, "the secret '%s' has an unknown form", id);
    kr_hint(err, "the keystore was written by a newer p11keyring, or memory is exhausted");
    return err->status;
}
