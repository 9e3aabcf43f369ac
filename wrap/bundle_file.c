/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The bundle's file (docs/FORMAT.md), all numbers big-endian:
 *
 *   "P11B" | format u8 | id 16 | keystore uuid 16 | created u64 | scope u8 | name length u8 | name
 * | number of slots u8 | for each: kind u8, length u16, body | records' length u32 | iv 12 |
 *   ciphertext | tag 16
 *
 * All before the ciphertext is associated data of the records; of a slot for passwords what stands
 * before the number of slots is, and its own body before the iv.
 */
#include "wrap/bundle_internal.h"

#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/secret.h"
#include "hwaccel/aes_context.h"

static const uint8_t MAGIC[4] = {'P', '1', '1', 'B'};

enum {
    FORMAT = 1,
    INFO_HEAD = 4 + 1 + 16 + KR_KEYSTORE_UUID_BYTES + 8 + 1 + 1,
    SLOT_HEAD = 1 + 2,
    TAIL = 4 + KR_BUNDLE_IV, /* of the header, behind the slots */
    SCRYPT_LOG_N = 17,       /* 128 MiB, with r = 8 */
    PBKDF2_ITERATIONS = 600000
};

static enum kr_status fail_damaged(const char *what, struct kr_error *err)
{
    kr_fail(err, KR_INTEGRITY, "the bundle is damaged: %s", what);
    kr_hint(err, "use another copy of it");
    return KR_INTEGRITY;
}

/* --- parsing ------------------------------------------------------------------------------- */

static enum kr_status check_start(const uint8_t *blob, size_t len, struct kr_error *err)
{
    if (len < INFO_HEAD || memcmp(blob, MAGIC, sizeof(MAGIC)) != 0) {
        kr_fail(err, KR_INTEGRITY, "this is no bundle: it does not begin with P11B");
        kr_hint(err, "name a file that p11keyring backup create made");
        return KR_INTEGRITY;
    }
    if (blob[4] == FORMAT)
        return KR_OK;
    kr_fail(err, KR_INTEGRITY, "the bundle has format %u, this program knows format %d", blob[4],
            FORMAT);
    kr_hint(err, "use the version of p11keyring that wrote it, or a newer one");
    return KR_INTEGRITY;
}

static enum kr_status parse_info(const uint8_t *blob, size_t len, struct kr_bundle_header *header,
                                 struct kr_error *err)
{
    struct kr_bundle_info *info = &header->info;
    KR_TRY(check_start(blob, len, err));
    memcpy(info->id, blob + 5, sizeof(info->id));
    memcpy(info->keystore, blob + 21, sizeof(info->keystore));
    info->created = (int64_t)kr_get_number(blob + 37, 8);
    info->scope = (enum kr_bundle_scope)blob[45];
    const size_t name = blob[46];
    if (info->scope < KR_BUNDLE_ALL || info->scope > KR_BUNDLE_FILES || name == 0 ||
        name >= sizeof(info->keyring) || len < INFO_HEAD + name ||
        memchr(blob + INFO_HEAD, '\0', name))
        return fail_damaged("its first bytes make no sense", err);
    memcpy(info->keyring, blob + INFO_HEAD, name);
    header->info_len = INFO_HEAD + name;
    return KR_OK;
}

/* *at is where the slot begins, then where it ends. */
static enum kr_status parse_slot(const uint8_t *blob, size_t len, size_t *at,
                                 struct kr_bundle_slot *ret, struct kr_error *err)
{
    size_t body = len - *at >= SLOT_HEAD ? kr_get_number(blob + *at + 1, 2) : 0;
    if (body == 0 || body > len - *at - SLOT_HEAD)
        return fail_damaged("it ends within a slot", err);
    KR_TRY(kr_bundle_slot_parse((enum kr_bundle_slot_kind)blob[*at], blob + *at + SLOT_HEAD, body,
                                ret, err));
    *at += SLOT_HEAD + body;
    return KR_OK;
}

enum kr_status kr_bundle_parse(const uint8_t *blob, size_t len, struct kr_bundle_header *ret,
                               struct kr_error *err)
{
    struct kr_bundle_header header = {0};
    KR_TRY(parse_info(blob, len, &header, err));
    size_t at = header.info_len;
    const size_t slots = at < len ? blob[at++] : 0;
    if (slots == 0 || slots > KR_BUNDLE_SLOTS_MAX)
        return fail_damaged("it has an impossible number of slots", err);
    for (; header.slot_count < slots; header.slot_count++)
        KR_TRY(parse_slot(blob, len, &at, &header.slots[header.slot_count], err));
    const uint64_t records = len - at >= TAIL ? kr_get_number(blob + at, 4) : UINT64_MAX;
    if (records > KR_BUNDLE_PAYLOAD_MAX || len - at - TAIL != records + KR_BUNDLE_TAG)
        return fail_damaged("its length does not fit its header", err);
    header.len = at + TAIL;
    *ret = header;
    return KR_OK;
}

/* --- opening ------------------------------------------------------------------------------- */

enum kr_status kr_bundle_open(const uint8_t *blob, size_t len,
                              const struct kr_bundle_header *header,
                              const uint8_t content_key[KR_CONTENT_KEY_BYTES],
                              struct kr_bundle **ret, struct kr_error *err)
{
    const size_t records = len - header->len - KR_BUNDLE_TAG;
    const struct kr_bundle_gcm gcm = {.key = content_key,
                                      .iv = blob + header->len - KR_BUNDLE_IV,
                                      .bound = blob,
                                      .bound_len = header->len};
    KR_BUNDLE *bundle = NULL;
    KR_SECRET uint8_t *payload = kr_secret_alloc(records + (records == 0));
    if (!payload)
        return kr_fail_secret(err);
    KR_TRY(kr_bundle_new(&header->info, &bundle, err));
    bundle->info = header->info;
    if (!kr_bundle_gcm_open(&gcm, blob + header->len, records, payload, blob + len - KR_BUNDLE_TAG))
        return fail_damaged("it was edited, or its key is of another one", err);
    KR_TRY(kr_bundle_take(bundle, &payload, records, err));
    *ret = bundle;
    bundle = NULL;
    return KR_OK;
}

/* --- sealing ------------------------------------------------------------------------------- */

static size_t put_info(const struct kr_bundle_info *info, uint8_t *at)
{
    const size_t name = strlen(info->keyring);
    memcpy(at, MAGIC, sizeof(MAGIC));
    at[4] = FORMAT;
    memcpy(at + 5, info->id, sizeof(info->id));
    memcpy(at + 21, info->keystore, sizeof(info->keystore));
    kr_put_number(at + 37, (uint64_t)info->created, 8);
    at[45] = (uint8_t)info->scope;
    at[46] = (uint8_t)name;
    memcpy(at + INFO_HEAD, info->keyring, name);
    return INFO_HEAD + name;
}

struct writer {
    uint8_t *blob;
    size_t info_len, len;
};

/* Takes over what was written behind the head of a slot. */
static void end_slot(struct writer *writer, enum kr_bundle_slot_kind kind, size_t body)
{
    uint8_t *at = writer->blob + writer->len;
    at[0] = (uint8_t)kind;
    kr_put_number(at + 1, body, 2);
    writer->len += SLOT_HEAD + body;
    writer->blob[writer->info_len]++;
}

static uint8_t *next_body(const struct writer *writer)
{
    return writer->blob + writer->len + SLOT_HEAD;
}

/* What a recipient's token can do is not known here: some know SHA-1 alone in OAEP, where nothing
 * rests on what is broken of it, and under FIPS it is not to be used. */
static enum kr_status put_recipient(struct writer *writer, const struct kr_bundle_locks *locks,
                                    const struct kr_bundle_chance *chance, struct kr_error *err)
{
    static const enum kr_wrap_mechanism hashes[] = {KR_WRAP_RSA_SHA256, KR_WRAP_RSA_SHA1};
    const size_t count = kr_aes_is_fips() ? 1 : 2;
    size_t body = 0;
    for (size_t i = 0; i < count; i++) {
        KR_TRY(kr_bundle_slot_recipient(locks->recipient, hashes[i], chance, next_body(writer),
                                        &body, err));
        end_slot(writer, KR_BUNDLE_SLOT_RECIPIENT, body);
    }
    return KR_OK;
}

static enum kr_status put_slots(struct writer *writer, const struct kr_bundle_locks *locks,
                                const struct kr_bundle_chance *chance, struct kr_error *err)
{
    size_t body = 0;
    writer->blob[writer->len++] = 0;
    if (locks->passwords) {
        KR_TRY(kr_bundle_slot_passwords(locks->passwords, chance, writer->blob, writer->info_len,
                                        next_body(writer), &body, err));
        end_slot(writer, KR_BUNDLE_SLOT_PASSWORDS, body);
    }
    return locks->recipient ? put_recipient(writer, locks, chance, err) : KR_OK;
}

/* The records in order, each once. */
static enum kr_status gather(const struct kr_bundle *bundle, struct kr_bundle **ret,
                             struct kr_error *err)
{
    KR_BUNDLE *ordered = NULL;
    KR_TRY(kr_bundle_new(&bundle->info, &ordered, err));
    KR_TRY(kr_bundle_add_all(ordered, bundle, err));
    *ret = ordered;
    ordered = NULL;
    return KR_OK;
}

static enum kr_status put_records(struct writer *writer, const struct kr_bundle *bundle,
                                  const struct kr_bundle_chance *chance, struct kr_error *err)
{
    uint8_t *at = writer->blob + writer->len;
    kr_put_number(at, bundle->len, 4);
    memcpy(at + 4, chance->iv, KR_BUNDLE_IV);
    writer->len += TAIL;
    const struct kr_bundle_gcm gcm = {.key = chance->content_key,
                                      .iv = chance->iv,
                                      .bound = writer->blob,
                                      .bound_len = writer->len};
    uint8_t *out = writer->blob + writer->len;
    if (!kr_bundle_gcm_seal(&gcm, bundle->payload, bundle->len, out, out + bundle->len))
        return kr_fail(err, KR_INTERNAL, "AES-256-GCM failed in OpenSSL");
    writer->len += bundle->len + KR_BUNDLE_TAG;
    return KR_OK;
}

enum kr_status kr_bundle_seal_with(const struct kr_bundle *bundle,
                                   const struct kr_bundle_locks *locks,
                                   const struct kr_bundle_chance *chance, uint8_t **ret,
                                   size_t *ret_len, struct kr_error *err)
{
    KR_BUNDLE *ordered = NULL;
    KR_TRY(gather(bundle, &ordered, err));
    struct writer writer = {.blob = malloc(INFO_HEAD + sizeof(bundle->info.keyring) + 1 +
                                           (size_t)3 * (SLOT_HEAD + KR_BUNDLE_SLOT_MAX) + TAIL +
                                           ordered->len + KR_BUNDLE_TAG)};
    if (!writer.blob)
        return kr_fail_memory(err);
    writer.info_len = writer.len = put_info(&bundle->info, writer.blob);
    enum kr_status status = put_slots(&writer, locks, chance, err);
    if (status == KR_OK)
        status = put_records(&writer, ordered, chance, err);
    if (status == KR_OK) {
        *ret = writer.blob;
        *ret_len = writer.len;
    } else {
        free(writer.blob);
    }
    return status;
}

enum kr_status kr_bundle_check_passwords(const struct kr_bundle_passwords *passwords,
                                         struct kr_error *err)
{
    for (unsigned i = 0; i < passwords->count; i++) {
        if (passwords->len[i] >= KR_BUNDLE_PASSWORD_MIN)
            continue;
        kr_fail(err, KR_USAGE, "the password is shorter than %d bytes", KR_BUNDLE_PASSWORD_MIN);
        kr_hint(err, "a bundle lies in many places and can be tried offline: take a long one, for "
                     "example of openssl rand -base64 24");
        return KR_USAGE;
    }
    if (passwords->count == 2 && passwords->len[0] == passwords->len[1] &&
        memcmp(passwords->text[0], passwords->text[1], passwords->len[0]) == 0)
        return kr_fail(err, KR_USAGE, "the two custodians have the same password");
    return KR_OK;
}

enum kr_status kr_bundle_seal(const struct kr_bundle *bundle, const struct kr_bundle_locks *locks,
                              uint8_t **ret, size_t *ret_len, struct kr_error *err)
{
    const bool fips = kr_aes_is_fips();
    struct kr_bundle_chance chance = {.kdf = fips ? KR_BUNDLE_PBKDF2 : KR_BUNDLE_SCRYPT,
                                      .cost = fips ? PBKDF2_ITERATIONS : SCRYPT_LOG_N};
    KR_SECRET uint8_t *key = chance.content_key = kr_secret_alloc(KR_CONTENT_KEY_BYTES);
    if (!locks->passwords && !locks->recipient)
        return kr_fail(err, KR_USAGE, "a bundle is made for a password or for a recipient");
    if (locks->passwords)
        KR_TRY(kr_bundle_check_passwords(locks->passwords, err));
    if (!key)
        return kr_fail_secret(err);
    if (RAND_priv_bytes(key, KR_CONTENT_KEY_BYTES) != 1 ||
        RAND_bytes(chance.salts[0], sizeof(chance.salts)) != 1 ||
        RAND_bytes(chance.slot_iv, sizeof(chance.slot_iv)) != 1 ||
        RAND_bytes(chance.iv, sizeof(chance.iv)) != 1)
        return kr_fail(err, KR_INTERNAL, "OpenSSL's random generator failed");
    return kr_bundle_seal_with(bundle, locks, &chance, ret, ret_len, err);
}
