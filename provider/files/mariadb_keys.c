/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Data keys and the keys made from them. */
#include "files/mariadb_keys.h"

#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "hwaccel/prefetch.h"

enum { LOCAL_BYTES = 16, AHEAD = 16384 /* most pages are of this size */ };

struct ready_key {
    enum kr_cipher cipher;
    struct kr_page_key key;
};

struct kr_mariadb_keys {
    struct ready_key *ready; /* of each key that is there */
    size_t count;
    uint8_t *local; /* secret: the keys that were made, LOCAL_BYTES for each */
};

/* AES-ECB of one block is AES-CBC with an iv of zeros. */
static enum kr_status make_local(const struct kr_data_key *data, const uint8_t *random,
                                 uint8_t *ret, struct kr_error *err)
{
    static const uint8_t zeros[LOCAL_BYTES];
    const struct kr_page_key key = {.bytes = data->bytes, .len = data->len};
    struct kr_page_op *op;
    size_t len = 0, end = 0;
    enum kr_status status =
        kr_page_begin(KR_CIPHER_AES_CBC, KR_PAGE_ENCRYPT, &key, zeros, sizeof(zeros), &op);
    if (status == KR_OK) {
        status = kr_page_update(op, random, LOCAL_BYTES, ret, &len);
        enum kr_status finished = kr_page_finish(op, ret + len, &end);
        status = status == KR_OK ? finished : status;
    }
    if (status != KR_OK || len + end != LOCAL_BYTES)
        return kr_fail(err, KR_INTERNAL, "cannot derive the page key of version %u of key %u",
                       data->version, data->id);
    return KR_OK;
}

static enum kr_status add_key(struct kr_mariadb_keys *keys, const struct kr_data_key *data,
                              const uint8_t *random, struct kr_error *err)
{
    struct ready_key *ready = &keys->ready[keys->count];
    *ready = (struct ready_key){.cipher = data->cipher};
    ready->key = (struct kr_page_key){.bytes = data->bytes,
                                      .len = data->len,
                                      .data_key = data->bytes,
                                      .id = data->id,
                                      .version = data->version};
    if (random) {
        uint8_t *local = keys->local + keys->count * LOCAL_BYTES;
        KR_TRY(make_local(data, random, local, err));
        ready->key.bytes = local;
        ready->key.len = LOCAL_BYTES;
    }
    keys->count++;
    return KR_OK;
}

static enum kr_status add_keys(struct kr_mariadb_keys *keys, const struct kr_file *file,
                               const struct kr_file_report *report, const uint8_t *random,
                               struct kr_error *err)
{
    struct kr_error missing = KR_ERROR_INIT;
    for (size_t i = 0; i < report->need_count; i++) {
        const struct kr_file_need *need = &report->needs[i];
        const struct kr_data_key *data;
        enum kr_status status =
            kr_file_keys_mariadb(file->run->keys, need->id, need->version, &data, &missing);
        if (status == KR_OK)
            KR_TRY(add_key(keys, data, random, err));
        else if (status != KR_NOT_FOUND)
            break;
    }
    if (missing.status == KR_OK || (missing.status == KR_NOT_FOUND && keys->count > 0))
        return KR_OK;
    *err = missing;
    return missing.status;
}

/* Room for so many keys. */
static enum kr_status make_room(size_t count, struct kr_mariadb_keys **ret, struct kr_error *err)
{
    struct kr_mariadb_keys *keys = calloc(1, sizeof(*keys));
    if (!keys)
        return kr_fail_memory(err);
    keys->ready = calloc(count, sizeof(*keys->ready));
    keys->local = kr_secret_alloc(count * LOCAL_BYTES);
    if (keys->ready && keys->local) {
        *ret = keys;
        return KR_OK;
    }
    enum kr_status status = keys->local ? kr_fail_memory(err) : kr_fail_secret(err);
    kr_mariadb_keys_free(keys);
    return status;
}

/* Hands the keys out, or frees them. */
static enum kr_status hand_out(enum kr_status status, struct kr_mariadb_keys *keys,
                               struct kr_mariadb_keys **ret)
{
    if (status == KR_OK)
        *ret = keys;
    else
        kr_mariadb_keys_free(keys);
    return status;
}

enum kr_status kr_mariadb_keys_new(const struct kr_file *file, const struct kr_file_report *report,
                                   const uint8_t *random, struct kr_mariadb_keys **ret,
                                   struct kr_error *err)
{
    struct kr_mariadb_keys *keys = NULL;
    KR_TRY(make_room(report->need_count + 1, &keys, err));
    return hand_out(add_keys(keys, file, report, random, err), keys, ret);
}

enum kr_status kr_mariadb_pages_new(const struct kr_data_key *data, const uint8_t *random,
                                    struct kr_pages **ret, struct kr_error *err)
{
    KR_MARIADB_KEYS *keys = NULL;
    KR_SECRET uint8_t *derived = kr_secret_alloc(KR_PAGE_KEY_BYTES);
    if (!derived)
        return kr_fail_secret(err);
    KR_TRY(make_room(1, &keys, err));
    KR_TRY(add_key(keys, data, random, err));
    const struct ready_key *ready = &keys->ready[0];
    if (!kr_cipher_derives(ready->cipher))
        return kr_pages_new(ready->cipher, ready->key.bytes, ready->key.len, ret, err);
    if (kr_page_key_derive(&ready->key, derived) != KR_OK)
        return kr_fail(err, KR_INTERNAL, "cannot derive the page key of version %u of key %u",
                       data->version, data->id);
    return kr_pages_new(ready->cipher, derived, KR_PAGE_KEY_BYTES, ret, err);
}

void kr_mariadb_keys_free(struct kr_mariadb_keys *keys)
{
    if (!keys)
        return;
    free(keys->ready);
    kr_secret_free(keys->local);
    free(keys);
}

void kr_mariadb_keys_cleanup(struct kr_mariadb_keys **keys)
{
    kr_mariadb_keys_free(*keys);
}

static const struct ready_key *find(const struct kr_mariadb_keys *keys, uint32_t version)
{
    for (size_t i = 0; i < keys->count; i++)
        if (keys->ready[i].key.version == version)
            return &keys->ready[i];
    return NULL;
}

enum kr_status kr_mariadb_keys_begin(const struct kr_mariadb_keys *keys, uint32_t version,
                                     int flags, const uint8_t iv[16], struct kr_page_op **ret)
{
    const struct ready_key *ready = find(keys, version);
    return ready ? kr_page_begin(ready->cipher, flags, &ready->key, iv, 16, ret) : KR_NOT_FOUND;
}

/* In pieces, see hwaccel/prefetch.h: what is fetched is the page that follows, whose checksum is
 * made before it is decrypted. */
static enum kr_status update(struct kr_page_op *op, const uint8_t *src, uint8_t *dst, size_t len,
                             size_t *ret_len)
{
    size_t done = 0, got;
    for (size_t at = 0; at < len; at += KR_PREFETCH_PIECE) {
        size_t piece = len - at < KR_PREFETCH_PIECE ? len - at : KR_PREFETCH_PIECE;
        kr_prefetch(src + at, AHEAD, piece);
        KR_TRY(kr_page_update(op, src + at, piece, dst + done, &got));
        done += got;
    }
    *ret_len = done;
    return KR_OK;
}

enum kr_status kr_mariadb_keys_decrypt(const struct kr_mariadb_keys *keys, uint32_t version,
                                       const uint8_t iv[16], const uint8_t *src, uint8_t *dst,
                                       size_t len)
{
    struct kr_page_op *op;
    size_t got = 0, end = 0;
    KR_TRY(kr_mariadb_keys_begin(keys, version, KR_PAGE_DECRYPT, iv, &op));
    enum kr_status status = update(op, src, dst, len, &got);
    enum kr_status finished = kr_page_finish(op, dst + got, &end);
    if (status == KR_OK)
        status = finished;
    return status == KR_OK && got + end != len ? KR_INTERNAL : status;
}
