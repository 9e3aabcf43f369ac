/* SPDX-License-Identifier: GPL-2.0-or-later WITH cryptsetup-OpenSSL-exception */
/* Bundles: the bytes of docs/FORMAT.md, who can open them, and that nothing else opens. */
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/hex.h"
#include "base/secret.h"
#include "vectors.h"
#include "wrap/bundle_internal.h"

#define ONE "correct horse battery"
#define TWO "staple of custodian 2"

struct bytes {
    uint8_t *at;
    size_t len;
};

static void free_bytes(struct bytes *bytes)
{
    free(bytes->at);
}
#define BYTES __attribute__((cleanup(free_bytes))) struct bytes

static struct bytes from_hex(const char *hex)
{
    struct bytes bytes = {malloc(strlen(hex) / 2 + 1), strlen(hex) / 2};
    assert_non_null(bytes.at);
    assert_true(kr_hex_decode(hex, strlen(hex), bytes.at));
    return bytes;
}

static void take_hex(const char *hex, uint8_t *ret)
{
    assert_true(kr_hex_decode(hex, strlen(hex), ret));
}

static struct kr_bundle_passwords passwords(const char *one, const char *two)
{
    return (struct kr_bundle_passwords){
        .text = {one, two}, .len = {strlen(one), two ? strlen(two) : 0}, .count = two ? 2 : 1};
}

static bool fips;
bool __wrap_kr_aes_is_fips(void);
bool __wrap_kr_aes_is_fips(void)
{
    return fips;
}

static uint8_t key[32];

/* What the vectors hold. */
static struct kr_bundle *new_bundle(void)
{
    struct kr_bundle_info info = {
        .keyring = "default", .created = 1700000000, .scope = KR_BUNDLE_ALL};
    struct kr_error err = KR_ERROR_INIT;
    struct kr_bundle *bundle = NULL;
    take_hex(VECTOR_UUID, info.keystore);
    take_hex(VECTOR_PAYLOAD, key);
    assert_int_equal(kr_bundle_new(&info, &bundle, &err), KR_OK);
    return bundle;
}

static const struct kr_bundle_record mariadb_key = {.kind = KR_BUNDLE_MARIADB,
                                                    .id = 1,
                                                    .version = 3,
                                                    .cipher = KR_CIPHER_AES_CBC,
                                                    .created = 1700000000,
                                                    .bytes = key,
                                                    .len = 32};
static const struct kr_bundle_record secret = {.kind = KR_BUNDLE_SECRET,
                                               .name = "INNODBKey-e0e1-1",
                                               .owner = "",
                                               .type = "AES",
                                               .created = 1700000000,
                                               .bytes = key,
                                               .len = 32};

static void add(struct kr_bundle *bundle, const struct kr_bundle_record *record)
{
    struct kr_error err = KR_ERROR_INIT;
    assert_int_equal(kr_bundle_add(bundle, record, &err), KR_OK);
}

static void add_file_key(struct kr_bundle *bundle)
{
    uint8_t digest[32], both[64];
    assert_int_equal(EVP_Digest("sealed", 6, digest, NULL, EVP_sha256(), NULL), 1);
    memcpy(both, key, 32);
    memcpy(both + 32, key, 32);
    const struct kr_bundle_record record = {.kind = KR_BUNDLE_FILE_KEY,
                                            .file = KR_BUNDLE_TABLESPACE,
                                            .digest = digest,
                                            .name = "INNODBKey-e0e1-2",
                                            .bytes = both,
                                            .len = 64};
    add(bundle, &record);
}

/* Added in another order than that of the file, and one of them twice. */
static struct kr_bundle *vector_bundle(void)
{
    struct kr_bundle *bundle = new_bundle();
    struct kr_error err = KR_ERROR_INIT;
    take_hex(VECTOR_BUNDLE_ID, bundle->info.id);
    add_file_key(bundle);
    add(bundle, &secret);
    add(bundle, &mariadb_key);
    add(bundle, &secret);
    assert_int_equal(kr_bundle_settle(bundle, &err), KR_OK);
    assert_int_equal(kr_bundle_count(bundle), 3);
    return bundle;
}

static void check_records(const struct kr_bundle *bundle)
{
    BYTES expected = from_hex(VECTOR_BUNDLE_RECORDS);
    assert_int_equal(bundle->len, expected.len);
    assert_memory_equal(bundle->payload, expected.at, expected.len);
    assert_int_equal(kr_bundle_count(bundle), 3);
}

/* --- test vectors ---------------------------------------------------------------------------- */

static void check_vector(const char *hex, enum kr_bundle_kdf kdf, uint32_t cost,
                         const struct kr_bundle_passwords *given)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_bundle_chance chance = {.kdf = kdf, .cost = cost};
    KR_SECRET uint8_t *content = chance.content_key = kr_secret_alloc(32);
    const struct kr_bundle_locks locks = {.passwords = given};
    KR_BUNDLE *bundle = vector_bundle();
    BYTES expected = from_hex(hex);
    BYTES sealed = {0};
    take_hex(VECTOR_SEALING_KEY, content);
    memset(chance.salts[0], 0x51, KR_BUNDLE_SALT);
    memset(chance.salts[1], 0x52, KR_BUNDLE_SALT);
    take_hex(VECTOR_BUNDLE_SLOT_IV, chance.slot_iv);
    take_hex(VECTOR_IV, chance.iv);
    assert_int_equal(kr_bundle_seal_with(bundle, &locks, &chance, &sealed.at, &sealed.len, &err),
                     KR_OK);
    assert_int_equal(sealed.len, expected.len);
    assert_memory_equal(sealed.at, expected.at, expected.len);
}

static enum kr_status try_unlock(const struct bytes *blob, const struct kr_bundle_passwords *given,
                                 uint8_t *ret_key)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_bundle_header header;
    enum kr_status status = kr_bundle_parse(blob->at, blob->len, &header, &err);
    if (status == KR_OK)
        status = kr_bundle_unlock(blob->at, &header, given, ret_key, &err);
    assert_true(status == KR_OK || (err.text[0] && err.hint[0]));
    return status;
}

/* *ret (may be NULL) is freed by the caller. */
static enum kr_status try_open(const struct bytes *blob, const uint8_t *content,
                               struct kr_bundle **ret)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_bundle_header header;
    struct kr_bundle *bundle = NULL;
    enum kr_status status = kr_bundle_parse(blob->at, blob->len, &header, &err);
    if (status == KR_OK)
        status = kr_bundle_open(blob->at, blob->len, &header, content, &bundle, &err);
    assert_true((status == KR_OK) == (bundle != NULL));
    assert_true(status == KR_OK || err.text[0]);
    if (ret)
        *ret = bundle;
    else
        kr_bundle_free(bundle);
    return status;
}

static void check_opens(const char *hex, const struct kr_bundle_passwords *given)
{
    KR_SECRET uint8_t *content = kr_secret_alloc(32);
    KR_BUNDLE *bundle = NULL;
    BYTES blob = from_hex(hex);
    uint8_t expected[32];
    assert_int_equal(try_unlock(&blob, given, content), KR_OK);
    take_hex(VECTOR_SEALING_KEY, expected);
    assert_memory_equal(content, expected, 32);
    assert_int_equal(try_open(&blob, content, &bundle), KR_OK);
    check_records(bundle);
    assert_string_equal(kr_bundle_info(bundle)->keyring, "default");
    assert_int_equal(kr_bundle_info(bundle)->created, 1700000000);
}

static void test_vectors(void **state)
{
    (void)state;
    const struct kr_bundle_passwords one = passwords(ONE, NULL), two = passwords(ONE, TWO);
    check_vector(VECTOR_BUNDLE_SCRYPT, KR_BUNDLE_SCRYPT, 10, &one);
    check_vector(VECTOR_BUNDLE_PBKDF2, KR_BUNDLE_PBKDF2, 1000, &one);
    check_vector(VECTOR_BUNDLE_CUSTODIANS, KR_BUNDLE_SCRYPT, 10, &two);
    check_opens(VECTOR_BUNDLE_SCRYPT, &one);
    check_opens(VECTOR_BUNDLE_PBKDF2, &one);
    check_opens(VECTOR_BUNDLE_CUSTODIANS, &two);
}

/* --- a recipient ----------------------------------------------------------------------------- */

static BIGNUM *number(const char *hex)
{
    BIGNUM *n = NULL;
    assert_true(BN_hex2bn(&n, hex) > 0);
    return n;
}

/* From the primes of docs/FORMAT.md. */
static EVP_PKEY *recipients_key(const struct kr_rsa_public *public)
{
    BIGNUM *n = BN_bin2bn(public->modulus, (int)public->modulus_len, NULL), *e = number("10001");
    BIGNUM *p = number(VECTOR_RSA_P), *q = number(VECTOR_RSA_Q), *d = BN_new(), *phi = BN_new();
    BN_CTX *context = BN_CTX_new();
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    EVP_PKEY_CTX *maker = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    EVP_PKEY *pkey = NULL;
    BN_sub_word(p, 1);
    BN_sub_word(q, 1);
    assert_int_equal(BN_mul(phi, p, q, context), 1);
    assert_non_null(BN_mod_inverse(d, e, phi, context));
    OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, n);
    OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, e);
    OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_D, d);
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(builder);
    assert_int_equal(EVP_PKEY_fromdata_init(maker), 1);
    assert_int_equal(EVP_PKEY_fromdata(maker, &pkey, EVP_PKEY_KEYPAIR, params), 1);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(builder);
    EVP_PKEY_CTX_free(maker);
    BN_CTX_free(context);
    BIGNUM *all[] = {n, e, p, q, d, phi};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        BN_free(all[i]);
    return pkey;
}

static void decrypt_slot(EVP_PKEY *pkey, const struct kr_bundle_slot *slot, uint8_t *ret)
{
    const EVP_MD *md = slot->hash == KR_WRAP_RSA_SHA1 ? EVP_sha1() : EVP_sha256();
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL);
    uint8_t out[KR_RSA_BYTES_MAX];
    size_t len = sizeof(out);
    assert_int_equal(EVP_PKEY_decrypt_init(context), 1);
    EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_OAEP_PADDING);
    EVP_PKEY_CTX_set_rsa_oaep_md(context, md);
    EVP_PKEY_CTX_set_rsa_mgf1_md(context, md);
    assert_int_equal(
        EVP_PKEY_decrypt(context, out, &len, slot->wrapped, slot->recipient.modulus_len), 1);
    assert_int_equal(len, 32);
    memcpy(ret, out, 32);
    EVP_PKEY_CTX_free(context);
}

/* Both slots give the content key, and that opens it; no password does. */
static void check_recipient(const struct bytes *blob)
{
    struct kr_error err = KR_ERROR_INIT;
    struct kr_bundle_header header;
    KR_SECRET uint8_t *content = kr_secret_alloc(32);
    const struct kr_bundle_passwords one = passwords(ONE, NULL);
    assert_int_equal(kr_bundle_parse(blob->at, blob->len, &header, &err), KR_OK);
    assert_int_equal(header.slot_count, 2);
    assert_int_equal(header.slots[0].hash, KR_WRAP_RSA_SHA256);
    assert_int_equal(header.slots[1].hash, KR_WRAP_RSA_SHA1);
    assert_int_equal(kr_bundle_custodians(&header), 0);
    for (size_t i = 0; i < 2; i++) {
        KR_BUNDLE *bundle = NULL;
        EVP_PKEY *pkey = recipients_key(&header.slots[i].recipient);
        decrypt_slot(pkey, &header.slots[i], content);
        EVP_PKEY_free(pkey);
        assert_int_equal(try_open(blob, content, &bundle), KR_OK);
        check_records(bundle);
    }
    assert_int_equal(try_unlock(blob, &one, content), KR_USAGE);
}

static void test_a_recipients_bundle_opens_with_the_private_key(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    BYTES vector = from_hex(VECTOR_BUNDLE_RECIPIENT);
    BYTES sealed = {0};
    struct kr_bundle_header header;
    KR_BUNDLE *bundle = vector_bundle();
    check_recipient(&vector);
    assert_int_equal(kr_bundle_parse(vector.at, vector.len, &header, &err), KR_OK);
    const struct kr_bundle_locks locks = {.recipient = &header.slots[0].recipient};
    assert_int_equal(kr_bundle_seal(bundle, &locks, &sealed.at, &sealed.len, &err), KR_OK);
    check_recipient(&sealed);
}

/* --- nothing else opens ---------------------------------------------------------------------- */

static void test_every_flipped_bit_is_refused(void **state)
{
    (void)state;
    BYTES blob = from_hex(VECTOR_BUNDLE_CUSTODIANS);
    uint8_t content[32];
    take_hex(VECTOR_SEALING_KEY, content);
    assert_int_equal(try_open(&blob, content, NULL), KR_OK);
    for (size_t i = 0; i < 8 * blob.len; i++) {
        blob.at[i / 8] ^= (uint8_t)(1 << i % 8);
        assert_int_equal(try_open(&blob, content, NULL), KR_INTEGRITY);
        blob.at[i / 8] ^= (uint8_t)(1 << i % 8);
    }
}

static void test_an_edited_slot_does_not_unlock(void **state)
{
    (void)state;
    const struct kr_bundle_passwords one = passwords(ONE, NULL);
    struct kr_error err = KR_ERROR_INIT;
    BYTES blob = from_hex(VECTOR_BUNDLE_SCRYPT);
    struct kr_bundle_header header;
    uint8_t content[32];
    assert_int_equal(kr_bundle_parse(blob.at, blob.len, &header, &err), KR_OK);
    const size_t end = (size_t)(header.slots[0].body - blob.at) + header.slots[0].body_len;
    assert_int_equal(try_unlock(&blob, &one, content), KR_OK);
    for (size_t i = 0; i < end; i++) {
        blob.at[i] ^= 1;
        assert_int_not_equal(try_unlock(&blob, &one, content), KR_OK);
        blob.at[i] ^= 1;
    }
}

static void test_every_other_length_is_refused(void **state)
{
    (void)state;
    static const char *const vectors[] = {VECTOR_BUNDLE_SCRYPT, VECTOR_BUNDLE_RECIPIENT};
    uint8_t content[32];
    take_hex(VECTOR_SEALING_KEY, content);
    for (size_t v = 0; v < 2; v++) {
        BYTES blob = from_hex(vectors[v]);
        for (size_t len = 0; len <= blob.len + 1; len++) {
            struct bytes part = {calloc(1, len + 1), len};
            memcpy(part.at, blob.at, len < blob.len ? len : blob.len);
            assert_int_equal(try_open(&part, content, NULL),
                             len == blob.len ? KR_OK : KR_INTEGRITY);
            free_bytes(&part);
        }
    }
}

static void check_locked(const char *hex, const char *first, const char *second,
                         enum kr_status expected)
{
    const struct kr_bundle_passwords given = passwords(first, second);
    BYTES blob = from_hex(hex);
    uint8_t content[32] = {0};
    assert_int_equal(try_unlock(&blob, &given, content), expected);
    assert_true(expected == KR_OK || kr_is_zero(content, sizeof(content)));
}

static void test_wrong_passwords(void **state)
{
    (void)state;
    check_locked(VECTOR_BUNDLE_SCRYPT, "correct horse batterz", NULL, KR_AUTH);
    check_locked(VECTOR_BUNDLE_SCRYPT, "", NULL, KR_AUTH);
    check_locked(VECTOR_BUNDLE_SCRYPT, ONE, TWO, KR_USAGE);
    check_locked(VECTOR_BUNDLE_PBKDF2, ONE " ", NULL, KR_AUTH);
    check_locked(VECTOR_BUNDLE_CUSTODIANS, ONE, NULL, KR_USAGE);
    check_locked(VECTOR_BUNDLE_CUSTODIANS, ONE, ONE, KR_AUTH);
    check_locked(VECTOR_BUNDLE_CUSTODIANS, TWO, ONE, KR_AUTH);
    check_locked(VECTOR_BUNDLE_CUSTODIANS, ONE, TWO, KR_OK);
}

/* --- records --------------------------------------------------------------------------------- */

static enum kr_status take(const uint8_t *records, size_t len)
{
    struct kr_error err = KR_ERROR_INIT;
    KR_BUNDLE *bundle = new_bundle();
    uint8_t *payload = kr_secret_alloc(len + 1);
    memcpy(payload, records, len);
    return kr_bundle_take(bundle, &payload, len, &err);
}

static void test_records_that_make_no_sense(void **state)
{
    (void)state;
    BYTES records = from_hex(VECTOR_BUNDLE_RECORDS);
    size_t whole = 0;
    for (size_t len = 0; len <= records.len; len++)
        whole += take(records.at, len) == KR_OK;
    assert_int_equal(whole, 4); /* none, one, two, all three */
    static const struct {
        size_t at;
        uint8_t value;
    } edits[] = {
        {0, 0},    /* kind */
        {0, 4},    /* kind */
        {1, 0xff}, /* length */
        {8, 0},    /* key id 0 */
        {12, 0},   /* version 0 */
        {13, 9},   /* cipher */
        {14, 2},   /* disabled */
    };
    for (size_t i = 0; i < sizeof(edits) / sizeof(edits[0]); i++) {
        uint8_t old = records.at[edits[i].at];
        records.at[edits[i].at] = edits[i].value;
        assert_int_equal(take(records.at, records.len), KR_INTEGRITY);
        records.at[edits[i].at] = old;
    }
}

static void check_refused(const struct kr_bundle_record *record)
{
    struct kr_error err = KR_ERROR_INIT;
    KR_BUNDLE *bundle = new_bundle();
    assert_int_equal(kr_bundle_add(bundle, record, &err), KR_USAGE);
    assert_int_equal(kr_bundle_count(bundle), 0);
    add(bundle, &mariadb_key); /* nothing of it is left */
    assert_int_equal(kr_bundle_settle(bundle, &err), KR_OK);
    assert_int_equal(kr_bundle_count(bundle), 1);
}

static void test_records_that_cannot_be_added(void **state)
{
    (void)state;
    static uint8_t large[KR_BUNDLE_SECRET_MAX + 1];
    struct kr_bundle_record record = mariadb_key;
    record.len = 31;
    check_refused(&record);
    record = mariadb_key;
    record.id = 0;
    check_refused(&record);
    record = secret;
    record.name = "";
    check_refused(&record);
    record = secret;
    record.bytes = large;
    record.len = sizeof(large);
    check_refused(&record);
    record.len = 0;
    check_refused(&record);
}

static void test_conflicts_are_told_from_repetitions(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    uint8_t other[32] = {1};
    KR_BUNDLE *bundle = vector_bundle();
    KR_BUNDLE *again = vector_bundle();
    assert_int_equal(kr_bundle_add_all(bundle, again, &err), KR_OK);
    assert_int_equal(kr_bundle_settle(bundle, &err), KR_OK);
    assert_int_equal(kr_bundle_count(bundle), 3);
    struct kr_bundle_record record = mariadb_key;
    record.created++;
    add(bundle, &record);
    assert_int_equal(kr_bundle_settle(bundle, &err), KR_OK);
    record.bytes = other;
    add(bundle, &record);
    assert_int_equal(kr_bundle_settle(bundle, &err), KR_REFUSED);
    assert_non_null(strstr(err.text, "version 3 of key 1"));
}

static void test_many_records_are_found(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    KR_BUNDLE *bundle = new_bundle();
    struct kr_bundle_record record = mariadb_key, found;
    uint8_t bytes[32] = {0};
    record.bytes = bytes;
    for (uint32_t i = 10000; i > 0; i--) {
        record.id = i;
        kr_put_number(bytes, i, 4);
        add(bundle, &record);
    }
    assert_int_equal(kr_bundle_settle(bundle, &err), KR_OK);
    for (uint32_t i = 1; i <= 10000; i++) {
        record.id = i;
        assert_true(kr_bundle_find(bundle, &record, &found));
        assert_int_equal(kr_get_number(found.bytes, 4), i);
    }
    record.version++;
    assert_false(kr_bundle_find(bundle, &record, &found));
}

/* --- as it is made --------------------------------------------------------------------------- */

static enum kr_status seal(const char *first, const char *second, struct bytes *ret)
{
    struct kr_error err = KR_ERROR_INIT;
    KR_BUNDLE *bundle = vector_bundle();
    const struct kr_bundle_passwords given = passwords(first, second);
    const struct kr_bundle_locks locks = {.passwords = &given};
    return kr_bundle_seal(bundle, &locks, &ret->at, &ret->len, &err);
}

static void check_made(enum kr_bundle_kdf kdf)
{
    struct kr_error err = KR_ERROR_INIT;
    const struct kr_bundle_passwords given = passwords(ONE, NULL);
    struct kr_bundle_header header;
    KR_BUNDLE *bundle = NULL;
    BYTES blob = {0};
    uint8_t content[32];
    assert_int_equal(seal(ONE, NULL, &blob), KR_OK);
    assert_int_equal(kr_bundle_parse(blob.at, blob.len, &header, &err), KR_OK);
    assert_int_equal(header.slots[0].kdf, kdf);
    assert_int_equal(try_unlock(&blob, &given, content), KR_OK);
    assert_int_equal(try_open(&blob, content, &bundle), KR_OK);
    check_records(bundle);
    assert_null(memmem(blob.at, blob.len, key, sizeof(key)));
    assert_non_null(memmem(bundle->payload, bundle->len, key, sizeof(key)));
}

static void test_made_with_scrypt_and_under_fips_with_pbkdf2(void **state)
{
    (void)state;
    check_made(KR_BUNDLE_SCRYPT);
    fips = true;
    check_made(KR_BUNDLE_PBKDF2);
    fips = false;
}

static void test_weak_passwords_are_refused(void **state)
{
    (void)state;
    struct kr_error err = KR_ERROR_INIT;
    const struct kr_bundle_locks nobody = {0};
    struct bytes none = {0};
    KR_BUNDLE *bundle = vector_bundle();
    assert_int_equal(seal("11 bytes no", NULL, &none), KR_USAGE);
    assert_int_equal(seal(ONE, "short", &none), KR_USAGE);
    assert_int_equal(seal(ONE, ONE, &none), KR_USAGE);
    assert_int_equal(kr_bundle_seal(bundle, &nobody, &none.at, &none.len, &err), KR_USAGE);
    assert_null(none.at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_a_recipients_bundle_opens_with_the_private_key),
        cmocka_unit_test(test_every_flipped_bit_is_refused),
        cmocka_unit_test(test_an_edited_slot_does_not_unlock),
        cmocka_unit_test(test_every_other_length_is_refused),
        cmocka_unit_test(test_wrong_passwords),
        cmocka_unit_test(test_records_that_make_no_sense),
        cmocka_unit_test(test_records_that_cannot_be_added),
        cmocka_unit_test(test_conflicts_are_told_from_repetitions),
        cmocka_unit_test(test_many_records_are_found),
        cmocka_unit_test(test_made_with_scrypt_and_under_fips_with_pbkdf2),
        cmocka_unit_test(test_weak_passwords_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
