/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* A bundle in the place of a keyring. */
#include "backup/bundle_keys.h"

#include <stdlib.h>
#include <string.h>

#include "backup/file_keys.h"
#include "base/secret.h"
#include "hwaccel/aes256.h"

enum { MASTER_BYTES = 32 };

struct kr_bundle_keys {
    const struct kr_bundle *bundle;
    struct kr_file_keys *then, *keys;
    struct kr_data_key *mariadb; /* secret memory; NULL: there are none */
    size_t mariadb_count;
};

/* --- MariaDB --------------------------------------------------------------------------------- */

/* The bundle has them first, in the order of id and version. */
static enum kr_status copy_mariadb(struct kr_bundle_keys *keys, struct kr_error *err)
{
    size_t count = kr_bundle_count(keys->bundle), n = 0;
    while (n < count && kr_bundle_get(keys->bundle, n).kind == KR_BUNDLE_MARIADB)
        n++;
    if (n == 0)
        return KR_OK;
    keys->mariadb = kr_secret_alloc(n * sizeof(*keys->mariadb));
    if (!keys->mariadb)
        return kr_fail_secret(err);
    for (; keys->mariadb_count < n; keys->mariadb_count++) {
        const struct kr_bundle_record record = kr_bundle_get(keys->bundle, keys->mariadb_count);
        struct kr_data_key *key = &keys->mariadb[keys->mariadb_count];
        key->id = record.id;
        key->version = record.version;
        key->cipher = record.cipher;
        key->len = (uint8_t)record.len;
        memcpy(key->bytes, record.bytes, record.len);
    }
    return KR_OK;
}

static int by_version(const void *a, const void *b)
{
    const struct kr_data_key *one = a, *other = b;
    if (one->id != other->id)
        return one->id < other->id ? -1 : 1;
    return (one->version > other->version) - (one->version < other->version);
}

static const struct kr_data_key *find_mariadb(const struct kr_bundle_keys *keys, uint32_t id,
                                              uint32_t version)
{
    const struct kr_data_key wanted = {.id = id, .version = version};
    return keys->mariadb_count
               ? bsearch(&wanted, keys->mariadb, keys->mariadb_count, sizeof(wanted), by_version)
               : NULL;
}

static enum kr_status open_mariadb(void *context, uint32_t id, uint32_t version,
                                   const struct kr_data_key **ret, struct kr_error *err)
{
    const struct kr_bundle_keys *keys = context;
    const struct kr_data_key *key = find_mariadb(keys, id, version);
    if (!key && keys->then)
        return kr_file_keys_mariadb(keys->then, id, version, ret, err);
    if (!key)
        return kr_fail(err, KR_NOT_FOUND, "the bundle has no version %u of key %u", version, id);
    *ret = key;
    return KR_OK;
}

/* --- MySQL ----------------------------------------------------------------------------------- */

static bool find_secret(const struct kr_bundle_keys *keys, const char *name,
                        struct kr_bundle_record *ret)
{
    const struct kr_bundle_record wanted = {.kind = KR_BUNDLE_SECRET, .name = name, .owner = ""};
    return kr_bundle_find(keys->bundle, &wanted, ret);
}

static bool find_file_key(const struct kr_bundle_keys *keys, const char *name,
                          const uint8_t *digest, struct kr_bundle_record *ret)
{
    const struct kr_bundle_record wanted = {
        .kind = KR_BUNDLE_FILE_KEY, .name = name, .digest = digest};
    return kr_bundle_find(keys->bundle, &wanted, ret);
}

static enum kr_status open_mysql(void *context, const char *name, const uint8_t *iv,
                                 const uint8_t *in, size_t len, uint8_t *out, struct kr_error *err)
{
    const struct kr_bundle_keys *keys = context;
    struct kr_bundle_record record;
    uint8_t digest[KR_BUNDLE_DIGEST_BYTES];
    if (find_secret(keys, name, &record) && record.len == MASTER_BYTES)
        return kr_aes256_blocks(record.bytes, iv, false, in, len, out, err);
    KR_TRY(kr_backup_digest(iv, in, len, digest, err));
    if (find_file_key(keys, name, digest, &record) && record.len == len) {
        memcpy(out, record.bytes, len);
        return KR_OK;
    }
    if (keys->then)
        return kr_file_keys_mysql(keys->then, name, KR_FILE_KEY_DECRYPT, iv, in, len, out, err);
    return kr_fail(err, KR_NOT_FOUND, "the bundle has neither '%s' nor what it sealed here", name);
}

/* A file's own key is found by what is sealed, and not by the master key's name. */
static enum kr_key_here is_here(void *context, const struct kr_file_need *need)
{
    const struct kr_bundle_keys *keys = context;
    struct kr_bundle_record record;
    bool here = *need->name ? find_secret(keys, need->name, &record)
                            : find_mariadb(keys, need->id, need->version) != NULL;
    if (here && !need->master)
        return KR_KEY_HERE;
    return *need->name ? KR_KEY_UNKNOWN : KR_KEY_MISSING;
}

/* --- life ------------------------------------------------------------------------------------ */

enum kr_status kr_bundle_keys_new(const struct kr_bundle *bundle, struct kr_file_keys *then,
                                  struct kr_bundle_keys **ret, struct kr_error *err)
{
    struct kr_bundle_keys *keys = calloc(1, sizeof(*keys));
    if (!keys)
        return kr_fail_memory(err);
    keys->bundle = bundle;
    keys->then = then;
    const struct kr_file_key_source source = {
        .here = is_here, .mysql = open_mysql, .mariadb = open_mariadb, .context = keys};
    enum kr_status status = copy_mariadb(keys, err);
    if (status == KR_OK)
        status = kr_file_keys_from(&source, &keys->keys, err);
    if (status == KR_OK)
        *ret = keys;
    else
        kr_bundle_keys_free(keys);
    return status;
}

void kr_bundle_keys_free(struct kr_bundle_keys *keys)
{
    if (!keys)
        return;
    kr_file_keys_free(keys->keys);
    kr_secret_free(keys->mariadb);
    free(keys);
}

struct kr_file_keys *kr_bundle_keys_of(struct kr_bundle_keys *keys)
{
    return keys->keys;
}
