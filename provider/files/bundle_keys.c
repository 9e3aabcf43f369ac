/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Keys for files from a bundle: neither keystore nor token is asked. */
#include "files/bundle_keys.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "hwaccel/aes256.h"

struct kr_bundle_keys {
    const struct kr_bundle *bundle;
    struct kr_data_key *data; /* secret memory: MariaDB's, ordered by id and version */
    size_t data_count;
};

static enum kr_status copy_data_keys(struct kr_bundle_keys *keys, struct kr_error *err)
{
    const size_t count = kr_bundle_count(keys->bundle);
    while (keys->data_count < count &&
           kr_bundle_get(keys->bundle, keys->data_count).kind == KR_BUNDLE_MARIADB)
        keys->data_count++;
    keys->data = kr_secret_alloc((keys->data_count + 1) * sizeof(*keys->data));
    if (!keys->data)
        return kr_fail_secret(err);
    for (size_t i = 0; i < keys->data_count; i++) {
        const struct kr_bundle_record record = kr_bundle_get(keys->bundle, i);
        keys->data[i] = (struct kr_data_key){.id = record.id,
                                             .version = record.version,
                                             .cipher = record.cipher,
                                             .len = (uint8_t)record.len};
        memcpy(keys->data[i].bytes, record.bytes, record.len);
    }
    return KR_OK;
}

enum kr_status kr_bundle_keys_new(const struct kr_bundle *bundle, struct kr_bundle_keys **ret,
                                  struct kr_error *err)
{
    struct kr_bundle_keys *keys = calloc(1, sizeof(*keys));
    if (!keys)
        return kr_fail_memory(err);
    keys->bundle = bundle;
    enum kr_status status = copy_data_keys(keys, err);
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
    kr_secret_free(keys->data);
    free(keys);
}

/* A master key has many file keys, one behind the other. */
enum kr_status kr_bundle_keys_each(const struct kr_bundle_keys *keys, kr_file_key_visitor visit,
                                   void *context, struct kr_error *err)
{
    const char *last = "";
    for (size_t i = 0; i < kr_bundle_count(keys->bundle); i++) {
        const struct kr_bundle_record record = kr_bundle_get(keys->bundle, i);
        const struct kr_file_key key = {
            .name = record.name, .id = record.id, .version = record.version};
        bool mine = record.kind == KR_BUNDLE_SECRET && *record.owner;
        if (mine || (record.name && strcmp(record.name, last) == 0))
            continue;
        last = record.name ? record.name : "";
        KR_TRY(visit(&key, context, err));
    }
    return KR_OK;
}

enum kr_status kr_bundle_keys_mariadb(const struct kr_bundle_keys *keys, uint32_t id,
                                      uint32_t version, const struct kr_data_key **ret,
                                      struct kr_error *err)
{
    const struct kr_data_key *found = NULL;
    for (size_t i = 0; i < keys->data_count; i++)
        if (keys->data[i].id == id && (version == 0 || keys->data[i].version == version))
            found = &keys->data[i];
    if (!found && version > 0)
        return kr_fail(err, KR_NOT_FOUND, "the bundle has no version %u of key %u", version, id);
    if (!found)
        return kr_fail(err, KR_NOT_FOUND, "the bundle has no key %u", id);
    *ret = found;
    return KR_OK;
}

static enum kr_status find_file_key(const struct kr_bundle_keys *keys, const char *name,
                                    const uint8_t *in, size_t len, struct kr_bundle_record *ret,
                                    struct kr_error *err)
{
    uint8_t digest[KR_BUNDLE_DIGEST_BYTES];
    if (EVP_Digest(in, len, digest, NULL, EVP_sha256(), NULL) != 1)
        return kr_fail(err, KR_INTERNAL, "SHA-256 failed in OpenSSL");
    const struct kr_bundle_record wanted = {
        .kind = KR_BUNDLE_FILE_KEY, .name = name, .digest = digest};
    if (kr_bundle_find(keys->bundle, &wanted, ret) && ret->len == len)
        return KR_OK;
    return kr_fail(err, KR_NOT_FOUND, "the bundle has neither the key '%s' nor what it seals here",
                   name);
}

enum kr_status kr_bundle_keys_mysql(const struct kr_bundle_keys *keys, const char *name,
                                    enum kr_file_key_use use, const uint8_t *iv, const uint8_t *in,
                                    size_t len, uint8_t *out, struct kr_error *err)
{
    const struct kr_bundle_record wanted = {.kind = KR_BUNDLE_SECRET, .name = name, .owner = ""};
    struct kr_bundle_record record;
    if (kr_bundle_find(keys->bundle, &wanted, &record)) {
        if (record.len != 32)
            return kr_fail(err, KR_USAGE, "the secret '%s' is no AES-256 key", name);
        return kr_aes256_blocks(record.bytes, iv, use == KR_FILE_KEY_ENCRYPT, in, len, out, err);
    }
    if (use == KR_FILE_KEY_ENCRYPT)
        return kr_fail(err, KR_NOT_FOUND, "the bundle has no key '%s' to seal by", name);
    KR_TRY(find_file_key(keys, name, in, len, &record, err));
    memcpy(out, record.bytes, record.len);
    return KR_OK;
}
