/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/*
 * The manifest: HMAC-SHA-256 (FIPS 198-1) over all rows of the keystore. The serialisation is
 * unambiguous whatever the rows hold (docs/FORMAT.md): each table by its name, each row led by 1,
 * the end of a table by 0, each value with its type and length.
 */
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/guards.h"
#include "base/secret.h"
#include "wrap/envelope.h"
#include "wrap/keystore_internal.h"

static const char DOMAIN[] = "p11keyring manifest 1";

/* Every column but the MAC itself. */
static const struct {
    const char *table, *query;
} PARTS[] = {
    {"keyring", "SELECT uuid, name, created FROM keyring"},
    {"manifest", "SELECT generation, envelope, audit_seq, audit_hash FROM manifest"},
    {"masters",
     "SELECT id, label, token, state, mechanism, created, wraps FROM masters ORDER BY id"},
    {"keys", "SELECT namespace, id, owner, disabled, high_water, last_stored, created FROM keys "
             "ORDER BY namespace, id, owner"},
    {"versions", "SELECT namespace, id, owner, version, cipher, created, bundled, envelope "
                 "FROM versions ORDER BY namespace, id, owner, version"},
};

struct digest {
    EVP_MAC *mac;
    EVP_MAC_CTX *context;
    bool failed; /* sticks: asked once at the end */
};

static void digest_free(struct digest *digest)
{
    EVP_MAC_CTX_free(digest->context);
    EVP_MAC_free(digest->mac);
}
#define DIGEST_OWNED __attribute__((cleanup(digest_free)))

static void digest_begin(struct digest *digest, const uint8_t *key)
{
    char name[] = "SHA256";
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name, 0),
                                 OSSL_PARAM_END};
    digest->mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    digest->context = digest->mac ? EVP_MAC_CTX_new(digest->mac) : NULL;
    digest->failed =
        !digest->context || EVP_MAC_init(digest->context, key, KR_MANIFEST_KEY_BYTES, params) != 1;
}

static void digest_bytes(struct digest *digest, const void *bytes, size_t len)
{
    if (!digest->failed && len > 0)
        digest->failed = EVP_MAC_update(digest->context, bytes, len) != 1;
}

static void digest_byte(struct digest *digest, uint8_t byte)
{
    digest_bytes(digest, &byte, 1);
}

static void digest_number(struct digest *digest, uint64_t value, size_t bytes)
{
    uint8_t text[8];
    kr_put_number(text, value, bytes);
    digest_bytes(digest, text, bytes);
}

static void digest_field(struct digest *digest, char type, const void *bytes, size_t len)
{
    digest_byte(digest, (uint8_t)type);
    digest_number(digest, len, 4);
    digest_bytes(digest, bytes, len);
}

static bool digest_column(struct digest *digest, sqlite3_stmt *statement, int column)
{
    switch (sqlite3_column_type(statement, column)) {
    case SQLITE_INTEGER:
        digest_byte(digest, 'i');
        digest_number(digest, (uint64_t)sqlite3_column_int64(statement, column), 8);
        return true;
    case SQLITE_TEXT:
        digest_field(digest, 't', sqlite3_column_text(statement, column),
                     (size_t)sqlite3_column_bytes(statement, column));
        return true;
    case SQLITE_BLOB:
        digest_field(digest, 'b', sqlite3_column_blob(statement, column),
                     (size_t)sqlite3_column_bytes(statement, column));
        return true;
    default:
        return false;
    }
}

static enum kr_status digest_table(struct digest *digest, const struct kr_sql *sql,
                                   const char *query, struct kr_error *err)
{
    KR_STATEMENT *statement = NULL;
    KR_TRY(kr_sql_prepare(sql, &statement, err, query, ""));
    bool row = false;
    KR_TRY(kr_sql_step(sql, statement, &row, err));
    while (row) {
        digest_byte(digest, 1);
        for (int i = 0; i < sqlite3_column_count(statement); i++) {
            if (!digest_column(digest, statement, i))
                return kr_sql_damaged(sql, "a row holds a value of the wrong type", err);
        }
        KR_TRY(kr_sql_step(sql, statement, &row, err));
    }
    digest_byte(digest, 0);
    return KR_OK;
}

static enum kr_status compute(const struct kr_keystore *keystore,
                              uint8_t ret[KR_MANIFEST_MAC_BYTES], struct kr_error *err)
{
    if (!keystore->manifest_key)
        return kr_fail(err, KR_INTERNAL, "the manifest key of the keystore %s was not set",
                       keystore->path);
    DIGEST_OWNED struct digest digest = {0};
    digest_begin(&digest, keystore->manifest_key);
    digest_field(&digest, 't', DOMAIN, strlen(DOMAIN));
    for (size_t i = 0; i < sizeof(PARTS) / sizeof(PARTS[0]); i++) {
        digest_field(&digest, 't', PARTS[i].table, strlen(PARTS[i].table));
        KR_TRY(digest_table(&digest, &keystore->sql, PARTS[i].query, err));
    }
    size_t len = 0;
    if (digest.failed || EVP_MAC_final(digest.context, ret, &len, KR_MANIFEST_MAC_BYTES) != 1)
        return kr_fail(err, KR_INTERNAL, "HMAC-SHA-256 failed in OpenSSL");
    return KR_OK;
}

static enum kr_status read_generation(const struct kr_keystore *keystore,
                                      const uint8_t mac[KR_MANIFEST_MAC_BYTES],
                                      struct kr_generation *ret, struct kr_error *err)
{
    int64_t number = 0;
    KR_TRY(kr_sql_integer(&keystore->sql, "SELECT generation FROM manifest", &number, err));
    ret->number = (uint64_t)number;
    memcpy(ret->tag, mac, sizeof(ret->tag));
    return KR_OK;
}

enum kr_status kr_manifest_renew(struct kr_keystore *keystore, struct kr_error *err)
{
    uint8_t mac[KR_MANIFEST_MAC_BYTES];
    int changes = 0;
    KR_TRY(kr_sql_run(&keystore->sql, &changes, err,
                      "UPDATE manifest SET generation = generation + 1", ""));
    if (changes != 1)
        return kr_fail(err, KR_INTERNAL, "the manifest envelope of the keystore %s was not set",
                       keystore->path);
    KR_TRY(compute(keystore, mac, err));
    KR_TRY(read_generation(keystore, mac, &keystore->pending, err));
    return kr_sql_run(&keystore->sql, NULL, err, "UPDATE manifest SET mac = ?", "b", mac,
                      sizeof(mac));
}

struct kr_generation kr_keystore_generation(const struct kr_keystore *keystore)
{
    return keystore->newest;
}

enum kr_status kr_keystore_raise_generation(struct kr_keystore *keystore, uint64_t floor,
                                            struct kr_error *err)
{
    KR_TRY(kr_keystore_need_write(keystore, err));
    if (floor >= INT64_MAX)
        return kr_fail(err, KR_REFUSED, "there is no generation above %llu",
                       (unsigned long long)floor);
    return kr_sql_run(&keystore->sql, NULL, err,
                      "UPDATE manifest SET generation = max(generation, ?)", "i", (int64_t)floor);
}

enum kr_status kr_keystore_set_manifest_envelope(struct kr_keystore *keystore, const uint8_t *blob,
                                                 size_t len, struct kr_error *err)
{
    KR_TRY(kr_keystore_need_write(keystore, err));
    return kr_sql_run(
        &keystore->sql, NULL, err,
        "INSERT INTO manifest (one, generation, envelope, audit_seq, audit_hash, mac) "
        "VALUES (1, 0, ?, 0, zeroblob(32), zeroblob(32)) "
        "ON CONFLICT DO UPDATE SET envelope = excluded.envelope",
        "b", blob, len);
}

enum kr_status kr_keystore_get_manifest_envelope(struct kr_keystore *keystore, uint8_t **ret,
                                                 size_t *ret_len, struct kr_error *err)
{
    KR_STATEMENT *statement = NULL;
    KR_TRY(kr_sql_prepare(&keystore->sql, &statement, err, "SELECT envelope FROM manifest", ""));
    bool row = false;
    KR_TRY(kr_sql_step(&keystore->sql, statement, &row, err));
    size_t len = 0;
    const uint8_t *blob = row ? kr_sql_blob(statement, 0, 1, KR_ENVELOPE_MAX, &len) : NULL;
    if (!blob)
        return kr_sql_damaged(&keystore->sql, "its manifest is missing", err);
    uint8_t *copy = malloc(len);
    if (!copy)
        return kr_fail_memory(err);
    memcpy(copy, blob, len);
    *ret = copy;
    *ret_len = len;
    return KR_OK;
}

enum kr_status kr_keystore_get_generation(struct kr_keystore *keystore, int64_t *ret,
                                          struct kr_error *err)
{
    return kr_sql_integer(&keystore->sql, "SELECT generation FROM manifest", ret, err);
}

enum kr_status kr_keystore_set_audit_head(struct kr_keystore *keystore,
                                          const struct kr_audit_head *head, struct kr_error *err)
{
    KR_TRY(kr_keystore_need_write(keystore, err));
    return kr_sql_run(&keystore->sql, NULL, err,
                      "UPDATE manifest SET audit_seq = ?, audit_hash = ?", "ib", (int64_t)head->seq,
                      head->hash, sizeof(head->hash));
}

enum kr_status kr_keystore_get_audit_head(struct kr_keystore *keystore, struct kr_audit_head *ret,
                                          struct kr_error *err)
{
    KR_STATEMENT *statement = NULL;
    KR_TRY(kr_sql_prepare(&keystore->sql, &statement, err,
                          "SELECT audit_seq, audit_hash FROM manifest", ""));
    bool row = false;
    KR_TRY(kr_sql_step(&keystore->sql, statement, &row, err));
    size_t len = 0;
    int64_t seq = 0;
    bool read = row && kr_sql_number(statement, 0, 0, INT64_MAX, &seq);
    const uint8_t *hash =
        read ? kr_sql_blob(statement, 1, sizeof(ret->hash), sizeof(ret->hash), &len) : NULL;
    if (!hash)
        return kr_sql_damaged(&keystore->sql, "its manifest is missing", err);
    ret->seq = (uint64_t)seq;
    memcpy(ret->hash, hash, len);
    return KR_OK;
}

enum kr_status kr_keystore_set_manifest_key(struct kr_keystore *keystore,
                                            const uint8_t key[KR_MANIFEST_KEY_BYTES],
                                            struct kr_error *err)
{
    uint8_t *copy = kr_secret_alloc(KR_MANIFEST_KEY_BYTES);
    if (!copy)
        return kr_fail_memory(err);
    memcpy(copy, key, KR_MANIFEST_KEY_BYTES);
    kr_secret_free(keystore->manifest_key);
    keystore->manifest_key = copy;
    return KR_OK;
}

static enum kr_status check_mac(const struct kr_keystore *keystore,
                                uint8_t expected[KR_MANIFEST_MAC_BYTES], struct kr_error *err)
{
    KR_TRY(compute(keystore, expected, err));
    KR_STATEMENT *statement = NULL;
    KR_TRY(kr_sql_prepare(&keystore->sql, &statement, err, "SELECT mac FROM manifest", ""));
    bool row = false;
    KR_TRY(kr_sql_step(&keystore->sql, statement, &row, err));
    size_t len = 0;
    const uint8_t *mac =
        row ? kr_sql_blob(statement, 0, KR_MANIFEST_MAC_BYTES, KR_MANIFEST_MAC_BYTES, &len) : NULL;
    if (mac && CRYPTO_memcmp(mac, expected, KR_MANIFEST_MAC_BYTES) == 0)
        return KR_OK;
    kr_fail(err, KR_INTEGRITY,
            "the manifest of the keystore %s does not verify: its rows were changed by something "
            "other than p11keyring, or its token is not the one it was made with",
            keystore->path);
    kr_hint(err, "restore %s from a backup; keep the changed file to see what was done to it",
            keystore->path);
    return KR_INTEGRITY;
}

/* An older file that was put back verifies by itself; a process that saw a newer one knows. */
static enum kr_status check_generation(struct kr_keystore *keystore,
                                       const struct kr_generation *found, struct kr_error *err)
{
    const struct kr_generation *newest = &keystore->newest;
    if (found->number > newest->number ||
        (found->number == newest->number &&
         memcmp(found->tag, newest->tag, sizeof(found->tag)) == 0)) {
        keystore->newest = *found;
        return KR_OK;
    }
    kr_fail(err, KR_INTEGRITY, "the keystore %s went back from generation %llu to %s%llu",
            keystore->path, (unsigned long long)newest->number,
            found->number == newest->number ? "another " : "", (unsigned long long)found->number);
    kr_hint(err, "an older file was put in its place: put the newer one back; if this was meant: "
                 "p11keyring keyring accept, and restart the server");
    return KR_INTEGRITY;
}

static enum kr_status verify_view(struct kr_keystore *keystore, struct kr_error *err)
{
    uint8_t mac[KR_MANIFEST_MAC_BYTES];
    struct kr_generation found;
    KR_TRY(check_mac(keystore, mac, err));
    KR_TRY(read_generation(keystore, mac, &found, err));
    return check_generation(keystore, &found, err);
}

enum kr_status kr_keystore_verify(struct kr_keystore *keystore, struct kr_error *err)
{
    if (!KR_GUARDED)
        return KR_OK;
    if (!sqlite3_get_autocommit(keystore->sql.db))
        return verify_view(keystore, err);
    KR_TRY(kr_keystore_begin_read(keystore, err));
    enum kr_status status = verify_view(keystore, err);
    kr_keystore_rollback(keystore);
    return status;
}
