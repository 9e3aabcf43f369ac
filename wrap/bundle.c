/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The records of a bundle, one behind the other: kind u8 | length u32 | body. Bodies, all numbers
 * big-endian, texts ending with a zero byte:
 *
 *   MariaDB key  id u32 | version u32 | cipher u8 | disabled u8 | created u64 | key
 *   secret       created u64 | id | owner | type | secret
 *   file key     file u8 | digest 32 | master key's name | what is sealed
 */
#include "wrap/bundle_internal.h"

#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/secret.h"

enum {
    HEAD = 1 + 4,
    MARIADB_BODY = 4 + 4 + 1 + 1 + 8,
    ROOM_FIRST = 64 * 1024,
    FILE_NAME_MAX = 95,
    SECRET_TYPE_MAX = 128
};

enum kr_status kr_bundle_new(const struct kr_bundle_info *info, struct kr_bundle **ret,
                             struct kr_error *err)
{
    struct kr_bundle *bundle = calloc(1, sizeof(*bundle));
    if (!bundle)
        return kr_fail_memory(err);
    bundle->info = *info;
    if (RAND_bytes(bundle->info.id, sizeof(bundle->info.id)) != 1) {
        free(bundle);
        return kr_fail(err, KR_INTERNAL, "OpenSSL's random generator failed");
    }
    *ret = bundle;
    return KR_OK;
}

void kr_bundle_free(struct kr_bundle *bundle)
{
    if (!bundle)
        return;
    kr_secret_free(bundle->payload);
    free(bundle->order);
    free(bundle);
}

void kr_bundle_cleanup(struct kr_bundle **bundle)
{
    kr_bundle_free(*bundle);
}

const struct kr_bundle_info *kr_bundle_info(const struct kr_bundle *bundle)
{
    return &bundle->info;
}

/* --- reading a record ---------------------------------------------------------------------- */

struct reader {
    const uint8_t *at;
    size_t left;
};

static bool take_number(struct reader *reader, size_t bytes, uint64_t *ret)
{
    if (reader->left < bytes)
        return false;
    *ret = kr_get_number(reader->at, bytes);
    reader->at += bytes;
    reader->left -= bytes;
    return true;
}

static bool take_text(struct reader *reader, size_t min, size_t max, const char **ret)
{
    const uint8_t *end = memchr(reader->at, '\0', reader->left);
    size_t len = end ? (size_t)(end - reader->at) : 0;
    if (!end || len < min || len > max)
        return false;
    *ret = (const char *)reader->at;
    reader->at = end + 1;
    reader->left -= len + 1;
    return true;
}

static bool read_mariadb(struct reader *reader, struct kr_bundle_record *ret)
{
    uint64_t id = 0, version = 0, cipher = 0, disabled = 0, created = 0;
    if (!take_number(reader, 4, &id) || !take_number(reader, 4, &version) ||
        !take_number(reader, 1, &cipher) || !take_number(reader, 1, &disabled) ||
        !take_number(reader, 8, &created))
        return false;
    ret->id = (uint32_t)id;
    ret->version = (uint32_t)version;
    ret->cipher = (enum kr_cipher)cipher;
    ret->disabled = disabled == 1;
    ret->created = (int64_t)created;
    return id > 0 && version > 0 && disabled <= 1 && version <= KR_KEY_VERSION_MAX &&
           kr_cipher_name(ret->cipher) && kr_cipher_takes(ret->cipher, reader->left);
}

static bool read_secret(struct reader *reader, struct kr_bundle_record *ret)
{
    uint64_t created = 0;
    if (!take_number(reader, 8, &created))
        return false;
    ret->created = (int64_t)created;
    return take_text(reader, 1, KR_BUNDLE_NAME_MAX, &ret->name) &&
           take_text(reader, 0, KR_BUNDLE_NAME_MAX, &ret->owner) &&
           take_text(reader, 1, SECRET_TYPE_MAX, &ret->type) && reader->left > 0 &&
           reader->left <= KR_BUNDLE_SECRET_MAX;
}

static bool read_file_key(struct reader *reader, struct kr_bundle_record *ret)
{
    uint64_t file = 0;
    if (!take_number(reader, 1, &file) || reader->left < KR_BUNDLE_DIGEST_BYTES)
        return false;
    ret->file = (enum kr_bundle_file)file;
    ret->digest = reader->at;
    reader->at += KR_BUNDLE_DIGEST_BYTES;
    reader->left -= KR_BUNDLE_DIGEST_BYTES;
    return file >= KR_BUNDLE_TABLESPACE && file <= KR_BUNDLE_BINLOG &&
           take_text(reader, 1, FILE_NAME_MAX, &ret->name) &&
           reader->left == (file == KR_BUNDLE_BINLOG ? 32 : 64);
}

/* The record at the beginning of `at`, and how long it is; false: there is none. */
static bool read_record(const uint8_t *at, size_t left, struct kr_bundle_record *ret,
                        size_t *ret_len)
{
    struct kr_bundle_record record = {0};
    struct reader reader = {at, left};
    uint64_t kind = 0, len = 0;
    if (!take_number(&reader, 1, &kind) || !take_number(&reader, 4, &len) || len > reader.left)
        return false;
    reader.left = len;
    record.kind = (enum kr_bundle_kind)kind;
    bool sound = (kind == KR_BUNDLE_MARIADB && read_mariadb(&reader, &record)) ||
                 (kind == KR_BUNDLE_SECRET && read_secret(&reader, &record)) ||
                 (kind == KR_BUNDLE_FILE_KEY && read_file_key(&reader, &record));
    if (!sound)
        return false;
    record.bytes = reader.at;
    record.len = reader.left;
    *ret = record;
    *ret_len = HEAD + len;
    return true;
}

/* Of what was checked when it came in. */
static struct kr_bundle_record at_offset(const struct kr_bundle *bundle, size_t offset)
{
    struct kr_bundle_record record = {0};
    size_t len;
    (void)!read_record(bundle->payload + offset, bundle->len - offset, &record, &len);
    return record;
}

size_t kr_bundle_count(const struct kr_bundle *bundle)
{
    return bundle->count;
}

struct kr_bundle_record kr_bundle_get(const struct kr_bundle *bundle, size_t index)
{
    return at_offset(bundle, bundle->order[index]);
}

/* --- adding -------------------------------------------------------------------------------- */

static enum kr_status fail_full(struct kr_error *err)
{
    kr_fail(err, KR_REFUSED, "the keys do not fit into one bundle of %d MiB",
            KR_BUNDLE_PAYLOAD_MAX / 1024 / 1024);
    kr_hint(err, "make several bundles, each for some of the directories");
    return err->status;
}

static enum kr_status make_room(struct kr_bundle *bundle, size_t more, struct kr_error *err)
{
    size_t room = bundle->room ? bundle->room : ROOM_FIRST;
    if (more > KR_BUNDLE_PAYLOAD_MAX - bundle->len)
        return fail_full(err);
    while (room < bundle->len + more)
        room *= 2;
    if (room == bundle->room)
        return KR_OK;
    uint8_t *payload = kr_secret_alloc(room);
    if (!payload)
        return kr_fail_secret(err);
    if (bundle->len > 0)
        memcpy(payload, bundle->payload, bundle->len);
    kr_secret_free(bundle->payload);
    bundle->payload = payload;
    bundle->room = room;
    return KR_OK;
}

static enum kr_status note_offset(struct kr_bundle *bundle, size_t offset, struct kr_error *err)
{
    if (bundle->count == bundle->order_room) {
        size_t room = bundle->order_room ? 2 * bundle->order_room : 256;
        uint32_t *order = reallocarray(bundle->order, room, sizeof(*order));
        if (!order)
            return kr_fail_memory(err);
        bundle->order = order;
        bundle->order_room = room;
    }
    bundle->order[bundle->count++] = (uint32_t)offset;
    return KR_OK;
}

static uint8_t *put_number(uint8_t *at, uint64_t value, size_t bytes)
{
    kr_put_number(at, value, bytes);
    return at + bytes;
}

static uint8_t *put_text(uint8_t *at, const char *text)
{
    size_t len = strlen(text) + 1;
    memcpy(at, text, len);
    return at + len;
}

static uint8_t *put_names(uint8_t *at, const struct kr_bundle_record *record)
{
    switch (record->kind) {
    case KR_BUNDLE_MARIADB:
        at = put_number(put_number(at, record->id, 4), record->version, 4);
        at = put_number(put_number(at, (uint64_t)record->cipher, 1), record->disabled, 1);
        return put_number(at, (uint64_t)record->created, 8);
    case KR_BUNDLE_SECRET:
        at = put_text(put_number(at, (uint64_t)record->created, 8), record->name);
        return put_text(put_text(at, record->owner), record->type);
    default:
        at = put_number(at, (uint64_t)record->file, 1);
        memcpy(at, record->digest, KR_BUNDLE_DIGEST_BYTES);
        return put_text(at + KR_BUNDLE_DIGEST_BYTES, record->name);
    }
}

static size_t names_len(const struct kr_bundle_record *record)
{
    switch (record->kind) {
    case KR_BUNDLE_MARIADB:
        return MARIADB_BODY;
    case KR_BUNDLE_SECRET:
        return 8 + strlen(record->name) + strlen(record->owner) + strlen(record->type) + 3;
    default:
        return 1 + KR_BUNDLE_DIGEST_BYTES + strlen(record->name) + 1;
    }
}

enum kr_status kr_bundle_add(struct kr_bundle *bundle, const struct kr_bundle_record *record,
                             struct kr_error *err)
{
    struct kr_bundle_record again;
    if (record->len > KR_BUNDLE_SECRET_MAX)
        return kr_fail(err, KR_USAGE, "a record of %zu bytes cannot be in a bundle", record->len);
    size_t body = names_len(record) + record->len, len = HEAD + body;
    KR_TRY(make_room(bundle, len, err));
    uint8_t *start = bundle->payload + bundle->len;
    uint8_t *at = put_number(put_number(start, (uint64_t)record->kind, 1), body, 4);
    memcpy(put_names(at, record), record->bytes, record->len);
    if (!read_record(start, len, &again, &len))
        return kr_fail(err, KR_USAGE, "a record of kind %d cannot be so in a bundle",
                       (int)record->kind);
    KR_TRY(note_offset(bundle, bundle->len, err));
    bundle->len += len;
    return KR_OK;
}

enum kr_status kr_bundle_add_all(struct kr_bundle *bundle, const struct kr_bundle *other,
                                 struct kr_error *err)
{
    for (size_t i = 0; i < other->count; i++) {
        struct kr_bundle_record record = kr_bundle_get(other, i);
        KR_TRY(kr_bundle_add(bundle, &record, err));
    }
    return KR_OK;
}

/* --- order --------------------------------------------------------------------------------- */

static int by_number(uint32_t a, uint32_t b)
{
    return (a > b) - (a < b);
}

static int by_name(const struct kr_bundle_record *a, const struct kr_bundle_record *b)
{
    int order = by_number(a->kind, b->kind);
    if (order != 0)
        return order;
    if (a->kind == KR_BUNDLE_MARIADB)
        return a->id != b->id ? by_number(a->id, b->id) : by_number(a->version, b->version);
    order = strcmp(a->name, b->name);
    if (order != 0)
        return order;
    return a->kind == KR_BUNDLE_SECRET ? strcmp(a->owner, b->owner)
                                       : memcmp(a->digest, b->digest, KR_BUNDLE_DIGEST_BYTES);
}

static int by_offset(const void *a, const void *b, void *context)
{
    struct kr_bundle_record one = at_offset(context, *(const uint32_t *)a);
    struct kr_bundle_record other = at_offset(context, *(const uint32_t *)b);
    return by_name(&one, &other);
}

/* When a key was made, or whether it was disabled by then, is no part of what it is. */
static bool is_same(const struct kr_bundle_record *a, const struct kr_bundle_record *b)
{
    return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0 && a->cipher == b->cipher &&
           (a->kind != KR_BUNDLE_SECRET || strcmp(a->type, b->type) == 0) && a->file == b->file;
}

static enum kr_status fail_conflict(const struct kr_bundle_record *record, struct kr_error *err)
{
    if (record->kind == KR_BUNDLE_MARIADB)
        kr_fail(err, KR_REFUSED, "version %u of key %u is there twice, with different bytes",
                record->version, record->id);
    else
        kr_fail(err, KR_REFUSED, "%s is there twice, with different bytes", record->name);
    kr_hint(err, "the bundles are not of one server's backups: use those of one chain");
    return err->status;
}

enum kr_status kr_bundle_settle(struct kr_bundle *bundle, struct kr_error *err)
{
    size_t kept = 0;
    if (bundle->count == 0)
        return KR_OK;
    qsort_r(bundle->order, bundle->count, sizeof(*bundle->order), by_offset, bundle);
    for (size_t i = 1; i < bundle->count; i++) {
        struct kr_bundle_record last = kr_bundle_get(bundle, kept);
        struct kr_bundle_record next = kr_bundle_get(bundle, i);
        bool again = by_name(&last, &next) == 0;
        if (again && !is_same(&last, &next))
            return fail_conflict(&next, err);
        if (!again)
            bundle->order[++kept] = bundle->order[i];
    }
    bundle->count = kept + 1;
    return KR_OK;
}

bool kr_bundle_find(const struct kr_bundle *bundle, const struct kr_bundle_record *name,
                    struct kr_bundle_record *ret)
{
    size_t low = 0, high = bundle->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        struct kr_bundle_record record = kr_bundle_get(bundle, middle);
        int order = by_name(&record, name);
        if (order == 0) {
            *ret = record;
            return true;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

enum kr_status kr_bundle_take(struct kr_bundle *bundle, uint8_t **payload, size_t len,
                              struct kr_error *err)
{
    struct kr_bundle_record record;
    bundle->payload = *payload;
    bundle->len = bundle->room = len;
    *payload = NULL;
    for (size_t at = 0, one = 0; at < len; at += one) {
        if (!read_record(bundle->payload + at, len - at, &record, &one))
            return kr_fail(err, KR_INTEGRITY, "the bundle has a record that makes no sense");
        KR_TRY(note_offset(bundle, at, err));
    }
    if (kr_bundle_settle(bundle, err) == KR_OK)
        return KR_OK;
    err->status = KR_INTEGRITY;
    return KR_INTEGRITY;
}
