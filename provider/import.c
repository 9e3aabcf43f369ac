/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Many keys from elsewhere in one commit. */
#include "provider/import.h"

#include <inttypes.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hwaccel/aes256.h"
#include "provider/change.h"
#include "provider/crew.h"
#include "provider/rows.h"
#include "provider/secrets_import.h"

/* --- what is there already -------------------------------------------------------------------- */

static enum kr_presence look_for_data(const struct kr_keyring *keyring,
                                      const struct kr_set_key *key)
{
    uint32_t latest = kr_keyring_latest(keyring, key->id);
    const struct kr_data_key *there = kr_keyring_find(keyring, key->id, key->version);
    if (latest == 0)
        return KR_ABSENT;
    if (!there)
        return key->version > latest ? KR_ADDABLE : KR_CONFLICT;
    const struct kr_set_key same = {.id = there->id,
                                    .version = there->version,
                                    .cipher = there->cipher,
                                    .bytes = (uint8_t *)there->bytes,
                                    .len = there->len};
    return kr_set_key_equal(key, &same) ? KR_EQUAL : KR_CONFLICT;
}

static enum kr_status compare_secret(struct kr_secrets *secrets, struct kr_set_key *key,
                                     struct kr_error *err)
{
    struct kr_secret there;
    KR_TRY(kr_secrets_fetch(secrets, key->name, key->owner, &there, err));
    struct kr_set_key same = *key;
    same.type = there.type;
    same.bytes = there.bytes;
    same.len = there.len;
    key->presence = kr_set_key_equal(key, &same) ? KR_EQUAL : KR_CONFLICT;
    kr_secret_free(there.bytes);
    return KR_OK;
}

/* A key of the token shows what it is by one block. */
static enum kr_status compare_resident(struct kr_secrets *secrets, enum kr_secret_form form,
                                       struct kr_set_key *key, struct kr_error *err)
{
    const uint8_t in[16] = {1}, iv[16] = {0};
    const uint8_t *mode = form == KR_SECRET_TOKEN_CBC ? iv : NULL;
    uint8_t here[16], there[16];
    key->presence = KR_CONFLICT;
    if (key->len != 32)
        return KR_OK;
    KR_TRY(kr_aes256_blocks(key->bytes, mode, false, in, sizeof(in), here, err));
    KR_TRY(kr_secrets_use(secrets, key->name, key->owner, false, mode, in, sizeof(in), there, err));
    if (CRYPTO_memcmp(here, there, sizeof(here)) == 0)
        key->presence = KR_EQUAL;
    return KR_OK;
}

static enum kr_status look_for_secrets(struct kr_secrets *secrets, const struct kr_key_set *set,
                                       struct kr_error *err)
{
    struct kr_secret_name *names;
    size_t count;
    KR_TRY(kr_secrets_names(secrets, &names, &count, err));
    enum kr_status status = KR_OK;
    for (size_t i = 0; i < count && status == KR_OK; i++) {
        const struct kr_set_key name = {
            .kind = KR_KEY_SECRET, .name = names[i].id, .owner = names[i].owner};
        struct kr_set_key *key = kr_key_set_find(set, &name);
        if (key && names[i].form == KR_SECRET_WRAPPED)
            status = compare_secret(secrets, key, err);
        else if (key && key->bytes)
            status = compare_resident(secrets, names[i].form, key, err);
        else if (key)
            key->presence = KR_CONFLICT;
    }
    kr_secret_names_free(names, count);
    return status;
}

enum kr_status kr_import_survey(struct kr_keyring *keyring, struct kr_key_set *set,
                                struct kr_error *err)
{
    bool have_secrets = false;
    KR_TRY(kr_keyring_refresh(keyring, err));
    for (size_t i = 0; i < set->count; i++) {
        struct kr_set_key *key = &set->keys[i];
        bool secret = key->kind == KR_KEY_SECRET;
        key->presence = secret ? KR_ABSENT : look_for_data(keyring, key);
        have_secrets |= secret;
    }
    if (!have_secrets)
        return KR_OK;
    struct kr_secrets *secrets = NULL;
    KR_TRY(kr_secrets_open(keyring, &secrets, err));
    enum kr_status status = look_for_secrets(secrets, set, err);
    kr_secrets_close(secrets);
    return status;
}

/* --- sealing ---------------------------------------------------------------------------------- */

struct item {
    const struct kr_set_key *key;
    char id[12];   /* of a data key, as text */
    size_t secret; /* its place among the secrets */
    uint32_t version;
    const char *cipher;
    uint8_t *blob; /* NULL: not sealed yet */
    size_t len;
};

struct import {
    struct kr_keyring *keyring;
    const struct kr_key_set *set;
    const struct kr_import_options *options;
    struct kr_masters masters; /* as they were when sealing began; a copy */
    uint64_t masters_version;
    struct item *items; /* in the order of the set */
    size_t count, found;
    bool interrupted;

    struct kr_secrets *secrets; /* NULL: there are none among them */
    struct kr_secret_item *secret_items;
    size_t secret_count;
    struct kr_secret_import *secret_import;
};

static struct kr_version_row row_of(const struct item *item)
{
    const struct kr_set_key *key = item->key;
    bool data = key->kind == KR_KEY_DATA;
    return (struct kr_version_row){
        .ns = data ? KR_NS_MARIADB : KR_NS_MYSQL,
        .id = data ? item->id : key->name,
        .owner = data ? "" : key->owner,
        .version = item->version,
        .cipher = item->cipher,
        .created = data && key->created > 0 ? key->created : (int64_t)time(NULL),
        .envelope = item->blob,
        .envelope_len = item->len,
    };
}

/* Of a master key that is to be in the token only its name there is sealed. */
static enum kr_status encode(const struct import *import, struct item *item, uint8_t **ret,
                             size_t *ret_len, struct kr_error *err)
{
    const struct kr_set_key *key = item->key;
    if (key->kind == KR_KEY_SECRET) {
        struct kr_secret_row row;
        KR_TRY(kr_secret_import_row(import->secret_import, item->secret, &row, err));
        item->cipher = row.cipher;
        *ret = row.payload;
        *ret_len = row.len;
        return KR_OK;
    }
    item->cipher = kr_cipher_name(key->cipher);
    *ret = (uint8_t *)kr_secret_dup(key->bytes, key->len);
    *ret_len = key->len;
    return *ret ? KR_OK : kr_fail_secret(err);
}

/* What the token opens is compared with what was to be sealed. */
static enum kr_status compare(const struct import *import,
                              const struct kr_envelope_context *context, const struct item *item,
                              const uint8_t *payload, size_t len, struct kr_error *err)
{
    KR_SECRET uint8_t *opened = NULL;
    size_t opened_len = 0;
    KR_TRY(kr_envelope_open(&import->masters, context, item->blob, item->len, &opened, &opened_len,
                            err));
    if (opened_len == len && CRYPTO_memcmp(opened, payload, len) == 0)
        return KR_OK;
    return kr_fail(err, KR_INTEGRITY, "the token gives other bytes back than it was given");
}

static enum kr_status seal_and_compare(const struct import *import, struct item *item,
                                       struct kr_error *err)
{
    KR_SECRET uint8_t *sealing_key = kr_secret_alloc(KR_SEALING_KEY_BYTES);
    KR_SECRET uint8_t *payload = NULL;
    size_t len = 0;
    if (!sealing_key)
        return kr_fail_secret(err);
    KR_TRY(encode(import, item, &payload, &len, err));
    const struct kr_version_row row = row_of(item);
    struct kr_envelope_context context =
        kr_keyring_context(import->keyring, row.ns, row.id, row.owner, row.version, row.cipher);
    KR_TRY(kr_tokens_random(&import->keyring->tokens, sealing_key, KR_SEALING_KEY_BYTES, err));
    KR_TRY(kr_envelope_seal(&import->masters, &context, sealing_key, payload, len, &item->blob,
                            &item->len, err));
    return compare(import, &context, item, payload, len, err);
}

static enum kr_status seal_item(void *context, size_t piece, struct kr_error *err)
{
    const struct import *import = context;
    char text[KR_SET_KEY_TEXT];
    if (seal_and_compare(import, &import->items[piece], err) == KR_OK)
        return KR_OK;
    kr_set_key_text(import->items[piece].key, text);
    kr_error_context(err, "%s", text);
    return err->status;
}

static bool look_after(void *context, size_t begun, size_t done)
{
    struct import *import = context;
    const struct kr_import_options *options = import->options;
    (void)begun;
    if (options->progress && !options->progress(done, import->count, options->context))
        import->interrupted = true;
    return !import->interrupted;
}

static enum kr_status seal_all(struct import *import, struct kr_error *err)
{
    const struct kr_crew crew = {.threads = import->keyring->sessions,
                                 .count = import->count,
                                 .work = seal_item,
                                 .go_on = look_after,
                                 .context = import};
    KR_TRY(kr_crew_run(&crew, err));
    return import->interrupted ? kr_fail(err, KR_REFUSED, "interrupted: no key was added") : KR_OK;
}

/* --- preparing -------------------------------------------------------------------------------- */

static struct item *find_item(const struct import *import, const struct kr_set_key *name)
{
    const struct kr_set_key *key = kr_key_set_find(import->set, name);
    for (size_t low = 0, high = import->count; key && low < high;) {
        size_t middle = low + (high - low) / 2;
        if (import->items[middle].key == key)
            return &import->items[middle];
        if (import->items[middle].key < key)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* A secret that was removed has used up a number. */
static enum kr_status number_secret(const struct kr_key_row *row, void *context,
                                    struct kr_error *err)
{
    const struct kr_set_key name = {
        .kind = KR_KEY_SECRET, .name = (char *)row->id, .owner = (char *)row->owner};
    struct item *item = find_item(context, &name);
    (void)err;
    if (item)
        item->version = row->high_water + 1;
    return KR_OK;
}

static enum kr_status number_secrets(struct kr_keystore *keystore, void *context,
                                     struct kr_error *err)
{
    return kr_keystore_each_key(keystore, KR_NS_MYSQL, number_secret, context, err);
}

static enum kr_status choose_items(struct import *import, struct kr_error *err)
{
    import->items = calloc(import->set->count + 1, sizeof(*import->items));
    if (!import->items)
        return kr_fail_memory(err);
    for (size_t i = 0; i < import->set->count; i++) {
        const struct kr_set_key *key = &import->set->keys[i];
        if (key->presence != KR_ABSENT && key->presence != KR_ADDABLE)
            continue;
        struct item *item = &import->items[import->count++];
        item->key = key;
        item->secret = key->kind == KR_KEY_SECRET ? import->secret_count++ : 0;
        item->version = key->kind == KR_KEY_DATA ? key->version : 1;
        snprintf(item->id, sizeof(item->id), "%" PRIu32, key->id);
    }
    return KR_OK;
}

static enum kr_status prepare_locked(struct import *import, struct kr_error *err)
{
    struct kr_keyring *keyring = import->keyring;
    KR_TRY(kr_tokens_login(&keyring->tokens, err));
    KR_TRY(kr_rows_view(keyring->keystore, number_secrets, import, err));
    KR_TRY(kr_keyring_load_masters(keyring, keyring->keystore, err));
    KR_TRY(kr_keyring_prove_masters(keyring, keyring->keystore, err));
    import->masters_version = keyring->masters_version;
    return kr_masters_copy(&keyring->masters, &import->masters, err);
}

static enum kr_status prepare_secrets(struct import *import, struct kr_error *err)
{
    if (import->secret_count == 0)
        return KR_OK;
    import->secret_items = calloc(import->secret_count, sizeof(*import->secret_items));
    if (!import->secret_items)
        return kr_fail_memory(err);
    for (size_t i = 0; i < import->count; i++) {
        const struct kr_set_key *key = import->items[i].key;
        if (key->kind == KR_KEY_SECRET)
            import->secret_items[import->items[i].secret] =
                (struct kr_secret_item){.id = key->name,
                                        .owner = key->owner,
                                        .type = key->type,
                                        .bytes = key->bytes,
                                        .len = key->len};
    }
    KR_TRY(kr_secrets_open(import->keyring, &import->secrets, err));
    return kr_secret_import_new(import->secrets, import->secret_items, import->secret_count,
                                import->options->resident, &import->secret_import, err);
}

static enum kr_status prepare(struct import *import, struct kr_error *err)
{
    KR_TRY(choose_items(import, err));
    KR_TRY(prepare_secrets(import, err));
    KR_TRY(kr_keyring_lock(import->keyring, err));
    enum kr_status status = prepare_locked(import, err);
    kr_keyring_unlock(import->keyring);
    return status;
}

/* --- storing ---------------------------------------------------------------------------------- */

static enum kr_status take_number(struct kr_keystore *keystore, const struct kr_version_row *row,
                                  struct kr_error *err)
{
    uint32_t number;
    KR_TRY(kr_keystore_next_version(keystore, row->ns, row->id, row->owner, 1, &number, err));
    if (number < row->version)
        KR_TRY(kr_keystore_next_version(keystore, row->ns, row->id, row->owner,
                                        row->version - number, &number, err));
    if (number == row->version)
        return KR_OK;
    return kr_fail(err, KR_REFUSED, "%s key %s has or had a version %u by now", row->ns, row->id,
                   row->version);
}

static enum kr_status add_item(struct kr_keystore *keystore, const struct item *item,
                               struct kr_error *err)
{
    const struct kr_version_row row = row_of(item);
    KR_TRY(take_number(keystore, &row, err));
    KR_TRY(kr_keystore_add_version(keystore, &row, err));
    return kr_change_count_wraps(keystore, item->blob, item->len, NULL, 0, err);
}

/* After all versions are added: a disabled key gets none. */
static enum kr_status disable_item(struct kr_keystore *keystore, const struct item *item,
                                   struct kr_error *err)
{
    if (!item->key->disabled)
        return KR_OK;
    return kr_keystore_set_disabled(keystore, KR_NS_MARIADB, item->id, "", true, err);
}

static enum kr_status read_back_row(const struct kr_version_row *row, void *context,
                                    struct kr_error *err)
{
    struct import *import = context;
    struct kr_set_key name = {
        .kind = KR_KEY_SECRET, .name = (char *)row->id, .owner = (char *)row->owner};
    if (strcmp(row->ns, KR_NS_MARIADB) == 0)
        name = (struct kr_set_key){.id = (uint32_t)strtoul(row->id, NULL, 10),
                                   .version = row->version};
    const struct item *item = find_item(import, &name);
    if (!item)
        return KR_OK;
    import->found++;
    if (row->envelope_len == item->len && memcmp(row->envelope, item->blob, item->len) == 0)
        return KR_OK;
    return kr_fail(err, KR_INTEGRITY, "%s key %s reads otherwise than it was written", row->ns,
                   row->id);
}

static enum kr_status read_back(struct kr_keystore *keystore, void *context, struct kr_error *err)
{
    struct import *import = context;
    import->found = 0;
    KR_TRY(kr_keystore_each_version(keystore, NULL, read_back_row, import, err));
    if (import->found == import->count)
        return KR_OK;
    return kr_fail(err, KR_INTEGRITY, "%zu keys were written, and %zu can be read", import->count,
                   import->found);
}

static enum kr_status add_all(struct kr_change *change, void *context, struct kr_error *err)
{
    struct import *import = context;
    if (import->keyring->masters_version != import->masters_version) {
        kr_fail(err, KR_REFUSED, "the master keys were changed meanwhile: no key was added");
        kr_hint(err, "give the same command again");
        return err->status;
    }
    if (import->secret_import)
        KR_TRY(kr_secret_import_make(import->secret_import, change->keystore, err));
    for (size_t i = 0; i < import->count; i++)
        KR_TRY(add_item(change->keystore, &import->items[i], err));
    for (size_t i = 0; i < import->count; i++)
        KR_TRY(disable_item(change->keystore, &import->items[i], err));
    change->audit = (struct kr_audit_event){
        .name = import->options->event, .detail = import->options->detail, .keys = import->count};
    KR_TRY(read_back(change->keystore, import, err));
    const struct kr_import_options *options = import->options;
    return options->may_commit ? options->may_commit(options->commit_context, err) : KR_OK;
}

/* Keys that the token got are there if the commit was made, and only then. */
static enum kr_status commit(struct import *import, struct kr_error *err)
{
    enum kr_status status = KR_OK;
    if (import->secret_import)
        status = kr_secret_import_announce(import->secret_import, err);
    if (status == KR_OK)
        status = kr_change_run(import->keyring, NULL, NULL, NULL, add_all, import, err);
    kr_secret_import_end(import->secret_import, status == KR_OK);
    import->secret_import = NULL;
    return status;
}

/* The last reading is by the handle that does not write, and of the file as others see it. */
static enum kr_status store_locked(struct import *import, struct kr_error *err)
{
    struct kr_keyring *keyring = import->keyring;
    KR_TRY(commit(import, err));
    if (kr_rows_view(keyring->keystore, read_back, import, err) == KR_OK)
        return KR_OK;
    kr_error_context(err, "the keys were added to %s, but cannot be trusted there",
                     keyring->keystore_path);
    kr_hint(err, "put the keystore's backup back; p11keyring doctor");
    return err->status;
}

static enum kr_status store(struct import *import, struct kr_error *err)
{
    KR_TRY(kr_keyring_lock(import->keyring, err));
    enum kr_status status = store_locked(import, err);
    kr_keyring_unlock(import->keyring);
    return status;
}

static enum kr_status run(struct import *import, struct kr_error *err)
{
    KR_TRY(prepare(import, err));
    if (import->count == 0)
        return KR_OK;
    KR_TRY(seal_all(import, err));
    return store(import, err);
}

static void free_import(struct import *import)
{
    for (size_t i = 0; i < import->count; i++)
        free(import->items[i].blob);
    free(import->items);
    free(import->masters.keys);
    kr_secret_import_end(import->secret_import, false);
    kr_secrets_close(import->secrets);
    free(import->secret_items);
}

enum kr_status kr_import(struct kr_keyring *keyring, const struct kr_key_set *set,
                         const struct kr_import_options *options, struct kr_error *err)
{
    struct import import = {.keyring = keyring, .set = set, .options = options};
    const struct kr_audit_event event = {.name = options->event, .detail = options->detail};
    KR_TRY(kr_audit_begin(keyring->audit, &event, err));
    enum kr_status status = run(&import, err);
    if (status != KR_OK)
        kr_audit_end(keyring->audit, &event, err);
    free_import(&import);
    return status;
}
