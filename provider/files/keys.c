/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* The names of keys from the keystore, their use by the keyring. */
#include "files/keys.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "files/bundle_keys.h"

/* A key that the keystore names, with memory of its own. */
struct known {
    char *name, *label; /* as in struct kr_file_key */
    bool master, in_use;
    uint32_t id, version;
};

struct kr_file_keys {
    const struct kr_config *config;
    struct kr_bundle_keys *bundle; /* NULL: of a keyring */
    struct kr_file_keys *then;     /* where the bundle has none; NULL: nowhere */
    pthread_mutex_t lock;          /* of everything below */
    struct known *known;           /* in the order of by_key() */
    size_t known_count;
    bool listed, opened;
    enum kr_status open_status;
    struct kr_error list_error, open_error;
    struct kr_keyring *keyring;
    struct kr_secrets *secrets;
};

/* Or a bundle. */
static bool has_keys(const struct kr_file_keys *keys)
{
    return keys->bundle || (keys->config && keys->config->keyring.keystore);
}

enum kr_status kr_file_keys_new(const struct kr_config *config, struct kr_file_keys **ret,
                                struct kr_error *err)
{
    struct kr_file_keys *keys = calloc(1, sizeof(*keys));
    if (!keys)
        return kr_fail_memory(err);
    keys->config = config;
    pthread_mutex_init(&keys->lock, NULL);
    *ret = keys;
    return KR_OK;
}

enum kr_status kr_file_keys_of_bundle(const struct kr_bundle *bundle, struct kr_file_keys **ret,
                                      struct kr_error *err)
{
    struct kr_file_keys *keys = NULL;
    KR_TRY(kr_file_keys_new(NULL, &keys, err));
    enum kr_status status = kr_bundle_keys_new(bundle, &keys->bundle, err);
    if (status == KR_OK)
        *ret = keys;
    else
        kr_file_keys_free(keys);
    return status;
}

void kr_file_keys_fall_back(struct kr_file_keys *keys, struct kr_file_keys *then)
{
    keys->then = then;
}

void kr_file_keys_free(struct kr_file_keys *keys)
{
    if (!keys)
        return;
    for (size_t i = 0; i < keys->known_count; i++) {
        free(keys->known[i].name);
        free(keys->known[i].label);
    }
    free(keys->known);
    kr_bundle_keys_free(keys->bundle);
    kr_secrets_close(keys->secrets);
    kr_keyring_close(keys->keyring);
    pthread_mutex_destroy(&keys->lock);
    free(keys);
}

/* --- which keys there are --------------------------------------------------------------------- */

static int by_key(const void *a, const void *b)
{
    const struct known *one = a, *other = b;
    if (one->master != other->master)
        return one->master ? -1 : 1;
    if (!one->name != !other->name)
        return one->name ? 1 : -1;
    if (one->name)
        return strcmp(one->name, other->name);
    if (one->id != other->id)
        return one->id < other->id ? -1 : 1;
    return (one->version > other->version) - (one->version < other->version);
}

static enum kr_status add_known(struct kr_file_keys *keys, const struct known *key,
                                struct kr_error *err)
{
    struct known *known = reallocarray(keys->known, keys->known_count + 1, sizeof(*known));
    if (!known)
        return kr_fail_memory(err);
    keys->known = known;
    struct known *entry = &known[keys->known_count];
    *entry = *key;
    entry->name = key->name ? strdup(key->name) : NULL;
    entry->label = key->label ? strdup(key->label) : NULL;
    keys->known_count++;
    bool copied = !key->name == !entry->name && !key->label == !entry->label;
    return copied ? KR_OK : kr_fail_memory(err);
}

static enum kr_status add_version(const struct kr_version_row *row, void *context,
                                  struct kr_error *err)
{
    struct known key = {0};
    if (strcmp(row->ns, KR_NS_MYSQL) == 0 && !*row->owner) { /* no user's own key */
        key.name = (char *)row->id;
    } else if (strcmp(row->ns, KR_NS_MARIADB) == 0) {
        key.id = (uint32_t)strtoul(row->id, NULL, 10);
        key.version = row->version;
    } else {
        return KR_OK;
    }
    return add_known(context, &key, err);
}

static enum kr_status add_masters(struct kr_file_keys *keys, struct kr_keystore *keystore,
                                  struct kr_error *err)
{
    struct kr_master_row *rows = NULL;
    size_t count = 0;
    char id[2 * KR_OBJECT_ID_MAX + 1];
    KR_TRY(kr_keystore_list_masters(keystore, &rows, &count, err));
    enum kr_status status = KR_OK;
    for (size_t i = 0; i < count && status == KR_OK; i++) {
        kr_hex_encode(rows[i].id.bytes, rows[i].id.len, id);
        const struct known key = {.name = id,
                                  .label = rows[i].label,
                                  .master = true,
                                  .in_use = rows[i].state == KR_MASTER_CURRENT};
        status = add_known(keys, &key, err);
    }
    free(rows);
    return status;
}

static enum kr_status add_bundled(const struct kr_file_key *key, void *context,
                                  struct kr_error *err)
{
    const struct known known = {.name = (char *)key->name, .id = key->id, .version = key->version};
    return add_known(context, &known, err);
}

static enum kr_status list_keystore(struct kr_file_keys *keys, struct kr_error *err)
{
    const struct kr_keystore_options options = {
        .path = keys->config->keyring.keystore,
        .keyring = keys->config->keyring.name,
        .lock_timeout_ms = keys->config->keyring.lock_timeout_ms,
    };
    struct kr_keystore *keystore = NULL;
    KR_TRY(kr_keystore_open(&options, &keystore, err));
    enum kr_status status = kr_keystore_begin_read(keystore, err);
    if (status == KR_OK)
        status = add_masters(keys, keystore, err);
    if (status == KR_OK)
        status = kr_keystore_each_version(keystore, NULL, add_version, keys, err);
    kr_keystore_close(keystore);
    return status;
}

/* Where the number of a server's master key begins. */
static size_t stem_of(const char *name)
{
    size_t stem = strlen(name);
    while (stem > 0 && name[stem - 1] >= '0' && name[stem - 1] <= '9')
        stem--;
    return stem;
}

/* Whether `other` is the same key, made later. */
static bool replaces(const struct known *other, const struct known *known)
{
    if (other->master || known->master || !other->name != !known->name)
        return false;
    if (!known->name)
        return other->id == known->id && other->version > known->version;
    size_t stem = stem_of(known->name);
    return stem_of(other->name) == stem && strncmp(other->name, known->name, stem) == 0 &&
           strtoul(other->name + stem, NULL, 10) > strtoul(known->name + stem, NULL, 10);
}

static void mark_newest(struct kr_file_keys *keys)
{
    for (size_t i = 0; i < keys->known_count; i++) {
        struct known *known = &keys->known[i];
        bool replaced = known->master;
        for (size_t j = 0; j < keys->known_count && !replaced; j++)
            replaced = replaces(&keys->known[j], known);
        known->in_use |= !replaced;
    }
}

/* Once. The keystore is not opened here while the keyring has it open: SQLite handles of one
 * process share it well, and nobody opens the file by other means. */
static void list_keys(struct kr_file_keys *keys)
{
    if (keys->listed || !has_keys(keys))
        return;
    keys->listed = true;
    enum kr_status status =
        keys->bundle ? kr_bundle_keys_each(keys->bundle, add_bundled, keys, &keys->list_error)
                     : list_keystore(keys, &keys->list_error);
    if (status == KR_OK && keys->known_count > 0)
        qsort(keys->known, keys->known_count, sizeof(*keys->known), by_key);
    mark_newest(keys);
}

static enum kr_key_here is_here(const struct kr_file_keys *keys, struct kr_file_need *need)
{
    const struct known wanted = {.name = *need->name ? need->name : NULL,
                                 .master = need->master,
                                 .id = need->id,
                                 .version = need->version};
    if (!keys->listed || keys->list_error.status != KR_OK)
        return KR_KEY_UNKNOWN;
    if (keys->known_count > 0 &&
        bsearch(&wanted, keys->known, keys->known_count, sizeof(wanted), by_key))
        return KR_KEY_HERE;
    return KR_KEY_MISSING;
}

void kr_file_keys_look(struct kr_file_keys *keys, struct kr_file_report *report)
{
    if (report->need_count == 0)
        return;
    pthread_mutex_lock(&keys->lock);
    list_keys(keys);
    for (size_t i = 0; i < report->need_count; i++)
        report->needs[i].here = is_here(keys, &report->needs[i]);
    pthread_mutex_unlock(&keys->lock);
}

enum kr_status kr_file_keys_each(struct kr_file_keys *keys, kr_file_key_visitor visit,
                                 void *context, struct kr_error *err)
{
    pthread_mutex_lock(&keys->lock);
    list_keys(keys);
    enum kr_status status = KR_OK;
    for (size_t i = 0; i < keys->known_count && status == KR_OK; i++) {
        const struct known *known = &keys->known[i];
        const struct kr_file_key key = {.name = known->name,
                                        .label = known->label,
                                        .master = known->master,
                                        .in_use = known->in_use,
                                        .id = known->id,
                                        .version = known->version};
        status = visit(&key, context, err);
    }
    pthread_mutex_unlock(&keys->lock);
    return status;
}

const struct kr_error *kr_file_keys_trouble(struct kr_file_keys *keys)
{
    pthread_mutex_lock(&keys->lock);
    const struct kr_error *trouble =
        keys->listed && keys->list_error.status != KR_OK ? &keys->list_error : NULL;
    pthread_mutex_unlock(&keys->lock);
    return trouble;
}

/* --- their use -------------------------------------------------------------------------------- */

/* Whoever works on files uses keys by their names, and no handle for anything. */
static enum kr_status pass(void *context, struct kr_secrets *secrets, enum kr_secret_form form,
                           const uint8_t *handle, struct kr_error *err)
{
    (void)context;
    (void)secrets;
    (void)form;
    (void)handle;
    (void)err;
    return KR_OK;
}

static enum kr_status open_keyring(struct kr_file_keys *keys, struct kr_error *err)
{
    if (!keys->config || !keys->config->keyring.keystore) {
        kr_fail(err, KR_CONFIG, "the file is encrypted, and no keyring is configured");
        kr_hint(err, "name the configuration of the keyring that has its key: -c FILE");
        return err->status;
    }
    KR_TRY(kr_config_require(keys->config, err));
    KR_TRY(kr_keyring_open(keys->config, &keys->keyring, err));
    KR_TRY(kr_secrets_open(keys->keyring, &keys->secrets, err));
    kr_secrets_set_gate(keys->secrets, pass, NULL);
    return KR_OK;
}

/* Tried once: a PIN that is refused is not tried for each file. */
static enum kr_status ready(struct kr_file_keys *keys, struct kr_error *err)
{
    pthread_mutex_lock(&keys->lock);
    if (!keys->opened)
        keys->open_status = open_keyring(keys, &keys->open_error);
    keys->opened = true;
    if (keys->open_status != KR_OK)
        *err = keys->open_error;
    pthread_mutex_unlock(&keys->lock);
    return keys->open_status;
}

enum kr_status kr_file_keys_keyring(struct kr_file_keys *keys, struct kr_keyring **ret,
                                    struct kr_error *err)
{
    KR_TRY(ready(keys, err));
    *ret = keys->keyring;
    return KR_OK;
}

enum kr_status kr_file_keys_secrets(struct kr_file_keys *keys, struct kr_secrets **ret,
                                    struct kr_error *err)
{
    KR_TRY(ready(keys, err));
    *ret = keys->secrets;
    return KR_OK;
}

enum kr_status kr_file_keys_mysql(struct kr_file_keys *keys, const char *name,
                                  enum kr_file_key_use use, const uint8_t *iv, const uint8_t *in,
                                  size_t len, uint8_t *out, struct kr_error *err)
{
    if (keys->bundle) {
        enum kr_status status =
            kr_bundle_keys_mysql(keys->bundle, name, use, iv, in, len, out, err);
        return status == KR_NOT_FOUND && keys->then
                   ? kr_file_keys_mysql(keys->then, name, use, iv, in, len, out, err)
                   : status;
    }
    KR_TRY(ready(keys, err));
    return kr_secrets_use(keys->secrets, name, "", use == KR_FILE_KEY_ENCRYPT, iv, in, len, out,
                          err);
}

enum kr_status kr_file_keys_mariadb(struct kr_file_keys *keys, uint32_t id, uint32_t version,
                                    const struct kr_data_key **ret, struct kr_error *err)
{
    if (keys->bundle)
        return kr_bundle_keys_mariadb(keys->bundle, id, version, ret, err);
    KR_TRY(ready(keys, err));
    const struct kr_data_key *key = kr_keyring_find(keys->keyring, id, version);
    if (!key)
        return kr_fail(err, KR_NOT_FOUND, "the keyring has no version %u of key %u", version, id);
    *ret = key;
    return KR_OK;
}

enum kr_status kr_file_keys_mariadb_latest(struct kr_file_keys *keys, uint32_t id,
                                           const struct kr_data_key **ret, struct kr_error *err)
{
    if (keys->bundle)
        return kr_bundle_keys_mariadb(keys->bundle, id, 0, ret, err);
    KR_TRY(ready(keys, err));
    uint32_t version = kr_keyring_latest(keys->keyring, id);
    if (version == 0)
        return kr_fail(err, KR_NOT_FOUND, "the keyring has no key %u", id);
    return kr_file_keys_mariadb(keys, id, version, ret, err);
}
